"""Time backward_update: dx, and w and b changed in place."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("backward_update"), ids=str)
def test_backward_update(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
