"""update: param -= lr * grad to the last bit, on every target."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers import assert_same_bits, awkward_sizes
from siglin import _core

Array = npt.NDArray[Any]

WITHOUT_FMA = {"x86_v2"}


def rounded_once(exact: Fraction, dtype: Any) -> Any:
    """Return the number of the dtype that is nearest to `exact`, ties to even.

    float(exact) is nearest in float64. For float32 it is first moved to the neighbour
    with an odd last bit, unless it is exact: rounding to odd in 53 bits and then to
    nearest in 24 is rounding once (Boldo and Melquiond 2008).
    """
    nearest = np.float64(float(exact))
    if dtype == np.float32 and np.isfinite(nearest) and Fraction(nearest) != exact:
        other = np.nextafter(nearest, np.inf if exact > nearest else -np.inf)
        nearest = other if nearest.view(np.int64) % 2 == 0 else nearest
    return np.dtype(dtype).type(nearest)


def multiply_add(target: str, a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c of finite a, b, c, rounded as the target rounds."""
    a, b, c = np.broadcast_arrays(a, b, c)
    if target in WITHOUT_FMA:
        two_roundings: Array = a * b + c
        return two_roundings
    result = np.empty_like(c)
    for i in np.ndindex(c.shape):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        result[i] = rounded_once(exact, c.dtype)
    return result


def make(rng: np.random.Generator, dtype: Any, *shapes: Any) -> list[Array]:
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def test_rounding_once_is_not_rounding_twice() -> None:
    # 1 + 2^-24 + 2^-60 lies above the middle of two float32, float64 puts it there
    exact = 1 + Fraction(1, 2**24) + Fraction(1, 2**60)
    assert np.float32(float(exact)) == 1
    assert rounded_once(exact, np.float32) == np.float32(1) + np.float32(2) ** -23
    assert rounded_once(Fraction(1, 2**150) * 3, np.float32) == np.float32(2.0**-148)
    assert rounded_once(Fraction(1, 3), np.float64) == np.float64(1) / 3


@pytest.mark.parametrize("lr", [0.3, -0.3, 1.0, 1e-9, 12345.678])
def test_update_is_the_formula_to_the_last_bit(
    target: str, dtype: np.dtype[Any], lr: float, rng: np.random.Generator
) -> None:
    param, grad = make(rng, dtype, 211, 211)
    param *= np.exp(3 * rng.normal(size=211)).astype(dtype)
    want = multiply_add(target, np.array(-lr, dtype), grad, param)
    _core.update(param, grad, lr)
    assert_same_bits(param, want)


def test_targets_with_fma_round_once(target: str, dtype: np.dtype[Any]) -> None:
    # lr * grad = (1 + eps)^2 keeps its eps^2 only where it is not rounded by itself
    eps = np.finfo(dtype).eps
    param = np.array([1 + 2 * eps], dtype)
    _core.update(param, np.array([1 + eps], dtype), 1 + float(eps))
    assert param[0] == (0 if target in WITHOUT_FMA else -(eps**2))


def test_results_may_be_subnormal(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    tiny = np.finfo(dtype).tiny
    param, grad = (v * tiny / 2 for v in make(rng, dtype, 70, 70))
    want = multiply_add(target, np.array(-0.25, dtype), grad, param)
    _core.update(param, grad, 0.25)
    assert_same_bits(param, want)
    assert np.abs(param[param != 0]).min() < tiny


# From sixteen vectors on, the kernel first steps to where a vector begins.
@pytest.mark.parametrize("size", [*awkward_sizes(70), 255, 256, 257, 271, 280])
def test_every_length_and_offset_has_the_same_bits(
    target: str, dtype: np.dtype[Any], size: int, rng: np.random.Generator
) -> None:
    param, grad = make(rng, dtype, 300, 300)
    whole = param.copy()
    _core.update(whole, grad, 0.7)
    for start in range(17):
        part = slice(start, start + size)
        got = param.copy()
        _core.update(got[part], grad[part], 0.7)
        assert_same_bits(got[part], whole[part])
        got[part] = param[part]
        assert_same_bits(got, param)  # nothing beside the part


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4), (2, 1, 3, 2), (0, 4)])
def test_any_number_of_dimensions(
    target: str, dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    param = np.asarray(rng.normal(size=shape)).astype(dtype)
    grad = np.asarray(rng.normal(size=shape)).astype(dtype)
    want = multiply_add(target, np.array(-0.1, dtype), grad, param)
    _core.update(param, grad, 0.1)
    assert_same_bits(param, want)


@pytest.mark.parametrize("cols", [1, 3, 8, 17])
def test_rows_may_lie_apart(
    target: str, dtype: np.dtype[Any], cols: int, rng: np.random.Generator
) -> None:
    wide, grads = make(rng, dtype, (6, cols + 5), (6, cols))
    inside = (slice(None), slice(2, 2 + cols))
    before = wide.copy()
    spread = np.zeros((6, cols + 1), dtype)
    spread[:, :cols] = grads
    for grad in (grads, grads[::-1].copy()[::-1], spread[:, :cols]):
        wide[...] = before
        want = before.copy()
        want[inside] = multiply_add(target, np.array(-0.1, dtype), grad, before[inside])
        _core.update(wide[inside], grad, 0.1)
        assert_same_bits(wide, want)


def test_one_row_of_gradients_for_all(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    param, row = make(rng, dtype, (4, 9), (1, 9))
    want = multiply_add(target, np.array(-0.1, dtype), row, param)
    _core.update(param, np.broadcast_to(row, (4, 9)), 0.1)
    assert_same_bits(param, want)


@pytest.mark.parametrize("lr", [0, 0.0, -0.0])
def test_lr_of_zero_changes_nothing(
    target: str, dtype: np.dtype[Any], lr: float
) -> None:
    # not even where 0 * grad is NaN, nor the sign of a zero
    param = np.array([1.0, -0.0, np.inf, np.nan, 3.0], dtype)
    before = param.copy()
    _core.update(param, np.array([np.nan, 1.0, np.inf, 1.0, -np.inf], dtype), lr)
    assert_same_bits(param, before)


def test_negative_lr_climbs(target: str, dtype: np.dtype[Any]) -> None:
    param = np.array([1.0, -2.0], dtype)
    _core.update(param, np.array([3.0, 4.0], dtype), -0.5)
    assert param.tolist() == [2.5, 0.0]


def test_lr_is_rounded_to_the_dtype_first(target: str) -> None:
    param, grad = np.zeros(1, np.float32), np.ones(1, np.float32)
    _core.update(param, grad, 0.1)
    assert param[0] == -np.float32(0.1)


def test_what_is_not_finite_goes_through(target: str, dtype: np.dtype[Any]) -> None:
    param = np.array([1.0, 1.0, np.inf, 1.0, np.inf], dtype)
    grad = np.array([np.nan, np.inf, 1.0, -np.inf, np.inf], dtype)
    _core.update(param, grad, 1.0)
    np.testing.assert_array_equal(param, [np.nan, -np.inf, np.inf, np.inf, np.nan])


def test_overflow_is_infinite(target: str, dtype: np.dtype[Any]) -> None:
    param = np.full(19, np.finfo(dtype).max, dtype)
    with np.errstate(all="raise"):
        _core.update(param, -param.copy(), 1.0)
    assert np.all(param == np.inf)
