"""Networks from and to scikit-learn's and PyTorch's, by value.

Weights are copied, never shared: training one side afterwards does not change the other.
For Keras there are `Network.get_weights` and `Network.set_weights`, whose lists have the
order and the shapes of Keras' own.
"""

import importlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siglin._data.arrays import Array, ArrayLike, check_choice, check_flag, normalise
from siglin._layers import Dense
from siglin._network import Network
from siglin._plan import OUTPUTS
from siglin.errors import DTypeError, ShapeError

__all__ = ["from_sklearn", "from_torch", "to_sklearn", "to_torch"]

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

# PyTorch's modules of the same names as classes.
TORCH_ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "Softmax": "softmax",
}
TORCH_CLASSES = {name: torch_class for torch_class, name in TORCH_ACTIVATIONS.items()}
# Those that change no prediction of rows: Dropout acts in training alone, and a Flatten
# of all but the first dimension leaves a row as it is.
TORCH_PASSED_OVER = ("Identity", "Dropout", "AlphaDropout", "Flatten")
LEAK = 0.1  # the slope of siglin's leaky_relu below 0


# ---- scikit-learn --------------------------------------------------------------------


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
        _dense("from_sklearn", f"coefs_[{i}]", w, b, name)
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
    _check_network("to_sklearn", net)
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
    estimator.intercepts_ = [_bias_or_zeros(layer) for layer in net.layers]
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


# ---- PyTorch -------------------------------------------------------------------------


@dataclass
class _Linear:
    """A Linear module, and the activation after it."""

    module: Any
    activation: str = "identity"


def from_torch(
    module: Any, *, loss: str | None = None, seed: int | None = None
) -> Network:
    """Return a network that predicts what a ``torch.nn.Sequential`` does.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, each followed by none or one of Sigmoid, Tanh, ReLU,
        LeakyReLU(0.1), and at the end also Softmax(dim=1). Identity, Dropout and
        Flatten(), which change no prediction, are passed over: the network takes rows
        that are flat, and drops units only with ``fit(dropout=...)``. A Sequential within
        is taken as its modules.
    loss : str, optional
        Of the network, as in `siglin.Network`. Default: "bce" after a Sigmoid,
        "cross_entropy" after a Softmax, else "squared_error". A module that ends with a
        Linear, trained with ``BCEWithLogitsLoss`` or ``CrossEntropyLoss``, needs "bce" or
        "cross_entropy" here; the network's outputs are then the probabilities, not the
        logits.
    seed : int, optional
        Of the network's generator, as in `siglin.Network`.

    Returns
    -------
    Network
        Of the module's dtype, w being the transposed weight.

    Raises
    ------
    TypeError, ValueError
        If the module is something else, has another part, or loss and output do not go
        together.
    DTypeError
        If it is neither float32 nor float64.

    Examples
    --------
    Where PyTorch is installed::

        module = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
        )
        net = siglin.convert.from_torch(module, loss="bce")
        net.predict(x)  # torch.sigmoid(module(x))
    """
    parts = _linears("from_torch", module)
    output = parts[-1].activation
    if loss is None:
        loss = {name: known for known, name in OUTPUTS.items()}.get(
            output, "squared_error"
        )
    loss = check_choice("from_torch", "loss", loss, tuple(OUTPUTS))
    if output == "identity":  # the module gives logits
        parts[-1].activation = OUTPUTS[loss]
    layers = []
    for i, part in enumerate(parts):
        w = _torch_array(f"weight of Linear {i}", part.module.weight).T
        bias = part.module.bias
        b = None if bias is None else _torch_array(f"bias of Linear {i}", bias)
        name = f"weight of Linear {i}"
        layers.append(_dense("from_torch", name, w, b, part.activation))
    return Network(layers, loss=loss, seed=seed)


