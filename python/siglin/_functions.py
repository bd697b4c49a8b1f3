"""One layer as functions: sigmoid, forward, backward, update.

The orientation, here and everywhere in siglin: rows are samples. ``x`` is
``(batch, n_in)``, ``w`` is ``(n_in, n_out)``, ``b`` is ``(n_out,)``, and ``z``, ``a`` and
``da`` are ``(batch, n_out)``, with ``z = x @ w + b`` and ``a = f(z)``.

Every function first hands its arguments to the strict layer ``_core`` as they are. Only
if that refuses are they brought into shape (``_data/arrays.py``) and handed over once more;
the second refusal is the user's error.

Results do not depend on the caller's floating-point environment (its rounding mode,
``torch.set_flush_denormal``), which is as it was afterwards. Ctrl-C, and what any other
signal's handler raises, ends a call within 100 ms; what is in ``out`` then is undefined.
"""

import sys
from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

import numpy as np

from siglin import _core
from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    check_apart,
    check_choice,
    check_matrix,
    check_out,
    check_real,
    check_shape,
    check_writable,
    normalise,
    owned,
)
from siglin.errors import ShapeError

# The strict layer checks at run time what the stub asks for, so the types are not
# narrowed before the call.
_activate: Callable[..., Array] = _core.activate
_forward: Callable[..., Array] = _core.forward
_backward: Callable[..., tuple[Array | None, Array, Array]] = _core.backward
_backward_update: Callable[..., Array | None] = _core.backward_update
_update: Callable[..., None] = _core.update

_ACTIVATIONS = tuple(_core.activations())


class Gradients(NamedTuple):
    """The gradients of one layer.

    Attributes
    ----------
    dx : ndarray, shape (batch, n_in), or None
        Gradient with respect to the input; None with ``need_dx=False``.
    dw : ndarray, shape (n_in, n_out)
        Gradient with respect to the weights, summed over the batch.
    db : ndarray, shape (n_out,)
        Gradient with respect to the bias, summed over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> x, w = np.ones((4, 2)), np.zeros((2, 3))
    >>> a = siglin.forward(x, w)
    >>> dx, dw, db = siglin.backward(x, w, a, np.ones((4, 3)))
    >>> db
    array([1., 1., 1.])
    """

    dx: Array | None
    dw: Array
    db: Array


# ---- sigmoid -------------------------------------------------------------------------


def sigmoid(z: ArrayLike, *, out: AnyArray | None = None) -> Array:
    """Return 1 / (1 + exp(-z)) of every element.

    Parameters
    ----------
    z : array_like of any shape, float32 or float64
        Integers, booleans, float16, lists and Python numbers are converted to the dtype
        of ``out``, or to float64.
    out : ndarray, optional
        Where to write the result, of its shape and dtype. May be ``z`` or overlap it.

    Returns
    -------
    ndarray of the shape and dtype of z, or a NumPy scalar if z has no dimensions
        ``out`` itself if it is given.

    Raises
    ------
    DTypeError
        If z is complex, object, str, datetime, structured or longdouble, or if ``out``
        has another dtype than z.
    ShapeError
        If ``out`` has another shape than z.
    TypeError
        If z is None or sparse, or ``out`` is not an ndarray.
    ValueError
        If z has masked values, or ``out`` is read-only or byte-swapped or its elements
        share memory.

    Notes
    -----
    sigmoid(-inf) = 0, sigmoid(inf) = 1, sigmoid(NaN) = NaN, and the tail for very
    negative z is kept down to the smallest subnormal. An array that is not C-contiguous,
    aligned and in native byte order is copied first; so is the result if ``out`` is not,
    or if it overlaps z without being z.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> siglin.sigmoid(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    >>> print(siglin.sigmoid(0.0))
    0.5
    """
    try:
        a = _activate(z, "sigmoid", out)
    except (TypeError, ValueError):
        pass
    else:
        return a if a.ndim else _scalar(a, out)
    ready = normalise("sigmoid", {"z": z}, alongside={"out": out}, contiguous=True)
    return _scalar(_store("sigmoid", _activate(ready["z"], "sigmoid"), out), out)


