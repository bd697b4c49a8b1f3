"""The reference's losses against closed forms and complex steps."""

import math
from typing import Any

import numpy as np
import pytest

from helpers import (
    COMPLEX,
    COMPLEX_LOSS,
    Array,
    assert_same_bits,
    complex_step_gradient,
    floats_around,
    ulp_error,
    wider,
)
from siglin import reference
from siglin.reference import losses
from siglin.reference.activations import (
    ACTIVATIONS,
    activate,
)

SMOOTH_NAMES = [name for name in ACTIVATIONS if name != "step"]


def test_bce_from_logits_closed_forms(dtype: Any) -> None:
    z = floats_around(dtype, 80)
    one, zero = np.ones_like(z), np.zeros_like(z)
    assert_same_bits(losses.bce(z, one), losses.bce(-z, zero))
    exact = np.log1p(np.exp(-wider(z)))
    assert ulp_error(losses.bce(z, one), exact).max() <= 6


def test_bce_of_a_large_logit_is_not_lost() -> None:
    z = np.array([40.0, -1e4, 0.0])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss = losses.bce(z, np.ones(3))
    want = [4.248354255291589e-18, 1e4, math.log(2)]
    np.testing.assert_allclose(loss, want, rtol=1e-15)


def test_cross_entropy_of_a_large_logit_is_not_lost() -> None:
    z, t = np.array([[1e4, 0.0], [0.0, -1e4]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss = losses.cross_entropy(z, t)
    np.testing.assert_array_equal(loss, [[0, 1e4], [0, 0]])


def test_bce_agrees_with_the_lectures_form_where_that_is_exact() -> None:
    z, t = np.array([-2.0, -0.5, 0.0, 1.0, 3.0]), np.array([0.0, 1.0, 0.5, 1.0, 0.25])
    y = reference.sigmoid(z)
    np.testing.assert_allclose(losses.bce(z, t), losses.bce_of_output(y, t), rtol=1e-14)
    dz = losses.bce_of_output_gradient(y, t) * y * (1 - y)
    np.testing.assert_allclose(dz, y - t, rtol=1e-14, atol=1e-16)


def test_bce_gradient_of_output_for_both_targets() -> None:
    y = np.array([0.25, 0.25])
    got = losses.bce_of_output_gradient(y, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(got, [-4.0, 1 / 0.75])


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("bce", "sigmoid"),
        ("cross_entropy", "softmax"),
        ("poisson", "exp"),
        *(
            (loss, name)
            for loss in ("squared_error", "huber", "quantile")
            for name in [*SMOOTH_NAMES, "softmax"]
        ),
    ],
)
def test_output_gradient_is_the_complex_step(
    loss: str, output: str, rng: np.random.Generator
) -> None:
    z = rng.normal(size=(4, 3))
    t = np.eye(3)[[0, 2, 1, 1]]

    def value(p: Array) -> Any:
        return COMPLEX_LOSS[loss](COMPLEX[output](p.reshape(4, 3)), t).sum() / 4

    got, dz = losses.output_gradient(loss, output, z, t)
    np.testing.assert_allclose(got, value(z + 0j).real, rtol=1e-13)
    want = complex_step_gradient(value, z.ravel()).reshape(4, 3)
    np.testing.assert_allclose(dz, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_cross_entropy_dz_is_a_minus_t(output: str, dtype: Any) -> None:
    """Up to the digits that a, rounded near 1, has lost."""
    loss = "bce" if output == "sigmoid" else "cross_entropy"
    z = np.array([[3.0, -20.0, 0.5]], dtype)
    t = np.array([[1.0, 0.0, 0.0]], dtype)
    np.testing.assert_allclose(
        losses.output_gradient(loss, output, z, t)[1],
        activate(output, z) - t,
        rtol=0,
        atol=2 * float(np.finfo(dtype).eps),  # 4 ulp of a (test_reference.py)
    )


def test_huber_is_a_parabola_with_straight_ends(dtype: Any) -> None:
    r = np.array([[-4, -2, -0.5, 0, 1, 2, 3]], dtype)
    t = np.full_like(r, 0.25)
    each = reference.Huber(delta=2.0).value(r + t, t)
    np.testing.assert_array_equal(each, [[6, 2, 0.125, 0, 0.5, 2, 4]])
    slope = reference.Huber(delta=2.0).gradient(r + t, t)
    np.testing.assert_array_equal(slope, [[-2, -2, -0.5, 0, 1, 2, 2]])
    assert each.dtype == slope.dtype == dtype


def test_quantile_weighs_the_two_sides(dtype: Any) -> None:
    a = np.array([[1, 0, -2]], dtype)  # t - a is -1, 0, 2
    each = reference.Quantile(0.75).value(a, np.zeros_like(a))
    np.testing.assert_array_equal(each, [[0.25, 0, 1.5]])
    slope = reference.Quantile(0.75).gradient(a, np.zeros_like(a))
    np.testing.assert_array_equal(slope, [[0.25, 0, -0.75]])
    assert each.dtype == slope.dtype == dtype


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_is_least_at_the_quantile(q: float, rng: np.random.Generator) -> None:
    t = rng.normal(size=(101, 1))
    answers = np.sort(t.ravel())
    losses_of_answers = [
        reference.Quantile(q).value(np.full_like(t, a), t).sum() for a in answers
    ]
    assert answers[np.argmin(losses_of_answers)] == np.quantile(t, q)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (reference.Huber, 0.0),
        (reference.Huber, -1.0),
        (reference.Huber, math.inf),
        (reference.Huber, math.nan),
        (reference.Quantile, 0.0),
        (reference.Quantile, 1.0),
        (reference.Quantile, math.nan),
    ],
)
def test_a_loss_refuses_an_impossible_number(make: Any, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{make.__name__}: "):
        make(wrong)


def test_a_name_is_the_loss_with_its_usual_number() -> None:
    z, t = np.array([[3.0]]), np.array([[0.5]])
    for name, usual, other in (
        ("huber", reference.Huber(1.0), reference.Huber(9.0)),
        ("quantile", reference.Quantile(0.5), reference.Quantile(0.1)),
    ):
        named = losses.output_gradient(name, "identity", z, t)
        assert named == losses.output_gradient(usual, "identity", z, t)
        assert named[0] != losses.output_gradient(other, "identity", z, t)[0]
