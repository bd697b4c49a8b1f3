"""The few checks of the reference: one dtype to a call, and shapes that fit."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin.errors import DTypeError, ShapeError

Array: TypeAlias = npt.NDArray[np.floating[Any]]  # float32 or float64


def common_dtype(function: str, **values: Any) -> np.dtype[Any]:
    """Return the one dtype in which a call computes: float32 or float64.

    Parameters
    ----------
    function : str
        Name of the caller, for the messages.
    **values : array_like or None
        The arguments by name. float32 and float64 arrays fix the dtype; integers,
        booleans, float16 and lists of numbers follow it, and are float64 on their own.

    Raises
    ------
    DTypeError
        If float32 meets float64, or a value is no real number.
    """
    fixed: dict[str, np.dtype[Any]] = {}
    for name, value in values.items():
        if value is None:
            continue
        dtype = np.asarray(value).dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DTypeError(
                f"{function}: {name} must be float32 or float64, got {dtype}"
            )
        if hasattr(value, "dtype") and dtype.kind == "f" and dtype.itemsize >= 4:
            fixed[name] = np.dtype(dtype.type)
    if len(set(fixed.values())) > 1:
        found = ", ".join(f"{name} is {dtype}" for name, dtype in fixed.items())
        raise DTypeError(f"{function}: all arrays must have one dtype, but {found}")
    return next(iter(fixed.values()), np.dtype(np.float64))


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype; DTypeError unless it is float32 or float64."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = None
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DTypeError(f"dtype must be float32 or float64, got {dtype!r}")
    return result


def check_shape(
    function: str, name: str, array: Array, expected: Sequence[int | str]
) -> None:
    """Raise ShapeError unless `array` has the shape `expected`.

    A number must match, a name such as "n_out" stands for any size.
    """
    fits = array.ndim == len(expected) and all(
        isinstance(want, str) or got == want
        for got, want in zip(array.shape, expected, strict=True)
    )
    if not fits:
        shape = ", ".join(str(size) for size in expected)
        shape += "," if len(expected) == 1 else ""
        hint = ""
        if name == "x" and array.ndim == 1:
            column = expected[-1] == 1
            hint = f"; use x[{':, None' if column else 'None, :'}]"
        raise ShapeError(
            f"{function}: {name} must have shape ({shape}), got {array.shape}{hint}"
        )


def stored(function: str, result: Array, out: Array | None) -> Array:
    """Return `result`, or `out` with the result written into it."""
    if out is None:
        return result
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{function}: out must be an ndarray, got {type(out).__name__}")
    check_shape(function, "out", out, result.shape)
    if out.dtype != result.dtype:
        raise DTypeError(f"{function}: out must be {result.dtype}, got {out.dtype}")
    out[...] = result
    return out
