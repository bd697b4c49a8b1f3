"""How an MLP is trained: steps by batches in the native loop, or SciPy's L-BFGS."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from siglin import _core
from siglin._data.arrays import Array, with_owned
from siglin._training.optimizers import check_held
from siglin._warnings import warn

# Sparse rows become dense so many numbers at a time, or a batch if that is more.
DENSE_ELEMENTS = 2**18


@dataclass
class Memory:
    """What an optimiser carries from step to step.

    Attributes
    ----------
    name : str
        "gd", "momentum", "nesterov" or "adam".
    options : list of float
        As the native loop takes them.
    rate_init : float
        The first step size.
    rate : ndarray, shape (1,)
        The present one.
    moments : ndarray
        The vectors it keeps.
    steps : int
        How many were made.
    """

    name: str
    options: list[float]
    rate_init: float
    rate: Any
    moments: Array
    steps: int = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(with_owned(state))

    @classmethod
    def new(cls, settings: Any, n_params: int, dtype: Any) -> "Memory":
        """Return that of an optimiser which has not begun, for an MLP's parameters."""
        if settings.solver == "adam":
            name, vectors = "adam", 2
            check_held("beta_1", float(settings.beta_1), dtype)
            check_held("beta_2", float(settings.beta_2), dtype)
            least = float(np.finfo(dtype).tiny)  # scikit-learn's eps is not scaled
            check_held("epsilon", float(settings.epsilon), dtype, least)
            options = [settings.beta_1, settings.beta_2, settings.epsilon]
        elif settings.momentum == 0:
            name, vectors, options = "gd", 0, []
        else:
            name = "nesterov" if settings.nesterovs_momentum else "momentum"
            vectors, options = 1, [settings.momentum]
        rate = float(settings.learning_rate_init)
        moments = np.zeros(vectors * n_params, dtype)
        return cls(name, [float(v) for v in options], rate, np.array([rate]), moments)

    def go_on_as(self, new: "Memory") -> "Memory":
        """Return self with new's step size, or new if that is another optimiser's."""
        if (self.name, self.options) != (new.name, new.options):
            return new
        if self.rate_init != new.rate_init:
            self.rate_init = new.rate_init
            self.set_rate(new.rate_init)
        return self

    def set_rate(self, rate: float) -> None:
        """Change the step size.

        The velocity stays what it is: scikit-learn keeps -rate times the vector that is
        kept here.
        """
        rate = max(rate, np.finfo(np.float64).tiny)
        if self.name in ("momentum", "nesterov"):
            self.moments *= self.rate[0] / rate
        self.rate[0] = rate


