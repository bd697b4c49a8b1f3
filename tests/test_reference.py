"""The NumPy reference against closed forms, complex steps and exact values.

Everything else is compared with the reference, so nothing here is compared with it:
each expected value is written out, or comes from a formula of the tests. This file has
the activations and one layer; the losses, the random numbers, the networks and the
training have files of their own.
"""

import math
from typing import Any

import numpy as np
import pytest

from helpers import (
    COMPLEX,
    Array,
    assert_close,
    assert_same_bits,
    complex_step_gradient,
    exact_sigmoid,
    floats_around,
    layouts,
    ulp_error,
    wider,
)
from siglin import reference
from siglin.errors import DTypeError, ShapeError
from siglin.reference.activations import (
    ACTIVATIONS,
    activate,
    activate_backward,
    softmax,
)

SMOOTH_NAMES = [name for name in ACTIVATIONS if name != "step"]
TINY = 5e-324


def test_sigmoid_is_within_4_ulp_down_to_the_last_subnormal(dtype: Any) -> None:
    z = floats_around(dtype, 103.5 if dtype == np.float32 else 745)
    a = reference.sigmoid(z)
    assert a.dtype == dtype
    assert ulp_error(a, exact_sigmoid(z)).max() <= 4
    assert (a > 0).all()


def test_sigmoid_derivative_keeps_its_digits_when_saturated(dtype: Any) -> None:
    z = floats_around(dtype, 85 if dtype == np.float32 else 700)
    exact = exact_sigmoid(z) * exact_sigmoid(-z)
    assert ulp_error(ACTIVATIONS["sigmoid"].derivative(z), exact).max() <= 8


def test_tanh_derivative_keeps_its_digits_when_saturated(dtype: Any) -> None:
    z = floats_around(dtype, 40 if dtype == np.float32 else 350)
    exact = 1 / np.cosh(wider(z)) ** 2
    assert ulp_error(ACTIVATIONS["tanh"].derivative(z), exact).max() <= 12


EDGES = [-np.inf, -1e30, -TINY, -0.0, 0.0, TINY, 1e30, np.inf, np.nan]
EDGE_VALUES: dict[str, Any] = {
    "identity": EDGES,
    "sigmoid": [0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, np.nan],
    "tanh": [-1, -1, -TINY, -0.0, 0, TINY, 1, 1, np.nan],
    "relu": [0, 0, 0, 0, 0, TINY, 1e30, np.inf, np.nan],
    "leaky_relu": [-np.inf, -1e29, -0.0, -0.0, 0, TINY, 1e30, np.inf, np.nan],
    "step": [0, 0, 0, 0, 0, 1, 1, 1, 0],
}
EDGE_SLOPES: dict[str, Any] = {
    "identity": [1, 1, 1, 1, 1, 1, 1, 1, 1],
    "sigmoid": [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0, np.nan],
    "tanh": [0, 0, 1, 1, 1, 1, 0, 0, np.nan],
    "relu": [0, 0, 0, 0, 0, 1, 1, 1, 0],
    "leaky_relu": [0.1, 0.1, 0.1, 0.1, 0.1, 1, 1, 1, 0.1],
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_edge_values(name: str) -> None:
    z = np.array(EDGES)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(activate(name, z), EDGE_VALUES[name], rtol=1e-15)


@pytest.mark.parametrize("name", SMOOTH_NAMES)
def test_derivative_at_edge_values(name: str) -> None:
    z = np.array(EDGES)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        slope = ACTIVATIONS[name].derivative(z)
    np.testing.assert_array_equal(slope, EDGE_SLOPES[name])


@pytest.mark.parametrize("name", SMOOTH_NAMES)
def test_derivative_is_the_complex_step(name: str, rng: np.random.Generator) -> None:
    z = rng.normal(0, 3, 200)
    stepped = COMPLEX[name](z + 1e-30j)
    np.testing.assert_allclose(activate(name, z), stepped.real, rtol=1e-13)
    derivative = stepped.imag / 1e-30
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(z), derivative, rtol=1e-13)
    from_a = ACTIVATIONS[name].derivative_from_a(activate(name, z))
    # a is off by an ulp of 1 at most, so a (1 - a) is by as much in absolute terms.
    np.testing.assert_allclose(from_a, derivative, rtol=1e-13, atol=4 * 2**-53)


