"""How a call reaches the core: by position and by name, leaving no reference behind."""

import contextlib
import gc
import inspect
import itertools
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core

M, K, N = 4, 3, 2
Arguments = dict[str, Any]

# The functions that take their arguments without pybind11: the names in order, how many
# of them have no default, and where the defaults begin.
SIGNATURES = {
    "activate": (("z", "activation", "out"), 2),
    "forward": (("x", "w", "b", "activation", "out"), 4),
    "backward": (("x", "w", "a", "da", "activation", "z", "need_dx"), 5),
    "backward_update": (
        ("x", "w", "b", "a", "da", "lr", "activation", "z", "need_dx"),
        7,
    ),
    "update": (("param", "grad", "lr"), 3),
    "layer_forward": (("x", "w", "b", "activation"), 4),
    "layer_backward": (("x", "w", "derivative", "da", "dw", "db", "need_dx"), 6),
}
SHAPES = {
    "x": (M, K), "w": (K, N), "b": (N,), "a": (M, N), "da": (M, N), "z": (M, N),
    "out": (M, N), "param": (M, N), "grad": (M, N), "derivative": (M, N), "dw": (K, N),
    "db": (N,),
}  # fmt: skip


@pytest.fixture(params=SIGNATURES)
def name(request: pytest.FixtureRequest) -> str:
    """Each function in turn."""
    result: str = request.param
    return result


def arguments(name: str, dtype: Any = np.float64) -> Arguments:
    """Return every argument of a function, in the order of its parameters."""
    rng = np.random.default_rng(11)
    values: Arguments = {
        parameter: rng.uniform(0.1, 0.9, shape).astype(dtype)
        for parameter, shape in SHAPES.items()
    }
    values |= {"activation": "tanh", "lr": 0.5, "need_dx": True}
    return {parameter: values[parameter] for parameter in SIGNATURES[name][0]}


def outcome(
    function: Callable[..., Any], positional: Arguments, named: Arguments
) -> Any:
    """Return the bytes of what a call returns, and of every argument afterwards."""
    result = function(*positional.values(), **named)
    after = [v for v in (positional | named).values() if isinstance(v, np.ndarray)]
    results = result if isinstance(result, tuple) else (result,)
    return [None if v is None else v.tobytes() for v in (*results, *after)]


def test_signature_is_told(name):
    parameters, required = SIGNATURES[name]
    signature = inspect.signature(getattr(_core, name))
    assert tuple(signature.parameters) == parameters
    for position, parameter in enumerate(signature.parameters.values()):
        assert (parameter.default is parameter.empty) == (position < required)


def test_position_and_name_are_the_same(name, dtype):
    function = getattr(_core, name)
    parameters, _ = SIGNATURES[name]
    want = outcome(function, arguments(name, dtype), {})
    for split in range(len(parameters) + 1):
        given = arguments(name, dtype)
        head = dict(itertools.islice(given.items(), split))
        tail = dict(itertools.islice(given.items(), split, None))
        assert outcome(function, head, tail) == want
    last_to_first = dict(reversed(arguments(name, dtype).items()))
    got = function(**last_to_first)
    assert_same_results(got, function(**arguments(name, dtype)))


def test_what_is_left_out_is_the_default_of_the_signature(name, dtype):
    function = getattr(_core, name)
    parameters, required = SIGNATURES[name]
    told = inspect.signature(function).parameters
    for count in range(required, len(parameters) + 1):
        short = dict(itertools.islice(arguments(name, dtype).items(), count))
        defaults = {p: told[p].default for p in parameters[count:]}
        full = arguments(name, dtype) | defaults
        assert_same_results(function(**short), function(**full))


def assert_same_results(got: Any, want: Any) -> None:
    """Assert that two calls return the same, arrays bit by bit."""
    if not isinstance(want, tuple):
        got, want = (got,), (want,)
    for g, w in zip(got, want, strict=True):
        if w is None:
            assert g is None
        else:
            assert_same_bits(g, w)


def test_a_call_that_does_not_fit_is_a_type_error(name):
    function = getattr(_core, name)
    parameters, required = SIGNATURES[name]
    given = arguments(name)
    for missing in parameters[:required]:
        rest = {p: v for p, v in given.items() if p != missing}
        with pytest.raises(TypeError, match=rf"{name}\(\): {missing} is missing"):
            function(**rest)
    first = parameters[0]
    with pytest.raises(TypeError, match=rf"{name}\(\): {first} is missing"):
        function()
    with pytest.raises(TypeError, match=rf"{name}\(\): {first} is given twice"):
        function(*given.values(), **{first: given[first]})
    with pytest.raises(TypeError, match=rf"{name}\(\): there is no argument rate"):
        function(*given.values(), rate=1)
    with pytest.raises(TypeError, match=rf"{name}\(\): takes at most"):
        function(*given.values(), None)
    with pytest.raises(TypeError, match=rf"{name}\(\): takes at most"):
        function(*given.values(), None, rate=1)


