"""What the contenders run. A contender is a namespace with one function per operation.

===================  ==================================================================
``siglin``           the library's public functions, with nothing around them
``numpy``            the plain expressions of a NumPy user, in place where ``out`` is given
``reference``        ``siglin.reference``
``cython``           ``cython_kernels.pyx``
===================  ==================================================================

``forward(x, w, b, *, out)``, ``sigmoid(z, *, out)``, ``backward(x, w, a, da)``,
``backward_update(x, w, b, a, da, lr)`` and ``update(param, grad, lr)`` do one operation.
``fit(sizes, params, x, t, lr, steps, *, loss, optimizer, batch_size)`` and
``iris(x, t, lr, steps)`` only prepare: they return the function to time, which takes the
steps and returns (losses, parameters), a loss for each epoch. So do
``predict(sizes, params, x, *, out)`` and ``dense_forward(x, w, b)``, whose functions return
the outputs.
An operation that a contender does not have is missing from its namespace.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siglin
import siglin.reference
from cython_build import load

Array = NDArray[Any]
Fit = Callable[[], tuple[Sequence[float], Array]]
Outputs = Callable[[], Array]

# The lecture's neuron stops when no update moves theta by more; no run here gets there,
# but every contender looks.
IRIS_TOL = 5e-5


def library_fit(library: ModuleType) -> Callable[..., Fit]:
    """Return ``fit`` by the Network of siglin or of siglin.reference."""

    def fit(
        sizes: Sequence[int],
        params: Array,
        x: Array,
        t: Array,
        lr: float,
        steps: int,
        *,
        loss: str = "bce",
        optimizer: str = "gd",
        batch_size: int | None = None,
    ) -> Fit:
        net = library.Network(list(sizes), loss=loss, dtype=params.dtype.name, seed=0)
        net.params[:] = params
        epochs = steps // (len(x) // (batch_size or len(x)))

        def run() -> tuple[Sequence[float], Array]:
            history = net.fit(
                *(x, t),
                lr=lr,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=False,
                optimizer=optimizer,
            )
            return history.loss, net.params

        return run

    return fit


def library_predict(library: ModuleType) -> Callable[..., Outputs]:
    """Return ``predict`` by the Network of siglin or of siglin.reference."""

    def predict(
        sizes: Sequence[int], params: Array, x: Array, *, out: Array | None = None
    ) -> Outputs:
        net = library.Network(list(sizes), dtype=params.dtype.name, seed=0)
        net.params[:] = params
        if out is None:
            return lambda: net.predict(x)
        return lambda: net.predict(x, out=out)

    return predict


def library_dense_forward(library: ModuleType) -> Callable[..., Outputs]:
    """Return ``dense_forward`` by the Dense of siglin or of siglin.reference."""

    def dense_forward(x: Array, w: Array, b: Array) -> Outputs:
        layer = library.Dense(*w.shape, dtype=w.dtype.name, seed=0)
        layer.w, layer.b = w, b
        return lambda: layer.forward(x)

    return dense_forward


def library_iris(library: ModuleType) -> Callable[..., Fit]:
    """Return ``iris`` by the Neuron of siglin or of siglin.reference."""

    def iris(x: Array, t: Array, lr: float, steps: int) -> Fit:
        neuron = library.Neuron(x.shape[1], dtype=x.dtype.name)

        def run() -> tuple[Sequence[float], Array]:
            neuron.fit(x, t, lr=lr, epochs=steps, tol=IRIS_TOL)
            return (), neuron.params

        return run

    return iris


def numpy_sigmoid(z: Array, *, out: Array | None = None) -> Array:
    if out is None:
        return 1 / (1 + np.exp(-z))
    np.negative(z, out=out)
    np.exp(out, out=out)
    out += 1
    return np.divide(1, out, out=out)


def numpy_forward(x: Array, w: Array, b: Array, *, out: Array | None = None) -> Array:
    if out is None:
        return 1 / (1 + np.exp(-(x @ w + b)))
    np.matmul(x, w, out=out)
    out += b
    return numpy_sigmoid(out, out=out)


def numpy_backward(
    x: Array, w: Array, a: Array, da: Array
) -> tuple[Array, Array, Array]:
    dz = da * a * (1 - a)
    return dz @ w.T, x.T @ dz, dz.sum(axis=0)


def numpy_backward_update(
    x: Array, w: Array, b: Array, a: Array, da: Array, lr: float
) -> Array:
    dz = da * a * (1 - a)
    dx = dz @ w.T
    w -= lr * (x.T @ dz)
    b -= lr * dz.sum(axis=0)
    return dx


def numpy_update(param: Array, grad: Array, lr: float) -> None:
    param -= lr * grad


def layers_of(sizes: Sequence[int], params: Array) -> list[tuple[Array, Array]]:
    """Return w and b of each layer, views of the vector of all parameters."""
    layers, start = [], 0
    for n_in, n_out in pairwise(sizes):
        end = start + n_in * n_out
        layers.append(
            (params[start:end].reshape(n_in, n_out), params[end : end + n_out])
        )
        start = end + n_out
    return layers


def chain(forward: Callable[..., Array]) -> Callable[..., Outputs]:
    """Return ``predict`` by one ``forward`` after the other."""

    def predict(
        sizes: Sequence[int], params: Array, x: Array, *, out: Array | None = None
    ) -> Outputs:
        *hidden, (last_w, last_b) = layers_of(sizes, params)

        def run() -> Array:
            a = x
            for w, b in hidden:
                a = forward(a, w, b)
            return forward(a, last_w, last_b, out=out)

        return run

    return predict


def numpy_dense_forward(x: Array, w: Array, b: Array) -> Outputs:
    kept: list[Array] = []

    def run() -> Array:
        a = 1 / (1 + np.exp(-(x @ w + b)))
        kept[:] = x, a * (1 - a)
        return a

    return run


def numpy_fit(
    sizes: Sequence[int],
    params: Array,
    x: Array,
    t: Array,
    lr: float,
    steps: int,
    *,
    loss: str = "bce",
    optimizer: str = "gd",
    batch_size: int | None = None,
) -> Fit:
    layers = layers_of(sizes, params)
    batch = batch_size or len(x)
    parts = [(x[i : i + batch], t[i : i + batch]) for i in range(0, len(x), batch)]
    hits = [part == 1 for _, part in parts]
    softmax = loss == "cross_entropy"
    grads = np.empty_like(params)
    by_layer = layers_of(sizes, grads)

    def output(z: Array) -> Array:
        if not softmax:
            return 1 / (1 + np.exp(-z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def gradient(xb: Array, tb: Array, hit: Array) -> float:
        """Fill grads, and return the loss."""
        outputs = [xb]
        for w, b in layers[:-1]:
            outputs.append(1 / (1 + np.exp(-(outputs[-1] @ w + b))))
        w, b = layers[-1]
        y = output(outputs[-1] @ w + b)
        given = y[hit] if softmax else np.where(hit, y, 1 - y)
        dz = (y - tb) / len(xb)
        for (w, _), (dw, db) in zip(reversed(layers), reversed(by_layer), strict=True):
            a = outputs.pop()
            np.matmul(a.T, dz, out=dw)
            np.sum(dz, axis=0, out=db)
            if outputs:
                dz = (dz @ w.T) * a * (1 - a)
        return float(-np.log(given).sum() / len(xb))

    def run() -> tuple[Sequence[float], Array]:
        losses = []
        m, v, step = np.zeros_like(params), np.zeros_like(params), 0
        for _ in range(steps // len(parts)):
            of_epoch = 0.0
            for (xb, tb), hit in zip(parts, hits, strict=True):
                of_epoch += gradient(xb, tb, hit)
                if optimizer == "gd":
                    params[...] -= lr * grads
                    continue
                step += 1
                m = 0.9 * m + 0.1 * grads
                v = 0.999 * v + 0.001 * grads**2
                size = lr / (1 - 0.9**step)
                params[...] -= size * m / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            losses.append(of_epoch / len(parts))
        return losses, params

    return run


def numpy_iris(x: Array, t: Array, lr: float, steps: int) -> Fit:
    def run() -> tuple[Sequence[float], Array]:
        theta = np.zeros(x.shape[1], dtype=x.dtype)
        for _ in range(steps):
            p = 1 / (1 + np.exp(-(x @ theta)))
            change = lr * (x.T @ (t - p) / len(x))
            theta += change
            if np.linalg.norm(change) <= IRIS_TOL:
                break
        return (), theta

    return run


def cython_contender(dtype: str) -> SimpleNamespace:
    kernels = load()
    # Indexed by type once, so that no call pays for finding its variant.
    variant = {"float32": "float", "float64": "double"}[dtype]
    forward_into = kernels.forward[variant]
    sigmoid_into = kernels.sigmoid[variant]
    backward_into = kernels.backward[variant]
    backward_update_into = kernels.backward_update[variant]
    fit_into = kernels.fit[variant]
    empty, zeros = np.empty, np.zeros

    def sigmoid(z: Array, *, out: Array | None = None) -> Array:
        if out is None:
            out = empty(z.shape, dtype)
        sigmoid_into(z, out)
        return out

    def forward(x: Array, w: Array, b: Array, *, out: Array | None = None) -> Array:
        if out is None:
            out = empty((x.shape[0], w.shape[1]), dtype)
        forward_into(x, w, b, out)
        return out

    def backward(x: Array, w: Array, a: Array, da: Array) -> tuple[Array, Array, Array]:
        dx, dw, db = (
            empty(x.shape, dtype),
            zeros(w.shape, dtype),
            zeros(w.shape[1], dtype),
        )
        backward_into(x, w, a, da, empty(da.shape, dtype), dx, dw, db)
        return dx, dw, db

    def backward_update(
        x: Array, w: Array, b: Array, a: Array, da: Array, lr: float
    ) -> Array:
        dx = empty(x.shape, dtype)
        backward_update_into(x, w, b, a, da, lr, empty(da.shape, dtype), dx)
        return dx

    def fit(
        sizes: Sequence[int], params: Array, x: Array, t: Array, lr: float, steps: int
    ) -> Fit:
        sizes_array = np.array(sizes, dtype=np.intp)

        def run() -> tuple[Sequence[float], Array]:
            losses = np.empty(steps)
            fit_into(sizes_array, params, x, t, lr, losses)
            return losses.tolist(), params

        return run

    return SimpleNamespace(
        sigmoid=sigmoid,
        forward=forward,
        backward=backward,
        backward_update=backward_update,
        update=kernels.update[variant],
        predict=chain(forward),
        fit=fit,
    )


def library_contender(library: ModuleType) -> SimpleNamespace:
    """Return the contender made of the public functions of siglin, or of its reference."""
    return SimpleNamespace(
        sigmoid=library.sigmoid,
        forward=library.forward,
        backward=library.backward,
        backward_update=library.backward_update,
        update=library.update,
        dense_forward=library_dense_forward(library),
        predict=library_predict(library),
        fit=library_fit(library),
        iris=library_iris(library),
    )


def numpy_contender() -> SimpleNamespace:
    return SimpleNamespace(
        sigmoid=numpy_sigmoid,
        forward=numpy_forward,
        backward=numpy_backward,
        backward_update=numpy_backward_update,
        update=numpy_update,
        dense_forward=numpy_dense_forward,
        predict=chain(numpy_forward),
        fit=numpy_fit,
        iris=numpy_iris,
    )


@functools.cache
def contender(name: str, dtype: str) -> SimpleNamespace:
    """Return the contender of this name for arrays of dtype ("float32" or "float64").

    Raises
    ------
    cython_build.KernelsMissingError
        If the name is "cython" and its kernels cannot be built here.
    """
    match name:
        case "siglin":
            return library_contender(siglin)
        case "reference":
            return library_contender(siglin.reference)
        case "numpy":
            return numpy_contender()
        case "cython":
            return cython_contender(dtype)
    message = f"no contender {name!r}"
    raise ValueError(message)
