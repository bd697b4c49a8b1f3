"""Network: layers one after the other over one flat vector of parameters."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from siglin.errors import DTypeError, ShapeError
from siglin.reference.activations import OUTPUT_ACTIVATIONS
from siglin.reference.checks import (
    Array,
    check_shape,
    common_dtype,
    float_dtype,
    stored,
)
from siglin.reference.dropout import dropout_masks
from siglin.reference.functions import update
from siglin.reference.layers import Dense, layers_of_sizes
from siglin.reference.losses import (
    OF_OUTPUT,
    OUTPUTS,
    Loss,
    loss_named,
    name_of,
    output_gradient,
    penalty,
    penalty_gradient,
)
from siglin.reference.optimizers import Optimizer, optimizer_named
from siglin.reference.random import Generator
from siglin.reference.training import Callback, History, train


class Network:
    """Layers in a row, a loss, and gradient descent.

    Parameters
    ----------
    layers : sequence of int or of Dense
        The sizes from input to output, or layers. Layers are taken over: they keep their
        values, and become views of the network's vectors.
    activation : str or sequence of str
        Of all hidden layers, or one for each.
    output_activation : str, optional
        None is "sigmoid" for bce, "softmax" for cross_entropy, "exp" for poisson, which
        allow no other, and "identity" for the rest.
    loss : str, Huber or Quantile
        "bce" (targets in [0, 1]), "squared_error", "cross_entropy" (targets one-hot, or
        class numbers), "poisson" (targets >= 0), "huber" or "quantile"; or one of the
        last two as an object, with a number other than the usual one.
    bias : bool
        Whether the layers have a b.
    init : str
        "glorot", "he", "lecun", "normal" or "zeros", see `layers.initial_weights`.
    dtype : dtype_like
        float32 or float64.
    seed : int, optional
        Seed of the network's generator, which draws the weights and then the shuffles;
        None takes one from the system's entropy.

    Attributes
    ----------
    layers : list of Dense
    params, grads : ndarray, shape (n_params,)
        Layer after layer, w row by row, then b. Assigning copies the values.
    dtype : numpy.dtype
    loss_name : str

    Raises
    ------
    ShapeError
        If the sizes of given layers do not chain.
    DTypeError
        If the dtype is another one, or given layers have several.
    ValueError
        If a name is unknown, or loss and output activation do not go together.

    Examples
    --------
    >>> import numpy as np
    >>> from siglin import reference
    >>> net = reference.Network([2, 3, 1], bias=False)
    >>> net.layers[0].w[...] = [[1, -1, 3], [2, 2, -1]]
    >>> net.layers[1].w[...] = [[0.1], [0.5], [-0.1]]
    >>> x, t = np.array([[5.0, 3.0]]), np.array([1.0])
    >>> net.predict(x).round(6)
    array([[0.590378]])
    >>> round(net.loss(x, t), 6)
    0.526992
    >>> history = net.fit(x, t, lr=0.1, epochs=100)
    >>> round(net.loss(x, t), 6)
    0.034142
    """

    def __init__(
        self,
        layers: Sequence[int] | Sequence[Dense],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output_activation: str | None = None,
        loss: Loss = "bce",
        bias: bool = True,
        init: str = "glorot",
        dtype: npt.DTypeLike = "float64",
        seed: int | None = None,
    ) -> None:
        self._loss = loss_named(loss)
        self.loss_name = name_of(self._loss)
        self.generator = Generator(seed)
        given = [layer for layer in layers if isinstance(layer, Dense)]
        if given:
            self.layers = given
        else:
            self.layers = layers_of_sizes(
                [size for size in layers if not isinstance(size, Dense)],
                activation,
                output_activation or OUTPUTS[self.loss_name],
                self.generator,
                bias=bias,
                init=init,
                dtype=dtype,
            )
        self.dtype = self.layers[0].dtype
        self._check_layers()
        n_params = sum(layer.n_params for layer in self.layers)
        self._params: Array = np.zeros(n_params, self.dtype)
        self._grads: Array = np.zeros_like(self._params)
        self._take_over_layers()

    def _check_layers(self) -> None:
        output = self.layers[-1].activation
        if self.loss_name not in OF_OUTPUT and output != OUTPUTS[self.loss_name]:
            raise ValueError(
                f"Network: loss {self.loss_name!r} needs the output activation "
                f"{OUTPUTS[self.loss_name]!r}, got {output!r}"
            )
        if output == "exp" and self.loss_name != "poisson":
            raise ValueError("Network: exp goes with the loss 'poisson' only")
        for below, above in zip(self.layers[:-1], self.layers[1:], strict=True):
            if below.activation in OUTPUT_ACTIVATIONS:
                raise ValueError(
                    f"Network: {below.activation} is for the output layer only"
                )
            if below.n_out != above.n_in:
                raise ShapeError(f"Network: {above} cannot follow {below}")
            if below.dtype != above.dtype:
                raise DTypeError(f"Network: {above} and {below} differ in dtype")

    def _take_over_layers(self) -> None:
        start = 0
        for layer in self.layers:
            stop = start + layer.n_params
            layer.live_in(self.params[start:stop], self.grads[start:stop])
            start = stop

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, in which the views have become arrays."""
        self.__dict__.update(state)
        self._take_over_layers()

    def __repr__(self) -> str:
        """Return the layers and the loss."""
        return f"{type(self).__name__}({self.layers}, loss={self.loss_name!r})"

    @property
    def params(self) -> Array:
        """All parameters, the vector that the layers' w and b are views of."""
        return self._params

    @params.setter
    def params(self, values: npt.ArrayLike) -> None:
        self._params[...] = values

    @property
    def grads(self) -> Array:
        """All gradients, in the order of `params`."""
        return self._grads

    @grads.setter
    def grads(self, values: npt.ArrayLike) -> None:
        self._grads[...] = values

    @property
    def n_params(self) -> int:
        """Number of parameters of all layers."""
        return self.params.size

    def _inputs(self, function: str, x: npt.ArrayLike) -> Array:
        common_dtype(function, x=x, params=self.params)
        x = np.asarray(x, self.dtype)
        check_shape(function, "x", x, ("batch", self.layers[0].n_in))
        return x

    def _targets(self, function: str, t: npt.ArrayLike, rows: int) -> Array:
        n_out = self.layers[-1].n_out
        common_dtype(function, t=t, params=self.params)
        t = np.asarray(t)
        if t.ndim == 1 and self.loss_name == "cross_entropy":
            t = np.eye(n_out)[t.astype(np.int64)]
        elif t.ndim == 1 and n_out == 1:
            t = t[:, None]
        t = t.astype(self.dtype)
        check_shape(function, "t", t, (rows, n_out))
        if rows == 0:
            raise ShapeError(f"{function}: the loss of no rows is not defined")
        return t

    def predict(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """Return the outputs for the rows of x.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
        out : ndarray, shape (batch, n_out), optional
            Where to write them.

        Returns
        -------
        ndarray, shape (batch, n_out)

        Raises
        ------
        ShapeError, DTypeError
            If x or out has another shape or dtype.
        """
        a = self._inputs("predict", x)
        for layer in self.layers:
            a = layer.apply(a)
        return stored("predict", a, out)

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the outputs, and keep what `backward` needs."""
        a = self._inputs("forward", x)
        for layer in self.layers:
            a = layer.forward(a)
        return a

    def backward(self, t: npt.ArrayLike) -> float:
        """Write the loss's gradients into `grads` and return the loss.

        Parameters
        ----------
        t : array_like, shape (batch, n_out)
            Targets of the rows that `forward` was given; also of shape (batch,) for one
            output, or for the class numbers of cross_entropy.

        Raises
        ------
        ShapeError, DTypeError
            If t has another shape, or is of the other float dtype.
        """
        t = self._targets("backward", t, len(self.layers[-1].z))
        return self._backward(t)

    def _backward(
        self,
        t: Array,
        weights: Array | None = None,
        masks: Sequence[Array] | None = None,
    ) -> float:
        last = self.layers[-1]
        loss, dz = output_gradient(self._loss, last.activation, last.z, t, weights)
        da = last.backward_from_dz(dz)
        for i in reversed(range(len(self.layers) - 1)):
            da = self.layers[i].backward(da if masks is None else da * masks[i])
        return loss

    def dropout_masks(self, rows: int, dropout: float, seed: int) -> list[Array]:
        """Return the masks of the hidden layers for one step, see `dropout`."""
        widths = [layer.n_out for layer in self.layers[:-1]]
        return dropout_masks(widths, rows, dropout, seed, self.dtype)

    def backward_from(self, da: npt.ArrayLike) -> Array:
        """Write the gradients for a given gradient da to the outputs, and return dx.

        For your own loss, after `forward`.
        """
        dx = self.layers[-1].backward(da)
        for layer in reversed(self.layers[:-1]):
            dx = layer.backward(dx)
        return dx

    def update(self, lr: float) -> None:
        """Take the descent step params -= lr * grads."""
        update(self.params, self.grads, lr)

    def loss(self, x: npt.ArrayLike, t: npt.ArrayLike) -> float:
        """Return the loss: the mean over the rows of the sum over the outputs."""
        a = self._inputs("loss", x)
        t = self._targets("loss", t, len(a))
        for layer in self.layers[:-1]:
            a = layer.apply(a)
        last = self.layers[-1]
        z = last.pre_activation(a)
        return output_gradient(self._loss, last.activation, z, t)[0]

    def loss_and_grads(self, x: npt.ArrayLike, t: npt.ArrayLike) -> tuple[float, Array]:
        """Return the loss and `grads`, filled with its gradients."""
        x = self._inputs("loss_and_grads", x)
        t = self._targets("loss_and_grads", t, len(x))
        return self.loss_and_grads_of(x, t), self.grads

    def loss_and_grads_of(
        self,
        x: Array,
        t: Array,
        weights: Array | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        masks: Sequence[Array] | None = None,
    ) -> float:
        """Return the loss of checked data, with its penalties, and fill `grads`.

        The outputs of the hidden layers are multiplied by the masks, if there are any.
        """
        for i, layer in enumerate(self.layers):
            x = layer.forward(x)
            if masks is not None and layer is not self.layers[-1]:
                x = x * masks[i]
        loss = self._backward(t, weights, masks)
        if l1 == 0 and l2 == 0:
            return loss
        for layer in self.layers:
            loss += penalty(layer.w, l1, l2)
            layer.dw[...] += penalty_gradient(layer.w, l1, l2)
        return loss

    def fit(
        self,
        x: npt.ArrayLike,
        t: npt.ArrayLike,
        *,
        lr: float | Callable[[int], float] = 0.1,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        optimizer: str | Optimizer = "gd",
        sample_weight: npt.ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float | Iterable[Sequence[Array]] = 0.0,
        clip_norm: float | None = None,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        tol: float = 0.0,
        callback: Callback | None = None,
        progress: bool | int = False,  # noqa: ARG002  one signature for both libraries
    ) -> History:
        """Train from the present weights on.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
        t : array_like, shape (rows, n_out), or (rows,) as in `backward`
        lr : float or callable
            Step size, dimensionless; a function of the epoch, counted from 0, returns
            that of the epoch.
        epochs : int
            How many times to go through the rows.
        batch_size : int, optional
            Rows to a step; None or too many is one batch of all rows, never shuffled.
        shuffle : bool
            Whether each epoch takes the rows in a new random order.
        seed : int, optional
            Seed of the shuffling; None goes on with the network's generator.
        optimizer : str or object
            "gd", "momentum", "nesterov", "adam", "adamw" (a fresh one), or an object of
            `optimizers`, which remembers.
        sample_weight : array_like, shape (rows,), optional
            How much each row counts in the mean over a batch; a batch whose rows all
            weigh nothing makes no step.
        l1, l2 : float
            Strengths of the penalties l1 |w| and l2 w^2 / 2 on the weights, not the
            biases; they are part of the history's loss.
        dropout : float or iterable
            The probability with which a step drops an output of a hidden layer; or the
            masks themselves, for each step a list with those of each hidden layer, of
            shape (rows, n_out).
        clip_norm : float, optional
            Gradients of a larger 2-norm are scaled to this one.
        validation_data : (x, t), optional
            Its loss is taken after each epoch.
        patience : int, optional
            Stop after so many epochs without an improvement of that loss by more than
            min_delta, and go back to the parameters of the best.
        min_delta : float
        tol : float
            Stop after the step whose change of the parameters has a 2-norm <= tol; 0
            never stops.
        callback : callable, optional
            Called with a TrainingState after each epoch; returning True stops.
        progress : bool or int
            Ignored: the reference prints nothing.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, DTypeError
            If x or t does not fit.
        DivergenceError
            If the loss or a parameter is no longer finite; the last finite parameters
            are kept.
        """
        x = self._inputs("fit", x)
        t = self._targets("fit", t, len(x))
        weights = None
        if sample_weight is not None:
            weights = np.asarray(sample_weight, self.dtype)
            check_shape("fit", "sample_weight", weights, (len(x),))
            # Only their ratios count; a power of two changes no digit of a mean.
            weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        held = None
        if validation_data is not None:
            x_held = self._inputs("fit", validation_data[0])
            held = x_held, self._targets("fit", validation_data[1], len(x_held))
        return train(
            self,
            x,
            t,
            weights=weights,
            l1=l1,
            l2=l2,
            dropout=dropout,
            clip_norm=clip_norm,
            validation_data=held,
            patience=patience,
            min_delta=min_delta,
            lr=lr if callable(lr) else float(lr),
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            generator=self.generator if seed is None else Generator(seed),
            optimizer=optimizer_named(optimizer),
            tol=tol,
            callback=callback,
        )

    def astype(self, dtype: npt.DTypeLike) -> "Network":
        """Return a copy in another dtype."""
        result = copy.deepcopy(self)
        result.dtype = float_dtype(dtype)
        result._params = self.params.astype(result.dtype)
        result._grads = self.grads.astype(result.dtype)
        for layer in result.layers:
            layer.dtype = result.dtype
        result._take_over_layers()
        return result
