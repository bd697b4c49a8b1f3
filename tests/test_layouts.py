"""Whatever lies in memory however, or is no array at all: the same bits, or an error.

An argument in any layout gives the bits of its contiguous copy, and is not changed.
"""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siglin
from helpers import assert_same_bits, layouts

ROWS, N_IN, N_OUT = 5, 7, 3

# Every layout that helpers.layouts makes of a matrix, and of a vector.
MATRIX_LAYOUTS = list(layouts(np.ones((3, 2))))
VECTOR_LAYOUTS = list(layouts(np.ones(3)))
CUBE_LAYOUTS = list(layouts(np.ones((2, 3, 2))))


def make_arguments(rng, dtype):
    """Return the arrays of one layer."""
    x = rng.normal(size=(ROWS, N_IN)).astype(dtype)
    w = rng.normal(size=(N_IN, N_OUT)).astype(dtype)
    b = rng.normal(size=N_OUT).astype(dtype)
    z = siglin.forward(x, w, b, activation="identity")
    da = rng.normal(size=(ROWS, N_OUT)).astype(dtype)
    return {"x": x, "w": w, "b": b, "a": siglin.sigmoid(z), "da": da, "z": z}


def forward(x, w, b, **_):
    return [siglin.forward(x, w, b)]


def backward(x, w, a, da, z, **_):
    return [*siglin.backward(x, w, a, da), *siglin.backward(x, w, a, da, z=z)]


def backward_update(x, w, b, a, da, z):
    """Return dx, and w and b as they are after the step, in contiguous copies."""
    dx = siglin.backward_update(x, w, b, a, da, 0.1, z=z)
    return [dx, np.ascontiguousarray(w), np.ascontiguousarray(b)]


def layout_of(array, layout):
    """Return the array in that layout; constant where a stride of 0 asks for it."""
    if "stride 0" in layout:
        array = np.full_like(array, array.flat[0])
    return layouts(array)[layout]


def snapshot(array):
    """Return the bytes that an array's values take, wherever they lie."""
    return array.tobytes(), array.dtype.str, array.strides


def check_layout(function, arguments, name, layout):
    """Check that one argument in a layout gives the bits of its contiguous copy."""
    variant = layout_of(arguments[name], layout)
    # A native copy of its own for each call: backward_update writes into w and b.
    plain = {n: a.copy() for n, a in arguments.items()}
    native = np.ascontiguousarray(variant, dtype=arguments[name].dtype).copy()
    want = function(**(plain | {name: native}))
    others = {n: a.copy() for n, a in arguments.items()}
    before = snapshot(variant)
    got = function(**(others | {name: variant}))
    for have, right in zip(got, want, strict=True):
        assert_same_bits(have.astype(right.dtype), right)
    return before, snapshot(variant)


# ---- inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", CUBE_LAYOUTS)
def test_sigmoid_of_any_layout(layout, rng, dtype):
    z = rng.normal(size=(4, 3, 5)).astype(dtype) * 9
    variant = layout_of(z, layout)
    before = snapshot(variant)
    assert_same_bits(siglin.sigmoid(variant), siglin.sigmoid(z))
    assert snapshot(variant) == before


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
@pytest.mark.parametrize("name", ["x", "w"])
@pytest.mark.usefixtures("target")
def test_forward_of_any_layout(name, layout, rng, dtype):
    before, after = check_layout(forward, make_arguments(rng, dtype), name, layout)
    assert after == before


