"""The library in plain NumPy: the same names and signatures, written to be read.

One line of NumPy stands for one line of a formula, in the dtype of the inputs. Speed,
`row i has the same bits in any batch` and most checks of the arguments are left to the
compiled library; its tests compare it with this one.

Read in this order: `activations`, `functions` (one layer forward and backward),
`losses`, `layers`, `dropout`, `optimizers`, `training`, `network`, `neuron`,
`perceptron`, `random`.
"""

from siglin.reference.functions import (
    Gradients,
    backward,
    backward_update,
    forward,
    sigmoid,
    update,
)
from siglin.reference.layers import Dense
from siglin.reference.losses import Huber, Quantile
from siglin.reference.network import Network
from siglin.reference.neuron import Neuron
from siglin.reference.optimizers import (
    Adam,
    AdamW,
    GradientDescent,
    Momentum,
    Nesterov,
)
from siglin.reference.perceptron import Perceptron
from siglin.reference.random import Generator
from siglin.reference.training import History, TrainingState

__all__ = [
    "Adam",
    "AdamW",
    "Dense",
    "Generator",
    "GradientDescent",
    "Gradients",
    "History",
    "Huber",
    "Momentum",
    "Nesterov",
    "Network",
    "Neuron",
    "Perceptron",
    "Quantile",
    "TrainingState",
    "backward",
    "backward_update",
    "forward",
    "sigmoid",
    "update",
]