def _scalar(a: Array, out: AnyArray | None) -> Array:
    """Return what NumPy's functions do without dimensions: a scalar, unless out."""
    if a.ndim == 0 and out is None:
        scalar: Array = a[()]
        return scalar
    return a


def _store(function: str, result: Array, out: AnyArray | None) -> Array:
    """Return the result, written into ``out`` if that is given."""
    if out is None:
        return result
    array = check_out(function, out, result)
    np.copyto(array, result)
    return array


# ---- forward -------------------------------------------------------------------------


def forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    activation: str = "sigmoid",
    out: AnyArray | None = None,
) -> Array:
    """Return a = f(x @ w + b).

    Parameters
    ----------
    x : array_like, shape (batch, n_in), float32 or float64
        Rows are samples.
    w : array_like, shape (n_in, n_out)
        Weights.
    b : array_like, shape (n_out,), optional
        Bias; None is no bias.
    activation : str, default "sigmoid"
        f: "sigmoid", "tanh", "relu", "leaky_relu" (alpha 0.1), "identity" or "step"
        (1 where z > 0, else 0).
    out : ndarray, shape (batch, n_out), optional
        Where to write a, of the dtype of the call. It must not overlap an input.

    Returns
    -------
    ndarray, shape (batch, n_out)
        ``out`` itself if it is given. With n_in = 0 it is f(b), with an empty batch it
        is empty.

    Raises
    ------
    ShapeError
        If the shapes do not fit together; x must have two dimensions.
    DTypeError
        If float32 meets float64, in either direction, or an array is of no real number
        type.
    TypeError
        If x or w is None or sparse, ``out`` is not an ndarray, or ``activation`` is no
        str.
    ValueError
        If there is no such activation, an array has masked values, or ``out`` is
        read-only, byte-swapped or overlaps an input.

    Notes
    -----
    A row has the same bits alone and in any batch. Used without a copy are: x and w with
    contiguous rows at any distance (also slices of rows, reversed or broadcast rows), and
    a contiguous b. Fortran order, a step between columns, misaligned and byte-swapped
    arrays cost a copy, and so do integers and lists, which become the dtype of the float
    arrays of the call, or float64.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> x = np.array([[5.0, 3.0]])
    >>> w = np.array([[1.0, -1.0, 3.0], [2.0, 2.0, -1.0]])
    >>> siglin.forward(x, w).round(4)
    array([[1.    , 0.7311, 1.    ]])
    >>> siglin.forward(x, w, activation="identity")
    array([[11.,  1., 12.]])
    """
    try:
        return _forward(x, w, b, activation, out)
    except (TypeError, ValueError):
        pass
    check_choice("forward", "activation", activation, _ACTIVATIONS)
    given: dict[str, object] = {"x": x, "w": w}
    if b is not None:
        given["b"] = b
    ready = normalise(
        "forward",
        given,
        alongside={"out": out},
        check_shapes=_layer_check("forward"),
    )
    if isinstance(out, np.ndarray):
        check_apart("forward", {"out": out}, given)
    a = _forward(ready["x"], ready["w"], ready.get("b"), activation)
    return _store("forward", a, out)


def _layer_check(function: str) -> Callable[[dict[str, AnyArray]], None]:
    """Return what raises ShapeError unless the arrays of one layer fit together."""

    def check(arrays: dict[str, AnyArray]) -> None:
        x, w = arrays["x"], arrays["w"]
        check_matrix(function, "x", x, w.shape[0] if w.ndim == 2 else None)
        check_matrix(function, "w", w)
        if x.shape[1] != w.shape[0]:
            msg = (
                f"{function}: w must have shape ({x.shape[1]}, n_out) to follow "
                f"x {x.shape}, got {w.shape}"
            )
            raise ShapeError(msg)
        rows = (x.shape[0], w.shape[1])
        for name, shape in {"b": rows[1:], "a": rows, "da": rows, "z": rows}.items():
            if name in arrays:
                why = f" to go with x {x.shape} and w {w.shape}"
                check_shape(function, name, arrays[name], shape, why)
        if rows[0] * rows[1] > sys.maxsize // 8:
            msg = f"{function}: a result of shape {rows} is too big for memory"
            raise ValueError(msg)

    return check


