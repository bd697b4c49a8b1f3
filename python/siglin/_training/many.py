"""fit_many: networks trained side by side, one on each core."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    check_shape,
)
from siglin._data.rows import check_finite, check_weights
from siglin._data.sparse import Rows, RowsLike
from siglin._layers import make_generator
from siglin._network import Network
from siglin._training.engine import Job, history_of, run_many, warn_if_saturated
from siglin._training.history import History, TrainingState, check_callback
from siglin._training.optimizers import Optimizer, check_optimizer
from siglin._training.progress import check_progress, make_progress
from siglin._training.saturation import evenly_spread
from siglin._training.settings import Settings
from siglin._training.validation import Held, hold_out
from siglin._warnings import warn
from siglin.errors import DTypeError, ShapeError

LearningRate: TypeAlias = float | Callable[[int], float] | None
ManyCallback: TypeAlias = Callable[[int, TrainingState], Any]


def fit_many(
    networks: Sequence[Network],
    x: RowsLike,
    t: ArrayLike | Sequence[ArrayLike],
    *,
    lr: LearningRate | Sequence[LearningRate] | AnyArray = None,
    rows: Sequence[ArrayLike | None] | None = None,
    epochs: int | Sequence[int] | AnyArray = 1,
    batch_size: int | Sequence[int | None] | AnyArray | None = None,
    shuffle: bool | Sequence[bool] | AnyArray = True,
    seed: int | Sequence[int | None] | AnyArray | None = None,
    optimizer: str | Sequence[str | Optimizer] = "gd",
    sample_weight: ArrayLike | Sequence[ArrayLike | None] | None = None,
    l1: float | Sequence[float] | AnyArray = 0.0,
    l2: float | Sequence[float] | AnyArray = 0.0,
    dropout: float | Sequence[float] | AnyArray = 0.0,
    clip_norm: float | Sequence[float | None] | AnyArray | None = None,
    validation_data: tuple[RowsLike, ArrayLike] | None = None,
    validation_split: float | Sequence[float] | AnyArray = 0.0,
    patience: int | Sequence[int | None] | AnyArray | None = None,
    min_delta: float | Sequence[float] | AnyArray = 0.0,
    tol: float | Sequence[float] | AnyArray = 0.0,
    callback: ManyCallback | None = None,
    progress: bool | int = False,
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
    x : array_like or sparse matrix, shape (rows, n_in)
        Finite numbers, as in `Network.fit`: not copied, however many networks there are.
    t : array_like, shape (rows, n_out), or a list of arrays
        Targets as in `Network.fit`. A list or tuple of as many arrays as there are
        networks has those of each.
    lr : float, callable or sequence, optional
        Step size, dimensionless, > 0, or a schedule as in `Network.fit`; one for all, or
        one for each. None is that of each optimiser.
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
    validation_split, patience, min_delta : number or sequence
        As in `Network.fit`; one for all, or one for each. A split is drawn from the rows
        that a network sees, by its own generator or its seed.
    callback : callable, optional
        Called as ``callback(k, state)`` on the calling thread after each epoch of
        network k, with what `Network.fit` tells a callback. Returning True stops that
        network. An exception ends all fits and arrives unchanged.
    progress : bool or int, default False
        True shows the epochs of all networks together, as in `Network.fit`; an int k
        prints a line when k more of them are done, which is looked at now and then.

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
        If a network diverged. `Network.fit` raises DivergenceError then; here the others'
        histories are still returned, since among many step sizes some are too large.

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
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "l1": l1,
        "l2": l2,
        "dropout": dropout,
        "clip_norm": clip_norm,
        "validation_split": validation_split,
        "patience": patience,
        "min_delta": min_delta,
        "tol": tol,
    }
    settings = _check_settings(len(nets), lr, optimizer, options, callback)
    progress = check_progress("fit_many", "progress", progress)
    seeds = _one_each("seed", seed, len(nets))
    generators = [
        net._generator if one is None else make_generator("fit_many", one)
        for net, one in zip(nets, seeds, strict=True)
    ]
    if not nets:
        return []
    inputs = _check_inputs(nets, x)
    targets = _check_targets(nets, t, len(inputs))
    subsets = _check_rows(rows, len(nets), len(inputs))
    weights = _check_weights(nets, sample_weight, len(inputs))
    for k, (some, own) in enumerate(zip(subsets, weights, strict=True)):
        if some is not None and own is not None and not own[some].any():
            raise ValueError(f"fit_many: sample_weight is 0 for every row of rows[{k}]")
    held = _check_validation(nets, validation_data)
    jobs = [
        Job(*parts)
        for parts in zip(
            nets, settings, targets, subsets, generators, weights, held, strict=True
        )
    ]
    parts = [_split(inputs, job) for job in jobs]
    results = _run(inputs, jobs, parts, progress)
    histories = list(map(history_of, results))
    _warn_of_divergence(histories)
    for k, (part, result) in enumerate(zip(parts, results, strict=True)):
        _warn_of_saturation(k, part, result, inputs)
    return histories


def _split(x: Rows, job: Job) -> Job:
    """Return the job with rows held out, if it is to, as `Network.fit` does it."""
    share = job.settings.validation_split
    if share == 0:
        return job
    if job.held is not None:
        raise ValueError("fit_many: give validation_data or validation_split")
    # Drawn from a copy, as another fit may be using the network's own.
    words = job.network._parameters.snapshot_generator(job.generator)
    rows = np.arange(len(x)) if job.rows is None else job.rows
    weights = None if job.weights is None else job.weights[rows]
    train, held = hold_out("fit_many", share, len(rows), words, weights)
    judges = rows[held]
    return job._replace(
        rows=rows[train],
        generator=words,
        held=Held(x[judges], job.t[judges], None if weights is None else weights[held]),
    )


def _run(
    x: Rows, jobs: Sequence[Job], parts: Sequence[Job], progress: bool | int
) -> list[_core.FitResult]:
    """Run the jobs, or what a split has left of them, and show their progress."""
    shown = make_progress(progress, sum(job.settings.epochs for job in jobs), 0)
    before = [job.settings.optimizer.step_count for job in jobs]
    try:
        results = run_many(x, parts, shown.epochs_of_all if progress else None)
        shown.epochs_of_all(sum(result.epochs for result in results))
    finally:
        shown.close()
        # A generator goes on where its copy has been left.
        for job, part, steps in zip(jobs, parts, before, strict=True):
            if part is not job and job.settings.optimizer.step_count != steps:
                job.generator[...] = part.generator
    return results


def _check_settings(
    count: int,
    lr: Any,
    optimizer: Any,
    options: dict[str, Any],
    callback: ManyCallback | None,
) -> list[Settings]:
    """Return the settings of each network."""
    rates = _one_each("lr", lr, count)
    methods = _check_optimizers(optimizer, count)
    each = {name: _one_each(name, value, count) for name, value in options.items()}
    check_callback("fit_many", "callback", callback)
    if count == 0:
        single = {name: v for name, v in options.items() if not _is_several(v)}
        Settings("fit_many", None, "gd", **single)  # its errors
    return [
        Settings(
            "fit_many",
            rates[k],
            methods[k],
            callback=None if callback is None else partial(callback, k),
            **{name: values[k] for name, values in each.items()},
        )
        for k in range(count)
    ]


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


def _is_several(value: Any) -> bool:
    return isinstance(value, list | tuple | range) or _is_array(value)


def _one_each(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each network: those of a sequence, or the one that it is."""
    values = list(value) if _is_several(value) else [value] * count
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


def _check_inputs(nets: Sequence[Network], x: object) -> Rows:
    inputs = nets[0]._rows("fit_many", x)
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


def _check_validation(nets: Sequence[Network], data: Any) -> list[Held | None]:
    """Return what each network is judged by; the arrays of equal targets are shared."""
    if data is None:
        return [None] * len(nets)
    ready: dict[tuple[str, int], Held] = {}
    for net in nets:
        key = net.loss_name, net.layers[-1].n_out
        if key not in ready:
            ready[key] = net._held("fit_many", data)
    return [ready[net.loss_name, net.layers[-1].n_out] for net in nets]


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


def _warn_of_saturation(k: int, job: Job, result: _core.FitResult, x: Rows) -> None:
    """Look at a network as `Network.fit` does."""
    if result.reason == "diverged" or result.epochs == 0:
        return
    t, rows = job.t, len(x)
    if job.rows is not None:
        rows = len(job.rows)
        some = job.rows[evenly_spread(rows)]
        x, t = x[some], t[some]
    seen, who = rows * result.epochs, f"fit_many: network {k}"
    warn_if_saturated(job.network, float(result.losses[-1]), seen, x, t, who)


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
