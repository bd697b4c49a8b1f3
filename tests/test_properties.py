"""Properties of the strict layer over drawn shapes, layouts and values.

Whatever the layout, the result has the bits of a contiguous copy; whatever the values,
no input changes and nothing is raised. Failures are printed as the smallest example.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import tolerance, wider
from siglin import _core

Array = npt.NDArray[Any]

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    # The fixtures are a name of a target and a dtype: the same in every example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DTYPES = [np.float32, np.float64]
ACTIVATIONS = [name for name in _core.activations() if name != "step"]
# Small, with the borders of vectors and tiles; now and then past a block of depth.
SIZE = st.one_of(st.integers(0, 9), st.sampled_from([12, 13, 16, 17, 31, 33, 64, 65]))
DEPTH = st.one_of(SIZE, st.sampled_from([383, 384, 385, 769]))
DTYPE = st.sampled_from(DTYPES)


def values(dtype: Any) -> Any:
    """Draw a few numbers that arrays are made of: any at all, subnormal, inf and NaN."""
    width = 32 if dtype == np.float32 else 64
    special = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max]
    tiny = [np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny]
    return st.lists(
        st.one_of(
            st.floats(-8, 8, width=width),
            st.floats(width=width),
            st.sampled_from([float(v) for v in special + tiny]),
        ),
        min_size=1,
        max_size=6,
    )


def array(data: st.DataObject, dtype: Any, shape: tuple[int, ...], some: Any) -> Array:
    """Draw a contiguous array of the numbers `some`, at places that a seed picks."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    return rng.choice(np.array(some, dtype), shape)


def layout(data: st.DataObject, v: Array, *, written: bool = False) -> Array:
    """Draw another place and row stride for the values of a matrix."""
    rows, cols = v.shape
    gap = data.draw(st.integers(0, 5), "gap between rows")
    offset = data.draw(st.integers(0, 9), "offset")
    buffer = np.full(offset + rows * (cols + gap) + 9, 7, v.dtype)
    size = rows * (cols + gap)
    matrix = buffer[offset : offset + size].reshape(rows, cols + gap)[:, :cols]
    if not written and data.draw(st.booleans(), "rows run backwards"):
        matrix = matrix[::-1]
    matrix[...] = v
    if not written and rows and (v == v[:1]).all() and data.draw(st.booleans(), "0"):
        matrix = np.broadcast_to(matrix[:1], v.shape)
    if not written:
        matrix.flags.writeable = False
    return matrix


def assert_equal_results(got: Any, want: Any) -> None:
    """Assert the same bits. Of a NaN only that it is one: whose it is may differ."""
    got, want = (v if isinstance(v, tuple) else (v,) for v in (got, want))
    for g, w in zip(got, want, strict=True):
        if w is None:
            assert g is None
            continue
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)  # NaN equals NaN
        np.testing.assert_array_equal(
            np.signbit(g) & ~np.isnan(g), np.signbit(w) & ~np.isnan(w)
        )


