"""fit_many: networks trained side by side, one on each core."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    Array,
    ArrayLike,
    check_flag,
    check_not_negative,
    check_positive,
    check_shape,
)
from siglin._data.checks import check_finite, check_weights
from siglin._layers import make_generator
from siglin._network import Network, Validation
from siglin._training.optimizers import Optimizer, check_fraction, check_optimizer
from siglin._training.run import (
    MAX_COUNT,
    History,
    Silence,
    TrainingState,
    Watch,
    check_callback,
    check_loop,
    history_of,
    make_progress,
)
from siglin._training.saturation import LEAST_WORK, SAMPLE, check_saturation
from siglin._warnings import warn
from siglin.errors import DTypeError, ShapeError

LearningRate: TypeAlias = float | Callable[[int], float]
ManyCallback: TypeAlias = Callable[[int, TrainingState], Any]


def fit_many(
    networks: Sequence[Network],
    x: ArrayLike,
    t: ArrayLike | Sequence[ArrayLike],
    *,
    lr: LearningRate | Sequence[LearningRate] = 0.1,
    rows: Sequence[ArrayLike | None] | None = None,
    epochs: int | Sequence[int] = 1,
    batch_size: int | Sequence[int | None] | None = None,
    shuffle: bool | Sequence[bool] = True,
    seed: int | Sequence[int | None] | None = None,
    optimizer: str | Sequence[str | Optimizer] = "gd",
    sample_weight: ArrayLike | Sequence[ArrayLike | None] | None = None,
    l1: float | Sequence[float] = 0.0,
    l2: float | Sequence[float] = 0.0,
    dropout: float | Sequence[float] = 0.0,
    clip_norm: float | Sequence[float | None] | None = None,
    validation_data: tuple[ArrayLike, ArrayLike] | None = None,
    patience: int | Sequence[int | None] | None = None,
    min_delta: float | Sequence[float] = 0.0,
    tol: float | Sequence[float] = 0.0,
    callback: ManyCallback | None = None,
    progress: bool = False,
) -> list[History]:
    """Train several networks on the same rows, side by side on all cores.

    Each network ends with the bits that ``network.fit`` with its own settings gives it,
    whatever the others do and for any number of threads: for the restarts of one
    network, a search among step sizes, the folds of a cross-validation, an ensemble.

    Parameters
    ----------
    networks : sequence of Network
        Networks that take these inputs and targets; they may differ in everything else.
        None of them twice.
    x : array_like, shape (rows, n_in)
        Finite numbers, as in `Network.fit`: not copied, however many networks there are.
    t : array_like, shape (rows, n_out), or a list of arrays
        Targets as in `Network.fit`. A list or tuple of as many arrays as there are
        networks has those of each.
    lr : float, callable or sequence, default 0.1
        Step size, dimensionless, > 0, or a schedule as in `Network.fit`; one for all, or
        one for each.
    rows : sequence, optional
        For each network the rows that it sees, as from ``x[rows[k]], t[rows[k]]``: None
        (all), numbers from 0 (in this order, and as often as they stand there), or a
        mask. None for all networks sees all rows.
    epochs, batch_size, shuffle, tol, l1, l2, dropout, clip_norm
        As in `Network.fit`; one for all, or a sequence with one for each.
    seed : int or sequence, optional
        Of the permutations, one for all or one (or None) for each. None goes on with each
        network's own generator.
    optimizer : str or sequence, default "gd"
        A name for all, or for each a name or an object such as ``siglin.Adam()``, whose
        memory goes on across fits.
    sample_weight : array_like, shape (rows,), or a list of arrays, optional
        As in `Network.fit`, for the rows of x. A list or tuple of as many arrays as there
        are networks has those of each, or None.
    validation_data : (x, t), optional
        As in `Network.fit`, for all networks; each is judged by its own loss.
    patience, min_delta : int or None, float, or sequences
        As in `Network.fit`; one for all, or one for each.
    callback : callable, optional
        Called as ``callback(k, state)`` on the calling thread after each epoch of
        network k, with what `Network.fit` tells a callback. Returning True stops that
        network. An exception ends all fits and arrives unchanged.
    progress : bool, default False
        Whether to show the epochs of all networks together, as in `Network.fit`.

    Returns
    -------
    list of History
        One for each network. A network whose loss or parameters became non-finite has the
        stop_reason "diverged" and keeps its last finite parameters; the others go on.

    Raises
    ------
    ShapeError, DTypeError, TypeError, ValueError
        As `Network.fit`, and if there is not one value for each network.
    RuntimeError
        If a network or an optimiser is busy with another fit.
    KeyboardInterrupt
        On Ctrl-C. Every network keeps the parameters of its last whole step.

    Warns
    -----
    SaturationWarning
        Of each network as of `Network.fit`.
    RuntimeWarning
        If a network diverged. It is no exception, as in `Network.fit`, because that would
        keep the histories of the others back: among many step sizes some are too large.

    Notes
    -----
    Nothing is changed before all arguments are checked. A fit stays on one thread, and
    each thread takes the next fit as soon as it is free: networks in the order of their
    work, the longest first, share the cores best. One large network is better left to
    `Network.fit`, which shares its products.

    The fits run without the interpreter's lock. With a callback or a schedule the
    networks advance together, an epoch each, and Python is called in between: the epochs
    of small networks are then too short to share.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> networks = [siglin.Network([2, 4, 1], seed=seed) for seed in range(8)]
    >>> histories = siglin.fit_many(networks, x, [0, 1, 1, 0], lr=2.0, epochs=2000)
    >>> best = min(range(8), key=lambda k: histories[k].loss[-1])
    >>> networks[best].predict(x).round().ravel()
    array([0., 1., 1., 0.])

    The folds of a cross-validation:

    >>> folds = [np.arange(4) != k for k in range(4)]
    >>> neurons = [siglin.Neuron(2, bias=True) for _ in folds]
    >>> histories = siglin.fit_many(neurons, x, [0, 0, 0, 1], rows=folds, epochs=10)
    >>> [history.steps for history in histories]
    [10, 10, 10, 10]
    """
    nets = _check_networks(networks)
    count = len(nets)
    rates = _one_each("lr", lr, count)
    schedules = [rate if callable(rate) else None for rate in rates]
    step_sizes = [
        check_positive("fit_many", "lr", rate(0) if callable(rate) else rate)
        for rate in rates
    ]
    loops = [
        check_loop("fit_many", *loop)
        for loop in zip(
            _one_each("epochs", epochs, count),
            _one_each("batch_size", batch_size, count),
            _one_each("shuffle", shuffle, count),
            _one_each("tol", tol, count),
            strict=True,
        )
    ]
    check_callback("fit_many", callback)
    progress = check_flag("fit_many", "progress", progress)
    penalties = [
        [check_not_negative("fit_many", name, one) for one in _one_each(name, v, count)]
        for name, v in (("l1", l1), ("l2", l2))
    ]
    dropouts = [
        check_fraction("fit_many", "dropout", one)
        for one in _one_each("dropout", dropout, count)
    ]
    norms = [
        0.0 if one is None else check_positive("fit_many", "clip_norm", one)
        for one in _one_each("clip_norm", clip_norm, count)
    ]
    generators = [
        net._generator if one is None else make_generator("fit_many", one)
        for net, one in zip(nets, _one_each("seed", seed, count), strict=True)
    ]
    methods = _check_optimizers(optimizer, count)
    if not nets:
        return []
    inputs = _check_inputs(nets, x)
    targets = _check_targets(nets, t, len(inputs))
    subsets = _check_rows(rows, count, len(inputs))
    weights = _check_weights(nets, sample_weight, len(inputs))
    validations = _check_validations(nets, validation_data, patience, min_delta)
    for net, method in zip(nets, methods, strict=True):
        method.prepare("fit_many", net.n_params, net.dtype)
    jobs: list[_core.FitJob] = []
    for k, net in enumerate(nets):
        epochs_, batch_size_, shuffle_, tol_ = loops[k]
        method, (held_out, patience_, min_delta_) = methods[k], validations[k]
        watch = Watch(
            None if callback is None else partial(callback, k), Silence(), net.params
        )
        schedule = schedules[k]
        rate = None if schedule is None else np.array([step_sizes[k]])
        if schedule is not None:
            watch.follow("fit_many", schedule, rate)
        settings = _core.FitSettings(
            step_sizes[k],
            epochs_,
            min(batch_size_ or MAX_COUNT, MAX_COUNT),
            shuffle_,
            tol_,
            method.name,
            method.options,
            penalties[0][k],
            penalties[1][k],
            dropouts[k],
            norms[k],
            weights=weights[k],
            rate=rate,
            validation=held_out,
            patience=patience_,
            min_delta=min_delta_,
        )
        jobs.append(
            (
                net._native,
                net._parameters,
                targets[k],
                subsets[k],
                generators[k],
                settings,
                method.memory,
                watch.on_epoch if watch.wants_epochs else None,
            )
        )
    shown = make_progress(progress, sum(loop[0] for loop in loops), 0)
    try:
        results = _core.fit_many(
            inputs, jobs, on_progress=shown.epochs_of_all if progress else None
        )
        shown.epochs_of_all(sum(result.epochs for result in results))
    finally:
        shown.close()
    histories = list(map(history_of, results))
    _warn_of_divergence(histories)
    for k, net in enumerate(nets):
        _warn_of_saturation(k, net, histories[k], inputs, targets[k], subsets[k])
    return histories


def _check_networks(networks: object) -> list[Network]:
    if isinstance(networks, Network) or not isinstance(networks, Iterable):
        msg = (
            f"fit_many: networks must be a sequence of Network, "
            f"got {type(networks).__name__}"
        )
        raise TypeError(msg)
    nets = list(networks)
    for k, net in enumerate(nets):
        if not isinstance(net, Network):
            msg = f"fit_many: networks[{k}] must be a Network, got {type(net).__name__}"
            raise TypeError(msg)
    _check_distinct("networks", nets)
    for k, net in enumerate(nets):
        net._check_trainable("fit_many")
        n_in, first = net.layers[0].n_in, nets[0].layers[0].n_in
        if n_in != first:
            msg = (
                f"fit_many: all networks must have the same number of inputs: "
                f"networks[0] has {first}, networks[{k}] has {n_in}"
            )
            raise ShapeError(msg)
        if net.dtype != nets[0].dtype:
            msg = (
                f"fit_many: all networks must have the same dtype: networks[0] is "
                f"{nets[0].dtype}, networks[{k}] is {net.dtype}"
            )
            raise DTypeError(msg)
    return nets


def _check_distinct(name: str, values: Sequence[object]) -> None:
    first: dict[int, int] = {}
    for k, value in enumerate(values):
        if first.setdefault(id(value), k) != k:
            msg = (
                f"fit_many: {name}[{k}] is the same object as "
                f"{name}[{first[id(value)]}]"
            )
            raise ValueError(msg)


def _one_each(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each network: those of a sequence, or the one that it is."""
    several = isinstance(value, list | tuple)
    if not several and not isinstance(value, str):
        several = np.ndim(value) > 0
    values = list(value) if several else [value] * count
    if len(values) != count:
        msg = (
            f"fit_many: {name} must be one for all or one for each of the {count} "
            f"networks, got {len(values)}"
        )
        raise ValueError(msg)
    return values


