"""Perceptron: a neuron with a step, and Rosenblatt's rule."""

import time

import numpy as np
import numpy.typing as npt

from siglin.reference.checks import (
    Array,
    check_shape,
    common_dtype,
    float_dtype,
    stored,
)
from siglin.reference.layers import Dense
from siglin.reference.training import History


class Perceptron:
    """One neuron with a step activation, 1 where x @ w + b > 0 and 0 elsewhere.

    It starts at zero.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    bias : bool
        Whether there is a b.
    dtype : dtype_like
        float32 or float64.

    Attributes
    ----------
    params, theta : ndarray, shape (n_in,) or (n_in + 1,)
        The weights, then the bias if there is one. Assigning copies the values.

    References
    ----------
    F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
    organization in the brain", Psychological Review 65 (1958) 386.

    Examples
    --------
    >>> from siglin import reference
    >>> x = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> perceptron = reference.Perceptron(2, bias=True)
    >>> perceptron.fit(x, [0, 0, 0, 1], epochs=100).stop_reason
    'no_mistakes'
    >>> perceptron.predict(x).ravel()
    array([0., 0., 0., 1.])
    """

    def __init__(
        self, n_in: int, *, bias: bool = False, dtype: npt.DTypeLike = "float64"
    ) -> None:
        self.dtype = float_dtype(dtype)
        self.layer = Dense(
            n_in, 1, "step", bias=bias, init="zeros", dtype=self.dtype, seed=0
        )

    @property
    def params(self) -> Array:
        """The weights, then the bias if there is one."""
        return self.layer.params

    @params.setter
    def params(self, values: npt.ArrayLike) -> None:
        self.layer.params[...] = values

    @property
    def theta(self) -> Array:
        """The same as `params`."""
        return self.layer.params

    @theta.setter
    def theta(self, values: npt.ArrayLike) -> None:
        self.layer.params[...] = values

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return self.layer.n_params

    def __repr__(self) -> str:
        """Return the call that makes a perceptron like this one."""
        return (
            f"Perceptron({self.layer.n_in}, bias={self.layer.bias}, "
            f"dtype={self.dtype.name!r})"
        )

    def predict(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """Return 0 or 1 for each row of x, shape (batch, 1)."""
        return stored("predict", self.layer.forward(x), out)

    def fit(self, x: npt.ArrayLike, t: npt.ArrayLike, *, epochs: int = 1000) -> History:
        """Apply the perceptron rule row by row.

        For each row, w += (t - a) x and b += t - a, where a is the present prediction;
        nothing changes where it is right.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
        t : array_like, shape (rows,) or (rows, 1)
            0 or 1.
        epochs : int
            Stop after so many, or after the first without a mistake.

        Returns
        -------
        History
            Its loss is the number of mistakes of each epoch.
        """
        started = time.perf_counter()
        common_dtype("fit", x=x, t=t, params=self.params)
        x = np.asarray(x, self.dtype)
        t = np.asarray(t, self.dtype)
        check_shape("fit", "x", x, ("rows", self.layer.n_in))
        t = t[:, None] if t.ndim == 1 else t
        check_shape("fit", "t", t, (len(x), 1))
        mistakes: list[float] = []
        stop_reason = "epochs"
        while len(mistakes) < epochs:
            mistakes.append(0.0)
            for row in range(len(x)):
                difference = t[row, 0] - self.layer.apply(x[row : row + 1])[0, 0]
                self.layer.w[:, 0] += difference * x[row]
                if self.layer.b is not None:
                    self.layer.b += difference
                mistakes[-1] += float(difference != 0)
            if mistakes[-1] == 0:
                stop_reason = "no_mistakes"
                break
        seconds = time.perf_counter() - started
        steps = len(mistakes) * len(x)
        return History(mistakes, len(mistakes), steps, seconds, stop_reason)
