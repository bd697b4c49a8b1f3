"""Checks of the targets that networks are given, by their loss."""

import numpy as np

from siglin._data.arrays import AnyArray, Array, DType, check_shape
from siglin._data.rows import LARGEST, TO_GO, check_finite, check_range, convert
from siglin.errors import ShapeError

# A distribution over the classes must sum to 1; further off is a mistake, not rounding.
SUM_TOLERANCE = 1e-3


def check_targets(
    function: str,
    t: object,
    shape: tuple[int, int],
    loss: str,
    dtype: DType,
    *,
    finite: bool = False,
) -> Array:
    """Return targets as a matrix, checked against the loss.

    Parameters
    ----------
    function : str
        Name of the caller, for messages.
    t : object
        What the user passed: of the shape; of shape (rows,) for one output; class
        numbers of shape (rows,) for "cross_entropy".
    shape : (int, int)
        Rows and outputs.
    loss : str
        Name of the loss.
    dtype : dtype
        Of the network.
    finite : bool
        Whether NaN and infinities are refused whatever the loss.
    """
    rows, n_out = shape
    line = n_out == 1 or loss == "cross_entropy"  # whether one dimension will do

    def check(array: AnyArray) -> None:
        right = (rows,) if line and array.ndim == 1 else shape
        check_shape(function, "t", array, right, TO_GO)

    array = convert(function, "t", t, dtype, check)
    _check_some(function, rows)
    if array.ndim == 1:
        column = array.reshape(-1, 1)
        if finite:
            check_finite(function, "t", column)
        array = _one_hot(function, array, n_out) if loss == "cross_entropy" else column
    if finite:
        check_finite(function, "t", array)
    check_values(function, array, loss)
    return array


def check_row_targets(
    function: str, t: object, n_out: int, loss: str, dtype: DType
) -> Array:
    """Return the targets of one row as a matrix, checked against the loss.

    They have the shape (n_out,) or (1, n_out). A single number will do for one output,
    and is the number of a class for "cross_entropy".
    """
    single = n_out == 1 or loss == "cross_entropy"

    def check(array: AnyArray) -> None:
        if single and array.size == 1 and array.ndim <= 2:
            return
        if array.shape not in {(n_out,), (1, n_out)}:
            number = " or a number" if single else ""
            msg = (
                f"{function}: t must have shape ({n_out},) or (1, {n_out}){number}, "
                f"got {array.shape}"
            )
            raise ShapeError(msg)

    array = convert(function, "t", t, dtype, check)
    if loss == "cross_entropy" and array.size == 1:
        array = _one_hot(function, array.reshape(1), n_out)
    array = array.reshape(1, n_out)
    check_finite(function, "t", array)
    check_values(function, array, loss)
    return array


def check_labels(function: str, t: object, rows: int, dtype: DType) -> Array:
    """Return targets that are 0 or 1 as a vector, for a perceptron."""

    def check(array: AnyArray) -> None:
        column = array.ndim == 2 and array.shape[1] == 1
        check_shape(function, "t", array, (rows, 1) if column else (rows,), TO_GO)

    array = convert(function, "t", t, dtype, check).reshape(-1)
    _check_some(function, rows)
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{function}: t must be 0 or 1, got {array[row]} at row {row}")
    return array


def check_values(function: str, array: Array, loss: str) -> None:
    """Raise ValueError unless the loss can take such targets."""
    if loss == "poisson":
        largest = LARGEST[array.dtype]
        check_range(function, "t", array, 0.0, largest, "something that is not >= 0")
    elif loss in {"bce", "cross_entropy"}:
        check_range(function, "t", array, 0.0, 1.0, "something outside [0, 1]")
    if loss == "cross_entropy":
        sums = array.sum(axis=1)
        wrong = np.abs(sums - 1) > SUM_TOLERANCE
        if wrong.any():
            row = int(wrong.argmax())
            msg = (
                f"{function}: each row of t must be one-hot (or sum to 1), "
                f"row {row} sums to {sums[row]:.6g}"
            )
            raise ValueError(msg)


def _check_some(function: str, rows: int) -> None:
    if rows == 0:
        raise ShapeError(f"{function}: x and t have no rows; at least one is needed")


def _one_hot(function: str, classes: Array, n_out: int) -> Array:
    """Return a matrix with 1 in the column of each row's class, else 0."""
    # NaN fails this too.
    right = (classes >= 0) & (classes < n_out) & (classes == np.floor(classes))
    if not right.all():
        row = int(right.argmin())
        msg = (
            f"{function}: t must be class numbers from 0 to {n_out - 1}, "
            f"got {classes[row]} at row {row}"
        )
        raise ValueError(msg)
    matrix: Array = np.zeros((len(classes), n_out), classes.dtype)
    matrix[np.arange(len(classes)), classes.astype(np.intp)] = 1
    return matrix
