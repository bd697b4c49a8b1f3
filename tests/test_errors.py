"""Every mistake has its own clear error: kind, function, argument, and nothing changed."""

import fractions
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import siglin
from helpers import assert_same_bits
from siglin import DTypeError, ShapeError, _functions, reference

ROWS, N_IN, N_OUT = 4, 3, 2

NO_NUMBERS = {
    "complex": np.ones((4, 3), complex),
    "object": np.ones((4, 3), object),
    "str": np.full((4, 3), "1.0"),
    "bytes": np.full((4, 3), b"1"),
    "datetime": np.zeros((4, 3), "M8[s]"),
    "timedelta": np.zeros((4, 3), "m8[s]"),
    "structured": np.zeros((4, 3), [("a", "f8")]),
    "void": np.zeros((4, 3), "V8"),
    "longdouble": np.ones((4, 3), np.longdouble),
    "list of complex": [[1j, 2, 3]] * 4,
    "list of str": [["a", "b", "c"]] * 4,
    "list of None": [[None, 1, 2]] * 4,
    "large int": [[2**70, 1, 2]] * 4,
    "str itself": "text",
    "dict": {"a": 1},
    "object itself": object(),
}

SIZE_MISTAKES = [
    (0, ValueError),
    (-1, ValueError),
    (2**31, ValueError),
    (True, TypeError),
    (np.True_, TypeError),
    (2.0, TypeError),
    ("2", TypeError),
    (None, TypeError),
    (np.array([2]), TypeError),
]

LR_MISTAKES = [
    (np.nan, ValueError),
    (np.inf, ValueError),
    (-np.inf, ValueError),
    (np.float32(np.nan), ValueError),
    (10**400, ValueError),
    (True, TypeError),
    (np.False_, TypeError),
    ("0.1", TypeError),
    (None, TypeError),
    (1j, TypeError),
    (np.array(0.1), TypeError),
    (np.array([0.1]), TypeError),
    ([0.1], TypeError),
]

SEED_MISTAKES = [
    (-1, ValueError),
    (2**64, ValueError),
    (1.0, TypeError),
    (True, TypeError),
    ("1", TypeError),
]


def layer_arguments(dtype=np.float64):
    """Return the arguments of backward, all right."""
    x = np.linspace(-1, 1, ROWS * N_IN).reshape(ROWS, N_IN).astype(dtype)
    w = np.linspace(-2, 2, N_IN * N_OUT).reshape(N_IN, N_OUT).astype(dtype)
    a = siglin.forward(x, w)
    return {"x": x, "w": w, "a": a, "da": np.ones_like(a)}


def network(**options):
    return siglin.Network([N_IN, 4, N_OUT], seed=0, **options)


def training_data():
    x = np.linspace(-1, 1, ROWS * N_IN).reshape(ROWS, N_IN)
    return x, np.tile([0.0, 1.0], (ROWS, 1))


def sparse_matrix():
    return scipy.sparse.csr_array(np.eye(3))


# ---- the package as a whole ----------------------------------------------------------


def run_python(program, **environment):
    """Run a program in a process of its own; return its exit code and what it says."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return result.returncode, result.stdout + result.stderr


def test_without_the_compiled_module():
    program = "import sys; sys.modules['siglin._core'] = None; import siglin"
    code, said = run_python(program)
    assert code == 1
    assert (
        "ImportError: the compiled module siglin._core is missing; was siglin" in said
    )


@pytest.mark.parametrize("name", ["pentium", "X86_V3", "x86_v3 "])
def test_unknown_target(name):
    code, said = run_python("import siglin", SIGLIN_TARGET=name)
    assert code == 1
    assert "RuntimeError: SIGLIN_TARGET: " in said.splitlines()[-1]
    assert all(target in said for target in siglin.targets())


def test_forced_target():
    for name in siglin.targets():
        program = "import siglin; siglin.self_test(); print(siglin.target())"
        assert run_python(program, SIGLIN_TARGET=name) == (0, f"{name}\n")


@pytest.mark.parametrize("name", ["_activate", "_forward", "_backward"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_self_test_notices_one_wrong_number(name, dtype, wrong, monkeypatch):
    right = getattr(_functions, name)

    def spoilt(*args):
        result = right(*args)
        array = result if isinstance(result, np.ndarray) else result[1]
        if array.dtype == dtype:
            array.flat[-1] += wrong
        return result

    siglin.self_test()
    monkeypatch.setattr(_functions, name, spoilt)
    with pytest.raises(
        RuntimeError, match=f"self_test: target .* {np.dtype(dtype)} is"
    ):
        siglin.self_test()


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'relu'"):
        _ = siglin.relu


# ---- the hierarchy -------------------------------------------------------------------


def test_hierarchy():
    bases = {
        siglin.SiglinError: Exception,
        siglin.ShapeError: ValueError,
        siglin.DTypeError: TypeError,
        siglin.ModelFormatError: ValueError,
        siglin.DivergenceError: FloatingPointError,
    }
    for error, base in bases.items():
        assert issubclass(error, base)
        assert issubclass(error, siglin.SiglinError)


def test_the_second_try_leaves_no_trace():
    """The user's error is the only one, not one "during handling of another"."""
    with pytest.raises(ShapeError) as caught:
        siglin.forward(np.ones((2, 3)), np.ones((4, 2)))
    assert caught.value.__context__ is None


