"""The losses and their gradients.

Each function returns one number per output; a network's loss is their sum over the
outputs, averaged over the rows. The two cross-entropies take the pre-activations z (the
logits), not the outputs: log(sigmoid(z)) is lost once sigmoid(z) has been rounded to 0
or 1, while in z it is a small number or about |z|. `poisson` takes z too.
"""

# NumPy's stubs give Any for arithmetic on arrays of either float dtype.
# mypy: disable-error-code="no-any-return"

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from siglin.reference.activations import (
    activate,
    activate_backward,
    log_softmax,
    sigmoid,
    softmax,
)
from siglin.reference.checks import Array

# The output activation each loss takes by itself. A loss of the output, not of z, allows
# every other too.
OUTPUTS = {
    "bce": "sigmoid",
    "squared_error": "identity",
    "cross_entropy": "softmax",
    "poisson": "exp",
    "huber": "identity",
    "quantile": "identity",
}
OF_OUTPUT = ("squared_error", "huber", "quantile")


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


@dataclass(frozen=True)
class Huber:
    """The squared error near the target, the distance far from it.

    With r = a - t: r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2).

    Parameters
    ----------
    delta : float, default 1.0
        Where the one becomes the other, in units of the targets, > 0.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", The Annals of Mathematical
    Statistics 35 (1964) 73.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> reference.Huber(delta=2.0).value(np.array([1.0, 5.0]), np.zeros(2))
    array([0.5, 8. ])
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        if not 0 < self.delta < np.inf:
            raise ValueError(f"Huber: delta must be > 0 and finite, got {self.delta}")

    def value(self, a: Array, t: Array) -> Array:
        """Return the loss of each output."""
        distance = np.abs(a - t)
        far = self.delta * (distance - self.delta / 2)
        return np.where(distance <= self.delta, 0.5 * (a - t) ** 2, far).astype(a.dtype)

    def gradient(self, a: Array, t: Array) -> Array:
        """Return its gradient to a: r, but at most delta in size."""
        return np.clip(a - t, -self.delta, self.delta).astype(a.dtype)


@dataclass(frozen=True)
class Quantile:
    """The pinball loss, whose best constant answer is a quantile of the targets.

    With r = t - a: q r for r >= 0, else (q - 1) r.

    Parameters
    ----------
    q : float, default 0.5
        Which quantile, in (0, 1), dimensionless; 0.5 is the median.

    References
    ----------
    R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46 (1978) 33.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> reference.Quantile(0.75).value(np.array([1.0, 1.0]), np.array([3.0, -1.0]))
    array([1.5, 0.5])
    """

    q: float = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ValueError(f"Quantile: q must be in (0, 1), got {self.q}")

    def value(self, a: Array, t: Array) -> Array:
        """Return the loss of each output."""
        r = t - a
        return np.maximum(self.q * r, (self.q - 1) * r).astype(a.dtype)

    def gradient(self, a: Array, t: Array) -> Array:
        """Return its gradient to a: -q below the target, 1 - q above it, 0 on it."""
        above = np.where(a > t, 1 - self.q, 0)
        return np.where(a < t, -self.q, above).astype(a.dtype)


Loss = str | Huber | Quantile


def loss_named(loss: Loss) -> Loss:
    """Return a loss by its name, or the object that was given."""
    if not isinstance(loss, str):
        return loss
    if loss not in OUTPUTS:
        raise ValueError(f"loss must be one of {[*OUTPUTS]}, got {loss!r}")
    objects: dict[str, Loss] = {"huber": Huber(), "quantile": Quantile()}
    return objects.get(loss, loss)


def name_of(loss: Loss) -> str:
    """Return the name of a loss, whatever its number is."""
    return loss if isinstance(loss, str) else loss.name


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

    t is >= 0. Its gradient to z is a - t. It is infinite where a is.
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
    loss: Loss,
    activation: str,
    z: Array,
    t: Array,
    weights: Array | None = None,
) -> tuple[float, Array]:
    """Return a network's loss and its gradient to the output layer's z.

    Parameters
    ----------
    loss : str, Huber or Quantile
        A name of `OUTPUTS`, or an object with a number of its own.
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
        Both cross-entropies and the Poisson loss give a - t, because the derivative of
        the activation cancels against that of the logarithm. The 1 / batch of the mean is
        in it.
    """
    dz: Array
    loss = loss_named(loss)
    if loss == "bce":
        each = bce(z, t)
        dz = bce_gradient(z, t)
    elif loss == "cross_entropy":
        each = cross_entropy(z, t)
        dz = cross_entropy_gradient(z, t)
    elif loss == "poisson":
        each = poisson(z, t)
        dz = activate(activation, z) - t
    elif isinstance(loss, str):
        a = activate(activation, z)
        each = squared_error(a, t)
        dz = activate_backward(activation, z, a - t)
    else:
        a = activate(activation, z)
        each = loss.value(a, t)
        dz = activate_backward(activation, z, loss.gradient(a, t))
    if weights is None:
        batch = len(z)
        return float(each.sum() / batch), dz / batch
    w = weights[:, None]
    total = w.sum() or np.inf
    return float(
        product(np.broadcast_to(w, z.shape), each).sum() / total
    ), w / total * dz
