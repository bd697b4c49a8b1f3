"""Classifiers: the plane that they divide, and how often they take one class for another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap

from siglin._data.arrays import AnyArray, Array, ArrayLike
from siglin._network import Network
from siglin._neuron import Perceptron
from siglin.errors import ShapeError
from siglin.plot import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = 200  # points along each side of a decision boundary's plane
MARGIN = 0.1  # of the plane around the points, as a share of their range


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
    ax = _drawing.axes_or_new(ax)
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
    ax = _drawing.axes_or_new(ax)
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


def _sklearn(function: str, name: str) -> Any:
    """Return a module of scikit-learn."""
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{function} needs scikit-learn: pip install "siglin[sklearn]"'
        ) from error