# ---- kinds of data -------------------------------------------------------------------


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize(
    ("call", "where"),
    [
        (siglin.sigmoid, "sigmoid: z "),
        (lambda v: siglin.forward(v, np.ones((3, 2))), "forward: x "),
        (lambda v: siglin.forward(np.ones((4, 4)), v), "forward: w "),
        (lambda v: siglin.update(np.ones((4, 3)), v, 0.1), "update: grad "),
        (lambda v: network().predict(v), "predict: x "),
        (lambda v: network().fit(v, np.ones((4, 2))), "fit: x "),
        (lambda v: network().fit(np.ones((4, 3)), v), "fit: t "),
        (lambda v: siglin.Dense(3, 2).forward(v), "Dense.forward: x "),
        (lambda v: siglin.Perceptron(3).fit(v, np.ones(4)), "fit: x "),
    ],
)
def test_what_are_no_numbers(call, where, value):
    with pytest.raises(DTypeError, match=f"^{where}must be float32 or float64, got "):
        call(value)


def test_none_is_no_array():
    for call, where in [
        (lambda: siglin.sigmoid(None), "sigmoid: z"),
        (lambda: siglin.forward(None, np.ones((1, 1))), "forward: x"),
        (lambda: siglin.forward(np.ones((1, 1)), None), "forward: w"),
        (lambda: siglin.backward(**(layer_arguments() | {"da": None})), "backward: da"),
        (lambda: siglin.update(np.ones(2), None, 0.1), "update: grad"),
        (lambda: network().predict(None), "predict: x"),
        (lambda: network().loss(np.ones((1, 3)), None), "loss: t"),
    ]:
        with pytest.raises(TypeError, match=f"^{where} must be an array, got None"):
            call()


def test_ragged_lists():
    for ragged in ([[1, 2], [3]], [1, [2]], [[1.0], 2.0]):
        with pytest.raises(ShapeError, match="z is not a rectangular array"):
            siglin.sigmoid(ragged)


def test_list_that_contains_itself():
    endless = []
    endless.append(endless)
    with pytest.raises((ShapeError, DTypeError)):
        siglin.sigmoid(endless)


def test_number_too_large_for_float32():
    w = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="x has a number too large for float32"):
        siglin.forward([[1e300]], w)
    assert siglin.forward([[np.inf]], w) == 1


@pytest.mark.parametrize("make", [np.ma.masked_equal, np.ma.masked_greater])
def test_masked_values(make):
    masked = make([[1.0, 2.0, 3.0]], 2.0)
    arguments = layer_arguments()
    for call in [
        lambda: siglin.sigmoid(masked),
        lambda: siglin.forward(masked, np.ones((3, 2))),
        lambda: network().predict(masked),
        lambda: siglin.update(np.ones((1, 3)), masked, 0.1),
        lambda: siglin.update(masked, np.ones((1, 3)), 0.1),
        lambda: siglin.sigmoid(np.ones((1, 3)), out=masked),
        lambda: siglin.backward_update(
            **(arguments | {"w": np.ma.masked_less(arguments["w"], 0)}), b=None, lr=0.1
        ),
    ]:
        with pytest.raises(ValueError, match="is a masked array with masked values"):
            call()


def test_sparse_matrices():
    for make in (
        scipy.sparse.csr_array,
        scipy.sparse.coo_matrix,
        scipy.sparse.csc_array,
    ):
        sparse = make(np.eye(3))
        for call in [
            lambda s=sparse: siglin.sigmoid(s),
            lambda s=sparse: siglin.forward(s, np.ones((3, 2))),
            lambda s=sparse: siglin.forward(np.ones((2, 3)), s),
            lambda s=sparse: network().forward(s),
            lambda s=sparse: network().fit(np.eye(3), s),
        ]:
            with pytest.raises(TypeError, match=r"sparse.*toarray"):
                call()


def test_dlpack_of_another_device():
    class Elsewhere:
        def __dlpack__(self, **_):
            raise BufferError("not on this device")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(TypeError, match="z cannot be read through DLPack"):
        siglin.sigmoid(Elsewhere())


def test_error_of_an_array_like_arrives():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        siglin.sigmoid(Broken())


