"""MLPClassifier, after scikit-learn's."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from siglin._data.arrays import Array
from siglin._data.labels import Labels
from siglin.estimators._base import BaseMLP, has_steps
from siglin.estimators._docs import documented
from siglin.estimators._solvers import Data


class MLPClassifier(ClassifierMixin, BaseMLP):
    __doc__ = documented(
        """
            A multi-layer perceptron that classifies, as scikit-learn's of that name.

            One output and the binary cross-entropy for two classes or for several labels to a
            row, a softmax for more classes. Changing the import is all that a program needs.
        """,
        last="""
            class_weight : dict, "balanced" or None
                How much each class counts; "balanced" makes all count alike.
        """,
        out_activation='"softmax" for more than two classes, else "logistic".',
        attributes="""
            classes_ : ndarray, shape (n_classes,)
        """,
        examples="""
            >>> from sklearn.datasets import load_breast_cancer
            >>> from sklearn.pipeline import make_pipeline
            >>> from sklearn.preprocessing import StandardScaler
            >>> from siglin.estimators import MLPClassifier
            >>> x, y = load_breast_cancer(return_X_y=True)
            >>> mlp = MLPClassifier((8,), random_state=0, max_iter=1000)
            >>> model = make_pipeline(StandardScaler(), mlp).fit(x, y)
            >>> model.score(x, y) > 0.98
            True
        """,
    )

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
        self._keep(locals())

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

    @available_if(has_steps)
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
