"""scikit-learn in the race: MLPClassifier or MLPRegressor without stop rules."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer

from race_rows import BETA1, BETA2, EPS, Row, data
from trainers import Run, Trainer, labels, losses_of


def trainer(row: Row) -> Trainer | None:
    """Return the trainer; None for dropout, which scikit-learn does not have."""
    if row.dropout:
        return None

    class Classifier(MLPClassifier):  # type: ignore[misc]
        """Takes one row too, which has one class only."""

        def _validate_input(self, X: Any, y: Any, *args: Any, **options: Any) -> Any:
            if row.rows > 1:
                return super()._validate_input(X, y, *args, **options)
            self.classes_ = np.array([0, 1])
            self._label_binarizer = LabelBinarizer().fit(self.classes_)
            return X, y

    given = data(row)
    x, weights = given.x, given.weights
    adam = row.optimizer == "adam"
    classify = row.loss != "squared_error"
    estimator = (Classifier if classify else MLPRegressor)(
        hidden_layer_sizes=row.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(row.activation, row.activation),
        solver="adam" if adam else "sgd",
        alpha=row.l2 * row.batch,  # it divides its penalty by the rows of the batch
        batch_size=row.batch,
        learning_rate_init=row.lr,
        max_iter=1,
        shuffle=row.shuffle,
        random_state=0,
        tol=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
        warm_start=True,
        beta_1=BETA1,
        beta_2=BETA2,
        epsilon=EPS,
        n_iter_no_change=np.inf,
    )
    if row.is_softmax:
        target = labels(row)
    else:
        target = given.t.astype(np.int64) if classify else given.t
        if row.sizes[-1] == 1:
            target = target[:, 0]
    options = {"sample_weight": given.row_weights} if row.weighted else {}
    # The squared error is a mean over the outputs here, the gradient is not.
    scale = 1.0 if classify else float(row.sizes[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x, target, **options)

    def start(epochs: int) -> Run:
        estimator.coefs_ = [w.copy() for w, _ in weights]
        estimator.intercepts_ = [b.copy() for _, b in weights]
        estimator.max_iter = epochs
        estimator.n_iter_ = estimator.t_ = estimator._no_improvement_count = 0
        estimator.loss_curve_ = []
        estimator.best_loss_ = np.inf
        if hasattr(estimator, "_optimizer"):
            del estimator._optimizer

        def run() -> Sequence[float]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                estimator.fit(x, target, **options)
            return estimator.loss_curve_  # type: ignore[no-any-return]

        return run

    return Trainer(start, lambda raw, n: losses_of(scale * np.array(raw), n))
