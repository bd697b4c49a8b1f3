"""What every conversion does: check a network, and make a layer of given values."""

from typing import Any

import numpy as np

from siglin._data.arrays import Array, normalise
from siglin._layers import Dense
from siglin._network import Network


def check_network(function: str, net: object) -> None:
    if not isinstance(net, Network):
        msg = f"{function}: net must be a Network, got {type(net).__name__}"
        raise TypeError(msg)


def dense(function: str, name: str, w: Any, b: Any, activation: str) -> Dense:
    """Return a layer of these values."""
    arrays = {name: w} if b is None else {name: w, f"bias of {name}": b}
    ready = list(normalise(function, arrays).values())
    n_in, n_out = ready[0].shape
    layer = Dense(
        n_in,
        n_out,
        activation,
        bias=b is not None,
        init="zeros",
        dtype=ready[0].dtype,
    )
    layer.w = ready[0]
    if b is not None:
        layer.b = ready[1]
    return layer


def bias_or_zeros(layer: Dense) -> Array:
    b: Array = np.zeros(layer.n_out, layer.dtype) if layer.b is None else layer.b.copy()
    return b