@pytest.mark.parametrize("name", ["x", "w", "a", "da", "z"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_never_meets_float64(name, dtype):
    other = np.float32 if dtype == np.float64 else np.float64
    arguments = layer_arguments(dtype)
    arguments["z"] = arguments["a"]
    arguments[name] = arguments[name].astype(other)
    with pytest.raises(DTypeError, match=rf"backward: .*\b{name}\b.*float"):
        siglin.backward(**arguments)
    before = arguments["w"].copy()
    with pytest.raises(DTypeError, match=rf"backward_update: .*\b{name}\b.*float"):
        siglin.backward_update(**arguments, b=None, lr=0.1)
    assert_same_bits(arguments["w"], before)
    if name in ("x", "w"):
        with pytest.raises(DTypeError, match=rf"forward: .*\b{name}\b.*float"):
            siglin.forward(arguments["x"], arguments["w"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_networks_data_has_its_dtype(dtype):
    other = np.float32 if dtype == np.float64 else np.float64
    net = network(dtype=dtype)
    x, t = (array.astype(dtype) for array in training_data())
    wrong_x, wrong_t = x.astype(other), t.astype(other)
    for call in [
        lambda: net.predict(wrong_x),
        lambda: net.forward(wrong_x),
        lambda: net.fit(wrong_x, t),
        lambda: net.fit(x, wrong_t),
        lambda: net.loss(x, wrong_t),
        lambda: net.loss_and_grads(wrong_x, t),
        lambda: setattr(net, "params", np.zeros(net.n_params, other)),
        lambda: setattr(net.layers[0], "w", np.zeros((N_IN, 4), other)),
        lambda: net.predict(x, out=np.empty((ROWS, N_OUT), other)),
    ]:
        with pytest.raises(DTypeError, match="must be float"):
            call()


# ---- sigmoid -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((3, 2)), ShapeError, r"out must have shape \(2, 3\).*got \(3, 2\)"),
        (np.zeros(6), ShapeError, "out must have shape"),
        (np.zeros((2, 3), np.float32), DTypeError, ".*out is float32"),
        (np.zeros((2, 3), int), DTypeError, "out must be float64, got int64"),
        (np.zeros((2, 3), ">f8"), ValueError, "out must have native byte order"),
        (np.broadcast_to(0.0, (2, 3)), ValueError, "out is read-only"),
        ([[0.0] * 3] * 2, TypeError, "out must be an? .*ndarray, got list"),
        (
            np.lib.stride_tricks.as_strided(np.zeros(6), (2, 3), (0, 8)),
            ValueError,
            "elements of out share memory",
        ),
        (
            np.lib.stride_tricks.as_strided(np.zeros(6), (2, 3), (8, 8)),
            ValueError,
            "elements of out share memory",
        ),
    ],
)
def test_wrong_out_of_sigmoid(out, error, message):
    before = np.array(out, copy=True)
    with pytest.raises(error, match=f"^sigmoid: {message}"):
        siglin.sigmoid(np.ones((2, 3)), out=out)
    np.testing.assert_array_equal(out, before)


def test_out_whose_elements_meet():
    """Found without writing down where 2^40 elements are."""
    strided = np.lib.stride_tricks.as_strided
    for out in [
        strided(np.zeros(4), (2, 2), (8, 8)),
        strided(np.zeros(8), (2, 3), (16, 8)),
        strided(np.zeros(8), (2, 2), (4, 8)),
        strided(np.zeros(8)[7:], (2, 3), (-16, -8)),
        strided(np.zeros(2**21), (2**20, 2**20), (8, 8)),
    ]:
        with pytest.raises(ValueError, match="elements of out share memory"):
            siglin.sigmoid(np.ones((2, 3)), out=out)


def test_special_numbers_are_no_mistake(dtype):
    z = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    with np.errstate(all="raise"):
        got = siglin.sigmoid(z)
        assert siglin.sigmoid(np.array([tiny, -tiny], dtype)).tolist() == [0.5, 0.5]
        tail = siglin.sigmoid(dtype.type(np.log(tiny) * 0.99))
    np.testing.assert_array_equal(got, np.array([np.nan, 1, 0, 0.5, 0.5], dtype))
    assert not np.signbit(got[1:]).any()
    assert 0 < tail < np.finfo(dtype).smallest_normal


# ---- forward -------------------------------------------------------------------------


def test_x_of_one_dimension():
    row = np.ones(3)
    for call in [
        lambda: siglin.forward(row, np.ones((3, 2))),
        lambda: siglin.forward([1, 2, 3], np.ones((3, 2))),
        lambda: network().predict(row),
        lambda: network().forward(row),
        lambda: network().fit(row, np.ones((1, 2))),
        lambda: siglin.Dense(3, 2).forward(row),
        lambda: siglin.Perceptron(3).predict(row),
    ]:
        with pytest.raises(ShapeError, match=r"x must be 2-D, got 1-D \(3,\).*x\[None"):
            call()


def test_a_line_of_numbers_for_one_input_is_told_to_become_a_column():
    x, t = np.linspace(-1, 1, 5), np.array([0, 0, 1, 1, 1])
    net = siglin.Network([1, 1])
    ours = reference.Network([1, 1])
    calls = [
        lambda x: net.fit(x, t),
        lambda x: net.fit([[0.0]], [0], validation_data=(x, t)),
        net.predict,
        net.forward,
        lambda x: net.loss(x, t),
        lambda x: siglin.fit_many([net], x, t),
        lambda x: siglin.Neuron(1).fit(x, t),
        lambda x: siglin.Perceptron(1).fit(x, t),
        lambda x: siglin.Perceptron(1).predict(x),
        lambda x: siglin.Dense(1, 2).forward(x),
        lambda x: siglin.forward(x, np.ones((1, 2))),
        ours.predict,
    ]
    for call in calls:
        with pytest.raises(ShapeError, match=r"x\[:, None\]"):
            call(x)
        call(x[:, None])  # what it advises works


@pytest.mark.parametrize(
    ("x", "w", "b", "message"),
    [
        (
            np.ones((2, 5)),
            np.ones((3, 4)),
            None,
            r"w .*\(5, n_out\|any\).*\(2, 5\).*\(3, 4\)",
        ),
        (np.ones((2, 3, 1)), np.ones((3, 4)), None, "x must be 2-D, got 3-D"),
        (np.ones((2, 3)), np.ones(3), None, "w must be 2-D, got 1-D"),
        (np.float64(1), np.ones((3, 4)), None, "x must be 2-D, got 0-D"),
        (np.ones((2, 3)), np.ones((3, 4)), np.ones(3), r"b .*\(4,\).*got \(3,\)"),
        (np.ones((2, 3)), np.ones((3, 4)), np.ones((1, 4)), r"b .*\(4,\).*\(1, 4\)"),
        (np.ones((2, 3)), np.ones((3, 4)), 1.0, r"b .*\(4,\)"),
    ],
)
def test_wrong_shapes_of_forward(x, w, b, message):
    message = message.replace(r"n_out\|any", "(n_out|any)")
    for call in [
        lambda: siglin.forward(x, w, b),
        lambda: siglin.forward(np.asarray(x).tolist(), w, b),  # by way of conversion
    ]:
        with pytest.raises(ShapeError, match=f"^forward: {message}"):
            call()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((3, 2)), ShapeError, "must have shape"),
        (np.zeros((2, 3), np.float32), DTypeError, "float32"),
        (np.zeros((2, 3), ">f8"), ValueError, "native byte order"),
        (np.broadcast_to(0.0, (2, 3)), ValueError, "read-only"),
        ("text", TypeError, "must be an? .*ndarray, got str"),
        (
            np.lib.stride_tricks.as_strided(np.zeros(6), (2, 3), (0, 8)),
            ValueError,
            "share memory",
        ),
    ],
)
def test_wrong_out_of_forward_and_predict(out, error, message):
    net = siglin.Network([2, 3], seed=0)
    x, w = np.ones((2, 2)), np.ones((2, 3))
    with pytest.raises(error, match=f"^forward: .*out.*{message}"):
        siglin.forward(x, w, out=out)
    with pytest.raises(error, match=f"^predict: .*out.*{message}"):
        net.predict(x, out=out)