def to_torch(net: Network, module: Any = None, *, logits: bool = False) -> Any:
    """Return a ``torch.nn.Sequential`` that predicts what a network does.

    Parameters
    ----------
    net : Network
        Of any activations but "step".
    module : torch.nn.Sequential, optional
        One of the same layers, whose weights are replaced; what it ends with may also be
        left out, for a loss of logits. Default: a new one.
    logits : bool, default False
        Whether a new module ends with the last Linear, as ``BCEWithLogitsLoss`` and
        ``CrossEntropyLoss`` want it.

    Returns
    -------
    torch.nn.Sequential
        ``module``, or the new one, on the CPU and of the network's dtype.

    Raises
    ------
    ImportError
        If PyTorch is missing.
    ShapeError, DTypeError
        If the module's layers are of other sizes, or of another dtype.
    TypeError, ValueError
        If the module or the network has parts the other cannot have.

    Notes
    -----
    PyTorch's random numbers are not touched. A layer without bias sets a module's bias
    to 0.

    Examples
    --------
    Where PyTorch is installed::

        net = siglin.Network([4, 16, 3], loss="cross_entropy")
        module = siglin.convert.to_torch(net, logits=True)
        torch.nn.CrossEntropyLoss()(module(x), t)
    """
    _check_network("to_torch", net)
    logits = check_flag("to_torch", "logits", logits)
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("to_torch needs PyTorch: pip install torch") from error
    if module is None:
        module = _new_sequential(torch, net, logits)
    elif logits:
        raise ValueError("to_torch: logits is for a new module; the given one is kept")
    parts = _linears("to_torch", module)
    _check_fit(net, parts)
    with torch.no_grad():
        for part, layer in zip(parts, net.layers, strict=True):
            part.module.weight.copy_(torch.from_numpy(layer.w.T.copy()))
            if part.module.bias is not None:
                part.module.bias.copy_(torch.from_numpy(_bias_or_zeros(layer)))
    return module


def _new_sequential(torch: Any, net: Network, logits: bool) -> Any:
    dtype = getattr(torch, net.dtype.name)
    modules = []
    for layer in net.layers:
        # Linear would draw its weights; these are replaced, and a seed set before stays.
        linear = torch.nn.utils.skip_init(
            torch.nn.Linear, layer.n_in, layer.n_out, bias=layer.bias, dtype=dtype
        )
        modules.append(linear)
        if layer.activation == "identity" or (logits and layer is net.layers[-1]):
            continue
        if layer.activation not in TORCH_CLASSES:
            msg = f"to_torch: PyTorch has no module for {layer.activation!r}"
            raise ValueError(msg)
        options: dict[str, dict[str, Any]] = {
            "leaky_relu": {"negative_slope": LEAK},
            "softmax": {"dim": 1},
        }
        make = getattr(torch.nn, TORCH_CLASSES[layer.activation])
        modules.append(make(**options.get(layer.activation, {})))
    return torch.nn.Sequential(*modules)


def _linears(function: str, module: Any) -> list[_Linear]:
    """Return the Linear modules of a Sequential with the activation after each."""
    parts: list[_Linear] = []
    for part in _flatten(function, module):
        name = _class_name(part)
        if name == "Linear":
            parts.append(_Linear(part))
        elif name in TORCH_ACTIVATIONS:
            if not parts or parts[-1].activation != "identity":
                raise ValueError(f"{function}: {part} must come after a Linear")
            _check_options(function, name, part)
            parts[-1].activation = TORCH_ACTIVATIONS[name]
        elif name in TORCH_PASSED_OVER:
            _check_options(function, name, part)
        else:
            known = ", ".join(["Linear", *TORCH_ACTIVATIONS, *TORCH_PASSED_OVER])
            raise ValueError(f"{function}: module may have {known}; got {part}")
    if not parts:
        raise ValueError(f"{function}: module has no Linear")
    return parts


