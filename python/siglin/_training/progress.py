"""How a fit shows its progress: a tqdm bar, a line now and then, or one every k steps."""

import importlib
import sys
import time
from typing import Any

import numpy as np

from siglin._data.arrays import check_integer

# Seconds between two signs of life. The native loop keeps to them, so that progress does
# not slow it down: a bar may move often, a line scrolls.
BAR_INTERVAL = 0.1
LINE_INTERVAL = 1.0


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
    """A line now and then, where tqdm is not installed."""

    interval = LINE_INTERVAL

    def show(self, epoch: int, step: str, values: str) -> None:
        """Print it."""
        print("  ".join(filter(None, [f"epoch {epoch}/{self.epochs}", step, values])))


class CountedLines(Silence):
    """A line every k steps of a fit; of several fits, when k more epochs are done."""

    def __init__(self, every: int, epochs: int) -> None:
        self.every = every
        self.epochs = epochs
        self.shown = 0  # epochs of several fits

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Print a step."""
        print(f"step {step}  epoch {epoch}  loss {loss:.6g}")

    def epochs_of_all(self, epochs: int) -> None:
        """Print them, if so many more are done."""
        if epochs // self.every > self.shown // self.every:
            self.shown = epochs
            print(f"epoch {epochs}/{self.epochs}")


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


def check_progress(function: str, name: str, progress: object) -> bool | int:
    """Return True, False or a number of steps."""
    if isinstance(progress, bool | np.bool_):
        return bool(progress)
    return check_integer(function, name, progress, 1, sys.maxsize)


def make_progress(progress: bool | int, epochs: int, rows: int) -> Silence:
    """Return what shows the progress of a fit of so many epochs of so many rows."""
    if progress is False:
        return Silence()
    if progress is not True:
        return CountedLines(progress, epochs)
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm  # optional, and slow to import
    except ImportError:
        return Lines(epochs, rows)
    return Bar(tqdm, epochs, rows)
