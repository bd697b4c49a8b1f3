"""Draws the pictures of README: what siglin.plot makes of networks trained on real data.

python bench/training/gallery.py            writes bench/training/gallery/*.png
python bench/training/gallery.py DIR        writes them there

Needs matplotlib and scikit-learn, for its data that need no network connection.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits, load_iris, make_moons

import siglin
from siglin import plot

mpl.use("Agg")

DOTS_PER_INCH = 100
FOLDER = Path(__file__).with_name("gallery")


def pictures() -> Iterator[tuple[str, Figure]]:
    """Return the name and the figure of each picture, one after the other."""
    yield "activations", activations()
    yield from digits()
    yield "iris", iris()
    yield "moons", moons()


def new_figure(width: float, height: float, cols: int = 1) -> tuple[Figure, list]:
    """Return a figure without pyplot, and its axes side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, cols, squeeze=False).flat)


def activations() -> Figure:
    """Draw the activations and their derivatives."""
    figure, (left, right) = new_figure(9, 3.6, 2)
    plot.activation(["sigmoid", "tanh"], ax=left)
    plot.activation(["leaky_relu", "step"], limit=2, ax=right)
    return figure


def digits() -> Iterator[tuple[str, Figure]]:
    """Draw what a network learns of handwritten digits."""
    x, t = load_digits(return_X_y=True)
    x = x / 16
    train = np.arange(len(x)) % 4 > 0

    net = siglin.Network([64, 10], loss="cross_entropy", init="zeros")
    net.fit(x[train], t[train], epochs=2000, lr=0.5)
    figure, (ax,) = new_figure(7.5, 2.9)
    plot.weights(net, shape=(8, 8), ax=ax)
    ax.set_title("What each digit's output looks for: one layer, 0 to 9")
    yield "digits_weights", figure

    net = siglin.Network([64, 16, 10], activation="tanh", loss="cross_entropy", seed=1)
    net.fit(x[train], t[train], epochs=40, batch_size=32, lr=0.003, optimizer="adam")
    figure, (ax,) = new_figure(5.2, 4.8)
    plot.confusion(net, x[~train], t[~train], ax=ax)
    ax.set_title("Digits that it had not seen")
    yield "digits_confusion", figure

    figure, (ax,) = new_figure(5.6, 4)
    for name in ("gd", "momentum", "adam"):
        net = siglin.Network(
            [64, 16, 10], activation="tanh", loss="cross_entropy", seed=1
        )
        lr = {"gd": 0.1, "momentum": 0.05, "adam": 0.003}[name]
        history = net.fit(
            x[train], t[train], epochs=40, batch_size=32, lr=lr, optimizer=name
        )
        plot.loss(history, label=f"{name}, lr {lr}", log=True, ax=ax)
    yield "digits_loss", figure


def iris() -> Figure:
    """Draw a small network on two features of the Iris flowers, and the network."""
    data = load_iris()
    x, t = data.data[:, 2:], data.target  # the petals
    net = siglin.Network([2, 4, 3], activation="tanh", loss="cross_entropy", seed=3)
    net.fit(x, t, lr=0.02, epochs=2000, optimizer="adam")
    figure, (left, right) = new_figure(11, 4.4, 2)
    plot.network(net, ax=left)
    names = [str(name) for name in data.target_names]
    plot.decision_boundary(net, x, t, names=names, ax=right)
    right.set_xlabel("petal length (cm)")
    right.set_ylabel("petal width (cm)")
    return figure


def moons() -> Figure:
    """Draw the boundary of one neuron and of a network between two moons."""
    x, t = make_moons(200, noise=0.15, random_state=0)
    neuron = siglin.Neuron(2, bias=True)
    neuron.fit(x, t, lr=1.0, epochs=1000)
    net = siglin.Network([2, 16, 1], activation="tanh", seed=1)
    net.fit(x, t, lr=0.02, epochs=1000, optimizer="adam")
    figure, (left, right) = new_figure(9, 3.8, 2)
    plot.decision_boundary(neuron, x, t, ax=left).set_title("one neuron")
    plot.decision_boundary(net, x, t, ax=right).set_title("2-16-1")
    return figure


def main(folder: Path) -> None:
    """Write every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures():
        path = folder / f"{name}.png"
        # Without the versions that matplotlib notes down, a picture changes with its
        # content alone.
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