def _check_optimizers(optimizer: Any, count: int) -> list[Optimizer]:
    if isinstance(optimizer, Optimizer):
        msg = (
            f"fit_many: optimizer is one {type(optimizer).__name__}, which has the "
            f"memory of one network; give a name, or an object for each network"
        )
        raise TypeError(msg)
    values = [optimizer] * count
    if isinstance(optimizer, list | tuple):
        values = _one_each("optimizer", optimizer, count)
        _check_distinct(
            "optimizer", [one if isinstance(one, Optimizer) else [] for one in values]
        )
    return [check_optimizer("fit_many", one) for one in values]


def _check_inputs(nets: Sequence[Network], x: object) -> Array:
    inputs = nets[0]._inputs("fit_many", x)
    check_finite("fit_many", "x", inputs)
    return inputs


def _check_targets(nets: Sequence[Network], t: object, rows: int) -> list[Array]:
    """Return the targets of each network; those of one array are shared."""
    given: list[object] = [t] * len(nets)
    if isinstance(t, list | tuple) and t and all(map(_is_array, t)):
        given = list(t)
        if len(given) != len(nets):
            msg = (
                f"fit_many: a list of arrays t must have one for each of the "
                f"{len(nets)} networks, got {len(given)}"
            )
            raise ValueError(msg)
    ready: dict[tuple[int, str, int], Array] = {}
    for net, one in zip(nets, given, strict=True):
        key = id(one), net.loss_name, net.layers[-1].n_out
        if key not in ready:
            ready[key] = net._targets("fit_many", one, rows, finite=True)
    return [
        ready[id(one), net.loss_name, net.layers[-1].n_out]
        for net, one in zip(nets, given, strict=True)
    ]


