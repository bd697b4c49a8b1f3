"""Who may touch a network: whatever happens, and in whichever thread."""

import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import siglin
from siglin import _core


class OwnError(Exception):
    """What the tests' signal handlers raise."""


def in_a_thread(call: Callable[[], Any]) -> BaseException | None:
    """Return what a call raises in a thread of its own."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the call hangs"
    return caught[0] if caught else None


# ---- an exception at any moment ------------------------------------------------------


# A sanitizer makes a thread dear, and one is made for each moment.
STEP = 9 if "san.so" in os.environ.get("LD_PRELOAD", "") else 1


class At:
    """Raises in one of the package's own bytecodes, counted from the first."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.count = 0

    def trace(self, frame: Any, event: str, _: Any) -> Any:
        """Count the bytecodes of the package's frames."""
        if "siglin" not in frame.f_code.co_filename or "test_" in frame.f_code.co_name:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.moment:
                sys.settrace(None)
                raise OwnError
        return self.trace


def interrupted_at(moment: int, call: Callable[[], Any]) -> bool:
    """Run the call with an exception at that bytecode; return whether it came to it.

    In a thread of its own: an exception of a trace function may leave the interpreter's
    state of handled exceptions out of step, and that is the thread's.
    """
    at = At(moment)

    def traced() -> None:
        sys.settrace(at.trace)
        try:
            call()
        finally:
            sys.settrace(None)

    error = in_a_thread(traced)
    assert error is None or isinstance(error, OwnError)
    return error is not None


X = np.random.default_rng(0).normal(size=(6, 3))
T = np.array([[0.0], [1.0], [1.0], [0.0], [1.0], [0.0]])


def doors() -> dict[str, Callable[[siglin.Network, siglin.Adam], Any]]:
    """Return every call that takes a network or an optimiser."""

    def by_hand(net: siglin.Network, _: siglin.Adam) -> None:
        net.forward(X)
        net.backward(T)
        net.update(0.1)

    def from_da(net: siglin.Network, _: siglin.Adam) -> None:
        net.forward(X)
        net.backward_from(T)

    def set_all(net: siglin.Network, _: siglin.Adam) -> None:
        net.set_weights(net.get_weights())
        net.params = net.params * 0.5

    return {
        "fit": lambda net, adam: net.fit(X, T, epochs=3, optimizer=adam),
        "fit with a callback": lambda net, adam: net.fit(
            X, T, epochs=2, optimizer=adam, callback=lambda _: None
        ),
        "fit with patience": lambda net, _: net.fit(
            X, T, epochs=2, validation_data=(X, T), patience=1
        ),
        "fit_many": lambda net, adam: siglin.fit_many(
            [net], X, T, epochs=2, optimizer=[adam]
        ),
        "learn_one": lambda net, _: net.learn_one(X[0], T[0]),
        "learn_one of lists": lambda net, _: net.learn_one([1, 2, 3], [1]),
        "predict": lambda net, _: net.predict(X),
        "predict of a list": lambda net, _: net.predict(X.tolist()),
        "loss": lambda net, _: net.loss(X, T),
        "loss_and_grads": lambda net, _: net.loss_and_grads(X, T),
        "a loop by hand": by_hand,
        "a loss by hand": from_da,
        "set_weights": set_all,
        "astype": lambda net, _: net.astype("float32"),
    }


def assert_free(net: siglin.Network, adam: siglin.Adam) -> None:
    """Everybody may use the two, in this thread and in another one."""
    assert net._parameters.readers == 0
    assert net.learn_one(X[0], T[0], lr=0.1) is not None
    assert net._predict_now(net._parameters, X, None) is not None
    before = adam.step_count
    net.fit(X, T, epochs=2, optimizer=adam)
    assert adam.step_count == before + 2
    assert in_a_thread(lambda: net.fit(X, T, optimizer=adam)) is None
    assert in_a_thread(lambda: net.update(0.1)) is None


@pytest.mark.parametrize("name", list(doors()))
def test_an_exception_at_any_bytecode_leaves_a_network_that_fits(name: str) -> None:
    """A signal's handler may raise between any two bytecodes: one test for each."""
    door = doors()[name]
    net, adam = siglin.Network([3, 4, 1], seed=0), siglin.Adam()
    moment = 0
    for moment in itertools.count(1, STEP):
        if not interrupted_at(moment, lambda: door(net, adam)):
            break
        if moment // STEP % 20 == 0:
            assert_free(net, adam)
    assert moment > 5  # the package has Python on this way
    assert_free(net, adam)


