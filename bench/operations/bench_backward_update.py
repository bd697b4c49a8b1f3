"""Time backward_update: dx, and w and b changed in place."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("backward_update"))
def test_backward_update(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
