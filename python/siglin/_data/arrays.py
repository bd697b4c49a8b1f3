"""The one place where what a user passes becomes what the strict layer takes.

The strict layer (``_core``) uses float32 and float64 arrays of native byte order as they
are and refuses everything else. The functions here are called after it has refused: they
return contiguous arrays with the same values, or raise the error that explains why not.

| given | becomes |
| --- | --- |
| float32, float64 | itself; every array of one call must have the one dtype |
| bool, integers, float16, lists and tuples of numbers | the dtype of the call's float
arrays, or of the network; float64 if there are none |
| complex, object, str, datetime, structured, longdouble | DTypeError |
| what has ``__array__`` or DLPack | ``np.asarray``, then as above |
| frames that this makes objects of | the numbers of their columns |
| sparse matrices (but see sparse.py), None | TypeError |
| masked arrays with masked values | ValueError |
"""

import math
import numbers
import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin._data.frames import columns_of, numbers_of
from siglin.errors import DTypeError, ShapeError

Array: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
ArrayLike: TypeAlias = npt.ArrayLike
AnyArray: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = np.dtype[np.float32] | np.dtype[np.float64]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
HALF = np.dtype(np.float16)

# The strict layer indexes with signed 64-bit integers; this bound on one layer's sizes
# keeps every product of two of them in range.
MAX_SIZE = 2**31 - 1


# ---- arrays --------------------------------------------------------------------------


def normalise(
    function: str,
    arguments: Mapping[str, object],
    dtype: DType | None = None,
    alongside: Mapping[str, object] | None = None,
    *,
    contiguous: bool = False,
    check_shapes: Callable[[dict[str, AnyArray]], None] | None = None,
) -> dict[str, Array]:
    """Return the arguments as arrays the strict layer takes, with the same values.

    Parameters
    ----------
    function : str
        Name of the caller, for messages.
    arguments : mapping of str to object
        What the user passed, by the name of the argument.
    dtype : dtype, optional
        float32 or float64: what float arrays must have (a network's). Default: what the
        float arrays among the arguments agree on, or float64 if there are none.
    alongside : mapping of str to object, optional
        Arrays that take part in the choice of the dtype and are not converted, such as
        ``out``.
    contiguous : bool
        Whether even matrices must be C-contiguous. Without it the rows of a matrix may
        lie apart.
    check_shapes : callable, optional
        Called with the arrays before any is copied, so that a wrong shape costs nothing,
        however large a broadcast array pretends to be.

    Returns
    -------
    dict of str to ndarray
        Of one dtype, aligned, in native byte order, and C-contiguous or a matrix with
        contiguous rows; the array itself where it is so already.

    Raises
    ------
    DTypeError, ShapeError, TypeError, ValueError
        By the table at the top of this file.
    """
    arrays = {name: _as_array(function, name, v) for name, v in arguments.items()}
    decided = {n: a.dtype for n, a in arrays.items() if _decides(arguments[n], a)}
    for name, value in (alongside or {}).items():
        if isinstance(value, np.ndarray) and _is_float(value.dtype):
            decided[name] = value.dtype
    target = dtype or _common_dtype(function, decided)
    for name, given in decided.items():
        if given.newbyteorder("=") != target:
            msg = f"{function}: {name} must be {target} like the network, got {given}"
            raise DTypeError(msg)
    if check_shapes is not None:
        check_shapes(arrays)
    return {
        name: array
        if not contiguous and has_plain_rows(array, target)
        else plain(function, name, array, target)
        for name, array in arrays.items()
    }


