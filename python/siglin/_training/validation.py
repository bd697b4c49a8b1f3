"""The losses that a fit is judged by, and the best parameters so far."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import Array
from siglin.errors import ShapeError

Numbers: TypeAlias = npt.NDArray[np.int64]


class Validation:
    """The losses of the validation data, and the best parameters so far.

    Without validation data the training loss is what a fit is judged by. A loss that is
    NaN or infinite is never the best.

    Parameters
    ----------
    loss : callable or None
        Returns the loss of the validation data, if there are any.
    params : ndarray
        The parameters that the fit writes into.
    patience : int or None
        How many epochs in a row may pass without an improvement; None is any number,
        and nothing is restored.
    min_delta : float
        A loss is an improvement if it is smaller than the best one by more than this.
    """

    def __init__(
        self,
        loss: Callable[[], float] | None,
        params: Array,
        patience: int | None,
        min_delta: float,
    ) -> None:
        self.loss = loss
        self.params = params
        self.patience = patience
        self.min_delta = min_delta
        self.losses: list[float] = []
        self.epochs = 0
        self.best = math.inf
        self.best_epoch: int | None = None
        self.best_params: Array | None = None

    @property
    def latest(self) -> float | None:
        """The validation loss of the last epoch; None without validation data."""
        return self.losses[-1] if self.losses else None

    def epoch(self, training_loss: float) -> bool:
        """Judge an epoch; return whether patience has run out."""
        loss = training_loss
        if self.loss is not None:
            loss = self.loss()
            self.losses.append(loss)
        self.epochs += 1
        if self.patience is None:
            return False
        first = self.best_epoch is None
        if math.isfinite(loss) and (first or loss < self.best - self.min_delta):
            self.best = loss
            self.best_epoch = self.epochs
            self.best_params = self.params.copy()
        return self.epochs - (self.best_epoch or 0) >= self.patience

    def restore(self) -> None:
        """Put the best parameters back; without any, the last ones stay."""
        if self.best_params is not None:
            self.params[...] = self.best_params


def hold_out(
    function: str, share: float, rows: int, generator: npt.NDArray[np.uint64]
) -> tuple[Numbers, Numbers]:
    """Return the numbers of the rows to train on, and of those to validate with.

    Both are in order. The first rows of one permutation are held out, at least one; at
    least one is left.
    """
    if rows < 2:
        msg = f"{function}: validation_split needs at least two rows, got {rows}"
        raise ShapeError(msg)
    held = min(max(round(share * rows), 1), rows - 1)
    drawn = _core.permutation(generator, rows)
    return np.sort(drawn[held:]), np.sort(drawn[:held])
