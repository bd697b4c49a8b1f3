"""Values and derivatives of all activations, on every target."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers import assert_same_bits, ulp_error, wider
from siglin import _core, reference

# Largest error of value and derivative, in ulp, as measured and rounded up. The second
# pair is for targets without fused multiply-add.
BOUNDS = {
    "identity": (0.0, 0.0),
    "sigmoid": (1.0, 2.0),
    "tanh": (3.0, 6.0),
    "relu": (0.0, 0.0),
    "leaky_relu": (0.5, 0.5),
    "step": (0.0, 0.0),
}
WITHOUT_FMA = {"sigmoid": (2.0, 4.0)}


def exact(name: str, z: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Return value and derivative of the (wider) z by closed forms."""
    e = np.exp(-np.abs(z))
    if name == "sigmoid":
        return np.where(z < 0, e, 1) / (1 + e), e / (1 + e) ** 2
    if name == "tanh":
        return np.tanh(z), 4 * e * e / (1 + e * e) ** 2
    positive = z > 0
    if name == "relu":
        return np.where(positive, z, 0), np.where(positive, 1.0, 0.0)
    if name == "leaky_relu":
        alpha = z.dtype.type(0.1)
        return np.where(positive, z, alpha * z), np.where(positive, 1, alpha)
    if name == "step":
        return np.where(positive, 1.0, 0.0), np.zeros_like(z)
    return z, np.ones_like(z)


def value_and_derivative(name: str, z: npt.NDArray[Any]) -> tuple[Any, Any]:
    one = np.ones((1, 1), z.dtype)
    a, derivative = _core.layer_forward(z[:, None], one, None, name)
    return a[:, 0], derivative[:, 0]