def test_derivative_from_a_is_the_lectures_formula() -> None:
    a = np.array([0.0, 0.25, 0.5, 1.0])
    from_a = ACTIVATIONS["sigmoid"].derivative_from_a(a)
    np.testing.assert_array_equal(from_a, [0.0, 0.1875, 0.25, 0.0])


def test_step_has_no_way_back() -> None:
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match="step"):
        reference.backward(one, one, one, one, activation="step")
    with pytest.raises(ValueError, match="step"):
        reference.backward(one, one, one, one, activation="step", z=one)


def test_softmax_is_a_distribution_that_a_shift_leaves_alone() -> None:
    z = np.array([[0.0, math.log(2), math.log(5)], [1000.0, 1000.0, -1000.0]])
    want = [[0.125, 0.25, 0.625], [0.5, 0.5, 0.0]]
    np.testing.assert_allclose(softmax(z), want, rtol=1e-15)
    np.testing.assert_allclose(softmax(z - 300), want, rtol=1e-12)


def test_activate_backward_of_softmax_is_the_complex_step(
    rng: np.random.Generator,
) -> None:
    z, da = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    want = complex_step_gradient(
        lambda p: (da * COMPLEX["softmax"](p.reshape(2, 3))).sum(), z.ravel()
    )
    got = activate_backward("softmax", z, da)
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_is_f_of_exactly_summed_products(
    name: str, dtype: Any, rng: np.random.Generator
) -> None:
    x, w, b = (rng.normal(size=size).astype(dtype) for size in [(5, 7), (7, 4), (4,)])
    z = np.array(
        [
            [
                math.fsum([*(float(x[i, k]) * float(w[k, j]) for k in range(7)), b[j]])
                for j in range(4)
            ]
            for i in range(5)
        ]
    )
    want = activate(name, z).astype(dtype)
    a = reference.forward(x, w, b, activation=name)
    assert_close(a, want, k=7, magnitude=np.abs(x) @ np.abs(w) + np.abs(b))


