"""The caller's floating-point environment changes no bit of ours, and stays as it was.

It is read and set through the C library: fenv_t ends with MXCSR on x86-64, and starts
with FPCR on aarch64.
"""

import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import siglin
from siglin import _core

Array = npt.NDArray[Any]
Run = Callable[[], list[Any]]

MACHINE = os.uname().machine if hasattr(os, "uname") else "a system without uname"

# Where the control word lies in fenv_t, which of its bits are not flags of what has
# happened, those that flush subnormals, and the rounding modes.
if MACHINE == "x86_64":
    START, CONTROL, FLUSH = 28, 0xFFC0, 0x8040
    ROUNDING = {"nearest": 0, "down": 0x2000, "up": 0x4000, "zero": 0x6000}
else:
    START, CONTROL, FLUSH = 0, 0x03C8_9F07, 0x0100_0000
    ROUNDING = {"nearest": 0, "up": 0x40_0000, "down": 0x80_0000, "zero": 0xC0_0000}
ENVIRONMENTS = {
    name + ending: word | flush
    for name, word in ROUNDING.items()
    for ending, flush in (("", 0), (", flush", FLUSH))
}

C = ctypes.CDLL(None) if hasattr(os, "uname") else None

pytestmark = [
    pytest.mark.skipif(
        MACHINE not in ("x86_64", "aarch64"), reason=f"{MACHINE}: which control word?"
    ),
    pytest.mark.skipif(not hasattr(C, "fegetenv"), reason="no fegetenv in the process"),
]


def read_environment() -> Any:
    buffer = ctypes.create_string_buffer(64)
    assert C is not None
    assert C.fegetenv(buffer) == 0
    return buffer


def word_of(buffer: Any) -> int:
    return int.from_bytes(buffer[START : START + 4], sys.byteorder)


def control_word() -> int:
    """Return what rounds, flushes and traps on this thread."""
    return word_of(read_environment()) & CONTROL


def set_bits(bits: int) -> int:
    """Set these bits of the control word; return what control_word() is then."""
    buffer = read_environment()
    word = word_of(buffer) | bits
    buffer[START : START + 4] = word.to_bytes(4, sys.byteorder)
    assert C is not None
    assert C.fesetenv(buffer) == 0
    return word & CONTROL


@contextlib.contextmanager
def environment(bits: int) -> Iterator[int]:
    before = read_environment()
    try:
        yield set_bits(bits)
    finally:
        assert C is not None
        C.fesetenv(before)


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    """Leave the number as it was."""
    before = siglin.get_num_threads()
    yield
    siglin.set_num_threads(before)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_can_be_set_and_read(name: str) -> None:
    """Or the other tests would prove nothing."""
    default = control_word()
    one, three = np.float64(1), np.float64(3)
    tiny = np.finfo(np.float64).smallest_normal
    with environment(ENVIRONMENTS[name]) as word:
        assert word == control_word() == default | ENVIRONMENTS[name]
        third, minus_third, half = one / three, -one / three, tiny / 2
    # The float64 nearest to 1 / 3 is less than it.
    usual = 1 / 3
    assert (third > usual) == name.startswith("up")
    assert (minus_third < -usual) == name.startswith("down")
    assert (half == 0) == name.endswith("flush")
    assert control_word() == default


# ---- the same bits -------------------------------------------------------------------


def numbers(dtype: Any, rows: int, cols: int) -> Array:
    """Return normal numbers, every third row so small that products are subnormal."""
    array = np.random.default_rng(rows + cols).normal(size=(rows, cols))
    array[::3] = np.ldexp(array[::3], np.finfo(dtype).minexp - 3)
    return array.astype(dtype)


def tails(dtype: Any) -> Array:
    """Return what the sigmoid makes subnormal, and what it does not."""
    low = np.log(float(np.finfo(dtype).smallest_subnormal))
    return np.linspace(low, -low / 4, 100_000).astype(dtype)


def data(dtype: Any) -> tuple[Array, Array]:
    x = np.random.default_rng(1).normal(size=(300, 20)).astype(dtype)
    return x, (x[:, :1] > 0).astype(dtype)


def network(dtype: Any, hidden: int = 96) -> siglin.Network:
    sizes = [20, hidden, hidden, 1]
    return siglin.Network(sizes, dtype=np.dtype(dtype).name, seed=1)


def sigmoid(dtype: Any) -> Run:
    z = tails(dtype)
    scalar = z[1]
    return lambda: [siglin.sigmoid(z), siglin.sigmoid(scalar)]


def forward(dtype: Any) -> Run:
    x, w, b = numbers(dtype, 320, 70), numbers(dtype, 70, 50), numbers(dtype, 1, 50)[0]
    names = ["sigmoid", "tanh", "leaky_relu", "identity"]
    return lambda: (
        [siglin.forward(x, w, b, activation=name) for name in names]
        + [siglin.forward(x[:1], w)]
    )


def backward(dtype: Any) -> Run:
    x, w, da = numbers(dtype, 320, 70), numbers(dtype, 70, 50), numbers(dtype, 320, 50)
    z = siglin.forward(x, w, activation="identity")
    a = siglin.forward(x, w)
    return lambda: [*siglin.backward(x, w, a, da), *siglin.backward(x, w, a, da, z=z)]


