"""The optimisers: what a step makes of the gradient g, the step size lr and memory.

A name such as ``optimizer="adam"`` gives a fresh one to each fit. An object keeps its
memory, so that the next fit goes on where the last one ended. The steps themselves are
native; an object holds their settings, their vectors and the number of steps.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from siglin import _core
from siglin._data.arrays import (
    FLOAT32,
    FLOAT64,
    Array,
    DType,
    check_choice,
    check_not_negative,
    check_positive,
    check_real,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Optimizer:
    """Memory of a gradient method. Use one of the classes derived from it.

    Attributes
    ----------
    lr : float or None
        The step size of fits that are given none; None is the method's own.
    moments : ndarray or None
        The vectors that are carried from step to step, one after the other; None before
        the first fit.
    step_count : int
        Steps taken so far.
    """

    name: ClassVar[str]
    vectors: ClassVar[int]  # how many vectors of the length of params it carries
    default_lr: ClassVar[float]
    lr: float | None = None

    def __init__(self, lr: float | None = None, **options: float) -> None:
        if lr is not None:
            self.lr = check_positive(type(self).__name__, "lr", lr)
        self._options = options
        self.memory = _core.OptimizerMemory()

    @classmethod
    def unchecked(cls, **options: float) -> "Self":
        """Return one of settings that the constructor may refuse, all of them given."""
        optimizer = cls.__new__(cls)
        Optimizer.__init__(optimizer, **options)
        return optimizer

    @property
    def moments(self) -> Array | None:
        """The vectors that are carried from step to step."""
        return self.memory.moments

    @moments.setter
    def moments(self, value: Array | None) -> None:
        self.memory.moments = value

    @property
    def step_count(self) -> int:
        """Steps taken so far."""
        return self.memory.step_count

    @step_count.setter
    def step_count(self, value: int) -> None:
        self.memory.step_count = value

    @property
    def options(self) -> list[float]:
        """The settings, in the order in which the native loop takes them."""
        return list(self._options.values())

    def check_dtype(self, dtype: DType) -> None:
        """Raise ValueError where a setting is out of range once rounded to the dtype."""
        for name, value in self._options.items():
            if name == "eps":
                least = least_eps(self._options["beta2"], dtype)
                check_held(f"{type(self).__name__}: eps", value, dtype, least)
            elif name != "weight_decay":
                check_held(f"{type(self).__name__}: {name}", value, dtype)

    def reset(self) -> None:
        """Forget all steps; RuntimeError ("busy") during a fit."""
        self.memory.reset()

    def prepare(self, function: str, n_params: int, dtype: DType) -> Array:
        """Return the vectors for a network, made if this is the first fit."""
        size = self.vectors * n_params
        moments = self.memory.begin(size, dtype.name)
        if moments.size != size or moments.dtype != dtype:
            if self.memory.is_busy:
                raise RuntimeError(
                    f"{function}: the optimizer is busy with another fit"
                )
            msg = (
                f"{function}: this {type(self).__name__} holds the memory of another network "
                f"({moments.size // self.vectors} parameters of "
                f"{moments.dtype}); this one has {n_params} of {dtype}: use a new "
                f"{type(self).__name__}, or reset()"
            )
            raise ValueError(msg)
        return moments

    def __getstate__(self) -> dict[str, Any]:
        state = {n: v for n, v in vars(self).items() if n != "memory"}
        state["moments"], state["step_count"] = self.memory.snapshot()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        moments, step_count = state.pop("moments"), state.pop("step_count")
        vars(self).update(state)
        self.memory = _core.OptimizerMemory()
        if moments is not None:
            # Given memory-mapped, read-only or misaligned, perhaps.
            self.moments = _core.new_vector(moments.size, moments.dtype.name)
            self.moments[...] = moments
        self.step_count = step_count

    def __repr__(self) -> str:
        given = self._options if self.lr is None else {**self._options, "lr": self.lr}
        options = ", ".join(f"{name}={v!r}" for name, v in given.items())
        return f"{type(self).__name__}({options})"


def check_fraction(function: str, name: str, value: object) -> float:
    """Return a number in [0, 1)."""
    number = check_real(function, name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{function}: {name} must be in [0, 1), got {number}")
    return number


def check_held(
    what: str, value: float, dtype: DType, least: float | None = None
) -> None:
    """Raise ValueError unless a dtype holds a setting of an optimiser.

    Parameters
    ----------
    what : str
        The setting, as a message begins with it.
    value : float
        A number in [0, 1), or with ``least`` > 0.
    dtype : dtype
        That of the network.
    least : float, optional
        The smallest number that is not taken for 0; None for a fraction, which must not
        become 1.
    """
    if least is None and dtype.type(value) >= 1:
        most = np.nextafter(dtype.type(1), dtype.type(0))
        raise ValueError(f"{what}={value!r} is 1 in {dtype}; at most {most} is not")
    if least is not None and value < least:
        msg = f"{what}={value!r} is too small for {dtype}; at least {least:.3g} is not"
        raise ValueError(msg)


def least_eps(beta2: float, dtype: DType) -> float:
    """Return the smallest eps of Adam whose every step divides by a normal number.

    The native loop multiplies eps by sqrt(1 - beta2^t), t = 1, 2, ..., instead of
    dividing v.
    """
    return float(np.finfo(dtype).tiny) / math.sqrt(1 - beta2)


class GradientDescent(Optimizer):
    """w -= lr * g.

    Parameters
    ----------
    lr : float, optional
        The step size of fits that are given none; 0.1 without.

    Examples
    --------
    >>> import siglin
    >>> net = siglin.Neuron(1)
    >>> history = net.fit([[2.0]], [1.0], lr=1.0, optimizer=siglin.GradientDescent())
    >>> net.theta
    array([1.])
    """

    name = "gd"
    vectors = 0
    default_lr = 0.1

    def __init__(self, *, lr: float | None = None) -> None:
        super().__init__(lr)

    def prepare(self, function: str, n_params: int, dtype: DType) -> Array:  # noqa: ARG002
        """Return an empty vector: nothing is carried from step to step."""
        return np.empty(0, dtype)


class _Memoryless(GradientDescent):
    """Plain descent that does not count its steps, so that all threads may share one.

    Parameters
    ----------
    dtype : dtype
        Of the networks.
    """

    memory: Any

    def __init__(self, dtype: DType) -> None:
        self._options = {}
        self.memory = np.empty(0, dtype)


# By dtype; for steps that are made one at a time.
PLAIN_DESCENT = {dtype: _Memoryless(dtype) for dtype in (FLOAT32, FLOAT64)}


class Momentum(Optimizer):
    """v = momentum * v + g;  w -= lr * v.

    Parameters
    ----------
    momentum : float, default 0.9
        How much of the last step's v stays, in [0, 1).
    lr : float, optional
        The step size of fits that are given none; 0.01 without.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods",
    USSR Computational Mathematics and Mathematical Physics 4 (1964) 1.

    Examples
    --------
    >>> import siglin
    >>> optimizer = siglin.Momentum(momentum=0.8)
    >>> net = siglin.Neuron(1)
    >>> history = net.fit([[2.0]], [1.0], epochs=5, optimizer=optimizer)
    >>> optimizer.step_count
    5
    """

    name = "momentum"
    vectors = 1
    default_lr = 0.01

    def __init__(self, momentum: float = 0.9, *, lr: float | None = None) -> None:
        kind = type(self).__name__
        super().__init__(lr, momentum=check_fraction(kind, "momentum", momentum))


class Nesterov(Momentum):
    """v = momentum * v + g;  w -= lr * (g + momentum * v).

    Parameters
    ----------
    momentum : float, default 0.9
        How much of the last step's v stays, in [0, 1).
    lr : float, optional
        The step size of fits that are given none; 0.01 without.

    References
    ----------
    Y. Nesterov, "A method of solving a convex programming problem with convergence rate
    O(1/k^2)", Soviet Mathematics Doklady 27 (1983) 372; in this form I. Sutskever et al.,
    "On the importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import siglin
    >>> siglin.Nesterov()
    Nesterov(momentum=0.9)
    """

    name = "nesterov"


class Adam(Optimizer):
    """Steps by moving averages of g and g^2, freed of their start at zero.

    m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2;
    w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), t = 1, 2, ...

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
        How much of the averages stays, in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite, > 0.
    lr : float, optional
        The step size of fits that are given none; 0.001 without.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> import siglin
    >>> net, optimizer = siglin.Neuron(1), siglin.Adam()
    >>> history = net.fit([[2.0]], [1.0], epochs=5, optimizer=optimizer)
    >>> history = net.fit([[2.0]], [1.0], epochs=5, optimizer=optimizer)
    >>> optimizer.step_count
    10
    """

    name = "adam"
    vectors = 2
    default_lr = 0.001

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        lr: float | None = None,
    ) -> None:
        kind = type(self).__name__
        eps = check_positive(kind, "eps", eps)
        super().__init__(
            lr,
            beta1=check_fraction(kind, "beta1", beta1),
            beta2=check_fraction(kind, "beta2", beta2),
            eps=eps,
        )


class AdamW(Adam):
    """`Adam`, and a decay of every parameter beside its step.

    w -= lr * weight_decay * w, biases too; unlike l2 the decay is not divided by the
    root of v.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
        How much of the averages stays, in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite, > 0.
    weight_decay : float, default 0.01
        Share of a parameter that a step of lr 1 takes away, >= 0.
    lr : float, optional
        The step size of fits that are given none; 0.001 without.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import siglin
    >>> siglin.AdamW(weight_decay=0.1)
    AdamW(beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1)
    """

    name = "adamw"

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        lr: float | None = None,
    ) -> None:
        super().__init__(beta1, beta2, eps, lr=lr)
        decay = check_not_negative("AdamW", "weight_decay", weight_decay)
        self._options["weight_decay"] = decay


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    one.name: one for one in (GradientDescent, Momentum, Nesterov, Adam, AdamW)
}


def check_optimizer(function: str, optimizer: object) -> Optimizer:
    """Return a fresh optimiser of that name, or the object that was given."""
    if isinstance(optimizer, Optimizer) and hasattr(optimizer, "name"):
        return optimizer
    if isinstance(optimizer, str):
        return OPTIMIZERS[
            check_choice(function, "optimizer", optimizer, tuple(OPTIMIZERS))
        ]()
    msg = (
        f"{function}: optimizer must be one of {', '.join(OPTIMIZERS)}, or an object "
        f"such as siglin.Adam(); got {type(optimizer).__name__}"
    )
    raise TypeError(msg)
