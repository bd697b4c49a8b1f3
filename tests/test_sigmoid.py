"""The sigmoid's accuracy, edges and independence of position, on every target."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers import assert_same_bits, exact_sigmoid, ulp_error, wider
from siglin import _core

# Targets without fused multiply-add round the corrections of the quotient.
ULP_BOUND = {"x86_v4": 1.0, "x86_v3": 1.0, "neon": 1.0, "x86_v2": 2.0}
FLOAT32_TAIL = -104.5


def sigmoid(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    result: npt.NDArray[Any] = _core.activate(z, "sigmoid")
    return result


def all_float32(start: int, stop: int, step: int = 1) -> npt.NDArray[np.float32]:
    """Return the float32 numbers of the bit patterns start, start + step, ..."""
    patterns = np.arange(start, stop, step, dtype=np.uint32).view(np.float32)
    return patterns[np.isfinite(patterns)]


def worst(z: npt.NDArray[Any]) -> float:
    return float(ulp_error(sigmoid(z), exact_sigmoid(z)).max())


def test_float32_sweep_is_within_the_bound(target: str) -> None:
    assert worst(all_float32(0, 2**32, 2003)) <= ULP_BOUND[target]


def test_float32_tail_is_within_the_bound(target: str) -> None:
    z = np.linspace(FLOAT32_TAIL, -64, 1_000_001).astype(np.float32)
    assert worst(z) <= ULP_BOUND[target]


def test_float64_is_within_the_bound(target: str, rng: np.random.Generator) -> None:
    exponents = np.repeat(np.arange(-60, 10), 256)
    powers = np.ldexp(rng.uniform(1, 2, exponents.size), exponents)
    z = np.concatenate(
        [
            rng.uniform(-40, 40, 400_000),
            rng.uniform(-745.14, -708.39, 100_000),
            rng.uniform(-708, -40, 100_000),
            powers[powers < 745],
            -powers[powers < 745],
        ]
    )
    assert worst(z) <= ULP_BOUND[target]


def test_every_float32_of_the_tail_is_within_the_bound(target: str) -> None:
    first, last = np.array([-64, FLOAT32_TAIL], np.float32).view(np.uint32)
    z = all_float32(int(first), int(last) + 1)
    assert z.size == 5_308_417
    assert worst(z) <= ULP_BOUND[target]


def test_every_exponent_of_float64_is_within_the_bound(
    target: str, rng: np.random.Generator
) -> None:
    exponents = np.arange(2047, dtype=np.uint64)[:, None] << np.uint64(52)
    patterns = exponents + rng.integers(0, 2**52, (2047, 128), dtype=np.uint64)
    z = patterns.ravel().view(np.float64)
    for part in (z, -z):
        with np.errstate(all="raise"):
            a = sigmoid(part)
        assert np.all((a >= 0) & (a <= 1))
        with np.errstate(under="ignore"):  # of the exact value
            assert worst(part) <= ULP_BOUND[target]


def test_every_kind_of_nan_stays_one(target: str, dtype: np.dtype[Any]) -> None:
    infinity = np.array([np.inf], dtype).view(f"u{dtype.itemsize}")
    words = infinity.dtype.type
    payloads = np.arange(1, 2**12, dtype=words) << words(np.finfo(dtype).nmant - 12)
    nan = np.concatenate([infinity | payloads, infinity + words(1)]).view(dtype)
    assert np.all(np.isnan(sigmoid(nan)))
    assert np.all(np.isnan(sigmoid(-nan)))


@pytest.mark.slow
def test_every_17th_float32_is_within_the_bound(target: str) -> None:
    chunk = 2**28
    for start in range(0, 2**32, chunk):
        z = all_float32(start, start + chunk, 17)
        if z.size:
            assert worst(z) <= ULP_BOUND[target], f"from bit pattern {start:#x}"


@pytest.mark.exhaustive
def test_every_float32_is_within_the_bound(target: str) -> None:
    chunk = 2**24
    for start in range(0, 2**32, chunk):
        z = all_float32(start, start + chunk)
        if z.size:
            assert worst(z) <= ULP_BOUND[target], f"from bit pattern {start:#x}"


def test_tail_is_not_flushed_to_zero(target: str, dtype: np.dtype[Any]) -> None:
    lowest = -103.9 if dtype == np.float32 else -745.1
    z = np.linspace(lowest, lowest / 2, 10_001).astype(dtype)
    assert np.all(sigmoid(z) > 0)


def test_last_number_above_zero(target: str, dtype: np.dtype[Any]) -> None:
    # exp(z) = half the smallest number: above it the sigmoid is that, below it 0
    border = np.log(wider(np.finfo(dtype).smallest_subnormal[None])) - np.log(2)
    z = border.astype(dtype)
    above, below = z * (1 - 4 * np.finfo(dtype).eps), z * (1 + 4 * np.finfo(dtype).eps)
    assert sigmoid(above) == np.finfo(dtype).smallest_subnormal
    assert_same_bits(sigmoid(below), np.zeros(1, dtype))


@pytest.mark.parametrize("start", [-104.0, -88.0, -17.0, -1.0, -1e-3, 1e-3, 1.0, 15.0])
def test_adjacent_float32_are_in_order(target: str, start: float) -> None:
    first = np.float32(start)
    steps = np.arange(200_000, dtype=np.int32)
    patterns = first.view(np.int32) + (steps if start > 0 else -steps)
    a = sigmoid(patterns.view(np.float32))
    # Without fused multiply-add neighbours may change places, by their one unit.
    back = np.spacing(a[1:]) if target == "x86_v2" else 0
    assert np.all(np.diff(a) >= -back)


def test_special_values(target: str, dtype: np.dtype[Any]) -> None:
    z = np.array([0.0, -0.0, np.inf, -np.inf, 1e30, -1e30, np.nan], dtype)
    with np.errstate(all="raise"):
        a = sigmoid(z)
    assert_same_bits(a[:-1], np.array([0.5, 0.5, 1, 0, 1, 0], dtype))
    assert np.isnan(a[-1])


def test_symmetry(target: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    z = rng.uniform(-30, 30, 100_000).astype(dtype)
    unit = np.finfo(dtype).eps
    assert np.abs(sigmoid(z) + sigmoid(-z) - 1).max() <= unit


def test_element_has_the_same_bits_anywhere(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    z = (10 * rng.normal(size=80)).astype(dtype)
    whole = sigmoid(z)
    for start in range(9):
        for stop in range(start, 72):
            assert_same_bits(sigmoid(z[start:stop]), whole[start:stop])


@pytest.mark.parametrize("size", range(71))
def test_every_element_has_the_bits_of_itself_alone(
    target: str, dtype: np.dtype[Any], size: int, rng: np.random.Generator
) -> None:
    z = (30 * rng.normal(size=size + 16)).astype(dtype)
    alone = [sigmoid(z[i : i + 1]) for i in range(z.size)]
    for start in range(17):
        got = sigmoid(z[start : start + size])
        assert_same_bits(got, np.concatenate([z[:0], *alone[start : start + size]]))


def test_in_place(target: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    z = rng.normal(size=(3, 7)).astype(dtype)
    expected = sigmoid(z)
    assert _core.activate(z, "sigmoid", z) is z
    assert_same_bits(z, expected)
