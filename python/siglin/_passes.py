"""Passes: forward and backward through a network, for a loop written by hand."""

from typing import Any

from siglin._data.arrays import Array, ArrayLike, check_shape, normalise
from siglin._data.rows import check_finite, check_rows
from siglin._data.sparse import Rows, RowsLike, is_sparse, sparse_rows
from siglin._data.targets import check_targets
from siglin._layers import check_has_gradient
from siglin._stack import Stack, Tape


class Passes(Stack):
    """A stack of layers that goes forward and backward, one call at a time."""

    def loss_and_grads(self, x: RowsLike, t: ArrayLike) -> tuple[float, Array]:
        """Return the loss, and `grads` filled with its gradient.

        Parameters
        ----------
        x, t
            As in `loss`.

        Returns
        -------
        loss : float
        grads : ndarray, shape (n_params,)
            The network's own vector.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            As `loss`; ValueError also if a layer has the activation "step".
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> loss, grads = siglin.Neuron(2).loss_and_grads([[1, 2]], [1])
        >>> grads
        array([-0.5, -1. ])
        """
        self._check_trainable("loss_and_grads")
        data = self._pair("loss_and_grads", x, t)
        grads = self._grads
        return self._native.loss_and_grads(self._parameters, grads, *data), grads

    def forward(self, x: ArrayLike) -> Array:
        """Return the outputs for the rows of x, and keep what `backward` needs.

        Parameters
        ----------
        x : array_like, shape (batch, n_in)
            Kept until `backward`, not copied: do not write into it in between.

        Returns
        -------
        ndarray, shape (batch, n_out)

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError
            As `predict`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> for step in range(100):
        ...     a = net.forward([[1.0, 2.0], [2.0, 1.0]])
        ...     loss = net.backward([0.0, 1.0])
        ...     net.update(lr=1.0)
        >>> a.round().ravel()
        array([0., 1.])
        """
        ready: Any = x
        try:
            a, hidden, z = self._native.forward(self._parameters, ready)
        except (TypeError, ValueError):
            ready = self._inputs("forward", x)
            a, hidden, z = self._native.forward(self._parameters, ready)
        self._tape = ready, hidden, z
        return a

    def backward(self, t: ArrayLike) -> float:
        """Fill `grads` with the gradient of the loss, and return the loss.

        Parameters
        ----------
        t : array_like
            Targets of the rows that `forward` was given, as in `loss`.

        Returns
        -------
        float
            The loss, computed from the logits that `forward` kept.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread fits the network ("busy").
        ShapeError, DTypeError, ValueError
            As `loss_and_grads`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> a = net.forward([[1, 2]])
        >>> round(net.backward([1]), 6), net.grads
        (0.693147, array([-0.5, -1. ]))
        """
        self._check_trainable("backward")
        tape = self._taped("backward")
        ready = self._targets("backward", t, len(tape[0]))
        return self._native.backward(self._parameters, self._grads, *tape, ready)

    def backward_from(self, da: ArrayLike) -> Array:
        """Fill `grads` from the gradient da of your own loss, and return dx.

        Parameters
        ----------
        da : array_like, shape (batch, n_out)
            Gradient of the loss with respect to what `forward` returned. If the loss is a
            mean over the rows, da carries the 1 / batch.

        Returns
        -------
        ndarray, shape (batch, n_in)
            Gradient of the loss with respect to x.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread fits the network ("busy").
        ShapeError, DTypeError
            If da has another shape, or is of the other float dtype.
        ValueError
            If a layer has the activation "step".

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> a = net.forward([[1, 2]])
        >>> dx = net.backward_from([[1.0]])
        >>> net.grads
        array([0.25, 0.5 ])
        """
        self._check_trainable("backward_from")
        tape = self._taped("backward_from")
        ready = normalise("backward_from", {"da": da}, self.dtype)["da"]
        check_shape("backward_from", "da", ready, tape[2].shape)
        return self._native.backward_from(self._parameters, self._grads, *tape, ready)

    def _taped(self, function: str) -> Tape:
        if self._tape is None:
            raise RuntimeError(f"{function}: forward comes first")
        return self._tape

    # ---- checks ----------------------------------------------------------------------

    def _check_trainable(self, function: str) -> None:
        if "step" in self._plan.activations:
            check_has_gradient(function, "step")

    def _inputs(self, function: str, x: object) -> Array:
        return check_rows(function, "x", x, self.dtype, self._plan.sizes[0])

    def _rows(self, function: str, x: object) -> Rows:
        """Return inputs, dense or sparse."""
        if is_sparse(x):
            return sparse_rows(function, x, self.dtype, self._plan.sizes[0])
        return self._inputs(function, x)

    def _targets(
        self, function: str, t: object, rows: int, *, finite: bool = False
    ) -> Array:
        plan = self._plan
        shape = rows, plan.sizes[-1]
        return check_targets(function, t, shape, plan.loss, self.dtype, finite=finite)

    def _pair(
        self, function: str, x: object, t: object, *, finite: bool = False
    ) -> tuple[Rows, Array]:
        """Return inputs and targets of as many rows."""
        inputs = self._rows(function, x)
        if finite:
            check_finite(function, "x", inputs)
        return inputs, self._targets(function, t, len(inputs), finite=finite)
