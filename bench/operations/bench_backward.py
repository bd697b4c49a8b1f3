"""Time backward: dx, dw and db from x, w, a and da."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("backward"), ids=str)
def test_backward(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
