"""What the contenders of the race have in common.

A contender is a function that takes a row and returns a ``Trainer``, or None where it
does not have what the row asks for. All train from the same weights on the same batches
and compute the loss of each step. What needs doing once only, such as cutting the data
into batches and compiling, is done beforehand, and the losses are read off afterwards.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from race_rows import Row, data

Array = NDArray[Any]
Run = Callable[[], Any]


class Losses(NamedTuple):
    """What a run of some epochs reports: an epoch's loss is the mean over its steps."""

    mean: float  # over all epochs
    last: float  # of the last epoch


class Trainer(NamedTuple):
    """A contender, ready to train one row."""

    # Goes back to the starting weights; the function it returns is what is timed: so many
    # epochs, at whose end all work is done.
    start: Callable[[int], Run]
    # Makes of what that returned the losses to compare.
    losses: Callable[[Any, int], Losses]


def losses_of(values: Any, epochs: int) -> Losses:
    """Take the losses of all steps, or of all epochs, in order."""
    by_epoch = np.asarray(values, dtype=np.float64).reshape(epochs, -1).mean(axis=1)
    return Losses(float(by_epoch.mean()), float(by_epoch[-1]))


def batches(row: Row, array: Any) -> list[Any]:
    """Return the contiguous slices that are the batches of an epoch."""
    return [array[i : i + row.batch] for i in range(0, row.rows, row.batch)]


def flat(row: Row) -> Array:
    """Return the starting weights as one vector: by layer w row by row, then b."""
    return np.concatenate([a.ravel() for layer in data(row).weights for a in layer])


def labels(row: Row) -> NDArray[np.int64]:
    """Return the class numbers of one-hot targets."""
    return data(row).t.argmax(axis=1)
