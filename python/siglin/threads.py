"""The number of threads: one for the whole process, whoever sets it."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from siglin import _core
from siglin._cpus import usable_cpus
from siglin._data.arrays import check_integer
from siglin._threadpoolctl import register_if_imported, register_threadpoolctl

__all__ = [
    "get_num_threads",
    "num_threads",
    "register_threadpoolctl",
    "set_num_threads",
]

_VARIABLE = "SIGLIN_NUM_THREADS"
_OPENMP = "OMP_NUM_THREADS"
_MOST = 1024


def get_num_threads() -> int:
    """Return the number of threads that work together, the caller included.

    Returns
    -------
    int
        At first the environment's ``SIGLIN_NUM_THREADS``, or its ``OMP_NUM_THREADS``
        (of a list such as "4,2" the first number), which joblib sets in its workers, or
        the number of CPUs that this process may use (its affinity and the quota of its
        cgroups).

    Notes
    -----
    Work that is too small to share, or that was faster alone when both were measured,
    runs on the calling thread alone. Threads run on the CPUs that the calling thread may
    use; one whose affinity has changed since siglin was imported shares its work among
    no more threads than it has CPUs. Results have the same bits for any number of
    threads.

    Examples
    --------
    >>> import siglin
    >>> siglin.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that work together, for the whole process.

    Parameters
    ----------
    n : int, 1 to 1024
        The caller included: with 1, everything runs on the calling thread. More than
        there are CPUs is allowed and slower.

    Raises
    ------
    TypeError
        If n is not an int; a bool does not count as one.
    ValueError
        If n is not from 1 to 1024.

    Notes
    -----
    Threads start when work first needs them, and leave when fewer are asked for. Work
    under way goes on as it began. While one Python thread uses the team, another
    thread's work runs on that thread alone. After a fork the child has a team of its
    own, of the same number.

    Examples
    --------
    >>> import siglin
    >>> before = siglin.get_num_threads()
    >>> siglin.set_num_threads(2)
    >>> siglin.get_num_threads()
    2
    >>> siglin.set_num_threads(before)
    """
    _core.set_num_threads(check_integer("set_num_threads", "n", n, 1, _MOST))


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads for the time of a ``with`` block, or of a function.

    Parameters
    ----------
    n : int, 1 to 1024
        As for `set_num_threads`.

    Raises
    ------
    TypeError, ValueError
        As `set_num_threads` does, when the block is entered.

    Notes
    -----
    The number is the process's: other Python threads have it too while the block runs.

    Examples
    --------
    >>> import siglin
    >>> with siglin.num_threads(1):
    ...     siglin.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def _number_at_start() -> int:
    """Return what the environment asks for, else the number of usable CPUs."""
    text = os.environ.get(_VARIABLE, "")
    usual = min(_openmp_number() or usable_cpus(), _MOST)
    if text.strip() == "":
        return usual
    number = _positive(text)
    if number is not None and number <= _MOST:
        return number
    warnings.warn(
        f"{_VARIABLE} must be an int from 1 to {_MOST}, got {text!r}; using {usual}",
        RuntimeWarning,
        stacklevel=2,
    )
    return usual


def _openmp_number() -> int | None:
    """Return the threads that OMP_NUM_THREADS asks for, a number for each level.

    It is for others, so that a value without meaning is left for them to complain of.
    """
    levels = [_positive(text) for text in os.environ.get(_OPENMP, "").split(",")]
    return None if None in levels else levels[0]


def _positive(text: str) -> int | None:
    """Return the positive number that the text is, up to nine digits."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()):
        return None
    return int(digits.lstrip("0")[:9] or "0") or None


_core.set_num_threads(_number_at_start())
register_if_imported()
