"""What the native loop calls: the user's callback, the progress, the schedule."""

import math
from typing import Any

import numpy as np

from siglin._data.arrays import Array, check_positive
from siglin._training.history import TrainingState
from siglin._training.progress import Silence, make_progress
from siglin._training.settings import Settings


class Hooks:
    """Nothing but the places where something may hook in; a door makes its own.

    Attributes
    ----------
    interval : float
        Seconds between two calls of `on_epoch`; 0 for one after every epoch, infinity for
        none but the last.
    wants_epochs : bool
        Whether somebody wants to know of epochs, not of the end of a fit alone. Where
        nobody does, the native loop makes many small epochs at once.
    every : int
        Steps between two calls of `on_step`; 0 for no such calls.
    rate : ndarray, shape (1,), or None
        Where the native loop reads the next epoch's step size.
    order : ndarray of int64, shape (rows,), or None
        Where it reads the order of the next epoch's rows.
    """

    interval: float = math.inf
    wants_epochs: bool = True
    every: int = 0
    rate: Any = None
    order: Any = None

    def on_epoch(
        self,
        epoch: int,
        step: int,
        loss: float,
        validation_loss: float | None,
        last: bool,
    ) -> bool:
        """Return whether to stop after this epoch; ``last`` if it is the last anyway."""
        raise NotImplementedError

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """See a step."""
        raise NotImplementedError


class Watch(Hooks):
    """The hooks of a fit by its settings.

    Parameters
    ----------
    settings : Settings
    params : ndarray
        The parameters that the fit writes into.
    rows : int
        Of an epoch.
    """

    def __init__(self, settings: Settings, params: Array, rows: int) -> None:
        self.settings = settings
        self.params = params.view()
        self.params.flags.writeable = False
        self.progress: Silence = make_progress(settings.progress, settings.epochs, rows)
        self.every = self.progress.every
        self.interval = self.progress.interval
        if settings.schedule is not None:
            self.rate = np.array([settings.lr])
        if settings.callback or settings.schedule:
            self.interval = 0.0  # they see every epoch, progress does not need to
        self.wants_epochs = self.interval < math.inf or self.every > 0

    def on_epoch(
        self,
        epoch: int,
        step: int,
        loss: float,
        validation_loss: float | None,
        last: bool,
    ) -> bool:
        """Return whether to stop after this epoch."""
        settings = self.settings
        self.progress.epoch(epoch, step, loss)
        if settings.callback is not None:
            state = TrainingState(epoch, step, loss, self.params, validation_loss)
            if settings.callback(state):
                return True
        # A schedule is not asked for an epoch beyond the last one.
        if settings.schedule is not None and not last:
            rate = settings.schedule(epoch)
            self.rate[0] = check_positive(settings.function, "lr", rate)
        return False

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """Show a step."""
        self.progress.step(epoch, step, loss)

    def close(self) -> None:
        """Show nothing more."""
        self.progress.close()
