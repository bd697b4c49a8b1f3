"""The engine: every training of a network, whichever door it came through, runs here.

A door turns what it is given into settings, data and hooks; `run`, `run_many`, `learn` and
`step` are the places that call the native loops, and nothing else in the package does.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import Array, DType
from siglin._data.sparse import Rows
from siglin._losses import loss_of
from siglin._plan import Plan
from siglin._training.history import History
from siglin._training.hooks import Hooks, Watch
from siglin._training.saturation import LEAST_WORK, check_saturation
from siglin._training.settings import MAX_COUNT, Settings
from siglin._training.validation import Held
from siglin.errors import DivergenceError

Generator: TypeAlias = npt.NDArray[np.uint64]


class Trained(Protocol):
    """What the engine sees of a network."""

    _native: _core.Network
    _plan: Plan
    _parameters: _core.Parameters
    _params: Array
    _grads: Array

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
    weights: Array | None
    held: Held | None


def run(
    network: Trained,
    settings: Settings,
    x: Rows,
    t: Array,
    generator: Generator,
    weights: Array | None = None,
    hooks: Hooks | None = None,
    epochs: int | None = None,
    held: Held | None = None,
) -> _core.FitResult:
    """Run the native loop.

    Parameters
    ----------
    network : Network
    settings : Settings
    x, t : Rows and ndarray, shapes (rows, n_in) and (rows, n_out)
        Checked rows and targets.
    generator : ndarray of uint64
        Draws the permutations and what is dropped.
    weights : ndarray, shape (rows,), optional
    hooks : Hooks, optional
    epochs : int, optional
        Of these rows, if not as many as the settings have.
    held : Held, optional
        What judges the epochs, instead of the training loss.
    """
    _prepare(network, settings)
    if hooks is None:
        hooks = _NO_HOOKS
    return network._native.fit(
        network._parameters,
        x,
        t,
        generator,
        _native_settings(settings, len(x), weights, hooks, epochs, held),
        settings.optimizer.memory,
        hooks=None
        if hooks is _NO_HOOKS
        else _core.FitHooks(
            hooks.on_epoch if hooks.wants_epochs else None,
            hooks.interval,
            hooks.on_step if hooks.every else None,
            hooks.every,
        ),
        function=settings.function,
    )


def run_many(
    x: Rows, jobs: Sequence[Job], on_progress: Callable[[int], None] | None
) -> list[_core.FitResult]:
    """Run the native loops of several networks side by side.

    Parameters
    ----------
    x : Rows, shape (rows, n_in)
        The rows of all.
    jobs : sequence of Job
    on_progress : callable or None
        Called now and then with how many epochs are done together.
    """
    native: list[_core.FitJob] = []
    for job in jobs:
        network, settings = job.network, job.settings
        _prepare(network, settings)
        watch = _watch(network, settings, len(x))
        hooks = watch or _NO_HOOKS
        native.append(
            (
                network._native,
                network._parameters,
                job.t,
                job.rows,
                job.generator,
                _native_settings(
                    settings, MAX_COUNT, job.weights, hooks, held=job.held
                ),
                settings.optimizer.memory,
                None if watch is None else watch.on_epoch,
            )
        )
    return _core.fit_many(x, native, on_progress=on_progress)


def learn(
    network: Trained,
    settings: Settings,
    x: Rows,
    t: Array,
    generator: Generator,
    weights: Array | None = None,
    *,
    weights_scale: bool = False,
) -> float:
    """Take one step on rows, and return their loss before it.

    Parameters
    ----------
    network, settings, x, t, generator, weights
        As in `run`.
    weights_scale : bool, default False
        Whether the weights multiply the losses and gradients of their rows, instead of
        being shares in a mean.

    Raises
    ------
    DivergenceError
        If the loss or a parameter would no longer be finite.
    """
    _prepare(network, settings)
    result = network._native.learn(
        network._parameters,
        x,
        t,
        generator,
        _native_settings(
            settings, len(x), weights, _NO_HOOKS, weights_scale=weights_scale
        ),
        settings.optimizer.memory,
        settings.function,
    )
    if result.reason == "diverged":
        _refuse_step(settings)
    return float(result.losses[0])


def step(network: Trained, settings: Settings) -> None:
    """Take one step by the network's gradients.

    Raises
    ------
    DivergenceError
        If a parameter would no longer be finite.
    """
    _prepare(network, settings)
    made = network._native.step(
        network._parameters,
        network._grads,
        _native_settings(settings, 1, None, _NO_HOOKS),
        settings.optimizer.memory,
    )
    if not made:
        _refuse_step(settings)


def _prepare(network: Trained, settings: Settings) -> None:
    """Check an optimiser against a network, and make its memory at the first step."""
    optimizer = settings.optimizer
    if not settings.scikit_learn:  # whose settings have other bounds
        optimizer.check_dtype(network.dtype)
    optimizer.prepare(settings.function, network.n_params, network.dtype)


def _native_settings(
    settings: Settings,
    rows: int,
    weights: Array | None,
    hooks: Hooks,
    epochs: int | None = None,
    held: Held | None = None,
    *,
    weights_scale: bool = False,
) -> _core.FitSettings:
    """Return the settings of a fit on so many rows as the native loop takes them."""
    optimizer = settings.optimizer
    return _core.FitSettings(
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
        held,
        min(settings.patience or 0, MAX_COUNT),
        settings.min_delta,
        weights_scale,
    )


def _watch(network: Trained, settings: Settings, rows: int) -> Watch | None:
    """Return the hooks of a fit by its settings, if somebody watches it."""
    if vars(settings).keys().isdisjoint(_WATCHED):
        return None
    return Watch(settings, network._params, rows)


def _refuse_step(settings: Settings) -> NoReturn:
    msg = (
        f"{settings.function}: the loss or the parameters would become non-finite; the "
        f"parameters are kept as they were. A smaller lr may help (lr is {settings.lr})"
    )
    raise DivergenceError(msg)


def fit(
    network: Trained,
    settings: Settings,
    x: Rows,
    t: Array,
    generator: Generator,
    weights: Array | None = None,
    held: Held | None = None,
) -> History:
    """Train a network on checked data, and return its history.

    Parameters
    ----------
    network, settings, x, t, generator, weights, held
        As in `run`.

    Raises
    ------
    DivergenceError
        If the loss or a parameter is no longer finite. The network keeps its last finite
        parameters.

    Warns
    -----
    SaturationWarning
    """
    watch = _watch(network, settings, len(x))
    try:
        result = run(network, settings, x, t, generator, weights, watch, held=held)
    finally:
        if watch is not None:
            watch.close()
    epochs = result.epochs
    if result.reason == "diverged":
        lr = settings.lr
        if watch is not None and watch.rate is not None:
            lr = float(watch.rate[0])
        msg = (
            f"{settings.function}: the loss or the parameters became non-finite in epoch "
            f"{epochs}, step {result.steps + 1}; the last finite parameters are kept. A "
            f"smaller lr may help (lr is {lr})"
        )
        raise DivergenceError(msg)
    if epochs > 0:
        warn_if_saturated(network, float(result.losses[-1]), epochs * len(x), x, t)
    return history_of(result)


def history_of(result: _core.FitResult) -> History:
    """Return what the native loop did."""
    return History(
        result.losses,  # type: ignore[arg-type]
        result.epochs,
        result.steps,
        result.seconds,
        result.reason,
        result.validation_losses.tolist(),
        result.best_epoch,
    )


def warn_if_saturated(
    network: Trained,
    loss: float,
    rows_seen: int,
    x: Rows,
    t: Array,
    who: str = "fit",
) -> None:
    """Warn of a hidden layer that cannot learn any more, after a fit worth the look.

    Parameters
    ----------
    network : Network
    loss : float
        Of the last epoch.
    rows_seen : int
        In all epochs together.
    x, t : Rows and ndarray
        The rows and targets, or some of them.
    who : str
        What the message begins with.
    """
    if network.n_params * float(rows_seen) >= LEAST_WORK and len(network.layers) > 1:
        which = loss_of(network._plan.loss, network._plan.loss_number)
        check_saturation(network.layers, which, loss, x, t, who)


# Options that somebody has to be there for while the native loop runs.
_WATCHED = frozenset({"callback", "progress", "schedule"})

_NO_HOOKS = Hooks()
_NO_HOOKS.wants_epochs = False
