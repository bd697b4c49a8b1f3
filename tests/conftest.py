"""Fixtures for all tests. The compiled core is imported only where a test needs it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers import load_goldens


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the fixture `target` once for every target of this CPU."""
    if "target" in metafunc.fixturenames:
        import siglin  # noqa: PLC0415  the reference's tests do without the core

        metafunc.parametrize("target", siglin.targets(), indirect=True)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the target that the test runs on."""
    from siglin import _core  # noqa: PLC0415  the reference's tests do without it

    before = _core.target()
    _core.use_target(request.param)
    yield request.param
    _core.use_target(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> npt.DTypeLike:
    """Both dtypes in turn."""
    result: npt.DTypeLike = np.dtype(request.param)
    return result


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run and in every test."""
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session")
def goldens() -> dict[str, Any]:
    """The lecture's numbers."""
    return load_goldens()