class Name(str):
    """A str of another type."""

    __slots__ = ()


@pytest.mark.parametrize("make", [lambda s: "".join(list(s)), Name], ids=["new", "str"])
def test_activation_by_a_string_of_ones_own(make):
    """A name that is not the interpreter's own object of that text."""
    z = np.linspace(-2, 2, 7)
    for activation in _core.activations():
        own = make(activation)
        assert own is not activation
        assert_same_bits(_core.activate(z, own), _core.activate(z, activation))


@pytest.mark.parametrize("value", [b"sigmoid", None, 3, ["sigmoid"]])
def test_activation_of_another_kind_is_a_type_error(value):
    x, w = np.ones((1, 2)), np.ones((2, 3))
    with pytest.raises(TypeError, match=r"forward\(\): incompatible activation"):
        _core.forward(x, w, None, value)
    with pytest.raises(TypeError, match=r"^forward: activation must be a str"):
        siglin.forward(x, w, activation=value)


@pytest.mark.parametrize("value", ["\ud800", "sigmoid\0", "sigmoïd"])
def test_activation_of_odd_text_is_a_value_error(value):
    x, w = np.ones((1, 2)), np.ones((2, 3))
    with pytest.raises(ValueError):  # noqa: PT011  (the text cannot be printed)
        _core.forward(x, w, None, value)
    with pytest.raises(ValueError, match=r"^forward: activation must be one of"):
        siglin.forward(x, w, activation=value)


def test_need_dx_is_whatever_is_true(dtype):
    given = arguments("backward", dtype)
    want = _core.backward(**given)[0]
    for value in (1, "yes", np.True_, np.ones(1)):
        assert_same_bits(_core.backward(**given | {"need_dx": value})[0], want)
    for value in (0, "", np.False_, [], None):
        assert _core.backward(**given | {"need_dx": value})[0] is None
    with pytest.raises(ValueError, match="truth value"):
        _core.backward(**given | {"need_dx": np.ones(2)})


def test_dtypes_that_are_equal_but_not_the_same_object(dtype):
    """A dtype with metadata, and one that was unpickled."""
    x, w = np.ones((2, 3), dtype), np.full((3, 2), 0.5, dtype)
    want = _core.forward(x, w, None, "tanh")
    tagged = np.dtype(dtype, metadata={"unit": "cm"})
    assert tagged is not np.dtype(dtype)
    assert_same_bits(_core.forward(x.astype(tagged), w, None, "tanh"), want)
    unpickled = pickle.loads(pickle.dumps(x))
    assert_same_bits(_core.forward(unpickled, w, None, "tanh"), want)


# ---- predict, at once or by way of the gate ------------------------------------------


NETWORKS: list[tuple[list[int], Arguments]] = [
    ([2, 3, 1], {}),
    ([4, 16, 1], {"activation": "relu", "bias": False}),
    ([3, 1], {}),
    ([1, 1, 1, 1, 1], {"activation": ["tanh", "step", "leaky_relu"]}),
    ([64, 32, 10], {"loss": "cross_entropy"}),
    ([3, 17, 5], {"loss": "squared_error", "output_activation": "tanh"}),
    ([300, 3, 7], {"loss": "squared_error"}),  # longer than one block of depth
    ([2, 3000, 2], {"loss": "cross_entropy"}),  # no room on the stack
]


def by_the_gate(net: siglin.Network, x: Any, **kwargs: Any) -> Any:
    """Return what predict returns when the way of little work is closed."""
    native = net._predict_now
    net._predict_now = lambda *_: None
    try:
        return net.predict(x, **kwargs)
    finally:
        net._predict_now = native


@pytest.mark.parametrize(
    ("sizes", "kwargs"), NETWORKS, ids=[str(n[0]) for n in NETWORKS]
)
def test_predict_at_once_has_the_same_bits(sizes, kwargs, target, rng, dtype):
    net = siglin.Network(sizes, dtype=dtype, seed=3, **kwargs)
    many = rng.normal(size=(40, sizes[0])).astype(dtype)
    want = by_the_gate(net, many)
    served = 0
    for rows in (0, 1, 2, 3, 40):
        for x in (many[:rows], many[rows - 1 :: -1] if rows else many[:0]):
            a = net._predict_now(net._parameters, x, None)
            served += a is not None
            assert_same_bits(net.predict(x), by_the_gate(net, x))
            if a is not None:
                assert_same_bits(a, by_the_gate(net, x))
    assert served
    for i, row in enumerate(many):
        assert_same_bits(net.predict(row[None, :])[0], want[i])


