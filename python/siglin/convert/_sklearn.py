"""Networks from and to scikit-learn's MLPs."""

import importlib
import warnings
from typing import Any

import numpy as np

from siglin._data.arrays import ArrayLike, check_choice
from siglin._losses import OUTPUTS
from siglin._network import Network
from siglin.convert._values import bias_or_zeros, check_network, dense
from siglin.errors import ShapeError

# scikit-learn's names of activations, and the loss that goes with each of an output.
SKLEARN_ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
}
SKLEARN_LOSSES = {
    "identity": "squared_error",
    "logistic": "bce",
    "softmax": "cross_entropy",
}


def from_sklearn(estimator: Any, *, seed: int | None = None) -> Network:
    """Return a network that predicts what a fitted scikit-learn MLP does.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted. Anything with its ``coefs_``, ``intercepts_``, ``activation`` and
        ``out_activation_`` will do.
    seed : int, optional
        Of the network's generator, as in `siglin.Network`.

    Returns
    -------
    Network
        Of the estimator's dtype. Its loss is "bce" for two classes and for multilabel
        targets, "cross_entropy" for several classes, "squared_error" for regression. Its
        outputs are ``predict_proba``'s (of two classes, the second one's) or
        ``predict``'s.

    Raises
    ------
    TypeError
        If the estimator has no such attributes, or was not fitted.
    ValueError
        If siglin has no such output activation.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin.convert
    >>> from sklearn.neural_network import MLPRegressor
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> mlp = MLPRegressor(hidden_layer_sizes=[5], solver="lbfgs", random_state=0)
    >>> net = siglin.convert.from_sklearn(mlp.fit(x, x[:, 0] ** 2))
    >>> net
    Network([1, 5, 1], activation=['relu'], output_activation='identity', \
loss='squared_error', bias=True, dtype='float64')
    >>> bool(np.allclose(net.predict(x)[:, 0], mlp.predict(x), rtol=1e-12))
    True
    """
    _check_mlp("from_sklearn", estimator)
    hidden = _sklearn_activations("from_sklearn", estimator)
    output = estimator.out_activation_
    if output not in SKLEARN_LOSSES:
        msg = (
            f"from_sklearn: the output activation must be one of "
            f"{', '.join(SKLEARN_LOSSES)}; got {output!r}"
        )
        raise ValueError(msg)
    loss = SKLEARN_LOSSES[output]
    weights = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    names = [*hidden, OUTPUTS[loss]]
    layers = [
        dense("from_sklearn", f"coefs_[{i}]", w, b, name)
        for i, ((w, b), name) in enumerate(zip(weights, names, strict=True))
    ]
    return Network(layers, loss=loss, seed=seed)


def to_sklearn(
    net: Network, estimator: Any = None, *, classes: ArrayLike | None = None
) -> Any:
    """Return a fitted scikit-learn MLP that predicts what a network does.

    Parameters
    ----------
    net : Network
        With one activation for all hidden layers, of scikit-learn's four (sigmoid, tanh,
        relu, identity), and its loss's usual output.
    estimator : MLPClassifier or MLPRegressor, optional
        A fitted one of the same layers, whose weights are replaced. Default: a new one,
        an MLPRegressor for "squared_error" and an MLPClassifier otherwise.
    classes : array_like, optional
        Of a new classifier, the label of each class in ascending order; default 0, 1,
        and so on. Not for multilabel ("bce" with several outputs).

    Returns
    -------
    MLPClassifier or MLPRegressor
        ``estimator``, or the new one. What a new one tells of its training, such as
        ``loss_curve_``, is of a single step that prepares it.

    Raises
    ------
    ImportError
        If scikit-learn is missing: ``pip install "siglin[sklearn]"``.
    ShapeError
        If the estimator's layers are of other sizes.
    TypeError, ValueError
        If the estimator was not fitted, or scikit-learn's MLP cannot be the network: it
        has other activations, or "cross_entropy" with two outputs, where scikit-learn
        has one logistic output.

    Notes
    -----
    A layer without bias gets intercepts of 0.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin.convert
    >>> net = siglin.Network([4, 8, 3], loss="cross_entropy", seed=1)
    >>> x = np.random.default_rng(0).normal(size=(5, 4))
    >>> mlp = siglin.convert.to_sklearn(net, classes=["ash", "elm", "oak"])
    >>> bool(np.allclose(mlp.predict_proba(x), net.predict(x), rtol=1e-12))
    True
    >>> mlp.classes_.tolist()
    ['ash', 'elm', 'oak']
    """
    check_network("to_sklearn", net)
    hidden = _one_hidden_activation(net)
    output = {loss: name for name, loss in SKLEARN_LOSSES.items()}[net.loss_name]
    if net.layers[-1].activation != OUTPUTS[net.loss_name]:
        msg = (
            f"to_sklearn: scikit-learn's MLP has no {net.layers[-1].activation!r} output "
            f"with the loss {net.loss_name!r}"
        )
        raise ValueError(msg)
    if estimator is None:
        estimator = _new_mlp(net, hidden, classes)
    elif classes is not None:
        raise ValueError("to_sklearn: classes are those of the given estimator")
    _check_mlp("to_sklearn", estimator)
    given = set(_sklearn_activations("to_sklearn", estimator))
    if len(net.layers) > 1 and given != {hidden}:
        msg = (
            f"to_sklearn: the estimator's activation is "
            f"{', '.join(map(repr, sorted(given)))}, the network's is {hidden!r}"
        )
        raise ValueError(msg)
    if estimator.out_activation_ != output:
        msg = (
            f"to_sklearn: the estimator's output is {estimator.out_activation_!r}, the "
            f"network's is {output!r}"
        )
        raise ValueError(msg)
    shapes = [np.shape(w) for w in estimator.coefs_]
    wanted = [layer.w.shape for layer in net.layers]
    if shapes != wanted:
        msg = (
            f"to_sklearn: the estimator's coefs_ have shapes {shapes}, the network's "
            f"layers {wanted}"
        )
        raise ShapeError(msg)
    estimator.coefs_ = [layer.w.copy() for layer in net.layers]
    estimator.intercepts_ = [bias_or_zeros(layer) for layer in net.layers]
    return estimator


