"""Warnings that name the user's line, however many calls lie between."""

import sys
import warnings

# Packages that a user calls siglin through: decorators of scikit-learn's, joblib's loops.
_BETWEEN = {"importlib", "joblib", "siglin", "sklearn"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line that called the package, from wherever in it this is called.

    A level counted by hand, as `warnings.warn` takes, is wrong where a decorator or
    another estimator stands between. Where no frame is the user's, the outermost is named.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    frame = sys._getframe(1)
    while frame.f_back is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _BETWEEN:
            break
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