@pytest.mark.parametrize("layout", VECTOR_LAYOUTS)
def test_forward_of_any_layout_of_b(layout, rng, dtype):
    before, after = check_layout(forward, make_arguments(rng, dtype), "b", layout)
    assert after == before


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
@pytest.mark.parametrize("name", ["x", "w", "a", "da", "z"])
def test_backward_of_any_layout(name, layout, rng, dtype):
    before, after = check_layout(backward, make_arguments(rng, dtype), name, layout)
    assert after == before


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
@pytest.mark.parametrize("name", ["x", "a", "da", "z"])
def test_backward_update_of_any_layout(name, layout, rng, dtype):
    arguments = make_arguments(rng, dtype)
    before, after = check_layout(backward_update, arguments, name, layout)
    assert after == before


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
def test_update_of_any_layout_of_grad(layout, rng, dtype):
    grad = layout_of(rng.normal(size=(4, 6)).astype(dtype), layout)
    before = snapshot(grad)
    got, want = np.ones((4, 6), dtype), np.ones((4, 6), dtype)
    siglin.update(got, grad, 0.3)
    siglin.update(want, np.ascontiguousarray(grad, dtype=dtype).copy(), 0.3)
    assert_same_bits(got, want)
    assert snapshot(grad) == before


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
def test_network_of_any_layout(layout, rng, dtype):
    net = siglin.Network([N_IN, 4, 2], dtype=dtype, seed=1)
    x = layout_of(rng.normal(size=(ROWS, N_IN)).astype(dtype), layout)
    t = layout_of(rng.uniform(size=(ROWS, 2)).astype(dtype), layout)
    before = snapshot(x), snapshot(t)
    plain_x = np.ascontiguousarray(x, dtype=dtype).copy()
    plain_t = np.ascontiguousarray(t, dtype=dtype).copy()
    assert_same_bits(net.predict(x), net.predict(plain_x))
    assert net.loss(x, t) == net.loss(plain_x, plain_t)

    assert_same_bits(net.forward(x), net.forward(plain_x))
    net.forward(x)
    net.backward(t)
    grads = net.grads.copy()
    net.forward(plain_x)
    net.backward(plain_t)
    assert_same_bits(grads, net.grads)

    layer = siglin.Dense(N_IN, 2, dtype=dtype, seed=1)
    layer.forward(x)
    dx, dw = layer.backward(t), layer.dw.copy()
    layer.forward(plain_x)
    assert_same_bits(dx, layer.backward(plain_t))
    assert_same_bits(dw, layer.dw)

    one, two = siglin.Network([N_IN, 4, 2], dtype=dtype, seed=1), net
    one.fit(x, t, epochs=2, batch_size=2)
    two.fit(plain_x, plain_t, epochs=2, batch_size=2)
    assert_same_bits(one.params, two.params)
    assert (snapshot(x), snapshot(t)) == before


# ---- arrays that are written to ------------------------------------------------------

WRITABLE = [name for name in MATRIX_LAYOUTS if name[:8] not in ("read-onl", "stride 0")]
WRITABLE_VECTORS = [name for name in VECTOR_LAYOUTS if name != "read-only"]


@pytest.mark.parametrize("layout", WRITABLE)
def test_backward_update_writes_into_any_layout_of_w(layout, rng, dtype):
    before, after = check_layout(
        backward_update, make_arguments(rng, dtype), "w", layout
    )
    assert after != before
    assert after[1:] == before[1:]


@pytest.mark.parametrize("layout", WRITABLE_VECTORS)
def test_backward_update_writes_into_any_layout_of_b(layout, rng, dtype):
    before, after = check_layout(
        backward_update, make_arguments(rng, dtype), "b", layout
    )
    assert after != before


@pytest.mark.parametrize("layout", WRITABLE)
def test_update_writes_into_any_layout(layout, rng, dtype):
    start = rng.normal(size=(4, 6)).astype(dtype)
    grad = rng.normal(size=(4, 6)).astype(dtype)
    param, want = layout_of(start, layout), start.copy()
    siglin.update(param, grad, 0.3)
    siglin.update(want, grad, 0.3)
    assert_same_bits(param.astype(dtype), want)


def test_a_step_between_elements_leaves_those_in_between_alone(rng, dtype):
    buffer = rng.normal(size=(8, 12)).astype(dtype)
    rest = buffer.copy()
    siglin.update(buffer[::2, ::3], np.ones((4, 4), dtype), 1.0)
    assert (buffer[::2, ::3] != rest[::2, ::3]).all()
    buffer[::2, ::3] = rest[::2, ::3]
    assert_same_bits(buffer, rest)


def test_interleaved_param_and_grad_share_no_element(dtype):
    buffer = np.arange(20, dtype=dtype)
    siglin.update(buffer[::2], buffer[1::2], 1.0)
    np.testing.assert_array_equal(buffer[::2], -np.ones(10))


@pytest.mark.parametrize(
    "layout", [name for name in WRITABLE if name != "byte-swapped"]
)
def test_out_of_any_layout(layout, rng, dtype):
    arguments = make_arguments(rng, dtype)
    x, w, b = arguments["x"], arguments["w"], arguments["b"]
    net = siglin.Network([N_IN, N_OUT], dtype=dtype, seed=1)
    perceptron = siglin.Perceptron(N_IN, dtype=dtype)
    perceptron.theta = w[:, 0]
    for call, columns in [
        (lambda out: siglin.forward(x, w, b, out=out), N_OUT),
        (lambda out: net.predict(x, out=out), N_OUT),
        (lambda out: perceptron.predict(x, out=out), 1),
        (lambda out: siglin.sigmoid(x[:, :N_OUT], out=out), N_OUT),
    ]:
        out = layout_of(np.full((ROWS, columns), 7, dtype), layout)
        assert call(out) is out
        assert_same_bits(out.copy(), call(None))


def test_sigmoid_in_place(rng, dtype):
    z = rng.normal(size=(3, 8)).astype(dtype)
    want = siglin.sigmoid(z)
    assert siglin.sigmoid(z, out=z) is z
    assert_same_bits(z, want)