def _check_mlp(function: str, estimator: object) -> None:
    for name in ("activation", "coefs_", "intercepts_", "out_activation_"):
        if not hasattr(estimator, name):
            msg = (
                f"{function}: estimator must be a fitted MLPClassifier or MLPRegressor; "
                f"this {type(estimator).__name__} has no {name}"
            )
            raise TypeError(msg)


def _sklearn_activations(function: str, estimator: Any) -> list[str]:
    """Return siglin's name for each hidden layer; siglin.estimators may have a list."""
    known = tuple(SKLEARN_ACTIVATIONS)
    names = estimator.activation
    count = len(estimator.coefs_) - 1
    if not isinstance(names, list | tuple):
        names = [names] * max(1, count)  # checked also where it is not used
    checked = [check_choice(function, "activation", name, known) for name in names]
    return [SKLEARN_ACTIVATIONS[name] for name in checked[:count]]


def _one_hidden_activation(net: Network) -> str:
    """Return the activation of all hidden layers; "identity" if there are none."""
    names = {layer.activation for layer in net.layers[:-1]} or {"identity"}
    if len(names) > 1:
        msg = (
            f"to_sklearn: scikit-learn's MLP has one activation for all hidden layers, "
            f"got {', '.join(sorted(names))}"
        )
        raise ValueError(msg)
    name = names.pop()
    return check_choice(
        "to_sklearn", "activation", name, tuple(SKLEARN_ACTIVATIONS.values())
    )


def _new_mlp(net: Network, hidden: str, classes: ArrayLike | None) -> Any:
    """Return an MLP of the network's layers, fitted by one step to rows of zeros.

    A step on rows that need not mean anything is what makes scikit-learn set everything
    that its predictions read.
    """
    try:
        exceptions = importlib.import_module("sklearn.exceptions")
        networks = importlib.import_module("sklearn.neural_network")
    except ImportError as error:
        raise ImportError(
            'to_sklearn needs scikit-learn: pip install "siglin[sklearn]"'
        ) from error
    n_out = net.layers[-1].n_out
    targets = _example_targets(net.loss_name, n_out, classes)
    regressor = net.loss_name == "squared_error"
    kind = networks.MLPRegressor if regressor else networks.MLPClassifier
    names = {name: theirs for theirs, name in SKLEARN_ACTIVATIONS.items()}
    mlp = kind(
        hidden_layer_sizes=[layer.n_out for layer in net.layers[:-1]],
        activation=names[hidden],
        max_iter=1,
        random_state=0,
    )
    x = np.zeros((len(targets), net.layers[0].n_in), net.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        mlp.fit(x, targets)
    defaults = kind().get_params()
    return mlp.set_params(max_iter=defaults["max_iter"], random_state=None)


def _example_targets(
    loss: str, n_out: int, classes: ArrayLike | None
) -> np.ndarray[Any, np.dtype[Any]]:
    """Return targets from which scikit-learn sees the outputs and the classes."""
    n_classes = {"bce": 2 if n_out == 1 else 0, "cross_entropy": n_out}.get(loss, 0)
    if loss == "cross_entropy" and n_out < 3:
        msg = (
            f"to_sklearn: scikit-learn's MLP has one logistic output for two classes, "
            f"the network a softmax over {n_out}"
        )
        raise ValueError(msg)
    if classes is None:
        if (
            n_classes == 0
        ):  # a regressor's, or each label of a multilabel set on and off
            rows = np.eye(2, n_out) if loss == "bce" else np.zeros((1, n_out))
            return rows[:, 0] if n_out == 1 else rows
        return np.arange(n_classes)
    labels = np.asarray(classes)
    if n_classes == 0:
        raise ValueError("to_sklearn: classes are for one output of classes only")
    if labels.shape != (n_classes,):
        msg = f"to_sklearn: classes must have shape ({n_classes},), got {labels.shape}"
        raise ShapeError(msg)
    if not np.array_equal(np.unique(labels), labels):
        raise ValueError("to_sklearn: classes must be different and in ascending order")
    return labels