# ---- backward ------------------------------------------------------------------------


def backward(
    x: ArrayLike,
    w: ArrayLike,
    a: ArrayLike,
    da: ArrayLike,
    *,
    activation: str = "sigmoid",
    z: ArrayLike | None = None,
    need_dx: bool = True,
) -> Gradients:
    """Return the gradients of a layer: dz = da * f'(z), and from it dx, dw and db.

    Parameters
    ----------
    x : array_like, shape (batch, n_in), float32 or float64
        What `forward` was given.
    w : array_like, shape (n_in, n_out)
        What `forward` was given.
    a : array_like, shape (batch, n_out)
        What `forward` returned. Its values are not checked.
    da : array_like, shape (batch, n_out)
        Gradient of the loss with respect to a.
    activation : str, default "sigmoid"
        f, as in `forward`. "step" has no gradient.
    z : array_like, shape (batch, n_out), optional
        x @ w + b. The derivative of the sigmoid is a * (1 - a) without z, which loses its
        digits where a is close to 1, and sigmoid(z) * sigmoid(-z) with z, which does not.
    need_dx : bool, default True
        False leaves dx out, as in the first layer of a network.

    Returns
    -------
    Gradients
        dx = dz @ w.T (or None), dw = x.T @ dz and db, the sum of the rows of dz. dw and
        db are sums over the batch, not means.

    Raises
    ------
    ShapeError
        If the shapes do not fit together.
    DTypeError
        If float32 meets float64, or an array is of no real number type.
    TypeError
        If an array is None or sparse, or ``activation`` is no str.
    ValueError
        If the activation is "step" or unknown, or an array has masked values.

    Notes
    -----
    Which layouts cost a copy: as in `forward`, for every argument.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> x, w = np.array([[1.0]]), np.array([[0.0]])
    >>> a = siglin.forward(x, w)
    >>> siglin.backward(x, w, a, np.array([[1.0]]))
    Gradients(dx=array([[0.]]), dw=array([[0.25]]), db=array([0.25]))
    """
    try:
        # Gradients._make without a frame of its own, a sixth of a call on a tiny layer.
        return tuple.__new__(Gradients, _backward(x, w, a, da, activation, z, need_dx))
    except (TypeError, ValueError):
        pass
    check_choice("backward", "activation", activation, _ACTIVATIONS)
    given: dict[str, object] = {"x": x, "w": w, "a": a, "da": da}
    if z is not None:
        given["z"] = z
    ready = normalise("backward", given, check_shapes=_layer_check("backward"))
    return Gradients(
        *_backward(
            ready["x"],
            ready["w"],
            ready["a"],
            ready["da"],
            activation,
            ready.get("z"),
            bool(need_dx),
        )
    )