def test_out_must_not_overlap_an_input():
    buffer = np.ones(40)
    x, w = buffer[:9].reshape(3, 3), buffer[10:19].reshape(3, 3)
    b, free = buffer[20:23], buffer[30:39].reshape(3, 3)
    before = buffer.copy()
    for out in (x, w, x.T, buffer[8:17].reshape(3, 3), buffer[19:28].reshape(3, 3)):
        with pytest.raises(ValueError, match=r"^forward: out "):
            siglin.forward(x, w, b, out=out)
    assert_same_bits(buffer, before)
    assert siglin.forward(x, w, b, out=free) is free

    net = siglin.Network([3, 3], seed=0)
    with pytest.raises(ValueError, match=r"^predict: out "):
        net.predict(x, out=x)
    with pytest.raises(ValueError, match=r"^predict: out "):
        net.predict(x, out=net.params[:9].reshape(3, 3))


def test_unknown_activation():
    arguments = layer_arguments()
    for name, error in [
        ("softmax", ValueError),
        ("Sigmoid", ValueError),
        ("", ValueError),
        (None, TypeError),
        (1, TypeError),
    ]:
        for function, call in [
            ("forward", lambda n=name: siglin.forward([[1]], [[1]], activation=n)),
            ("backward", lambda n=name: siglin.backward(**arguments, activation=n)),
            (
                "backward_update",
                lambda n=name: siglin.backward_update(
                    **arguments, b=None, lr=1.0, activation=n
                ),
            ),
        ]:
            with pytest.raises(error, match=f"^{function}: activation must be"):
                call()


# ---- backward ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "da", "z"])
@pytest.mark.parametrize("shape", [(ROWS, 3), (3, N_OUT), (N_OUT,), (ROWS, N_OUT, 1)])
def test_wrong_shapes_of_backward(name, shape):
    arguments = layer_arguments() | {name: np.ones(shape)}
    before = arguments["w"].copy()
    for call in [
        lambda: siglin.backward(**arguments),
        lambda: siglin.backward_update(**arguments, b=None, lr=0.1),
    ]:
        with pytest.raises(ShapeError, match=f"^backward.*: {name} must "):
            call()
    assert_same_bits(arguments["w"], before)


def test_step_has_no_gradient():
    arguments = layer_arguments()
    for call in [
        lambda: siglin.backward(**arguments, activation="step"),
        lambda: siglin.backward_update(**arguments, b=None, lr=1.0, activation="step"),
    ]:
        with pytest.raises(ValueError, match=r'^backward.*"step" has no'):
            call()
    layer = siglin.Dense(2, 1, "step")
    layer.forward(np.ones((1, 2)))
    with pytest.raises(ValueError, match='"step" has no gradient'):
        layer.backward(np.ones((1, 1)))

    net = siglin.Network([2, 3, 1], activation="step", seed=0)
    params = net.params.copy()
    x, t = np.ones((2, 2)), np.ones(2)
    assert net.forward(x).shape == (2, 1)
    for call in [
        lambda: net.fit(x, t),
        lambda: net.loss_and_grads(x, t),
        lambda: net.backward(t),
        lambda: net.backward_from(np.ones((2, 1))),
    ]:
        with pytest.raises(ValueError, match='"step" has no gradient'):
            call()
    assert_same_bits(net.params, params)


# ---- update --------------------------------------------------------------------------


@pytest.mark.parametrize(("lr", "error"), LR_MISTAKES)
def test_wrong_lr(lr, error):
    w, arguments, net = np.ones(2), layer_arguments(), network()
    calls = [
        ("update", lambda: siglin.update(w, np.ones(2), lr)),
        ("backward_update", lambda: siglin.backward_update(**arguments, b=None, lr=lr)),
        ("Dense.update", lambda: siglin.Dense(1, 1).update(lr)),
    ]
    if lr is not None:  # which is the optimiser's
        x, t = training_data()
        calls += [
            ("update", lambda: net.update(lr)),
            ("update", lambda: net.update(lr, optimizer="adam")),
            ("learn_one", lambda: net.learn_one(x[0], t[0], lr=lr)),
            ("learn_many", lambda: net.learn_many(x, t, lr=lr)),
            ("fit", lambda: net.fit(x, t, lr=lr)),
        ]
    for function, call in calls:
        with pytest.raises(error, match=f"^{function}: lr must be"):
            call()
    assert (w == 1).all()
    assert_same_bits(arguments["w"], layer_arguments()["w"])


@pytest.mark.parametrize(
    "lr",
    [2, np.int8(2), np.float32(2), np.float64(2), np.float16(2), fractions.Fraction(2)],
)
def test_right_lr(lr):
    w, arguments = np.ones(2), layer_arguments()
    siglin.update(w, np.ones(2), lr)
    assert w.tolist() == [-1, -1]
    siglin.backward_update(**arguments, b=None, lr=lr)
    want = layer_arguments()
    siglin.backward_update(**want, b=None, lr=2.0)
    assert_same_bits(arguments["w"], want["w"])


