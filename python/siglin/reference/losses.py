"""The losses and their gradients.

Each function returns one number per output; a network's loss is their sum over the
outputs, averaged over the rows. The two cross-entropies take the pre-activations z (the
logits), not the outputs: log(sigmoid(z)) is lost once sigmoid(z) has been rounded to 0
or 1, while in z it is a small number or about |z|.
"""

import numpy as np

from siglin.reference.activations import (
    activate,
    activate_backward,
    log_softmax,
    sigmoid,
    softmax,
)
from siglin.reference.checks import Array

# The output activation each loss takes by itself; the two cross-entropies allow no other.
OUTPUTS = {"bce": "sigmoid", "squared_error": "identity", "cross_entropy": "softmax"}


def beyond(z: Array, t: Array) -> Array:
    """Return t less what sigmoid(z) goes to on z's side: 1 for z >= 0, else 0."""
    return t - (z >= 0).astype(z.dtype)


def product(factor: Array, z: Array) -> Array:
    """Return factor * z, and 0 where the factor is 0 even if z is infinite."""
    return np.multiply(factor, z, out=np.zeros_like(z), where=factor != 0)


def bce(z: Array, t: Array) -> Array:
    """Return the binary cross-entropy -t log(y) - (1 - t) log(1 - y), y = sigmoid(z).

    With -log(sigmoid(z)) = max(-z, 0) + log(1 + exp(-|z|)) the two logarithms become
    max(z, 0) - t z + log(1 + exp(-|z|)), which no z overflows. Of an infinite z it is
    the limit: 0 where t is 1 or 0 on its side, else infinite.
    """
    return np.log1p(np.exp(-np.abs(z))) - product(beyond(z, t), z)


def bce_gradient(z: Array, t: Array) -> Array:
    """Return the gradient of `bce` to z, sigmoid(z) - t.

    As the distances of both from the limit of sigmoid(z): where t is 1 and z is large,
    sigmoid(z) has been rounded to 1, while its distance sigmoid(-z) has all digits.
    """
    tail = sigmoid(-np.abs(z))
    return np.where(z >= 0, -tail, tail) - beyond(z, t)


def bce_of_output(y: Array, t: Array) -> Array:
    """Return -t log(y) - (1 - t) log(1 - y), as the lecture writes it.

    Infinite or NaN where y is exactly 0 or 1.
    """
    return -t * np.log(y) - (1 - t) * np.log(1 - y)


def bce_of_output_gradient(y: Array, t: Array) -> Array:
    """Return the gradient of `bce_of_output` to y: -1/y for t = 1, 1/(1 - y) for t = 0."""
    return -t / y + (1 - t) / (1 - y)


def squared_error(a: Array, t: Array) -> Array:
    """Return half the squared distance, (a - t)^2 / 2; its gradient to a is a - t."""
    return 0.5 * (a - t) ** 2


def cross_entropy(z: Array, t: Array) -> Array:
    """Return -t log(softmax(z)), with t one-hot in each row."""
    return -product(t, log_softmax(z))


def cross_entropy_gradient(z: Array, t: Array) -> Array:
    """Return the gradient of `cross_entropy` to z, softmax(z) - t.

    Where t is nearly 1, from 1 - softmax(z), the share of all other classes: softmax(z)
    itself may have been rounded to 1.
    """
    a = softmax(z)
    others = a @ (1 - np.eye(z.shape[1], dtype=z.dtype))
    return np.where(t > 0.5, (1 - t) - others, a - t)


def poisson(z: Array, t: Array) -> Array:
    """Return half the Poisson deviance t log(t / a) - t + a of the output a = exp(z).

    Its gradient to z is a - t. It is infinite where a is.
    """
    t_log_t = t * np.log(np.where(t > 0, t, 1))  # 0 for t = 0
    of_output = np.exp(z) - product(t, np.minimum(z, np.finfo(z.dtype).max))
    return t_log_t - t + of_output


def penalty(w: Array, l1: float, l2: float) -> float:
    """Return l1 |w| + l2 w^2 / 2, summed over all weights."""
    return float(l1 * np.abs(w).sum() + l2 * (w**2).sum() / 2)


def penalty_gradient(w: Array, l1: float, l2: float) -> Array:
    """Return the gradient of `penalty`, which is 0 for a weight of 0."""
    return l1 * np.sign(w) + l2 * w


def output_gradient(
    loss: str,
    activation: str,
    z: Array,
    t: Array,
    weights: Array | None = None,
) -> tuple[float, Array]:
    """Return a network's loss and its gradient to the output layer's z.

    Parameters
    ----------
    loss : str
        "bce", "squared_error" or "cross_entropy".
    activation : str
        The output layer's activation.
    z, t : ndarray, shape (batch, n_out)
        The output layer's pre-activations and the targets; at least one row.
    weights : ndarray, shape (batch,), optional
        How much each row counts; None is 1 for each.

    Returns
    -------
    loss : float
        Mean over the rows of the sum over the outputs, 0 where the weights sum to 0.
    dz : ndarray, shape (batch, n_out)
        Both cross-entropies give a - t, because the derivative of the activation cancels
        against that of the logarithm. The 1 / batch of the mean is in it.
    """
    dz: Array
    if loss == "bce":
        each = bce(z, t)
        dz = bce_gradient(z, t)
    elif loss == "cross_entropy":
        each = cross_entropy(z, t)
        dz = cross_entropy_gradient(z, t)
    else:
        a = activate(activation, z)
        each = squared_error(a, t)
        dz = activate_backward(activation, z, a - t)
    if weights is None:
        batch = len(z)
        return float(each.sum() / batch), dz / batch
    w = weights[:, None]
    total = w.sum() or np.inf
    return float(
        product(np.broadcast_to(w, z.shape), each).sum() / total
    ), w / total * dz