def backward_update(
    x: ArrayLike,
    w: AnyArray,
    b: AnyArray | None,
    a: ArrayLike,
    da: ArrayLike,
    lr: float,
    *,
    activation: str = "sigmoid",
    z: ArrayLike | None = None,
    need_dx: bool = True,
) -> Array | None:
    """Take the step w -= lr * dw, b -= lr * db in place, and return dx.

    The gradients are those of `backward`; dx belongs to the weights as they were before
    the step.

    Parameters
    ----------
    x, a, da, activation, z, need_dx
        As in `backward`.
    w : ndarray, shape (n_in, n_out), float32 or float64
        Weights, changed in place.
    b : ndarray, shape (n_out,), or None
        Bias, changed in place.
    lr : float
        Step size, dimensionless, finite. A negative one climbs, 0 changes nothing.

    Returns
    -------
    ndarray, shape (batch, n_in), or None with ``need_dx=False``

    Raises
    ------
    ShapeError, DTypeError
        As `backward`.
    TypeError
        As `backward`; also if w or b is not an ndarray, or lr is no real number.
    ValueError
        As `backward`; also if lr is NaN or infinite (as float32, with such arrays), w or
        b is read-only, its elements share memory, or it overlaps another argument.

    Notes
    -----
    The step is made whole or not at all, so Ctrl-C waits for the pass that changes w.
    Steps of less than about 50 ms subtract gradients as they are found: up to 384 rows
    need no memory for dw then. A w or b that is not laid out as `forward` likes it is
    changed in place all the same, by way of a copy.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> x, w = np.array([[1.0]]), np.array([[0.0]])
    >>> a = siglin.forward(x, w)
    >>> siglin.backward_update(x, w, None, a, np.array([[1.0]]), lr=1.0)
    array([[0.]])
    >>> w
    array([[-0.25]])
    """
    if type(lr) is not float or not isfinite(lr):
        lr = check_real("backward_update", "lr", lr)
    try:
        return _backward_update(x, w, b, a, da, lr, activation, z, need_dx)
    except (TypeError, ValueError):
        pass
    check_choice("backward_update", "activation", activation, _ACTIVATIONS)
    targets: dict[str, AnyArray] = {"w": check_writable("backward_update", "w", w)}
    if b is not None:
        targets["b"] = check_writable("backward_update", "b", b)
    inputs: dict[str, object] = {"x": x, "a": a, "da": da}
    if z is not None:
        inputs["z"] = z
    check = _layer_check("backward_update")
    ready = normalise(
        "backward_update",
        inputs,
        alongside=targets,
        check_shapes=lambda arrays: check({**arrays, **targets}),
    )
    check_apart("backward_update", targets, inputs)
    copies = {name: owned(array) for name, array in targets.items()}
    dx = _backward_update(
        ready["x"],
        copies["w"],
        copies.get("b"),
        ready["a"],
        ready["da"],
        lr,
        activation,
        ready.get("z"),
        bool(need_dx),
    )
    for name, array in targets.items():
        np.copyto(array, copies[name])
    return dx


# ---- update --------------------------------------------------------------------------


def update(param: AnyArray, grad: ArrayLike, lr: float) -> None:
    """Take one step of gradient descent in place: param -= lr * grad.

    Parameters
    ----------
    param : ndarray of any shape, float32 or float64
        Changed in place.
    grad : array_like of the same shape
        It must not overlap param.
    lr : float
        Step size, dimensionless, finite. A negative one climbs, 0 changes nothing.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DTypeError
        If the dtypes differ, or are not float32 or float64.
    TypeError
        If param is not an ndarray, or lr is no real number.
    ValueError
        If lr is NaN or infinite (as float32, with such arrays), or param is read-only,
        its elements share memory, or it overlaps grad.

    Notes
    -----
    Arrays that are neither C-contiguous nor two-dimensional with contiguous rows cost a
    copy, and so do misaligned and byte-swapped ones. A gradient that is not finite
    arrives in param. The step is made whole: Ctrl-C waits for its end.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> w = np.array([1.0, 2.0])
    >>> siglin.update(w, np.array([2.0, -2.0]), 0.5)
    >>> w
    array([0., 3.])
    """
    if type(lr) is not float or not isfinite(lr):
        lr = check_real("update", "lr", lr)
    try:
        _update(param, grad, lr)
    except (TypeError, ValueError):
        pass
    else:
        return
    target = check_writable("update", "param", param)
    ready = normalise(
        "update",
        {"grad": grad},
        alongside={"param": param},
        check_shapes=lambda arrays: check_shape(
            "update", "grad", arrays["grad"], target.shape, " like param"
        ),
    )["grad"]
    check_apart("update", {"param": target}, {"grad": grad})
    copy = owned(target)
    _update(copy, ready, lr)
    np.copyto(target, copy)
