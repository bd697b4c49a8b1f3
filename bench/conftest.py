"""Options, the session's environment, and the fixture that measures a case."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import environment

try:
    DROPPED = environment.drop_openblas_overrides()
except RuntimeError as error:
    raise pytest.UsageError(str(error)) from None

sys.path.insert(0, str(Path(__file__).with_name("operations")))

# NumPy may only be loaded from here on.
import cython_build
from cases import Case, Measure, case_of

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--threads",
        type=int,
        default=1,
        help="threads of siglin and of NumPy's BLAS in the benchmarks (default: 1)",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads it
def pytest_configure(config: pytest.Config) -> None:
    # Its own default, a second for each benchmark, would make minutes of the quick ones.
    given = any("--benchmark-max-time" in str(a) for a in config.invocation_params.args)
    if not given and hasattr(config.option, "benchmark_max_time"):
        config.option.benchmark_max_time = Decimal("0.3")


def missing_kernels() -> str | None:
    """Build the Cython contender; return why it is missing, or None."""
    try:
        cython_build.load()
    except cython_build.KernelsMissingError as error:
        return str(error)
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    environment.set_threads(config.getoption("--threads"))
    lines = [f"{key}: {value}" for key, value in environment.describe().items()]
    if DROPPED:
        lines.append(f"unset for this run, as they slow NumPy: {', '.join(DROPPED)}")
    if note := missing_kernels():
        lines.append(f"cython contender left out: {note}")
    return lines


@pytest.fixture
def measure(benchmark: "BenchmarkFixture", request: pytest.FixtureRequest) -> Measure:
    """Return the function that checks a contender at a case and times it."""
    environment.set_threads(request.config.getoption("--threads"))

    def check_and_time(op: str, shape: str, dtype: str, name: str) -> None:
        case = case_of(op, shape, dtype)
        if name == "cython" and (note := missing_kernels()):
            pytest.skip(note)
        case.check(name)
        calls = case.calls if case.stateful and benchmark.enabled else 1
        benchmark.group = str(case) + (f", {calls} calls a round" if calls > 1 else "")
        if case.stateful or case.size == "large":
            # Every round starts from the same weights. Three rounds do where one may take
            # seconds and the clock's noise is nothing.
            benchmark.pedantic(
                lambda run: run(),
                setup=lambda: ((case.bind(name, calls),), {}),
                rounds=3 if case.size == "large" else 10,
                warmup_rounds=1,
            )
        else:
            benchmark(case.bind(name, calls))
        record(benchmark, case, name, calls)

    return check_and_time


def record(benchmark: Any, case: Case, name: str, calls: int) -> None:
    """Store with the times what they depend on, and what they amount to."""
    info = benchmark.extra_info
    info.update(
        environment.describe(),
        operation=case.op,
        size=case.size,
        shape=str(case.shape),
        dtype=case.dtype,
        contender=name,
        calls=calls,
    )
    if benchmark.stats is None:  # --benchmark-disable
        return
    seconds = benchmark.stats.stats.median / calls
    itemsize = 4 if case.dtype == "float32" else 8
    info["us_per_call"] = seconds * 1e6
    info["gflops"] = case.work.flops / seconds / 1e9
    info["gbytes"] = case.work.elements * itemsize / seconds / 1e9
