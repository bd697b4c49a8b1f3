"""What surrounds a fit: its history, its callback and its progress."""

import importlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from siglin import _core
from siglin._data.arrays import (
    Array,
    check_flag,
    check_integer,
    check_not_negative,
    check_positive,
)

# Seconds between two signs of life. The native loop keeps to them, so that progress does
# not slow it down: a bar may move often, a line scrolls.
BAR_INTERVAL = 0.1
LINE_INTERVAL = 1.0

MAX_COUNT = 2**63 - 1  # of epochs and rows, in the native loop


@dataclass(frozen=True)
class History:
    """What a fit did.

    Attributes
    ----------
    loss : list of float
        One number per epoch: the mean over its rows, by their weights, of the losses
        before each update. From a perceptron: the number of mistakes.
    epochs, steps : int
        How many were run; an epoch that ``tol`` cut short counts.
    seconds : float
        Time taken by the loop.
    stop_reason : str
        "epochs", "tol", "patience" or "callback"; from `fit_many` also "diverged"; from
        a perceptron "epochs" or "no_mistakes".
    validation_loss : sequence of float
        Of the validation data, after each epoch; empty if there were none.
    best_epoch : int or None
        With patience, the epoch whose parameters the network ended with, counted from 1:
        the one of the best finite validation loss. None if there was none; the network
        ended with its last parameters then.

    Notes
    -----
    Every epoch's loss is kept, however many there are. ``loss`` takes 8 bytes an epoch, and
    32 once it has been read as a list (always, from `fit_many`); ``validation_loss`` takes
    32. For a million epochs that is 8 MB, or 32 MB for each of the two.

    Examples
    --------
    >>> import siglin
    >>> history = siglin.Neuron(1).fit([[-1.0], [1.0]], [0, 1], epochs=3)
    >>> history.epochs, history.steps, history.stop_reason
    (3, 3, 'epochs')
    >>> print(round(history.loss[0], 6))
    0.693147
    """

    loss: list[float]
    epochs: int
    steps: int
    seconds: float
    stop_reason: str
    validation_loss: Sequence[float] = ()
    best_epoch: int | None = None


class _Losses:
    """What `History.loss` is: a list, made of an array when somebody first asks.

    To make a Python number takes a fifth of the time of the smallest network's step.
    """

    def __get__(self, history: History | None, _: object) -> "list[float] | _Losses":
        if history is None:
            return self
        losses: list[float] | Array = vars(history)["loss"]
        if isinstance(losses, np.ndarray):
            losses = vars(history)["loss"] = cast("list[float]", losses.tolist())
        return losses

    def __set__(self, history: History, losses: list[float] | Array) -> None:
        vars(history)["loss"] = losses


History.loss = _Losses()  # type: ignore[assignment]


def history_of(result: "_core.FitResult") -> History:
    """Return what the native loop did."""
    return History(
        result.losses,  # type: ignore[arg-type]
        result.epochs,
        result.steps,
        result.seconds,
        result.reason,
        result.validation_losses.tolist() if result.validation_losses.size else (),
        result.best_epoch,
    )


class TrainingState(NamedTuple):
    """What a callback sees.

    Attributes
    ----------
    epoch, step : int
        Epochs and steps of this fit done so far.
    loss : float
        Of the epoch just done, as in `History`.
    params : ndarray, shape (n_params,)
        The network's parameters, read-only. They go on changing after the callback:
        copy what is to be kept.
    validation_loss : float or None
        Of the validation data, after the epoch just done.
    """

    epoch: int
    step: int
    loss: float
    params: Array
    validation_loss: float | None = None


Callback: TypeAlias = Callable[[TrainingState], Any]


def check_callback(function: str, callback: object) -> None:
    """Raise TypeError unless the callback is None or can be called."""
    if callback is not None and not callable(callback):
        msg = f"{function}: callback must be callable, got {type(callback).__name__}"
        raise TypeError(msg)


def check_loop(
    function: str, epochs: object, batch_size: object, shuffle: object, tol: object
) -> tuple[int, int | None, bool, float]:
    """Return what every fit's loop goes by, checked."""
    return (
        check_integer(function, "epochs", epochs, 0, MAX_COUNT),
        None
        if batch_size is None
        else check_integer(function, "batch_size", batch_size, 1),
        check_flag(function, "shuffle", shuffle),
        check_not_negative(function, "tol", tol),
    )


# ---- progress ------------------------------------------------------------------------