def _as_array(function: str, name: str, value: object) -> AnyArray:
    """Return the value as an ndarray of numbers, of whatever layout."""
    if value is None:
        raise TypeError(f"{function}: {name} must be an array, got None")
    if hasattr(value, "nnz") and (
        hasattr(value, "toarray") or hasattr(value, "todense")
    ):
        msg = (
            f"{function}: {name} is a sparse {type(value).__name__}, which only "
            f"x of fit, predict, loss and learn_many may be: pass {name}.toarray()"
        )
        raise TypeError(msg)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        msg = (
            f"{function}: {name} is a masked array with masked values; fill them, "
            f"for example with {name}.filled(0)"
        )
        raise ValueError(msg)
    array = _from_dlpack(function, name, value)
    if array is None:
        try:
            array = np.asarray(value)
        except ValueError as error:
            msg = f"{function}: {name} is not a rectangular array of numbers: {error}"
            raise ShapeError(msg) from None
    if array.dtype.kind not in "biuf":
        array = _from_frame(function, name, value, array)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > FLOAT64.itemsize:
        got = str(array.dtype)
        if array.dtype == object and array.ndim == 0:
            got = f"a {type(value).__name__}"
        msg = f"{function}: {name} must be float32 or float64, got {got}"
        raise DTypeError(msg)
    return array


def _from_dlpack(function: str, name: str, value: object) -> AnyArray | None:
    """Return an array over what exports DLPack only; None for everything else."""
    known = isinstance(value, np.ndarray | list | tuple) or hasattr(value, "__array__")
    if known or not hasattr(value, "__dlpack__"):
        return None
    try:
        return np.from_dlpack(value)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{function}: {name} cannot be read through DLPack: {error}"
        raise TypeError(msg) from error


def _from_frame(function: str, name: str, value: object, array: AnyArray) -> AnyArray:
    """Return the numbers of a frame of which NumPy makes this array; else the array."""
    columns = columns_of(value)
    if not columns:
        return array
    got = numbers_of(columns)
    if not isinstance(got, str):
        return got.reshape(array.shape)
    kind = ValueError if "missing" in got else DTypeError
    raise kind(f"{function}: {name} must be numbers; {got}")


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.newbyteorder("=") in (FLOAT32, FLOAT64)


def _decides(value: object, array: AnyArray) -> bool:
    """Tell whether this argument fixes the dtype of its call."""
    plain = isinstance(value, list | tuple | int | float) and not isinstance(
        value, np.generic
    )
    return _is_float(array.dtype) and not plain


def _common_dtype(function: str, decided: Mapping[str, np.dtype[Any]]) -> DType:
    """Return the one dtype, in native byte order; float64 if nothing decides."""
    items = [(name, dtype.newbyteorder("=")) for name, dtype in decided.items()]
    for name, dtype in items[1:]:
        if dtype != items[0][1]:
            msg = (
                f"{function}: {items[0][0]} is {items[0][1]} and {name} is {dtype}; "
                f"every array of a call must have the same dtype"
            )
            raise DTypeError(msg)
    return FLOAT32 if items and items[0][1] == FLOAT32 else FLOAT64


def has_plain_rows(array: AnyArray, dtype: DType) -> bool:
    """Tell whether the strict layer takes this vector or matrix without a copy."""
    strides = array.strides
    size = dtype.itemsize
    if array.dtype != dtype or not array.flags.aligned:
        return False
    if array.ndim == 2:
        return strides[1] == size and strides[0] % size == 0
    return array.ndim == 1 and strides[0] == size


def plain(function: str, name: str, array: AnyArray, dtype: DType) -> Array:
    """Return the array, cast to dtype, contiguous, aligned and in native byte order."""
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            ready: Array = np.require(array, dtype, ["C", "A"])
    except FloatingPointError:
        msg = f"{function}: {name} has a number too large for {dtype}"
        raise ValueError(msg) from None
    return ready


def owned(array: AnyArray, dtype: npt.DTypeLike | None = None) -> AnyArray:
    """Return a fresh copy that the core can write into, whatever the array lies on.

    An array that comes out of a pickle may be a memory map (joblib), read-only or
    misaligned (a buffer out of band, as Ray and Dask hand it over), or a view of memory
    that others share. The copy is a plain ndarray: aligned, writable, C-contiguous, in
    native byte order, with memory of its own.

    Parameters
    ----------
    array : ndarray
    dtype : dtype_like, optional
        Of the copy; the array's own by default.
    """
    native = np.dtype(array.dtype if dtype is None else dtype).newbyteorder("=")
    return np.array(array, dtype=native, order="C", copy=True, subok=False)


