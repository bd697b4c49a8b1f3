"""Diagrams of neurons and networks: circles in columns, joined by lines."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from siglin.plot._drawing import (
    DOTS,
    EDGE,
    GRADIENT,
    HIDDEN,
    INPUT,
    OUTPUT,
    RADIUS,
    VALUE,
    Point,
    draw_column,
    draw_line,
    draw_unit,
    set_canvas,
)

from .worked_example import V, Values, W, X

INCHES = 0.85


def worked_example_diagram(values: Values, target: int) -> Figure:
    """Draw the 2-3-1 network with the worked example's values and gradients.

    Parameters
    ----------
    values : dict of str to ndarray
        As ``work_through`` returns them.
    target : int
        The target they belong to, for the title.

    Returns
    -------
    Figure
        A circle holds a unit's name and value, a line's label the weight; the gradient
        of J with respect to each stands under it or beside it.
    """
    figure, ax = _canvas(x_limits=(-1.5, 9.5), y_limits=(-4.2, 4.2))
    inputs = [(0.0, 1.6), (0.0, -1.6)]
    hidden = [(4.0, 3.0), (4.0, 0.0), (4.0, -3.0)]
    output = (8.0, 0.0)

    # Where along its line a label stands: such that no two of them meet.
    along = {(0, 0): 0.5, (0, 1): 0.3, (0, 2): 0.75}
    along |= {(1, 0): 0.75, (1, 1): 0.3, (1, 2): 0.5}
    for (i, j), share in along.items():
        draw_line(ax, inputs[i], hidden[j])
        place = _between(inputs[i], hidden[j], share)
        _value_and_gradient(ax, place, W[i, j], values["dJ/dW"][i, j])
    for j, unit in enumerate(hidden):
        draw_line(ax, unit, output)
        place = _between(unit, output, 0.5)
        _value_and_gradient(ax, place, V[j, 0], values["dJ/dV"][j, 0])

    for i, (place, side) in enumerate(zip(inputs, (1, -1), strict=True)):
        draw_unit(ax, place, f"$x_{i + 1}$", INPUT, f"{X[0, i]:g}")
        _gradient(ax, place, side, f"x_{i + 1}", values["dJ/dx"][0, i])
    for j, (place, side) in enumerate(zip(hidden, (1, 1, -1), strict=True)):
        draw_unit(ax, place, f"$h_{j + 1}$", HIDDEN, f"{values['h'][0, j]:.5f}")
        _gradient(ax, place, side, f"h_{j + 1}", values["dJ/dh"][0, j])
    draw_unit(ax, output, "$y$", OUTPUT, f"{values['y'][0, 0]:.5f}")
    _gradient(ax, output, 1, "y", values["dJ/dy"][0, 0])
    ax.text(8.0, -0.9, f"$J$ = {float(values['J']):.6f}", ha="center", va="center")

    ax.set_title(f"The worked example, one row with target {target}")
    ax.text(6.4, -3.6, "value of the unit or weight", color=VALUE)
    ax.text(6.4, -4.0, "gradient of $J$ with respect to it", color=GRADIENT)
    return figure


def layer_diagram() -> Figure:
    """Draw a layer: p neurons in parallel on the same n inputs.

    Returns
    -------
    Figure
    """
    figure, ax = _canvas(x_limits=(-1.2, 8.6), y_limits=(-4.5, 3.1))
    inputs = draw_column(ax, 0.0, ("$x_1$", "$x_2$", DOTS, "$x_n$"), INPUT)
    units = draw_column(ax, 4.6, ("$\\sigma$", "$\\sigma$", DOTS, "$\\sigma$"), HIDDEN)
    _join(ax, inputs, units)
    for (x, y), name in zip(units, ("$a_1$", "$a_2$", "$a_p$"), strict=True):
        ax.annotate(
            name,
            xy=(x + RADIUS, y),
            xytext=(x + 2.2, y),
            va="center",
            arrowprops={"arrowstyle": "<-", "color": EDGE},
        )
    for x, caption in ((0.0, "$n$ inputs"), (4.6, "$p$ neurons"), (6.9, "$p$ outputs")):
        ax.text(x, -3.3, caption, ha="center")
    ax.set_title("A layer: $p$ neurons in parallel on the same $n$ inputs")
    formula = (
        r"$a_j = \sigma(x_1 W_{1j} + \ldots + x_n W_{nj})$, all at once "
        r"$a = \sigma(x\,W)$ with one matrix $W$ $(n, p)$"
    )
    ax.text(3.7, -4.2, formula, ha="center")
    return figure


def network_diagram() -> Figure:
    """Draw a network: any number of layers, each of any size, one after the other.

    Returns
    -------
    Figure
    """
    figure, ax = _canvas(x_limits=(-1.3, 12.8), y_limits=(-5.2, 3.9))
    columns = [
        draw_column(ax, 0.0, ("$x_1$", "$x_2$", DOTS, "$x_n$"), INPUT),
        draw_column(ax, 3.6, (*3 * ["$\\sigma$"], DOTS, "$\\sigma$"), HIDDEN),
        draw_column(ax, 7.9, (*2 * ["$\\sigma$"], DOTS, "$\\sigma$"), HIDDEN),
        draw_column(ax, 11.5, ("$y$",), OUTPUT),
    ]
    _join(ax, columns[0], columns[1])
    _join(ax, columns[2], columns[3])
    ax.text(5.75, 0.0, "…", ha="center", va="center", fontsize=26)
    captions = (
        (0.0, "input layer\n$x$"),
        (3.6, "hidden layer 1\n$a_1 = \\sigma(x\\,W_1)$"),
        (7.9, "hidden layer $k$\n$a_k = \\sigma(a_{k-1}\\,W_k)$"),
        (11.5, "output layer\n$y = \\sigma(a_k\\,W_{k+1})$"),
    )
    for x, caption in captions:
        ax.text(x, -4.0, caption, ha="center", va="top", linespacing=1.6)
    ax.set_title("A network: layers of any size, each fed by the one before")
    return figure


def _canvas(*, x_limits: Point, y_limits: Point) -> tuple[Figure, Axes]:
    """Return an empty figure, sized so that one unit of the drawing is INCHES long."""
    width, height = x_limits[1] - x_limits[0], y_limits[1] - y_limits[0]
    figure = Figure(
        figsize=(INCHES * width, INCHES * height + 0.4), layout="constrained"
    )
    ax = figure.add_subplot()
    set_canvas(ax, x_limits, y_limits)
    return figure, ax


def _join(ax: Axes, sources: Sequence[Point], ends: Sequence[Point]) -> None:
    for source in sources:
        for end in ends:
            draw_line(ax, source, end)


def _between(source: Point, end: Point, share: float) -> Point:
    """Return the point that lies the given share of the way from source to end."""
    return (
        source[0] + share * (end[0] - source[0]),
        source[1] + share * (end[1] - source[1]),
    )


def _value_and_gradient(ax: Axes, place: Point, value: float, grad: float) -> None:
    x, y = place
    box: Mapping[str, object] = {
        "boxstyle": "square,pad=0.1",
        "facecolor": "white",
        "edgecolor": "none",
    }
    for offset, number, colour in ((0.16, value, VALUE), (-0.16, grad, GRADIENT)):
        ax.text(
            x,
            y + offset,
            f"{number:.4g}",
            color=colour,
            ha="center",
            va="center",
            fontsize=9.5,
            bbox=dict(box),
            zorder=4,
        )


def _gradient(ax: Axes, place: Point, side: int, name: str, grad: float) -> None:
    """Write a unit's gradient above (side 1) or below (side -1) its circle."""
    text = rf"$\partial J/\partial {name}$ = {grad:.4g}"
    y = place[1] + side * (RADIUS + 0.3)
    ax.text(place[0], y, text, color=GRADIENT, ha="center", va="center", fontsize=9.5)
