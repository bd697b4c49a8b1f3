"""Curves: a loss over the epochs, an activation and its derivative over z."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from siglin._data.arrays import AnyArray, check_choice, check_flag, check_positive
from siglin._functions import backward, forward
from siglin.plot import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "step")


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
    ax = _drawing.axes_or_new(ax)
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
    ax = _drawing.axes_or_new(ax)
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