@dataclass
class Data:
    """Rows to train on.

    Attributes
    ----------
    x : ndarray or sparse matrix, shape (rows, n_in)
    t : ndarray, shape (rows, n_out)
    weights : ndarray, shape (rows,), or None
    """

    x: Any
    t: Array
    weights: Array | None = None
    is_sparse: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_sparse = not isinstance(self.x, np.ndarray)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(with_owned(state))

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.x.shape[0])

    @property
    def weight(self) -> float:
        """Of all of them together."""
        return self.rows if self.weights is None else float(self.weights.sum())

    def dense(self, order: Any, size: int) -> Iterator["Data"]:
        """Yield all rows in an order as dense pieces of whole batches of that size."""
        together = max(1, DENSE_ELEMENTS // (self.x.shape[1] * size)) * size
        for start in range(0, self.rows, together):
            rows = order[start : start + together]
            weights = None if self.weights is None else self.weights[rows]
            yield Data(self.x[rows].toarray(), self.t[rows], weights)


def run_epochs(
    network: Any,
    params: Array,
    data: Data,
    memory: Memory,
    *,
    epochs: int,
    batch_size: int,
    order: Any,
    extras: dict[str, Any],
    generator: Any,
    after_epoch: Callable[[float, int], bool],
) -> bool:
    """Train in the native loop; return whether the parameters stayed finite.

    Parameters
    ----------
    network : _core.Network
    params : ndarray
        Changed in place.
    data, memory
        Rows to train on, and the optimiser's state.
    epochs, batch_size : int
    order : ndarray of int64, or None
        The order of the rows of the next epoch, which `after_epoch` writes anew.
    extras : dict
        l1, l2, dropout and clip_norm, as the native loop takes them.
    generator : ndarray of uint64
        Draws what is dropped.
    after_epoch : callable
        Called with the loss of an epoch, and whether it was the last; returns whether to
        stop.
    """
    settings = _core.FitSettings(
        memory.rate_init,
        epochs,
        batch_size,
        shuffle=False,
        optimizer=memory.name,
        options=memory.options,
        scikit_learn=True,
        rate=memory.rate,
        **extras,
    )

    if not data.is_sparse:
        before = memory.steps

        def on_epoch(epoch: int, step: int, loss: float, *_: object) -> bool:
            memory.steps = before + step
            return after_epoch(loss, epoch)

        result = network.fit(
            params,
            data.x,
            data.t,
            generator,
            settings._replace(weights=data.weights, order=order),
            memory.moments,
            before,
            _core.FitHooks(on_epoch),
        )
        return bool(result.reason != "diverged")

    in_order = np.arange(data.rows)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for piece in data.dense(in_order if order is None else order, batch_size):
            result = network.fit(
                params,
                piece.x,
                piece.t,
                generator,
                settings._replace(epochs=1, weights=piece.weights),
                memory.moments,
                memory.steps,
            )
            memory.steps += result.steps
            if result.reason == "diverged":
                return False
            total += result.losses[0] * piece.rows
        if after_epoch(total / data.rows, epoch):
            break
    return True


def loss_of(network: Any, params: Array, data: Data) -> float:
    """Return an MLP's loss on all rows, without penalties."""
    pieces = data.dense(np.arange(data.rows), 1) if data.is_sparse else [data]
    total = weight = 0.0
    for piece in pieces:
        loss = network.loss(
            params, piece.x, piece.t, weights=piece.weights, scikit_learn=True
        )
        share = piece.weight
        total += share * loss
        weight += share
    return total / weight if weight else 0.0


def objective(
    network: Any, params: Array, data: Data, alpha: float
) -> tuple[float, Array]:
    """Return an MLP's loss on all rows, and its gradient."""
    grads = np.empty_like(params)

    def loss_of_piece(piece: Data, l2: float) -> float:
        loss: float = network.loss_and_grads(
            params,
            grads,
            piece.x,
            piece.t,
            weights=piece.weights,
            l2=l2,
            scikit_learn=True,
        )
        return loss

    if not data.is_sparse:
        return loss_of_piece(data, alpha), grads
    # Each piece takes its share of the penalty too.
    weight = data.weight
    total, sums = 0.0, np.zeros_like(params)
    for piece in data.dense(np.arange(data.rows), 1):
        share = piece.weight
        if share == 0:
            continue  # weighs nothing
        total += loss_of_piece(piece, alpha * share / weight) * (share / weight)
        sums += grads * (share / weight)
    return total, sums


def minimise(
    network: Any,
    params: Array,
    data: Data,
    *,
    alpha: float,
    max_iter: int,
    max_fun: int,
    tol: float,
    verbose: bool,
) -> tuple[int, float]:
    """Run SciPy's L-BFGS-B from the parameters on; return iterations and loss.

    The parameters are changed in place. They, the network and the data are float64.
    """
    n_iter = 0

    def tell(intermediate_result: Any) -> None:
        nonlocal n_iter
        n_iter += 1
        print(f"Iteration {n_iter}, loss = {intermediate_result.fun:.8f}")

    result = scipy.optimize.minimize(
        lambda vector: objective(network, vector, data, alpha),
        params,
        method="L-BFGS-B",
        jac=True,
        callback=tell if verbose else None,
        options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
    )
    params[...] = result.x
    if not result.success:
        warn(
            f"lbfgs stopped before it converged, after {result.nit} iterations: "
            f"{result.message}. More iterations (max_iter) or scaled data may help.",
            ConvergenceWarning,
        )
    return min(int(result.nit), max_iter), float(result.fun)


def rows_as_dense(x: Any) -> Iterator[tuple[slice, Array]]:
    """Yield the rows of a sparse matrix as dense pieces, with where each belongs."""
    together = max(1, DENSE_ELEMENTS // x.shape[1])
    for start in range(0, x.shape[0], together):
        piece = slice(start, min(start + together, x.shape[0]))
        yield piece, x[piece].toarray()
