"""Time forward, a = sigmoid(x @ w + b), into a fresh and into a given array."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("forward", "forward_out"))
def test_forward(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
