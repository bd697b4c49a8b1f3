"""The exceptions siglin raises, and its warning.

Each exception is also the built-in kind NumPy users expect.

A wrong value is a plain ``ValueError``, a wrong kind of argument a plain ``TypeError``.
"""

__all__ = [
    "DTypeError",
    "DivergenceError",
    "ModelFormatError",
    "SaturationWarning",
    "ShapeError",
    "SiglinError",
]


class SiglinError(Exception):
    """Base class of siglin's own exceptions."""


class ShapeError(SiglinError, ValueError):
    """An array has the wrong shape, or a layout that cannot be used."""


class DTypeError(SiglinError, TypeError):
    """An array has the wrong data type, or two arrays of one call differ in theirs."""


class ModelFormatError(SiglinError, ValueError):
    """A model file is damaged, hostile, or of a kind siglin does not read."""


class DivergenceError(SiglinError, FloatingPointError):
    """Training reached a loss or parameters that are not finite.

    The network keeps its last finite parameters.
    """


class SaturationWarning(UserWarning):
    """A fit ended with a hidden layer whose units can no longer learn."""
