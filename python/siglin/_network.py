"""Network: layers one after the other over one vector of parameters; Neuron."""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    DType,
    check_apart,
    check_choice,
    check_dtype,
    check_integer,
    check_not_negative,
    check_out,
    check_positive,
    check_real,
    check_shape,
    check_size,
    normalise,
    plain,
)
from siglin._data.checks import (
    check_finite,
    check_row,
    check_row_targets,
    check_rows,
    check_targets,
    check_weights,
)
from siglin._layers import (
    INITS,
    Dense,
    assign,
    assign_parameters,
    check_has_gradient,
    init_weights,
    make_generator,
)
from siglin._plan import plan_network
from siglin._training.optimizers import Optimizer, check_fraction, check_optimizer
from siglin._training.run import (
    MAX_COUNT,
    Callback,
    History,
    Watch,
    check_callback,
    check_loop,
    check_progress,
    history_of,
    make_progress,
)
from siglin._training.saturation import LEAST_WORK, check_saturation
from siglin.errors import DivergenceError

if TYPE_CHECKING:
    from typing_extensions import Self

# What `Network.forward` keeps for `backward`: x, (outputs, derivatives) of each hidden
# layer, and the last layer's pre-activations.
_Tape: TypeAlias = tuple[Array, list[tuple[Array, Array]], Array]

# Validation data or None, patience and min_delta, as the native loop takes them.
Validation: TypeAlias = tuple[tuple[Array, Array] | None, int, float]


