"""Pictures of networks and of their training, drawn with matplotlib (the extra ``plot``).

Every function draws into the axes ``ax``, or into new ones of pyplot, and returns them;
titles, labels and limits are the caller's to change. Nothing is shown or saved.
"""

try:
    import matplotlib as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        'siglin.plot needs matplotlib: pip install "siglin[plot]"'
    ) from error

from siglin.plot._classifiers import confusion, decision_boundary
from siglin.plot._curves import activation, loss
from siglin.plot._diagram import network
from siglin.plot._weights import weights

__all__ = [
    "activation",
    "confusion",
    "decision_boundary",
    "loss",
    "network",
    "weights",
]
