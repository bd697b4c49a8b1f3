"""Time sigmoid, into a fresh and into a given array."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("sigmoid", "sigmoid_out"))
def test_sigmoid(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