def test_names_are_the_references() -> None:
    assert set(_core.activations()) == set(BOUNDS)
    assert set(reference.activations.ACTIVATIONS) >= set(BOUNDS)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_errors_are_within_the_bounds(
    target: str, name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    limit = 40 if dtype == np.float32 else 300
    z = np.concatenate(
        [rng.normal(size=100_000), rng.uniform(-limit, limit, 100_000)]
    ).astype(dtype)
    bounds = BOUNDS[name]
    if target == "x86_v2":
        bounds = WITHOUT_FMA.get(name, bounds)
    for got, want, bound in zip(
        value_and_derivative(name, z), exact(name, wider(z)), bounds, strict=True
    ):
        # alpha = 0.1 is itself rounded: half a unit, and the product another
        slack = 1.0 if name == "leaky_relu" else 0.0
        assert ulp_error(got, want).max() <= bound + slack


def numbers_of_all_sizes(dtype: Any, limit: float) -> npt.NDArray[Any]:
    """Return numbers of both signs, of every exponent up to that of the limit."""
    exponents = np.arange(np.finfo(dtype).minexp, int(np.log2(limit)) + 1)
    mantissas = np.linspace(1, 2, 100, endpoint=False)
    z = np.ldexp(mantissas, exponents[:, None]).ravel()
    return np.concatenate([-z, z, np.linspace(-limit, limit, 200_000)]).astype(dtype)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_errors_are_within_the_bounds_down_to_the_smallest_results(
    target: str, name: str, dtype: np.dtype[Any]
) -> None:
    """From the smallest z to where derivatives are subnormal, and then 0."""
    limit = 104.5 if dtype == np.float32 else 746.0
    z = numbers_of_all_sizes(dtype, limit)
    bounds = BOUNDS[name]
    if target == "x86_v2":
        bounds = WITHOUT_FMA.get(name, bounds)
    a, derivative = value_and_derivative(name, z)
    want_a, want_derivative = exact(name, wider(z))
    assert ulp_error(a, want_a).max() <= bounds[0]
    assert ulp_error(derivative, want_derivative).max() <= bounds[1]
    assert np.any((derivative > 0) & (derivative < np.finfo(dtype).tiny))


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_derivative_from_a_is_within_one_and_a_half_ulp(
    target: str, name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    a = numbers_of_all_sizes(dtype, 0.99)
    a = np.concatenate([a, 1 - np.abs(a[np.abs(a) < 1])])
    a = a[(a >= 0) & (a <= 1)] if name == "sigmoid" else a
    one = np.ones((1, 1), dtype)
    ones = np.ones((a.size, 1), dtype)
    got = _core.backward(ones, one, a[:, None], ones, name)[0]
    assert got is not None
    exact_a = wider(a)
    want = (1 - exact_a) * (exact_a if name == "sigmoid" else 1 + exact_a)
    assert ulp_error(got[:, 0], want).max() <= 1.5 + np.finfo(dtype).eps


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_symmetry(
    target: str, name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    z = (4 * rng.normal(size=1000)).astype(dtype)
    (a, d), (a2, d2) = value_and_derivative(name, z), value_and_derivative(name, -z)
    if name in {"sigmoid", "tanh", "identity"}:
        assert_same_bits(d, d2)
    if name in {"tanh", "identity"}:
        assert_same_bits(a, -a2)
    if name == "relu":
        assert_same_bits(a - a2, z)
    if name == "step":
        assert np.all(a + a2 == 1)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_element_has_the_bits_of_itself_alone(
    target: str, name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    z = (4 * rng.normal(size=70)).astype(dtype)
    a, d = value_and_derivative(name, z)
    for start in range(70):
        for stop in (start + 1, min(start + 9, 70), 70):
            part = slice(start, stop)
            a_part, d_part = value_and_derivative(name, z[part])
            assert_same_bits(a_part, a[part])
            assert_same_bits(d_part, d[part])


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_activate_and_layer_forward_agree(
    target: str, name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    z = (4 * rng.normal(size=133)).astype(dtype)
    assert_same_bits(_core.activate(z, name), value_and_derivative(name, z)[0])


def test_sigmoid_derivative_survives_saturation(target: str) -> None:
    z = np.array([17.0, -17.0], np.float32)
    true = np.exp(-17.0) / (1 + np.exp(-17.0)) ** 2
    derivative = value_and_derivative("sigmoid", z)[1]
    assert np.abs(derivative / true - 1).max() <= 2.4e-7


def test_edges(target: str, dtype: np.dtype[Any]) -> None:
    z = np.array([0.0, -0.0, np.inf, -np.inf], dtype)
    expected = {
        "tanh": [0.0, -0.0, 1.0, -1.0],
        "relu": [0.0, 0.0, np.inf, 0.0],
        "leaky_relu": [0.0, -0.0, np.inf, -np.inf],
        "step": [0.0, 0.0, 1.0, 0.0],
        "identity": [0.0, -0.0, np.inf, -np.inf],
    }
    for name, values in expected.items():
        assert_same_bits(_core.activate(z, name), np.array(values, dtype))
    nan = np.full(5, np.nan, dtype)
    for name in BOUNDS:
        assert np.all(np.isnan(_core.activate(nan, name)))


def test_derivatives_at_the_edges(target: str, dtype: np.dtype[Any]) -> None:
    z = np.array([np.inf, -np.inf, 1e30, -1e30], dtype)
    slope = dtype.type(0.1)
    expected = {
        "sigmoid": [0.0, 0.0, 0.0, 0.0],
        "tanh": [0.0, 0.0, 0.0, 0.0],
        "relu": [1.0, 0.0, 1.0, 0.0],
        "leaky_relu": [1.0, slope, 1.0, slope],
        "step": [0.0, 0.0, 0.0, 0.0],
        "identity": [1.0, 1.0, 1.0, 1.0],
    }
    for name, values in expected.items():
        with np.errstate(all="raise"):
            derivative = value_and_derivative(name, z)[1]
        assert_same_bits(derivative, np.array(values, dtype))
    zero = np.zeros(1, dtype)
    assert value_and_derivative("sigmoid", zero)[1] == 0.25
    assert value_and_derivative("tanh", zero)[1] == 1


def test_relu_has_no_slope_at_zero(target: str, dtype: np.dtype[Any]) -> None:
    z = np.zeros(3, dtype)
    assert np.all(value_and_derivative("relu", z)[1] == 0)
    assert np.all(value_and_derivative("leaky_relu", z)[1] == dtype.type(0.1))
