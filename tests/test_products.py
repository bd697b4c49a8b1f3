"""forward, backward and backward_update against exact products, on every target."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import siglin
from helpers import assert_same_bits, awkward_sizes, tolerance, wider
from siglin import reference

SIZES = awkward_sizes(34)
# Borders: tiles of 6 and 12 rows, blocks of 256 in depth, of 512 and 1024 columns.
LARGER = [
    (1, 255, 3),
    (5, 257, 17),
    (13, 513, 33),
    (97, 300, 40),
    (193, 64, 70),
    (30, 7, 1030),
    (7, 1030, 30),
    (601, 33, 49),
]
NAMES = ["sigmoid", "tanh", "relu", "leaky_relu", "identity"]


def make(
    rng: np.random.Generator, dtype: np.dtype[Any], *shapes: tuple[int, ...]
) -> list[npt.NDArray[Any]]:
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def assert_within(
    got: npt.NDArray[Any], want: npt.NDArray[Any], k: int, magnitude: Any
) -> None:
    """Assert |got - want| <= tolerance * magnitude; want is of a wider type."""
    assert got.shape == want.shape
    excess = np.abs(want - got) - tolerance(got.dtype, k) * magnitude
    assert np.max(excess, initial=-np.inf) <= 0


def check_forward(
    x: npt.NDArray[Any], w: npt.NDArray[Any], b: npt.NDArray[Any]
) -> None:
    exact = wider(x) @ wider(w) + wider(b)
    magnitude = np.abs(wider(x)) @ np.abs(wider(w)) + np.abs(wider(b))
    got = siglin.forward(x, w, b, activation="identity")
    assert_within(got, exact, x.shape[1], magnitude)


@pytest.mark.parametrize("k", SIZES)
def test_forward_is_within_the_bound(
    target: str, dtype: np.dtype[Any], k: int, rng: np.random.Generator
) -> None:
    for m in SIZES[::2]:
        for n in SIZES:
            check_forward(*make(rng, dtype, (m, k), (k, n), (n,)))


@pytest.mark.parametrize("shape", LARGER)
def test_products_of_larger_shapes(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, b, da = make(rng, dtype, (m, k), (k, n), (n,), (m, n))
    check_forward(x, w, b)
    check_backward(x, w, da)


def check_backward(
    x: npt.NDArray[Any], w: npt.NDArray[Any], da: npt.NDArray[Any]
) -> None:
    dx, dw, db = siglin.backward(x, w, da, da, activation="identity")
    m, k, n = len(x), *w.shape
    wx, ww, wda = wider(x), wider(w), wider(da)
    assert dx is not None
    assert_within(dx, wda @ ww.T, n, np.abs(wda) @ np.abs(ww.T))
    assert_within(dw, wx.T @ wda, m, np.abs(wx.T) @ np.abs(wda))
    assert_within(db, wda.sum(axis=0), m, np.abs(wda).sum(axis=0))
    assert (dw.shape, db.shape) == ((k, n), (n,))


@pytest.mark.parametrize("k", SIZES)
def test_backward_is_within_the_bound(
    target: str, dtype: np.dtype[Any], k: int, rng: np.random.Generator
) -> None:
    for m in SIZES[::2]:
        for n in SIZES[::2]:
            check_backward(*make(rng, dtype, (m, k), (k, n), (m, n)))


@pytest.mark.parametrize("shape", [(3, 5, 7), (17, 33, 9), *LARGER])
def test_integers_are_exact(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, (k, n))
    b, da = rng.integers(-9, 10, n), rng.integers(-9, 10, (m, n))
    floats = [v.astype(dtype) for v in (x, w, b, da)]
    a = siglin.forward(*floats[:3], activation="identity")
    assert np.array_equal(a, x @ w + b)
    dx, dw, db = siglin.backward(*floats[:2], a, floats[3], activation="identity")
    assert np.array_equal(dx, da @ w.T)
    assert np.array_equal(dw, x.T @ da)
    assert np.array_equal(db, da.sum(axis=0))


@pytest.mark.parametrize("shape", [(30, 4, 1), (30, 300, 10), (200, 40, 33), *LARGER])
def test_row_has_the_same_bits_in_any_batch(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, b = make(rng, dtype, (m, k), (k, n), (n,))
    whole = siglin.forward(x, w, b)
    net = siglin.Network([k, n], dtype=dtype)
    net.layers[0].w, net.layers[0].b = w, b
    predicted = net.predict(x)
    for start, stop in [(0, 1), (m - 1, m), (m // 3, m), (0, m // 2), (m // 2, m // 2)]:
        part = slice(start, stop)
        assert_same_bits(siglin.forward(x[part], w, b), whole[part])
        assert_same_bits(net.predict(x[part]), predicted[part])


def test_product_of_an_array_with_itself(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    (x,) = make(rng, dtype, (70, 70))
    got = siglin.forward(x, x, activation="identity")
    assert_within(got, wider(x) @ wider(x), 70, np.abs(wider(x)) @ np.abs(wider(x)))


def test_nan_stays_in_its_row_and_column(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    x, w = make(rng, dtype, (20, 9), (9, 21))
    clean = siglin.forward(x, w)
    x[4, 3] = np.nan
    got = siglin.forward(x, w)
    assert np.all(np.isnan(got[4]))
    assert_same_bits(np.delete(got, 4, axis=0), np.delete(clean, 4, axis=0))
    x[4, 3] = 0
    w[2, 17] = np.nan
    got = siglin.forward(x, w)
    assert np.all(np.isnan(got[:, 17]))
    assert np.isnan(got).sum() == len(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_z", [True, False])
def test_backward_follows_the_reference(
    target: str,
    dtype: np.dtype[Any],
    name: str,
    with_z: bool,
    rng: np.random.Generator,
) -> None:
    x, w, b, da = make(rng, dtype, (23, 7), (7, 5), (5,), (23, 5))
    z = siglin.forward(x, w, b, activation="identity")
    a = siglin.forward(x, w, b, activation=name)
    got = siglin.backward(x, w, a, da, activation=name, z=z if with_z else None)
    wide = [v.astype(np.float64) for v in (x, w, a, da, z)]
    want = reference.backward(*wide[:4], activation=name, z=wide[4] if with_z else None)
    for result, expected in zip(got, want, strict=True):
        assert_within(result, expected, 32, 10.0)
    without = siglin.backward(x, w, a, da, activation=name, need_dx=False)
    assert without.dx is None
    assert without.db.shape == (5,)


@pytest.mark.parametrize("shape", [(1, 2, 3), (23, 7, 5), (10, 300, 30)])
def test_backward_update_is_backward_then_update(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, b, da = make(rng, dtype, (m, k), (k, n), (n,), (m, n))
    a = siglin.forward(x, w, b)
    gradients = siglin.backward(x, w, a, da)
    w2, b2 = w.copy(), b.copy()
    siglin.update(w2, gradients.dw, 0.1)
    siglin.update(b2, gradients.db, 0.1)
    dx = siglin.backward_update(x, w, b, a, da, 0.1)
    assert gradients.dx is not None
    assert_same_bits(dx, gradients.dx)
    assert_same_bits(w, w2)
    assert_same_bits(b, b2)


def test_update_rounds_as_documented(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    param, grad = make(rng, dtype, (137,), (137,))
    lr = dtype.type(0.3)
    product = -lr * grad if target == "x86_v2" else wider(-lr * np.ones(1, dtype))
    if target == "x86_v2":  # two roundings
        want = param + product
    else:  # one: exact in the wider type for float32, to a last place for float64
        want = (wider(param) + product * wider(grad)).astype(dtype)
    siglin.update(param, grad, 0.3)
    if dtype == np.float32 or target == "x86_v2":
        assert_same_bits(param, want)
    else:
        assert np.abs(param - want).max() <= np.finfo(dtype).eps


def test_update_by_nothing_and_uphill(target: str, dtype: np.dtype[Any]) -> None:
    param = np.array([1.0, np.inf], dtype)
    grad = np.array([np.nan, 1.0], dtype)
    siglin.update(param, grad, 0)
    assert_same_bits(param, np.array([1.0, np.inf], dtype))
    siglin.update(param[:1], np.ones(1, dtype), -0.5)
    assert param[0] == 1.5