def test_an_optimizer_never_counts_other_steps_than_it_made() -> None:
    """Its moments and its count go together, wherever an exception comes."""
    for moment in itertools.count(1, STEP):
        net, adam = siglin.Network([3, 4, 1], seed=0), siglin.Adam()
        came = interrupted_at(
            moment, lambda net=net, adam=adam: net.fit(X, T, epochs=3, optimizer=adam)
        )
        assert adam.step_count in {0, 3}
        moved = adam.moments is not None and bool(np.any(adam.moments))
        assert moved == (adam.step_count == 3)
        if not came:
            break


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(1_000, marks=pytest.mark.slow),
        pytest.param(20_000, marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("name", list(doors()))
def test_signals_at_random_moments_leave_a_network_that_fits(
    name: str, times: int
) -> None:
    """Real ones, which reach the native code too."""
    door = doors()[name]
    net, adam = siglin.Network([3, 4, 1], seed=0), siglin.Adam()
    chance = random.Random(0)
    door(
        net, adam
    )  # a first call imports modules, whose files an exception leaves open
    handled = signal.signal(signal.SIGALRM, _raise)
    came = 0
    try:
        while came < times:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-6, 3e-4))
                while True:
                    door(net, adam)
            except OwnError:
                came += 1
            if came % 50 == 0:
                assert_free(net, adam)
        assert_free(net, adam)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handled)


def _raise(*_: object) -> None:
    raise OwnError


# ---- beside a fit --------------------------------------------------------------------


@pytest.fixture
def fitting() -> Iterator[tuple[siglin.Network, np.ndarray]]:  # type: ignore[type-arg]
    """Give a network that another thread fits, and its parameters from before."""
    net = siglin.Network([3, 4, 1], seed=0)
    net.forward(X)
    net.backward(T)
    before = net.params.copy()
    begun, stop = threading.Event(), threading.Event()

    def look(_: object) -> bool:
        begun.set()
        return stop.wait(0.001)

    thread = threading.Thread(
        target=lambda: net.fit(X, T, epochs=10**9, callback=look), daemon=True
    )
    thread.start()
    assert begun.wait(60)
    yield net, before
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    net.fit(X, T)


