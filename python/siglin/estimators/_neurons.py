"""NeuronClassifier and PerceptronClassifier: single neurons as estimators."""

from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
)

from siglin._data.arrays import Array, with_owned
from siglin._functions import forward, sigmoid
from siglin._network import Network
from siglin._neuron import Perceptron
from siglin._training.optimizers import OPTIMIZERS, Optimizer
from siglin._warnings import warn
from siglin.errors import DivergenceError
from siglin.estimators._checked import checked


class _Neurons(ClassifierMixin, BaseEstimator):
    """One neuron for two classes, or one for each of more, against all others."""

    _sparse: str | bool = False  # what of sparse rows it takes, as scikit-learn says it

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(with_owned(state))

    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        X, y = checked(self, X, y, accept_sparse=self._sparse)
        check_classification_targets(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=X.dtype, ensure_non_negative=True
            )
        binarizer = LabelBinarizer().fit(y)
        if binarizer.y_type_ not in ("binary", "multiclass"):
            raise ValueError(f"y must be one class for each row, got {y.shape}")
        self.classes_ = binarizer.classes_
        if len(self.classes_) < 2:
            raise ValueError(f"y must have more than one class, got {self.classes_}")
        targets = np.ascontiguousarray(binarizer.transform(y), X.dtype)
        X = X if issparse(X) else np.ascontiguousarray(X)
        self._learn(X, targets, y, sample_weight)
        return self

    @abstractmethod
    def _learn(self, X: Array, targets: Array, y: Any, sample_weight: Any) -> None:
        """Set coef_, intercept_ and the rest; targets (rows, neurons) are 0 or 1."""

    def decision_function(self, X: Any) -> Array:
        """Return z = x @ w + b of each neuron.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_classes)
            One number for each row where there are two classes: > 0 is the second.
        """
        check_is_fitted(self)
        X = checked(self, X, reset=False, accept_sparse=self._sparse)
        dtype = self.coef_.dtype
        w = np.ascontiguousarray(self.coef_.T)
        X = X.astype(dtype, copy=False)
        z: Array
        if issparse(X):
            z = X @ w + self.intercept_
        else:
            z = forward(X, w, self.intercept_, activation="identity")
        return z.ravel() if z.shape[1] == 1 else z

    def predict(self, X: Any) -> Any:
        """Return the class of each row.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]


class NeuronClassifier(_Neurons):
    """The logistic neuron, trained by gradient descent from zero.

    Two classes are one neuron: logistic regression. More are one neuron for each class
    against all others.

    Parameters
    ----------
    lr : float or callable, optional
        Step size, dimensionless, > 0, or a function of the epoch, counted from 0, that
        returns it. None is the optimiser's: 0.1 for "gd".
    optimizer : str or object, default "gd"
        As in `siglin.Network.fit`; the memory of an object such as ``siglin.Adam()`` goes
        on across fits.
    max_iter : int, default 1000
        Epochs.
    batch_size : int, optional
        Rows to a step; None is all of them.
    shuffle : bool, default True
        Whether each epoch of smaller batches takes the rows in a new order.
    l1, l2 : float, default 0.0
        Strengths of the penalties l1 |w| and l2 w^2 / 2 on the weights.
    clip_norm : float, optional
        Gradients of a larger 2-norm are scaled to this one.
    tol : float, default 0.0
        Stop after the step whose change of the parameters has a 2-norm <= tol; 0 never
        stops.
    fit_intercept : bool, default True
        Whether a neuron has a b.
    class_weight : dict or "balanced", optional
        How much each class counts; "balanced" makes all count alike.
    random_state : int, RandomState or None
        Of the shuffles, where there are batches.
    callback : callable, optional
        Called after each epoch with a state of ``epoch``, ``step``, ``loss`` and
        ``params`` (read-only); returning True stops.
    verbose : bool or int, default False
        True shows the progress, an int k a line every k steps.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray, shape (1,) or (n_classes,)
    loss_curve_ : list of float
        The loss of each epoch, summed over the neurons.
    n_iter_ : int
        Epochs that were run.
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X had names for its columns, all of them str.

    Raises
    ------
    ValueError
        If a parameter is out of range, X or y is not what a classifier can take, or a
        step of size ``lr`` makes the parameters infinite.

    Warns
    -----
    ConvergenceWarning
        If ``tol`` is > 0, and ``max_iter`` epochs end before a step is as small.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from siglin.estimators import NeuronClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> NeuronClassifier().fit(x, y == 0).score(x, y == 0)
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "lr": [Interval(Real, 0, None, closed="neither"), callable, None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), Optimizer],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "shuffle": ["boolean"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, str, None],
        "random_state": ["random_state"],
        "callback": [callable, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        lr: Any = None,
        optimizer: Any = "gd",
        max_iter: int = 1000,
        batch_size: int | None = None,
        shuffle: bool = True,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        tol: float = 0.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        callback: Any = None,
        verbose: Any = False,
    ) -> None:
        self.lr = lr
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.l1 = l1
        self.l2 = l2
        self.clip_norm = clip_norm
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.callback = callback
        self.verbose = verbose

    _sparse = "csr"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X and y.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n_samples, n_features)
            float32 is trained in float32, everything else in float64.
        y : array_like, shape (n_samples,)
        sample_weight : array_like, shape (n_samples,), optional
            How much each row counts, >= 0.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight)

    def _learn(self, X: Array, targets: Array, y: Any, sample_weight: Any) -> None:
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y).astype(X.dtype)
            sample_weight = (
                by_class if sample_weight is None else by_class * sample_weight
            )
        seed = None
        if self.batch_size is not None:
            seed = int(check_random_state(self.random_state).randint(2**31))
        network = Network(
            [X.shape[1], targets.shape[1]],
            bias=bool(self.fit_intercept),
            init="zeros",
            dtype=X.dtype,
            seed=0,  # nothing is drawn from it
        )
        try:
            history = network.fit(
                X,
                targets,
                lr=self.lr,
                epochs=self.max_iter,
                batch_size=self.batch_size,
                shuffle=bool(self.shuffle),
                seed=seed,
                optimizer=self.optimizer,
                sample_weight=sample_weight,
                l1=self.l1,
                l2=self.l2,
                clip_norm=self.clip_norm,
                tol=self.tol,
                callback=self.callback,
                progress=self.verbose or False,
            )
        except DivergenceError as error:
            raise ValueError(str(error)) from error
        layer = network.layers[0]
        self.coef_ = layer.w.T.copy()
        self.intercept_ = np.zeros(targets.shape[1], X.dtype)
        if layer.b is not None:
            self.intercept_[...] = layer.b
        self.loss_curve_ = history.loss
        self.n_iter_ = history.epochs
        if self.tol > 0 and history.stop_reason == "epochs":
            warn(
                f"max_iter={self.max_iter} epochs were run, and steps still change the "
                f"parameters by more than tol={self.tol}",
                ConvergenceWarning,
            )

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, in the order of classes_.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            Of more than two classes: the neurons' outputs, made to sum to 1.
        """
        z = self.decision_function(X)
        proba: Array
        if z.ndim == 1:
            z = z[:, None]
            proba = np.concatenate([sigmoid(-z), sigmoid(z)], axis=1)
            return proba
        # Apart from their largest, so that not all of them are 0.
        log_a = -np.logaddexp(0, -z)
        a = np.exp(log_a - log_a.max(axis=1, keepdims=True))
        proba = a / a.sum(axis=1, keepdims=True)
        return proba

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        log_proba: Array = np.log(self.predict_proba(X))
        return log_proba


class PerceptronClassifier(_Neurons):
    """Rosenblatt's perceptron: a step, and a correction for every mistake.

    Two classes are one perceptron; more are one for each class against all others, of
    which the one with the largest z decides.

    Parameters
    ----------
    max_iter : int, default 1000
        Epochs at most. On rows that a plane separates the rule ends by itself.
    fit_intercept : bool, default True
        Whether there is a b.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray, shape (1,) or (n_classes,)
    mistakes_ : list of list of int
        For each perceptron the mistakes of each epoch; the last is 0 if it found a
        plane.
    n_iter_ : int
        Epochs that were run, by the perceptron that needed most.
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X had names for its columns, all of them str.

    Raises
    ------
    ValueError
        If a parameter is out of range, or X or y is not what a classifier can take.

    Warns
    -----
    ConvergenceWarning
        If the last of ``max_iter`` epochs still had mistakes.

    Examples
    --------
    >>> from siglin.estimators import PerceptronClassifier
    >>> x = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> model = PerceptronClassifier().fit(x, ["no", "no", "no", "yes"])
    >>> model.predict([[1, 1], [1, 0]])
    array(['yes', 'no'], dtype='<U3')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "fit_intercept": ["boolean"],
    }

    def __init__(self, *, max_iter: int = 1000, fit_intercept: bool = True) -> None:
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Any:
        """Apply the perceptron rule to X and y, row by row.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            float32 is trained in float32, everything else in float64.
        y : array_like, shape (n_samples,)

        Returns
        -------
        self
        """
        return self._fit(X, y)

    def _learn(
        self,
        X: Array,
        targets: Array,
        y: Any,  # noqa: ARG002
        sample_weight: Any,  # noqa: ARG002
    ) -> None:
        bias = bool(self.fit_intercept)
        coef, intercept, mistakes = [], [], []
        for t in np.ascontiguousarray(targets.T):
            perceptron = Perceptron(X.shape[1], bias=bias, dtype=X.dtype)
            history = perceptron.fit(X, t, epochs=self.max_iter)
            coef.append(perceptron.params[: X.shape[1]])
            intercept.append(perceptron.params[-1] if bias else 0)
            mistakes.append([int(count) for count in history.loss])
        self.coef_ = np.array(coef)
        self.intercept_ = np.array(intercept, X.dtype)
        self.mistakes_ = mistakes
        self.n_iter_ = max(len(counts) for counts in mistakes)
        if any(counts[-1] for counts in mistakes):
            warn(
                f"max_iter={self.max_iter} epochs were run, and the last one still had "
                f"mistakes; more epochs help if a plane separates the classes",
                ConvergenceWarning,
            )
