"""Estimators for scikit-learn: drop-in replacements of its MLP, and single neurons.

`MLPClassifier` and `MLPRegressor` take the parameters of scikit-learn's classes of the
same names, draw the same numbers from ``random_state`` and give the same model, trained
by siglin's native loop. They, `NeuronClassifier` and `PerceptronClassifier` work wherever
scikit-learn's estimators do.

This module needs scikit-learn: ``pip install "siglin[sklearn]"``.

Examples
--------
>>> from sklearn.datasets import load_iris
>>> from siglin.estimators import MLPClassifier
>>> x, y = load_iris(return_X_y=True)
>>> model = MLPClassifier((16,), learning_rate_init=0.01, random_state=0)
>>> model.set_params(max_iter=1000).fit(x, y).score(x, y) > 0.95
True
"""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ImportError(
        'siglin.estimators needs scikit-learn: pip install "siglin[sklearn]"'
    ) from error

from siglin.estimators._classifier import MLPClassifier
from siglin.estimators._neurons import NeuronClassifier, PerceptronClassifier
from siglin.estimators._regressor import MLPRegressor

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "NeuronClassifier",
    "PerceptronClassifier",
]

# Pickles and messages say siglin.estimators, wherever in it a class is written.
for _estimator in (
    MLPClassifier,
    MLPRegressor,
    NeuronClassifier,
    PerceptronClassifier,
):
    _estimator.__module__ = "siglin.estimators"
del _estimator
