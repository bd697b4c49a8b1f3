"""The optimisers: how a step is made of the gradient g, the step size lr and memory.

Momentum is written as PyTorch and Keras write it: the velocity collects plain
gradients, and the step size multiplies the velocity. Every array is a flat vector of
all parameters of a network.
"""

import numpy as np

from siglin.reference.checks import Array


class GradientDescent:
    """w -= lr * g."""

    def step(self, w: Array, g: Array, lr: float) -> None:
        """Change w in place."""
        w -= lr * g


class Momentum:
    """v = momentum * v + g;  w -= lr * v."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.v: Array | None = None

    def step(self, w: Array, g: Array, lr: float) -> None:
        """Change w in place."""
        v = np.zeros_like(w) if self.v is None else self.v
        v = self.momentum * v + g
        w -= lr * v
        self.v = v


class Nesterov:
    """v = momentum * v + g;  w -= lr * (g + momentum * v)."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.v: Array | None = None

    def step(self, w: Array, g: Array, lr: float) -> None:
        """Change w in place."""
        v = np.zeros_like(w) if self.v is None else self.v
        v = self.momentum * v + g
        w -= lr * (g + self.momentum * v)
        self.v = v


class Adam:
    """Moving averages of g and g^2, freed of their start at zero.

    m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2;
    w -= lr * m_hat / (sqrt(v_hat) + eps), where m_hat = m / (1 - beta1^t),
    v_hat = v / (1 - beta2^t) and t counts the steps from 1.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(
        self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.t = 0
        self.m: Array | None = None
        self.v: Array | None = None

    def step(self, w: Array, g: Array, lr: float) -> None:
        """Change w in place."""
        m = np.zeros_like(w) if self.m is None else self.m
        v = np.zeros_like(w) if self.v is None else self.v
        t = self.t + 1
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat = m / (1 - self.beta1**t)
        v_hat = v / (1 - self.beta2**t)
        w -= lr * m_hat / (np.sqrt(v_hat) + self.eps)
        self.t, self.m, self.v = t, m, v


class AdamW(Adam):
    """Adam, and beside its step a share of every parameter: w -= lr * weight_decay * w.

    With plain descent that is the penalty l2 w^2 / 2 with l2 = weight_decay. With Adam it
    is not: a penalty's gradient would be divided by sqrt(v_hat) like any other.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(beta1, beta2, eps)
        self.weight_decay = weight_decay

    def step(self, w: Array, g: Array, lr: float) -> None:
        """Change w in place."""
        decay = lr * self.weight_decay * w
        super().step(w, g, lr)
        w -= decay


Optimizer = GradientDescent | Momentum | Nesterov | Adam | AdamW

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "gd": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adam": Adam,
    "adamw": AdamW,
}


def optimizer_named(optimizer: str | Optimizer) -> Optimizer:
    """Return a fresh optimiser of that name, or the object that was given."""
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {[*OPTIMIZERS]} or an object, got {optimizer!r}"
        )
    return OPTIMIZERS[optimizer]()