class Network:
    """Layers in a row, a loss, and gradient descent.

    Parameters
    ----------
    layers : sequence of int or of Dense
        The sizes from input to output, two or more. Or layers that fit one after the
        other: the network takes them over, they keep their values, and their arrays
        become views of its vectors.
    activation : str or sequence of str, default "sigmoid"
        Of all hidden layers, or one for each: "sigmoid", "tanh", "relu", "leaky_relu",
        "identity" or "step" (which predicts, but cannot be trained).
    output_activation : str, optional
        None is "sigmoid" for "bce", "identity" for "squared_error" and "softmax" for
        "cross_entropy". Only "squared_error" takes another.
    loss : str, default "bce"
        "bce": binary cross-entropy of every output, targets in [0, 1].
        "squared_error": half the squared distance.
        "cross_entropy": of a softmax; targets one-hot, or class numbers.
        A loss is the mean over the rows of the sum over the outputs.
    bias : bool, default True
        Whether the layers have a b; biases start at 0.
    init : str, default "glorot"
        How the weights start: "glorot", "he", "lecun", "normal" or "zeros", see `Dense`.
    dtype : dtype_like, default "float64"
        float32 or float64: of the parameters, and of the data.
    seed : int, optional
        Of the network's generator, 0 <= seed < 2**64, which draws the weights layer by
        layer and then the shuffles of `fit`; None takes one from the system.

    Attributes
    ----------
    layers : tuple of Dense
    params, grads : ndarray, shape (n_params,)
        All parameters and all gradients, each one vector: layer after layer, w row by
        row, then b. The layers' w, b, dw and db are views. Writing into any of them is
        seen by the next call; assigning to ``net.params`` copies the values.
    n_params : int
    dtype : dtype
    loss_name : str

    Raises
    ------
    TypeError, ValueError
        If a size or the seed is no int or out of range, a name is unknown, loss and
        output activation do not go together, or a layer is used twice.
    ShapeError
        If given layers do not fit one after the other.
    DTypeError
        If the dtype is another one, or given layers differ in theirs.

    Notes
    -----
    Any number of threads may use a network. While one of them fits, the others predict,
    save, copy and take the `loss` with the parameters from before that fit, and whatever
    would write (`learn_one`, `update`, `backward`, `loss_and_grads`, `set_weights`,
    assigning to ``params``) raises RuntimeError ("busy"), as a second fit does. Without
    a fit those writers take turns. Writing through views (``net.params[0] = 1``) is not
    guarded, and `forward` with its `backward` is for one thread at a time.
    Copies and pickles are whole networks of their own, with the generator's state.
    The generator is xoshiro256++, with normal numbers by the ratio of uniforms.

    References
    ----------
    D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators", ACM
    Transactions on Mathematical Software 47 (2021) 36.
    J. L. Leva, "A fast normal random number generator", ACM Transactions on Mathematical
    Software 18 (1992) 449.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> net = siglin.Network([2, 3, 1], bias=False)
    >>> net.layers[0].w = [[1, -1, 3], [2, 2, -1]]
    >>> net.layers[1].w = [[0.1], [0.5], [-0.1]]
    >>> x, t = np.array([[5.0, 3.0]]), np.array([1.0])
    >>> net.predict(x).round(6)
    array([[0.590378]])
    >>> history = net.fit(x, t, lr=0.1, epochs=100)
    >>> round(history.loss[0], 6), round(net.loss(x, t), 6)
    (0.526992, 0.034142)
    """

    def __init__(
        self,
        layers: Sequence[int] | Sequence[Dense],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output_activation: str | None = None,
        loss: str = "bce",
        bias: bool = True,
        init: str = "glorot",
        dtype: npt.DTypeLike = "float64",
        seed: int | None = None,
    ) -> None:
        plan, net_dtype, given = plan_network(
            layers, activation, output_activation, loss, bias, init, dtype
        )
        init = check_choice("Network", "init", init, INITS)
        state = make_generator("Network", seed)
        n_params = plan.n_params(net_dtype)
        self._plan = plan
        self._generator = state
        self._online: Optimizer | None = None
        self._own_vectors(n_params, net_dtype)
        self._build(given)
        if not given:
            for layer in self._layers:
                init_weights(layer.w, init, layer.activation, state)

    def _own_vectors(self, n_params: int, dtype: DType) -> None:
        """Make the vectors, of zeros."""
        self._parameters = _core.Parameters(n_params, dtype.name)
        self._params: Array = self._parameters.vector
        self._grads: Array = _core.new_vector(n_params, dtype.name)

    def _build(self, given: Sequence[Dense] = ()) -> None:
        """Make what follows from the plan and the vectors; take over given layers."""
        self._native = self._native_of()
        self._predict_now: Callable[..., Array | None] = self._native.predict_now
        self._learn_now: Callable[..., float | None] = self._native.learn_now
        self._tape: _Tape | None = None
        plan = self._plan
        layers = list(given) or [
            Dense.of_network(n_in, n_out, name, bias, self)
            for (n_in, n_out), name, bias in zip(
                pairwise(plan.sizes), plan.activations, plan.biases, strict=True
            )
        ]
        start = 0
        for layer in layers:
            stop = start + (layer.n_in + layer.bias) * layer.n_out
            views = self._params[start:stop], self._grads[start:stop]
            if given:
                layer.join(self, *views)
            else:
                layer.live_in(*views)
            start = stop
        self._layers = tuple(layers)

    def _native_of(self) -> "_core.Network":
        plan = self._plan
        return _core.Network(
            plan.sizes, plan.activations, plan.biases, plan.loss, self.dtype.name
        )

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers, input side first."""
        return self._layers

    @property
    def params(self) -> Array:
        """All parameters, one contiguous vector."""
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        assign_parameters(type(self).__name__, "params", self._parameters, value)

    @property
    def grads(self) -> Array:
        """All gradients, in the order of `params`."""
        return self._grads

    @grads.setter
    def grads(self, value: ArrayLike) -> None:
        assign(type(self).__name__, "grads", self._grads, value)

    @property
    def n_params(self) -> int:
        """Number of parameters of all layers."""
        return self._params.size

    @property
    def dtype(self) -> DType:
        """float32 or float64."""
        return self._params.dtype

    @property
    def loss_name(self) -> str:
        """Name of the loss."""
        return self._plan.loss

    def __repr__(self) -> str:
        plan = self._plan
        same = len(set(plan.biases)) == 1
        return (
            f"{type(self).__name__}({list(plan.sizes)}, "
            f"activation={list(plan.activations[:-1])}, "
            f"output_activation={plan.activations[-1]!r}, loss={plan.loss!r}, "
            f"bias={plan.biases[0] if same else list(plan.biases)}, "
            f"dtype={self.dtype.name!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the vectors; the views of them are made anew.
        state = {
            name: value for name, value in vars(self).items() if name not in _NOT_KEPT
        }
        state["_params"] = self._parameters.snapshot()
        state["_grads"] = self._grads.copy()
        state["_generator"] = self._parameters.snapshot_generator(self._generator)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays may come back memory-mapped, read-only or misaligned: joblib, Ray and
        # Dask see to that.
        self._online = None
        vars(self).update(
            {name: value for name, value in state.items() if name not in _VECTORS}
        )
        params = state["_params"]
        self._own_vectors(params.size, params.dtype.newbyteorder("="))
        self._params[...] = params
        self._grads[...] = state["_grads"]
        words = np.array(state["_generator"], np.uint64)
        self._generator = _core.copy_generator(words)
        self._build()

    def astype(self, dtype: npt.DTypeLike) -> "Self":
        """Return a copy with parameters of the given dtype.

        Parameters
        ----------
        dtype : dtype_like
            float32 or float64.

        Returns
        -------
        Network
            Of the same generator state and gradients too.

        Raises
        ------
        DTypeError
            If the dtype is another one.
        ValueError
            If a parameter is too large for float32.

        Examples
        --------
        >>> import siglin
        >>> siglin.Network([2, 1]).astype("float32").params.dtype
        dtype('float32')
        """
        new_dtype = check_dtype("astype", dtype)
        state = self.__getstate__()
        state["_online"] = None
        for name in ("params", "grads"):
            state[f"_{name}"] = plain("astype", name, state[f"_{name}"], new_dtype)
        network = type(self).__new__(type(self))
        network.__setstate__(state)
        return network

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write the network to a safetensors file, which `siglin.load` reads.

        Parameters
        ----------
        path : str or path-like
            Usually ``something.safetensors``; no ending is added.
        overwrite : bool, default True
            Whether a file of that name may be replaced.

        Raises
        ------
        ImportError, OSError, TypeError
            As `siglin.files.save`, which says what the file holds.

        Examples
        --------
        >>> import siglin
        >>> siglin.Network([2, 1], seed=1).save("net.safetensors")
        >>> siglin.load("net.safetensors")
        Network([2, 1], activation=[], output_activation='sigmoid', loss='bce', \
bias=True, dtype='float64')
        """
        from siglin.files import save  # noqa: PLC0415  it imports this module

        save(self, path, overwrite=overwrite)

    def get_weights(self) -> list[Array]:
        """Return copies of all weights and biases, as Keras' models do.

        Returns
        -------
        list of ndarray
            For each layer w, of shape (n_in, n_out), and b, of shape (n_out,), if it has
            one. ``model.set_weights(net.get_weights())`` gives them to a Keras model of
            as many Dense layers.

        Examples
        --------
        >>> import siglin
        >>> [array.shape for array in siglin.Network([2, 3, 1]).get_weights()]
        [(2, 3), (3,), (3, 1), (1,)]
        """
        return list(self._plan.views(self._parameters.snapshot()).values())

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy weights and biases from a list such as `get_weights` returns.

        Parameters
        ----------
        weights : sequence of array_like
            For each layer w, of shape (n_in, n_out), and b, of shape (n_out,), if it has
            one; ``net.set_weights(model.get_weights())`` takes them from a Keras model of
            as many Dense layers.

        Raises
        ------
        ShapeError, DTypeError
            If an array has another shape, or is of the other float dtype (Keras' are
            float32, as a network is with ``dtype="float32"``).
        TypeError, ValueError
            If there are more or fewer arrays, or one is not made of numbers. Nothing is
            changed then.
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Network([2, 1])
        >>> net.set_weights([[[1], [2]], [-1]])
        >>> net.params
        array([ 1.,  2., -1.])
        """
        shapes = self._plan.shapes()
        if len(weights) != len(shapes):
            msg = (
                f"set_weights: weights must be {len(shapes)} arrays "
                f"({', '.join(shapes)}), got {len(weights)}"
            )
            raise ValueError(msg)
        params = np.empty_like(self._params)
        for i, (name, view) in enumerate(self._plan.views(params).items()):
            given = f"weights[{i}]"
            array = normalise("set_weights", {given: weights[i]}, self.dtype)[given]
            check_shape("set_weights", given, array, view.shape, f" as {name}")
            view[...] = array
        self._parameters.assign("set_weights", params)

    # ---- prediction and loss ---------------------------------------------------------

    def predict(self, x: ArrayLike, *, out: AnyArray | None = None) -> Array:
        """Return the outputs for the rows of x.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
            Used without a copy where its rows are contiguous, at any distance.
        out : ndarray, shape (batch, n_out), optional
            Where to write them. It must not overlap x or the parameters.

        Returns
        -------
        ndarray, shape (batch, n_out)
            A new array, or ``out``. A row has the same bits alone and in any batch.

        Raises
        ------
        ShapeError, DTypeError
            If x or ``out`` has another shape, or is of the other float dtype.
        TypeError, ValueError
            As in `siglin.forward`.

        Examples
        --------
        >>> import siglin
        >>> siglin.Neuron(2).predict([[1, 2], [3, 4]])
        array([[0.5],
               [0.5]])
        """
        a = self._predict_now(self._parameters, x, out)
        if a is not None:
            return a
        try:
            return self._native.predict(self._parameters, x, out)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
        # Once more, by way of conversion.
        ready = self._inputs("predict", x)
        if out is None:
            return self._native.predict(self._parameters, ready)
        if isinstance(out, np.ndarray):
            check_apart("predict", {"out": out}, {"x": x, "params": self._params})
        a = self._native.predict(self._parameters, ready)
        np.copyto(check_out("predict", out, a), a)
        return out

    def loss(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the loss: the mean over the rows of the sum over the outputs.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
            At least one row.
        t : array_like, shape (rows, n_out)
            Targets. Also of shape (rows,): for one output, or class numbers from 0 for
            "cross_entropy".

        Returns
        -------
        float

        Raises
        ------
        ShapeError, DTypeError
            If x or t has another shape, or is of the other float dtype.
        ValueError
            If a target is outside [0, 1], or is no class.

        Examples
        --------
        >>> import siglin
        >>> round(siglin.Neuron(2).loss([[1, 2]], [1]), 6)
        0.693147
        """
        return self._native.loss(self._parameters, *self._pair("loss", x, t))

    def loss_and_grads(self, x: ArrayLike, t: ArrayLike) -> tuple[float, Array]:
        """Return the loss, and `grads` filled with its gradient.

        Parameters
        ----------
        x, t
            As in `loss`.

        Returns
        -------
        loss : float
        grads : ndarray, shape (n_params,)
            The network's own vector.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            As `loss`; ValueError also if a layer has the activation "step".
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> loss, grads = siglin.Neuron(2).loss_and_grads([[1, 2]], [1])
        >>> grads
        array([-0.5, -1. ])
        """
        self._check_trainable("loss_and_grads")
        data = self._pair("loss_and_grads", x, t)
        grads = self._grads
        return self._native.loss_and_grads(self._parameters, grads, *data), grads

    # ---- a loop written by hand ------------------------------------------------------

    def forward(self, x: ArrayLike) -> Array:
        """Return the outputs for the rows of x, and keep what `backward` needs.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
            Kept until `backward`, not copied: do not write into it in between.

        Returns
        -------
        ndarray, shape (batch, n_out)

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError
            As `predict`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> for step in range(100):
        ...     a = net.forward([[1.0, 2.0], [2.0, 1.0]])
        ...     loss = net.backward([0.0, 1.0])
        ...     net.update(lr=1.0)
        >>> a.round().ravel()
        array([0., 1.])
        """
        ready: Any = x
        try:
            a, hidden, z = self._native.forward(self._parameters, ready)
        except (TypeError, ValueError):
            ready = self._inputs("forward", x)
            a, hidden, z = self._native.forward(self._parameters, ready)
        self._tape = ready, hidden, z
        return a

    def backward(self, t: ArrayLike) -> float:
        """Fill `grads` with the gradient of the loss, and return the loss.

        Parameters
        ----------
        t : array_like
            Targets of the rows that `forward` was given, as in `loss`.

        Returns
        -------
        float
            The loss, computed from the logits that `forward` kept.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread fits the network ("busy").
        ShapeError, DTypeError, ValueError
            As `loss_and_grads`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> a = net.forward([[1, 2]])
        >>> round(net.backward([1]), 6), net.grads
        (0.693147, array([-0.5, -1. ]))
        """
        self._check_trainable("backward")
        tape = self._taped("backward")
        ready = self._targets("backward", t, len(tape[0]))
        return self._native.backward(self._parameters, self._grads, *tape, ready)

    def backward_from(self, da: ArrayLike) -> Array:
        """Fill `grads` from the gradient da of a loss of one's own, and return dx.

        Parameters
        ----------
        da : array_like, shape (batch, n_out)
            Gradient of the loss with respect to what `forward` returned. If the loss is a
            mean over the rows, da carries the 1 / batch.

        Returns
        -------
        ndarray, shape (batch, n_in)
            Gradient of the loss with respect to x.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread fits the network ("busy").
        ShapeError, DTypeError
            If da has another shape, or is of the other float dtype.
        ValueError
            If a layer has the activation "step".

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> a = net.forward([[1, 2]])
        >>> dx = net.backward_from([[1.0]])
        >>> net.grads
        array([0.25, 0.5 ])
        """
        self._check_trainable("backward_from")
        tape = self._taped("backward_from")
        ready = normalise("backward_from", {"da": da}, self.dtype)["da"]
        check_shape("backward_from", "da", ready, tape[2].shape)
        return self._native.backward_from(self._parameters, self._grads, *tape, ready)

    def _taped(self, function: str) -> _Tape:
        if self._tape is None:
            raise RuntimeError(f"{function}: forward comes first")
        return self._tape

    def update(
        self,
        lr: float,
        *,
        optimizer: str | Optimizer = "gd",
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        """Take one step by `grads`: params -= lr * grads, or an optimiser's.

        Parameters
        ----------
        lr : float
            Step size, dimensionless, finite. Of plain descent without an option a
            negative one climbs and 0 changes nothing; else > 0.
        optimizer : str or object, default "gd"
            As in `learn_one`.
        l1, l2, clip_norm
            As in `fit`: the penalties' gradients are added, then the 2-norm is clipped.
            `grads` stays as it is.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind or out of range.
        DivergenceError
            If a parameter would no longer be finite. Then the parameters are as they
            were. (Plain descent without an option does not look.)
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> net.grads = [1, 2]
        >>> net.update(0.5)
        >>> net.params
        array([-0.5, -1. ])
        >>> net.update(0.5, optimizer="adam")
        >>> net.params.round(6)
        array([-1. , -1.5])
        """
        if optimizer == "gd" and l1 == 0 and l2 == 0 and clip_norm is None:
            step = check_real("update", "lr", lr)
            self._native.update(self._parameters, self._grads, step)
            return
        method = self._optimizer_online("update", optimizer)
        settings = self._step_settings("update", lr, method, 1, l1, l2, 0.0, clip_norm)
        memory = self._memory_online("update", optimizer, method)
        if not self._native.step(self._parameters, self._grads, settings, memory):
            raise DivergenceError(_DIVERGES.format("update", settings.lr))

    def reset_optimizer(self) -> None:
        """Forget what an optimiser's name has kept in `learn_one`, `learn_many`, `update`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(1)
        >>> loss = net.learn_one([1.0], 1, lr=0.1, optimizer="adam")
        >>> net.reset_optimizer()  # the next step is a first one
        """
        self._online = None

    def _optimizer_online(
        self, function: str, optimizer: str | Optimizer
    ) -> Optimizer | None:
        """Return the optimiser of a step: for a name the one that the network keeps.

        None is plain descent, which needs no memory.
        """
        kept = self._online
        if isinstance(optimizer, str):
            if optimizer == "gd":
                return None
            if kept is not None and kept.name == optimizer:
                return kept
        return check_optimizer(function, optimizer)

    def _memory_online(
        self, function: str, optimizer: str | Optimizer, method: Optimizer | None
    ) -> "_core.OptimizerMemory | Array":
        """Return an optimiser's memory, ready for a step; keep that of a name."""
        if method is None:
            return np.empty(0, self.dtype)
        method.prepare(function, self.n_params, self.dtype)
        if isinstance(optimizer, str):
            self._online = method
        return method.memory

    def _step_settings(
        self,
        function: str,
        lr: float,
        method: Optimizer | None,
        rows: int,
        l1: float,
        l2: float,
        dropout: float,
        clip_norm: float | None,
        weights: Array | None = None,
        *,
        weights_scale: bool = False,
    ) -> "_core.FitSettings":
        """Return the checked settings of one step on so many rows."""
        return _core.FitSettings(
            check_positive(function, "lr", lr),
            1,
            rows,
            False,
            0.0,
            "gd" if method is None else method.name,
            () if method is None else method.options,
            0.0 if l1 == 0 else check_not_negative(function, "l1", l1),
            0.0 if l2 == 0 else check_not_negative(function, "l2", l2),
            0.0 if dropout == 0 else check_fraction(function, "dropout", dropout),
            0.0
            if clip_norm is None
            else check_positive(function, "clip_norm", clip_norm),
            weights=weights,
            weights_scale=weights_scale,
        )

    # ---- training --------------------------------------------------------------------

    def fit(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        lr: float | Callable[[int], float] = 0.1,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        optimizer: str | Optimizer = "gd",
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        tol: float = 0.0,
        callback: Callback | None = None,
        progress: bool | int = False,
    ) -> History:
        """Train, from the present parameters on.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
            Finite numbers. Not copied if its rows are contiguous and of the network's
            dtype: do not write into it meanwhile.
        t : array_like, shape (rows, n_out)
            Targets, as in `loss`.
        lr : float or callable, default 0.1
            Step size, dimensionless, > 0. A schedule is a function of the epoch, counted
            from 0, that returns the epoch's step size.
        epochs : int, default 1
            How many times to go through the rows; 0 does nothing.
        batch_size : int, optional
            Rows to a step, at least 1; the last batch may be smaller and is averaged
            over its own rows. None, or as many as there are rows or more, is one batch
            of all rows in their order.
        shuffle : bool, default True
            Whether each epoch of smaller batches is a new permutation of the rows.
        seed : int, optional
            Of the permutations, 0 <= seed < 2**64. None goes on with the network's own
            generator.
        optimizer : str or object, default "gd"
            "gd", "momentum", "nesterov", "adam": with no memory of fits before. Or an
            object such as ``siglin.Adam()``, whose memory goes on across fits.
        sample_weight : array_like, shape (rows,), optional
            How much each row counts beside the others, finite and >= 0: the loss of a
            batch is the weighted mean over its rows. A batch whose rows all weigh
            nothing makes no step.
        l1, l2 : float, default 0.0
            Strengths of the penalties l1 |w| and l2 w^2 / 2, which are summed over all
            weights (not the biases) and added to the loss of each batch, in the history
            too.
        dropout : float, default 0.0
            Each step drops each output of a hidden layer with this probability, in
            [0, 1), and divides the others by 1 - dropout. Only a fit does, so that its
            losses are those of the network with gaps.
        clip_norm : float, optional
            Gradients of a larger 2-norm are scaled to this one, > 0.
        validation_data : (x, t), optional
            Its loss, without penalties, is taken after each epoch.
        patience : int, optional
            Stop after so many epochs in a row, >= 1, in which the validation loss has not
            improved. Unless an exception ends it, a fit with patience leaves the
            parameters of the epoch where that loss was best. None never stops, and
            leaves the last parameters.
        min_delta : float, default 0.0
            An improvement is a loss smaller than the best one by more than this.
        tol : float, default 0.0
            Stop after the step whose change of the parameters has a 2-norm <= tol; 0
            never stops.
        callback : callable, optional
            Called as ``callback(state)`` after each epoch, with ``state.epoch``,
            ``.step``, ``.loss`` and ``.params`` (read-only). Returning True stops. An
            exception ends the fit and arrives unchanged.
        progress : bool or int, default False
            True shows a tqdm bar (lines, if there is no tqdm); an int k prints a line
            every k steps.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, DTypeError
            If x or t has another shape, no rows, or is of the other float dtype.
        TypeError, ValueError
            If an argument is of another kind or out of range (also once rounded to the
            network's dtype, as ``Adam(eps=1e-46)`` in float32), x or t contains NaN or
            infinity, a target is outside [0, 1] or no class, or a layer has the
            activation "step".
        DivergenceError
            If the loss or a parameter is no longer finite. The network keeps its last
            finite parameters.
        RuntimeError
            If the network or the optimizer is busy with another fit.
        KeyboardInterrupt
            On Ctrl-C. The network keeps the parameters of the last whole step.

        Warns
        -----
        SaturationWarning
            If, after some milliseconds of training, the network is hardly better than a
            constant answer and a hidden layer's units, half of the sigmoids or tanhs or
            all of the relus, are flat on every row of a sample.

        Notes
        -----
        Nothing is changed before all arguments are checked. The loop is native and runs
        without the interpreter lock. Two networks made from one seed and trained alike
        are equal to the bit, for any number of threads.

        Examples
        --------
        >>> import numpy as np
        >>> import siglin
        >>> x = np.linspace(-1, 1, 20)[:, None]
        >>> net = siglin.Network([1, 1], loss="squared_error", init="zeros")
        >>> history = net.fit(x, 2 * x + 1, lr=0.5, epochs=1000, tol=1e-9)
        >>> history.stop_reason
        'tol'
        >>> net.params.round(6)
        array([2., 1.])
        """
        schedule = lr if callable(lr) else None
        step = check_positive("fit", "lr", lr(0) if callable(lr) else lr)
        epochs, batch_size, shuffle, tol = check_loop(
            "fit", epochs, batch_size, shuffle, tol
        )
        check_callback("fit", callback)
        progress = check_progress("fit", progress)
        method = check_optimizer("fit", optimizer)
        self._check_trainable("fit")
        data = self._pair("fit", x, t, finite=True)
        rows = len(data[0])
        validation: Validation = (None, 0, 0.0)
        if validation_data is not None or patience is not None or min_delta != 0:
            validation = self._validation("fit", validation_data, patience, min_delta)
        generator = self._generator
        if seed is not None:
            generator = make_generator("fit", seed)
        # What is not asked for is not checked: a call is longer than a small step.
        settings = _core.FitSettings(
            step,
            epochs,
            min(batch_size or rows, rows),
            shuffle,
            tol,
            method.name,
            method.options,
            0.0 if l1 == 0 else check_not_negative("fit", "l1", l1),
            0.0 if l2 == 0 else check_not_negative("fit", "l2", l2),
            0.0 if dropout == 0 else check_fraction("fit", "dropout", dropout),
            0.0 if clip_norm is None else check_positive("fit", "clip_norm", clip_norm),
            weights=None
            if sample_weight is None
            else check_weights("fit", sample_weight, rows, self.dtype),
            rate=None if schedule is None else np.array([step]),
            validation=validation[0],
            patience=validation[1],
            min_delta=validation[2],
        )
        return self._fit(
            data, generator, method, callback, progress, schedule, settings
        )

    def _fit(
        self,
        data: tuple[Array, Array],
        generator: npt.NDArray[np.uint64],
        method: Optimizer,
        callback: Callback | None,
        progress: bool | int,
        schedule: Callable[[int], float] | None,
        settings: _core.FitSettings,
    ) -> History:
        """Run the native loop on checked arguments."""
        method.prepare("fit", self.n_params, self.dtype)
        shown = make_progress(progress, settings.epochs, len(data[0]))
        watch = Watch(callback, shown, self._params)
        if schedule is not None:
            watch.follow("fit", schedule, settings.rate)
        try:
            result = self._native.fit(
                self._parameters,
                *data,
                generator,
                settings,
                method.memory,
                hooks=_core.FitHooks(
                    watch.on_epoch if watch.wants_epochs else None,
                    watch.interval,
                    watch.on_step if shown.every else None,
                    shown.every,
                ),
            )
        finally:
            shown.close()
        epochs = result.epochs
        if result.reason == "diverged":
            step_size = settings.lr if schedule is None else float(watch.rate[0])
            msg = (
                f"fit: the loss or the parameters became non-finite in epoch {epochs}, "
                f"step {result.steps + 1}; the last finite parameters are kept. A smaller "
                f"lr may help (lr is {step_size})"
            )
            raise DivergenceError(msg)
        work = float(self.n_params) * len(data[0]) * epochs
        if work >= LEAST_WORK and len(self.layers) > 1:
            loss = float(result.losses[-1])
            check_saturation(self.layers, self.loss_name, loss, *data)
        return history_of(result)

    def _validation(
        self, function: str, data: object, patience: int | None, min_delta: float
    ) -> Validation:
        """Return checked validation data, patience (0: any) and min_delta."""
        min_delta = check_not_negative(function, "min_delta", min_delta)
        if patience is not None:
            patience = check_integer(function, "patience", patience, 1, MAX_COUNT)
        if data is None:
            if patience is not None:
                raise ValueError(f"{function}: patience needs validation_data")
            return None, 0, 0.0
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise TypeError(f"{function}: validation_data must be a pair (x, t)")
        try:
            pair = self._pair(function, *data, finite=True)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (in validation_data)") from None
        return pair, patience or 0, min_delta

    def learn_one(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        lr: float = 0.1,
        optimizer: str | Optimizer = "gd",
        sample_weight: float | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
    ) -> float:
        """Take one step on one row, and return its loss before.

        Parameters
        ----------
        x : array_like, shape (n_in,) or (1, n_in)
            Finite numbers.
        t : array_like, shape (n_out,) or (1, n_out), or a number
            Targets as in `loss`; a number for one output, or that of a class for
            "cross_entropy".
        lr : float, default 0.1
            Step size, dimensionless, > 0.
        optimizer : str or object, default "gd"
            A name as in `fit`, whose memory the network keeps from step to step: begun at
            its first step, and anew where another name comes, or after
            `reset_optimizer`. Fits do not touch it; copies and pickles have it, files do
            not. Or an object such as ``siglin.Adam()``, with its own memory.
        sample_weight : float, optional
            Multiplies the gradient of the row's loss, finite and >= 0; with 0 there is no
            step. None is 1.
        l1, l2, dropout, clip_norm
            As in `fit`.

        Returns
        -------
        float
            The loss of this row with the parameters as they were, and the penalties; of a
            stream, the network's loss on a row that it has not seen.

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError
            As `fit`. Nothing is changed then.
        DivergenceError
            If the loss or a parameter would no longer be finite. The parameters are as
            they were.
        RuntimeError
            If the network or the optimizer is busy with a fit.

        Notes
        -----
        The step has the bits of ``fit(x[None, :], t[None, :], lr=lr)``, or of a fit with
        the same options. Plain descent in a network of at most 4096 parameters and eight
        layers takes a microsecond or two, given arrays of the network's dtype, or
        numbers; options and other arguments cost some ten microseconds more.

        Examples
        --------
        >>> import numpy as np
        >>> import siglin
        >>> rng = np.random.default_rng(0)
        >>> net = siglin.Network([2, 1], seed=0)
        >>> losses = []
        >>> for x in rng.normal(size=(1000, 2)):
        ...     losses.append(net.learn_one(x, float(x[0] > x[1]), lr=0.5))
        >>> bool(np.mean(losses[-100:]) < np.mean(losses[:100]) / 2)
        True
        """
        loss = self._learn_now(
            self._parameters,
            x,
            t,
            lr,
            optimizer,
            sample_weight,
            l1,
            l2,
            dropout,
            clip_norm,
        )
        if loss is not None:
            return loss
        options = (l1, l2, dropout, clip_norm)
        return self._learn_row(x, t, lr, optimizer, sample_weight, options)

    def _learn_row(
        self,
        x: object,
        t: object,
        lr: float,
        optimizer: str | Optimizer,
        sample_weight: float | None,
        options: tuple[float, float, float, float | None],
    ) -> float:
        """Check all arguments of learn_one, and take its step."""
        weight = 1.0
        if sample_weight is not None:
            weight = check_not_negative("learn_one", "sample_weight", sample_weight)
        check_positive("learn_one", "lr", lr)
        self._check_trainable("learn_one")
        plan, dtype = self._plan, self.dtype
        row = check_row("learn_one", "x", x, dtype, plan.sizes[0])
        check_finite("learn_one", "x", row)
        targets = check_row_targets("learn_one", t, plan.sizes[-1], plan.loss, dtype)
        if weight == 1:
            return self._learn("learn_one", row, targets, lr, optimizer, options)
        # The loss counts the row once, whatever it weighs.
        penalty = self._penalty(*options[:2])
        if weight == 0:
            return self._native.loss(self._parameters, row, targets) + penalty
        weights: Array = np.full_like(row[0, :1], weight)
        loss = self._learn("learn_one", row, targets, lr, optimizer, options, weights)
        return (loss - penalty) / float(weights[0]) + penalty

    def learn_many(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        lr: float = 0.1,
        optimizer: str | Optimizer = "gd",
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
    ) -> float:
        """Take one step on a batch of rows, and return its loss before.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
            Finite numbers.
        t : array_like, shape (rows, n_out)
            Targets, as in `loss`.
        lr, optimizer
            As in `learn_one`.
        sample_weight : array_like, shape (rows,), optional
            As in `fit`: how much each row counts beside the others.
        l1, l2, dropout, clip_norm
            As in `fit`.

        Returns
        -------
        float
            The mean loss of the rows, by their weights, with the parameters as they were,
            and the penalties.

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError, DivergenceError, RuntimeError
            As `learn_one`.

        Notes
        -----
        The step has the bits of a fit of one epoch and one batch with the same options.

        Examples
        --------
        >>> import numpy as np
        >>> import siglin
        >>> rng = np.random.default_rng(0)
        >>> net = siglin.Network([2, 1], seed=0)
        >>> losses = []
        >>> for _ in range(100):
        ...     x = rng.normal(size=(32, 2))
        ...     t = (x[:, 0] > x[:, 1]).astype(float)
        ...     losses.append(net.learn_many(x, t, lr=0.1, optimizer="adam"))
        >>> losses[-1] < losses[0] / 3
        True
        """
        check_positive("learn_many", "lr", lr)
        self._check_trainable("learn_many")
        data = self._pair("learn_many", x, t, finite=True)
        weights = None
        if sample_weight is not None:
            rows = len(data[0])
            weights = check_weights("learn_many", sample_weight, rows, self.dtype)
        options = (l1, l2, dropout, clip_norm)
        return self._learn("learn_many", *data, lr, optimizer, options, weights)

    def _learn(
        self,
        function: str,
        x: Array,
        t: Array,
        lr: float,
        optimizer: str | Optimizer,
        options: tuple[float, float, float, float | None],
        weights: Array | None = None,
    ) -> float:
        """Take a step on checked rows."""
        method = self._optimizer_online(function, optimizer)
        settings = self._step_settings(
            function,
            lr,
            method,
            len(x),
            *options,
            weights,
            weights_scale=function == "learn_one",
        )
        memory = self._memory_online(function, optimizer, method)
        result = self._native.learn(
            self._parameters, x, t, self._generator, settings, memory, function
        )
        if result.reason == "diverged":
            raise DivergenceError(_DIVERGES.format(function, settings.lr))
        return float(result.losses[0])

    def _penalty(self, l1: float, l2: float) -> float:
        """Return what l1 and l2 add to a loss."""
        if l1 == 0 and l2 == 0:
            return 0.0
        views = self._plan.views(self._parameters.snapshot())
        w = np.concatenate([v.ravel() for v in views.values() if v.ndim == 2])
        return float(l1 * np.abs(w).sum() + l2 * (w * w).sum() / 2)

    # ---- checks ----------------------------------------------------------------------

    def _check_trainable(self, function: str) -> None:
        if "step" in self._plan.activations:
            check_has_gradient(function, "step")

    def _inputs(self, function: str, x: object) -> Array:
        return check_rows(function, "x", x, self.dtype, self._plan.sizes[0])

    def _targets(
        self, function: str, t: object, rows: int, *, finite: bool = False
    ) -> Array:
        plan = self._plan
        shape = rows, plan.sizes[-1]
        return check_targets(function, t, shape, plan.loss, self.dtype, finite=finite)

    def _pair(
        self, function: str, x: object, t: object, *, finite: bool = False
    ) -> tuple[Array, Array]:
        """Return inputs and targets as matrices of as many rows."""
        inputs = self._inputs(function, x)
        if finite:
            check_finite(function, "x", inputs)
        return inputs, self._targets(function, t, len(inputs), finite=finite)


# Made anew in a copy.
_NOT_KEPT = {
    "_layers",
    "_learn_now",
    "_native",
    "_parameters",
    "_predict_now",
    "_tape",
}

_DIVERGES = (
    "{}: the loss or the parameters would become non-finite; the parameters are kept as "
    "they were. A smaller lr may help (lr is {})"
)

# Of a state: their values go into vectors of the network's own.
_VECTORS = {"_params", "_grads", "_generator"}


class Neuron(Network):
    """One sigmoid neuron that starts at zero: logistic regression.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    bias : bool, default False
        Whether there is a b.
    dtype : dtype_like, default "float64"
        float32 or float64.

    Attributes
    ----------
    theta : ndarray, shape (n_in,) or (n_in + 1,)
        The same as ``params``: the weights, then the bias if there is one.

    Notes
    -----
    Everything else is `Network`'s. The loss is the binary cross-entropy.

    Examples
    --------
    >>> import siglin
    >>> neuron = siglin.Neuron(1)
    >>> neuron.fit([[-1.0], [1.0]], [0, 1], lr=1.0, epochs=100).steps
    100
    >>> bool(neuron.theta[0] > 3)
    True
    """

    def __init__(
        self, n_in: int, *, bias: bool = False, dtype: npt.DTypeLike = "float64"
    ) -> None:
        n_in = check_size("Neuron", "n_in", n_in)
        super().__init__([n_in, 1], bias=bias, init="zeros", dtype=dtype)

    @property
    def theta(self) -> Array:
        """The parameters: one weight for each input, then the bias if there is one."""
        return self._params

    @theta.setter
    def theta(self, value: ArrayLike) -> None:
        assign_parameters("Neuron", "theta", self._parameters, value)

    def __repr__(self) -> str:
        return (
            f"Neuron({self._plan.sizes[0]}, bias={self._plan.biases[0]}, "
            f"dtype={self.dtype.name!r})"
        )