def test_lr_too_large_for_float32():
    """As float32 it is infinite, and makes NaN of a gradient of 0."""
    w, arguments = np.ones(2, np.float32), layer_arguments()
    single = {name: value.astype(np.float32) for name, value in arguments.items()}
    before, layer = single["w"].copy(), siglin.Dense(1, 1, dtype="float32", seed=0)
    net = siglin.Network([1, 1], dtype="float32", seed=0)
    params = layer.params.copy(), net.params.copy()
    for function, call in [
        ("update", lambda: siglin.update(w, np.zeros_like(w), 1e39)),
        ("update", lambda: siglin.update(w[::-1], [0, 0], -1e39)),
        ("backward_update", lambda: siglin.backward_update(**single, b=None, lr=1e39)),
        ("update", lambda: layer.update(1e39)),
        ("update", lambda: net.update(1e39)),
        ("fit", lambda: net.fit([[0.0]], [1], lr=1e39)),
    ]:
        with pytest.raises(
            ValueError, match=rf"^{function}: lr .*float32, got -?1e\+39"
        ):
            call()
    assert (w == 1).all()
    assert_same_bits(single["w"], before)
    assert_same_bits(layer.params, params[0])
    assert_same_bits(net.params, params[1])
    siglin.update(w, np.zeros_like(w), 3e38)
    siglin.update(arguments["w"], np.zeros_like(arguments["w"]), 1e39)


def test_lr_of_zero_is_no_step_and_a_negative_one_climbs():
    w = np.ones(2)
    siglin.update(w, np.full(2, np.nan), 0)
    assert w.tolist() == [1, 1]
    siglin.update(w, np.ones(2), -1)
    assert w.tolist() == [2, 2]


def test_wrong_targets_of_update():
    w = np.ones((2, 2))
    for param, error, message in [
        ([1.0, 2.0], TypeError, "param must be an ndarray, got list"),
        (1.0, TypeError, "param must be an ndarray, got float"),
        (
            np.ones((2, 2), int),
            DTypeError,
            "param must be float32 or float64, got int64",
        ),
        (np.broadcast_to(1.0, (2, 2)), ValueError, "param is read-only"),
        (
            np.lib.stride_tricks.as_strided(np.ones(4), (2, 2), (8, 8)),
            ValueError,
            "elements of param share memory",
        ),
        (np.ones((2, 3)), ShapeError, r"grad must have shape \(2, 3\).*got \(2, 2\)"),
        (np.ones((2, 2), np.float32), DTypeError, "param.*float32.*grad.*float64|grad"),
        (w, ValueError, "param.*grad|overlap"),
        (w.T, ValueError, "param.*grad|overlap"),
    ]:
        with pytest.raises(error, match=f"^update: .*({message})"):
            siglin.update(param, w, 0.1)
    assert (w == 1).all()


def test_wrong_targets_of_backward_update():
    arguments = layer_arguments()
    w, bias = arguments["w"], np.zeros(N_OUT)
    cases = [
        ({"w": w.tolist()}, TypeError, "w must be an ndarray, got list"),
        ({"w": w.astype(int)}, DTypeError, "w must be float32 or float64"),
        ({"b": [0.0, 0.0]}, TypeError, "b must be an ndarray, got list"),
        ({"b": np.zeros(3)}, ShapeError, "b must have shape"),
        ({"b": np.zeros((1, 2))}, ShapeError, "b must have shape"),
        ({"b": np.zeros(2, np.float32)}, DTypeError, "b"),
        ({"b": np.broadcast_to(0.0, N_OUT)}, ValueError, "b is read-only"),
        ({"w": np.broadcast_to(0.0, w.shape)}, ValueError, "w is read-only"),
        ({"b": w[0]}, ValueError, "b|w"),
        ({"lr": None}, TypeError, "lr must be a real number"),
        ({"x": np.broadcast_to(w[:, 0], (ROWS, N_IN))}, ValueError, "w and x share"),
        ({"da": np.broadcast_to(bias, (ROWS, N_OUT))}, ValueError, "b and da share"),
    ]
    for change, error, message in cases:
        call = arguments | {"b": bias, "lr": 0.1} | change
        with pytest.raises(error, match=f"^backward_update: .*{message}"):
            siglin.backward_update(**call)
        assert (bias == 0).all()
        assert_same_bits(w, layer_arguments()["w"])


def test_gradients_that_are_not_finite_arrive():
    w = np.zeros(3)
    siglin.update(w, np.array([np.nan, np.inf, 1.0]), 1.0)
    assert_same_bits(np.isnan(w), np.array([True, False, False]))
    assert w[1:].tolist() == [-np.inf, -1.0]


# ---- constructors --------------------------------------------------------------------


@pytest.mark.parametrize(("size", "error"), SIZE_MISTAKES)
def test_wrong_sizes(size, error):
    for where, call in [
        (r"Network: layers\[1\]", lambda: siglin.Network([2, size, 1])),
        (r"Network: layers\[2\]", lambda: siglin.Network([2, 3, size])),
        ("Dense: n_in", lambda: siglin.Dense(size, 1)),
        ("Dense: n_out", lambda: siglin.Dense(1, size)),
        ("Neuron: n_in", lambda: siglin.Neuron(size)),
        ("Perceptron: n_in", lambda: siglin.Perceptron(size)),
    ]:
        with pytest.raises(error, match=f"^{where} must be"):
            call()


def test_number_of_sizes():
    for layers in ([], [3], (), np.array([2])):
        with pytest.raises(ValueError, match="layers must be two sizes or more"):
            siglin.Network(layers)
    for layers in (3, None, "23", b"23"):
        with pytest.raises(
            TypeError, match="layers must be a list of sizes or of Dense"
        ):
            siglin.Network(layers)
    assert siglin.Network(np.array([2, 1])).n_params == 3


def test_more_parameters_than_memory():
    many = 2**31 - 1
    with pytest.raises(ValueError, match="more than fit in memory"):
        siglin.Dense(many, many)
    with pytest.raises(ValueError, match="more than fit in memory"):
        siglin.Network([many, many, 1])
    with pytest.raises(MemoryError):
        siglin.Network([2**24, 2**24, 1])


