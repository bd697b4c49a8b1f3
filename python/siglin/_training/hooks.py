"""What the native loop calls: the user's callback, the progress, the validation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from siglin._data.arrays import Array, check_positive
from siglin._training.history import TrainingState
from siglin._training.progress import Silence, make_progress
from siglin._training.settings import Settings
from siglin._training.validation import Validation


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
    on_end : callable or None
        Called after the last step, while the parameters are still the fit's.
    """

    interval: float = math.inf
    wants_epochs: bool = True
    every: int = 0
    rate: Any = None
    order: Any = None
    on_end: Callable[[], None] | None = None

    def on_epoch(self, epoch: int, step: int, loss: float) -> bool:
        """Return whether to stop after this epoch."""
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
    validation : Validation, optional
    """

    def __init__(
        self,
        settings: Settings,
        params: Array,
        rows: int,
        validation: Validation | None = None,
    ) -> None:
        self.settings = settings
        self.params = params.view()
        self.params.flags.writeable = False
        self.progress: Silence = make_progress(settings.progress, settings.epochs, rows)
        self.validation = validation
        self.out_of_patience = False
        self.every = self.progress.every
        self.interval = self.progress.interval
        if validation is not None:
            self.on_end = validation.restore
        if settings.schedule is not None:
            self.rate = np.array([settings.lr])
        if settings.callback or settings.schedule or validation is not None:
            self.interval = 0.0  # they see every epoch, progress does not need to
        self.wants_epochs = self.interval < math.inf or self.every > 0

    def on_epoch(self, epoch: int, step: int, loss: float) -> bool:
        """Return whether to stop after this epoch."""
        settings = self.settings
        self.progress.epoch(epoch, step, loss)
        of_validation = None
        if self.validation is not None:
            self.out_of_patience = self.validation.epoch(loss)
            of_validation = self.validation.latest
        if settings.callback is not None:
            state = TrainingState(epoch, step, loss, self.params, of_validation)
            if settings.callback(state):
                self.out_of_patience = False  # the callback's wish comes first
                return True
        # A schedule is not asked for an epoch beyond the last one.
        goes_on = not self.out_of_patience and epoch < settings.epochs
        if settings.schedule is not None and goes_on:
            rate = settings.schedule(epoch)
            self.rate[0] = check_positive(settings.function, "lr", rate)
        return self.out_of_patience

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """Show a step."""
        self.progress.step(epoch, step, loss)

    def close(self) -> None:
        """Show nothing more."""
        self.progress.close()
