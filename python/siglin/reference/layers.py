"""Dense: one layer that keeps its parameters, and what its backward pass needs."""

# NumPy's stubs give Any for arithmetic on arrays of either float dtype.
# mypy: disable-error-code="no-any-return"

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from siglin.reference.activations import (
    ACTIVATIONS,
    OUTPUT_ACTIVATIONS,
    activate,
    activate_backward,
)
from siglin.reference.checks import Array, check_shape, common_dtype, float_dtype
from siglin.reference.functions import update
from siglin.reference.random import Generator


def initial_weights(
    init: str, n_in: int, n_out: int, activation: str, generator: Generator
) -> npt.NDArray[np.float64]:
    """Return the n_in * n_out initial weights of a layer, row by row.

    "glorot" is uniform with variance gain^2 * 2 / (n_in + n_out), so with the bound
    gain * sqrt(6 / (n_in + n_out)), where gain is 1 / f'(0) for the sigmoid (4) and 1
    for the others (Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", AISTATS 2010). "he" is uniform with variance 2 / n_in
    (He et al., "Delving deep into rectifiers", ICCV 2015), "lecun" with 1 / n_in (LeCun
    et al., "Efficient backprop", 1998). "normal" is N(0, 1), "zeros" is 0.

    Raises
    ------
    ValueError
        If `init` is none of them.
    """
    if init == "glorot":
        gain = 4 if activation == "sigmoid" else 1
        return generator.uniform(n_in * n_out, gain * math.sqrt(6 / (n_in + n_out)))
    if init in ("he", "lecun"):
        variance = (2 if init == "he" else 1) / n_in
        return generator.uniform(n_in * n_out, math.sqrt(3 * variance))
    if init == "normal":
        return generator.normal(n_in * n_out)
    if init == "zeros":
        return np.zeros(n_in * n_out)
    raise ValueError(
        f"init must be 'glorot', 'he', 'lecun', 'normal' or 'zeros', got {init!r}"
    )


