"""Time full-batch steps of gradient descent: forward, loss, backward, update."""

from collections.abc import Callable

import pytest

from cases import Entry, entries


@pytest.mark.parametrize("entry", entries("fit"), ids=str)
def test_fit(measure: Callable[[Entry], None], entry: Entry) -> None:
    measure(entry)