def call_unchanged(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments), none of which may change."""
    before = [v.tobytes() if isinstance(v, np.ndarray) else v for v in arguments]
    with np.errstate(all="raise"):
        result = function(*arguments)
    after = [v.tobytes() if isinstance(v, np.ndarray) else v for v in arguments]
    assert after == before
    return result


@SETTINGS
@given(data=st.data())
def test_sigmoid_is_elementwise(target: str, data: st.DataObject) -> None:
    dtype = data.draw(DTYPE)
    shape = tuple(data.draw(st.lists(SIZE, max_size=2)))
    z = array(data, dtype, shape, data.draw(values(dtype)))
    a = call_unchanged(_core.activate, z, "sigmoid")
    assert np.array_equal(np.isnan(a), np.isnan(z))
    real = ~np.isnan(z)
    assert np.all((a[real] >= 0) & (a[real] <= 1))
    assert np.all((a[real] >= 0.5) == (z[real] > -np.finfo(dtype).eps))
    one_by_one = [
        _core.activate(z.ravel()[i : i + 1], "sigmoid") for i in range(z.size)
    ]
    alone = np.concatenate([np.empty(0, dtype), *one_by_one]).reshape(shape)
    assert_equal_results(a, alone)
    assert_equal_results(_core.activate(z, "sigmoid", z), a)


@SETTINGS
@given(data=st.data())
def test_forward_of_any_layout_and_value(target: str, data: st.DataObject) -> None:
    dtype, activation = data.draw(DTYPE), data.draw(st.sampled_from(ACTIVATIONS))
    m, k, n = data.draw(SIZE), data.draw(DEPTH), data.draw(SIZE)
    some = data.draw(values(dtype))
    x, w, b = (array(data, dtype, shape, some) for shape in [(m, k), (k, n), (n,)])
    want = _core.forward(x, w, b, activation)
    views = layout(data, x), layout(data, w)
    got = call_unchanged(_core.forward, *views, b, activation)
    assert_equal_results(got, want)
    assert_equal_results(_core.layer_forward(*views, b, activation)[0], want)

    out = layout(data, np.zeros((m, n), dtype), written=True)
    base = out.base
    assert base is not None
    before = base.copy()
    assert _core.forward(*views, b, activation, out) is out
    assert_equal_results(out, want)
    out[...] = 0
    assert_equal_results(base, before)  # nothing beside `out` was written

    if m:
        i = data.draw(st.integers(0, m - 1), "row")
        alone = _core.forward(x[i : i + 1], w, b, activation)
        assert_equal_results(alone, want[i : i + 1])


@SETTINGS
@given(data=st.data())
def test_forward_is_within_the_bound(target: str, data: st.DataObject) -> None:
    dtype = data.draw(DTYPE)
    m, k, n = data.draw(SIZE), data.draw(DEPTH), data.draw(SIZE)
    some = data.draw(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6))
    x, w, b = (array(data, dtype, shape, some) for shape in [(m, k), (k, n), (n,)])
    got = _core.forward(x, w, b, "identity")
    wx, ww, wb = wider(x), wider(w), wider(b)
    # A product of subnormal numbers may lose up to one smallest number each.
    lost = (k + 1) * float(np.finfo(dtype).smallest_subnormal)
    allowed = tolerance(dtype, k) * (np.abs(wx) @ np.abs(ww) + np.abs(wb)) + lost
    assert np.all(np.abs(wx @ ww + wb - got) <= allowed)


@SETTINGS
@given(data=st.data())
def test_backward_of_any_layout_and_value(target: str, data: st.DataObject) -> None:
    dtype, activation = data.draw(DTYPE), data.draw(st.sampled_from(ACTIVATIONS))
    m, k, n = data.draw(DEPTH), data.draw(SIZE), data.draw(SIZE)
    some = data.draw(values(dtype))
    shapes = [(m, k), (k, n), (m, n), (m, n), (m, n)]
    x, w, a, da, z = (array(data, dtype, shape, some) for shape in shapes)
    maybe_z = data.draw(st.booleans(), "z given")
    need_dx = data.draw(st.booleans(), "dx")
    want = _core.backward(x, w, a, da, activation, z if maybe_z else None, need_dx)
    views = [layout(data, v) for v in (x, w, a, da, z)]
    view_of_z = views[4] if maybe_z else None
    got = call_unchanged(_core.backward, *views[:4], activation, view_of_z, need_dx)
    assert_equal_results(got, want)
    dx, dw, db = want
    assert (dx is not None) == need_dx
    assert (dw.shape, db.shape) == ((k, n), (n,))

    lr = data.draw(st.sampled_from([0.1, 0.0, -2.0]))
    new_w, new_b = layout(data, w, written=True), np.ones(n, dtype)
    plain_w, plain_b = w.copy(), np.ones(n, dtype)
    _core.update(plain_w, dw, lr)
    _core.update(plain_b, db, lr)
    got_dx = _core.backward_update(
        views[0], new_w, new_b, *views[2:4], lr, activation, view_of_z, need_dx
    )
    assert_equal_results((got_dx, new_w, new_b), (dx, plain_w, plain_b))


@SETTINGS
@given(data=st.data())
def test_layer_backward_of_any_layout_and_value(
    target: str, data: st.DataObject
) -> None:
    dtype = data.draw(DTYPE)
    m, k, n = data.draw(DEPTH), data.draw(SIZE), data.draw(SIZE)
    some = data.draw(values(dtype))
    shapes = [(m, k), (k, n), (m, n), (m, n)]
    plain = [array(data, dtype, shape, some) for shape in shapes]
    views = [layout(data, v) for v in plain]
    results = []
    for arguments in (plain, views):
        dw, db = np.full((k, n), 7, dtype), np.full(n, 7, dtype)
        before = [v.tobytes() for v in arguments]
        dx = _core.layer_backward(*arguments, dw, db)
        assert [v.tobytes() for v in arguments] == before
        results.append((dx, dw, db))
    assert_equal_results(results[1], results[0])
    with np.errstate(all="ignore"):
        dz = plain[2] * plain[3]
    identity = _core.backward(*plain[:2], dz, dz, "identity")
    assert_equal_results(results[0], identity)


@SETTINGS
@given(data=st.data())
def test_update_of_any_layout_and_value(target: str, data: st.DataObject) -> None:
    dtype = data.draw(DTYPE)
    shape = (data.draw(SIZE), data.draw(SIZE))
    some = data.draw(values(dtype))
    param, grad = (array(data, dtype, shape, some) for _ in range(2))
    lr = data.draw(st.floats(-8, 8, width=32))
    got, view = layout(data, param, written=True), layout(data, grad)
    before = view.tobytes()
    _core.update(got, view, lr)
    assert view.tobytes() == before
    want = param.copy()
    _core.update(want, grad, lr)
    assert_equal_results(got, want)
    flat = param.ravel().copy()
    for i in range(flat.size):
        _core.update(flat[i : i + 1], grad.ravel()[i : i + 1], lr)
    assert_equal_results(flat.reshape(shape), want)
    if np.float32(lr) == 0:
        assert_equal_results(want, param)


@SETTINGS
@given(data=st.data())
def test_first_outside_of_any_layout_and_value(
    target: str, data: st.DataObject
) -> None:
    dtype = data.draw(DTYPE)
    shape = (data.draw(SIZE), data.draw(SIZE))
    x = array(data, dtype, shape, data.draw(values(dtype)))
    low, high = data.draw(st.sampled_from([(0.0, 1.0), (-8.0, 8.0), (-1e308, 1e308)]))
    outside = ~((x.astype(np.float64) >= low) & (x.astype(np.float64) <= high))
    if dtype == np.float32 and high > 1e300:
        outside = ~np.isfinite(x)
    want = int(outside.argmax()) if outside.any() else -1
    assert call_unchanged(_core.first_outside, layout(data, x), low, high) == want


def test_the_comparison_of_results_can_fail() -> None:
    nan, one = np.array([np.nan]), np.array([1.0])
    assert_equal_results((nan, None), (-nan, None))
    for got, want in [(one, nan), (0 * one, -0.0 * one), (one, np.nextafter(one, 2))]:
        with pytest.raises(AssertionError):
            assert_equal_results(got, want)