@pytest.mark.parametrize("shift", [-64, -17, -3, -1, 0, 1, 2, 5, 16, 33, 64])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_sigmoid_into_overlapping_memory(shift, step, rng, dtype):
    buffer = rng.normal(size=400).astype(dtype)
    want = siglin.sigmoid(buffer[100:300].copy())
    out = buffer[100 + shift : 300 + shift][:: abs(step)][:: np.sign(step)]
    z = buffer[100:300][:: abs(step)]
    want = siglin.sigmoid(z.copy())
    siglin.sigmoid(z, out=out)
    assert_same_bits(out.copy(), want)


# ---- other kinds of arguments --------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [bool, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float16]
)
@pytest.mark.parametrize("name", ["x", "w", "b"])
def test_other_numbers_become_the_dtype_of_the_call(kind, name, rng, dtype):
    arguments = make_arguments(rng, dtype)
    numbers = (np.abs(arguments[name]) * 2).astype(kind)
    got = forward(**(arguments | {name: numbers}))
    want = forward(**(arguments | {name: numbers.astype(dtype)}))
    assert_same_bits(got[0], want[0])


def test_without_float_arrays_the_dtype_is_float64():
    x, w = [[1, 2], [3, 4]], np.ones((2, 3), np.float16)
    assert_same_bits(
        siglin.forward(x, w), siglin.forward(np.array(x, float), np.ones((2, 3)))
    )
    assert siglin.sigmoid(np.arange(3)).dtype == np.float64
    assert siglin.sigmoid(np.ones(3, np.float16)).dtype == np.float64
    assert siglin.sigmoid([True, False]).dtype == np.float64


def test_lists_follow_out():
    out = np.empty(2, np.float32)
    assert siglin.sigmoid([0, 1], out=out) is out
    assert_same_bits(out, siglin.sigmoid(np.array([0, 1], np.float32)))


def test_a_list_of_arrays_follows_the_call(rng):
    x = rng.normal(size=(2, 3))
    w = rng.normal(size=(3, 2)).astype(np.float32)
    got = siglin.forward(list(x), w)
    assert_same_bits(got, siglin.forward(x.astype(np.float32), w))


def test_network_takes_its_own_dtype(rng, dtype):
    net = siglin.Network([3, 1], dtype=dtype, seed=0)
    x = rng.integers(-3, 4, size=(4, 3))
    assert_same_bits(net.predict(x), net.predict(x.astype(dtype)))
    assert_same_bits(net.predict(x.tolist()), net.predict(x.astype(dtype)))
    assert net.loss(x, [0, 1, 1, 0]) == net.loss(
        x.astype(dtype), np.array([[0], [1], [1], [0]], dtype)
    )


class WithArray:
    """An array-like as pandas has them."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype, copy=copy)


class WithDLPack:
    """An array of another library that only speaks DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "wrap",
    [
        WithArray,
        WithDLPack,
        memoryview,
        np.matrix,
        np.ma.array,
        lambda a: np.ma.array(a, mask=np.zeros(a.shape, bool)),
        lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    ],
    ids=[
        "__array__",
        "DLPack",
        "buffer",
        "matrix",
        "ma",
        "ma without mask",
        "subclass",
    ],
)
def test_array_likes(wrap, rng, dtype):
    arguments = make_arguments(rng, dtype)
    x = arguments["x"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # np.matrix
        wrapped = wrap(x)
    for got, want in [
        (siglin.sigmoid(wrapped), siglin.sigmoid(x)),
        (forward(**(arguments | {"x": wrapped}))[0], forward(**arguments)[0]),
    ]:
        assert type(got) is np.ndarray
        assert_same_bits(got, want)
    # Its dtype counts: it is no list.
    other = np.float64 if dtype == np.float32 else np.float32
    with pytest.raises(siglin.DTypeError):
        siglin.forward(wrapped, arguments["w"].astype(other))


def test_memmap(tmp_path, rng, dtype):
    x = rng.normal(size=(ROWS, N_IN)).astype(dtype)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", dtype, "r", shape=x.shape)
    assert_same_bits(siglin.sigmoid(mapped), siglin.sigmoid(x))
    net = siglin.Network([N_IN, 1], dtype=dtype, seed=0)
    assert_same_bits(net.predict(mapped), net.predict(x))


def test_without_dimensions_the_result_is_a_scalar(dtype):
    for z in (dtype.type(0.25), np.array(0.25, dtype)):
        got = siglin.sigmoid(z)
        assert type(got) is dtype.type
        assert got == siglin.sigmoid(np.array([0.25], dtype))[0]
    assert type(siglin.sigmoid(0.25)) is np.float64
    assert type(siglin.sigmoid(1)) is np.float64
    out = np.empty((), dtype)
    assert siglin.sigmoid(np.array(0.25, dtype), out=out) is out
    assert out == siglin.sigmoid(dtype.type(0.25))


def test_a_scalar_has_a_dtype_and_a_number_has_none():
    out = np.empty((), np.float32)
    assert siglin.sigmoid(0.5, out=out) is out
    with pytest.raises(siglin.DTypeError):
        siglin.sigmoid(np.float64(0.5), out=out)


def test_strides_that_cross_and_do_not_meet():
    out = np.lib.stride_tricks.as_strided(np.zeros(8), (3, 2), (16, 24))
    z = np.arange(6.0).reshape(3, 2)
    assert siglin.sigmoid(z, out=out) is out
    assert_same_bits(out.copy(), siglin.sigmoid(z))


# ---- empty arrays --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_sigmoid_of_nothing(shape, dtype):
    got = siglin.sigmoid(np.empty(shape, dtype))
    assert got.shape == shape
    assert got.dtype == dtype


@pytest.mark.parametrize(
    "sizes",
    [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 3), (0, 2, 0), (4, 0, 0), (0, 0, 0)],
)
def test_layer_of_nothing(sizes, dtype):
    rows, n_in, n_out = sizes
    x, w = np.ones((rows, n_in), dtype), np.ones((n_in, n_out), dtype)
    b = np.linspace(-1, 1, n_out).astype(dtype)
    a = siglin.forward(x, w, b)
    assert a.shape == (rows, n_out)
    if n_in == 0:
        assert_same_bits(a, np.tile(siglin.sigmoid(b), (rows, 1)))
    dx, dw, db = siglin.backward(x, w, a, np.ones_like(a))
    assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)
    assert (dw == 0).all()
    assert siglin.backward_update(x, w, b, a, a, 0.1).shape == x.shape
    if rows == 0:
        assert (w == 1).all()
        assert_same_bits(b, np.linspace(-1, 1, n_out).astype(dtype))


