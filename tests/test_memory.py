"""Memory that runs out: an error, and parameters of a whole step, wherever it does."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What each program begins with: calls whose n-th allocation in the core fails.
PRELUDE = """
    import ctypes, threading
    import numpy as np
    import siglin
    from siglin import _core

    core = ctypes.CDLL(None)
    spans = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in open("/proc/self/maps")
        if _core.__file__ in line
    ]
    core.fail_range.argtypes = [ctypes.c_size_t] * 2
    core.fail_range(min(s for s, _ in spans), max(e for _, e in spans))
    core.fail_at.argtypes = [ctypes.c_long]

    def failing(number, call):
        '''Run the call in a thread without workspace yet; return what it raised.'''
        raised = []

        def run():
            core.fail_at(number)
            try:
                call()
            except BaseException as error:
                raised.append(error)
            finally:
                core.fail_at(0)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return raised[0] if raised else None

    def each_allocation(call, check, prepare=lambda: None):
        '''Fail every one in turn; return how many there are.

        Networks and optimisers are made in `prepare`: where pybind11 has no memory to
        register a new object with, it ends the process.
        '''
        number = 0
        while True:
            number += 1
            # Helpers are new too: theirs are the first blocks of a thread.
            threads = siglin.get_num_threads()
            siglin.set_num_threads(1)
            siglin.set_num_threads(threads)
            prepare()
            error = failing(number, call)
            assert error is None or isinstance(error, MemoryError), repr(error)
            check(error)
            if error is None:
                return number - 1
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what fails allocations."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or not Path("/proc/self/maps").exists():
        pytest.skip("needs a C++ compiler and Linux")
    library = tmp_path_factory.mktemp("preload") / "libfail.so"
    source = str(HERE / "fail_allocation.cpp")
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra"]
    subprocess.run([compiler, *flags, source, "-o", str(library), "-ldl"], check=True)
    return library


def run(preload: Path, program: str) -> str:
    """Return what a program prints that may fail allocations."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the sanitizer has allocations of its own")
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(program)
    result = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "LD_PRELOAD": str(preload)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
@pytest.mark.parametrize(
    ("sizes", "rows", "batch"),
    [
        ([200, 150, 10], 301, 60),
        ([20, 8, 3], 33, 1),
        ([6, 1], 301, 60),
        ([6, 1], 40, 40),
    ],
    ids=["blocks", "rows", "neuron", "full batches"],
)
def test_a_fit_without_memory_leaves_the_parameters_of_a_whole_step(
    sizes: list[int],
    rows: int,
    batch: int,
    optimizer: str,
    threads: int,
    preload: Path,
) -> None:
    """Each allocation fails in turn, also those of a last batch of another size."""
    program = f"""
        sizes, rows, batch, optimizer = {sizes}, {rows}, {batch}, {optimizer!r}
        siglin.set_num_threads({threads})
        rng = np.random.default_rng(0)
        x = rng.normal(size=(rows, sizes[0])).astype("float32")
        t = rng.uniform(size=(rows, sizes[-1])).astype("float32")
        start = siglin.Network(sizes, dtype="float32", seed=0)

        # The parameters after each step of two epochs, as a progress of one step sees.
        settings = dict(batch_size=batch, epochs=2, shuffle=False, lr=0.1)
        net, states = start.astype("float32"), [start.params.tobytes()]
        siglin._training.progress.CountedLines.step = lambda *_: states.append(net.params.tobytes())
        net.fit(x, t, optimizer=optimizer, progress=1, **settings)

        def prepare():
            global trained, memory
            trained = start.astype("float32")
            memory = siglin._training.optimizers.OPTIMIZERS[optimizer]()
            memory.prepare("fit", trained.n_params, trained.dtype)

        def fit():
            trained.fit(x, t, optimizer=memory, **settings)

        def check(error):
            allowed = states[-1:] if error is None else states
            assert trained.params.tobytes() in allowed
            trained.fit(x[:1], t[:1])  # and it is free

        print(each_allocation(fit, check, prepare))
    """
    assert int(run(preload, program)) > 3


def test_no_call_without_memory_keeps_a_network(preload: Path) -> None:
    """MemoryError from every door, results that are whole, and nobody locked out."""
    program = """
        siglin.set_num_threads(2)
        rng = np.random.default_rng(0)
        net = siglin.Network([200, 150, 10], loss="cross_entropy", seed=0)
        x, t = rng.normal(size=(700, 200)), rng.integers(10, size=700)
        w = rng.normal(size=(200, 150))
        a = siglin.forward(x, w)
        layer = siglin.Dense(200, 150)

        def by_hand():
            net.forward(x)
            net.backward(t)
            net.update(0.0)

        def of_a_layer():
            layer.forward(x)
            layer.backward(a)

        wide, target = rng.normal(size=(1000, 700)), np.zeros((1000, 700))
        steps = rng.normal(size=(50, 1000)), rng.normal(size=(50, 700))
        stepped = wide.copy()
        siglin.backward_update(steps[0], stepped, None, steps[1], steps[1], 0.1)

        def update_a_layer():
            target[...] = wide
            siglin.backward_update(
                steps[0], target, None, steps[1], steps[1], 0.1, need_dx=False
            )

        def whole(error):
            same = [np.array_equal(target, one) for one in (wide, stepped)]
            assert same == [error is not None, error is None]

        each_allocation(update_a_layer, whole)
        row, one = np.zeros(200), siglin.Network([200, 150, 1], seed=0)
        each_allocation(lambda: one.learn_one(row, 1.0), lambda _: one.update(0.0))

        before = net.params.copy()

        def check(error):
            assert np.array_equal(net.params, before)
            net.update(0.0)
            assert net._parameters.readers == 0

        for call in (
            lambda: net.predict(x),
            lambda: net.predict(x[:1]),
            lambda: net.loss(x, t),
            lambda: net.loss_and_grads(x, t),
            by_hand,
            of_a_layer,
            lambda: siglin.forward(x, w),
            lambda: siglin.backward(x, w, a, a),
            lambda: siglin.sigmoid(x),
        ):
            each_allocation(call, check)

        networks = [siglin.Network([20, 30, 1], seed=k) for k in range(3)]
        adams = [siglin.Adam() for _ in networks]
        settings = dict(epochs=2, batch_size=64, optimizer=adams)
        each_allocation(
            lambda: siglin.fit_many(networks, x[:, :20], t % 2, **settings),
            lambda error: [one.update(0.0) for one in networks],
        )
        print("done")
    """
    assert run(preload, program) == "done"
