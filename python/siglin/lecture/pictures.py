"""The lecture's pictures, drawn with matplotlib (the extra ``plot``)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from siglin import plot
from siglin.plot._drawing import draw_classes, draw_halves

from .diagrams import layer_diagram, network_diagram, worked_example_diagram
from .iris_neuron import grid_axes, iris_rows
from .sanity_run import STEPS, Descent
from .worked_example import Values

DOTS_PER_INCH = 150


def write_pictures(
    directory: Path,
    *,
    example: Values,
    descents: Mapping[int, Descent],
    theta: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
) -> list[Path]:
    """Write the lecture's pictures as PNG files.

    Parameters
    ----------
    directory : Path
        An existing directory; files of the same names in it are replaced.
    example : dict of str to ndarray
        The worked example for target 1, as ``work_through`` returns it.
    descents : mapping of int to Descent
        The sanity run of each target.
    theta : ndarray, shape (3,), float64
        The neuron trained on the Iris rows.
    scores : ndarray, shape (220, 280), float64
        Its scores over the grid.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    figures = {
        "activations": activations_picture(),
        "iris": iris_picture(theta, scores),
        "sanity_run": sanity_run_picture(descents),
        "worked_example": worked_example_diagram(example, target=1),
        "layer": layer_diagram(),
        "network": network_diagram(),
    }
    paths = []
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        # A Figure made without pyplot saves a PNG with the Agg renderer: no display, no
        # state shared with the caller's own plots.
        figure.savefig(path, dpi=DOTS_PER_INCH)
        paths.append(path)
    return paths


def activations_picture() -> Figure:
    """Draw step, sigmoid, tanh and ReLU over [-5, 5].

    Returns
    -------
    Figure
        Four axes, one curve each.
    """
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    titles = {
        "step": "step: 1 if $z > 0$, else 0",
        "sigmoid": r"sigmoid: $1 / (1 + e^{-z})$",
        "tanh": r"tanh: $(e^z - e^{-z}) / (e^z + e^{-z})$",
        "relu": r"ReLU: $\max(0, z)$",
    }
    all_axes = figure.subplots(2, 2, sharex=True).flat
    for ax, (name, title) in zip(all_axes, titles.items(), strict=True):
        plot.activation(name, derivative=False, ax=ax)
        ax.set_title(title)
        if not ax.get_subplotspec().is_last_row():
            ax.set_xlabel("")
    return figure


def iris_picture(
    theta: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> Figure:
    """Draw the two classes of the Iris rows and the neuron's decision over the plane.

    Parameters
    ----------
    theta : ndarray, shape (3,), float64
        Weights of sepal length (1 / cm), sepal width (1 / cm) and the ones.
    scores : ndarray, shape (220, 280), float64
        The neuron's scores over the grid; points of 0.5 or more are the rest.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(8.5, 6.5), layout="constrained")
    ax = figure.add_subplot()
    lengths, widths = grid_axes()
    draw_halves(ax, lengths, widths, scores)
    # The score is 0.5 where theta . (length, width, 1) = 0: here solved for the length
    # at the plane's lowest and highest width.
    ends = widths[[0, -1]]
    at_length = -(theta[1] * ends + theta[2]) / theta[0]
    ax.plot(at_length, ends, color="black", linewidth=1.5, label="score 0.5")
    x, t = iris_rows()
    draw_classes(ax, x[:, :2], t.astype(np.intp), ["setosa", "versicolor or virginica"])
    ax.set_xlim(lengths[0], lengths[-1])
    ax.set_ylim(widths[0], widths[-1])
    ax.set_xlabel("sepal length (cm)")
    ax.set_ylabel("sepal width (cm)")
    ax.set_title("Iris setosa against the rest: one neuron's decision")
    ax.legend(loc="lower right")
    return figure


def sanity_run_picture(descents: Mapping[int, Descent]) -> Figure:
    """Draw the loss and the score before each step of the sanity run.

    Parameters
    ----------
    descents : mapping of int to Descent
        The run to each target.

    Returns
    -------
    Figure
        Two axes, loss and score, with a curve for each target.
    """
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    loss_ax, score_ax = figure.subplots(1, 2)
    for (target, descent), style in zip(descents.items(), ("-", "--"), strict=True):
        steps = np.arange(1, STEPS + 1)
        label = f"target {target}"
        loss_ax.plot(steps, descent.losses[:-1], style, linewidth=2, label=label)
        score_ax.plot(steps, descent.scores[:-1], style, linewidth=2, label=label)
    loss_ax.set_ylabel("loss before the step")
    loss_ax.set_ylim(bottom=0)
    score_ax.set_ylabel("score before the step")
    score_ax.set_ylim(0, 1)
    for ax in (loss_ax, score_ax):
        ax.set_xlabel("step")
        ax.set_xlim(1, STEPS)
        ax.grid(alpha=0.3)
        ax.legend(loc="center right")
    figure.suptitle("100 descent steps on one row, step size 0.1")
    return figure
