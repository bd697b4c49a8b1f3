"""What a fit tells: a callback of each epoch, and its caller of all of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from siglin._data.arrays import Array


@dataclass(frozen=True)
class History:
    """What a fit did.

    Attributes
    ----------
    loss : list of float
        One number per epoch: the mean over its rows, by their weights, of the losses
        before each update. From a perceptron: the number of mistakes.
    epochs, steps : int
        How many were run; an epoch that ``tol`` cut short counts.
    seconds : float
        Time taken by the loop.
    stop_reason : str
        "epochs", "tol", "patience" or "callback"; from `fit_many` also "diverged"; from
        a perceptron "epochs" or "no_mistakes".
    validation_loss : list of float
        Of the validation data, after each epoch; empty if there were none.
    best_epoch : int or None
        With patience, the epoch whose parameters the network ended with, counted from 1:
        the one of the best finite validation loss. None if there was none; the network
        ended with its last parameters then.

    Notes
    -----
    Every epoch's loss is kept, however many there are. ``loss`` takes 8 bytes an epoch, and
    32 once it has been read as a list; ``validation_loss`` takes 32. For a million epochs
    that is 8 MB, or 32 MB for each of the two.

    Examples
    --------
    >>> import siglin
    >>> history = siglin.Neuron(1).fit([[-1.0], [1.0]], [0, 1], epochs=3)
    >>> history.epochs, history.steps, history.stop_reason
    (3, 3, 'epochs')
    >>> print(round(history.loss[0], 6))
    0.693147
    """

    loss: list[float]
    epochs: int
    steps: int
    seconds: float
    stop_reason: str
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int | None = None


class _Losses:
    """What `History.loss` is: a list, made of an array when somebody first asks.

    To make a Python number takes a fifth of the time of the smallest network's step.
    """

    def __get__(self, history: History | None, _: object) -> "list[float] | _Losses":
        if history is None:
            return self
        losses: list[float] | Array = vars(history)["loss"]
        if isinstance(losses, np.ndarray):
            losses = vars(history)["loss"] = cast("list[float]", losses.tolist())
        return losses

    def __set__(self, history: History, losses: list[float] | Array) -> None:
        vars(history)["loss"] = losses


History.loss = _Losses()  # type: ignore[assignment]


class TrainingState(NamedTuple):
    """What a callback sees.

    Attributes
    ----------
    epoch, step : int
        Epochs and steps of this fit done so far.
    loss : float
        Of the epoch just done, as in `History`.
    params : ndarray, shape (n_params,)
        The network's parameters, read-only. They go on changing after the callback:
        copy what is to be kept.
    validation_loss : float or None
        Of the validation data, after the epoch just done.
    """

    epoch: int
    step: int
    loss: float
    params: Array
    validation_loss: float | None = None


Callback: TypeAlias = Callable[[TrainingState], Any]


def check_callback(function: str, name: str, callback: object) -> Callback | None:
    """Return the callback; TypeError unless it is None or can be called."""
    if callback is not None and not callable(callback):
        msg = f"{function}: {name} must be callable, got {type(callback).__name__}"
        raise TypeError(msg)
    return callback
