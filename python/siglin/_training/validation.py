"""The rows that a fit is judged by."""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import Array
from siglin._data.sparse import Rows
from siglin.errors import ShapeError

Numbers: TypeAlias = npt.NDArray[np.int64]


class Held(NamedTuple):
    """Checked rows whose loss is taken after each epoch.

    Attributes
    ----------
    x : ndarray or SparseRows, shape (rows, n_in)
    t : ndarray, shape (rows, n_out)
    weights : ndarray, shape (rows,), or None
    """

    x: Rows
    t: Array
    weights: Array | None = None


def hold_out(
    function: str,
    share: float,
    rows: int,
    generator: npt.NDArray[np.uint64],
    weights: Array | None,
) -> tuple[Numbers, Numbers]:
    """Return the numbers of the rows to train on, and of those to validate with.

    Both are in order. The first rows of one permutation are held out, at least one; at
    least one is left. Neither part may be without weight.
    """
    if rows < 2:
        msg = f"{function}: validation_split needs at least two rows, got {rows}"
        raise ShapeError(msg)
    held = min(max(round(share * rows), 1), rows - 1)
    drawn = _core.permutation(generator, rows)
    parts = np.sort(drawn[held:]), np.sort(drawn[:held])
    if weights is not None and not all(weights[part].any() for part in parts):
        raise ValueError(f"{function}: validation_split leaves a part without weight")
    return parts
