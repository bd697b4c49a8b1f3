"""Where what a user passes becomes what scikit-learn checks and the core can view."""

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from siglin._data.arrays import Array, owned, plain
from siglin._data.frames import fault_of

FLOATS = (np.float64, np.float32)  # dtypes of rows; others become the first


def checked(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """Return X, or X and y, as scikit-learn's validate_data does.

    An array in the other byte order keeps its precision, and of a frame that is refused
    the first column at fault is named.

    Parameters
    ----------
    estimator : BaseEstimator
    X : object
        Rows, of which float32 stays float32 and everything else becomes float64.
    y : object
    **options
        validate_data's.
    """
    try:
        return validate_data(estimator, _native(X), _native(y), dtype=FLOATS, **options)
    except (TypeError, ValueError) as error:
        fault = fault_of(X)
        if fault is None:
            raise
        raise ValueError(f"X must be finite numbers; {fault}: {error}") from None


def _native(value: Any) -> Any:
    """Return an array in native byte order and aligned; everything else as it is."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return value
    fits = value.flags.aligned and value.dtype.isnative
    return value if fits else owned(value)


def viewable(name: str, array: Any, dtype: Any) -> Array:
    """Return the array as the core can view it: of the dtype, contiguous and aligned.

    Parameters
    ----------
    name : str
        For the message, if a number is too large for the dtype.
    array : ndarray
    dtype : dtype_like
    """
    if array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(dtype).itemsize:
        return plain("fit", name, np.asarray(array), dtype)
    # The rest cannot overflow, and a step on one row is short beside looking for it.
    ready = np.ascontiguousarray(array, dtype)
    return ready if ready.flags.aligned else owned(ready)
