"""What MLPClassifier and MLPRegressor have in common, after scikit-learn's."""

from abc import abstractmethod
from collections.abc import Iterable
from numbers import Integral, Real
from operator import index
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

from siglin._data.arrays import Array, check_positive
from siglin._data.rows import without_subnormals
from siglin._layers import make_generator
from siglin._training.history import TrainingState
from siglin._training.optimizers import Optimizer
from siglin._training.settings import Settings
from siglin._warnings import warn
from siglin.estimators._checked import FLOATS, checked, viewable
from siglin.estimators._solvers import (
    Data,
    Epochs,
    Stepper,
    loss_of,
    minimise,
    run_epochs,
    warn_if_saturated,
)
from siglin.estimators._weights import ACTIVATIONS, HasNetwork


def has_steps(estimator: Any) -> bool:
    """Return True, or raise AttributeError where a solver takes no single epochs."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is for the solvers sgd and adam, not lbfgs")
    return True


class BaseMLP(HasNetwork):
    """What the two MLPs have in common."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), callable],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "keep_optimizer": ["boolean"],
        "callback": [callable, None],
    }

    solver: str | Optimizer
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: Any
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    l1: float
    dropout: float
    clip_norm: float | None
    keep_optimizer: bool
    callback: Any

    _random_state: Any

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set an attribute for each parameter of a constructor, given its locals()."""
        for name, value in parameters.items():
            if name not in {"self", "__class__"}:
                setattr(self, name, value)

    # ---- what the classes below add --------------------------------------------------

    @abstractmethod
    def _validate(
        self, X: Any, y: Any, *, incremental: bool, reset: bool
    ) -> tuple[Any, Any, Any]:
        """Return the rows, the targets to train on, and how much each row's class counts."""

    @abstractmethod
    def _answers(self, outputs: Array) -> Any:
        """Return what the score of early stopping compares."""

    @abstractmethod
    def _validation_score(self, data: Data, y: Any) -> float:
        """Return the score that early stopping goes by."""

    # ---- parameters ------------------------------------------------------------------

    def _initialise(self, sizes: list[int], dtype: Any) -> None:
        """Draw the first weights and biases, in scikit-learn's order."""
        network = self._new_network(sizes, dtype)
        names = self._activations(len(sizes) - 1)  # the output goes with the last one
        for layer, name in zip(network.layers, names, strict=True):
            bound = np.sqrt((2.0 if name == "logistic" else 6.0) / sum(layer.w.shape))
            layer.w[...] = self._random().uniform(-bound, bound, layer.w.shape)
            layer.b[...] = self._random().uniform(-bound, bound, layer.n_out)  # type: ignore[index]
        self._adopt(network)
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output()[0]
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self._begin_to_judge()

    def _begin_to_judge(self) -> None:
        """Forget which epochs were good, for a fit with or without early stopping."""
        stops_early = self.early_stopping
        self._no_improvement = 0
        self.best_loss_: Any = None if stops_early else np.inf
        self.best_validation_score_: Any = -np.inf if stops_early else None
        self.validation_scores_: Any = [] if stops_early else None
        self._best: Array | None = None  # of the best score, once there is one
        if stops_early:
            self.validation_loss_curve_: list[float] = []
            self.stopped_ = False
            self._held: Data | None = None
            self._held_answers: Any = None
        else:
            for name in (
                "validation_loss_curve_",
                "stopped_",
                "_held",
                "_held_answers",
            ):
                self.__dict__.pop(name, None)

    def _judges_otherwise(self) -> bool:
        """Return whether the fit before had no steps, or another early_stopping."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            return True
        return (self.best_loss_ is None) != bool(self.early_stopping)

    def _random(self) -> Any:
        """Return this fit's generator; to seed one takes longer than a step."""
        if self._random_state is None:
            self._random_state = check_random_state(self.random_state)
        return self._random_state

    # ---- training --------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Any:
        sizes = self.hidden_layer_sizes
        hidden = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        if any(size <= 0 for size in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}")
        fresh = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if self.solver == "lbfgs" and (
            self.l1 > 0
            or self.dropout > 0
            or self.clip_norm is not None
            or self.callback is not None
        ):
            raise ValueError(
                "l1, dropout, clip_norm and callback are for the solvers sgd and adam, "
                "not lbfgs"
            )
        X, targets, by_class = self._validate(
            X, y, incremental=incremental, reset=fresh
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        if by_class is not None:
            sample_weight = by_class * (1 if sample_weight is None else sample_weight)
        if targets.ndim == 1:
            targets = targets.reshape(-1, 1)
        self.n_outputs_ = targets.shape[1]
        self._random_state = None
        if fresh:
            self._initialise(
                [X.shape[1], *(index(n) for n in hidden), self.n_outputs_], X.dtype
            )
        else:
            self._adopt(self._present())
            if self.solver != "lbfgs" and self._judges_otherwise():
                self._begin_to_judge()
        if self.coefs_[-1].shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {self.n_outputs_} outputs; this model was begun with "
                f"{self.coefs_[-1].shape[1]}"
            )
        data = self._data(X, targets, sample_weight)
        if self.solver == "lbfgs":
            self._fit_lbfgs(data)
        else:
            self._fit_by_steps(data, fresh=fresh, incremental=incremental)
        return self

    def _pair(self, X: Any, y: Any, **options: bool) -> tuple[Any, Any]:
        """Return rows and targets as scikit-learn checks them."""
        if not options["reset"] and self._is_plain(X, y):
            return X, y
        X, y = checked(self, X, y, accept_sparse="csr", multi_output=True, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _is_plain(self, X: Any, y: Any) -> bool:
        """Return whether X and y are arrays that all of those checks let pass.

        They take longer than the rest of a step on one row.
        """
        return (
            type(X) is np.ndarray
            and type(y) is np.ndarray
            and X.ndim == 2
            and X.dtype in FLOATS
            and X.shape[1] == vars(self).get("n_features_in_")
            and not hasattr(self, "feature_names_in_")
            and y.shape == X.shape[:1] != (0,)
            and y.dtype.kind in "biufU"
            and bool(np.isfinite(X).all())
            and (y.dtype.kind != "f" or bool(np.isfinite(y).all()))
        )

    def _data(self, X: Any, targets: Any, weights: Any, dtype: Any = None) -> Data:
        """Return rows as the native loop takes them."""
        dtype = dtype or self._network.dtype
        if issparse(X):
            x = X.tocsr().astype(dtype, copy=False)
        else:
            x = viewable("X", X, dtype)
        t = viewable("y", targets, dtype)
        if weights is not None:
            weights = self._weights(weights, np.dtype(dtype))
        return Data(x, t, weights)

    @staticmethod
    def _weights(weights: Any, dtype: Any) -> Array:
        """Return weights of rows, unless their sum is out of the dtype's range.

        They are not scaled: penalties are divided by that sum.
        """
        with np.errstate(over="ignore"):
            given = np.sum(weights, dtype=np.float64)
            array: Array = viewable("sample_weight", weights, dtype)
            array = without_subnormals(array, dtype)
            total = array.sum(dtype=np.float64)
        if given == 0:
            raise ValueError("sample_weight sums to zero")
        limits = np.finfo(dtype)
        if not float(limits.tiny) <= abs(total) <= float(limits.max):
            raise ValueError(
                f"sample_weight sums to {given:.3g}; in {dtype} it must be from "
                f"{limits.tiny:.3g} to {limits.max:.3g}, of numbers from "
                f"{limits.tiny:.3g} on"
            )
        return array

    def _fit_lbfgs(self, data: Data) -> None:
        # In float64 whatever the data: the line search compares losses that differ by
        # less than a float32 shows.
        network = self._network.astype(np.float64)
        self.n_iter_, self.loss_ = minimise(
            network,
            self._data(data.x, data.t, data.weights, np.float64),
            alpha=float(self.alpha),
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            verbose=bool(self.verbose),
        )
        if not np.isfinite(network.params).all():
            self._refuse_divergence()
        self._network.params[...] = network.params

    @staticmethod
    def _refuse_divergence() -> None:
        raise ValueError(
            "Solver produced non-finite parameter weights; the last finite ones are "
            "kept. Scaled data or a smaller step may help"
        )

    def _hold_out(self, data: Data) -> tuple[Data, Data, Any]:
        """Return the rows to train on, those to validate with, and their labels."""
        classifies = isinstance(self, ClassifierMixin)
        arrays = [data.x, data.t]
        if data.weights is not None:
            arrays.append(data.weights)
        parts = train_test_split(
            *arrays,
            random_state=self._random(),
            test_size=self.validation_fraction,
            stratify=data.t if classifies and self.n_outputs_ == 1 else None,
        )
        train, held = Data(*parts[::2]), Data(*parts[1::2])
        if held.rows < 2:
            raise ValueError(
                f"validation_fraction leaves {held.rows} rows to validate with; at "
                f"least 2 are needed"
            )
        return train, held, self._answers(held.t)

    def _fit_by_steps(self, data: Data, *, fresh: bool, incremental: bool) -> None:
        network = self._network
        known: Stepper | None = vars(self).get("_stepper")
        if known is None or not incremental:
            new = Stepper.new(self, network.dtype)
            # An object brings its own memory.
            by_name = isinstance(self.solver, str)
            keeps = self.keep_optimizer and not fresh and by_name
            self._stepper: Stepper = known.go_on_as(new) if known and keeps else new
        stops_early = self.early_stopping
        held = held_labels = None
        if stops_early and incremental:
            # The rows held out of the first call judge all of them.
            if self._held is None:
                data, self._held, self._held_answers = self._hold_out(data)
                self._no_improvement, self.stopped_ = 0, False
                self.best_validation_score_, self._best = -np.inf, None
            if self.stopped_:
                return
            held, held_labels = self._held, self._held_answers
        elif stops_early:
            data, held, held_labels = self._hold_out(data)
        rows = data.rows
        batch_size = min(200, rows) if self.batch_size == "auto" else self.batch_size
        if batch_size > rows:
            warn(
                f"batch_size is {batch_size}, more than the {rows} rows there are: "
                f"all of them are one batch"
            )
            batch_size = rows
        epochs = 1 if incremental else self.max_iter
        order = None
        if self.shuffle and rows > 1:  # nothing is drawn for one row
            order = np.arange(rows, dtype=np.int64)

        def shuffle() -> None:
            if order is not None:
                # As sklearn.utils.shuffle draws it: a permutation of the last order.
                drawn = np.arange(rows)
                self._random().shuffle(drawn)
                order[...] = order[drawn]

        stalled = called_off = False

        before = self._stepper.optimizer.step_count

        def after_epoch(epoch: int, step: int, loss: float) -> bool:
            nonlocal stalled, called_off
            self.n_iter_ = epoch
            self.loss_ = loss
            self.t_ += rows
            self.loss_curve_.append(loss)
            if self.verbose:
                print(f"Iteration {epoch}, loss = {loss:.8f}")
            self._judge(held, held_labels)
            stalled = self._has_stalled()
            called_off = self._calls_back(epoch, before + step, loss)
            if stalled or called_off:
                return True
            if epoch < epochs:
                if callable(self.learning_rate_init):
                    rate = self.learning_rate_init(epoch)
                    self._stepper.rate[0] = check_positive(
                        "fit", "learning_rate_init", rate
                    )
                shuffle()
            return False

        shuffle()
        self.n_iter_ = 0
        settings = Settings(
            "fit",
            self._stepper.rate_init,
            self._stepper.optimizer,
            epochs=epochs,
            batch_size=int(batch_size),
            shuffle=False,
            l1=float(self.l1),
            l2=float(self.alpha),
            dropout=float(self.dropout),
            clip_norm=None if self.clip_norm is None else float(self.clip_norm),
            scikit_learn=True,
        )
        hooks = Epochs(self._stepper.rate, order, after_epoch)
        try:
            finite = run_epochs(network, settings, data, hooks, self._generator())
        except KeyboardInterrupt:
            warn("Training was interrupted.")
            finite = called_off = True
        if not finite:
            self._refuse_divergence()
        ended = stalled or called_off
        if self.n_iter_ == self.max_iter and not incremental and not ended:
            warn(
                f"max_iter={self.max_iter} epochs were run, and the training has not "
                f"converged yet",
                ConvergenceWarning,
            )
        # A stop by the callback does not end early stopping: partial_fit may go on.
        if stops_early and (stalled or not incremental):
            if self._best is not None:
                network.params[...] = self._best
            self.stopped_ = stalled
        if self.n_iter_ > 0:
            warn_if_saturated(network, self.loss_, self.n_iter_, data)

    def _generator(self) -> Any:
        """Return what draws the units to drop; without dropout nothing is drawn."""
        seed = self._random().randint(2**31) if self.dropout > 0 else 0
        return make_generator("fit", int(seed))

    def _calls_back(self, epoch: int, step: int, loss: float) -> bool:
        """Return whether the user's callback wants to stop."""
        if self.callback is None:
            return False
        params = self._network.params.view()
        params.flags.writeable = False
        held = self.validation_loss_curve_[-1] if self.early_stopping else None
        state = TrainingState(epoch, step, loss, params, held)
        return bool(self.callback(state))

    def _judge(self, held: Data | None, labels: Any) -> None:
        """Count the epochs without improvement, and keep the best so far."""
        if held is None:
            loss = self.loss_curve_[-1]
            worse = loss > self.best_loss_ - self.tol
            self.best_loss_ = min(loss, self.best_loss_)
        else:
            score = self._validation_score(held, labels)
            self.validation_scores_.append(score)
            loss = loss_of(self._network, held)
            self.validation_loss_curve_.append(loss)
            if self.verbose:
                print(f"Validation score: {score:f}")
            # A score that is NaN is no improvement, and never the best.
            worse = np.isnan(score) or score < self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_ = score
                self._best = self._network.params.copy()
        self._no_improvement = self._no_improvement + 1 if worse else 0

    def _has_stalled(self) -> bool:
        """Return whether to stop; change the step size where that comes first."""
        stepper = self._stepper
        sgd = stepper.optimizer.name != "adam"
        if sgd and self.learning_rate == "invscaling":
            stepper.set_rate(stepper.rate_init / (self.t_ + 1) ** self.power_t)
        if self._no_improvement <= self.n_iter_no_change:
            return False
        what = "validation score" if self.early_stopping else "training loss"
        message = (
            f"The {what} did not improve by more than tol={self.tol:f} for "
            f"{self.n_iter_no_change} epochs in a row."
        )
        if sgd and self.learning_rate == "adaptive" and stepper.rate[0] > 1e-6:
            stepper.set_rate(stepper.rate[0] / 5)
            self._no_improvement = 0
            if self.verbose:
                print(f"{message} The learning rate is now {stepper.rate[0]:f}.")
            return False
        if self.verbose:
            print(f"{message} Stopping.")
        return True

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X and y.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)
            float32 is trained in float32, everything else in float64.
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
            Class labels, an indicator matrix of labels, or numbers.
        sample_weight : array_like, shape (n_samples,), optional
            How much each row counts.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