@pytest.mark.parametrize(
    "dtype",
    ["float16", int, complex, "longdouble", ">f8", "nonsense", None, 3, object()],
)
def test_wrong_dtypes(dtype):
    for call in [
        lambda: siglin.Network([2, 1], dtype=dtype),
        lambda: siglin.Dense(2, 1, dtype=dtype),
        lambda: siglin.Neuron(2, dtype=dtype),
        lambda: siglin.Perceptron(2, dtype=dtype),
        lambda: network().astype(dtype),
    ]:
        with pytest.raises(DTypeError, match="dtype must be float32 or float64"):
            call()


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), "f"])
def test_right_dtypes(dtype):
    assert siglin.Dense(2, 1, dtype=dtype).w.dtype == np.float32


@pytest.mark.parametrize(("seed", "error"), SEED_MISTAKES)
def test_wrong_seeds(seed, error):
    net = network()
    before = net.params.copy()
    for call in [
        lambda: siglin.Network([2, 1], seed=seed),
        lambda: siglin.Dense(2, 1, seed=seed),
        lambda: net.fit(*training_data(), seed=seed),
    ]:
        with pytest.raises(error, match="seed must be"):
            call()
    assert_same_bits(net.params, before)
    assert siglin.Dense(1, 1, seed=2**64 - 1).w.size == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"loss": "mse"},
            ValueError,
            "loss must be one of bce, squared_error, cross_entr",
        ),
        ({"loss": None}, TypeError, "loss must be a str"),
        (
            {"activation": "relu6"},
            ValueError,
            "activation must be one of identity, sigm",
        ),
        ({"activation": "softmax"}, ValueError, '"softmax" is for the output layer'),
        ({"activation": ["tanh", "tanh"]}, ValueError, "must name 1 hidden layers"),
        ({"activation": []}, ValueError, "must name 1 hidden layers"),
        ({"activation": [3]}, TypeError, r"activation\[0\] must be a str"),
        ({"activation": 3}, TypeError, "activation must be a str or a list"),
        (
            {"output_activation": "tanh"},
            ValueError,
            "loss 'bce' needs output_activation",
        ),
        ({"output_activation": "x"}, ValueError, "output_activation must be one of"),
        ({"output_activation": 1}, TypeError, "output_activation must be a str"),
        (
            {"loss": "cross_entropy", "output_activation": "sigmoid"},
            ValueError,
            "needs output_activation 'softmax'",
        ),
        ({"bias": 1}, TypeError, "bias must be True or False"),
        ({"init": "ones"}, ValueError, "init must be one of glorot, he, lecun, normal"),
        ({"init": 0}, TypeError, "init must be a str"),
    ],
)
def test_wrong_options_of_network(options, error, message):
    with pytest.raises(error, match=f"^Network: .*{message}"):
        siglin.Network([2, 3, 1], **options)


def test_wrong_options_of_dense():
    for options, error in [
        ({"activation": "relu6"}, ValueError),
        ({"activation": None}, TypeError),
        ({"bias": "yes"}, TypeError),
        ({"init": "ones"}, ValueError),
    ]:
        with pytest.raises(error, match=f"^Dense: {next(iter(options))} must be"):
            siglin.Dense(2, 1, **options)


def test_layers_that_do_not_fit():
    net = siglin.Network([2, 1])
    taken = net.layers[0]
    twice = siglin.Dense(2, 2)
    for layers, options, error, message in [
        ([siglin.Dense(2, 3), siglin.Dense(2, 1)], {}, ShapeError, r"layers\[1\] must"),
        (
            [siglin.Dense(2, 3, dtype="float32"), siglin.Dense(3, 1)],
            {},
            DTypeError,
            "same dtype",
        ),
        ([twice, twice], {}, ValueError, r"layers\[1\] is already in a network"),
        ([taken], {}, ValueError, r"layers\[0\] is already in a network"),
        ([siglin.Dense(2, 1), 3], {}, TypeError, "all sizes or all Dense"),
        ([siglin.Dense(2, 1, "tanh")], {}, ValueError, "needs output_activation"),
        (
            [siglin.Dense(2, 2, "softmax"), siglin.Dense(2, 1)],
            {},
            ValueError,
            '"softmax" is for the output',
        ),
        (
            [siglin.Dense(2, 1)],
            {"activation": "tanh"},
            ValueError,
            "of the given layers",
        ),
        ([siglin.Dense(2, 1)], {"bias": False}, ValueError, "of the given layers"),
        ([siglin.Dense(2, 1)], {"init": "zeros"}, ValueError, "of the given layers"),
        ([siglin.Dense(2, 1)], {"output_activation": "tanh"}, ValueError, "the last"),
        ([siglin.Dense(2, 1)], {"dtype": "float32"}, DTypeError, "dtype is float32"),
    ]:
        with pytest.raises(error, match=f"^Network: .*{message}"):
            siglin.Network(layers, **options)
        # Nothing was taken over.
        assert all(layer.network is None for layer in layers if layer not in (taken, 3))


# ---- networks ------------------------------------------------------------------------


