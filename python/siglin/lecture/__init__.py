"""The lecture's examples, run by ``python -m siglin``, and the data they use."""

from .iris import load_iris

__all__ = ["load_iris"]
