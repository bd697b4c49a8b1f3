"""The losses: what users call them, their numbers, the outputs that they go with."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from siglin import _core
from siglin._data.arrays import check_choice, check_positive, check_real


@dataclass(frozen=True)
class Huber:
    """The squared error near the target, the distance far from it: ``loss=Huber()``.

    With r = output - t: r^2 / 2 for \\|r\\| <= delta, else delta (\\|r\\| - delta / 2). A
    few targets that are far off pull a network less than under the squared error.

    Parameters
    ----------
    delta : float, default 1.0
        Where the one becomes the other, in units of the targets, > 0.

    Raises
    ------
    TypeError, ValueError
        If delta is not a finite number > 0.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", The Annals of Mathematical
    Statistics 35 (1964) 73.

    Examples
    --------
    >>> import siglin
    >>> siglin.Network([3, 8, 1], loss=siglin.Huber(delta=2.0)).loss_name
    'huber'
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        check_positive("Huber", "delta", self.delta)

    @property
    def number(self) -> float:
        """What the kernels take."""
        return float(self.delta)


@dataclass(frozen=True)
class Quantile:
    """The pinball loss, whose best constant answer is a quantile of the targets.

    With r = t - output: q r for r >= 0, else (q - 1) r.

    Parameters
    ----------
    q : float, default 0.5
        Which quantile, in (0, 1); 0.5 is the median.

    Raises
    ------
    TypeError, ValueError
        If q is not a number in (0, 1).

    References
    ----------
    R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46 (1978) 33.

    Examples
    --------
    >>> import siglin
    >>> siglin.Network([3, 8, 1], loss=siglin.Quantile(0.9)).loss_name
    'quantile'
    """

    q: float = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        if not 0 < check_real("Quantile", "q", self.q) < 1:
            raise ValueError(f"Quantile: q must be in (0, 1), got {self.q!r}")

    @property
    def number(self) -> float:
        """What the kernels take."""
        return float(self.q)


Loss: TypeAlias = str | Huber | Quantile

# Those that have a number.
WITH_NUMBER: dict[str, type[Huber | Quantile]] = {
    one.name: one for one in (Huber, Quantile)
}

# Each loss, and the output activation it has by default.
OUTPUTS = {
    "bce": "sigmoid",
    "squared_error": "identity",
    "cross_entropy": "softmax",
    "poisson": "exp",
    "huber": "identity",
    "quantile": "identity",
}
# Those that go with any output but a softmax or exp; the others are computed from the
# pre-activations and allow no other.
OF_OUTPUTS = ("squared_error", "huber", "quantile")


def losses() -> list[str]:
    """Return the names of the losses.

    Examples
    --------
    >>> import siglin
    >>> siglin.losses()
    ['bce', 'squared_error', 'cross_entropy', 'poisson', 'huber', 'quantile']
    """
    return _core.losses()


def loss_and_number(function: str, loss: object) -> tuple[str, float]:
    """Return the name of a loss, and its number (0 where it has none)."""
    if isinstance(loss, str) and loss in WITH_NUMBER:
        loss = WITH_NUMBER[loss]()
    if isinstance(loss, Huber | Quantile):
        return loss.name, loss.number
    return check_choice(function, "loss", loss, tuple(OUTPUTS)), 0.0


def loss_of(name: str, number: float) -> Loss:
    """Return the loss of a name and a number, as a user may pass it."""
    return WITH_NUMBER[name](number) if name in WITH_NUMBER else name
