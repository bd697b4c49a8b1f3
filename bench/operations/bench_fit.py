"""Time steps of training: forward, loss, backward, update; full batches and smaller ones."""

import pytest

from cases import PARAMETERS, Measure, entries


@pytest.mark.parametrize(
    PARAMETERS, entries("fit", "fit_softmax", "fit_adam", "fit_batches")
)
def test_fit(
    measure: Measure, operation: str, shape: str, dtype: str, contender: str
) -> None:
    measure(operation, shape, dtype, contender)
