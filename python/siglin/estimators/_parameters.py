"""The parameters of a fitted MLP: one vector, and the arrays that are views of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from siglin import _core
from siglin._data.arrays import Array

# What scikit-learn calls siglin's activations.
ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
}


class Parameters:
    """All weights and biases of a network, layer after layer.

    Parameters
    ----------
    sizes : sequence of int
        Of the layers, input and output among them.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    vector : ndarray
        Layer after layer, w row by row, then b.
    coefs, intercepts : list of ndarray
        Views of it.
    """

    def __init__(self, sizes: Sequence[int], dtype: Any) -> None:
        self.sizes = list(sizes)
        count = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        self.vector: Array = np.zeros(count, dtype)
        self.coefs: list[Array] = []
        self.intercepts: list[Array] = []
        start = 0
        for n_in, n_out in pairwise(sizes):
            stop = start + n_in * n_out
            self.coefs.append(self.vector[start:stop].reshape(n_in, n_out))
            start = stop + n_out
            self.intercepts.append(self.vector[stop:start])

    @classmethod
    def of(cls, coefs: Sequence[Any], intercepts: Sequence[Any]) -> "Parameters":
        """Return the parameters of which these are the values."""
        sizes = [coefs[0].shape[0], *(w.shape[1] for w in coefs)]
        wide = any(w.dtype.newbyteorder("=") != np.float32 for w in coefs)
        parameters = cls(sizes, np.float64 if wide else np.float32)
        for view, value in zip(parameters.coefs, coefs, strict=True):
            view[...] = value
        for view, value in zip(parameters.intercepts, intercepts, strict=True):
            view[...] = value
        return parameters

    def are(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Return whether these are the very views of the vector."""
        return (
            len(coefs) == len(self.coefs)
            and len(intercepts) == len(self.intercepts)
            and all(a is b for a, b in zip(coefs, self.coefs, strict=True))
            and all(a is b for a, b in zip(intercepts, self.intercepts, strict=True))
        )

    def network(
        self, hidden: Sequence[str], output: str, loss: str, dtype: Any = None
    ) -> Any:
        """Return a native network of this shape.

        Parameters
        ----------
        hidden : sequence of str
            scikit-learn's name of the activation of each hidden layer.
        output, loss : str
            siglin's names.
        dtype : dtype, optional
            Of the network, if another one than the vector's.
        """
        activations = [ACTIVATIONS[name] for name in hidden]
        return _core.Network(
            self.sizes,
            [*activations, output],
            [True] * len(self.coefs),
            loss,
            np.dtype(dtype or self.vector.dtype).name,
        )
