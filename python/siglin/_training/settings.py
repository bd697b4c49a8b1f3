"""Settings: what a fit is asked, every option checked once, in the name of its door."""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

from siglin._data.arrays import (
    check_flag,
    check_integer,
    check_not_negative,
    check_positive,
)
from siglin._training.history import Callback, check_callback
from siglin._training.optimizers import Optimizer, check_fraction, check_optimizer
from siglin._training.progress import check_progress

MAX_COUNT = 2**63 - 1  # of epochs and rows, in the native loop

Schedule: TypeAlias = Callable[[int], float]


class Settings:
    """The options of a fit, as its door was given them.

    The parameters are those of `Network.fit`. A door passes the ones that it has, and its
    name, with which messages begin.

    Attributes
    ----------
    function : str
        The door.
    lr : float
        The step size of the first epoch: the one given, or the optimiser's.
    schedule : callable or None
        Returns the step size of an epoch, counted from 0.
    epochs : int
    batch_size : int or None
    shuffle : bool
    optimizer : Optimizer
    l1, l2, dropout : float
    clip_norm : float or None
    validation_split : float
    patience : int or None
    min_delta, tol : float
    callback : callable or None
    progress : bool or int
    scikit_learn : bool
        Whether losses and penalties are scikit-learn's: half the mean of the squares, and
        penalties divided by the weight of the batch.
    """

    function: str
    lr: float
    optimizer: Optimizer
    # Of an instance, only what was given: a fit of one step is not to pay for the rest.
    schedule: Schedule | None = None
    epochs: int = 1
    batch_size: int | None = None
    shuffle: bool = True
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    clip_norm: float | None = None
    validation_split: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    tol: float = 0.0
    callback: Callback | None = None
    progress: bool | int = False
    scikit_learn: bool = False

    def __init__(
        self,
        function: str,
        lr: float | Schedule | None,
        optimizer: str | Optimizer,
        **options: Any,
    ) -> None:
        given = vars(self)
        given["function"] = function
        method = given["optimizer"] = check_optimizer(function, optimizer)
        if callable(lr):
            given["schedule"] = lr
            lr = lr(0)
        elif lr is None:
            lr = method.default_lr if method.lr is None else method.lr
        given["lr"] = check_positive(function, "lr", lr)
        for name, value in options.items():
            default, check = _OPTIONS[name]
            if value is default:
                continue
            if type(value) is not type(default) or value != default:
                given[name] = check(function, name, value)

    def with_optimizer(self, optimizer: Optimizer) -> "Settings":
        """Return the same with another optimiser."""
        other = copy.copy(self)
        vars(other)["optimizer"] = optimizer
        return other


Check: TypeAlias = Callable[[str, str, Any], Any]


def _integer(low: int, high: int | None = None) -> Check:
    return lambda function, name, value: check_integer(function, name, value, low, high)


def _optional(check: Check) -> Check:
    return lambda function, name, value: (
        None if value is None else check(function, name, value)
    )


# Of each option that a class has a default for, that and its check.
_OPTIONS: dict[str, tuple[Any, Check]] = {
    name: (getattr(Settings, name), check)
    for name, check in {
        "epochs": _integer(0, MAX_COUNT),
        "batch_size": _optional(_integer(1)),
        "shuffle": check_flag,
        "l1": check_not_negative,
        "l2": check_not_negative,
        "dropout": check_fraction,
        "clip_norm": _optional(check_positive),
        "validation_split": check_fraction,
        "patience": _optional(_integer(1)),
        "min_delta": check_not_negative,
        "tol": check_not_negative,
        "callback": check_callback,
        "progress": check_progress,
        "scikit_learn": check_flag,
    }.items()
}