def _check_weights(
    nets: Sequence[Network], weights: Any, rows: int
) -> list[Array | None]:
    """Return the weights of the rows for each network, or None."""
    dtype = nets[0].dtype
    several = isinstance(weights, list | tuple) and all(
        one is None or _is_array(one) for one in weights
    )
    if not several:
        if weights is None:
            return [None] * len(nets)
        return [check_weights("fit_many", weights, rows, dtype)] * len(nets)
    if len(weights) != len(nets):
        msg = (
            f"fit_many: a list of arrays sample_weight must have one for each of the "
            f"{len(nets)} networks, got {len(weights)}"
        )
        raise ValueError(msg)
    return [
        None if one is None else check_weights("fit_many", one, rows, dtype)
        for one in weights
    ]


def _check_validations(
    nets: Sequence[Network], data: Any, patience: Any, min_delta: Any
) -> list[Validation]:
    """Return what each network is judged by; the arrays of equal targets are shared."""
    count = len(nets)
    ready: dict[tuple[str, int], Validation] = {}
    validations: list[Validation] = []
    for net, most, least in zip(
        nets,
        _one_each("patience", patience, count),
        _one_each("min_delta", min_delta, count),
        strict=True,
    ):
        key = net.loss_name, net.layers[-1].n_out
        given: Any = ready[key][0] if key in ready else data
        ready[key] = net._validation("fit_many", given, most, least)
        validations.append(ready[key])
    return validations