WRITERS: dict[str, Callable[[siglin.Network], Any]] = {
    "fit": lambda net: net.fit(X, T),
    "fit_many": lambda net: siglin.fit_many([net], X, T),
    "learn_one": lambda net: net.learn_one(X[0], T[0]),
    "learn_one of lists": lambda net: net.learn_one([1, 2, 3], [1]),
    "update": lambda net: net.update(0.1),
    "backward": lambda net: net.backward(T),
    "backward_from": lambda net: net.backward_from(T),
    "loss_and_grads": lambda net: net.loss_and_grads(X, T),
    "set_weights": lambda net: net.set_weights(
        [np.zeros((3, 4)), *net.get_weights()[1:]]
    ),
    "params": lambda net: setattr(net, "params", np.zeros(net.n_params)),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_writer_beside_a_fit_is_busy(name: str, fitting: Any) -> None:
    net, _ = fitting
    grads = net.grads.copy()
    with pytest.raises(RuntimeError, match="busy"):
        WRITERS[name](net)
    assert np.array_equal(net.grads, grads)


def test_readers_beside_a_fit_see_the_parameters_from_before(fitting: Any) -> None:
    net, before = fitting
    was = siglin.Network([3, 4, 1], seed=0)
    assert np.array_equal(was.params, before)
    for _ in range(200):
        assert np.array_equal(net.predict(X), was.predict(X))
        assert np.array_equal(net.predict(X.tolist()), was.predict(X))
        assert np.array_equal(net.forward(X), was.forward(X))
        assert net.loss(X, T) == was.loss(X, T)
        assert np.array_equal(net.astype("float64").params, before)
        assert np.array_equal(net.get_weights()[0], before[:12].reshape(3, 4))


def test_a_callback_may_write_into_its_own_network() -> None:
    """It stands between two steps."""
    net = siglin.Network([3, 4, 1], seed=0)
    seen = []

    def halve(state: siglin._training.history.TrainingState) -> None:
        net.params = net.params / 2
        seen.append(state.params.copy())
        net.loss_and_grads(X, T)

    net.fit(X, T, epochs=2, callback=halve)
    assert np.array_equal(net.params, seen[-1])
    with pytest.raises(RuntimeError, match="busy"):
        net.fit(X, T, callback=lambda _: net.fit(X, T))


def large() -> tuple[siglin.Network, Any, Any]:
    """Return a network and data on which a call takes some tenths of a second."""
    net = siglin.Network([64, 256, 1], seed=0)
    x = np.broadcast_to(np.ones(64), (200_000, 64))
    return net, x, np.broadcast_to(np.ones(1), (200_000, 1))


def reading(read: Callable[[], Any], net: siglin.Network) -> threading.Thread:
    """Return a thread that has begun to read the parameters, and goes on."""
    reader = threading.Thread(target=read)
    reader.start()
    while net._parameters.readers == 0 and reader.is_alive():
        time.sleep(0)
    assert reader.is_alive()
    return reader


def test_a_fit_waits_for_those_who_read() -> None:
    """A prediction that has begun on the parameters themselves is of them alone."""
    net, x, t = large()
    want = net.predict(x)
    got = []
    reader = reading(lambda: got.append(net.predict(x)), net)
    net.fit(x[:8], t[:8], lr=10.0)
    reader.join()
    assert np.array_equal(got[0], want)
    assert not np.array_equal(net.predict(x[:1]), want[:1])


@pytest.mark.parametrize(
    "write",
    [
        lambda net: net.learn_one(np.ones(64), 0.0, lr=10.0),
        lambda net: net.set_weights([0 * w for w in net.get_weights()]),
        lambda net: net.update(1.0),
    ],
    ids=["learn_one", "set_weights", "update"],
)
def test_a_writer_waits_for_those_who_read(write: Callable[[Any], Any]) -> None:
    net, x, _ = large()
    net.grads = np.ones(net.n_params)
    want = net.predict(x)
    got = []
    reader = reading(lambda: got.append(net.predict(x)), net)
    write(net)
    reader.join()
    assert np.array_equal(got[0], want)


def test_short_writers_wait_for_each_other() -> None:
    """Gradients of two threads are never a mix, and no call fails."""
    net = siglin.Network([64, 64, 1], seed=0)
    xs = [np.full((4000, 64), value) for value in (0.5, -0.5)]
    t = np.ones((4000, 1))
    net.fit(xs[0], t, lr=1e-9)
    want = [net.loss_and_grads(x, t)[1].copy() for x in xs]
    errors = []

    def work(k: int) -> None:
        for _ in range(20):
            loss, _ = net.loss_and_grads(xs[k], t)
            assert np.isfinite(loss)
            net.update(0.0)

    threads = [
        threading.Thread(target=lambda k=k: errors.append(in_a_thread(lambda: work(k))))
        for k in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [None, None]
    assert any(np.array_equal(net.grads, one) for one in want)


def test_a_signal_ends_the_wait_for_a_reader() -> None:
    """Nobody is left waiting for, or kept out by, a fit that never began."""
    net, x, t = large()
    reader = threading.Thread(target=lambda: net.predict(x))
    before = signal.signal(signal.SIGALRM, _raise)
    try:
        reader.start()
        while net._parameters.readers == 0 and reader.is_alive():
            time.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(OwnError):  # while it waits, or while it fits
            net.fit(x, t, epochs=10**6)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    reader.join()
    net.fit(x[:8], t[:8])


def test_a_signal_s_handler_may_not_fit_what_it_interrupts() -> None:
    net, x, t = large()
    raised = []

    def fit(*_: object) -> None:
        try:
            net.fit(x[:8], t[:8])
        except RuntimeError as error:
            raised.append(str(error))

    before = signal.signal(signal.SIGALRM, fit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        net.fit(x, t, epochs=3)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        net.loss_and_grads(x, t)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised
    assert all("busy" in one for one in raised)


@pytest.mark.parametrize("handle", ["predict", "update", "fit"])
def test_a_handler_in_a_read_never_waits_for_whom_it_keeps_waiting(handle: str) -> None:
    """Another thread's write waits for the read that the handler has interrupted."""
    net, x, t = large()
    calls = {
        "predict": lambda: net.predict(x[:1000]),
        "update": lambda: net.update(0.0),
        "fit": lambda: net.fit(x[:8], t[:8]),
    }
    raised: list[str] = []

    def handler(*_: object) -> None:
        time.sleep(0.05)  # until the other thread waits
        try:
            calls[handle]()
        except RuntimeError as error:
            raised.append(str(error))

    def write() -> None:
        while net._parameters.readers == 0:
            time.sleep(0)
        net.update(0.0)

    writer = threading.Thread(target=write)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        writer.start()
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        net.predict(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    writer.join(60)
    assert not writer.is_alive()
    assert all("busy" in one for one in raised)
    assert net._parameters.readers == 0
    net.fit(x[:8], t[:8])


def test_copies_beside_updates_are_of_whole_steps() -> None:
    """All parameters are equal after each step, so that a mix of two shows."""
    net = siglin.Network([2000, 500, 1], bias=False, init="zeros")
    net.grads = np.ones(net.n_params)
    done = threading.Event()

    def update() -> None:
        while not done.is_set():
            net.update(1.0)

    writer = threading.Thread(target=update)
    writer.start()
    try:
        for _ in range(30):
            state = net.__getstate__()["_params"]
            assert state.min() == state.max()
    finally:
        done.set()
        writer.join()


def test_the_generator_of_a_copy_is_that_from_before_the_fit() -> None:
    net = siglin.Network([3, 4, 1], seed=0)
    before = net._generator.copy()
    seen: list[bool] = []

    def look(_: object) -> None:
        def compare() -> None:
            copy = net.__getstate__()["_generator"]
            seen.append(np.array_equal(copy, before))

        assert in_a_thread(compare) is None

    net.fit(X, T, epochs=2, batch_size=2, callback=look)
    assert seen == [True, True]
    assert not np.array_equal(net._generator, before)


def test_an_optimizer_keeps_its_memory_through_a_fit() -> None:
    """Its moments and its count would go apart."""
    net, adam = siglin.Network([3, 4, 1], seed=0), siglin.Adam()
    calls: list[Callable[[], Any]] = [
        adam.reset,
        lambda: setattr(adam, "moments", None),
        lambda: setattr(adam, "step_count", 0),
    ]
    for call in calls:

        def refuse(_: object, call: Callable[[], Any] = call) -> None:
            with pytest.raises(RuntimeError, match="busy"):
                call()

        net.fit(X, T, epochs=2, optimizer=adam, callback=refuse)
    assert adam.step_count == 6
    adam.reset()
    assert adam.step_count == 0


# ---- vectors that stay where they are ------------------------------------------------


def test_nobody_resizes_a_network_s_vectors() -> None:
    """In a callback the native loop goes on writing into them."""
    net, adam = siglin.Network([3, 4, 1], seed=0), siglin.Adam()

    def resize(_: object = None) -> None:
        for vector in (net.params, net.grads, net._generator, adam.moments):
            assert vector is not None
            with pytest.raises(ValueError, match="own"):
                vector.resize(10**6, refcheck=False)

    net.fit(X, T, epochs=3, optimizer=adam, callback=resize)
    resize()
    perceptron = siglin.Perceptron(3)
    with pytest.raises(ValueError, match="own"):
        perceptron.params.resize(10**6, refcheck=False)


def test_a_generator_of_zeros_is_refused() -> None:
    """It draws 0 for ever, and a shuffle would wait for something else."""
    net = siglin.Network([3, 4, 1], seed=0)
    net._generator[...] = 0
    with pytest.raises(ValueError, match="zeros"):
        net.fit(X, T, batch_size=2)
    with pytest.raises(ValueError, match="zeros"):
        _core.permutation(np.zeros(4, np.uint64), 3)


@pytest.mark.parametrize("name", ["Network", "Parameters", "OptimizerMemory"])
def test_nothing_is_made_without_its_init(name: str) -> None:
    """Its methods would work on whatever stands in memory."""
    kind = getattr(_core, name)
    with pytest.raises(TypeError, match="__new__"):
        kind.__new__(kind)


def test_a_class_of_the_core_may_be_derived_from() -> None:
    class Derived(_core.Parameters):
        pass

    assert Derived(3, "float64").vector.size == 3
