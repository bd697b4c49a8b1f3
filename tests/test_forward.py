"""forward: the product, its order of additions, and its layouts, on every target.

test_products.py has the bounds for all small shapes; here are the stricter promises.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers import assert_same_bits, awkward_sizes, wider
from siglin import _core
from test_update import make, multiply_add

Array = npt.NDArray[Any]

# kernel_table.h's kDepth and kDepthUnit: longer chains are cut into parts of so many
# whole units, as equal as can be.
DEPTH = 384
DEPTH_UNIT = 96

# Each crosses a border: of a vector (4, 8, 16), of tiles of 6 and 12 rows and of 8, 16
# and 32 columns, of blocks of depth, of packing, of blocks of 512 and 1024 columns.
SHAPES = [
    (1, 1, 1),
    (1, 255, 3),
    (5, 384, 17),
    (11, 257, 31),
    (13, 512, 33),
    (25, 513, 15),
    (49, 40, 71),
    (97, 130, 40),
    (194, 33, 97),
    (24, 48, 511),
    (7, 33, 513),
    (25, 34, 1023),
    (50, 5, 1025),
    (25, 769, 1030),
]
ACTIVATIONS = _core.activations()


def product(x: Array, w: Array, b: Array | None = None) -> Array:
    result: Array = _core.forward(x, w, b, "identity")
    return result


def gamma(dtype: Any, n: int) -> float:
    """Bound the relative error of n roundings (Higham 2002, lemma 3.1)."""
    u = float(np.finfo(dtype).eps) / 2
    return n * u / (1 - n * u)


def assert_exact_within(got: Array, want: Array, n: int, magnitude: Array) -> None:
    """Assert |got - want| <= gamma_n * magnitude; want is of the wider type."""
    assert got.shape == want.shape
    excess = np.abs(want - got) - gamma(got.dtype, n) * magnitude
    assert np.max(excess, initial=-np.inf) <= 0


def chains(target: str, x: Array, w: Array, b: Array | None) -> Array:
    """Return x @ w + b of one column w as gemm.h orders it."""
    k = x.shape[1]
    parts = -(-k // DEPTH)
    units = -(-k // DEPTH_UNIT)
    begins = [units * part // parts * DEPTH_UNIT for part in range(parts)] + [k]
    total = np.zeros(len(x), x.dtype)
    if b is not None:
        total += b
    for part in range(parts):
        chain = total if part == 0 else np.zeros_like(total)
        for p in range(begins[part], begins[part + 1]):
            chain = multiply_add(target, x[:, p], w[p], chain)
        total = chain if part == 0 else total + chain
    return total


@pytest.mark.parametrize("k", [1, 2, 7, 48, 49, 383, 384, 385, 767, 768, 769, 1153])
def test_sums_have_the_documented_order(
    target: str, dtype: np.dtype[Any], k: int, rng: np.random.Generator
) -> None:
    """One path (small, tile, packed) per n; the same chains to the last bit in each."""
    x, w, b = make(rng, dtype, (30, k), (k, 70), 70)
    for j in (0, 69):
        got = product(x, w, b)[[0, 29], j]
        assert_same_bits(got, chains(target, x[[0, 29]], w[:, j], b[j]))
    for n in (1, 5):
        columns = np.ascontiguousarray(w[:, :n])
        got = product(x[:1], columns)[0, n - 1 : n]
        assert_same_bits(got, chains(target, x[:1], w[:, n - 1], None))


@pytest.mark.parametrize("shape", SHAPES)
def test_error_of_every_element_is_bounded(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, b = make(rng, dtype, (m, k), (k, n), n)
    scale = np.exp(4 * rng.normal(size=n)).astype(dtype)  # columns of unlike sizes
    w, b = w * scale, b * scale
    got = product(x, w, b)
    # Long double has no fast product: of float64, the rows and columns at the borders.
    rows = np.unique(np.r_[:2, m // 2, m - 2 : m].clip(0, m - 1))
    cols = np.unique(np.r_[:2, n // 2, n - 20 : n].clip(0, n - 1))
    if dtype == np.float64:
        x, w, b, got = x[rows], w[:, cols], b[cols], got[np.ix_(rows, cols)]
    wx, ww, wb = wider(x), wider(w), wider(b)
    magnitude = np.abs(wx) @ np.abs(ww) + np.abs(wb)
    assert_exact_within(got, wx @ ww + wb, k + 1, magnitude)
    # What rounding does to a sum as a rule, not at worst: errors of unlike signs.
    usual = (0.5 * np.sqrt(k) + 4) * np.finfo(dtype).eps / 2
    assert np.all(np.abs(wx @ ww + wb - got) <= usual * magnitude)


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_exact(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w = rng.integers(-20, 21, (m, k)), rng.integers(-20, 21, (k, n))
    b = rng.integers(-99, 100, n)
    got = product(x.astype(dtype), w.astype(dtype), b.astype(dtype))
    assert_same_bits(got + 0, (x @ w + b).astype(dtype))


def test_integers_of_all_awkward_shapes_are_exact(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    x, w = rng.integers(-9, 10, (65, 65)), rng.integers(-9, 10, (65, 65))
    b = rng.integers(-9, 10, 65)
    fx, fw, fb = x.astype(dtype), w.astype(dtype), b.astype(dtype)
    sizes = awkward_sizes(33)
    for k in sizes:
        want = x[:, :k] @ w[:k] + b
        for m in (0, 1, 2, 5, 6, 7, 11, 12, 13, 24, 49, 65):
            for n in (*sizes, 63, 64, 65):
                got = product(fx[:m, :k], fw[:k, :n], fb[:n])
                assert np.array_equal(got, want[:m, :n]), (m, k, n)


@pytest.mark.parametrize("size", [1, 6, 17, 64, 257])
def test_rows_of_the_identity_pick_rows_of_w(
    target: str, dtype: np.dtype[Any], size: int, rng: np.random.Generator
) -> None:
    (w,) = make(rng, dtype, (size, 37))
    picks = rng.permutation(size)
    assert_same_bits(product(np.eye(size, dtype=dtype)[picks], w), w[picks])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 2, 3), (13, 9, 17), (30, 300, 10), (97, 40, 70)])
def test_activation_is_applied_to_the_product(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    activation: str,
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, b = make(rng, dtype, (m, k), (k, n), n)
    want = _core.activate(product(x, w, b), activation)
    assert_same_bits(_core.forward(x, w, b, activation), want)
    assert_same_bits(_core.layer_forward(x, w, b, activation)[0], want)


@pytest.mark.parametrize("sizes", [(4, 1), (9, 3), (300, 10), (40, 70)])
def test_row_has_the_same_bits_at_any_split(
    target: str, dtype: np.dtype[Any], sizes: tuple[int, int], rng: np.random.Generator
) -> None:
    k, n = sizes
    x, w, b = make(rng, dtype, (50, k), (k, n), n)
    whole = _core.forward(x, w, b, "sigmoid")
    for split in range(51):
        parts = [_core.forward(part, w, b, "sigmoid") for part in np.split(x, [split])]
        assert_same_bits(np.concatenate(parts), whole)
    for i in range(50):
        assert_same_bits(_core.forward(x[i : i + 1], w, b, "sigmoid")[0], whole[i])


@pytest.mark.parametrize("n", [1, 5, 8, 33, 70])
def test_column_has_the_same_bits_alone(
    target: str, dtype: np.dtype[Any], n: int, rng: np.random.Generator
) -> None:
    x, w, b = make(rng, dtype, (30, 270), (270, n), n)
    whole = product(x, w, b)
    for j in range(n):
        one = slice(j, j + 1)
        assert_same_bits(product(x, w[:, one], b[one]), whole[:, one])


def test_x_and_w_may_be_views_of_one_buffer(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    (buffer,) = make(rng, dtype, (80, 80))
    views = [
        (buffer, buffer),
        (buffer[:40], buffer),
        (buffer[:, :40], buffer[:40]),
        (buffer[::-1], buffer),
        (buffer[5:70, 3:60], buffer[9:66, 1:78]),
        (buffer[::2, :30], buffer[30:60, 7:]),
    ]
    before = buffer.copy()
    for x, w in views:
        want = product(x.copy(), w.copy(), w[0].copy())
        assert_same_bits(product(x, w, w[0]), want)
    assert_same_bits(buffer, before)


def test_out_inside_a_larger_array(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    for m, k, n in [(1, 3, 1), (5, 4, 3), (13, 20, 33), (60, 70, 71)]:
        x, w, b, wide = make(rng, dtype, (m, k), (k, n), n, (m + 2, n + 5))
        want = wide.copy()
        want[1:-1, 2 : n + 2] = _core.forward(x, w, b, "sigmoid")
        out = wide[1:-1, 2 : n + 2]
        assert _core.forward(x, w, b, "sigmoid", out) is out
        assert_same_bits(wide, want)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3, 4, 2), (14, 9, 33), (49, 300, 70)])
def test_what_is_not_finite_stays_in_its_row_and_column(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    value: float,
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    clean_x, clean_w, b = make(rng, dtype, (m, k), (k, n), n)
    clean = product(clean_x, clean_w, b)
    for i, p, j in [(0, 0, 0), (m - 1, k - 1, n - 1), (m // 2, k // 2, n // 2)]:
        x, w = clean_x.copy(), clean_w.copy()
        x[i, p] = value
        got = product(x, w, b)
        assert_same_bits(np.delete(got, i, 0), np.delete(clean, i, 0))
        np.testing.assert_array_equal(got[i], value * w[p])
        x[i, p], w[p, j] = clean_x[i, p], value
        got = product(x, w, b)
        assert_same_bits(np.delete(got, j, 1), np.delete(clean, j, 1))
        np.testing.assert_array_equal(got[:, j], value * x[:, p])


@pytest.mark.parametrize("shape", [(0, 0, 0), (0, 3, 2), (3, 2, 0), (4, 0, 0)])
def test_empty_results(
    target: str, dtype: np.dtype[Any], shape: tuple[int, int, int]
) -> None:
    m, k, n = shape
    x, w, b = np.ones((m, k), dtype), np.ones((k, n), dtype), np.ones(n, dtype)
    a = _core.forward(x, w, b, "sigmoid")
    assert a.shape == (m, n)
    assert a.dtype == dtype


@pytest.mark.parametrize("n", [1, 3, 17, 40])
def test_without_inputs_the_bias_is_all(
    target: str, dtype: np.dtype[Any], n: int, rng: np.random.Generator
) -> None:
    (b,) = make(rng, dtype, n)
    x, w = np.empty((5, 0), dtype), np.empty((0, n), dtype)
    got = _core.forward(x, w, b, "sigmoid")
    assert_same_bits(got, np.tile(_core.activate(b, "sigmoid"), (5, 1)))
    assert np.all(_core.forward(x, w, None, "sigmoid") == 0.5)


def test_overflow_is_infinite_and_no_warning(target: str, dtype: np.dtype[Any]) -> None:
    x = np.full((3, 5), np.finfo(dtype).max, dtype)
    with np.errstate(all="raise"):
        assert np.all(product(x, np.ones((5, 9), dtype)) == np.inf)
        assert np.all(_core.forward(-x, np.ones((5, 9), dtype), None, "sigmoid") == 0)


def test_subnormal_products_are_kept(target: str, dtype: np.dtype[Any]) -> None:
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.full((13, 3), smallest, dtype)
    assert np.all(product(x, np.ones((3, 19), dtype)) == 3 * smallest)
