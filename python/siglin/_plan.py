"""What a network is to be: its sizes and activations, read from what the user passed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from siglin._data.arrays import (
    Array,
    DType,
    check_choice,
    check_dtype,
    check_flag,
    check_param_count,
    check_size,
)
from siglin._layers import ACTIVATIONS, Dense
from siglin._losses import OF_OUTPUTS, OUTPUTS, loss_and_number
from siglin.errors import DTypeError, ShapeError

# Activations of an output layer that go with one loss only.
_WITH_ONE_LOSS = {"softmax": "cross_entropy", "exp": "poisson"}

OUTPUT_ACTIVATIONS = (*ACTIVATIONS, "exp")


@dataclass(frozen=True)
class Plan:
    """The shape of a network: all that does not change.

    Attributes
    ----------
    sizes : tuple of int
        From the input to the output.
    activations : tuple of str
    biases : tuple of bool
        One for each layer.
    loss : str
    loss_number : float
        Its delta or quantile; 0 of losses without a number.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    biases: tuple[bool, ...]
    loss: str
    loss_number: float = 0.0

    def n_params(self, dtype: DType) -> int:
        """Return the number of parameters; ValueError if no array holds as many."""
        pairs = zip(pairwise(self.sizes), self.biases, strict=True)
        count = sum((n_in + bias) * n_out for (n_in, n_out), bias in pairs)
        check_param_count("Network", count, dtype)
        return count

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every w and b by its name, in the order of the parameters."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (pair, bias) in enumerate(
            zip(pairwise(self.sizes), self.biases, strict=True)
        ):
            shapes[f"layers.{i}.w"] = pair
            if bias:
                shapes[f"layers.{i}.b"] = pair[1:]
        return shapes

    def views(self, params: Array) -> dict[str, Array]:
        """Return every w and b by its name, as views of a vector of parameters."""
        views: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes().items():
            stop = start + math.prod(shape)
            views[name] = params[start:stop].reshape(shape)
            start = stop
        return views


def plan_network(
    layers: object,
    activation: object,
    output_activation: object,
    loss: object,
    bias: object,
    init: object,
    dtype: object,
) -> tuple[Plan, DType, list[Dense]]:
    """Return the plan, the dtype, and the layers to take over, if any were given.

    The parameters are those of `Network`. Nothing is changed.
    """
    if isinstance(layers, str | bytes) or not isinstance(layers, Iterable):
        msg = (
            f"Network: layers must be a list of sizes or of Dense, "
            f"got {type(layers).__name__}"
        )
        raise TypeError(msg)
    entries = list(layers)
    loss, number = loss_and_number("Network", loss)
    bias = check_flag("Network", "bias", bias)
    chosen = check_dtype("Network", dtype)
    given = [entry for entry in entries if isinstance(entry, Dense)]
    if given:
        _check_layers(entries)
        sizes = [given[0].n_in, *(layer.n_out for layer in given)]
        names = [layer.activation for layer in given]
        biases = [layer.bias for layer in given]
        if activation != "sigmoid" or not bias or init != "glorot":
            msg = "Network: activation, bias and init are those of the given layers"
            raise ValueError(msg)
        if output_activation not in (None, names[-1]):
            msg = (
                f"Network: output_activation is {output_activation!r}, "
                f"the last layer's is {names[-1]!r}"
            )
            raise ValueError(msg)
        if chosen not in (given[0].dtype, np.float64):
            msg = f"Network: dtype is {chosen}, the layers' is {given[0].dtype}"
            raise DTypeError(msg)
        chosen = given[0].dtype
    else:
        sizes = [
            check_size("Network", f"layers[{i}]", size)
            for i, size in enumerate(entries)
        ]
        if len(sizes) < 2:
            msg = f"Network: layers must be two sizes or more, got {sizes}"
            raise ValueError(msg)
        names = _hidden_activations(activation, len(sizes) - 2)
        output = OUTPUTS[loss] if output_activation is None else output_activation
        names.append(
            check_choice("Network", "output_activation", output, OUTPUT_ACTIVATIONS)
        )
        biases = [bias] * len(names)
    check_activations(names, loss)
    plan = Plan(tuple(sizes), tuple(names), tuple(biases), loss, number)
    return plan, chosen, given


def _check_layers(entries: Sequence[Any]) -> None:
    """Check that given layers fit one after the other, and are free."""
    for i, layer in enumerate(entries):
        if not isinstance(layer, Dense):
            msg = (
                f"Network: layers must be all sizes or all Dense; layers[{i}] is "
                f"{type(layer).__name__}"
            )
            raise TypeError(msg)
        if any(layer is other for other in entries[:i]) or layer.network is not None:
            msg = (
                f"Network: layers[{i}] is already in a network; copy.deepcopy it to "
                f"use its values again"
            )
            raise ValueError(msg)
    for i, (below, above) in enumerate(pairwise(entries)):
        if below.n_out != above.n_in:
            msg = (
                f"Network: layers[{i + 1}] must have n_in = {below.n_out} to follow "
                f"layers[{i}], got {above.n_in}"
            )
            raise ShapeError(msg)
        if below.dtype != above.dtype:
            msg = (
                f"Network: layers[{i}] is {below.dtype} and layers[{i + 1}] is "
                f"{above.dtype}; they must have the same dtype"
            )
            raise DTypeError(msg)


def _hidden_activations(activation: object, n_hidden: int) -> list[str]:
    """Return one name for each hidden layer."""
    if isinstance(activation, str):
        name = check_choice("Network", "activation", activation, ACTIVATIONS)
        return [name] * n_hidden
    if not isinstance(activation, Iterable):
        msg = (
            f"Network: activation must be a str or a list of them, "
            f"got {type(activation).__name__}"
        )
        raise TypeError(msg)
    names = [
        check_choice("Network", f"activation[{i}]", name, ACTIVATIONS)
        for i, name in enumerate(activation)
    ]
    if len(names) != n_hidden:
        msg = f"Network: activation must name {n_hidden} hidden layers, got {names}"
        raise ValueError(msg)
    return names


def check_activations(names: Sequence[str], loss: str) -> None:
    """Check that the activations go together with each other and with the loss."""
    if "softmax" in names[:-1]:
        raise ValueError('Network: "softmax" is for the output layer only')
    only = None if loss in OF_OUTPUTS else OUTPUTS[loss]
    if only is None and names[-1] in _WITH_ONE_LOSS:
        with_loss = _WITH_ONE_LOSS[names[-1]]
        raise ValueError(
            f'Network: "{names[-1]}" goes with the loss "{with_loss}" only'
        )
    if only is not None and names[-1] != only:
        msg = (
            f"Network: loss {loss!r} needs output_activation {only!r}, "
            f"got {names[-1]!r}"
        )
        raise ValueError(msg)
