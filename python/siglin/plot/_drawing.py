"""What several pictures are made of: units as circles in columns, classes in colours."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from siglin._data.arrays import AnyArray

Point: TypeAlias = tuple[float, float]

RADIUS = 0.55  # of a unit; units of a column stand STEP apart
STEP = 1.5
EDGE = "#8a8a8a"
INPUT, HIDDEN, OUTPUT = "#dce9f5", "#fdebd0", "#dff0d8"
VALUE, GRADIENT = "#1f4e9c", "#b03020"
DOTS = "⋮"
POSITIVE, NEGATIVE = "#2166ac", "#b2182b"  # the ends of the colour map below
WEIGHT_COLOURS = "RdBu"

# A colour and a marker for each class; then they begin again.
CLASS_COLOURS = (
    *("#1f77b4", "#d9701a", "#2ca02c", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#d62728"),
)
CLASS_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
REGION_ALPHA = 0.15


# ---- axes ---------------------------------------------------------------------------


def axes_or_new(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return the axes, or new ones."""
    if ax is not None:
        return ax
    # pyplot shows a figure in notebooks, and chooses a window system: not before need.
    import matplotlib.pyplot as plt  # noqa: PLC0415

    _, new = plt.subplots(figsize=size, layout="constrained")
    return new


# ---- units in columns ----------------------------------------------------------------


def set_canvas(ax: Axes, x_limits: Point, y_limits: Point) -> None:
    """Make axes an empty sheet."""
    ax.set_xlim(*x_limits)
    ax.set_ylim(*y_limits)
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_column(
    ax: Axes, x: float, labels: Sequence[str], colour: str, fontsize: float = 10.0
) -> list[Point]:
    """Draw one layer's units under each other; return the centres of the circles."""
    top = STEP / 2 * (len(labels) - 1)
    centres = []
    for i, label in enumerate(labels):
        place = (x, top - STEP * i)
        if label == DOTS:
            ax.text(*place, DOTS, ha="center", va="center", fontsize=2 * fontsize)
        else:
            draw_unit(ax, place, label, colour, fontsize=fontsize)
            centres.append(place)
    return centres


def draw_unit(
    ax: Axes,
    place: Point,
    name: str,
    colour: str,
    value: str = "",
    fontsize: float = 10.0,
) -> None:
    """Draw a circle with a name in it, and under the name its value if it has one."""
    ax.add_patch(Circle(place, RADIUS, facecolor=colour, edgecolor="black", zorder=2))
    x, y = place
    lift = 0.14 if value else 0.0
    ax.text(x, y + lift, name, ha="center", va="center", fontsize=fontsize, zorder=3)
    if value:
        ax.text(x, y - lift, value, color=VALUE, ha="center", va="center", fontsize=9.5)


def draw_line(
    ax: Axes, source: Point, end: Point, colour: str = EDGE, width: float = 1.0
) -> None:
    """Draw the line from one unit to another."""
    ax.plot(
        [source[0], end[0]],
        [source[1], end[1]],
        color=colour,
        linewidth=width,
        zorder=1,
    )


# ---- classes -------------------------------------------------------------------------


def class_colours(n: int) -> list[str]:
    """Return a colour for each class."""
    return [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(n)]


def draw_halves(
    ax: Axes, xs: AnyArray, ys: AnyArray, scores: AnyArray, threshold: float = 0.5
) -> None:
    """Colour the points of a plane by the side of the threshold their score is on."""
    low = min(0.0, float(np.min(scores)))
    high = max(1.0, float(np.max(scores)))
    ax.contourf(
        xs,
        ys,
        scores,
        levels=[low, threshold, high],
        colors=class_colours(2),
        alpha=REGION_ALPHA,
    )


def draw_classes(
    ax: Axes, points: AnyArray, classes: npt.NDArray[np.intp], names: Sequence[str]
) -> None:
    """Draw the points of each class in its colour and with its marker."""
    for k, (name, colour) in enumerate(
        zip(names, class_colours(len(names)), strict=True)
    ):
        rows = points[classes == k]
        ax.scatter(
            rows[:, 0],
            rows[:, 1],
            color=colour,
            marker=CLASS_MARKERS[k % len(CLASS_MARKERS)],
            edgecolor="black",
            linewidth=0.5,
            label=name,
        )
