"""Time the lecture's neuron on the Iris data: updates with a stop test."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("iris"), ids=str)
def test_iris(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