def test_predict_at_once_into_out(rng, dtype):
    net = siglin.Network([2, 3, 4], dtype=dtype, loss="cross_entropy", seed=3)
    x = rng.normal(size=(3, 2)).astype(dtype)
    want = by_the_gate(net, x)
    wide = np.zeros((3, 9), dtype)
    out = wide[:, 2:6]
    assert net._predict_now(net._parameters, x, out) is out
    assert_same_bits(out, want)
    assert not wide[:, :2].any()
    assert not wide[:, 6:].any()


def test_predict_at_once_leaves_everything_odd_to_the_gate(rng, dtype):
    """It returns None, writes nothing, and predict answers as it always has."""
    net = siglin.Network([2, 3, 2], dtype=dtype, seed=3)
    x, out = rng.normal(size=(2, 2)).astype(dtype), np.full((2, 2), 7, dtype)
    other = np.float32 if dtype == np.float64 else np.float64
    locked = out.copy()
    locked.flags.writeable = False
    inputs = [
        x.tolist(), x[0], x[:, :1], x.astype(other), x.astype(dtype.newbyteorder()),
        np.asfortranarray(x), np.ma.masked_array(x), None, "text", 1.0, x.astype(object),
        np.zeros((100_000, 2), dtype),
    ]  # fmt: skip
    outs = [
        out.tolist(), out[0], out[:1], out.astype(other), locked, out[::-1], x, x[:, ::-1],
        np.zeros((1, 2), dtype).repeat(2, 0)[:, ::-1], net.params[:4].reshape(2, 2),
        np.broadcast_to(out[0], (2, 2)), np.ma.masked_array(out),
    ]  # fmt: skip
    cases = [(value, None) for value in inputs] + [(x, value) for value in outs]
    for value, into in cases:
        params = net.params.copy()
        before = x.copy(), out.copy()
        assert net._predict_now(net._parameters, value, into) is None
        assert_same_bits(x, before[0])
        assert_same_bits(out, before[1])
        answers = []
        for call in (lambda *a, **k: by_the_gate(net, *a, **k), net.predict):
            x[...], out[...] = before
            net.params = params
            try:
                answers.append(call(value, out=into).tobytes())
            except (TypeError, ValueError) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]
        x[...], out[...] = before
        net.params = params


def test_predict_at_once_waits_for_no_fit(dtype):
    """While a fit runs the gate decides which weights are seen."""
    net = siglin.Network([2, 3, 1], dtype=dtype, seed=3)
    x = np.ones((1, 2), dtype)
    seen = []

    def look(_):
        seen.append(net._predict_now(net._parameters, x, None))

    net.fit(x, [1.0], epochs=3, callback=look)
    assert seen == [None] * 3
    with pytest.raises(ValueError, match="lr must be > 0"):
        net.fit(x, [1.0], lr=-1.0)
    assert net._predict_now(net._parameters, x, None) is not None
    assert net._native.predict_now(object(), x, None) is None


