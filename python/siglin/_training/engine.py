"""The engine: every training of a network, whichever door it came through, runs here.

A door turns what it is given into settings, data and hooks; `run` and `run_many` are the
two places that call the native loops, and nothing else in the package does.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import Array, DType
from siglin._losses import loss_of
from siglin._plan import Plan
from siglin._training.history import History
from siglin._training.hooks import Hooks, Watch
from siglin._training.saturation import LEAST_WORK, check_saturation
from siglin._training.settings import MAX_COUNT, Settings
from siglin._training.validation import Validation
from siglin.errors import DivergenceError

Generator: TypeAlias = npt.NDArray[np.uint64]

# Losses of the epochs, epochs, steps, seconds, why it stopped.
Result: TypeAlias = tuple[npt.NDArray[np.float64], int, int, float, str]


class Trained(Protocol):
    """What the engine sees of a network."""

    _native: _core.Network
    _plan: Plan
    _parameters: _core.Parameters
    _params: Array

    @property
    def layers(self) -> Sequence[Any]: ...
    @property
    def n_params(self) -> int: ...
    @property
    def dtype(self) -> DType: ...


class Job(NamedTuple):
    """A fit of `run_many`."""

    network: Trained
    settings: Settings
    t: Array
    rows: npt.NDArray[np.int64] | None
    generator: Generator


def run(
    network: Trained,
    settings: Settings,
    x: Array,
    t: Array,
    generator: Generator,
    weights: Array | None = None,
    hooks: Hooks | None = None,
    epochs: int | None = None,
) -> Result:
    """Run the native loop.

    Parameters
    ----------
    network : Network
    settings : Settings
    x, t : ndarray, shapes (rows, n_in) and (rows, n_out)
        Checked rows and targets.
    generator : ndarray of uint64
        Draws the permutations and what is dropped.
    weights : ndarray, shape (rows,), optional
    hooks : Hooks, optional
    epochs : int, optional
        Of these rows, if not as many as the settings have.
    """
    optimizer = settings.optimizer
    if not settings.scikit_learn:  # whose settings have other bounds
        optimizer.check_dtype(network.dtype)
    optimizer.prepare(settings.function, network.n_params, network.dtype)
    if hooks is None:
        hooks = _NO_HOOKS
    rows = len(x)
    return network._native.fit(
        network._parameters,
        x,
        t,
        generator,
        _core.FitSettings(
            settings.lr,
            settings.epochs if epochs is None else epochs,
            min(settings.batch_size or rows, rows),
            settings.shuffle,
            settings.tol,
            optimizer.name,
            optimizer.options,
            settings.l1,
            settings.l2,
            settings.dropout,
            settings.clip_norm or 0.0,
            settings.scikit_learn,
            weights,
            hooks.order,
            hooks.rate,
        ),
        optimizer.memory,
        hooks=None
        if hooks is _NO_HOOKS
        else _core.FitHooks(
            hooks.on_epoch if hooks.wants_epochs else None,
            hooks.interval,
            hooks.on_step if hooks.every else None,
            hooks.every,
            hooks.on_end,
        ),
        function=settings.function,
    )


def run_many(
    x: Array,
    jobs: Sequence[Job],
    settings: Settings,
    on_progress: Callable[[int], None] | None,
) -> list[Result]:
    """Run the native loops of several networks side by side.

    Parameters
    ----------
    x : ndarray, shape (rows, n_in)
        The rows of all.
    jobs : sequence of Job
        Of their settings, the step size and the optimiser may differ.
    settings : Settings
        What is the same for all.
    on_progress : callable or None
        Called now and then with how many epochs are done together.
    """
    for job in jobs:
        network, optimizer = job.network, job.settings.optimizer
        optimizer.check_dtype(network.dtype)
        optimizer.prepare(settings.function, network.n_params, network.dtype)
    return _core.fit_many(
        x,
        [
            (
                job.network._native,
                job.network._parameters,
                job.t,
                job.rows,
                job.generator,
                _core.FitSettings(
                    job.settings.lr,
                    settings.epochs,
                    min(settings.batch_size or MAX_COUNT, MAX_COUNT),
                    settings.shuffle,
                    settings.tol,
                    job.settings.optimizer.name,
                    job.settings.optimizer.options,
                ),
                job.settings.optimizer.memory,
            )
            for job in jobs
        ],
        on_progress=on_progress,
    )


def fit(
    network: Trained,
    settings: Settings,
    x: Array,
    t: Array,
    generator: Generator,
    weights: Array | None = None,
    validation: Validation | None = None,
) -> History:
    """Train a network on checked data, and return its history.

    Parameters
    ----------
    network, settings, x, t, generator, weights
        As in `run`.
    validation : Validation, optional
        What judges the epochs.

    Raises
    ------
    DivergenceError
        If the loss or a parameter is no longer finite. The network keeps its last finite
        parameters.

    Warns
    -----
    SaturationWarning
    """
    watch = None
    if validation is not None or not vars(settings).keys().isdisjoint(_WATCHED):
        watch = Watch(settings, network._params, len(x), validation)
    try:
        result = run(network, settings, x, t, generator, weights, watch)
    finally:
        if watch is not None:
            watch.close()
    losses, epochs, steps, seconds, reason = result
    if reason == "diverged":
        lr = settings.lr
        if watch is not None and watch.rate is not None:
            lr = float(watch.rate[0])
        msg = (
            f"{settings.function}: the loss or the parameters became non-finite in epoch "
            f"{epochs}, step {steps + 1}; the last finite parameters are kept. A smaller "
            f"lr may help (lr is {lr})"
        )
        raise DivergenceError(msg)
    if epochs > 0:
        warn_if_saturated(network, float(losses[-1]), epochs * len(x), x, t)
    if validation is None:
        return History(losses, epochs, steps, seconds, reason)  # type: ignore[arg-type]
    if watch is not None and watch.out_of_patience:
        reason = "patience"
    return History(
        losses,  # type: ignore[arg-type]
        epochs,
        steps,
        seconds,
        reason,
        validation.losses,
        validation.best_epoch,
    )


def warn_if_saturated(
    network: Trained, loss: float, rows_seen: int, x: Array, t: Array
) -> None:
    """Warn of a hidden layer that cannot learn any more, after a fit worth the look.

    Parameters
    ----------
    network : Network
    loss : float
        Of the last epoch.
    rows_seen : int
        In all epochs together.
    x, t : ndarray
        The rows and targets, or some of them.
    """
    if network.n_params * float(rows_seen) >= LEAST_WORK and len(network.layers) > 1:
        which = loss_of(network._plan.loss, network._plan.loss_number)
        check_saturation(network.layers, which, loss, x, t)


# Options that somebody has to be there for while the native loop runs.
_WATCHED = frozenset({"callback", "progress", "schedule"})

_NO_HOOKS = Hooks()
_NO_HOOKS.wants_epochs = False
