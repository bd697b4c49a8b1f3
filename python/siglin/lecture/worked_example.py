"""The worked example: one row through a 2-3-1 network, forward and backward by hand."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = dict[str, npt.NDArray[np.float64]]

X = np.array([[5.0, 3.0]])
W = np.array([[1.0, -1.0, 3.0], [2.0, 2.0, -1.0]])
V = np.array([[0.1], [0.5], [-0.1]])

# What the lecture prints, row by row of the table. It prints the gradients for target 1;
# the forward values do not depend on the target.
PRINTED = {
    "h1": "0.9999",
    "h2": "0.7310",
    "h3": "0.9999",
    "y": "0.590378",
    "J": "0.526992",
    "dJ/dy": "-1.69383",
    "dJ/dW11": "-3e-6",
    "dJ/dW12": "-2e-6",
}
PRINTED_FOR_BOTH = ("h1", "h2", "h3", "y")
# Where the print is wrong, and the true number.
PRINTED_WRONG = {
    "h1": "cut off, not rounded: {:.5f}",
    "h2": "cut off, not rounded: {:.5f}",
    "h3": "cut off, not rounded: {:.5f}",
    "dJ/dW11": "printed as a product of rounded factors, which give -4.1e-6: {:.3g}",
    "dJ/dW12": "the number printed under this name is that of dJ/dW21: {:.4f}",
}


def example_network(library: ModuleType) -> Any:
    """Return the 2-3-1 network without biases at the worked example's weights.

    Parameters
    ----------
    library : module
        ``siglin`` or ``siglin.reference``.

    Returns
    -------
    Network
        Of that library, float64.

    Examples
    --------
    >>> import siglin
    >>> from siglin.lecture.worked_example import example_network
    >>> example_network(siglin).params.tolist()
    [1.0, -1.0, 3.0, 2.0, 2.0, -1.0, 0.1, 0.5, -0.1]
    """
    network = library.Network([2, 3, 1], bias=False, init="zeros")
    network.layers[0].w[...] = W
    network.layers[1].w[...] = V
    return network


def work_through(library: ModuleType, target: int) -> Values:
    """Return every intermediate value of the worked example.

    Parameters
    ----------
    library : module
        ``siglin`` or ``siglin.reference``: what computes.
    target : int
        1 or 0.

    Returns
    -------
    dict of str to ndarray
        h (1, 3), y (1, 1), the loss J (), and the gradients of J with respect to
        y (1, 1), V (3, 1), h (1, 3), W (2, 3) and x (1, 2), all float64.

    Notes
    -----
    The chain rule from the output to the input. Each gradient with respect to a layer's
    output is computed once and handed down; the pre-activations go along, so that the
    saturated units h1 and h3 keep all their digits.

    Examples
    --------
    >>> import siglin
    >>> from siglin.lecture.worked_example import work_through
    >>> print(round(float(work_through(siglin, 1)["J"]), 6))
    0.526992
    """
    z_hidden = library.forward(X, W, activation="identity")
    h = library.forward(X, W)
    z_output = library.forward(h, V, activation="identity")
    y = library.forward(h, V)
    loss = example_network(library).loss(X, np.array([[float(target)]]))
    dy = -1 / y if target == 1 else 1 / (1 - y)
    output = library.backward(h, V, y, dy, z=z_output)
    hidden = library.backward(X, W, h, output.dx, z=z_hidden)
    return {
        "h": h,
        "y": y,
        "J": np.array(loss),
        "dJ/dy": dy,
        "dJ/dV": output.dw,
        "dJ/dh": output.dx,
        "dJ/dW": hidden.dw,
        "dJ/dx": hidden.dx,
    }


def printed(name: str, target: int) -> str:
    """Return what the lecture prints for a row of the table, "" if nothing.

    Parameters
    ----------
    name : str
        As in `by_row`.
    target : int
        1 or 0; only the forward values stand for both.
    """
    if target == 1 or name in PRINTED_FOR_BOTH:
        return PRINTED.get(name, "")
    return ""


def by_row(values: Mapping[str, npt.ArrayLike]) -> dict[str, float]:
    """Return the values one by one, named as in the lecture: h1, ..., dJ/dW23.

    Parameters
    ----------
    values : mapping of str to array_like
        As `work_through` returns them.

    Returns
    -------
    dict of str to float
        In the same order; a single number keeps its name, an element of a row or a
        column has its index after the name, one of a matrix its row and column.

    Examples
    --------
    >>> from siglin.lecture.worked_example import by_row
    >>> by_row({"y": [[0.5]], "h": [[1.0, 2.0]]})
    {'y': 0.5, 'h1': 1.0, 'h2': 2.0}
    """
    rows: dict[str, float] = {}
    for name, value in values.items():
        array = np.asarray(value)
        for index in np.ndindex(array.shape):
            # An axis of length one says nothing: h (1, 3) is h1, h2, h3.
            places = [
                str(i + 1)
                for i, size in zip(index, array.shape, strict=True)
                if size > 1
            ]
            rows[name + "".join(places)] = float(array[index])
    return rows
