"""Networks from and to scikit-learn's and PyTorch's, by value.

Weights are copied, never shared: training one side afterwards does not change the other.
For Keras there are `Network.get_weights` and `Network.set_weights`, whose lists have the
order and the shapes of Keras' own.
"""

from siglin.convert._sklearn import from_sklearn, to_sklearn
from siglin.convert._torch import from_torch, to_torch

__all__ = ["from_sklearn", "from_torch", "to_sklearn", "to_torch"]
