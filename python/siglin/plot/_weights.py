"""The weights of a layer as an image, or as an image for each unit."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from siglin._data.arrays import AnyArray, check_integer
from siglin._layers import Dense
from siglin._network import Network
from siglin._neuron import Perceptron
from siglin.errors import ShapeError
from siglin.plot import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def weights(
    model: Any,
    layer: int = 0,
    *,
    shape: tuple[int, int] | None = None,
    colorbar: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the weights of a layer as an image: blue is positive, red negative, white 0.

    Parameters
    ----------
    model : Network, Dense, Perceptron or array_like
        Or the weights themselves, of shape (n_in, n_out).
    layer : int, default 0
        Which layer of a network; -1 is the last.
    shape : (int, int), optional
        Rows and columns of the image that the inputs are, whose product is n_in: every
        unit's weights are then an image of their own. Default: one image of n_in rows
        and n_out columns.
    colorbar : bool, default True
        Whether a bar beside the axes tells the values.
    ax : Axes, optional
        Where to draw. Default: new axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If the model is something else, or has no such layer.
    ShapeError
        If ``shape`` is not one of n_in.

    Examples
    --------
    >>> import siglin.plot
    >>> net = siglin.Network([64, 10, 3], seed=1)
    >>> ax = siglin.plot.weights(net, shape=(8, 8))
    >>> siglin.plot.weights(net, 1).get_ylabel()
    'input'
    """
    w = _weights(model, layer)
    image = w if shape is None else _mosaic(w, shape)
    ax = _drawing.axes_or_new(ax)
    largest = float(np.nanmax(np.abs(w))) or 1.0
    drawn = ax.imshow(
        image,
        cmap=_drawing.WEIGHT_COLOURS,
        vmin=-largest,
        vmax=largest,
        interpolation="nearest",
        aspect="auto" if shape is None else "equal",
    )
    if shape is None:
        ax.set_xlabel("unit")
        ax.set_ylabel("input")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    else:
        ax.set_axis_off()
    if colorbar:
        ax.figure.colorbar(drawn, ax=ax, label="weight")
    return ax


def _weights(model: Any, layer: int) -> AnyArray:
    """Return the weights of one layer as a matrix."""
    if isinstance(model, Network):
        n = len(model.layers)
        return model.layers[check_integer("weights", "layer", layer, -n, n - 1)].w
    if isinstance(model, Dense):
        return model.w
    if isinstance(model, Perceptron):
        return model.params[: model.n_in].reshape(-1, 1)
    try:
        w = np.asarray(model, np.float64)
    except (TypeError, ValueError):
        w = np.empty(0)
    if w.ndim != 2 or w.size == 0:
        msg = (
            f"weights: model must be a Network, Dense, Perceptron or a matrix, "
            f"got {type(model).__name__}"
        )
        raise TypeError(msg)
    return w


def _mosaic(w: AnyArray, shape: tuple[int, int]) -> AnyArray:
    """Return the images of all units side by side, with a pixel of nothing between."""
    rows, cols = shape
    n_in, n_out = w.shape
    if rows * cols != n_in:
        raise ShapeError(f"weights: shape must hold {n_in} inputs, got {shape}")
    # Near a square, with as few places left empty as may be.
    square = math.ceil(math.sqrt(n_out * rows / cols))
    across = min(range(square, square + square // 2 + 1), key=lambda n: -n_out % n)
    down = math.ceil(n_out / across)
    image = np.full((down * (rows + 1) - 1, across * (cols + 1) - 1), np.nan)
    for k in range(n_out):
        top, left = (k // across) * (rows + 1), (k % across) * (cols + 1)
        image[top : top + rows, left : left + cols] = w[:, k].reshape(shape)
    return image
