"""Training by epochs of mini-batches, and what is told about it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from siglin.errors import DivergenceError
from siglin.reference.checks import Array
from siglin.reference.optimizers import Optimizer
from siglin.reference.random import Generator


@dataclass(frozen=True)
class History:
    """What a fit did.

    Attributes
    ----------
    loss : list of float
        One number per epoch: the mean over its rows, by their weights, of the losses
        before each update. From a perceptron, the number of mistakes.
    epochs, steps : int
        How many were run; the last epoch counts also where `tol` cut it short.
    seconds : float
        Time taken.
    stop_reason : str
        "epochs", "tol", "patience", "callback" or, from a perceptron, "no_mistakes".
    validation_loss : list of float
        After each epoch; empty without validation data.
    best_epoch : int or None
        With patience, the epoch of the smallest validation loss, counted from 1.
    """

    loss: list[float]
    epochs: int
    steps: int
    seconds: float
    stop_reason: str
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int | None = None


class TrainingState(NamedTuple):
    """What a callback sees: epochs and steps done, the epoch's loss, the parameters."""

    epoch: int
    step: int
    loss: float
    params: Array
    validation_loss: float | None = None


Callback = Callable[[TrainingState], Any]


class Trainable(Protocol):
    """What is trained: a network, as far as the loop needs to know it."""

    @property
    def params(self) -> Array:
        """All parameters, changed in place."""

    @property
    def grads(self) -> Array:
        """All gradients."""

    def loss(self, x: Array, t: Array) -> float:
        """Return the loss."""

    def loss_and_grads_of(
        self,
        x: Array,
        t: Array,
        weights: Array | None,
        l1: float,
        l2: float,
        masks: Sequence[Array] | None,
    ) -> float:
        """Return the objective of a batch, and fill `grads`."""

    def dropout_masks(self, rows: int, dropout: float, seed: int) -> list[Array]:
        """Return the masks of one step."""


def batches(
    rows: int, batch_size: int | None, shuffle: bool, generator: Generator
) -> Iterator[Any]:
    """Yield the index of each batch of one epoch.

    One batch of all rows is left in order; smaller ones are cut from a new permutation,
    the last one taking what remains.
    """
    if batch_size is None or batch_size >= rows:
        yield slice(None)
        return
    order = generator.permutation(rows) if shuffle else np.arange(rows)
    for start in range(0, rows, batch_size):
        yield order[start : start + batch_size]


def train(
    network: Trainable,
    x: Array,
    t: Array,
    *,
    weights: Array | None,
    l1: float,
    l2: float,
    dropout: float | Iterable[Sequence[Array]],
    clip_norm: float | None,
    validation_data: tuple[Array, Array] | None,
    patience: int | None,
    min_delta: float,
    lr: float | Callable[[int], float],
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    generator: Generator,
    optimizer: Optimizer,
    tol: float,
    callback: Callback | None,
) -> History:
    """Run `epochs` epochs on checked data; the arguments are those of `Network.fit`."""
    started = time.perf_counter()
    losses: list[float] = []
    validation_losses: list[float] = []
    best, best_epoch, best_params = np.inf, None, network.params
    steps = 0
    given = None if isinstance(dropout, int | float) else iter(dropout)
    stop_reason = "epochs"
    for epoch in range(1, epochs + 1):
        step_size = lr(epoch - 1) if callable(lr) else lr
        batch_losses, shares = [], []
        for batch in batches(len(x), batch_size, shuffle, generator):
            before = network.params.copy()
            some = None if weights is None else weights[batch]
            share = len(x[batch]) if some is None else some.sum()
            if share == 0:
                continue  # nothing is to be learnt from it: no step
            with np.errstate(over="ignore", invalid="ignore"):
                masks: Sequence[Array] | None = None
                if given is not None:
                    masks = next(given)
                elif isinstance(dropout, int | float) and dropout > 0:
                    masks = network.dropout_masks(
                        len(x[batch]), dropout, generator.next_word()
                    )
                loss = network.loss_and_grads_of(
                    x[batch], t[batch], some, l1, l2, masks
                )
                norm = np.linalg.norm(network.grads)
                if clip_norm is not None and norm > clip_norm:
                    network.grads[...] *= clip_norm / norm
                optimizer.step(network.params, network.grads, step_size)
            if not (np.isfinite(loss) and np.isfinite(network.params).all()):
                network.params[...] = before
                raise DivergenceError(
                    f"fit: loss or parameters became non-finite in epoch {epoch}, "
                    f"step {steps + 1}; the parameters before it are kept"
                )
            steps += 1
            batch_losses.append(loss)
            shares.append(share)
            if tol > 0 and np.linalg.norm(network.params - before) <= tol:
                stop_reason = "tol"
                break
        losses.append(float(np.average(batch_losses, weights=shares)))
        of_validation = None
        if validation_data is not None:
            of_validation = network.loss(*validation_data)
            validation_losses.append(of_validation)
            if patience is not None:
                first = best_epoch is None
                if np.isfinite(of_validation) and (
                    first or of_validation < best - min_delta
                ):
                    best, best_epoch = of_validation, epoch
                    best_params = network.params.copy()
                if stop_reason == "epochs" and epoch - (best_epoch or 0) >= patience:
                    stop_reason = "patience"
        if callback is not None:
            params = network.params.view()
            params.flags.writeable = False
            state = TrainingState(epoch, steps, losses[-1], params, of_validation)
            stop = callback(state)
            if stop and stop_reason in ("epochs", "patience"):
                stop_reason = "callback"
        if stop_reason != "epochs":
            break
    network.params[...] = best_params
    seconds = time.perf_counter() - started
    return History(
        losses,
        len(losses),
        steps,
        seconds,
        stop_reason,
        validation_losses,
        best_epoch,
    )
