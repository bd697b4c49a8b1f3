"""Stack: layers one after the other over one vector of parameters, and their copies."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import (
    Array,
    ArrayLike,
    DType,
    check_dtype,
    check_shape,
    normalise,
    plain,
)
from siglin._layers import Dense, assign, assign_parameters
from siglin._losses import loss_of
from siglin._plan import Plan

if TYPE_CHECKING:
    from typing_extensions import Self

# What `Network.forward` keeps for `backward`: x, (outputs, derivatives) of each hidden
# layer, and the last layer's pre-activations.
Tape: TypeAlias = tuple[Array, list[tuple[Array, Array]], Array]


class Stack:
    """What a network is: its plan, its vectors, and the layers that are views of them."""

    _plan: Plan
    _generator: npt.NDArray[np.uint64]

    def _own_vectors(self, n_params: int, dtype: DType) -> None:
        """Make the vectors, of zeros."""
        self._parameters = _core.Parameters(n_params, dtype.name)
        self._params: Array = self._parameters.vector
        self._grads: Array = _core.new_vector(n_params, dtype.name)

    def _build(self, given: Sequence[Dense] = ()) -> None:
        """Make what follows from the plan and the vectors; take over given layers."""
        self._native = self._native_of()
        self._predict_now: Callable[..., Array | None] = self._native.predict_now
        self._learn_now: Callable[..., float | None] = self._native.learn_now
        self._tape: Tape | None = None
        plan = self._plan
        layers = list(given) or [
            Dense.of_network(n_in, n_out, name, bias, self)
            for (n_in, n_out), name, bias in zip(
                pairwise(plan.sizes), plan.activations, plan.biases, strict=True
            )
        ]
        start = 0
        for layer in layers:
            stop = start + (layer.n_in + layer.bias) * layer.n_out
            views = self._params[start:stop], self._grads[start:stop]
            if given:
                layer.join(self, *views)
            else:
                layer.live_in(*views)
            start = stop
        self._layers = tuple(layers)

    def _native_of(self) -> "_core.Network":
        plan = self._plan
        return _core.Network(
            plan.sizes,
            plan.activations,
            plan.biases,
            plan.loss,
            self.dtype.name,
            plan.loss_number,
        )

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers, input side first."""
        return self._layers

    @property
    def params(self) -> Array:
        """All parameters, one contiguous vector."""
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        assign_parameters(type(self).__name__, "params", self._parameters, value)

    @property
    def grads(self) -> Array:
        """All gradients, in the order of `params`."""
        return self._grads

    @grads.setter
    def grads(self, value: ArrayLike) -> None:
        assign(type(self).__name__, "grads", self._grads, value)

    @property
    def n_params(self) -> int:
        """Number of parameters of all layers."""
        return self._params.size

    @property
    def dtype(self) -> DType:
        """float32 or float64."""
        return self._params.dtype

    @property
    def loss_name(self) -> str:
        """Name of the loss."""
        return self._plan.loss

    def __repr__(self) -> str:
        plan = self._plan
        same = len(set(plan.biases)) == 1
        return (
            f"{type(self).__name__}({list(plan.sizes)}, "
            f"activation={list(plan.activations[:-1])}, "
            f"output_activation={plan.activations[-1]!r}, "
            f"loss={loss_of(plan.loss, plan.loss_number)!r}, "
            f"bias={plan.biases[0] if same else list(plan.biases)}, "
            f"dtype={self.dtype.name!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the vectors; the views of them are made anew.
        state = {
            name: value for name, value in vars(self).items() if name not in _NOT_KEPT
        }
        state["_params"] = self._parameters.snapshot()
        state["_grads"] = self._grads.copy()
        state["_generator"] = self._parameters.snapshot_generator(self._generator)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays may come back memory-mapped, read-only or misaligned: joblib, Ray and
        # Dask see to that.
        vars(self).update(
            {name: value for name, value in state.items() if name not in _VECTORS}
        )
        params = state["_params"]
        self._own_vectors(params.size, params.dtype.newbyteorder("="))
        self._params[...] = params
        self._grads[...] = state["_grads"]
        words = np.array(state["_generator"], np.uint64)
        self._generator = _core.copy_generator(words)
        self._build()

    def astype(self, dtype: npt.DTypeLike) -> "Self":
        """Return a copy with parameters of the given dtype.

        Parameters
        ----------
        dtype : dtype_like
            float32 or float64.

        Returns
        -------
        Network
            Of the same generator state and gradients too, but without the memory of an
            optimiser's name.

        Raises
        ------
        DTypeError
            If the dtype is another one.
        ValueError
            If a parameter is too large for float32.

        Examples
        --------
        >>> import siglin
        >>> siglin.Network([2, 1]).astype("float32").params.dtype
        dtype('float32')
        """
        new_dtype = check_dtype("astype", dtype)
        state = self.__getstate__()
        state.pop("_online", None)  # it has this dtype
        for name in ("params", "grads"):
            state[f"_{name}"] = plain("astype", name, state[f"_{name}"], new_dtype)
        network = type(self).__new__(type(self))
        network.__setstate__(state)
        return network

    def get_weights(self) -> list[Array]:
        """Return copies of all weights and biases, as Keras' models do.

        Returns
        -------
        list of ndarray
            For each layer w, of shape (n_in, n_out), and b, of shape (n_out,), if it has
            one. ``model.set_weights(net.get_weights())`` gives them to a Keras model of
            as many Dense layers.

        Examples
        --------
        >>> import siglin
        >>> [array.shape for array in siglin.Network([2, 3, 1]).get_weights()]
        [(2, 3), (3,), (3, 1), (1,)]
        """
        return list(self._plan.views(self._parameters.snapshot()).values())

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy weights and biases from a list such as `get_weights` returns.

        Parameters
        ----------
        weights : sequence of array_like
            For each layer w, of shape (n_in, n_out), and b, of shape (n_out,), if it has
            one; ``net.set_weights(model.get_weights())`` takes them from a Keras model of
            as many Dense layers.

        Raises
        ------
        ShapeError, DTypeError
            If an array has another shape, or is of the other float dtype (Keras' are
            float32, as a network is with ``dtype="float32"``).
        TypeError, ValueError
            If there are more or fewer arrays, or one is not made of numbers. Nothing is
            changed then.
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Network([2, 1])
        >>> net.set_weights([[[1], [2]], [-1]])
        >>> net.params
        array([ 1.,  2., -1.])
        """
        shapes = self._plan.shapes()
        if len(weights) != len(shapes):
            msg = (
                f"set_weights: weights must be {len(shapes)} arrays "
                f"({', '.join(shapes)}), got {len(weights)}"
            )
            raise ValueError(msg)
        params = np.empty_like(self._params)
        for i, (name, view) in enumerate(self._plan.views(params).items()):
            given = f"weights[{i}]"
            array = normalise("set_weights", {given: weights[i]}, self.dtype)[given]
            check_shape("set_weights", given, array, view.shape, f" as {name}")
            view[...] = array
        self._parameters.assign("set_weights", params)


# Made anew in a copy.
_NOT_KEPT = {
    "_layers",
    "_learn_now",
    "_native",
    "_parameters",
    "_predict_now",
    "_tape",
}

# Of a state: their values go into vectors of the network's own.
_VECTORS = {"_params", "_grads", "_generator"}
