"""The contenders of the race by name: siglin, and its peers, what a user would take instead.

Each has a module of its own, which is imported when it is needed.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from race_rows import Row
from trainers import Trainer


class Contender(NamedTuple):
    """Where a contender is, and the package without which it is left out."""

    module: str
    function: str
    package: str

    def trainer(self, row: Row) -> Trainer | None:
        """Return it ready to train a row; None where it lacks what the row asks for."""
        make: Callable[[Row], Trainer | None]
        make = getattr(importlib.import_module(self.module), self.function)
        return make(row)


CONTENDERS = {
    "siglin": Contender("by_siglin", "trainer", "siglin"),
    "NumPy": Contender("by_numpy", "trainer", "numpy"),
    "torch": Contender("by_torch", "trainer", "torch"),
    "jax step": Contender("by_jax", "step_trainer", "jax"),
    "jax loop": Contender("by_jax", "loop_trainer", "jax"),
    "scikit-learn": Contender("by_sklearn", "trainer", "sklearn"),
}


def available() -> tuple[list[str], list[str]]:
    """Return the contenders that are installed, and lines about those that are not."""
    there, missing = [], []
    for name, contender in CONTENDERS.items():
        package = contender.package
        if importlib.util.find_spec(package) is None:
            missing.append(f"{name}: left out, the package {package} is not installed")
        else:
            there.append(name)
    return there, missing


def configure(threads: int) -> None:
    """Import what is installed, and give every contender so many threads."""
    there, _ = available()
    if "torch" in there:
        import torch as th  # noqa: PLC0415

        th.set_num_threads(threads)
        th.set_num_interop_threads(1)
    if "jax step" in there:
        import jax as jx  # noqa: PLC0415

        jx.config.update("jax_enable_x64", True)
        jx.config.update("jax_platforms", "cpu")
    if "scikit-learn" in there:
        import sklearn.neural_network  # noqa: F401, PLC0415 - its BLAS, to be limited