def _is_array(value: object) -> bool:
    return getattr(value, "ndim", 0) > 0


def _check_rows(
    rows: Any, count: int, available: int
) -> list[npt.NDArray[np.int64] | None]:
    """Return for each network the numbers of its rows, or None for all."""
    if rows is None:
        return [None] * count
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        msg = (
            f"fit_many: rows must be None or a sequence with one entry for each "
            f"network, got {type(rows).__name__}"
        )
        raise TypeError(msg)
    entries = list(rows)
    if len(entries) != count:
        msg = (
            f"fit_many: rows must have one entry for each of the {count} networks, "
            f"got {len(entries)}"
        )
        raise ValueError(msg)
    return [
        None if entry is None else _check_subset(f"rows[{k}]", entry, available)
        for k, entry in enumerate(entries)
    ]


def _check_subset(name: str, entry: Any, available: int) -> npt.NDArray[np.int64]:
    """Return the numbers of a subset's rows, in an array that nobody else changes."""
    pair = isinstance(entry, tuple) and len(entry) == 2
    if pair and any(_is_array(part) for part in entry):
        msg = (
            f"fit_many: {name} is a pair of arrays; of scikit-learn's splits give the "
            f"training parts: rows=[train for train, _ in splits]"
        )
        raise ShapeError(msg)
    try:
        given = np.asarray(entry)
        shape = f"{given.ndim}-D {given.shape}"
    except ValueError:
        given, shape = np.empty((0, 0)), "parts of different lengths"
    if given.ndim != 1:
        msg = f"fit_many: {name} must be 1-D: numbers of rows or a mask; got {shape}"
        raise ShapeError(msg)
    if given.dtype == np.bool_:
        check_shape("fit_many", name, given, (available,), " as a mask of the rows")
        given = np.flatnonzero(given)
    if given.size == 0:
        raise ShapeError(f"fit_many: {name} has no rows; at least one is needed")
    if given.dtype.kind not in "iu":
        msg = f"fit_many: {name} must be numbers of rows or a mask, got {given.dtype}"
        raise DTypeError(msg)
    low, high = int(given.min()), int(given.max())
    if low < 0 or high >= available:
        msg = (
            f"fit_many: {name} must be numbers from 0 to {available - 1}, "
            f"got {low if low < 0 else high}"
        )
        raise ValueError(msg)
    return np.array(given, np.int64)


def _warn_of_saturation(
    k: int,
    net: Network,
    history: History,
    x: Array,
    t: Array,
    subset: npt.NDArray[np.int64] | None,
) -> None:
    """Look at a network as `Network.fit` does."""
    rows = len(x) if subset is None else len(subset)
    work = float(net.n_params) * rows * history.epochs
    if history.stop_reason == "diverged" or work < LEAST_WORK or len(net.layers) == 1:
        return
    if subset is not None:
        some = subset[np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(np.intp)]
        x, t = x[some], t[some]
    who = f"fit_many: network {k}"
    check_saturation(net.layers, net.loss_name, history.loss[-1], x, t, who)


def _warn_of_divergence(histories: Sequence[History]) -> None:
    diverged = [k for k, h in enumerate(histories) if h.stop_reason == "diverged"]
    if diverged:
        some = ", ".join(map(str, diverged[:10])) + (", ..." * (len(diverged) > 10))
        msg = (
            f"fit_many: the loss or the parameters of {len(diverged)} of "
            f"{len(histories)} networks became non-finite (networks {some}); they keep "
            f"their last finite parameters. A smaller lr may help"
        )
        warn(msg, RuntimeWarning)
