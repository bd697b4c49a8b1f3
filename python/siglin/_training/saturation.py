"""A word of warning after a fit whose hidden units can no longer learn.

A unit learns through its derivative. Where inputs in the hundreds, a wild start or too
large a step have driven it far out, the derivative is all but 0 on every row, and no
more epochs bring it back (Glorot and Bengio 2010).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import Array
from siglin._data.sparse import Rows, SparseRows
from siglin._losses import Huber, Loss, Quantile
from siglin._warnings import warn
from siglin.errors import SaturationWarning

if TYPE_CHECKING:
    from siglin._layers import Dense

_layer_forward: Callable[..., tuple[Array, Array]] = _core.layer_forward

# Rows that are looked at, evenly spread over the data.
SAMPLE = 64

# Parameters times rows times epochs of the shortest fit that is looked at: some
# milliseconds of training, beside which the look is short.
LEAST_WORK = 1e7

# Derivatives as small as this are as good as none: 1/250 of the largest.
FLAT = {"sigmoid": 1e-3, "tanh": 4e-3, "relu": 0.0}

# A fit that has brought the loss below this share of a constant answer's has learned,
# whatever its units do: after a long training many decide hard, for good reasons.
LEARNED = 0.5


def check_saturation(
    layers: Sequence["Dense"],
    which: Loss,
    loss: float,
    x: Rows,
    t: Array,
    who: str = "fit",
) -> None:
    """Warn of the first hidden layer that cannot learn any more.

    That is one whose sigmoids or tanhs are, half of them or more, flat on every sampled
    row, or all of whose relus are 0 there, in a network that is hardly better than a
    constant answer.

    Parameters
    ----------
    layers : sequence of Dense
        The network's, trained.
    which : str or loss object
        The network's loss.
    loss : float
        Of the last epoch.
    x : Rows, shape (rows, n_in)
    t : ndarray, shape (rows, n_out)
        What the network was trained on.
    who : str
        What the message begins with.

    Warns
    -----
    SaturationWarning
    """
    rows = evenly_spread(len(x))
    constant = loss_of_constant(which, t[rows])
    if loss < LEARNED * constant:
        return
    some = x[rows]
    first: Array = layers[0].w
    if isinstance(some, SparseRows):
        present, a = some.compact()
        first = first[present]
    else:
        a = np.require(some, requirements="C")
    for number, layer in enumerate(layers[:-1], 1):
        w = first if number == 1 else layer.w
        a, slopes = _layer_forward(a, w, layer.b, layer.activation)
        if layer.activation not in FLAT:
            continue
        flat = int((slopes.max(axis=0) <= FLAT[layer.activation]).sum())
        least = layer.n_out if layer.activation == "relu" else (layer.n_out + 1) // 2
        if flat >= least:
            what = "zero" if layer.activation == "relu" else "saturated"
            msg = (
                f"{who}: {flat} of the {layer.n_out} units of hidden layer {number} "
                f"({layer.activation}) are {what} on all of {len(rows)} rows that were "
                f"looked at and cannot learn; the loss is {loss:.3g}, that of a constant "
                f"answer {constant:.3g}. Scaling the inputs to about 1, a smaller lr, or "
                f"other starting weights may help"
            )
            warn(msg, SaturationWarning)
            return


def evenly_spread(rows: int) -> npt.NDArray[np.intp]:
    """Return the numbers of the rows that are looked at."""
    return np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(np.intp)


def loss_of_constant(loss: Loss, t: Array) -> float:
    """Return the loss of the best answer that is the same for all rows.

    That is the mean of t, or its quantile; of `Huber` the better one of mean and median.

    Parameters
    ----------
    loss : str or loss object
        A network's loss.
    t : ndarray, shape (rows, n_out)
        The targets.
    """
    t = t.astype(np.float64)
    if isinstance(loss, Quantile):
        beyond = t - np.quantile(t, loss.q, axis=0)
        return float(np.maximum(loss.q * beyond, (loss.q - 1) * beyond).mean(0).sum())
    if isinstance(loss, Huber):
        by_answer = []
        for answer in (t.mean(axis=0), np.median(t, axis=0)):
            within = np.clip(t - answer, -loss.delta, loss.delta)
            by_answer.append((within * (t - answer - within / 2)).mean(0))
        return float(np.minimum(*by_answer).sum())
    if loss == "squared_error":
        return 0.5 * float(t.var(axis=0).sum())
    mean = t.mean(axis=0)
    if loss == "poisson":
        logs = np.log(np.where(t > 0, t / np.where(mean > 0, mean, 1), 1))
        return float((t * logs).mean(axis=0).sum())
    entropy = -(mean * np.log(np.where(mean > 0, mean, 1))).sum()
    if loss == "bce":
        rest = 1 - mean
        entropy -= (rest * np.log(np.where(rest > 0, rest, 1))).sum()
    return float(entropy)
