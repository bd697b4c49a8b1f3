"""Pictures of networks and of their training, drawn with matplotlib (the extra ``plot``).

Every function draws into the axes ``ax``, or into new ones of pyplot, and returns them;
titles, labels and limits are the caller's to change. Nothing is shown or saved.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from siglin._data.arrays import (
    AnyArray,
    Array,
    ArrayLike,
    check_choice,
    check_flag,
    check_integer,
    check_positive,
)
from siglin._functions import backward, forward
from siglin._layers import Dense
from siglin._network import Network
from siglin._neuron import Perceptron
from siglin.errors import ShapeError

try:
    from matplotlib.colors import ListedColormap
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from siglin import _drawing
except ImportError as error:
    raise ImportError(
        'siglin.plot needs matplotlib: pip install "siglin[plot]"'
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "activation",
    "confusion",
    "decision_boundary",
    "loss",
    "network",
    "weights",
]

CURVES = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "step")
POSITIVE, NEGATIVE = "#2166ac", "#b2182b"  # the ends of the colour map below
WEIGHT_COLOURS = "RdBu"
GRID = 200  # points along each side of a decision boundary's plane
MARGIN = 0.1  # of the plane around the points, as a share of their range
LAYER_DISTANCE = 3.6  # between columns of units, in the units of _drawing
LARGEST = 12.0  # inches of a new network diagram, at most


# ---- training ------------------------------------------------------------------------


def loss(
    history: Any,
    *,
    label: str | None = None,
    log: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the loss over the epochs, and the validation loss where there is one.

    Parameters
    ----------
    history : History, estimator or sequence of float
        What `Network.fit` returned; or an estimator with ``loss_curve_``; or numbers, one
        per epoch.
    label : str, optional
        For the legend, where several fits share the axes.
    log : bool, default False
        Whether the loss is on a logarithmic scale.
    ax : Axes, optional
        Where to draw. Default: new axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        If the history is something else.

    Examples
    --------
    >>> import siglin.plot
    >>> net = siglin.Neuron(1)
    >>> history = net.fit([[-1.0], [1.0]], [0, 1], lr=1.0, epochs=20)
    >>> ax = siglin.plot.loss(history, label="gradient descent")
    >>> ax.get_xlabel(), len(ax.lines[0].get_xdata())
    ('epoch', 20)
    """
    log = check_flag("loss", "log", log)
    training, validation = _loss_curves(history)
    ax = _axes(ax)
    name = "training" if label is None else label
    (line,) = ax.plot(np.arange(1, len(training) + 1), training, label=name)
    if validation is not None:
        name = "validation" if label is None else f"{label}, validation"
        ax.plot(
            np.arange(1, len(validation) + 1),
            validation,
            "--",
            color=line.get_color(),
            label=name,
        )
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log:
        ax.set_yscale("log")
    ax.grid(alpha=0.3)
    if validation is not None or label is not None:
        ax.legend()
    return ax


def _loss_curves(history: Any) -> tuple[AnyArray, AnyArray | None]:
    """Return the training and the validation loss of each epoch."""
    training: Any = history
    validation = None
    for names in (
        ("loss", "validation_loss"),
        ("loss_curve_", "validation_loss_curve_"),
    ):
        if hasattr(history, names[0]):
            training = getattr(history, names[0])
            validation = getattr(history, names[1], None)
    try:
        curves = [np.asarray(training, np.float64)]
        if validation is not None and len(validation):
            curves.append(np.asarray(validation, np.float64))
    except (TypeError, ValueError):
        curves = []
    if not curves or any(curve.ndim != 1 for curve in curves):
        msg = (
            f"loss: history must be a History, a fitted estimator or a sequence of "
            f"losses, got {type(history).__name__}"
        )
        raise TypeError(msg)
    return curves[0], curves[1] if len(curves) > 1 else None


# ---- activations ---------------------------------------------------------------------


