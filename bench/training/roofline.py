"""What this machine can do at most, and how long a row of the race takes at least.

``machine_peak.cpp`` is compiled into ``bench/training/_build/`` and run. A row's limit is the
longer one of two times: its products' flops at the multiply-add peak, and the bytes it
cannot help moving at the speed of the level of memory that holds them.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from race_rows import Row

SOURCE = Path(__file__).with_name("machine_peak.cpp")
PROGRAM = SOURCE.parent / "_build" / SOURCE.stem

# The vectors of parameters and of the optimiser's memory that a step reads and writes.
STATE = {"gd": 1, "adam": 3}


class Limit(NamedTuple):
    """The least time of one step, in microseconds, and what sets it."""

    us: float
    cause: str


def compile_program() -> str | None:
    """Build the program where the source is newer; return why it cannot be, or None."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > SOURCE.stat().st_mtime:
        return None
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        return "no C++ compiler"
    PROGRAM.parent.mkdir(exist_ok=True)
    options = ["-O3", "-march=native", "-std=c++20", "-pthread"]
    done = subprocess.run(
        [compiler, *options, str(SOURCE), "-o", str(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        return f"{SOURCE.name} could not be compiled: {lines[0]}"
    return None


def measure(threads: int) -> dict[str, Any]:
    """Return what the program finds on so many threads, or why there is nothing."""
    problem = compile_program()
    if problem:
        return {"missing": problem}
    done = subprocess.run(
        [str(PROGRAM), str(threads)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the higher of two measurements, figure by figure."""
    if "missing" in one:
        return one
    both = zip(one["levels"], other["levels"], strict=True)
    return one | {
        "gflops": {k: max(v, other["gflops"][k]) for k, v in one["gflops"].items()},
        "levels": [a | {"gbytes": max(a["gbytes"], b["gbytes"])} for a, b in both],
    }


def bytes_moved(row: Row) -> tuple[int, int]:
    """Return the bytes that a step has to move of the data, and of the parameters.

    The batch is read; parameters and the optimiser's memory are read and written. What
    could stay in registers and L1 is not counted: activations and gradients.
    """
    # Of sparse rows the numbers and their columns, of four bytes.
    given = row.sizes[0] * row.itemsize
    if row.density < 1:
        given = round(row.density * row.sizes[0]) * (row.itemsize + 4)
    data = row.batch * (given + row.sizes[-1] * row.itemsize)
    return data, 2 * STATE[row.optimizer] * row.n_params * row.itemsize


def level(peak: dict[str, Any], held: int) -> dict[str, Any]:
    """Return the first level of memory that holds so many bytes."""
    levels: list[dict[str, Any]] = peak["levels"]
    return next((each for each in levels if each["holds"] >= held), levels[-1])


def limit(row: Row, peak: dict[str, Any]) -> Limit:
    """Return the least time of a step."""
    data, params = bytes_moved(row)
    data_level = level(peak, data // row.batch * row.rows)
    params_level = level(peak, params // 2)
    by_flops = row.flops / (peak["gflops"][row.dtype] * 1e3)
    by_bytes = data / (data_level["gbytes"] * 1e3) + params / (
        params_level["gbytes"] * 1e3
    )
    if by_flops >= by_bytes:
        return Limit(by_flops, "flops")
    larger = data_level if data > params else params_level
    return Limit(by_bytes, f"{larger['name']} traffic")
