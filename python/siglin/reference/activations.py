"""The activation functions and their derivatives.

An activation is added in one place, the table `ACTIVATIONS`: its value, its derivative
written in the pre-activation z, and its derivative written in the output a. The two
derivatives are the same number in exact arithmetic. In floating point the one written
in z keeps its digits where the function saturates: `a * (1 - a)` is 0 once a has been
rounded to 1, `sigmoid(z) * sigmoid(-z)` is not.
"""

# NumPy's stubs give Any for arithmetic on arrays of either float dtype.
# mypy: disable-error-code="no-any-return"

from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np

from siglin.reference.checks import Array

LEAKY_RELU_ALPHA = 0.1


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), which for z < 0 is exp(z) / (1 + exp(z)).

    Only exp(-|z|) is ever computed: it cannot overflow, and for a very negative z it is
    the result itself, so that the tail is not lost.
    """
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def tanh_derivative(z: Array) -> Array:
    """Return 1 - tanh(z)^2 = 4 e / (1 + e)^2 with e = exp(-2 |z|)."""
    e = np.exp(-np.abs(z)) ** 2
    return 4 * e / (1 + e) ** 2


def positive(z: Array) -> Array:
    """Return 1 where z > 0 and 0 elsewhere (at 0 and for NaN too)."""
    return (z > 0).astype(z.dtype)


def leaky_slope(z: Array) -> Array:
    """Return 1 where z > 0 and alpha elsewhere."""
    return np.where(z > 0, 1, LEAKY_RELU_ALPHA).astype(z.dtype)


def no_derivative(z: Array) -> NoReturn:
    """Refuse: the step function is flat, so no gradient comes back through it."""
    del z
    raise ValueError('activation "step" has no gradient to go backward through')


class Activation(NamedTuple):
    """An activation a = f(z): f(z), f'(z), and f'(z) written in a."""

    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    derivative_from_a: Callable[[Array], Array]


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(
        value=lambda z: z.copy(),
        derivative=np.ones_like,
        derivative_from_a=np.ones_like,
    ),
    "sigmoid": Activation(
        value=sigmoid,
        derivative=lambda z: sigmoid(z) * sigmoid(-z),
        derivative_from_a=lambda a: a * (1 - a),
    ),
    "tanh": Activation(
        value=np.tanh,
        derivative=tanh_derivative,
        derivative_from_a=lambda a: (1 - a) * (1 + a),
    ),
    "relu": Activation(
        value=lambda z: np.maximum(0, z),
        derivative=positive,
        derivative_from_a=positive,
    ),
    "leaky_relu": Activation(
        value=lambda z: np.maximum(LEAKY_RELU_ALPHA * z, z),
        derivative=leaky_slope,
        derivative_from_a=leaky_slope,
    ),
    "step": Activation(
        value=positive,
        derivative=no_derivative,
        derivative_from_a=no_derivative,
    ),
}


def activation_named(name: str) -> Activation:
    """Return the activation of that name; ValueError lists the valid ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {[*ACTIVATIONS]}, got {name!r}")
    return ACTIVATIONS[name]


def log_softmax(z: Array) -> Array:
    """Return log(exp(z_i) / sum_j exp(z_j)) for each row.

    The largest z of the row is taken off first; that changes nothing but the overflow.
    The logarithm of the sum, 1 and the others, has all digits of the others.
    """
    shifted = below_largest(z)
    e = np.exp(shifted)
    np.put_along_axis(e, shifted.argmax(axis=1)[:, None], 0, axis=1)
    return shifted - np.log1p(e.sum(axis=1, keepdims=True))


def below_largest(z: Array) -> Array:
    """Return z less the largest of its row.

    Where that alone is infinite it becomes 0, and the others -inf: the limit.
    """
    largest = z.max(axis=1, keepdims=True)
    infinite = z == np.inf
    alone = infinite.sum(axis=1, keepdims=True) == 1
    with np.errstate(invalid="ignore"):
        return np.where(alone & infinite, 0, z - largest)


def softmax(z: Array) -> Array:
    """Return exp(z_i) / sum_j exp(z_j) for each row."""
    e = np.exp(below_largest(z))
    return e / e.sum(axis=1, keepdims=True)


# Of the output layer alone: a loss of their own goes with each.
OUTPUT_ACTIVATIONS = ("softmax", "exp")


def activate(name: str, z: Array) -> Array:
    """Return a = f(z) of a layer; here the name may also be an output's."""
    if name == "softmax":
        return softmax(z)
    if name == "exp":
        return np.exp(z)
    return activation_named(name).value(z)


def activate_backward(name: str, z: Array, da: Array) -> Array:
    """Return dz from da: da * f'(z), and for softmax a_i (da_i - sum_j a_j da_j).

    exp is its own derivative.
    """
    if name == "exp":
        return da * np.exp(z)
    if name == "softmax":
        a = softmax(z)
        return a * (da - (a * da).sum(axis=1, keepdims=True))
    return da * activation_named(name).derivative(z)
