"""Time backward: dx, dw and db from x, w, a and da."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(PARAMETERS, entries("backward"))
def test_backward(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
