"""One layer, a = f(x @ w + b), as functions: forward, backward, update.

Rows are samples: x is (batch, n_in), w is (n_in, n_out), b is (n_out,), and z, a and
their gradients are (batch, n_out). `dw` and `db` are sums over the batch.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from siglin.errors import DTypeError
from siglin.reference import activations
from siglin.reference.activations import activation_named
from siglin.reference.checks import Array, check_shape, common_dtype, stored


class Gradients(NamedTuple):
    """The gradients of one layer.

    Attributes
    ----------
    dx : ndarray, shape (batch, n_in), or None
        Gradient to the input; None where `need_dx` was False.
    dw : ndarray, shape (n_in, n_out)
        Gradient to the weights, summed over the batch.
    db : ndarray, shape (n_out,)
        Gradient to the bias, summed over the batch.
    """

    dx: Array | None
    dw: Array
    db: Array


def sigmoid(z: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """Return 1 / (1 + exp(-z)) of every element.

    Parameters
    ----------
    z : array_like of any shape, float32 or float64
    out : ndarray, optional
        Where to write the result, of its shape and dtype; may be z.

    Returns
    -------
    ndarray of the shape and dtype of z

    Raises
    ------
    DTypeError
        If z is not real, or `out` has another dtype.
    ShapeError
        If `out` has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> reference.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    z = np.asarray(z, common_dtype("sigmoid", z=z))
    return stored("sigmoid", activations.sigmoid(z), out)


def forward(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    activation: str = "sigmoid",
    out: Array | None = None,
) -> Array:
    """Return a = f(x @ w + b).

    Parameters
    ----------
    x : array_like, shape (batch, n_in), float32 or float64
    w : array_like, shape (n_in, n_out)
    b : array_like, shape (n_out,), optional
    activation : str
        The name of f, one of `activations.ACTIVATIONS`.
    out : ndarray, shape (batch, n_out), optional
        Where to write a.

    Returns
    -------
    ndarray, shape (batch, n_out)

    Raises
    ------
    ShapeError
        If the shapes do not fit together.
    DTypeError
        If the arrays have more than one dtype, or one is not real.
    ValueError
        If there is no such activation.

    Examples
    --------
    >>> from siglin import reference
    >>> reference.forward([[5, 3]], [[1, -1], [2, 2]]).round(4)
    array([[1.    , 0.7311]])
    """
    dtype = common_dtype("forward", x=x, w=w, b=b)
    x, w = np.asarray(x, dtype), np.asarray(w, dtype)
    check_shape("forward", "x", x, ("batch", "n_in"))
    check_shape("forward", "w", w, (x.shape[1], "n_out"))
    z = x @ w
    if b is not None:
        b = np.asarray(b, dtype)
        check_shape("forward", "b", b, (w.shape[1],))
        z = z + b
    return stored("forward", activation_named(activation).value(z), out)