def _flatten(function: str, module: Any) -> list[Any]:
    if _class_name(module) == "Linear":
        return [module]
    if _class_name(module) != "Sequential" or not isinstance(module, Iterable):
        msg = (
            f"{function}: module must be a torch.nn.Sequential, "
            f"got {type(module).__name__}"
        )
        raise TypeError(msg)
    parts = []
    for part in module:
        nested = _class_name(part) == "Sequential"
        parts += _flatten(function, part) if nested else [part]
    return parts


def _class_name(module: object) -> str:
    """Return the name of the class among ours that a module is of, or of its own."""
    names = [kind.__name__ for kind in type(module).__mro__]
    known = {"Sequential", "Linear", *TORCH_ACTIVATIONS, *TORCH_PASSED_OVER}
    return next((name for name in names if name in known), names[0])


def _check_options(function: str, name: str, part: Any) -> None:
    if name == "LeakyReLU" and part.negative_slope != LEAK:
        msg = (
            f"{function}: LeakyReLU must have negative_slope = {LEAK}, "
            f"got {part.negative_slope}"
        )
        raise ValueError(msg)
    if name == "Softmax" and part.dim not in (None, 1, -1):
        raise ValueError(f"{function}: Softmax must have dim = 1, got {part.dim}")
    if name == "Flatten" and not {part.start_dim, part.end_dim} <= {1, -1}:
        raise ValueError(
            f"{function}: Flatten must have start_dim = 1 and end_dim = -1, got "
            f"{part.start_dim} and {part.end_dim}"
        )


def _check_fit(net: Network, parts: Sequence[_Linear]) -> None:
    """Raise unless a module can take the network's weights; nothing is changed."""
    shapes = [tuple(part.module.weight.shape) for part in parts]
    wanted = [(layer.n_out, layer.n_in) for layer in net.layers]
    if shapes != wanted:
        msg = (
            f"to_torch: the module's weights have shapes {shapes}, the network's, "
            f"transposed, {wanted}"
        )
        raise ShapeError(msg)
    for i, (part, layer) in enumerate(zip(parts, net.layers, strict=True)):
        names = {layer.activation}
        if layer is net.layers[-1] and net.loss_name != "squared_error":
            names.add("identity")  # it gives the logits
        if part.activation not in names:
            msg = (
                f"to_torch: after Linear {i} the module has {part.activation!r}, the "
                f"network {layer.activation!r}"
            )
            raise ValueError(msg)
        if layer.bias and part.module.bias is None:
            raise ValueError(
                f"to_torch: Linear {i} has no bias, the network's layer has"
            )
        dtype = str(part.module.weight.dtype).removeprefix("torch.")
        if dtype != net.dtype.name:
            msg = f"to_torch: the module is {dtype}, the network {net.dtype}"
            raise DTypeError(msg)


def _torch_array(name: str, tensor: Any) -> Array:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        msg = (
            f"from_torch: {name} must be float32 or float64, got {dtype}; module.float() "
            f"converts it"
        )
        raise DTypeError(msg)
    array: Array = tensor.detach().cpu().numpy()
    return array


# ---- both ----------------------------------------------------------------------------


def _check_network(function: str, net: object) -> None:
    if not isinstance(net, Network):
        msg = f"{function}: net must be a Network, got {type(net).__name__}"
        raise TypeError(msg)


def _dense(function: str, name: str, w: Any, b: Any, activation: str) -> Dense:
    """Return a layer of these values."""
    arrays = {name: w} if b is None else {name: w, f"bias of {name}": b}
    ready = list(normalise(function, arrays).values())
    n_in, n_out = ready[0].shape
    layer = Dense(
        n_in,
        n_out,
        activation,
        bias=b is not None,
        init="zeros",
        dtype=ready[0].dtype,
    )
    layer.w = ready[0]
    if b is not None:
        layer.b = ready[1]
    return layer


def _bias_or_zeros(layer: Dense) -> Array:
    b: Array = np.zeros(layer.n_out, layer.dtype) if layer.b is None else layer.b.copy()
    return b