@pytest.mark.parametrize("given", ["a", "z"])
@pytest.mark.parametrize("name", SMOOTH_NAMES)
def test_backward_is_the_complex_step_of_the_layer(
    name: str, given: str, rng: np.random.Generator
) -> None:
    x, w, b, da = (rng.normal(size=size) for size in [(5, 3), (3, 4), (4,), (5, 4)])

    def value(x: Array, w: Array, b: Array) -> Any:
        return (da * COMPLEX[name](x @ w + b)).sum()

    want_dx = complex_step_gradient(lambda p: value(p.reshape(5, 3), w, b), x.ravel())
    want_dw = complex_step_gradient(lambda p: value(x, p.reshape(3, 4), b), w.ravel())
    want_db = complex_step_gradient(lambda p: value(x, w, p), b)
    z = x @ w + b
    dx, dw, db = reference.backward(
        x, w, activate(name, z), da, activation=name, z=z if given == "z" else None
    )
    assert dx is not None
    np.testing.assert_allclose(dx.ravel(), want_dx, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(dw.ravel(), want_dw, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(db, want_db, rtol=1e-11, atol=1e-14)


def test_backward_computes_in_the_dtype_of_its_inputs(dtype: Any) -> None:
    x, w = np.ones((2, 3), dtype), np.zeros((3, 1), dtype)
    dx, dw, db = reference.backward(x, w, reference.forward(x, w), [[4], [4]])
    assert dx is not None
    assert dx.dtype == dw.dtype == db.dtype == dtype
    np.testing.assert_array_equal(dw, [[2], [2], [2]])
    np.testing.assert_array_equal(db, [2])
    np.testing.assert_array_equal(dx, np.zeros((2, 3)))


def test_need_dx_false_leaves_dx_out() -> None:
    one = np.ones((1, 1))
    assert reference.backward(one, one, one, one, need_dx=False).dx is None
    assert reference.backward_update(one, one, None, one, one, 1, need_dx=False) is None


def test_backward_update_returns_dx_of_the_old_weights() -> None:
    x, w, b = np.array([[3.0]]), np.array([[2.0]]), np.array([1.0])
    a = reference.forward(x, w, b, activation="identity")
    dx = reference.backward_update(x, w, b, a, [[5.0]], 0.5, activation="identity")
    np.testing.assert_array_equal(dx, [[10.0]])
    np.testing.assert_array_equal(w, [[2 - 0.5 * 15]])
    np.testing.assert_array_equal(b, [1 - 0.5 * 5])


def test_update_steps_down_up_or_not_at_all(dtype: Any) -> None:
    param = np.array([[1, 2], [3, 4]], dtype)
    grad = np.array([[2, 2], [4, 8]], dtype)
    for lr, want in [(0.5, [[0, 1], [1, 0]]), (-0.5, [[1, 2], [3, 4]])]:
        reference.update(param.T, grad.T, lr)
        np.testing.assert_array_equal(param, want)
    reference.update(param, grad, 0)
    np.testing.assert_array_equal(param, [[1, 2], [3, 4]])


def test_layouts_change_no_bit_of_elementwise_results(
    dtype: Any, rng: np.random.Generator
) -> None:
    z = rng.normal(size=(3, 5)).astype(dtype)
    for variant in layouts(z).values():
        assert_same_bits(reference.sigmoid(variant), reference.sigmoid(z))


def test_out_is_written_and_returned(dtype: Any) -> None:
    z = np.array([[0.0, np.inf]], dtype)
    assert reference.sigmoid(z, out=z) is z
    np.testing.assert_array_equal(z, [[0.5, 1.0]])
    with pytest.raises(ShapeError, match=r"out must have shape \(1, 2\), got \(2,\)"):
        reference.sigmoid(z, out=z[0])
    with pytest.raises(DTypeError, match="out"):
        reference.sigmoid(z, out=np.zeros((1, 2), np.float16))


def test_empty_batches_give_empty_results(dtype: Any) -> None:
    x, w = np.zeros((0, 3), dtype), np.ones((3, 2), dtype)
    a = reference.forward(x, w)
    dx, dw, db = reference.backward(x, w, a, a)
    assert dx is not None
    assert [a.shape, dx.shape] == [(0, 2), (0, 3)]
    np.testing.assert_array_equal(dw, np.zeros((3, 2)))
    np.testing.assert_array_equal(db, np.zeros(2))
    no_inputs = reference.forward(np.zeros((2, 0), dtype), np.zeros((0, 1), dtype))
    np.testing.assert_array_equal(no_inputs, [[0.5], [0.5]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones(3)}, ShapeError, r"x\[None, :\]"),
        ({"x": np.ones((1, 1, 3))}, ShapeError, r"got \(1, 1, 3\)$"),
        ({"w": np.ones((4, 2))}, ShapeError, r"w must have shape \(3, n_out\), got"),
        ({"a": np.ones((2, 3))}, ShapeError, r"a must have shape \(2, 2\), got"),
        ({"da": np.ones((1, 2))}, ShapeError, r"da must have shape \(2, 2\), got"),
        ({"z": np.ones((2, 1))}, ShapeError, r"z must have shape \(2, 2\), got"),
        ({"w": np.ones((3, 2), np.float32)}, DTypeError, "w is float32"),
        ({"x": np.ones((2, 3), complex)}, DTypeError, "x must be .* got complex128"),
        ({"x": np.ones((2, 3), np.longdouble)}, DTypeError, "x must be"),
        ({"x": [["1", "2", "3"]]}, DTypeError, "x must be"),
        ({"activation": "swish"}, ValueError, "leaky_relu"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "x": np.ones((2, 3)),
        "w": np.ones((3, 2)),
        "a": np.ones((2, 2)),
        "da": np.ones((2, 2)),
    }
    with pytest.raises(error, match=message):
        reference.backward(**{**arguments, **change})
