"""Time the outputs of one row through a network, and of a layer that keeps its pass."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize(
    "entry", entries("predict", "predict_out", "dense_forward"), ids=str
)
def test_predict(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
