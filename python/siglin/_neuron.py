"""Neuron and Perceptron: one neuron with a sigmoid, and one with a step."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    DType,
    check_dtype,
    check_flag,
    check_integer,
    check_size,
)
from siglin._data.rows import check_finite, check_rows
from siglin._data.targets import check_labels
from siglin._functions import forward
from siglin._layers import assign_parameters
from siglin._network import Network
from siglin._plan import Plan
from siglin._training.history import History
from siglin.errors import DivergenceError

if TYPE_CHECKING:
    from typing_extensions import Self

    from siglin.files import Record

_perceptron_fit: Callable[..., tuple[list[int], int, str]] = _core.perceptron_fit


class Neuron(Network):
    """One sigmoid neuron that starts at zero: logistic regression.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    bias : bool, default False
        Whether there is a b.
    dtype : dtype_like, default "float64"
        float32 or float64.

    Attributes
    ----------
    theta : ndarray, shape (n_in,) or (n_in + 1,)
        The same as ``params``: the weights, then the bias if there is one.

    Notes
    -----
    Everything else is `Network`'s. The loss is the binary cross-entropy.

    Examples
    --------
    >>> import siglin
    >>> neuron = siglin.Neuron(1)
    >>> neuron.fit([[-1.0], [1.0]], [0, 1], lr=1.0, epochs=100).steps
    100
    >>> bool(neuron.theta[0] > 3)
    True
    """

    _kind: ClassVar[str] = "Neuron"

    def __init__(
        self, n_in: int, *, bias: bool = False, dtype: npt.DTypeLike = "float64"
    ) -> None:
        n_in = check_size("Neuron", "n_in", n_in)
        super().__init__([n_in, 1], bias=bias, init="zeros", dtype=dtype)

    @property
    def theta(self) -> Array:
        """The parameters: one weight for each input, then the bias if there is one."""
        return self._params

    @theta.setter
    def theta(self, value: ArrayLike) -> None:
        assign_parameters("Neuron", "theta", self._parameters, value)

    def __repr__(self) -> str:
        return (
            f"Neuron({self._plan.sizes[0]}, bias={self._plan.biases[0]}, "
            f"dtype={self.dtype.name!r})"
        )


class Perceptron:
    """One neuron with a step: 1 where x @ w + b > 0 and 0 elsewhere. It starts at zero.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    bias : bool, default False
        Whether there is a b.
    dtype : dtype_like, default "float64"
        float32 or float64.

    Attributes
    ----------
    params, theta : ndarray, shape (n_in,) or (n_in + 1,)
        The weights, then the bias if there is one. Assigning copies the values.
    n_in, n_params : int
    bias : bool
    dtype : dtype

    Raises
    ------
    TypeError, ValueError
        If n_in is not an int or out of range.
    DTypeError
        If the dtype is another one.

    References
    ----------
    F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
    organization in the brain", Psychological Review 65 (1958) 386.

    Examples
    --------
    >>> import siglin
    >>> x = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> perceptron = siglin.Perceptron(2, bias=True)
    >>> perceptron.fit(x, [0, 0, 0, 1], epochs=100).stop_reason
    'no_mistakes'
    >>> perceptron.predict(x).ravel()
    array([0., 0., 0., 1.])
    """

    def __init__(
        self, n_in: int, *, bias: bool = False, dtype: npt.DTypeLike = "float64"
    ) -> None:
        self._n_in = check_size("Perceptron", "n_in", n_in)
        self._bias = check_flag("Perceptron", "bias", bias)
        self._own_params(check_dtype("Perceptron", dtype))

    def _own_params(self, dtype: DType) -> None:
        self._parameters = _core.Parameters(self._n_in + self._bias, dtype.name)
        self._params: Array = self._parameters.vector

    @property
    def params(self) -> Array:
        """The weights, then the bias if there is one."""
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        assign_parameters("Perceptron", "params", self._parameters, value)

    @property
    def theta(self) -> Array:
        """The same as `params`."""
        return self._params

    @theta.setter
    def theta(self, value: ArrayLike) -> None:
        assign_parameters("Perceptron", "theta", self._parameters, value)

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self._n_in

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return self._params.size

    @property
    def bias(self) -> bool:
        """Whether there is a b."""
        return self._bias

    @property
    def dtype(self) -> DType:
        """float32 or float64."""
        return self._params.dtype

    def __repr__(self) -> str:
        return f"Perceptron({self._n_in}, bias={self._bias}, dtype={self.dtype.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_n_in": self._n_in,
            "_bias": self._bias,
            "_params": self._parameters.snapshot(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        params = state.pop("_params")  # memory-mapped, perhaps, or misaligned
        vars(self).update(state)
        self._own_params(params.dtype.newbyteorder("="))
        self._params[...] = params

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write the perceptron to a safetensors file, which `siglin.load` reads.

        Parameters
        ----------
        path : str or path-like
            Usually ``something.safetensors``; no ending is added.
        overwrite : bool, default True
            Whether a file of that name may be replaced.

        Raises
        ------
        ImportError, OSError, TypeError
            As `siglin.files.save`, which says what the file holds.

        Examples
        --------
        >>> import siglin
        >>> siglin.Perceptron(2).save("perceptron.safetensors")
        >>> siglin.load("perceptron.safetensors")
        Perceptron(2, bias=False, dtype='float64')
        """
        plan = Plan((self._n_in, 1), ("step",), (self._bias,), "")
        from siglin.files import Record, save  # noqa: PLC0415  not at every import

        record = Record("Perceptron", plan, self._parameters.snapshot())
        save(record, path, overwrite=overwrite)

    @classmethod
    def _from_record(cls, record: "Record") -> "Self":
        """Return a new perceptron of a checked record."""
        plan, params = record.plan, record.params
        model = cls(plan.sizes[0], bias=plan.biases[0], dtype=params.dtype)
        model.params = params
        return model

    def predict(self, x: ArrayLike, *, out: AnyArray | None = None) -> Array:
        """Return 0 or 1 for each row of x.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
        out : ndarray, shape (batch, 1), optional
            Where to write them.

        Returns
        -------
        ndarray, shape (batch, 1)

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError
            As `siglin.forward`.

        Examples
        --------
        >>> import siglin
        >>> siglin.Perceptron(2).predict([[1, 2]])
        array([[0.]])
        """
        ready = check_rows("predict", "x", x, self.dtype, self._n_in)
        params = self._parameters.snapshot()
        w = params[: self._n_in].reshape(-1, 1)
        b = params[self._n_in :] if self._bias else None
        return forward(ready, w, b, activation="step", out=out)

    def fit(self, x: ArrayLike, t: ArrayLike, *, epochs: int = 1000) -> History:
        """Apply the perceptron rule, row by row, until an epoch without a mistake.

        For each row in order, w += (t - a) x and b += t - a, where a is what the present
        parameters predict; nothing changes where that is right.

        Parameters
        ----------
        x : array_like, shape (rows, n_in)
            Finite numbers.
        t : array_like, shape (rows,) or (rows, 1)
            0 or 1.
        epochs : int, default 1000
            Stop after so many in any case.

        Returns
        -------
        History
            Its ``loss`` is the number of mistakes of each epoch, its ``steps`` the
            number of rows visited, its ``stop_reason`` "no_mistakes" or "epochs".

        Raises
        ------
        ShapeError, DTypeError
            If x or t has another shape, no rows, or is of the other float dtype.
        TypeError, ValueError
            If ``epochs`` is not an int or negative, x contains NaN or infinity, or t
            something else than 0 and 1.
        DivergenceError
            If the parameters overflow; those from before the fit are kept.
        RuntimeError
            If the perceptron is busy with another fit.

        Notes
        -----
        On rows that a plane separates the rule ends after finitely many mistakes; on
        others it never does, and stops after ``epochs``.

        References
        ----------
        A. B. J. Novikoff, "On convergence proofs on perceptrons", Symposium on the
        Mathematical Theory of Automata 12 (1962) 615.

        Examples
        --------
        >>> import siglin
        >>> perceptron = siglin.Perceptron(1)
        >>> perceptron.fit([[-1.0], [2.0]], [0, 1]).loss
        [1.0, 0.0]
        >>> perceptron.theta
        array([2.])
        """
        epochs = check_integer("fit", "epochs", epochs, 0, 2**63 - 1)
        rows = check_rows("fit", "x", x, self.dtype, self._n_in)
        labels = check_labels("fit", t, len(rows), self.dtype)
        check_finite("fit", "x", rows)
        started = time.perf_counter()
        mistakes, done, reason = _perceptron_fit(
            self._parameters, rows, labels.reshape(-1, 1), self._bias, epochs
        )
        if reason == "diverged":
            msg = "fit: the parameters overflowed; those from before are kept"
            raise DivergenceError(msg)
        seconds = time.perf_counter() - started
        losses = [float(count) for count in mistakes]
        return History(losses, done, done * len(rows), seconds, reason)
