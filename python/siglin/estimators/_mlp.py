"""MLPClassifier and MLPRegressor, after scikit-learn's."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral, Real
from operator import index
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
)

from siglin._data.arrays import Array, with_owned
from siglin._data.checks import without_subnormals
from siglin._layers import make_generator
from siglin._training.history import TrainingState
from siglin._warnings import warn
from siglin.estimators._labels import Labels
from siglin.estimators._parameters import ACTIVATIONS, Parameters
from siglin.estimators._rows import FLOATS, checked, viewable
from siglin.estimators._solvers import (
    Data,
    Memory,
    loss_of,
    minimise,
    rows_as_dense,
    run_epochs,
)


def _has_steps(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is for the solvers sgd and adam, not lbfgs")
    return True


class BaseMLP(BaseEstimator, ABC):
    """What the two MLPs have in common."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
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

    _random_state: Any

    # ---- what the classes below add --------------------------------------------------

    @abstractmethod
    def _validate(
        self, X: Any, y: Any, *, incremental: bool, reset: bool
    ) -> tuple[Any, Any, Any]:
        """Return the rows, the targets to train on, and how much each row's class counts."""

    @abstractmethod
    def _output(self) -> tuple[str, str, str]:
        """Return out_activation_, and siglin's names of it and of the loss."""

    @abstractmethod
    def _answers(self, outputs: Array) -> Any:
        """Return what the score of early stopping compares."""

    @abstractmethod
    def _validation_score(self, data: Data, y: Any) -> float:
        """Return the score that early stopping goes by."""

    # ---- parameters ------------------------------------------------------------------

    def _initialise(self, sizes: list[int], dtype: Any) -> None:
        """Draw the first weights and biases, in scikit-learn's order."""
        parameters = Parameters(sizes, dtype)
        names = self._activations(len(sizes) - 1)  # the output goes with the last one
        for w, b, name in zip(
            parameters.coefs, parameters.intercepts, names, strict=True
        ):
            bound = np.sqrt((2.0 if name == "logistic" else 6.0) / sum(w.shape))
            w[...] = self._random().uniform(-bound, bound, w.shape)
            b[...] = self._random().uniform(-bound, bound, b.shape)
        self._adopt(parameters)
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

    def _activations(self, count: int) -> list[str]:
        """Return a name for each hidden layer, and go on with the last one."""
        if isinstance(self.activation, str):
            return [self.activation] * count
        names = list(self.activation)
        sizes = self.hidden_layer_sizes
        layers = len(list(sizes)) if isinstance(sizes, Iterable) else 1
        if len(names) != layers or any(name not in ACTIVATIONS for name in names):
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, or one of them for "
                f"each of {layers} hidden layers, got {self.activation!r}"
            )
        return (names + names[-1:] * count)[:count] if names else ["relu"] * count

    def _random(self) -> Any:
        """Return this fit's generator; to seed one takes longer than a step."""
        if self._random_state is None:
            self._random_state = check_random_state(self.random_state)
        return self._random_state

    def _adopt(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.coefs_ = parameters.coefs[:]
        self.intercepts_ = parameters.intercepts[:]

    def _present(self) -> Parameters:
        """Return the parameters, also if the user has put other arrays into coefs_."""
        known: Parameters | None = vars(self).get("_parameters")
        if known is not None and known.are(self.coefs_, self.intercepts_):
            return known
        return Parameters.of(self.coefs_, self.intercepts_)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_parameters", None)  # coefs_ and intercepts_ say it all
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(with_owned(state))
        if "coefs_" in state:
            self._adopt(Parameters.of(self.coefs_, self.intercepts_))

    def _network(self, parameters: Parameters, dtype: Any = None) -> Any:
        hidden = self._activations(len(parameters.coefs) - 1)
        _, output, loss = self._output()
        return parameters.network(hidden, output, loss, dtype)

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
        dtype = dtype or self._parameters.vector.dtype
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
        parameters = self._parameters
        exact = self._data(data.x, data.t, data.weights, np.float64)
        vector = parameters.vector.astype(np.float64)
        self.n_iter_, self.loss_ = minimise(
            self._network(parameters, np.float64),
            vector,
            exact,
            alpha=float(self.alpha),
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            verbose=bool(self.verbose),
        )
        if not np.isfinite(vector).all():
            self._refuse_divergence()
        parameters.vector[...] = vector

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
        parameters = self._parameters
        known: Memory | None = vars(self).get("_memory")
        if known is None or not incremental:
            new = Memory.new(self, parameters.vector.size, parameters.vector.dtype)
            keeps = self.keep_optimizer and not fresh
            self._memory: Memory = known.go_on_as(new) if known and keeps else new
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

        def after_epoch(loss: float, epoch: int) -> bool:
            nonlocal stalled, called_off
            self.n_iter_ = epoch
            self.loss_ = loss
            self.t_ += rows
            self.loss_curve_.append(loss)
            if self.verbose:
                print(f"Iteration {epoch}, loss = {loss:.8f}")
            self._judge(held, held_labels)
            stalled = self._has_stalled()
            called_off = self._calls_back(epoch, loss)
            if stalled or called_off:
                return True
            if epoch < epochs:
                shuffle()
            return False

        shuffle()
        self.n_iter_ = 0
        try:
            finite = run_epochs(
                self._network(parameters),
                parameters.vector,
                data,
                self._memory,
                epochs=epochs,
                batch_size=int(batch_size),
                order=order,
                extras={
                    "l1": float(self.l1),
                    "l2": float(self.alpha),
                    "dropout": float(self.dropout),
                    "clip_norm": float(self.clip_norm or 0),
                },
                generator=self._generator(),
                after_epoch=after_epoch,
            )
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
        # Only the score ends early stopping: what was called off may go on.
        if stops_early and (stalled or not incremental):
            if self._best is not None:
                parameters.vector[...] = self._best
            self.stopped_ = stalled

    def _generator(self) -> Any:
        """Return what draws the units to drop; without dropout nothing is drawn."""
        seed = self._random().randint(2**31) if self.dropout > 0 else 0
        return make_generator("fit", int(seed))

    def _calls_back(self, epoch: int, loss: float) -> bool:
        """Return whether the user's callback wants to stop."""
        if self.callback is None:
            return False
        params = self._parameters.vector.view()
        params.flags.writeable = False
        held = self.validation_loss_curve_[-1] if self.early_stopping else None
        state = TrainingState(epoch, self._memory.steps, loss, params, held)
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
            vector = self._parameters.vector
            loss = loss_of(self._network(self._parameters), vector, held)
            self.validation_loss_curve_.append(loss)
            if self.verbose:
                print(f"Validation score: {score:f}")
            # A score that is NaN is no improvement, and never the best.
            worse = np.isnan(score) or score < self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_ = score
                self._best = self._parameters.vector.copy()
        self._no_improvement = self._no_improvement + 1 if worse else 0

    def _has_stalled(self) -> bool:
        """Return whether to stop; change the step size where that comes first."""
        memory = self._memory
        sgd = self.solver == "sgd"
        if sgd and self.learning_rate == "invscaling":
            memory.set_rate(memory.rate_init / (self.t_ + 1) ** self.power_t)
        if self._no_improvement <= self.n_iter_no_change:
            return False
        what = "validation score" if self.early_stopping else "training loss"
        message = (
            f"The {what} did not improve by more than tol={self.tol:f} for "
            f"{self.n_iter_no_change} epochs in a row."
        )
        if sgd and self.learning_rate == "adaptive" and memory.rate[0] > 1e-6:
            memory.set_rate(memory.rate[0] / 5)
            self._no_improvement = 0
            if self.verbose:
                print(f"{message} The learning rate is now {memory.rate[0]:f}.")
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

    # ---- prediction ------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs for the rows of X."""
        check_is_fitted(self)
        return self._outputs_of(checked(self, X, accept_sparse="csr", reset=False))

    def _outputs_of(self, X: Any) -> Array:
        """Return the outputs in the wider dtype of X and the parameters."""
        parameters = self._present()
        dtype = np.result_type(parameters.vector.dtype, X.dtype)
        network = self._network(parameters, dtype)
        vector = parameters.vector.astype(dtype, copy=False)
        if not issparse(X):
            outputs: Array = network.predict(vector, viewable("X", X, dtype))
            return outputs
        outputs = np.empty((X.shape[0], self.n_outputs_), dtype)
        for piece, x in rows_as_dense(X.tocsr().astype(dtype, copy=False)):
            outputs[piece] = network.predict(vector, x)
        return outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multi-layer perceptron that classifies, as scikit-learn's of that name.

    One output and the binary cross-entropy for two classes or for several labels to a
    row, a softmax for more classes. Changing the import is all that a program needs.

    Parameters
    ----------
    hidden_layer_sizes : array_like of int, or int, default (100,)
        Neurons of each hidden layer.
    activation : str or list of str, default "relu"
        Of all hidden layers, or one for each: "identity", "logistic", "tanh" or "relu".
    solver : str, default "adam"
        "adam", "sgd" (gradient descent with momentum), or "lbfgs" (SciPy's L-BFGS-B on
        all rows at once, in float64 also where the result is float32).
    alpha : float, default 0.0001
        Strength of the penalty alpha w^2 / 2 on the weights, divided by the weight of
        the batch's rows.
    batch_size : int or "auto", default "auto"
        Rows to a step, not with lbfgs; "auto" is 200, or all if they are fewer.
    learning_rate : str, default "constant"
        With sgd: "constant"; "invscaling" divides the first step size by (t_ + 1) to
        the power of ``power_t`` after each epoch; "adaptive" divides it by 5 where the
        training would have stopped, until it is 1e-6.
    learning_rate_init : float, default 0.001
        The first step size.
    power_t : float, default 0.5
        See ``learning_rate``.
    max_iter : int, default 200
        Epochs at most, or iterations of lbfgs.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None
        Draws the first weights, the rows held out and the shuffles, the same numbers
        in the same order as scikit-learn's class.
    tol : float, default 1e-4
        An epoch that does not improve by more is one without improvement. With lbfgs,
        the size of the projected gradient at which to stop.
    verbose : bool, default False
        Whether to print each epoch's loss.
    warm_start : bool, default False
        Whether `fit` goes on from the weights it finds.
    momentum : float, default 0.9
        With sgd, how much of the last step stays, in [0, 1].
    nesterovs_momentum : bool, default True
        Whether the momentum is Nesterov's.
    early_stopping : bool, default False
        Whether to hold rows out, to count improvements of the score on them instead of
        those of the training loss, and to end with the weights of the best score. With
        `partial_fit`, the rows held out of its first call judge every call, and those
        after ``stopped_`` change nothing.
    validation_fraction : float, default 0.1
        How much to hold out, in [0, 1).
    beta_1, beta_2 : float, default 0.9 and 0.999
        With adam, how much of the averages of g and g^2 stays, in [0, 1).
    epsilon : float, default 1e-8
        With adam, what keeps its division finite.
    n_iter_no_change : int, default 10
        Stop after more epochs in a row than this without improvement.
    max_fun : int, default 15000
        Evaluations of the loss by lbfgs at most.
    class_weight : dict, "balanced" or None
        How much each class counts; "balanced" makes all count alike.
    l1 : float, default 0.0
        Strength of the penalty l1 |w|, counted as ``alpha``'s; not with lbfgs. This and
        what follows scikit-learn does not have.
    dropout : float, default 0.0
        Each step drops each output of a hidden layer with this probability, in [0, 1),
        and divides the others by 1 - dropout; not with lbfgs.
    clip_norm : float, optional
        Gradients of a larger 2-norm are scaled to this one; not with lbfgs.
    keep_optimizer : bool, default False
        Whether a fit with ``warm_start`` goes on with the optimiser's momentum and step
        size too; one with another optimiser or other settings of it starts anew, a new
        ``learning_rate_init`` is taken up.
    callback : callable, optional
        Called after each epoch with a state of ``epoch``, ``step``, ``loss``,
        ``params`` (read-only) and ``validation_loss``; returning True stops. Not with
        lbfgs.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        The weights (n_in, n_out) and biases (n_out,) of each layer. What is written
        into them is what `predict` uses.
    loss_ : float
        Of the last epoch: the mean over its rows of the loss before each update, with
        the penalty.
    loss_curve_ : list of float
        That of every epoch; not with lbfgs.
    best_loss_ : float or None
        The smallest of them; None with early stopping.
    validation_scores_, best_validation_score_
        With early stopping, the scores of the epochs, and the best; else None.
    validation_loss_curve_ : list of float
        With early stopping, the loss of the rows held out, after each epoch.
    stopped_ : bool
        With early stopping, whether the score ended the training.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows seen.
    n_layers_, n_outputs_ : int
    out_activation_ : str
        "softmax" for more than two classes, else "logistic".
    classes_ : ndarray, shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X had names for its columns, all of them str.

    Raises
    ------
    ValueError
        If a parameter is out of range, X or y is not what it can train on, or the
        weights become infinite.

    Warns
    -----
    ConvergenceWarning
        If the training ends with ``max_iter``.

    Notes
    -----
    The same ``random_state`` gives the same model as scikit-learn's class to rounding;
    a loss differs where probabilities are so near 0 or 1 that scikit-learn has rounded
    them. The loop is native: sparse rows are made dense a few batches at a time, and
    Ctrl-C ends a fit with a warning, at the weights of the last whole step.
    Where sparse rows are very wide, that takes longer than scikit-learn's products.
    `partial_fit` pays up to 1 ms for scikit-learn's checks before its first step; a loop
    that learns from single rows in microseconds is `siglin.Network`'s.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from siglin.estimators import MLPClassifier
    >>> x, y = load_breast_cancer(return_X_y=True)
    >>> mlp = MLPClassifier((8,), random_state=0, max_iter=1000)
    >>> model = make_pipeline(StandardScaler(), mlp).fit(x, y)
    >>> model.score(x, y) > 0.98
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        l1: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
        keep_optimizer: bool = False,
        callback: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.class_weight = class_weight
        self.l1 = l1
        self.dropout = dropout
        self.clip_norm = clip_norm
        self.keep_optimizer = keep_optimizer
        self.callback = callback

    def _validate(
        self, X: Any, y: Any, *, incremental: bool, reset: bool
    ) -> tuple[Any, Any, Any]:
        X, y = self._pair(X, y, reset=reset)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._encoder = Labels(y)
            self.classes_ = self._encoder.classes
        codes = self._encoder.codes(y)
        if codes is None or self.warm_start:
            classes = unique_labels(y)
            if self.warm_start and set(classes) != set(self.classes_):
                raise ValueError(
                    f"warm_start needs the same classes as the fit before, "
                    f"{self.classes_}; y has {classes}"
                )
            if not np.isin(classes, self.classes_).all():
                raise ValueError(
                    f"y has classes that are not in classes_: {classes} against "
                    f"{self.classes_}"
                )
        by_class = None
        if self.class_weight is not None:
            if incremental and self.class_weight == "balanced":
                raise ValueError(
                    'partial_fit cannot tell what is "balanced"; give class_weight as a '
                    "dict"
                )
            if incremental and y.ndim == 1:  # not every class has to be in these rows
                each = compute_class_weight(
                    self.class_weight, classes=self.classes_, y=self.classes_
                )
                by_class = each[np.searchsorted(self.classes_, y)]
            else:
                by_class = compute_sample_weight(self.class_weight, y)
        return X, self._encoder.encode(y, codes), by_class

    def _output(self) -> tuple[str, str, str]:
        if self._encoder.kind == "multiclass":
            return "softmax", "softmax", "cross_entropy"
        return "logistic", "sigmoid", "bce"

    def _answers(self, outputs: Array) -> Any:
        return self._encoder.decide(outputs)

    def _validation_score(self, data: Data, y: Any) -> float:
        """Return the accuracy; of several labels, all of a row have to be right."""
        right = self._answers(self._outputs_of(data.x)) == y
        if right.ndim == 2:
            right = right.all(axis=1)
        return float(np.average(right, weights=data.weights))

    def predict(self, X: Any) -> Any:
        """Return the class of each row, or its labels.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_classes)
            Labels of a row are a sparse matrix where those that were trained on are.
        """
        outputs = self._outputs(X)  # first: it says what is not fitted yet
        return self._encoder.decode(outputs)

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, in the order of classes_.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        outputs = self._outputs(X)
        if self.n_outputs_ == 1:
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        return outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        log_proba: Array = np.log(self.predict_proba(X))
        return log_proba

    @available_if(_has_steps)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> Any:
        """Go on training with one epoch of these rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like, optional
            All classes there will ever be; needed in the first call, unless y is an
            indicator matrix of labels, which has a column for each.

        Returns
        -------
        self
        """
        begun = hasattr(self, "classes_")
        many = not begun and type_of_target(y).startswith("multilabel")
        if many and classes is None:
            classes = np.arange(np.shape(y)[1])
        if _check_partial_fit_first_call(self, classes):
            self._encoder = Labels(y if many else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multi-layer perceptron that predicts numbers, as scikit-learn's of that name.

    Changing the import is all that a program needs.

    Parameters
    ----------
    loss : str, default "squared_error"
        Half the squared error, or "poisson": half the Poisson deviance of an output
        that is an exponential; y >= 0.
    hidden_layer_sizes : array_like of int, or int, default (100,)
        Neurons of each hidden layer.
    activation : str or list of str, default "relu"
        Of all hidden layers, or one for each: "identity", "logistic", "tanh" or "relu".
    solver : str, default "adam"
        "adam", "sgd" (gradient descent with momentum), or "lbfgs" (SciPy's L-BFGS-B on
        all rows at once, in float64 also where the result is float32).
    alpha : float, default 0.0001
        Strength of the penalty alpha w^2 / 2 on the weights, divided by the weight of
        the batch's rows.
    batch_size : int or "auto", default "auto"
        Rows to a step, not with lbfgs; "auto" is 200, or all if they are fewer.
    learning_rate : str, default "constant"
        With sgd: "constant"; "invscaling" divides the first step size by (t_ + 1) to
        the power of ``power_t`` after each epoch; "adaptive" divides it by 5 where the
        training would have stopped, until it is 1e-6.
    learning_rate_init : float, default 0.001
        The first step size.
    power_t : float, default 0.5
        See ``learning_rate``.
    max_iter : int, default 200
        Epochs at most, or iterations of lbfgs.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None
        Draws the first weights, the rows held out and the shuffles, the same numbers
        in the same order as scikit-learn's class.
    tol : float, default 1e-4
        An epoch that does not improve by more is one without improvement. With lbfgs,
        the size of the projected gradient at which to stop.
    verbose : bool, default False
        Whether to print each epoch's loss.
    warm_start : bool, default False
        Whether `fit` goes on from the weights it finds.
    momentum : float, default 0.9
        With sgd, how much of the last step stays, in [0, 1].
    nesterovs_momentum : bool, default True
        Whether the momentum is Nesterov's.
    early_stopping : bool, default False
        Whether to hold rows out, to count improvements of the score on them instead of
        those of the training loss, and to end with the weights of the best score. With
        `partial_fit`, the rows held out of its first call judge every call, and those
        after ``stopped_`` change nothing.
    validation_fraction : float, default 0.1
        How much to hold out, in [0, 1).
    beta_1, beta_2 : float, default 0.9 and 0.999
        With adam, how much of the averages of g and g^2 stays, in [0, 1).
    epsilon : float, default 1e-8
        With adam, what keeps its division finite.
    n_iter_no_change : int, default 10
        Stop after more epochs in a row than this without improvement.
    max_fun : int, default 15000
        Evaluations of the loss by lbfgs at most.
    l1 : float, default 0.0
        Strength of the penalty l1 |w|, counted as ``alpha``'s; not with lbfgs. This and
        what follows scikit-learn does not have.
    dropout : float, default 0.0
        Each step drops each output of a hidden layer with this probability, in [0, 1),
        and divides the others by 1 - dropout; not with lbfgs.
    clip_norm : float, optional
        Gradients of a larger 2-norm are scaled to this one; not with lbfgs.
    keep_optimizer : bool, default False
        Whether a fit with ``warm_start`` goes on with the optimiser's momentum and step
        size too; one with another optimiser or other settings of it starts anew, a new
        ``learning_rate_init`` is taken up.
    callback : callable, optional
        Called after each epoch with a state of ``epoch``, ``step``, ``loss``,
        ``params`` (read-only) and ``validation_loss``; returning True stops. Not with
        lbfgs.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        The weights (n_in, n_out) and biases (n_out,) of each layer. What is written
        into them is what `predict` uses.
    loss_ : float
        Of the last epoch: the mean over its rows of the loss before each update, with
        the penalty.
    loss_curve_ : list of float
        That of every epoch; not with lbfgs.
    best_loss_ : float or None
        The smallest of them; None with early stopping.
    validation_scores_, best_validation_score_
        With early stopping, the scores of the epochs, and the best; else None.
    validation_loss_curve_ : list of float
        With early stopping, the loss of the rows held out, after each epoch.
    stopped_ : bool
        With early stopping, whether the score ended the training.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows seen.
    n_layers_, n_outputs_ : int
    out_activation_ : str
        "identity", or "exp" for "poisson".
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X had names for its columns, all of them str.

    Raises
    ------
    ValueError
        If a parameter is out of range, X or y is not what it can train on, or the
        weights become infinite.

    Warns
    -----
    ConvergenceWarning
        If the training ends with ``max_iter``.

    Notes
    -----
    The same ``random_state`` gives the same model as scikit-learn's class to rounding;
    a loss differs where probabilities are so near 0 or 1 that scikit-learn has rounded
    them. The loop is native: sparse rows are made dense a few batches at a time, and
    Ctrl-C ends a fit with a warning, at the weights of the last whole step.
    Where sparse rows are very wide, that takes longer than scikit-learn's products.
    `partial_fit` pays some 0.3 ms for scikit-learn's checks before its first step; a loop
    that learns from single rows in microseconds is `siglin.Network`'s.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from siglin.estimators import MLPRegressor
    >>> x, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(
    ...     hidden_layer_sizes=8, solver="lbfgs", random_state=0, max_iter=2000
    ... )
    >>> model.fit(x, y).score(x, y) > 0.5
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        l1: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
        keep_optimizer: bool = False,
        callback: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.l1 = l1
        self.dropout = dropout
        self.clip_norm = clip_norm
        self.keep_optimizer = keep_optimizer
        self.callback = callback

    def _validate(
        self,
        X: Any,
        y: Any,
        *,
        incremental: bool,  # noqa: ARG002
        reset: bool,
    ) -> tuple[Any, Any, Any]:
        X, y = self._pair(X, y, reset=reset, y_numeric=True)
        if y.dtype.kind not in "biuf":
            raise ValueError(f"y must be numbers, got {y.dtype}")
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f'loss="poisson" needs y >= 0, got {y.min()}')
        return X, y, None

    def _output(self) -> tuple[str, str, str]:
        if self.loss == "poisson":
            return "exp", "exp", "poisson"
        return "identity", "identity", "squared_error"

    def _answers(self, outputs: Array) -> Any:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _validation_score(self, data: Data, y: Any) -> float:
        predicted = self._answers(self._outputs_of(data.x))
        if not np.isfinite(predicted).all():
            return np.nan
        return float(r2_score(y, predicted, sample_weight=data.weights))

    def predict(self, X: Any) -> Any:
        """Return the outputs for each row.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._answers(self._outputs(X))

    @available_if(_has_steps)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Go on training with one epoch of these rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)
