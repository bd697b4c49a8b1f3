"""The benchmark cases: what is timed, on which inputs, and how results are checked.

The pytest benches and ``compare.py`` both take their cases from here. A case is one
operation at one shape and dtype; every contender runs it on the same numbers.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import shapes
import siglin.reference
from contenders import contender
from siglin.lecture import load_iris

Array = NDArray[Any]
Run = Callable[[], object]
Measure = Callable[[str, str, str, str], None]  # what bench_*.py call with PARAMETERS

# Of every benchmark, so that `--benchmark-group-by` and readers of the JSON know them.
PARAMETERS = ("operation", "shape", "dtype", "contender")

DTYPES = ("float64", "float32")
LR = 0.1
# For update and backward_update, whose gradients do not fade: a thousand calls on the
# same numbers must leave the weights finite.
SMALL_LR = 1e-3
# Where a gradient is all rounding, two contenders' steps of Adam may point opposite ways.
ADAM_LR = 1e-4
BATCHES = 8  # of an epoch of fit_batches

# Relative to the largest element of the expected array, which the reference computes in
# float64. A sum of k = 1024 rounded products errs by about sqrt(k) half-ulps, 32 * 6e-8
# in float32; gradient-descent steps carry that on, so there is a factor of ten to spare.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class Work(NamedTuple):
    """The least one operation can cost."""

    flops: int  # of the matrix products (update: of the vector); 0 for sigmoid
    elements: int  # read or written once


OPERATIONS: dict[str, tuple[shapes.Shape, ...]] = {
    "forward": shapes.LAYERS,
    "forward_out": shapes.LAYERS,
    "backward": shapes.LAYERS,
    "backward_update": shapes.LAYERS,
    "update": shapes.VECTORS,
    "sigmoid": shapes.VECTORS,
    "sigmoid_out": shapes.VECTORS,
    "dense_forward": shapes.SMALLER_LAYERS,
    "predict": shapes.SINGLE_ROWS,
    "predict_out": shapes.SINGLE_ROWS,
    "fit": shapes.NETWORKS,
    "fit_softmax": shapes.CLASSIFIERS,
    "fit_adam": shapes.CLASSIFIERS,
    "fit_batches": shapes.CLASSIFIERS,
    "iris": shapes.IRIS,
}


@dataclass(frozen=True)
class Case:
    """One operation at one shape and dtype: a benchmark group."""

    op: str
    shape: shapes.Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.op} {self.shape} {self.dtype}"

    @property
    def key(self) -> str:
        """Return what -k of pytest and --only of compare.py look into."""
        return f"{self.size} {self}"

    @property
    def size(self) -> str:
        """Return the size class: "small", "layer", "ugly" or "large"."""
        return self.shape.size

    @property
    def stateful(self) -> bool:
        """Tell whether a call changes its arguments, so that rounds need fresh ones."""
        return self.trains or self.op in {"update", "backward_update"}

    @property
    def trains(self) -> bool:
        """Tell whether a call takes many steps, of which one is what is asked for."""
        return self.op == "iris" or self.op.startswith("fit")

    @property
    def quick(self) -> bool:
        """Tell whether the case is one of the few that stand for all."""
        return self.shape in shapes.QUICK

    @property
    def contenders(self) -> tuple[str, ...]:
        """Return the names of those that have this operation, siglin first."""
        everyone = ("siglin", "numpy", "reference", "cython")
        # The Cython kernels have no stop rule, none that keeps a derivative, and of the
        # fits only the plain one.
        beyond_cython = self.op == "dense_forward" or (self.trains and self.op != "fit")
        return everyone[:-1] if beyond_cython else everyone

    @functools.cached_property
    def work(self) -> Work:
        return work(self.op, self.shape)

    @property
    def calls(self) -> int:
        """Return how many calls (of fit: steps) one timing takes.

        Enough to outlast the clock, and for fit to make little of the 0.1 ms that its
        start takes; the caps keep the slowest contender to about half a second, but at
        the large shapes.
        """
        cost = max(self.work.flops, 20 * self.work.elements)
        if self.op == "iris":
            return 5_000
        if self.trains:
            fewest = 3 if self.size == "large" else 20
            steps = max(fewest, min(5_000, 500_000_000 // cost))
            return -(-steps // BATCHES) * BATCHES if self.op == "fit_batches" else steps
        return max(1, min(1_000, 20_000_000 // cost))

    def bind(self, name: str, calls: int) -> Run:
        """Return a function that takes ``calls`` calls (or steps) from a fresh start."""
        run = self._once(name, calls)
        if calls == 1 or self.trains:
            return run

        def burst() -> None:
            for _ in repeat(None, calls):
                run()

        return burst

    def check(self, name: str) -> None:
        """Compare one call, or a few steps, of a contender with the reference.

        Raises
        ------
        AssertionError
            If an array differs by more than TOLERANCE.
        """
        steps = min(self.calls, 24)  # whole epochs of fit_batches
        given = inputs(self.op, self.shape, self.dtype)
        got = result(self.op, given, self._once(name, steps, given)())
        for g, e in zip(got, expected(self, steps), strict=True):
            scale = float(np.max(np.abs(e), initial=0))
            np.testing.assert_allclose(
                g,
                e,
                rtol=0,
                atol=TOLERANCE[self.dtype] * scale,
                err_msg=f"{self}: {name} differs from the reference",
            )

    def _once(self, name: str, steps: int, given: dict[str, Any] | None = None) -> Run:
        if given is None:
            given = inputs(self.op, self.shape, self.dtype)
        rival = contender(name, self.dtype)
        op = self.op.removesuffix("_out")
        if self.trains:
            function = rival.iris if op == "iris" else rival.fit
            prepared: Run = function(**given, steps=steps)
            return prepared
        if op in {"predict", "dense_forward"}:
            ready: Run = getattr(rival, op)(**given)
            return ready
        out = {"out": given.pop("out")} if "out" in given else {}
        return functools.partial(getattr(rival, op), *given.values(), **out)


def cases(op: str) -> list[Case]:
    """Return the cases of one operation, shapes in order, float64 before float32."""
    # The lecture's stop rule asks for more digits than float32 has.
    dtypes = DTYPES[:1] if op == "iris" else DTYPES
    return [Case(op, shape, dtype) for shape in OPERATIONS[op] for dtype in dtypes]


def entries(*ops: str) -> list[Any]:
    """Return the parameters of these operations' cases, with each of their contenders.

    All but the quick ones are marked slow. The reference is NumPy again, and slower.
    """
    return [
        pytest.param(
            *(case.op, str(case.shape), case.dtype, name),
            id=f"{case.key} {name}",
            marks=() if case.quick and name != "reference" else pytest.mark.slow,
        )
        for op in ops
        for case in cases(op)
        for name in case.contenders
    ]


def case_of(op: str, shape: str, dtype: str) -> Case:
    """Return the case of these parameters."""
    return next(
        case for case in cases(op) if (str(case.shape), case.dtype) == (shape, dtype)
    )


def work(op: str, shape: shapes.Shape) -> Work:
    """Count the flops of the products, and the elements that have to be moved.

    A product of (m, k) and (k, n) takes 2 m k n. Elements are the operation's arguments
    and results, each read or written once: what no implementation can avoid.
    """
    if isinstance(shape, shapes.Flat):
        return (
            Work(2 * shape.n, 3 * shape.n) if op == "update" else Work(0, 2 * shape.n)
        )
    if isinstance(shape, shapes.Net):
        products = [m * n for m, n in pairwise(shape.sizes)]
        if op in {"predict", "predict_out"}:
            ends = shape.batch * (shape.sizes[0] + shape.sizes[-1])
            n_params = sum(products) + sum(shape.sizes[1:])
            return Work(2 * shape.batch * sum(products), ends + n_params)
        # The first layer needs no gradient to its input.
        flops = 2 * shape.batch * (3 * sum(products) - products[0])
        n_params = sum(products) + sum(shape.sizes[1:])
        ends = shape.sizes[0] + shape.sizes[-1]
        return Work(flops, shape.batch * ends + 2 * n_params)
    batch, n_in, n_out = shape.batch, shape.n_in, shape.n_out
    product = 2 * batch * n_in * n_out
    if op in {"forward", "forward_out", "dense_forward"}:
        outputs = batch * n_out * (2 if op == "dense_forward" else 1)
        return Work(product, (batch + n_out) * n_in + n_out + outputs)
    # x, w, a, da come in, dx, dw and db (or the new w and b) go out.
    elements = 2 * (batch * n_in + n_in * n_out + batch * n_out) + n_out
    return Work(2 * product, elements + (n_out if op == "backward_update" else 0))


def inputs(op: str, shape: shapes.Shape, dtype: str) -> dict[str, Any]:
    """Return fresh arguments by name, the same numbers every time."""
    return {
        name: value.astype(dtype) if isinstance(value, np.ndarray) else value
        for name, value in numbers(op, shape).items()
    }


@functools.lru_cache(maxsize=1)
def numbers(op: str, shape: shapes.Shape) -> dict[str, Any]:
    """Return the arguments of a case in float64: they are exact in float32 as well."""
    rng = np.random.default_rng(20240607)

    def normal(*size: int, scale: float = 1.0) -> Array:
        values = rng.standard_normal(size, dtype=np.float32) * np.float32(scale)
        return values.astype(np.float64)

    if op == "iris":
        x, species = load_iris()
        x = np.column_stack([x[:, :2], np.ones(len(x))])
        return {"x": x, "t": (species == 0).astype(np.float64), "lr": LR}
    if isinstance(shape, shapes.Net):
        flat = []
        for n_in, n_out in pairwise(shape.sizes):
            flat += [normal(n_in * n_out, scale=n_in**-0.5), normal(n_out)]
        network = {
            "sizes": shape.sizes,
            "params": np.concatenate(flat),
            "x": normal(shape.batch, shape.sizes[0]),
        }
        if op == "predict":
            return network
        if op == "predict_out":
            return network | {"out": np.zeros((shape.batch, shape.sizes[-1]))}
        rows = shape.batch * (BATCHES if op == "fit_batches" else 1)
        network["x"] = normal(rows, shape.sizes[0])
        scores = normal(rows, shape.sizes[-1])
        network["t"] = (scores > 0).astype(np.float64)
        network["lr"] = LR
        if op == "fit_softmax":
            network["t"] = np.eye(shape.sizes[-1])[scores.argmax(axis=1)]
            network["loss"] = "cross_entropy"
        if op == "fit_adam":
            network |= {"optimizer": "adam", "lr": ADAM_LR}
        if op == "fit_batches":
            network["batch_size"] = shape.batch
        return network
    if isinstance(shape, shapes.Flat):
        if op == "update":
            return {"param": normal(shape.n), "grad": normal(shape.n), "lr": SMALL_LR}
        z = {"z": normal(shape.n, scale=3.0)}
        return z if op == "sigmoid" else z | {"out": np.zeros(shape.n)}
    batch, n_in, n_out = shape.batch, shape.n_in, shape.n_out
    x, w, b = normal(batch, n_in), normal(n_in, n_out, scale=n_in**-0.5), normal(n_out)
    if op in {"forward", "dense_forward"}:
        return {"x": x, "w": w, "b": b}
    if op == "forward_out":
        return {"x": x, "w": w, "b": b, "out": np.zeros((batch, n_out))}
    a = siglin.reference.forward(x, w, b).astype(np.float32).astype(np.float64)
    da = normal(batch, n_out)
    if op == "backward":
        return {"x": x, "w": w, "a": a, "da": da}
    return {"x": x, "w": w, "b": b, "a": a, "da": da, "lr": SMALL_LR}


def result(op: str, given: dict[str, Any], returned: Any) -> tuple[Array, ...]:
    """Return the arrays that a call produced, whether returned or changed in place."""
    if op == "update":
        return (given["param"],)
    if op == "backward_update":
        return (returned, given["w"], given["b"])
    if op in {"backward", "iris"} or op.startswith("fit"):
        return tuple(np.asarray(array) for array in returned)
    return (returned,)


@functools.lru_cache(maxsize=1)
def expected(case: Case, steps: int) -> tuple[Array, ...]:
    """Return what the reference produces in float64."""
    given = inputs(case.op, case.shape, "float64")
    exact = Case(case.op, case.shape, "float64")
    return result(case.op, given, exact._once("reference", steps, given)())
