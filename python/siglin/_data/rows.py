"""Checks of the rows that layers and networks are given, and of their weights."""

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
from siglin._data.sparse import Rows, SparseRows
from siglin.errors import ShapeError

# The largest finite number, by dtype.
LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (FLOAT32, FLOAT64)}

TO_GO = " to go with x"

# Of the largest weight, to either side, that are left as they are: the sum of 2**60 rows
# and the inverse of that of one are then far from the limits of float32.
FARTHEST_EXPONENT = 16


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

    return convert(function, name, value, dtype, check)


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

    return convert(function, name, value, dtype, check).reshape(1, cols)


def convert(
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


def check_finite(function: str, name: str, array: Rows) -> None:
    """Raise ValueError that says where rows are NaN or infinite, if they are."""
    values = array.values if isinstance(array, SparseRows) else array
    largest = LARGEST[values.dtype]
    check_range(function, name, array, -largest, largest, "NaN or infinity")


def check_range(
    function: str, name: str, array: Rows, low: float, high: float, what: str
) -> None:
    if isinstance(array, SparseRows):
        index = _core.first_outside(array.values[None], low, high)
    else:
        index = _core.first_outside(array, low, high)
    if index < 0:
        return
    if isinstance(array, SparseRows):
        row, column = array.place_of(index)
    else:
        row, column = divmod(index, array.shape[1])
    msg = f"{function}: {name} contains {what} at row {row}, column {column}"
    raise ValueError(msg)


def check_weights(function: str, value: object, rows: int, dtype: DType) -> Array:
    """Return the weights of so many rows as a contiguous vector.

    Only their ratios count: where the largest is far from 1, all are multiplied by one
    power of two, which changes no digit of a mean.
    """

    def check(array: AnyArray) -> None:
        check_shape(function, "sample_weight", array, (rows,), TO_GO)

    # Numbers without a dtype are Python's: float64, until they have been scaled.
    given = FLOAT64 if isinstance(value, list | tuple) else dtype
    array = convert(function, "sample_weight", value, given, check)
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
