"""Dense: one layer that keeps its parameters, and what its backward pass needs."""

import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    Array,
    ArrayLike,
    DType,
    check_choice,
    check_dtype,
    check_flag,
    check_integer,
    check_param_count,
    check_real,
    check_shape,
    check_size,
    normalise,
    owned,
)
from siglin._data.rows import check_rows

ACTIVATIONS = (*_core.activations(), "softmax")
INITS = ("glorot", "he", "lecun", "normal", "zeros")

# As in _functions.py: the strict layer checks at run time what its stub asks for.
_layer_forward: Callable[..., tuple[Array, Array]] = _core.layer_forward
_layer_backward: Callable[..., Any] = _core.layer_backward  # dx, None if not wanted


def make_generator(function: str, seed: object) -> npt.NDArray[np.uint64]:
    """Return the state of a generator; entropy of the system if seed is None.

    The generator is xoshiro256++ (Blackman and Vigna 2021), filled from the seed by
    SplitMix64: integers only, so a seed gives the same numbers on every machine.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(8), "little")
    return _core.seed_generator(check_integer(function, "seed", seed, 0, 2**64 - 1))


def init_weights(
    w: Array, init: str, activation: str, state: npt.NDArray[np.uint64]
) -> None:
    """Fill the weights of a layer, row by row.

    "glorot" is uniform with the bound gain * sqrt(6 / (n_in + n_out)). Glorot and Bengio
    ("Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010) give it for tanh; gain is 1 / f'(0) for the sigmoid (4), and 1 for the others.
    "he" is uniform of variance 2 / n_in, for relu (He et al., "Delving deep into
    rectifiers", ICCV 2015), "lecun" of variance 1 / n_in (LeCun et al., "Efficient
    backprop", 1998). "normal" is N(0, 1), by the ratio of uniforms in Leva's form (1992).
    """
    if init in ("glorot", "he", "lecun"):
        gain = 4 if activation == "sigmoid" else 1
        _core.fill_uniform(state, w.reshape(-1), _core.init_bound(init, gain, *w.shape))
    elif init == "normal":
        _core.fill_normal(state, w.reshape(-1))
    else:
        w.fill(0)


def assign(function: str, name: str, target: Array, value: object) -> None:
    """Copy values into an array of the same shape."""
    if value is target:  # so does `layer.w += 1`, when it has added
        return
    array = normalise(function, {name: value}, target.dtype)[name]
    check_shape(function, name, array, target.shape)
    np.copyto(target, array)


def assign_parameters(
    function: str, name: str, parameters: _core.Parameters, value: object
) -> None:
    """Copy values into a network's parameters, unless another thread fits them."""
    vector = parameters.vector
    if value is vector:  # so does `net.params += 1`, when it has added
        return
    array = normalise(function, {name: value}, vector.dtype)[name]
    check_shape(function, name, array, vector.shape)
    values: Any = np.ascontiguousarray(array)
    parameters.assign(f"{function}.{name}", values)


class Dense:
    """A layer a = f(x @ w + b) with its parameters and gradients.

    Parameters
    ----------
    n_in, n_out : int
        Sizes of the input and of the output, at least 1.
    activation : str, default "sigmoid"
        f: "sigmoid", "tanh", "relu", "leaky_relu" (alpha 0.1), "identity", "step" (it
        has no gradient), or "softmax", which works only as a network's output.
    bias : bool, default True
        Whether there is a b; it starts at 0.
    init : str, default "glorot"
        How w starts: "glorot", uniform with the bound gain * sqrt(6 / (n_in + n_out)),
        gain 4 for the sigmoid and 1 otherwise; "normal", N(0, 1); or "zeros".
    dtype : dtype_like, default "float64"
        float32 or float64.
    seed : int, optional
        Of the initial weights, 0 <= seed < 2**64; None takes one from the system.

    Attributes
    ----------
    w, dw : ndarray, shape (n_in, n_out)
        Weights, and after `backward` their gradient. Assigning to one copies the values.
    b, db : ndarray, shape (n_out,), or None
        Bias and its gradient; None without bias.
    params, grads : ndarray, shape (n_params,)
        The vectors that these are views of: w row by row, then b.
    n_in, n_out, n_params : int
    activation : str
    dtype : dtype

    Raises
    ------
    TypeError, ValueError
        If a size or the seed is not an int or out of range, or a name is unknown.
    DTypeError
        If the dtype is another one.

    Notes
    -----
    A layer is for one thread at a time. A `Network` takes its layers over: their arrays
    become views of its vectors, and arrays taken from the layer before stay behind.
    Copies and pickles are layers of their own, and keep no forward pass.

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward
    neural networks", AISTATS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> layer = siglin.Dense(2, 1, init="zeros")
    >>> layer.forward(np.array([[5.0, 3.0]]))
    array([[0.5]])
    >>> layer.backward(np.array([[1.0]]))
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
        seed: int | None = None,
    ) -> None:
        n_in = check_size("Dense", "n_in", n_in)
        n_out = check_size("Dense", "n_out", n_out)
        activation = check_choice("Dense", "activation", activation, ACTIVATIONS)
        bias = check_flag("Dense", "bias", bias)
        init = check_choice("Dense", "init", init, INITS)
        layer_dtype = check_dtype("Dense", dtype)
        n_params = (n_in + bias) * n_out
        check_param_count("Dense", n_params, layer_dtype)
        state = make_generator("Dense", seed)
        self._set_kind(n_in, n_out, activation, bias)
        self.live_in(np.zeros(n_params, layer_dtype), np.zeros(n_params, layer_dtype))
        init_weights(self._w, init, activation, state)

    def _set_kind(self, n_in: int, n_out: int, activation: str, bias: bool) -> None:
        self._n_in = n_in
        self._n_out = n_out
        self._activation = activation
        self._bias = bias
        self._tape: tuple[Array, Array] | None = None  # x and derivative of `forward`
        self._network: weakref.ref[Any] | None = None

    @classmethod
    def of_network(
        cls, n_in: int, n_out: int, activation: str, bias: bool, network: object
    ) -> "Dense":
        """Return a layer without arrays yet; for `Network`."""
        layer = cls.__new__(cls)
        layer._set_kind(n_in, n_out, activation, bias)
        layer._network = weakref.ref(network)
        return layer

    def live_in(self, params: Array, grads: Array) -> None:
        """Make w, b, dw, db views of two vectors; for `Network`."""
        n_weights = self._n_in * self._n_out
        shape = self._n_in, self._n_out
        self._params: Array = params
        self._grads: Array = grads
        self._w: Array = params[:n_weights].reshape(shape)
        self._dw: Array = grads[:n_weights].reshape(shape)
        self._b: Array | None = params[n_weights:] if self._bias else None
        self._db: Array | None = grads[n_weights:] if self._bias else None
        self._tape = None

    def join(self, network: object, params: Array, grads: Array) -> None:
        """Move the values into a network's vectors and live there; for `Network`."""
        params[...] = self._params
        grads[...] = self._grads
        self.live_in(params, grads)
        self._network = weakref.ref(network)

    @property
    def network(self) -> Any:
        """The network that has taken this layer over, or None."""
        return None if self._network is None else self._network()

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self._n_in

    @property
    def n_out(self) -> int:
        """Number of outputs."""
        return self._n_out

    @property
    def n_params(self) -> int:
        """Number of parameters: n_in * n_out, and n_out more with bias."""
        return self._params.size

    @property
    def activation(self) -> str:
        """Name of the activation."""
        return self._activation

    @property
    def bias(self) -> bool:
        """Whether there is a b."""
        return self._bias

    @property
    def dtype(self) -> DType:
        """float32 or float64."""
        return self._params.dtype

    @property
    def params(self) -> Array:
        """All parameters: w row by row, then b."""
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        assign("Dense", "params", self._params, value)

    @property
    def grads(self) -> Array:
        """All gradients, in the order of `params`."""
        return self._grads

    @grads.setter
    def grads(self, value: ArrayLike) -> None:
        assign("Dense", "grads", self._grads, value)

    @property
    def w(self) -> Array:
        """Weights, shape (n_in, n_out)."""
        return self._w

    @w.setter
    def w(self, value: ArrayLike) -> None:
        assign("Dense", "w", self._w, value)

    @property
    def dw(self) -> Array:
        """Gradient of the weights, shape (n_in, n_out)."""
        return self._dw

    @dw.setter
    def dw(self, value: ArrayLike) -> None:
        assign("Dense", "dw", self._dw, value)

    @property
    def b(self) -> Array | None:
        """Bias, shape (n_out,); None without bias."""
        return self._b

    @b.setter
    def b(self, value: ArrayLike | None) -> None:
        self._assign_bias("b", self._b, value)

    @property
    def db(self) -> Array | None:
        """Gradient of the bias, shape (n_out,); None without bias."""
        return self._db

    @db.setter
    def db(self, value: ArrayLike | None) -> None:
        self._assign_bias("db", self._db, value)

    def _assign_bias(self, name: str, target: Array | None, value: object) -> None:
        if target is not None:
            assign("Dense", name, target, value)
        elif value is not None:
            raise ValueError(f"Dense: {name} cannot be set, the layer has no bias")

    def __repr__(self) -> str:
        return (
            f"Dense({self._n_in}, {self._n_out}, {self._activation!r}, "
            f"bias={self._bias}, dtype={self.dtype.name!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the vectors: views would come back as arrays of their own.
        state = {
            name: value for name, value in vars(self).items() if name not in _NOT_KEPT
        }
        return state | {"_params": self._params.copy(), "_grads": self._grads.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._network = None
        self.live_in(owned(state["_params"]), owned(state["_grads"]))

    def forward(self, x: ArrayLike) -> Array:
        """Return a = f(x @ w + b), and keep what `backward` needs.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
            Kept until `backward`, not copied: do not write into it in between.

        Returns
        -------
        ndarray, shape (batch, n_out)

        Raises
        ------
        ShapeError, DTypeError
            If x has another shape, or is of the other float dtype.
        TypeError, ValueError
            If x is None or sparse, or has masked values.
        ValueError
            If the activation is "softmax", which only a network computes.

        Examples
        --------
        >>> import siglin
        >>> siglin.Dense(2, 2, "identity", init="zeros").forward([[1, 2]])
        array([[0., 0.]])
        """
        if self._activation == "softmax":
            msg = 'Dense.forward: "softmax" is computed by a network, as its output'
            raise ValueError(msg)
        try:
            a, derivative = _layer_forward(x, self._w, self._b, self._activation)
        except (TypeError, ValueError):
            pass
        else:
            self._tape = x, derivative  # type: ignore[assignment]
            return a
        ready = check_rows("Dense.forward", "x", x, self.dtype, self._n_in)
        a, derivative = _layer_forward(ready, self._w, self._b, self._activation)
        self._tape = ready, derivative
        return a

    def backward(self, da: ArrayLike) -> Array:
        """Write dw and db, and return dx; `forward` comes first.

        The derivative is the one of the pre-activation, which keeps its digits where the
        sigmoid is saturated.

        Parameters
        ----------
        da : array_like, shape (batch, n_out)
            Gradient of the loss with respect to what `forward` returned.

        Returns
        -------
        ndarray, shape (batch, n_in)

        Raises
        ------
        RuntimeError
            If there was no `forward`.
        ShapeError, DTypeError
            If da has another shape, or is of the other float dtype.
        ValueError
            If the activation is "step", which has no gradient.

        Examples
        --------
        >>> import siglin
        >>> layer = siglin.Dense(2, 1, "identity", init="zeros")
        >>> a = layer.forward([[1, 2], [3, 4]])
        >>> dx = layer.backward([[1], [1]])
        >>> layer.dw.ravel(), layer.db
        (array([4., 6.]), array([2.]))
        """
        if self._tape is None:
            raise RuntimeError("Dense.backward: forward comes first")
        check_has_gradient("Dense.backward", self._activation)
        x, derivative = self._tape
        args = x, self._w, derivative
        grads = self._dw, self._db, True
        try:
            dx: Array = _layer_backward(*args, da, *grads)
        except (TypeError, ValueError):
            pass
        else:
            return dx
        ready = normalise("Dense.backward", {"da": da}, self.dtype)["da"]
        check_shape("Dense.backward", "da", ready, derivative.shape)
        dx = _layer_backward(*args, ready, *grads)
        return dx  # noqa: RET504  (mypy wants its type said)

    def update(self, lr: float) -> None:
        """Take the step w -= lr * dw, b -= lr * db.

        Parameters
        ----------
        lr : float
            Step size, dimensionless, finite. A negative one climbs.

        Raises
        ------
        TypeError, ValueError
            If lr is no real number, or NaN or infinite.

        Examples
        --------
        >>> import siglin
        >>> layer = siglin.Dense(1, 1, init="zeros")
        >>> layer.dw = [[2.0]]
        >>> layer.update(0.5)
        >>> layer.w
        array([[-1.]])
        """
        lr = check_real("Dense.update", "lr", lr)
        _core.update(self._params, self._grads, lr)


# Derived from the vectors, or of no use in a copy.
_NOT_KEPT = {"_w", "_b", "_dw", "_db", "_tape", "_network"}


def check_has_gradient(function: str, activation: str) -> None:
    """Raise ValueError for the step, which is flat wherever it has a derivative."""
    if activation == "step":
        msg = f'{function}: activation "step" has no gradient to go backward through'
        raise ValueError(msg)
