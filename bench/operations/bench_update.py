"""Time update, param -= lr * grad in place."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("update"), ids=str)
def test_update(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
