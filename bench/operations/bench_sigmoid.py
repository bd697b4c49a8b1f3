"""Time sigmoid, into a fresh and into a given array."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("sigmoid", "sigmoid_out"), ids=str)
def test_sigmoid(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