class Silence:
    """No progress; also what the other kinds of progress have in common."""

    interval = float("inf")  # seconds between two calls of `epoch`
    every = 0  # steps between two calls of `step`; 0 for no such calls

    def epoch(self, epoch: int, step: int, loss: float) -> None:
        """Show an epoch that is done."""

    def epochs_of_all(self, epochs: int) -> None:
        """Show how many epochs several fits have done together."""

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Show a step that is done."""

    def close(self) -> None:
        """Show nothing more."""


class Meter(Silence):
    """Progress that is shown now and then, with the rows a second since the last time.

    What came last is shown at the end, with the rows a second of all.

    Parameters
    ----------
    epochs : int
        How many there will be.
    rows : int
        Of an epoch.
    """

    def __init__(self, epochs: int, rows: int) -> None:
        self.epochs = epochs
        self.rows = rows
        self.latest = self.shown = 0  # epochs
        self.values: tuple[int, float] | None = None  # step and loss of the latest
        self.start = self.last = time.perf_counter()

    def epoch(self, epoch: int, step: int, loss: float) -> None:
        """Show an epoch, if it is time to."""
        self.latest, self.values = epoch, (step, loss)
        self._show_if_due()

    def epochs_of_all(self, epochs: int) -> None:
        """Show them, if it is time to."""
        self.latest = epochs
        self._show_if_due()

    def _show_if_due(self) -> None:
        now = time.perf_counter()
        if now - self.last >= self.interval:
            self._show(self.latest - self.shown, now - self.last)
            self.shown, self.last = self.latest, now

    def _show(self, epochs: int, seconds: float) -> None:
        if self.values is None:
            self.show(self.latest, "", "")
            return
        step, loss = self.values
        rate = epochs * self.rows / max(seconds, 1e-9)
        self.show(self.latest, f"step {step}", f"loss {loss:.6g}  {rate:,.0f} rows/s")

    def show(self, epoch: int, step: str, values: str) -> None:
        """Show this."""
        raise NotImplementedError

    def close(self) -> None:
        """Show what came last."""
        if self.latest != self.shown:
            self._show(self.latest, time.perf_counter() - self.start)
            self.shown = self.latest


class Lines(Meter):
    """A line every so many seconds, where there is no tqdm."""

    interval = LINE_INTERVAL

    def show(self, epoch: int, step: str, values: str) -> None:
        """Print it."""
        print("  ".join(filter(None, [f"epoch {epoch}/{self.epochs}", step, values])))


class StepLines(Silence):
    """A line every k steps."""

    def __init__(self, every: int) -> None:
        self.every = every

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Print a step."""
        print(f"step {step}  epoch {epoch}  loss {loss:.6g}")


class Bar(Meter):
    """A tqdm bar over the epochs, in a terminal or a notebook."""

    interval = BAR_INTERVAL

    def __init__(self, tqdm: Any, epochs: int, rows: int) -> None:
        super().__init__(epochs, rows)
        self.bar = tqdm(total=epochs, unit="epoch")

    def show(self, epoch: int, step: str, values: str) -> None:  # noqa: ARG002
        """Move the bar."""
        self.bar.set_postfix_str(values, refresh=False)
        self.bar.update(epoch - self.bar.n)

    def close(self) -> None:
        """Leave the bar where it is."""
        super().close()
        self.bar.close()


def check_progress(function: str, progress: object) -> bool | int:
    """Return True, False or a number of steps."""
    if isinstance(progress, bool | np.bool_):
        return bool(progress)
    return check_integer(function, "progress", progress, 1, sys.maxsize)


def make_progress(progress: bool | int, epochs: int, rows: int) -> Silence:
    """Return what shows the progress of a fit of so many epochs of so many rows."""
    if progress is False:
        return Silence()
    if progress is not True:
        return StepLines(progress)
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm  # optional, and slow to import
    except ImportError:
        return Lines(epochs, rows)
    return Bar(tqdm, epochs, rows)


class Watch:
    """What the native loop calls.

    Parameters
    ----------
    callback : callable or None
        The user's.
    progress : Silence
        What shows the progress.
    params : ndarray
        The parameters that the fit writes into.
    """

    def __init__(
        self, callback: Callback | None, progress: Silence, params: Array
    ) -> None:
        self.callback = callback
        self.progress = progress
        self.schedule: Callable[[int], float] | None = None
        self.params = params.view()
        self.params.flags.writeable = False
        # A callback is called after every epoch, progress does not need to be.
        self.interval = 0.0 if callback else progress.interval

    @property
    def wants_epochs(self) -> bool:
        """Whether somebody wants to know of epochs, not of the end of a fit alone.

        Where nobody does, the native loop makes many small epochs at once.
        """
        return self.interval < math.inf or self.progress.every > 0

    def follow(
        self, function: str, schedule: Callable[[int], float], rate: Any
    ) -> None:
        """Take step sizes from a schedule, at every epoch's end.

        The native loop reads the next epoch's step size from ``rate``, of shape (1,). A
        schedule is not asked for an epoch beyond the last one.
        """
        self.function = function
        self.schedule = schedule
        self.rate = rate
        self.interval = 0.0

    def on_epoch(
        self,
        epoch: int,
        step: int,
        loss: float,
        of_validation: float | None,
        last: bool,
    ) -> bool:
        """Return whether to stop after this epoch."""
        self.progress.epoch(epoch, step, loss)
        if self.callback is not None:
            state = TrainingState(epoch, step, loss, self.params, of_validation)
            if self.callback(state):
                return True
        if self.schedule is not None and not last:
            self.rate[0] = check_positive(self.function, "lr", self.schedule(epoch))
        return False

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """Show a step."""
        self.progress.step(epoch, step, loss)