def backward_update(dtype: Any) -> Run:
    x, w, da = numbers(dtype, 320, 70), numbers(dtype, 70, 50), numbers(dtype, 320, 50)
    a = siglin.forward(x, w)

    def run() -> list[Any]:
        changed, b = w.copy(), np.zeros(50, dtype)
        return [siglin.backward_update(x, changed, b, a, da, 0.1), changed, b]

    return run


def update(dtype: Any) -> Run:
    w, dw = numbers(dtype, 400, 400), numbers(dtype, 400, 400)

    def run() -> list[Any]:
        changed = w.copy()
        siglin.update(changed, dw, 0.1)
        return [changed]

    return run


def dense(dtype: Any) -> Run:
    x, da = numbers(dtype, 320, 70), numbers(dtype, 320, 50)

    def run() -> list[Any]:
        made = siglin.Dense(70, 50, dtype=np.dtype(dtype).name, seed=1)
        results = [made.forward(x), made.backward(da), made.grads]
        made.update(0.1)
        return [*results, made.params]

    return run


def initial_weights(dtype: Any) -> Run:
    name = np.dtype(dtype).name
    sizes = [(n, n + 7) for n in range(1, 40)]
    return lambda: [
        siglin.Dense(*size, activation=f, init=init, dtype=name, seed=size[0]).params
        for size in sizes
        for init in ("glorot", "he", "lecun", "normal")
        for f in ("sigmoid", "tanh")
        if f == "tanh" or init == "glorot"
    ]


def predict(dtype: Any) -> Run:
    net, (x, _) = network(dtype), data(dtype)
    return lambda: [net.predict(x), net.predict(x[:1])]


def loss_and_grads(dtype: Any) -> Run:
    net, (x, t) = network(dtype), data(dtype)
    return lambda: [net.loss(x, t), *net.loss_and_grads(x, t)]


def by_hand(dtype: Any) -> Run:
    x, t = data(dtype)

    def run() -> list[Any]:
        net = network(dtype)
        a = net.forward(x)
        results = [a, net.backward(t), net.grads.copy()]
        net.update(0.1)
        net.forward(x)
        return [*results, net.backward_from(a), net.params]

    return run


def fit(hidden: int, **settings: Any) -> Callable[[Any], Run]:
    def case(dtype: Any) -> Run:
        x, t = data(dtype)

        def run() -> list[Any]:
            net = network(dtype, hidden)
            history = net.fit(x, t, **settings)
            return [net.params, history.loss]

        return run

    return case


def fit_neuron(dtype: Any) -> Run:
    x, t = data(dtype)

    def run() -> list[Any]:
        neuron = siglin.Neuron(20, dtype=np.dtype(dtype).name)
        return [neuron.fit(x, t, lr=0.3, epochs=5).loss, neuron.params]

    return run


def learn_one(dtype: Any) -> Run:
    x, t = data(dtype)

    def run() -> list[Any]:
        net, small = network(dtype), network(dtype, 3)
        losses = [n.learn_one(x[i], t[i]) for i in range(20) for n in (net, small)]
        return [losses, net.params, small.params]

    return run


def fit_many(dtype: Any) -> Run:
    x, t = data(dtype)

    def run() -> list[Any]:
        nets = [network(dtype, hidden) for hidden in (3, 20, 50)]
        histories = siglin.fit_many(nets, x, t, lr=[0.1, 0.2, 0.3], epochs=4)
        return [net.params for net in nets] + [h.loss for h in histories]

    return run


def perceptron(dtype: Any) -> Run:
    x, t = data(dtype)
    x = x * dtype(0.1)

    def run() -> list[Any]:
        unit = siglin.Perceptron(20, bias=True, dtype=np.dtype(dtype).name)
        unit.fit(x, t, epochs=50)
        return [unit.params, unit.predict(x)]

    return run


CASES: dict[str, Callable[[Any], Run]] = {
    "sigmoid": sigmoid,
    "forward": forward,
    "backward": backward,
    "backward_update": backward_update,
    "update": update,
    "Dense": dense,
    "initial weights": initial_weights,
    "predict": predict,
    "loss and loss_and_grads": loss_and_grads,
    "forward, backward and update of a network": by_hand,
    "fit by gradient descent": fit(96, lr=0.1, epochs=3, batch_size=64),
    "fit by Adam": fit(96, lr=0.01, epochs=3, batch_size=64, optimizer="adam"),
    "fit of a narrow network": fit(3, lr=0.1, epochs=3),
    "fit row by row": fit(3, lr=0.1, epochs=2, batch_size=1),
    "fit of a neuron": fit_neuron,
    "learn_one": learn_one,
    "fit_many": fit_many,
    "Perceptron": perceptron,
}


