"""Networks from and to PyTorch's Sequential."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from siglin._data.arrays import Array, check_choice, check_flag
from siglin._losses import OUTPUTS
from siglin._network import Network
from siglin.convert._values import bias_or_zeros, check_network, dense
from siglin.errors import DTypeError, ShapeError

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
        loss = {name: known for known, name in reversed(OUTPUTS.items())}.get(
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
        layers.append(dense("from_torch", name, w, b, part.activation))
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
    check_network("to_torch", net)
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
                part.module.bias.copy_(torch.from_numpy(bias_or_zeros(layer)))
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