def test_wrong_shapes_of_data():
    net, (x, t) = network(), training_data()
    params, grads = net.params.copy(), net.grads.copy()
    net.forward(x)
    for call, message in [
        (lambda: net.predict(x[:, :2]), r"^predict: x must have 3 columns, .*\(4, 2\)"),
        (lambda: net.fit(x[:, :2], t), "^fit: x must have 3 columns"),
        (lambda: net.fit(x, t[:3]), r"^fit: t must have shape \(4, 2\).*got \(3, 2\)"),
        (lambda: net.fit(x, t[:, :1]), r"^fit: t must have shape \(4, 2\)"),
        (lambda: net.fit(x, t[:, 0]), r"^fit: t must have shape \(4, 2\)"),
        (lambda: net.fit(x[:0], t[:0]), "^fit: x and t have no rows"),
        (lambda: net.loss(x[:0], t[:0]), "^loss: x and t have no rows"),
        (lambda: net.loss(x, t[:3]), "^loss: t must have shape"),
        (lambda: net.loss_and_grads(x, t.T), "^loss_and_grads: t must have shape"),
        (lambda: net.backward(t[:3]), "^backward: t must have shape"),
        (lambda: net.backward_from(t[:3]), "^backward_from: da must have shape"),
        (
            lambda: setattr(net, "params", params[1:]),
            "^Network: params must have shape",
        ),
        (lambda: setattr(net, "params", 0.0), "^Network: params must have shape"),
        (lambda: setattr(net.layers[0], "w", x), "^Dense: w must have shape"),
        (lambda: setattr(net.layers[0], "b", x[0]), "^Dense: b must have shape"),
    ]:
        with pytest.raises(ShapeError, match=message):
            call()
        assert_same_bits(net.params, params)
        assert_same_bits(net.grads, grads)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_training_data_is_finite(bad):
    net, (x, t) = network(), training_data()
    params = net.params.copy()
    x[2, 1] = bad
    with pytest.raises(
        ValueError, match="x contains NaN or infinity at row 2, column 1"
    ):
        net.fit(x, t)
    x[2, 1] = 0
    t[3, 0] = bad
    with pytest.raises(
        ValueError, match="t contains NaN or infinity at row 3, column 0"
    ):
        net.fit(x, t)
    classes = siglin.Network([N_IN, 2], loss="cross_entropy")
    with pytest.raises(
        ValueError, match="t contains NaN or infinity at row 1, column 0"
    ):
        classes.fit(x, [0, bad, 1, 0])
    linear = siglin.Network([1, 1], loss="squared_error")
    with pytest.raises(
        ValueError, match="t contains NaN or infinity at row 1, column 0"
    ):
        linear.fit([[1], [2]], [0.0, bad])
    assert_same_bits(net.params, params)


@pytest.mark.parametrize("bad", [-0.25, 1.25, np.nan])
def test_targets_of_bce_are_between_0_and_1(bad):
    net, (x, t) = network(), training_data()
    net.forward(x)
    t[1, 1] = bad
    for call in [
        lambda: net.loss(x, t),
        lambda: net.loss_and_grads(x, t),
        lambda: net.backward(t),
    ]:
        with pytest.raises(ValueError, match=r"outside \[0, 1\] at row 1, column 1"):
            call()
    with pytest.raises(ValueError, match="at row 1, column 1"):
        net.fit(x, t)
    assert (net.grads == 0).all()


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        ([0, 1, 3, 2], ValueError, "class numbers from 0 to 2, got 3.* at row 2"),
        ([0, 1, -1, 2], ValueError, "class numbers from 0 to 2, got -1.* at row 2"),
        ([0, 0.5, 1, 2], ValueError, "class numbers from 0 to 2, got 0.5 at row 1"),
        ([0, 1, 2], ShapeError, r"t must have shape \(4,\)"),
        ([[0], [1], [2], [1]], ShapeError, r"t must have shape \(4, 3\)"),
        ([[1, 0, 0]] * 3 + [[0, 0, 0]], ValueError, "one-hot .*row 3 sums to 0"),
        ([[1, 0, 0]] * 3 + [[1, 1, 0]], ValueError, "one-hot .*row 3 sums to 2"),
        ([[1, 0, 0]] * 3 + [[2, -1, 0]], ValueError, r"outside \[0, 1\] at row 3"),
        (["a", "b", "c", "a"], DTypeError, "t must be float32 or float64"),
        ([0, np.nan, 1, 2], ValueError, "got nan at row 1|NaN .* at row 1, column 0"),
    ],
)
def test_targets_of_cross_entropy(t, error, message):
    net = siglin.Network([3, 3], loss="cross_entropy", seed=0)
    x, _ = training_data()
    for call in (net.loss, net.loss_and_grads, net.fit):
        with pytest.raises(error, match=message):
            call(x, t)


def test_backward_needs_forward():
    net = network()
    for call in [
        lambda: net.backward(np.ones((1, 2))),
        lambda: net.backward_from(np.ones((1, 2))),
        lambda: siglin.Dense(2, 1).backward(np.ones((1, 1))),
    ]:
        with pytest.raises(RuntimeError, match="forward comes first"):
            call()


def test_softmax_is_for_networks():
    with pytest.raises(ValueError, match=r"softmax.*network"):
        siglin.Dense(2, 2, "softmax").forward(np.ones((1, 2)))


def test_no_bias_to_set():
    layer = siglin.Dense(2, 1, bias=False)
    layer.b = None
    for name in ("b", "db"):
        with pytest.raises(ValueError, match=f"{name} cannot be set"):
            setattr(layer, name, np.ones(1))
    with pytest.raises(TypeError, match="b must be an array, got None"):
        siglin.Dense(2, 1).b = None


@pytest.mark.parametrize(
    "name", ["n_in", "n_out", "activation", "dtype", "n_params", "bias", "network"]
)
def test_what_a_layer_is_does_not_change(name):
    with pytest.raises(AttributeError):
        setattr(siglin.Dense(2, 1), name, 3)


