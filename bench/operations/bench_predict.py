"""Time the outputs of one row through a network, and of a layer that keeps its pass."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("predict", "predict_out", "dense_forward"))
def test_predict(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
