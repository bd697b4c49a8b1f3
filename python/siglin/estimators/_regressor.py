"""MLPRegressor, after scikit-learn's."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from siglin._data.arrays import Array
from siglin.estimators._base import BaseMLP, has_steps
from siglin.estimators._docs import documented
from siglin.estimators._solvers import Data


class MLPRegressor(RegressorMixin, BaseMLP):
    __doc__ = documented(
        """
            A multi-layer perceptron that predicts numbers, as scikit-learn's of that name.

            Changing the import is all that a program needs.
        """,
        first="""
            loss : str, default "squared_error"
                Half the squared error, or "poisson": half the Poisson deviance of an output
                that is an exponential; y >= 0.
        """,
        out_activation='"identity", or "exp" for "poisson".',
        examples="""
            >>> from sklearn.datasets import load_diabetes
            >>> from siglin.estimators import MLPRegressor
            >>> x, y = load_diabetes(return_X_y=True)
            >>> model = MLPRegressor(
            ...     hidden_layer_sizes=8, solver="lbfgs", random_state=0, max_iter=2000
            ... )
            >>> model.fit(x, y).score(x, y) > 0.5
            True
        """,
    )

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
        self._keep(locals())

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

    @available_if(has_steps)
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
