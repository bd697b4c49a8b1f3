"""Time forward, a = sigmoid(x @ w + b), into a fresh and into a given array."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("forward", "forward_out"), ids=str)
def test_forward(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