# ---- fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": 0}, ValueError, "lr must be > 0"),
        ({"lr": -0.1}, ValueError, "lr must be > 0"),
        ({"epochs": -1}, ValueError, "epochs must be"),
        ({"epochs": 1.0}, TypeError, "epochs must be an int"),
        ({"epochs": True}, TypeError, "epochs must be an int"),
        ({"epochs": None}, TypeError, "epochs must be an int"),
        ({"epochs": 10**30}, ValueError, "epochs must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": -5}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an int"),
        ({"batch_size": True}, TypeError, "batch_size must be an int"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
        ({"shuffle": None}, TypeError, "shuffle must be True or False"),
        ({"tol": -1e-9}, ValueError, "tol must be >= 0"),
        ({"tol": np.nan}, ValueError, "tol must be finite"),
        ({"tol": "0"}, TypeError, "tol must be a real number"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"progress": 0}, ValueError, "progress must be"),
        ({"progress": -3}, ValueError, "progress must be"),
        ({"progress": 2.0}, TypeError, "progress must be an int"),
        ({"progress": "yes"}, TypeError, "progress must be an int"),
        ({"progress": None}, TypeError, "progress must be an int"),
        ({"optimizer": "sgd"}, ValueError, "optimizer must be one of gd, momentum"),
        ({"optimizer": None}, TypeError, "optimizer must be one of"),
        ({"optimizer": siglin.Adam}, TypeError, "optimizer must be one of"),
    ],
)
def test_wrong_options_of_fit(options, error, message):
    net = network()
    before = net.params.copy()
    with pytest.raises(error, match=f"^fit: {message}"):
        net.fit(*training_data(), **options)
    assert_same_bits(net.params, before)
    net.fit(*training_data())  # not left busy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: siglin.Momentum(1.0), r"^Momentum: momentum must be in \[0, 1\)"),
        (lambda: siglin.Nesterov(-0.1), r"^Nesterov: momentum must be in \[0, 1\)"),
        (lambda: siglin.Adam(beta1=1), r"^Adam: beta1 must be in \[0, 1\)"),
        (lambda: siglin.Adam(beta2=-1), r"^Adam: beta2 must be in \[0, 1\)"),
        (lambda: siglin.Adam(beta2=np.nan), "^Adam: beta2 must be finite"),
        (lambda: siglin.Adam(eps=0), "^Adam: eps must be > 0"),
    ],
)
def test_wrong_options_of_optimizers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_optimizer_of_another_network():
    optimizer = siglin.Adam()
    siglin.Neuron(2).fit([[1, 2]], [1], optimizer=optimizer)
    other = siglin.Neuron(3)
    with pytest.raises(ValueError, match="memory of another network"):
        other.fit([[1, 2, 3]], [1], optimizer=optimizer)
    with pytest.raises(ValueError, match="memory of another network"):
        siglin.Neuron(2, dtype="float32").fit([[1, 2]], [1], optimizer=optimizer)
    assert (other.params == 0).all()
    optimizer.reset()
    other.fit([[1, 2, 3]], [1], optimizer=optimizer)


# ---- perceptron ----------------------------------------------------------------------


def test_wrong_data_of_perceptron():
    perceptron = siglin.Perceptron(2)
    x, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.0, 1.0])
    nan = np.array([[1.0, 2.0], [np.nan, 4.0]])
    for call, error, message in [
        (lambda: perceptron.fit(x, [0, 2]), ValueError, "t must be 0 or 1, got 2"),
        (
            lambda: perceptron.fit(x, [0, np.nan]),
            ValueError,
            "t must be 0 or 1, got nan",
        ),
        (
            lambda: perceptron.fit(nan, t),
            ValueError,
            "x contains NaN .* row 1, column 0",
        ),
        (lambda: perceptron.fit(x, [0]), ShapeError, "t must have shape"),
        (lambda: perceptron.fit(x, x), ShapeError, "t must have shape"),
        (lambda: perceptron.fit(x[:, :1], t), ShapeError, "x must have 2 columns"),
        (lambda: perceptron.fit(x[:0], t[:0]), ShapeError, "no rows"),
        (lambda: perceptron.fit(x, t, epochs=-1), ValueError, "epochs must be"),
        (lambda: perceptron.fit(x, t, epochs=1.5), TypeError, "epochs must be an int"),
        (lambda: perceptron.fit(x.astype("f4"), t), DTypeError, "x must be float64"),
        (
            lambda: setattr(perceptron, "theta", [1]),
            ShapeError,
            "theta must have shape",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()
        assert (perceptron.theta == 0).all()


# ---- arrays that are larger than memory ----------------------------------------------

PRETENDERS = """
import resource
import numpy as np
import siglin

# Whatever is tried, it must not take the machine's memory.
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))

def wide(*shape):
    return np.broadcast_to(np.float64(1), shape)

def kind(call):
    try:
        return type(call()).__name__
    except (ValueError, MemoryError) as error:
        return type(error).__name__

one = np.ones((1, 1))
many, row = wide(2**40, 1), np.ones((1, 2**10))
net = siglin.Network([1, 2**10], seed=0)
before = net.params.copy()
print(
    kind(lambda: siglin.forward(wide(2**62, 1), np.ones((1, 4)))),
    kind(lambda: siglin.forward(wide(2**31, 1), wide(1, 2**31))),
    kind(lambda: siglin.forward(wide(2**33, 3), wide(3, 2**31))),
    kind(lambda: siglin.forward(many, row)),
    kind(lambda: siglin.forward(wide(2**50, 2**10), row)),
    kind(lambda: siglin.backward(many, one, many, many)),
    kind(lambda: siglin.backward_update(many, one.copy(), None, many, many, 0.1)),
    kind(lambda: siglin.sigmoid(wide(2**60))),
    kind(lambda: net.predict(many)),
    kind(lambda: net.predict(wide(2**50, 3))),
    kind(lambda: net.loss(wide(2**40, 1), wide(3, 2**10))),
    kind(lambda: siglin.Network([2**14, 2**15])),
)
print((net.params == before).all(), siglin.sigmoid(0.0), siglin.forward(one, one).shape)
"""


@pytest.mark.timing
def test_arrays_that_are_larger_than_memory():
    code, said = run_python(PRETENDERS)
    assert code == 0
    kinds, after = said.splitlines()
    assert set(kinds.split()) <= {"ValueError", "ShapeError", "MemoryError"}
    assert after == "True 0.5 (1, 1)"