def with_owned(state: dict[str, Any]) -> dict[str, Any]:
    """Return an unpickled object's attributes, with the arrays among them owned."""
    return {
        name: owned(value) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }


# ---- shapes --------------------------------------------------------------------------


def check_matrix(
    function: str, name: str, array: AnyArray, n_in: int | None = None
) -> None:
    """Raise ShapeError unless the array has two dimensions.

    Rows of one number are a column that has lost its dimension; else a vector x is a row.
    """
    if array.ndim == 2:
        return
    msg = f"{function}: {name} must be 2-D, got {array.ndim}-D {array.shape}"
    if array.ndim == 1 and name == "x":
        column = "; for one column pass x[:, None]"
        msg += column if n_in == 1 else "; for one row pass x[None, :]"
    raise ShapeError(msg)


def check_shape(
    function: str, name: str, array: AnyArray, shape: tuple[int, ...], why: str = ""
) -> None:
    """Raise ShapeError unless the array has the shape."""
    if array.shape != shape:
        msg = f"{function}: {name} must have shape {shape}{why}, got {array.shape}"
        raise ShapeError(msg)


# ---- arrays that are written to ------------------------------------------------------


def check_writable(function: str, name: str, array: object) -> AnyArray:
    """Return the array if results can be written into it as it is."""
    if not isinstance(array, np.ndarray):
        msg = f"{function}: {name} must be an ndarray, got {type(array).__name__}"
        raise TypeError(msg)
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ValueError(f"{function}: {name} is a masked array with masked values")
    if not _is_float(array.dtype):
        msg = f"{function}: {name} must be float32 or float64, got {array.dtype}"
        raise DTypeError(msg)
    if not array.flags.writeable:
        raise ValueError(f"{function}: {name} is read-only")
    if overlaps_itself(array):
        msg = f"{function}: elements of {name} share memory with each other"
        raise ValueError(msg)
    return array


def check_out(function: str, out: object, result: Array) -> AnyArray:
    """Return ``out`` if the result can be written into it."""
    if isinstance(out, np.ndarray) and out.dtype != result.dtype:
        if out.dtype.newbyteorder("=") == result.dtype:
            raise ValueError(f"{function}: out must have native byte order")
        msg = f"{function}: out must be {result.dtype}, got {out.dtype}"
        raise DTypeError(msg)
    array = check_writable(function, "out", out)
    check_shape(function, "out", array, result.shape)
    return array


def check_apart(
    function: str, targets: Mapping[str, object], inputs: Mapping[str, object]
) -> None:
    """Raise ValueError if a target shares an element with an input or another target."""
    names = list(targets)
    others = {**inputs, **targets}
    for position, name in enumerate(names):
        earlier = names[: position + 1]
        for other, value in others.items():
            if other not in earlier and _share_memory(targets[name], value):
                msg = f"{function}: {name} and {other} share memory"
                raise ValueError(msg)