class Dense:
    """A layer a = f(x @ w + b).

    Parameters
    ----------
    n_in, n_out : int
        Sizes of the input and of the output.
    activation : str
        The name of f; "softmax" and "exp" only for the last layer of a network.
    bias : bool
        Whether there is a b; it starts at 0.
    init : str
        How w starts: "glorot", "he", "lecun", "normal" or "zeros", see
        `initial_weights`.
    dtype : dtype_like
        float32 or float64.
    seed : int or Generator, optional
        Seed of the initial weights, or the generator to draw them from; None takes a
        seed from the system's entropy.

    Attributes
    ----------
    w, dw : ndarray, shape (n_in, n_out)
        Weights and, after `backward`, their gradient.
    b, db : ndarray, shape (n_out,), or None
        Bias and its gradient; None without bias.
    params, grads : ndarray, shape (n_params,)
        The flat vectors that w, b and dw, db are views of: w row by row, then b.
        Assigning to w, b or params copies the values.

    Raises
    ------
    DTypeError
        If the dtype is another one.
    ValueError
        If there is no such activation or init.

    Examples
    --------
    >>> from siglin import reference
    >>> layer = reference.Dense(2, 1, init="zeros")
    >>> layer.forward([[5.0, 3.0]])
    array([[0.5]])
    >>> layer.backward([[1.0]])
    array([[0., 0.]])
    >>> layer.update(0.1)
    >>> layer.w.ravel(), layer.b
    (array([-0.125, -0.075]), array([-0.025]))
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        activation: str = "sigmoid",
        *,
        bias: bool = True,
        init: str = "glorot",
        dtype: npt.DTypeLike = "float64",
        seed: int | Generator | None = None,
    ) -> None:
        names = [*ACTIVATIONS, *OUTPUT_ACTIVATIONS]
        if activation not in names:
            raise ValueError(f"activation must be one of {names}, got {activation!r}")
        if min(n_in, n_out) < 1:
            raise ValueError(f"Dense: sizes must be >= 1, got ({n_in}, {n_out})")
        self.n_in = n_in
        self.n_out = n_out
        self.activation = activation
        self.bias = bias
        self.dtype = float_dtype(dtype)
        generator = seed if isinstance(seed, Generator) else Generator(seed)
        weights = initial_weights(init, n_in, n_out, activation, generator)
        biases = np.zeros(n_out if bias else 0)
        self._params: Array = np.concatenate([weights, biases]).astype(self.dtype)
        self._grads: Array = np.zeros_like(self._params)

    @property
    def n_params(self) -> int:
        """Number of parameters: n_in * n_out, and n_out more with bias."""
        return self._params.size

    @property
    def params(self) -> Array:
        """All parameters: w row by row, then b."""
        return self._params

    @params.setter
    def params(self, values: npt.ArrayLike) -> None:
        self._params[...] = values

    @property
    def grads(self) -> Array:
        """All gradients: dw row by row, then db."""
        return self._grads

    @property
    def w(self) -> Array:
        """The weights, a view of `params`."""
        return self._weights_part(self._params)

    @w.setter
    def w(self, values: npt.ArrayLike) -> None:
        self.w[...] = values

    @property
    def dw(self) -> Array:
        """The gradient of the weights, a view of `grads`."""
        return self._weights_part(self._grads)

    @property
    def b(self) -> Array | None:
        """The bias, a view of `params`; None without bias."""
        return self._bias_part(self._params)

    @b.setter
    def b(self, values: npt.ArrayLike) -> None:
        if self.b is None:
            raise ValueError("Dense: b cannot be set, the layer has no bias")
        self.b[...] = values

    @property
    def db(self) -> Array | None:
        """The gradient of the bias, a view of `grads`; None without bias."""
        return self._bias_part(self._grads)

    def _weights_part(self, flat: Array) -> Array:
        return flat[: self.n_in * self.n_out].reshape(self.n_in, self.n_out)

    def _bias_part(self, flat: Array) -> Array | None:
        return flat[self.n_in * self.n_out :] if self.bias else None

    def live_in(self, params: Array, grads: Array) -> None:
        """Move the values into these flat vectors, and keep them there."""
        params[...] = self._params
        grads[...] = self._grads
        self._params, self._grads = params, grads

    def __repr__(self) -> str:
        """Return the call that makes a layer like this one."""
        return (
            f"Dense({self.n_in}, {self.n_out}, {self.activation!r}, "
            f"bias={self.bias}, dtype={self.dtype.name!r})"
        )

    def pre_activation(self, x: Array) -> Array:
        """Return z = x @ w + b."""
        z = x @ self.w
        return z if self.b is None else z + self.b

    def apply(self, x: Array) -> Array:
        """Return a = f(x @ w + b), and keep nothing."""
        return activate(self.activation, self.pre_activation(x))

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return a = f(x @ w + b), and keep x and z for `backward`.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)

        Returns
        -------
        ndarray, shape (batch, n_out)

        Raises
        ------
        ShapeError, DTypeError
            If x has another shape, or is of the other float dtype.
        """
        common_dtype("Dense.forward", x=x, w=self.w)
        x = np.asarray(x, self.dtype)
        check_shape("Dense.forward", "x", x, ("batch", self.n_in))
        self.x = x
        self.z = self.pre_activation(x)
        return activate(self.activation, self.z)

    def backward(self, da: npt.ArrayLike) -> Array:
        """Return dx from da, and write dw and db; `forward` comes first.

        Parameters
        ----------
        da : array_like, shape (batch, n_out)
            Gradient of the loss to what `forward` returned.

        Returns
        -------
        ndarray, shape (batch, n_in)

        Raises
        ------
        ShapeError, DTypeError
            If da has another shape, or is of the other float dtype.
        ValueError
            If the activation is "step".
        """
        common_dtype("Dense.backward", da=da, w=self.w)
        da = np.asarray(da, self.dtype)
        check_shape("Dense.backward", "da", da, self.z.shape)
        return self.backward_from_dz(activate_backward(self.activation, self.z, da))

    def backward_from_dz(self, dz: Array) -> Array:
        """Return dx from dz, and write dw and db."""
        self.dw[...] = self.x.T @ dz
        if self.db is not None:
            self.db[...] = dz.sum(axis=0)
        return dz @ self.w.T

    def update(self, lr: float) -> None:
        """Take the descent step w -= lr * dw, b -= lr * db."""
        update(self.params, self.grads, lr)


def layers_of_sizes(
    sizes: Sequence[int],
    hidden: str | Sequence[str],
    output: str,
    generator: Generator,
    *,
    bias: bool,
    init: str,
    dtype: npt.DTypeLike,
) -> list[Dense]:
    """Return the layers between `sizes`, drawn one after the other from `generator`."""
    n_layers = len(sizes) - 1
    if n_layers < 1:
        raise ValueError(f"Network: sizes must be two or more, got {[*sizes]}")
    names = [hidden] * (n_layers - 1) if isinstance(hidden, str) else [*hidden]
    if len(names) != n_layers - 1:
        raise ValueError(
            f"Network: activation must name {n_layers - 1} hidden layers, got {names}"
        )
    return [
        Dense(n_in, n_out, name, bias=bias, init=init, dtype=dtype, seed=generator)
        for n_in, n_out, name in zip(
            sizes[:-1], sizes[1:], [*names, output], strict=True
        )
    ]
