"""Comparison of what ran with the golden values, gathered for the report's last line."""

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt


class Checks:
    """Count comparisons and keep a sentence on each that failed.

    Attributes
    ----------
    count : int
        How many comparisons were made.
    failures : list of str
        What did not match, in the order it was found.

    Examples
    --------
    >>> from siglin.lecture.checks import Checks
    >>> checks = Checks()
    >>> checks.equal("updates", 10, 10)
    >>> checks.close("loss", 0.5, 0.25, rtol=1e-12)
    >>> checks.count, checks.failures
    (2, ['loss: got 0.5, expected 0.25 within 1e-12 of it'])
    """

    def __init__(self) -> None:
        self.count = 0
        self.failures: list[str] = []

    def equal(self, name: str, got: Hashable, expected: Hashable) -> None:
        """Compare two values that must be the same.

        Parameters
        ----------
        name : str
            What is compared.
        got, expected : hashable
            Compared by ``==``.
        """
        self._note(got == expected, f"{name}: got {got}, expected {expected}")

    def close(
        self, name: str, got: npt.ArrayLike, expected: npt.ArrayLike, *, rtol: float
    ) -> None:
        """Compare numbers, element by element, within a relative tolerance.

        Parameters
        ----------
        name : str
            What is compared.
        got, expected : array_like
            Of equal shapes; another shape, or NaN, is a failure.
        rtol : float
            Largest ``|got - expected| / |expected|`` that passes, dimensionless.
        """
        found, wanted = np.asarray(got), np.asarray(expected)
        matches = found.shape == wanted.shape and bool(
            np.all(np.abs(found - wanted) <= rtol * np.abs(wanted))
        )
        self._note(
            matches,
            f"{name}: got {found.tolist()}, expected {wanted.tolist()} "
            f"within {rtol:g} of it",
        )

    def _note(self, matches: bool, failure: str) -> None:
        self.count += 1
        if not matches:
            self.failures.append(failure)
