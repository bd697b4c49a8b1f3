"""A network as units in columns, joined by lines that show the weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from siglin._data.arrays import check_integer
from siglin._layers import Dense
from siglin._network import Network
from siglin.plot import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYER_DISTANCE = 3.6  # between columns of units, in the units of _drawing
LARGEST = 12.0  # inches of a new network diagram, at most


def network(net: Network, *, max_units: int = 8, ax: "Axes | None" = None) -> "Axes":
    """Draw a network as units joined by their weights.

    Parameters
    ----------
    net : Network
    max_units : int, default 8
        Of a larger layer the first ones, dots and the last one are drawn; at least 3.
    ax : Axes, optional
        Where to draw. Default: new axes, of a size that suits the network.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no network, or max_units no int or less than 3.

    Notes
    -----
    A line is blue where its weight is positive and red where it is negative; the thicker,
    the larger, each layer by its own largest weight. Biases are not drawn.

    Examples
    --------
    >>> import siglin.plot
    >>> ax = siglin.plot.network(siglin.Network([2, 3, 1], seed=1))
    >>> len(ax.lines)
    9
    """
    _check_network(net)
    max_units = check_integer("network", "max_units", max_units, 3)
    sizes = [net.layers[0].n_in, *(layer.n_out for layer in net.layers)]
    shown = [_shown_units(size, max_units) for size in sizes]
    tallest = max(len(units) for units in shown)
    below = -_drawing.STEP * tallest / 2
    x_limits = (-1.6, LAYER_DISTANCE * len(net.layers) + 1.6)
    y_limits = (below - 2.3, -below)
    ax = _diagram_axes(ax, x_limits, y_limits)
    fontsize = _fontsize(ax)
    columns = []
    for i, (units, letter) in enumerate(
        zip(shown, ["x", *["h"] * (len(sizes) - 2), "y"], strict=True)
    ):
        labels = [
            _drawing.DOTS if unit is None else f"${letter}_{{{unit + 1}}}$"
            for unit in units
        ]
        fill = {"x": _drawing.INPUT, "y": _drawing.OUTPUT}.get(letter, _drawing.HIDDEN)
        x = LAYER_DISTANCE * i
        columns.append(_drawing.draw_column(ax, x, labels, fill, fontsize))
        kind = "input" if i == 0 else net.layers[i - 1].activation
        ax.text(
            x,
            below - 0.2,
            f"{sizes[i]}\n{kind}",
            ha="center",
            va="top",
            fontsize=fontsize,
            linespacing=1.5,
        )
    for i, layer in enumerate(net.layers):
        _draw_weights(ax, layer, columns[i : i + 2], shown[i : i + 2])
    ax.legend(
        handles=[
            Line2D([], [], color=_drawing.POSITIVE, label="positive weight"),
            Line2D([], [], color=_drawing.NEGATIVE, label="negative weight"),
        ],
        loc="lower center",
        ncols=2,
        frameon=False,
        fontsize=fontsize,
    )
    return ax


def _check_network(net: object) -> None:
    if not isinstance(net, Network):
        msg = f"network: net must be a Network, got {type(net).__name__}"
        raise TypeError(msg)


def _shown_units(size: int, max_units: int) -> list[int | None]:
    """Return the units that are drawn, with None where others are left out."""
    if size <= max_units:
        return list(range(size))
    return [*range(max_units - 2), None, size - 1]


def _diagram_axes(
    ax: "Axes | None", x_limits: _drawing.Point, y_limits: _drawing.Point
) -> "Axes":
    """Return a sheet of these limits, of a size that suits them where it is new."""
    if ax is None:
        width, height = x_limits[1] - x_limits[0], y_limits[1] - y_limits[0]
        inches = min(0.6, LARGEST / max(width, height))
        ax = _drawing.axes_or_new(None, (inches * width, inches * height))
    _drawing.set_canvas(ax, x_limits, y_limits)
    return ax


def _fontsize(ax: "Axes") -> float:
    """Return the points in which a name fits into a circle."""
    box = ax.get_window_extent()  # in dots
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    dots = min(float(box.width) / (right - left), float(box.height) / (high - low))
    inches = dots / ax.figure.dpi
    return min(11.0, max(4.0, 72 * inches * _drawing.RADIUS * 0.55))


def _draw_weights(
    ax: "Axes",
    layer: Dense,
    columns: Sequence[Sequence[_drawing.Point]],
    shown: Sequence[Sequence[int | None]],
) -> None:
    """Draw the lines between two columns."""
    sources, ends = (
        list(zip(column, (u for u in units if u is not None), strict=True))
        for column, units in zip(columns, shown, strict=True)
    )
    w = np.asarray(layer.w, np.float64)
    largest = float(np.max(np.abs(w))) or 1.0
    for source, i in sources:
        for end, j in ends:
            colour = _drawing.POSITIVE if w[i, j] > 0 else _drawing.NEGATIVE
            share = abs(w[i, j]) / largest
            _drawing.draw_line(ax, source, end, colour, 0.2 + 2.8 * share)
