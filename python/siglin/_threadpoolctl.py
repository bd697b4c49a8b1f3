"""What makes threadpoolctl see siglin's threads.

threadpoolctl looks through the libraries that the process has loaded, and asks the
controllers it knows which of them are theirs. Ours takes a file that is named as the
compiled module, ``_core*``, and exports the symbol ``siglin_get_num_threads``: other
packages have a ``_core`` too. threadpoolctl knows no plugins, so somebody has to register
the controller; `register_threadpoolctl` says who.
"""

import importlib
import sys
from typing import Any

from siglin import _core

_registered: list[Any] = []  # the modules that have the controller


def register_threadpoolctl() -> None:
    """Make ``threadpoolctl.threadpool_limits`` and ``threadpool_info`` see siglin.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed, or is older than version 3.5.

    Notes
    -----
    ``import siglin`` does this by itself if threadpoolctl has been imported before, as
    scikit-learn does. Otherwise it is left to the user: importing threadpoolctl costs
    time, and siglin needs NumPy alone. Another call does nothing. Both the ``user_api``
    and the ``internal_api`` are "siglin".

    Examples
    --------
    >>> import siglin
    >>> from threadpoolctl import threadpool_limits
    >>> siglin.threads.register_threadpoolctl()
    >>> with threadpool_limits(1):
    ...     siglin.get_num_threads()
    1
    """
    threadpoolctl = importlib.import_module("threadpoolctl")
    if not hasattr(threadpoolctl, "register"):
        raise ImportError("register_threadpoolctl: needs threadpoolctl 3.5 or newer")
    _register(threadpoolctl)


def register_if_imported() -> None:
    """Register with threadpoolctl if somebody has imported it, and it can be."""
    threadpoolctl = sys.modules.get("threadpoolctl")
    if hasattr(threadpoolctl, "register"):
        _register(threadpoolctl)


def _register(threadpoolctl: Any) -> None:
    """Register the controller, once."""
    if threadpoolctl in _registered:
        return

    class SiglinController(threadpoolctl.LibController):  # type: ignore[misc]
        """Reads and sets the number of threads through the library's own symbols."""

        user_api = "siglin"
        internal_api = "siglin"
        filename_prefixes = ("_core",)
        check_symbols = ("siglin_get_num_threads",)

        def get_num_threads(self) -> int:
            return int(self.dynlib.siglin_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.siglin_set_num_threads(num_threads)

        def get_version(self) -> str:
            # Also asked of another package's _core, before the symbols are checked.
            return _core.build_info()["version"]

    threadpoolctl.register(SiglinController)
    _registered.append(threadpoolctl)