def digest(results: list[Any]) -> str:
    sha = hashlib.sha256()
    for result in results:
        sha.update(np.ascontiguousarray(result).tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("target")
def test_the_callers_environment_changes_no_bit_and_stays(
    case: str, threads: int, dtype: Any
) -> None:
    siglin.set_num_threads(threads)
    run = CASES[case](dtype.type)
    want = digest(run())
    for name, bits in ENVIRONMENTS.items():
        with environment(bits) as before:
            results = run()
            after = control_word()
        assert digest(results) == want, name
        assert after == before, name


@pytest.mark.usefixtures("target")
def test_helpers_flush_nothing_where_the_caller_does() -> None:
    """Many calls, as a helper may come late and find nothing to do."""
    siglin.set_num_threads(1)
    z = -np.linspace(80, 103, 4_000_000).astype(np.float32)
    hashes = {digest([siglin.sigmoid(z)])}
    siglin.set_num_threads(2)
    with environment(FLUSH):
        hashes |= {digest([siglin.sigmoid(z)]) for _ in range(20)}
    assert len(hashes) == 1


def test_a_thread_of_the_caller_keeps_its_own_environment() -> None:
    z = tails(np.float32)
    siglin.set_num_threads(2)
    want = digest([siglin.sigmoid(z)])
    found = {}

    def work(name: str, bits: int) -> None:
        before = set_bits(bits)
        same = [digest([siglin.sigmoid(z)]) == want for _ in range(20)]
        found[name] = all(same) and control_word() == before

    threads = [
        threading.Thread(target=work, args=item) for item in ENVIRONMENTS.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(ENVIRONMENTS, True)


def test_an_error_leaves_the_environment_alone() -> None:
    w = np.ones(3)
    with environment(ENVIRONMENTS["up, flush"]) as before:
        with pytest.raises(siglin.ShapeError):
            siglin.forward(np.ones((2, 3)), np.ones((4, 5)))
        with pytest.raises(ValueError, match="overlap"):
            _core.update(w, w, 1.0)
        assert control_word() == before


# ---- Python code in between ----------------------------------------------------------


class OwnError(Exception):
    pass


def test_a_callback_runs_in_the_callers_environment() -> None:
    x, t = data(np.float64)
    seen = set()
    with environment(ENVIRONMENTS["down, flush"]) as before:
        network(np.float64).fit(
            x, t, epochs=3, callback=lambda _: seen.add(control_word())
        )
        assert seen == {before}
        assert control_word() == before


def test_a_signals_handler_runs_in_the_callers_environment() -> None:
    x, t = data(np.float64)
    seen = set()

    def handler(*_: object) -> None:
        seen.add(control_word())
        raise OwnError

    old = signal.signal(signal.SIGALRM, handler)
    try:
        with environment(ENVIRONMENTS["down, flush"]) as before:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(OwnError):
                network(np.float64).fit(x, t, epochs=10**9)
            assert seen == {before}
            assert control_word() == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_what_a_callback_sets_changes_no_bit() -> None:
    x, t = data(np.float32)
    net, other = network(np.float32), network(np.float32)
    settings: dict[str, Any] = {"lr": 0.1, "epochs": 4, "batch_size": 64}
    net.fit(x, t, **settings)
    with environment(0):
        other.fit(
            x, t, callback=lambda _: set_bits(ENVIRONMENTS["up, flush"]) < 0, **settings
        )
    assert digest([other.params]) == digest([net.params])


# ---- traps, and the import -----------------------------------------------------------


def run_program(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


HELPERS = f"""
    import ctypes, sys
    C = ctypes.CDLL(None)
    def change(set=0, clear=0):
        buffer = ctypes.create_string_buffer(64)
        C.fegetenv(buffer)
        word = int.from_bytes(buffer[{START}:{START + 4}], sys.byteorder)
        new = (word | set) & ~clear
        buffer[{START}:{START + 4}] = new.to_bytes(4, sys.byteorder)
        C.fesetenv(buffer)
        return word & {CONTROL}
"""


@pytest.mark.skipif(MACHINE != "x86_64", reason="few other CPUs can trap")
@pytest.mark.skipif(not hasattr(C, "feenableexcept"), reason="no feenableexcept")
@pytest.mark.parametrize("threads", [1, 2])
def test_exceptions_that_trap_in_the_caller_end_no_process(threads: int) -> None:
    program = f"""{HELPERS}
    import numpy as np, siglin
    siglin.set_num_threads({threads})
    z = np.concatenate([np.linspace(-1e4, 1e4, 300_000), [np.nan, np.inf]])
    a = siglin.sigmoid(z)
    # All but the inexact result, which Python's own floats raise.
    traps = 1 | 4 | 8 | 16
    C.feenableexcept(traps)
    before = change()
    b = siglin.sigmoid(z)
    same = change() == before and C.fegetexcept() == traps
    C.fedisableexcept(traps)
    print((a[:-2] == b[:-2]).all(), same)
    """
    assert run_program(program) == "True True"


@pytest.mark.parametrize("name", ["nearest", "up, flush"])
def test_the_import_leaves_the_environment_alone(name: str) -> None:
    program = f"""{HELPERS}
    import numpy as np
    change(set={ENVIRONMENTS[name]})
    before = change()
    import siglin
    print(change() == before, before & {ENVIRONMENTS[name]})
    """
    assert run_program(program) == f"True {ENVIRONMENTS[name]}"
