"""siglin: sigmoid-linear neural networks on the CPU.

A layer is ``a = sigmoid(x @ w + b)``. Functions compute one layer (`forward`, `backward`,
`backward_update`, `update`), `Dense` keeps its parameters, and `Network` stacks layers
and trains them. `siglin.reference` is the same in plain NumPy, written to be read.

Examples
--------
>>> import numpy as np
>>> import siglin
>>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
>>> net = siglin.Network([2, 1], seed=0)
>>> history = net.fit(x, np.array([0.0, 1.0, 1.0, 1.0]), lr=1.0, epochs=1000)
>>> net.predict(x).round().ravel()
array([0., 1., 1., 1.])
"""

try:
    # First of all: on a CPU below the minimum this explains itself, and NumPy may not.
    import siglin._core
except ModuleNotFoundError as error:
    if error.name != "siglin._core":
        raise
    raise ImportError(
        "the compiled module siglin._core is missing; was siglin built? "
        "`pip install .` in the project's folder builds it"
    ) from error
except ImportError as error:
    # A module cannot raise another error while it is imported; SIGLIN_TARGET's is this.
    if "SIGLIN_TARGET" not in str(error):
        raise
    raise RuntimeError(str(error)) from None

if siglin._core.complaint():
    import warnings

    warnings.warn(siglin._core.complaint(), RuntimeWarning, stacklevel=2)
    del warnings

import importlib
from typing import TYPE_CHECKING

from siglin._about import build_info, self_test, target, targets
from siglin._functions import (
    Gradients,
    backward,
    backward_update,
    forward,
    sigmoid,
    update,
)
from siglin._layers import Dense
from siglin._load import load
from siglin._losses import Huber, Quantile, losses
from siglin._network import Network
from siglin._neuron import Neuron, Perceptron
from siglin._training.history import History
from siglin._training.many import fit_many
from siglin._training.optimizers import (
    Adam,
    AdamW,
    GradientDescent,
    Momentum,
    Nesterov,
)
from siglin.errors import (
    DivergenceError,
    DTypeError,
    ModelFormatError,
    SaturationWarning,
    ShapeError,
    SiglinError,
)
from siglin.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Adam",
    "AdamW",
    "DTypeError",
    "Dense",
    "DivergenceError",
    "GradientDescent",
    "Gradients",
    "History",
    "Huber",
    "ModelFormatError",
    "Momentum",
    "Nesterov",
    "Network",
    "Neuron",
    "Perceptron",
    "Quantile",
    "SaturationWarning",
    "ShapeError",
    "SiglinError",
    "backward",
    "backward_update",
    "build_info",
    "convert",
    "fit_many",
    "forward",
    "get_num_threads",
    "load",
    "losses",
    "num_threads",
    "reference",
    "self_test",
    "set_num_threads",
    "sigmoid",
    "target",
    "targets",
    "update",
]

# Parts that not every program needs, imported when one is first asked for.
_LAZY = ("convert", "estimators", "files", "plot", "reference")

if TYPE_CHECKING:
    # What type checkers read, in place of __getattr__, which would let every name pass.
    from siglin import convert as convert
    from siglin import estimators as estimators
    from siglin import files as files
    from siglin import plot as plot
    from siglin import reference as reference
else:

    def __getattr__(name: str) -> object:
        if name in _LAZY:
            return importlib.import_module(f"siglin.{name}")
        raise AttributeError(f"module 'siglin' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what is public: names without an underscore, lazy ones among them."""
    special = [name for name in globals() if name.startswith("__")]
    return sorted({*special, *__all__, *_LAZY, "errors", "threads"})


# Pickles, messages and help say siglin.Network, wherever in the package it is written.
for _name in __all__:
    if _name not in _LAZY:
        globals()[_name].__module__ = "siglin"
del _name
