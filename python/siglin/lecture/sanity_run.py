"""The sanity run: descent on one row must bring its loss close to zero."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import siglin

from . import worked_example

STEPS = 100
LR = 0.1


@dataclass(frozen=True)
class Descent:
    """What one descent went through.

    Attributes
    ----------
    losses : ndarray, shape (steps + 1,), float64
        The loss before each step, then the loss after the last.
    scores : ndarray, shape (steps + 1,), float64
        The network's output on the row, likewise.
    """

    losses: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class SanityRun:
    """A descent to one target, and the same network turned to the other.

    Attributes
    ----------
    there, back : Descent
        The two descents, one after the other.
    w, v : ndarray, shape (2, 3) and (3, 1), float64
        The weights between the two.
    """

    there: Descent
    back: Descent
    w: npt.NDArray[np.float64]
    v: npt.NDArray[np.float64]

    def named(self) -> dict[str, npt.ArrayLike]:
        """Return what the goldens hold, by their names."""
        steps = {
            f"loss before step {step}": self.there.losses[step - 1]
            for step in (1, 2, 11, 51, 100)
        }
        return {
            **steps,
            "loss after": self.there.losses[-1],
            "score after": self.there.scores[-1],
            "W after": self.w,
            "V after": self.v,
            "loss turned": self.back.losses[-1],
            "score turned": self.back.scores[-1],
        }


def descend(network: siglin.Network, target: int, *, steps: int = STEPS) -> Descent:
    """Take gradient-descent steps of 0.1 on the worked example's row.

    Parameters
    ----------
    network : Network
        Changed in place.
    target : int
        1 or 0.
    steps : int, optional
        How many; 100 in the lecture.

    Returns
    -------
    Descent
        The loss and the score at every step.

    Notes
    -----
    Written as a user's own loop, one call per part of a step, so that the score can be
    seen at every step. ``Network.fit`` takes the same steps in one call.

    Examples
    --------
    >>> import siglin
    >>> from siglin.lecture.sanity_run import descend
    >>> from siglin.lecture.worked_example import example_network
    >>> descent = descend(example_network(siglin), target=1)
    >>> print(round(float(descent.losses[0]), 3), round(float(descent.losses[-1]), 3))
    0.527 0.034
    """
    row, t = worked_example.X, np.array([[float(target)]])
    losses, scores = np.empty(steps + 1), np.empty(steps + 1)
    for step in range(steps):
        scores[step] = network.forward(row)[0, 0]
        losses[step] = network.backward(t)
        network.update(LR)
    scores[steps] = network.predict(row)[0, 0]
    losses[steps] = network.loss(row, t)
    return Descent(losses, scores)


def there_and_back(target: int) -> SanityRun:
    """Descend to a target from the worked example's weights, then to the other one.

    Parameters
    ----------
    target : int
        The first target, 1 or 0.

    Returns
    -------
    SanityRun

    Examples
    --------
    >>> from siglin.lecture.sanity_run import there_and_back
    >>> run = there_and_back(target=1)
    >>> [round(float(score), 2) for score in (run.there.scores[-1], run.back.scores[-1])]
    [0.97, 0.05]
    """
    network = worked_example.example_network(siglin)
    there = descend(network, target)
    w, v = (layer.w.copy() for layer in network.layers)
    return SanityRun(there, descend(network, 1 - target), w, v)


def fit_losses(target: int) -> list[float]:
    """Return the loss before each step, from one call of ``Network.fit``.

    Parameters
    ----------
    target : int
        1 or 0.

    Returns
    -------
    list of float
        100 of them, from the worked example's weights.

    Examples
    --------
    >>> from siglin.lecture.sanity_run import fit_losses
    >>> print(round(fit_losses(target=0)[0], 6))
    0.89252
    """
    network: siglin.Network = worked_example.example_network(siglin)
    t = np.array([float(target)])
    return network.fit(worked_example.X, t, lr=LR, epochs=STEPS).loss
