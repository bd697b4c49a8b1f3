"""How an MLP is trained: steps by batches in the native loop, or SciPy's L-BFGS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from siglin._data.arrays import Array, with_owned
from siglin._data.sparse import Rows, rows_of
from siglin._network import Network
from siglin._training import engine
from siglin._training.hooks import Hooks
from siglin._training.optimizers import (
    Adam,
    GradientDescent,
    Momentum,
    Nesterov,
    Optimizer,
    check_held,
)
from siglin._training.settings import Settings
from siglin._warnings import warn


@dataclass
class Stepper:
    """An optimiser and its step size, which go on from fit to fit.

    Attributes
    ----------
    optimizer : Optimizer
    rate_init : float
        The first step size.
    rate : ndarray, shape (1,)
        The present one.
    """

    optimizer: Optimizer
    rate_init: float
    rate: Any

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(with_owned(state))

    @classmethod
    def new(cls, estimator: Any, dtype: Any) -> "Stepper":
        """Return one that has not begun, of an MLP's parameters."""
        given = estimator.learning_rate_init
        rate = float(given(0) if callable(given) else given)
        if isinstance(estimator.solver, Optimizer):
            optimizer = estimator.solver
            optimizer.check_dtype(dtype)
            if optimizer.lr is not None:
                rate = optimizer.lr
            return cls(optimizer, rate, np.array([rate]))
        # Without the bounds of siglin's constructors: scikit-learn takes a momentum of 1,
        # and its eps is not scaled.
        if estimator.solver == "adam":
            beta1, beta2 = float(estimator.beta_1), float(estimator.beta_2)
            eps = float(estimator.epsilon)
            check_held("beta_1", beta1, dtype)
            check_held("beta_2", beta2, dtype)
            check_held("epsilon", eps, dtype, float(np.finfo(dtype).tiny))
            optimizer = Adam.unchecked(beta1=beta1, beta2=beta2, eps=eps)
        elif estimator.momentum == 0:
            optimizer = GradientDescent()
        else:
            kind: type[Optimizer] = (
                Nesterov if estimator.nesterovs_momentum else Momentum
            )
            optimizer = kind.unchecked(momentum=float(estimator.momentum))
        return cls(optimizer, rate, np.array([rate]))

    def go_on_as(self, new: "Stepper") -> "Stepper":
        """Return self with new's step size, or new if that is another optimiser's."""
        ours, theirs = self.optimizer, new.optimizer
        if (ours.name, ours.options) != (theirs.name, theirs.options):
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
        velocity = self.optimizer.moments
        if velocity is not None and self.optimizer.name in ("momentum", "nesterov"):
            velocity *= self.rate[0] / rate
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

    @property
    def inputs(self) -> Rows:
        """The rows as the native loop takes them."""
        if isinstance(self.x, np.ndarray):
            return self.x
        return rows_of(self.x, self.t.dtype)


class Epochs(Hooks):
    """The hooks of an MLP's training, which sees every epoch.

    Parameters
    ----------
    rate : ndarray, shape (1,)
        The present step size.
    order : ndarray of int64, or None
        The order of the rows of the next epoch, which `after_epoch` writes anew.
    after_epoch : callable
        Called with the number of the epoch, the steps so far and the epoch's loss;
        returns whether to stop.
    """

    interval = 0.0

    def __init__(
        self, rate: Any, order: Any, after_epoch: Callable[[int, int, float], bool]
    ) -> None:
        self.rate = rate
        self.order = order
        self.after_epoch = after_epoch

    def on_epoch(
        self,
        epoch: int,
        step: int,
        loss: float,
        validation_loss: float | None = None,  # noqa: ARG002
        last: bool = False,  # noqa: ARG002
    ) -> bool:
        """Return whether to stop after this epoch."""
        return self.after_epoch(epoch, step, loss)


def run_epochs(
    network: Network, settings: Settings, data: Data, hooks: Epochs, generator: Any
) -> bool:
    """Train on rows; return whether the parameters stayed finite."""
    result = engine.run(
        network, settings, data.inputs, data.t, generator, data.weights, hooks
    )
    return result.reason != "diverged"


def warn_if_saturated(network: Network, loss: float, epochs: int, data: Data) -> None:
    """Warn of a hidden layer that cannot learn any more, as `Network.fit` does."""
    if network.loss_name == "squared_error":
        loss *= data.t.shape[1]  # scikit-learn's is the mean over the outputs
    rows_seen = data.rows * epochs
    engine.warn_if_saturated(network, loss, rows_seen, data.inputs, data.t)


def loss_of(network: Network, data: Data) -> float:
    """Return an MLP's loss on all rows, without penalties."""
    return network._native.loss(
        network._parameters,
        data.inputs,
        data.t,
        weights=data.weights,
        scikit_learn=True,
    )


def objective(
    network: Network, params: Array, data: Data, alpha: float
) -> tuple[float, Array]:
    """Return the loss of a network with these parameters on all rows, and its gradient."""
    grads = np.empty_like(params)
    loss = network._native.loss_and_grads(
        params,
        grads,
        data.inputs,
        data.t,
        weights=data.weights,
        l2=alpha,
        scikit_learn=True,
    )
    return loss, grads


def minimise(
    network: Network,
    data: Data,
    *,
    alpha: float,
    max_iter: int,
    max_fun: int,
    tol: float,
    verbose: bool,
) -> tuple[int, float]:
    """Run SciPy's L-BFGS-B from the network's parameters on; return iterations and loss.

    The parameters are changed in place. The network and the data are float64.
    """
    n_iter = 0

    def tell(intermediate_result: Any) -> None:
        nonlocal n_iter
        n_iter += 1
        print(f"Iteration {n_iter}, loss = {intermediate_result.fun:.8f}")

    result = scipy.optimize.minimize(
        lambda vector: objective(network, vector, data, alpha),
        network.params,
        method="L-BFGS-B",
        jac=True,
        callback=tell if verbose else None,
        options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
    )
    network.params[...] = result.x
    if not result.success:
        warn(
            f"lbfgs stopped before it converged, after {result.nit} iterations: "
            f"{result.message}. More iterations (max_iter) or scaled data may help.",
            ConvergenceWarning,
        )
    return min(int(result.nit), max_iter), float(result.fun)
