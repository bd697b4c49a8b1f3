"""One neuron that tells Iris setosa from the rest, natively and as a NumPy loop."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import siglin

from . import goldens
from .iris import load_iris

# More than twice what the stop rule needs: a run that goes this far has gone wrong.
MOST_UPDATES = 500_000
PROGRESS_EVERY = 50_000

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    theta : ndarray, shape (3,), float64
        The weights after the last update: of sepal length and sepal width (1 / cm) and
        of the ones (dimensionless).
    updates : int
        How many updates it took.
    seconds : float
        Wall-clock time of the training alone.
    """

    theta: Vector
    updates: int
    seconds: float


def iris_rows() -> tuple[npt.NDArray[np.float64], Vector]:
    """Return the lecture's features and targets.

    Returns
    -------
    x : ndarray, shape (150, 3), float64
        Sepal length (cm), sepal width (cm) and ones, in this order.
    t : ndarray, shape (150,), float64
        0 for setosa, 1 for the rest.

    Examples
    --------
    >>> from siglin.lecture.iris_neuron import iris_rows
    >>> x, t = iris_rows()
    >>> x[0].tolist(), float(t.mean())
    ([5.1, 3.5, 1.0], 0.6666666666666666)
    """
    flowers, species = load_iris()
    x = np.column_stack([flowers[:, :2], np.ones(len(flowers))])
    return x, (species != 0).astype(np.float64)


def train(
    neuron: siglin.Neuron, *, most_updates: int = MOST_UPDATES, progress: int = 0
) -> Run:
    """Train a neuron on the Iris rows with siglin's native loop.

    Parameters
    ----------
    neuron : Neuron
        Of three inputs; goes on from its weights.
    most_updates : int, optional
        Where to stop at the latest.
    progress : int, optional
        Print a line every so many updates; 0 prints none.

    Returns
    -------
    Run
        It ends with the first update that changes theta by no more than 5e-5 (2-norm).

    Examples
    --------
    >>> import siglin
    >>> from siglin.lecture.iris_neuron import train
    >>> train(siglin.Neuron(3), most_updates=10).theta.round(6).tolist()
    [0.215085, -0.14289, -0.007303]
    """
    x, t = iris_rows()
    start = time.perf_counter()
    history = neuron.fit(
        x,
        t,
        lr=goldens.IRIS_LR,
        epochs=most_updates,
        tol=goldens.IRIS_TOL,
        progress=progress or False,
    )
    seconds = time.perf_counter() - start
    return Run(np.array(neuron.theta, np.float64), history.steps, seconds)


def train_with_numpy(most_updates: int = MOST_UPDATES) -> Run:
    """Train the same neuron with a plain NumPy loop, as one would write it by hand.

    Parameters
    ----------
    most_updates : int, optional
        Where to stop at the latest.

    Returns
    -------
    Run
        From zeros, with the same step and the same stop test as `train`.

    Notes
    -----
    This is the measure `train` is timed against, so it spares itself what it can: no
    calls into siglin, one array operation per line of the formula, and the sigmoid in
    its short form, which is safe here since no score comes near overflow.

    Examples
    --------
    >>> from siglin.lecture.iris_neuron import train_with_numpy
    >>> train_with_numpy(10).theta.round(6).tolist()
    [0.215085, -0.14289, -0.007303]
    """
    x, t = iris_rows()
    rows = len(t)
    theta = np.zeros(3)
    updates = 0
    start = time.perf_counter()
    while updates < most_updates:
        p = 1 / (1 + np.exp(-(x @ theta)))
        gradient = (p - t) @ x / rows
        change = goldens.IRIS_LR * gradient
        theta -= change
        updates += 1
        if np.linalg.norm(change) <= goldens.IRIS_TOL:
            break
    return Run(theta, updates, time.perf_counter() - start)


def decision_grid(neuron: siglin.Neuron) -> npt.NDArray[np.float64]:
    """Return the neuron's score at every point of the grid over the plane.

    Parameters
    ----------
    neuron : Neuron
        Trained on the Iris rows.

    Returns
    -------
    ndarray, shape (220, 280), float64
        Row i is a sepal width, column j a sepal length (see `grid_axes`).
    """
    lengths, widths = np.meshgrid(*grid_axes())
    points = np.column_stack(
        [lengths.ravel(), widths.ravel(), np.ones(lengths.size)],
    )
    scores = np.asarray(neuron.predict(points), np.float64)
    return scores.reshape(lengths.shape)


def grid_axes() -> tuple[Vector, Vector]:
    """Return the grid's sepal lengths (280,) and sepal widths (220,), in centimetres."""
    return np.arange(*goldens.GRID_LENGTH), np.arange(*goldens.GRID_WIDTH)
