"""The lecture's smaller examples, each a few lines of siglin."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

import siglin

from . import goldens
from .iris import load_iris
from .iris_neuron import iris_rows

ACTIVATIONS = ("step", "sigmoid", "tanh", "relu", "leaky_relu")

Matrix = npt.NDArray[np.float64]


def activation_values(
    z: npt.NDArray[np.float64], activation: str
) -> npt.NDArray[np.float64]:
    """Return activation(z), through a layer of one neuron with the weight 1.

    Parameters
    ----------
    z : ndarray, shape (n,), float64
        Dimensionless.
    activation : str
        A name that ``siglin.forward`` knows.

    Returns
    -------
    ndarray, shape (n,), float64

    Examples
    --------
    >>> import numpy as np
    >>> from siglin.lecture.small_examples import activation_values
    >>> activation_values(np.array([-2.0, 0.0, 3.0]), "leaky_relu").tolist()
    [-0.2, 0.0, 3.0]
    """
    a = siglin.forward(z[:, None], np.ones((1, 1)), activation=activation)
    return np.asarray(a[:, 0], np.float64)


@dataclass(frozen=True)
class PerceptronRun:
    """What the perceptron's training came to.

    Attributes
    ----------
    theta : ndarray, shape (3,), float64
        The weights of sepal length, sepal width and the constant (1 / mm).
    epochs : int
        Passes over the rows, the last of them without a mistake.
    mistakes : int
        Mistakes made in all of them.
    correct : int
        Rows told rightly afterwards, of 150.
    """

    theta: npt.NDArray[np.float64]
    epochs: int
    mistakes: int
    correct: int


def train_perceptron() -> PerceptronRun:
    """Train the perceptron on setosa against the rest, in millimetres.

    Returns
    -------
    PerceptronRun

    Notes
    -----
    All numbers are whole ones in millimetres (and 10 in place of the ones), so the rule
    adds without rounding and the number of epochs is the same on every machine. In
    centimetres, rounding moves it.

    References
    ----------
    F. Rosenblatt, "The perceptron", Psychological Review 65 (1958), 386-408.
    """
    x, t = iris_rows()
    millimetres = np.rint(10 * x)
    perceptron = siglin.Perceptron(3)
    history = perceptron.fit(millimetres, t, epochs=10 * goldens.PERCEPTRON_EPOCHS)
    correct = int(np.sum(perceptron.predict(millimetres)[:, 0] == t))
    return PerceptronRun(
        np.array(perceptron.theta, np.float64),
        history.epochs,
        int(sum(history.loss)),
        correct,
    )


def layer_and_neurons(seed: int = 14) -> tuple[Matrix, Matrix]:
    """Return a layer's output and that of its neurons taken one by one.

    Parameters
    ----------
    seed : int, optional
        Of the layer's weights, drawn from N(0, 1).

    Returns
    -------
    layer, neurons : ndarray, shape (150, 3), float64
        Three neurons on the Iris rows.

    Examples
    --------
    >>> from siglin.lecture.small_examples import layer_and_neurons
    >>> layer, neurons = layer_and_neurons()
    >>> bool(abs(layer - neurons).max() < 1e-14)
    True
    """
    x, _ = iris_rows()
    layer = siglin.Dense(3, 3, bias=False, init="normal", seed=seed)
    columns = []
    for j in range(3):
        neuron = siglin.Neuron(3)
        neuron.theta[:] = layer.w[:, j]
        columns.append(neuron.predict(x))
    return np.asarray(layer.forward(x), np.float64), np.hstack(columns)


def two_layer_scores(library: ModuleType, seed: int = 14) -> Matrix:
    """Return the scores of the Iris rows by a 2-3-1 network with weights from N(0, 1).

    Parameters
    ----------
    library : module
        ``siglin`` or ``siglin.reference``; one seed gives the same weights in both.
    seed : int, optional
        Of the weights.

    Returns
    -------
    ndarray, shape (150, 1), float64
        One score per flower, from its sepal length and width (cm).

    Examples
    --------
    >>> import siglin
    >>> from siglin.lecture.small_examples import two_layer_scores
    >>> two_layer_scores(siglin).shape
    (150, 1)
    """
    network = library.Network([2, 3, 1], bias=False, init="normal", seed=seed)
    flowers, _ = load_iris()
    return np.asarray(network.predict(flowers[:, :2]), np.float64)


@dataclass(frozen=True)
class Regression:
    """A straight line, trained and in closed form.

    Attributes
    ----------
    trained, closed_form : ndarray, shape (2,), float64
        Slope (cm per cm) and intercept (cm).
    loss : float
        Mean of half the squared distance, in cm^2, after training.
    updates : int
        How many updates it took.
    """

    trained: npt.NDArray[np.float64]
    closed_form: npt.NDArray[np.float64]
    loss: float
    updates: int


def train_regression(updates: int = 2000) -> Regression:
    """Predict an iris's petal width from its petal length by a linear output.

    Parameters
    ----------
    updates : int, optional
        Full-batch updates, with a step of 0.1.

    Returns
    -------
    Regression
        The squared error's minimum is the least-squares line, which is known in closed
        form.

    Examples
    --------
    >>> from siglin.lecture.small_examples import train_regression
    >>> train_regression().trained.round(4).tolist()
    [0.4158, -0.3631]
    """
    flowers, _ = load_iris()
    x, t = flowers[:, 2:3], flowers[:, 3:4]
    network = siglin.Network([1, 1], loss="squared_error", init="zeros")
    history = network.fit(x, t, lr=0.1, epochs=updates)
    design = np.hstack([x, np.ones_like(x)])
    closed_form = np.asarray(np.linalg.lstsq(design, t[:, 0])[0], np.float64)
    return Regression(
        np.array(network.params, np.float64),
        closed_form,
        network.loss(x, t),
        history.steps,
    )
