"""Checks of the data that layers and networks are given: inputs and targets."""

from collections.abc import Callable

import numpy as np

from siglin import _core
from siglin._data.arrays import (
    FLOAT32,
    FLOAT64,
    AnyArray,
    Array,
    DType,
    check_matrix,
    check_shape,
    has_plain_rows,
    normalise,
)
from siglin.errors import ShapeError

# The largest finite number, by dtype.
_LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (FLOAT32, FLOAT64)}

TO_GO = " to go with x"

# Of the largest weight, to either side, that are left as they are: the sum of 2**60 rows
# and the inverse of that of one are then far from the limits of float32.
FARTHEST_EXPONENT = 16

# A distribution over the classes must sum to 1; further off is a mistake, not rounding.
SUM_TOLERANCE = 1e-3


def check_rows(
    function: str, name: str, value: object, dtype: DType, cols: int
) -> Array:
    """Return a matrix of so many columns, of the dtype of a layer or network."""

    def check(array: AnyArray) -> None:
        check_matrix(function, name, array, cols)
        if array.shape[1] != cols:
            msg = (
                f"{function}: {name} must have {cols} columns, got shape {array.shape}"
            )
            raise ShapeError(msg)

    return _convert(function, name, value, dtype, check)


def check_row(
    function: str, name: str, value: object, dtype: DType, cols: int
) -> Array:
    """Return one row, of shape (cols,) or (1, cols), as a matrix."""

    def check(array: AnyArray) -> None:
        if array.shape not in {(cols,), (1, cols)}:
            msg = (
                f"{function}: {name} must be one row, of shape ({cols},) or "
                f"(1, {cols}), got {array.shape}"
            )
            raise ShapeError(msg)

    return _convert(function, name, value, dtype, check).reshape(1, cols)


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

    array = _convert(function, "t", t, dtype, check)
    if loss == "cross_entropy" and array.size == 1:
        array = _one_hot(function, array.reshape(1), n_out)
    array = array.reshape(1, n_out)
    check_finite(function, "t", array)
    check_values(function, array, loss)
    return array


def _convert(
    function: str,
    name: str,
    value: object,
    dtype: DType,
    check: Callable[[AnyArray], None],
) -> Array:
    """Return the value as `normalise` does, and quickly if it is the array already."""
    if type(value) is np.ndarray and has_plain_rows(value, dtype):
        check(value)
        return value
    given = {name: value}
    return normalise(
        function, given, dtype, check_shapes=lambda arrays: check(arrays[name])
    )[name]


def check_finite(function: str, name: str, array: Array) -> None:
    """Raise ValueError that says where a matrix is NaN or infinite, if it is."""
    largest = _LARGEST[array.dtype]
    _check_range(function, name, array, -largest, largest, "NaN or infinity")


def _check_range(
    function: str, name: str, array: Array, low: float, high: float, what: str
) -> None:
    index = _core.first_outside(array, low, high)
    if index >= 0:
        row, column = divmod(index, array.shape[1])
        msg = f"{function}: {name} contains {what} at row {row}, column {column}"
        raise ValueError(msg)


def check_labels(function: str, t: object, rows: int, dtype: DType) -> Array:
    """Return targets that are 0 or 1 as a vector, for a perceptron."""

    def check(array: AnyArray) -> None:
        column = array.ndim == 2 and array.shape[1] == 1
        check_shape(function, "t", array, (rows, 1) if column else (rows,), TO_GO)

    array = _convert(function, "t", t, dtype, check).reshape(-1)
    _check_some(function, rows)
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{function}: t must be 0 or 1, got {array[row]} at row {row}")
    return array


def check_weights(function: str, value: object, rows: int, dtype: DType) -> Array:
    """Return the weights of so many rows as a contiguous vector.

    Only their ratios count: where the largest is far from 1, all are multiplied by one
    power of two, which changes no digit of a mean.
    """

    def check(array: AnyArray) -> None:
        check_shape(function, "sample_weight", array, (rows,), TO_GO)

    # Numbers without a dtype are Python's: float64, until they have been scaled.
    given = FLOAT64 if isinstance(value, list | tuple) else dtype
    array = _convert(function, "sample_weight", value, given, check)
    low = array < 0
    wrong = low | ~np.isfinite(array)
    if wrong.any():
        row = int(wrong.argmax())
        msg = (
            f"{function}: sample_weight must be finite and >= 0, got {array[row]} at "
            f"row {row}"
        )
        raise ValueError(msg)
    if not array.any():
        raise ValueError(f"{function}: sample_weight is 0 for every row")
    weights: Array = np.require(scaled_weights(array, dtype), dtype, "C")
    return weights


def scaled_weights(weights: Array, dtype: DType) -> Array:
    """Return weights whose means in that dtype neither over- nor underflow.

    A weight that is not a normal number beside the largest one counts as 0.
    """
    exponent = int(np.frexp(weights.max())[1])
    if abs(exponent) > FARTHEST_EXPONENT:
        weights = np.ldexp(weights, -exponent)
    return without_subnormals(weights, dtype)


def without_subnormals(weights: Array, dtype: DType) -> Array:
    """Return the weights with 0 for those that are not normal numbers in that dtype."""
    lost = (weights != 0) & (np.abs(weights) < np.finfo(dtype).tiny)
    return np.where(lost, weights.dtype.type(0), weights) if lost.any() else weights


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

    array = _convert(function, "t", t, dtype, check)
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


def check_values(function: str, array: Array, loss: str) -> None:
    """Raise ValueError unless the loss can take such targets."""
    if loss == "poisson":
        largest = _LARGEST[array.dtype]
        _check_range(function, "t", array, 0.0, largest, "something that is not >= 0")
    elif loss in {"bce", "cross_entropy"}:
        _check_range(function, "t", array, 0.0, 1.0, "something outside [0, 1]")
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