def test_predict_at_once_is_never_a_mix(rng, dtype):
    """Beside fits, every answer is the one of the weights before or after a fit."""
    net = siglin.Network([3, 16, 16, 4], dtype=dtype, seed=3)
    x = rng.normal(size=(1, 3)).astype(dtype)
    data = (
        rng.normal(size=(20, 3)).astype(dtype),
        rng.uniform(size=(20, 4)).astype(dtype),
    )
    states, done = [net.params.copy()], threading.Event()
    seen: list[set[bytes]] = [set(), set()]
    at_once = [0, 0]

    def predict(i: int) -> None:
        while not done.is_set():
            seen[i].add(net.predict(x).tobytes())
            a = net._predict_now(net._parameters, x, None)
            if a is not None:
                at_once[i] += 1
                seen[i].add(a.tobytes())

    readers = [threading.Thread(target=predict, args=(i,)) for i in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + 30  # for a reader that gets no turn at first
        while len(states) <= 60 or (min(at_once) == 0 and time.monotonic() < deadline):
            net.fit(*data, epochs=20)
            states.append(net.params.copy())
        done.set()
        for reader in readers:
            reader.join()
    finally:
        done.set()
        sys.setswitchinterval(interval)
    assert min(at_once) > 0
    allowed = set()
    for state in states:
        net.params = state
        allowed.add(net.predict(x).tobytes())
    assert seen[0] | seen[1] <= allowed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_predict_at_once_in_a_child_of_a_process_that_fits():
    """The fit did not come along: the child sees the weights from before, at once."""
    net = siglin.Network([2, 3, 1], seed=3)
    x = np.ones((1, 2))
    want = net.predict(x).tobytes()
    begun, stop = threading.Event(), threading.Event()

    def look(_: object) -> bool:
        begun.set()
        return stop.is_set()

    fit = threading.Thread(
        target=lambda: net.fit(x, [1.0], epochs=10**9, callback=look)
    )
    fit.start()
    assert begun.wait(10)
    child = os.fork()
    if child == 0:
        a = net._predict_now(net._parameters, x, None)
        os._exit(0 if a is not None and a.tobytes() == want else 1)
    status = os.waitpid(child, 0)[1]
    stop.set()
    fit.join()
    assert status == 0


# ---- references ----------------------------------------------------------------------


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a function that may refuse."""
    with contextlib.suppress(TypeError, ValueError):
        function(*args, **kwargs)


def good_and_bad_calls(dtype: Any) -> list[Callable[[], None]]:
    """Return calls of every way through the functions: served, converted, refused."""
    x, w, b = np.ones((1, 2), dtype), np.ones((2, 3), dtype), np.ones(3, dtype)
    a, out = np.full((1, 3), 0.5, dtype), np.zeros((1, 3), dtype)
    other = np.float32 if dtype == np.float64 else np.float64
    bad = [[1, 2]], x.astype(other), x[0], np.ma.masked_array(x), x.astype(">f8"), None
    layer = siglin.Dense(2, 3, dtype=dtype, seed=1)
    net = siglin.Network([2, 3, 1], dtype=dtype, seed=1)
    one = np.zeros((1, 1), dtype)
    calls: list[Callable[[], None]] = []

    def add(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        calls.append(lambda: attempt(function, *args, **kwargs))

    for v in (x, *bad):
        add(siglin.forward, v, w)
        add(siglin.forward, v, w, b, activation="tanh", out=out)
        add(siglin.sigmoid, v)
        add(siglin.backward, v, w, a, a)
        add(siglin.backward, v, w, a, a, z=a, need_dx=False)
        add(siglin.backward_update, v, w, b, a, a, 0.0)
        add(siglin.update, w, v, 0.0)
        add(layer.forward, v)
        add(net.predict, v)
        add(net.predict, v, out=one)
    add(siglin.forward, x, w, b, out=x)
    add(siglin.forward, x, w, b, activation="none")
    add(siglin.forward, x, w, b, activation=b"tanh")
    add(siglin.update, b, b, 0.1)
    add(siglin.update, b, out[0], "0.1")
    add(siglin.backward, x, w, a, a, activation="step")
    add(layer.backward, a)
    add(layer.backward, [[1]])
    add(layer.update, 0.0)
    for function, (parameters, _) in SIGNATURES.items():
        strict = getattr(_core, function)
        given = arguments(function, dtype) | {"lr": 0.0}
        given = {p: given[p] for p in parameters}
        add(strict, **given)
        add(strict, *given.values())
        add(strict, **given, rate=1)
        add(strict, *given.values(), None)
        add(strict)
    return calls


def resident_bytes() -> int:
    """Return what this process holds in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timing
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_ten_thousand_calls_leave_nothing_behind(dtype):
    calls = good_and_bad_calls(dtype)
    rounds = -(-10_000 // len(calls))

    def run() -> None:
        for _ in range(rounds):
            for call in calls:
                call()
        gc.collect()

    run()  # caches fill, the heap takes its shape
    before = resident_bytes()
    run()
    assert resident_bytes() - before < 2**20


def test_calls_keep_no_reference(dtype):
    calls = good_and_bad_calls(dtype)
    # Every array that the calls know, and what all calls share.
    held = [cell.cell_contents for call in calls for cell in call.__closure__ or ()]
    arrays = [v for args in held if isinstance(args, tuple) for v in args]
    arrays += [v for args in held if isinstance(args, dict) for v in args.values()]
    shared = [np.dtype(np.float32), np.dtype(np.float64), np.ndarray, siglin.Gradients]
    things = {id(v): v for v in [*arrays, *shared] if not isinstance(v, int | str)}
    for call in calls:
        call()
    gc.collect()
    before = {key: sys.getrefcount(v) for key, v in things.items()}
    for _ in range(100):
        for call in calls:
            call()
    gc.collect()
    after = {key: sys.getrefcount(v) for key, v in things.items()}
    grown = {key: after[key] - before[key] for key in things}
    assert all(abs(change) < 50 for change in grown.values()), grown
