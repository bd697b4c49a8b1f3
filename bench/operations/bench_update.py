"""Time update, param -= lr * grad in place."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("update"))
def test_update(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