def _share_memory(first: object, second: object) -> bool:
    if not (isinstance(first, np.ndarray) and isinstance(second, np.ndarray)):
        return False
    try:
        # An exact answer can take forever on contrived strides; then it counts as yes.
        return np.shares_memory(first, second, max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def overlaps_itself(array: AnyArray) -> bool:
    """Tell whether two elements of one array lie in the same memory."""
    if array.size <= 1:
        return False
    axes = sorted(
        (abs(stride), size)
        for stride, size in zip(array.strides, array.shape, strict=True)
        if size > 1
    )
    extent = array.itemsize
    nested = True
    for stride, size in axes:
        nested = nested and stride >= extent
        extent += stride * (size - 1)
    if nested:
        return False
    if axes[0][0] == 0 or extent < array.size * array.itemsize:
        return True
    # What is left are crossing strides, which only as_strided makes.
    offsets = np.zeros(1, np.int64)
    for stride, size in axes:
        offsets = np.add.outer(offsets, np.arange(size) * stride).ravel()
    return bool(np.diff(np.sort(offsets)).min() < array.itemsize)


# ---- numbers -------------------------------------------------------------------------


def check_real(function: str, name: str, value: object) -> float:
    """Return a finite real number as a float."""
    if type(value) is float and math.isfinite(value):
        return value
    real = isinstance(value, numbers.Real | np.integer | np.floating)
    if not real or isinstance(value, bool | np.bool_):
        msg = f"{function}: {name} must be a real number, got {type(value).__name__}"
        raise TypeError(msg)
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{function}: {name} must be finite, got {value!r}")
    return number


def check_positive(function: str, name: str, value: object) -> float:
    """Return a finite real number > 0 as a float."""
    number = check_real(function, name, value)
    if number <= 0:
        raise ValueError(f"{function}: {name} must be > 0, got {number}")
    return number


def check_not_negative(function: str, name: str, value: object) -> float:
    """Return a finite real number >= 0 as a float."""
    number = check_real(function, name, value)
    if number < 0:
        raise ValueError(f"{function}: {name} must be >= 0, got {number}")
    return number


def check_integer(
    function: str, name: str, value: object, low: int, high: int | None = None
) -> int:
    """Return an int from low to high (both included); bool is no integer here."""
    if isinstance(value, bool | np.bool_ | np.ndarray):
        number = None
    else:
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
    if number is None:
        msg = f"{function}: {name} must be an int, got {type(value).__name__}"
        raise TypeError(msg)
    if number < low or (high is not None and number > high):
        bound = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{function}: {name} must be {bound}, got {number}")
    return number


def check_size(function: str, name: str, value: object) -> int:
    """Return a number of inputs or outputs of a layer."""
    return check_integer(function, name, value, 1, MAX_SIZE)


def check_flag(function: str, name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool | np.bool_):
        msg = f"{function}: {name} must be True or False, got {type(value).__name__}"
        raise TypeError(msg)
    return bool(value)


def check_choice(
    function: str, name: str, value: object, choices: tuple[str, ...]
) -> str:
    """Return one of the names."""
    if not isinstance(value, str):
        msg = f"{function}: {name} must be a str, got {type(value).__name__}"
        raise TypeError(msg)
    if value not in choices:
        msg = f"{function}: {name} must be one of {', '.join(choices)}; got {value!r}"
        ours = _OURS.get(value.lower())
        if ours in choices:
            msg += f", which is {ours!r} here"
        raise ValueError(msg)
    return str(value)


# What other libraries call siglin's optimisers, activations and losses.
_OURS = {
    "sgd": "gd",
    "nag": "nesterov",
    "logistic": "sigmoid",
    "linear": "identity",
    "leakyrelu": "leaky_relu",
    "mse": "squared_error",
    "mean_squared_error": "squared_error",
    "mseloss": "squared_error",
    "log_loss": "bce",
    "binary_crossentropy": "bce",
    "binary_cross_entropy": "bce",
    "bceloss": "bce",
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "crossentropyloss": "cross_entropy",
    "glorot_uniform": "glorot",
    "xavier": "glorot",
    "kaiming": "he",
    "he_uniform": "he",
    "zero": "zeros",
}


def check_dtype(function: str, value: object) -> DType:
    """Return float32 or float64 as a dtype."""
    try:
        # np.dtype(None) is float64, and None == float64; neither is meant here.
        given = np.dtype(object if value is None else value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        given = np.dtype(object)
    if given == FLOAT32:
        return FLOAT32
    if given == FLOAT64:
        return FLOAT64
    msg = f"{function}: dtype must be float32 or float64, got {value!r}"
    raise DTypeError(msg)


def check_param_count(function: str, count: int, dtype: DType) -> None:
    """Raise ValueError if no array can hold that many parameters."""
    if count * dtype.itemsize > sys.maxsize:
        msg = f"{function}: {count} parameters of {dtype} are more than fit in memory"
        raise ValueError(msg)