def backward(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    a: npt.ArrayLike,
    da: npt.ArrayLike,
    *,
    activation: str = "sigmoid",
    z: npt.ArrayLike | None = None,
    need_dx: bool = True,
) -> Gradients:
    """Return the gradients of a layer: dz = da * f'(z), then dx, dw and db from dz.

    Parameters
    ----------
    x : array_like, shape (batch, n_in), float32 or float64
    w : array_like, shape (n_in, n_out)
    a : array_like, shape (batch, n_out)
        What `forward` returned.
    da : array_like, shape (batch, n_out)
        Gradient of the loss to a.
    activation : str
        The name of f.
    z : array_like, shape (batch, n_out), optional
        x @ w + b. With it the derivative keeps its digits where f is saturated; without
        it the derivative is computed from a.
    need_dx : bool
        False leaves dx out.

    Returns
    -------
    Gradients

    Raises
    ------
    ShapeError, DTypeError
        As `forward`.
    ValueError
        If there is no such activation, or it is "step".

    Notes
    -----
    z_ij = sum_k x_ik w_kj + b_j, so by the chain rule dw_kj = sum_i x_ik dz_ij,
    db_j = sum_i dz_ij and dx_ik = sum_j dz_ij w_kj.

    Examples
    --------
    >>> from siglin import reference
    >>> x, w = [[1.0]], [[0.0]]
    >>> a = reference.forward(x, w)
    >>> reference.backward(x, w, a, [[1.0]])
    Gradients(dx=array([[0.]]), dw=array([[0.25]]), db=array([0.25]))
    """
    dtype = common_dtype("backward", x=x, w=w, a=a, da=da, z=z)
    x, w = np.asarray(x, dtype), np.asarray(w, dtype)
    a, da = np.asarray(a, dtype), np.asarray(da, dtype)
    check_shape("backward", "x", x, ("batch", "n_in"))
    check_shape("backward", "w", w, (x.shape[1], "n_out"))
    check_shape("backward", "a", a, (x.shape[0], w.shape[1]))
    check_shape("backward", "da", da, a.shape)
    if z is None:
        derivative = activation_named(activation).derivative_from_a(a)
    else:
        z = np.asarray(z, dtype)
        check_shape("backward", "z", z, a.shape)
        derivative = activation_named(activation).derivative(z)
    dz = da * derivative
    dw = x.T @ dz
    db = dz.sum(axis=0)
    dx = dz @ w.T if need_dx else None
    return Gradients(dx, dw, db)


def backward_update(
    x: npt.ArrayLike,
    w: Array,
    b: Array | None,
    a: npt.ArrayLike,
    da: npt.ArrayLike,
    lr: float,
    *,
    activation: str = "sigmoid",
    z: npt.ArrayLike | None = None,
    need_dx: bool = True,
) -> Array | None:
    """Return dx, and take the descent step w -= lr * dw, b -= lr * db in place.

    dx belongs to the weights as they were before the step.

    Parameters
    ----------
    x, a, da, activation, z, need_dx
        As in `backward`.
    w : ndarray, shape (n_in, n_out)
        Changed in place.
    b : ndarray, shape (n_out,), or None
        Changed in place.
    lr : float
        Step size, dimensionless.

    Returns
    -------
    ndarray, shape (batch, n_in), or None with need_dx=False

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As `backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> x, w = np.array([[1.0]]), np.array([[0.0]])
    >>> a = reference.forward(x, w)
    >>> reference.backward_update(x, w, None, a, np.array([[1.0]]), 1.0)
    array([[0.]])
    >>> w
    array([[-0.25]])
    """
    common_dtype("backward_update", x=x, w=w, b=b, a=a, da=da, z=z)
    if b is not None:
        check_shape("backward_update", "b", b, w.shape[1:])
    dx, dw, db = backward(x, w, a, da, activation=activation, z=z, need_dx=need_dx)
    update(w, dw, lr)
    if b is not None:
        update(b, db, lr)
    return dx


def update(param: Array, grad: npt.ArrayLike, lr: float) -> None:
    """Take one step of gradient descent in place: param -= lr * grad.

    Parameters
    ----------
    param : ndarray of any shape, float32 or float64
    grad : array_like of the same shape
    lr : float
        Step size, dimensionless; a negative one climbs.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DTypeError
        If the dtypes differ, or param is not float32 or float64.
    ValueError
        If param is read-only.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> w = np.array([1.0, 2.0])
    >>> reference.update(w, np.array([10.0, -10.0]), 0.1)
    >>> w
    array([0., 3.])
    """
    if not isinstance(param, np.ndarray):
        raise TypeError(f"update: param must be an ndarray, got {type(param).__name__}")
    dtype = common_dtype("update", param=param, grad=grad)
    if param.dtype != dtype:
        raise DTypeError(f"update: param must be {dtype}, got {param.dtype}")
    grad = np.asarray(grad, dtype)
    check_shape("update", "grad", grad, param.shape)
    param -= float(lr) * grad
