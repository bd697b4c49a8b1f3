"""Training by epochs of mini-batches, and what is told about it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from siglin.errors import DivergenceError
from siglin.reference.checks import Array
from siglin.reference.optimizers import Optimizer
from siglin.reference.random import Generator

if TYPE_CHECKING:
    from siglin.reference.network import Network


@dataclass(frozen=True)
class History:
    """What a fit did.

    Attributes
    ----------
    loss : list of float
        One number per epoch: the mean over its batches of the loss before each update.
        From a perceptron, the number of mistakes.
    epochs, steps : int
        How many were run; the last epoch counts also where `tol` cut it short.
    seconds : float
        Time taken.
    stop_reason : str
        "epochs", "tol", "callback" or, from a perceptron, "no_mistakes".
    """

    loss: list[float]
    epochs: int
    steps: int
    seconds: float
    stop_reason: str


class TrainingState(NamedTuple):
    """What a callback sees: epochs and steps done, the epoch's loss, the parameters."""

    epoch: int
    step: int
    loss: float
    params: Array


Callback = Callable[[TrainingState], Any]


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
    network: "Network",
    x: Array,
    t: Array,
    *,
    lr: float,
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
    steps = 0
    stop_reason = "epochs"
    for epoch in range(1, epochs + 1):
        batch_losses = []
        for batch in batches(len(x), batch_size, shuffle, generator):
            before = network.params.copy()
            with np.errstate(over="ignore", invalid="ignore"):
                loss = network.loss_and_grads_of(x[batch], t[batch])
                optimizer.step(network.params, network.grads, lr)
            if not (np.isfinite(loss) and np.isfinite(network.params).all()):
                network.params[...] = before
                raise DivergenceError(
                    f"fit: loss or parameters became non-finite in epoch {epoch}, "
                    f"step {steps + 1}; the parameters before it are kept"
                )
            steps += 1
            batch_losses.append(loss)
            if tol > 0 and np.linalg.norm(network.params - before) <= tol:
                stop_reason = "tol"
                break
        losses.append(sum(batch_losses) / len(batch_losses))
        if callback is not None:
            params = network.params.view()
            params.flags.writeable = False
            stop = callback(TrainingState(epoch, steps, losses[-1], params))
            if stop and stop_reason == "epochs":
                stop_reason = "callback"
        if stop_reason != "epochs":
            break
    seconds = time.perf_counter() - started
    return History(losses, len(losses), steps, seconds, stop_reason)
