"""Network: layers in a row, a loss, and training.

What a network is (its vectors, copies and weights) stands in _stack.py, how a loop written
by hand goes forward and backward through it in _passes.py, how it takes single steps in
_online.py, how it is trained in _training.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    check_apart,
    check_choice,
    check_out,
)
from siglin._data.rows import check_weights
from siglin._data.sparse import Rows, RowsLike
from siglin._layers import INITS, Dense, init_weights, make_generator
from siglin._losses import Loss
from siglin._online import Online
from siglin._plan import plan_network
from siglin._training import engine
from siglin._training.history import Callback, History
from siglin._training.optimizers import Optimizer
from siglin._training.settings import Settings
from siglin._training.validation import Held, hold_out

if TYPE_CHECKING:
    from typing_extensions import Self

    from siglin.files import Record


class Network(Online):
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
        None is "sigmoid" for "bce", "softmax" for "cross_entropy", "exp" for "poisson"
        and "identity" for the others, which alone take another.
    loss : str or loss object, default "bce"
        "bce": binary cross-entropy of every output, targets in [0, 1].
        "squared_error": half the squared distance.
        "cross_entropy": of a softmax; targets one-hot, or class numbers.
        "poisson": half the Poisson deviance of exp of the last layer, targets >= 0.
        "huber": the squared error near the target, the distance far from it; `Huber`.
        "quantile": the pinball loss of the median; `Quantile` for others.
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
        If a size or the seed is not an int or out of range, a name is unknown, loss and
        output activation do not go together, or a layer is used twice.
    ShapeError
        If given layers do not fit one after the other.
    DTypeError
        If the dtype is another one, or given layers differ in theirs.

    Notes
    -----
    Any number of threads may use a network. While one of them fits, the others predict,
    save, copy and take the `loss` with the parameters from before that fit, and whatever
    would write (`learn_one`, `learn_many`, `update`, `backward`, `loss_and_grads`,
    `set_weights`, assigning to ``params``) raises RuntimeError ("busy"), as a second fit
    does. Without a fit those writers take turns. Writing through views
    (``net.params[0] = 1``) is not guarded, and `forward` with its `backward` is for one
    thread at a time.
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

    _kind: ClassVar[str] = "Network"  # in files

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
        plan, net_dtype, given = plan_network(
            layers, activation, output_activation, loss, bias, init, dtype
        )
        init = check_choice("Network", "init", init, INITS)
        state = make_generator("Network", seed)
        n_params = plan.n_params(net_dtype)
        self._plan = plan
        self._generator = state
        self._own_vectors(n_params, net_dtype)
        self._build(given)
        if not given:
            for layer in self._layers:
                init_weights(layer.w, init, layer.activation, state)

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
        params = self._parameters.snapshot()
        generator = self._parameters.snapshot_generator(self._generator)
        from siglin.files import Record, save  # noqa: PLC0415  not at every import

        record = Record(self._kind, self._plan, params, generator)
        save(record, path, overwrite=overwrite)

    @classmethod
    def _from_record(cls, record: "Record") -> "Self":
        """Return a new network of a checked record."""
        network = cls.__new__(cls)
        network._plan = record.plan
        assert record.generator is not None
        network._generator = _core.copy_generator(record.generator)
        network._own_vectors(record.params.size, record.params.dtype)
        network._params[...] = record.params
        network._build()
        return network

    # ---- prediction and loss ---------------------------------------------------------

    def predict(self, x: RowsLike, *, out: AnyArray | None = None) -> Array:
        """Return the outputs for the rows of x.

        Parameters
        ----------
        x : array_like or sparse matrix, shape (batch, n_in)
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
        ready = self._rows("predict", x)
        if out is None:
            return self._native.predict(self._parameters, ready)
        if isinstance(out, np.ndarray):
            check_apart("predict", {"out": out}, {"x": x, "params": self._params})
        a = self._native.predict(self._parameters, ready)
        np.copyto(check_out("predict", out, a), a)
        return out

    def loss(self, x: RowsLike, t: ArrayLike) -> float:
        """Return the loss: the mean over the rows of the sum over the outputs.

        Parameters
        ----------
        x : array_like or sparse matrix, shape (rows, n_in)
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
            If a target is outside [0, 1], or is not a class number.

        Examples
        --------
        >>> import siglin
        >>> round(siglin.Neuron(2).loss([[1, 2]], [1]), 6)
        0.693147
        """
        return self._native.loss(self._parameters, *self._pair("loss", x, t))

    # ---- training --------------------------------------------------------------------

    def fit(
        self,
        x: RowsLike,
        t: ArrayLike,
        *,
        lr: float | Callable[[int], float] | None = None,
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
        validation_data: tuple[RowsLike, ArrayLike] | None = None,
        validation_split: float = 0.0,
        patience: int | None = None,
        min_delta: float = 0.0,
        tol: float = 0.0,
        callback: Callback | None = None,
        progress: bool | int = False,
    ) -> History:
        """Train, from the present parameters on.

        Parameters
        ----------
        x : array_like or sparse matrix, shape (rows, n_in)
            Finite numbers. Not copied if its rows are contiguous and of the network's
            dtype: do not write into it meanwhile.
        t : array_like, shape (rows, n_out)
            Targets, as in `loss`.
        lr : float or callable, optional
            Step size, dimensionless, > 0. A schedule is a function of the epoch, counted
            from 0, that returns the epoch's step size. None is the optimiser's: 0.1 for
            "gd", 0.01 for "momentum" and "nesterov", 0.001 for "adam", or what an object
            such as ``siglin.Adam(lr=0.01)`` carries.
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
        validation_split : float, default 0.0
            The share of the rows, in [0, 1), that is left out of training and validated
            with instead, by their weights; at least one row, if it is not 0. The
            generator draws them before the first epoch.
        patience : int, optional
            Stop after so many epochs in a row, >= 1, in which the validation loss has not
            improved; without validation data, the training loss. Unless an exception
            ends it, a fit with patience leaves the parameters that it had after the
            epoch where that loss was best. None never stops, and leaves the last
            parameters.
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
            True shows a tqdm bar (lines without tqdm); an int k prints a line
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
        settings = Settings(
            "fit",
            lr,
            optimizer,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            l1=l1,
            l2=l2,
            dropout=dropout,
            clip_norm=clip_norm,
            validation_split=validation_split,
            patience=patience,
            min_delta=min_delta,
            tol=tol,
            callback=callback,
            progress=progress,
        )
        self._check_trainable("fit")
        inputs, targets = self._pair("fit", x, t, finite=True)
        weights = None
        if sample_weight is not None:
            weights = check_weights("fit", sample_weight, len(inputs), self.dtype)
        generator = self._generator
        if seed is not None:
            generator = make_generator("fit", seed)
        if settings.validation_split > 0:
            if validation_data is not None:
                raise ValueError("fit: give validation_data or validation_split")
            return self._fit_split(settings, inputs, targets, generator, weights)
        held = None
        if validation_data is not None:
            held = self._held("fit", validation_data)
        return engine.fit(self, settings, inputs, targets, generator, weights, held)

    def _held(self, function: str, data: object) -> Held:
        """Return checked validation data, without weights."""
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise TypeError(f"{function}: validation_data must be a pair (x, t)")
        try:
            return Held(*self._pair(function, *data, finite=True))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (in validation_data)") from None

    def _fit_split(
        self,
        settings: Settings,
        x: Rows,
        t: Array,
        generator: npt.NDArray[np.uint64],
        weights: Array | None,
    ) -> History:
        """Fit on a part of the rows, and validate with the rest."""
        # Drawn from a copy, as another fit may be using the network's own; that one goes
        # on where this fit has left the copy.
        words = self._parameters.snapshot_generator(generator)
        train, held = hold_out(
            settings.function, settings.validation_split, len(x), words, weights
        )
        w = [None if weights is None else weights[rows] for rows in (train, held)]
        held_out = Held(x[held], t[held], w[1])
        steps = settings.optimizer.step_count
        try:
            return engine.fit(self, settings, x[train], t[train], words, w[0], held_out)
        finally:
            if settings.optimizer.step_count != steps:
                generator[...] = words