def activation(
    name: str | Sequence[str] = "sigmoid",
    *,
    derivative: bool = True,
    limit: float = 5.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw activations f(z), and their derivatives as dashed lines.

    Parameters
    ----------
    name : str or sequence of str, default "sigmoid"
        "sigmoid", "tanh", "relu", "leaky_relu", "identity" or "step".
    derivative : bool, default True
        Whether f'(z) is drawn too; the step has none.
    limit : float, default 5.0
        z goes from -limit to limit, dimensionless.
    ax : Axes, optional
        Where to draw. Default: new axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, or the limit no positive number.

    Examples
    --------
    >>> import siglin.plot
    >>> ax = siglin.plot.activation(["sigmoid", "tanh"])
    >>> [line.get_label() for line in ax.lines]
    ['sigmoid', "sigmoid'", 'tanh', "tanh'"]
    """
    names = [name] if isinstance(name, str) else list(name)
    chosen = [check_choice("activation", "name", each, CURVES) for each in names]
    derivative = check_flag("activation", "derivative", derivative)
    limit = check_positive("activation", "limit", limit)
    ax = _axes(ax)
    # An even number of points, so that the step's jump lies between two of them.
    z = np.linspace(-limit, limit, 1000)[:, None]
    w = np.ones((1, 1))
    for each in chosen:
        a = forward(z, w, activation=each)
        (line,) = ax.plot(z[:, 0], a[:, 0], linewidth=2, label=each)
        if derivative and each != "step":
            slope = backward(z, w, a, np.ones_like(a), activation=each, z=z).dx
            assert slope is not None
            ax.plot(
                z[:, 0],
                slope[:, 0],
                "--",
                linewidth=1.5,
                color=line.get_color(),
                label=f"{each}'",
            )
    ax.set_xlim(-limit, limit)
    ax.set_xlabel("$z$")
    ax.set_ylabel("activation, derivative" if derivative else "activation")
    ax.grid(alpha=0.3)
    if len(ax.lines) > 1:
        ax.legend()
    return ax


# ---- weights -------------------------------------------------------------------------


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
    ax = _axes(ax)
    largest = float(np.nanmax(np.abs(w))) or 1.0
    drawn = ax.imshow(
        image,
        cmap=WEIGHT_COLOURS,
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


# ---- the network ---------------------------------------------------------------------


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
            Line2D([], [], color=POSITIVE, label="positive weight"),
            Line2D([], [], color=NEGATIVE, label="negative weight"),
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
        ax = _axes(None, (inches * width, inches * height))
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
            colour = POSITIVE if w[i, j] > 0 else NEGATIVE
            share = abs(w[i, j]) / largest
            _drawing.draw_line(ax, source, end, colour, 0.2 + 2.8 * share)


# ---- classifiers ---------------------------------------------------------------------


def decision_boundary(
    model: Any,
    x: ArrayLike,
    t: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw which class a model of two inputs gives each point of the plane.

    Parameters
    ----------
    model : Network, Perceptron or classifier
        One output, which stands for class 1 from 0.5 on, or one output for each class; or
        a fitted classifier of scikit-learn's kind, drawn by scikit-learn's
        ``DecisionBoundaryDisplay``.
    x : array_like, shape (rows, 2)
        The points to draw; the plane goes a little beyond them.
    t : array_like, shape (rows,) or (rows, n_out)
        Their classes: numbers or one-hot; a classifier's labels. Texts are labels of a
        network too: class k is ``names[k]``, or without names the k-th in alphabetical
        order, as ``np.unique(t, return_inverse=True)`` numbers them.
    names : sequence of str, optional
        Of the classes, for the legend. Default: the numbers or labels.
    ax : Axes, optional
        Where to draw. Default: new axes.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        If the model is a classifier and scikit-learn is missing.
    ShapeError
        If x has not two columns, or t another number of rows.
    TypeError, ValueError
        If the model is something else, or t not made of its classes.

    Examples
    --------
    >>> import numpy as np
    >>> import siglin.plot
    >>> x, t = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 0, 0, 1])
    >>> neuron = siglin.Neuron(2, bias=True)
    >>> history = neuron.fit(x, t, lr=1.0, epochs=500)
    >>> ax = siglin.plot.decision_boundary(neuron, x, t, names=["no", "yes"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['no', 'yes']
    """
    points = np.asarray(x, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        msg = f"decision_boundary: x must have shape (rows, 2), got {points.shape}"
        raise ShapeError(msg)
    labels = _labels("decision_boundary", model, t, names)
    classes = _classes("decision_boundary", t, labels, len(points))
    shown = _names("decision_boundary", names, labels)
    ax = _axes(ax)
    if _is_classifier(model):
        _draw_classifier(ax, model, x, len(labels))
    else:
        _draw_plane(ax, model, points)
    _drawing.draw_classes(ax, points, classes, shown)
    ax.legend()
    return ax


def confusion(
    model: Any,
    x: ArrayLike,
    t: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    normalize: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how often each class was taken for each, by scikit-learn's display.

    Parameters
    ----------
    model : Network, Perceptron or classifier
        As in `decision_boundary`, of any number of inputs.
    x : array_like, shape (rows, n_in)
    t : array_like, shape (rows,) or (rows, n_out)
        The true classes, as in `decision_boundary`.
    names : sequence of str, optional
        Of the classes. Default: the numbers or labels.
    normalize : {"true", "pred", "all"}, optional
        Shares of each true class, of each predicted one or of all rows. Default: counts.
    ax : Axes, optional
        Where to draw. Default: new axes.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        If scikit-learn is missing: ``pip install "siglin[sklearn]"``.
    ShapeError, TypeError, ValueError
        As `decision_boundary`.

    Examples
    --------
    >>> import siglin.plot
    >>> x, t = [[-2.0], [-1.0], [1.0], [2.0]], [0, 0, 1, 1]
    >>> neuron = siglin.Neuron(1)
    >>> history = neuron.fit(x, t, lr=1.0, epochs=50)
    >>> ax = siglin.plot.confusion(neuron, x, t)
    >>> [text.get_text() for text in ax.texts]
    ['2', '0', '0', '2']
    """
    display = _sklearn("confusion", "sklearn.metrics").ConfusionMatrixDisplay
    labels = _labels("confusion", model, t, names)
    if _is_classifier(model):
        predicted = np.searchsorted(labels, model.predict(x))
    else:
        predicted = _pick(model.predict(x))
    classes = _classes("confusion", t, labels, len(predicted))
    shown = _names("confusion", names, labels)
    ax = _axes(ax)
    display.from_predictions(
        classes,
        predicted,
        labels=np.arange(len(labels)),
        display_labels=shown,
        normalize=normalize,
        values_format=None if normalize is None else ".2f",
        cmap="Blues",
        colorbar=False,
        ax=ax,
    )
    return ax


def _is_classifier(model: Any) -> bool:
    return hasattr(model, "classes_") and hasattr(model, "predict")


def _labels(
    function: str, model: Any, t: ArrayLike, names: Sequence[str] | None
) -> AnyArray:
    """Return the label of each of a model's classes, as t has them."""
    if _is_classifier(model):
        return np.asarray(model.classes_)
    if not isinstance(model, Network | Perceptron):
        msg = (
            f"{function}: model must be a Network, a Perceptron or a fitted classifier, "
            f"got {type(model).__name__}"
        )
        raise TypeError(msg)
    n_out = model.layers[-1].n_out if isinstance(model, Network) else 1
    count = max(2, n_out)
    given = np.asarray(t)
    if not given.size or not all(isinstance(one, str) for one in given.flat):
        return np.arange(count)
    if names is not None and len(names) == count:
        return np.array([str(name) for name in names])
    labels = np.unique(given.astype(np.str_))
    if len(labels) != count:
        msg = (
            f"{function}: t has {len(labels)} labels, {', '.join(labels[:10].tolist())}, "
            f"and the model {count} classes: give their names, or numbers in t"
        )
        raise ValueError(msg)
    return labels


def _classes(
    function: str, t: ArrayLike, labels: AnyArray, rows: int
) -> npt.NDArray[np.intp]:
    """Return the class of each row by its place among the labels."""
    given = np.asarray(t)
    if given.ndim == 2:
        one_hot = given.shape[1] == len(labels)
        given = labels[given.argmax(axis=1)] if one_hot else given.reshape(-1)
    if given.shape != (rows,):
        msg = (
            f"{function}: t must have shape ({rows},) or ({rows}, {len(labels)}) to go "
            f"with x, got {np.shape(t)}"
        )
        raise ShapeError(msg)
    unknown = ~np.isin(given, labels)
    if unknown.any():
        row = int(unknown.argmax())
        msg = (
            f"{function}: t must be made of the classes {labels.tolist()}, got "
            f"{given[row : row + 1].tolist()[0]!r} at row {row}"
        )
        raise ValueError(msg)
    order = np.argsort(labels)
    return order[np.searchsorted(labels, given, sorter=order)]


def _names(function: str, names: Sequence[str] | None, labels: AnyArray) -> list[str]:
    if names is None:
        return [str(label) for label in labels.tolist()]
    if len(names) != len(labels):
        msg = f"{function}: names must be {len(labels)} texts, got {len(names)}"
        raise ValueError(msg)
    return [str(name) for name in names]


def _pick(outputs: Array) -> npt.NDArray[np.intp]:
    """Return the class that each row of outputs stands for."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] >= 0.5).astype(np.intp)
    picked: npt.NDArray[np.intp] = outputs.argmax(axis=1)
    return picked


def _draw_plane(ax: "Axes", model: Network | Perceptron, points: AnyArray) -> None:
    """Colour the plane by what a network says, with black lines between the classes."""
    margin = MARGIN * (np.ptp(points, axis=0) + (np.ptp(points, axis=0) == 0))
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    xs, ys = (np.linspace(a, b, GRID) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    outputs = np.asarray(model.predict(grid.astype(model.dtype)), np.float64)
    if outputs.shape[1] == 1:
        scores = outputs.reshape(GRID, GRID)
        _drawing.draw_halves(ax, xs, ys, scores)
        ax.contour(xs, ys, scores, levels=[0.5], colors="black", linewidths=1)
        return
    for k, colour in enumerate(_drawing.class_colours(outputs.shape[1])):
        # By how much a class leads: smooth, where the number of the class jumps.
        others = np.delete(outputs, k, axis=1).max(axis=1)
        lead = (outputs[:, k] - others).reshape(GRID, GRID)
        if lead.max() > 0:
            levels = [0, lead.max() * (1 + 1e-9)]
            options: dict[str, Any] = {"alpha": _drawing.REGION_ALPHA}
            ax.contourf(xs, ys, lead, levels=levels, colors=[colour], **options)
        ax.contour(xs, ys, lead, levels=[0], colors="black", linewidths=0.7)


def _draw_classifier(ax: "Axes", model: Any, x: ArrayLike, n_classes: int) -> None:
    """Colour the plane by scikit-learn's display."""
    module = _sklearn("decision_boundary", "sklearn.inspection")
    colours = _drawing.class_colours(n_classes)
    options: dict[str, Any] = {"response_method": "predict", "alpha": 0.3}
    if n_classes == 2:
        smooth = hasattr(model, "predict_proba")
        options |= {"response_method": "predict_proba" if smooth else "predict"}
        options |= {"levels": [0, 0.5, 1], "colors": colours}
        options["alpha"] = _drawing.REGION_ALPHA
    else:  # contours of class numbers would pass through 1 from 0 to 2
        options["plot_method"] = "pcolormesh"
    display = module.DecisionBoundaryDisplay.from_estimator(
        model, x, grid_resolution=GRID, eps=0.5, ax=ax, **options
    )
    if n_classes > 2:  # how to ask for colours depends on scikit-learn's version
        display.surface_.set_cmap(ListedColormap(colours))
        display.surface_.set_clim(-0.5, n_classes - 0.5)


# ---- all of them ---------------------------------------------------------------------


def _axes(ax: "Axes | None", size: tuple[float, float] | None = None) -> "Axes":
    """Return the axes, or new ones."""
    if ax is not None:
        return ax
    # pyplot shows a figure in notebooks, and chooses a window system: not before need.
    import matplotlib.pyplot as plt  # noqa: PLC0415

    _, new = plt.subplots(figsize=size, layout="constrained")
    return new


def _sklearn(function: str, name: str) -> Any:
    """Return a module of scikit-learn."""
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{function} needs scikit-learn: pip install "siglin[sklearn]"'
        ) from error
