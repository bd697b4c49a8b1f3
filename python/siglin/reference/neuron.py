"""Neuron: logistic regression, a network of one sigmoid."""

import numpy.typing as npt

from siglin.reference.checks import Array
from siglin.reference.network import Network


class Neuron(Network):
    """One sigmoid neuron that starts at zero: logistic regression.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    bias : bool
        Whether there is a b.
    dtype : dtype_like
        float32 or float64.

    Examples
    --------
    >>> from siglin import reference
    >>> neuron = reference.Neuron(1)
    >>> neuron.fit([[-1.0], [1.0]], [0, 1], lr=1.0, epochs=100).steps
    100
    >>> bool(neuron.theta[0] > 3)
    True
    """

    def __init__(
        self, n_in: int, *, bias: bool = False, dtype: npt.DTypeLike = "float64"
    ) -> None:
        super().__init__([n_in, 1], bias=bias, init="zeros", dtype=dtype)

    @property
    def theta(self) -> Array:
        """The parameters: one weight for each input, then the bias if there is one."""
        return self.params

    @theta.setter
    def theta(self, values: npt.ArrayLike) -> None:
        self.params[...] = values
