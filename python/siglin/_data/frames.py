"""Frames and series whose columns NumPy makes no array of numbers of by itself.

A column of truth values beside one of numbers, and pandas' nullable columns, become
objects in ``np.asarray``; column by column they are numbers. pandas, polars and Arrow are
known by what their classes have, none of them is imported.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_NUMBERS = "biuf"  # kinds of dtypes


def columns_of(value: Any) -> list[tuple[object, Any]] | None:
    """Return label and column for each column, or None for what is not a frame.

    A pandas series is a frame of one column.
    """
    if hasattr(value, "iloc"):
        if value.ndim == 1:
            return [(value.name, value)]
        return [(name, value.iloc[:, i]) for i, name in enumerate(value.columns)]
    if hasattr(value, "get_columns"):  # polars
        return list(zip(value.columns, value.get_columns(), strict=True))
    if hasattr(value, "column_names"):  # Arrow
        return list(zip(value.column_names, value.columns, strict=True))
    return None


def read_column(column: Any, *, objects: bool = False) -> npt.NDArray[Any] | str:
    """Return the numbers of a column, or say what keeps it from being numbers.

    Parameters
    ----------
    column : object
        Of a frame.
    objects : bool
        Whether objects that can be made float64 are numbers too.
    """
    dtype = getattr(column, "dtype", getattr(column, "type", None))
    plain = getattr(dtype, "numpy_dtype", None)  # pandas' nullable columns have one
    if plain is not None and np.dtype(plain).kind in _NUMBERS:
        missing = np.asarray(column.isna())
        if missing.any():
            return f"has a missing value at row {missing.argmax()}"
        return np.asarray(column.to_numpy(plain))
    array = np.asarray(column)
    if objects and array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            return f"is {dtype}"
    return array if array.dtype.kind in _NUMBERS else f"is {dtype}"


def numbers_of(columns: list[tuple[object, Any]]) -> npt.NDArray[Any] | str:
    """Return a frame's numbers, or say which column is at fault.

    The float columns decide the dtype; without any, all columns do.
    """
    arrays = []
    for label, column in columns:
        array = read_column(column)
        if isinstance(array, str):
            return _whose(label, array)
        arrays.append(array)
    floats = [array.dtype for array in arrays if array.dtype.kind == "f"]
    dtype = np.result_type(*(floats or [array.dtype for array in arrays]))
    return np.stack(arrays, axis=1, dtype=dtype, casting="unsafe")


def fault_of(value: Any) -> str | None:
    """Name the first column of a frame that does not hold finite numbers, if there is one."""
    for label, column in columns_of(value) or ():
        array = read_column(column, objects=True)
        if not isinstance(array, str):
            wrong = ~np.isfinite(array)
            if not wrong.any():
                continue
            array = f"has NaN or infinity at row {wrong.argmax()}"
        return _whose(label, array)
    return None


def _whose(label: object, fault: str) -> str:
    return f"it {fault}" if label is None else f"its column {label!r} {fault}"
