"""The end of the interpreter while daemon threads are still at work."""

import subprocess
import sys

import pytest

WORK = {
    "sigmoid": "lambda: siglin.sigmoid(x)",
    "forward": "lambda: siglin.forward(x, w)",
    "predict": "lambda: net.predict(x)",
    "fit": "lambda: net.fit(x, t, epochs=10**9)",
    "callback": "lambda: net.fit(x, t, epochs=10**9, callback=lambda state: spin())",
    "perceptron": "lambda: siglin.Perceptron(32).fit(x, t, epochs=10**9)",
}

PROGRAM = """
import threading, time
import numpy as np
import siglin

x, w = np.random.default_rng(0).normal(size=(20_000, 32)), np.ones((32, 64))
t = np.arange(20_000) % 2
net = siglin.Network([32, 16, 1], seed=0)

def spin():
    sum(range(100_000))

def work_for_ever():
    while True:
        work()

work = {work}
threading.Thread(target=work_for_ever, daemon=True).start()
time.sleep(0.2)
"""


@pytest.mark.parametrize("work", WORK)
def test_the_interpreter_ends_while_a_daemon_thread_works(work):
    # Python 3.10 to 3.13 end such a thread when it next asks for the lock.
    command = [sys.executable, "-c", PROGRAM.format(work=WORK[work])]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