def test_empty_batch_through_a_network(dtype):
    net = siglin.Network([2, 3, 4], dtype=dtype, seed=0)
    for a in (
        net.predict(np.empty((0, 2), dtype)),
        net.forward(np.empty((0, 2), dtype)),
    ):
        assert a.shape == (0, 4)
        assert a.dtype == dtype
    assert siglin.Perceptron(2).predict(np.empty((0, 2))).shape == (0, 1)


# ---- whatever is passed --------------------------------------------------------------

VALUES = [
    None,
    0,
    1.5,
    "text",
    b"bytes",
    [],
    [[]],
    [1, [2, 3]],
    {"a": 1},
    object(),
    np.nan,
    np.zeros(()),
    np.ones((2, 2)),
    np.ones((2, 2), np.float32),
    np.asfortranarray(np.ones((2, 3))),
    np.broadcast_to(np.float64(2), (2, 2)),
    np.lib.stride_tricks.as_strided(np.ones(4), (2, 3), (8, 8)),
    np.ones((2, 2), complex),
    np.ones((2, 2), ">f8"),
    np.ones((2, 2), np.longdouble),
    np.ones((2, 2), "i1"),
    np.array([["a", "b"]]),
    np.array([[None, 1]], object),
    np.zeros((2, 2), "m8[s]"),
    np.zeros(2, [("a", "f8")]),
    np.ones((2, 2, 2)),
    np.empty((0, 2)),
    np.empty((2, 0)),
    np.ma.masked_equal([[1.0, 2.0]], 2.0),
    np.full((2, 2), np.nan),
    np.array([1.0, 2.0]),
]


def frozen(value):
    """Return what must not change of a value that is passed."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.tobytes(), value.shape, value.strides
    return repr(value)


VALUE = st.sampled_from(VALUES)


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_is_passed_crashes_or_changes(data):
    """A result or one of four kinds of error; inputs as they were."""
    x, w, b, a, da = (data.draw(VALUE) for _ in range(5))
    extra = data.draw(VALUE)
    net = siglin.Network([2, 2], seed=0)
    params = net.params.copy()
    calls = [
        lambda: siglin.sigmoid(x),
        lambda: siglin.forward(x, w, b),
        lambda: siglin.backward(x, w, a, da, z=extra),
        lambda: siglin.Network(extra),
        lambda: siglin.Dense(x, w),
        lambda: net.predict(x),
        lambda: net.loss(x, da),
        lambda: net.fit(x, da, epochs=extra),
        lambda: siglin.Perceptron(2).fit(x, da, epochs=2),
    ]
    call = data.draw(st.sampled_from(calls))
    before = [frozen(v) for v in (x, w, b, a, da, extra)]
    with np.errstate(all="raise"):
        try:
            call()
        except (TypeError, ValueError, siglin.DivergenceError):
            assert_same_bits(net.params, params)
    assert [frozen(v) for v in (x, w, b, a, da, extra)] == before
