"""A busy machine: forward on two threads, beside as many spinning processes as CPUs.

    python bench/checks/busy.py [--calls N] [--numpy]

Times `forward` of (256, 784) x (784, 512) in float32, call by call, on one thread and on
two in turns, while other processes keep the CPUs busy. The exit code is 1 if on two threads
the median is more than 1.3 times, or the 99th percentile more than 1.5 times, what it is
on one. With --numpy the same product is shown for NumPy, whose BLAS has its own threads.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import numpy as np

import siglin

MEDIAN_BAR, P99_BAR = 1.3, 1.5
BLOCK = 25  # calls on one thread before it is the other number's turn
SPIN = "while True: pass"


def summarised(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    median, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return float(median), float(p99)


def alternate(run: Callable[[], object], calls: int) -> dict[int, list[float]]:
    """Time so many calls on one thread and on two, in blocks that alternate."""
    times: dict[int, list[float]] = {1: [], 2: []}
    while len(times[2]) < calls:
        for threads, found in times.items():
            environment.set_threads(threads)
            run()
            for _ in range(BLOCK):
                start = perf_counter()
                run()
                found.append(perf_counter() - start)
    return times


def report(title: str, run: Callable[[], object], calls: int) -> tuple[float, float]:
    """Print the figures of both, and return how many times one's two threads take."""
    times = alternate(run, calls)
    figures = {threads: summarised(found) for threads, found in times.items()}
    for threads, (median, p99) in figures.items():
        print(
            f"{title}, {threads} thread(s): median {median:6.2f} ms, p99 {p99:6.2f} ms"
        )
    (median, p99), (median_2, p99_2) = figures[1], figures[2]
    print(f"{title}, 2 / 1: median {median_2 / median:.2f}, p99 {p99_2 / p99:.2f}")
    return median_2 / median, p99_2 / p99


def main() -> int:
    parser = argparse.ArgumentParser(description="Time forward on a busy machine.")
    parser.add_argument("--calls", type=int, default=1_000, help="on each (1,000)")
    parser.add_argument(
        "--numpy", action="store_true", help="also show NumPy's product"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((256, 784), dtype=np.float32)
    w = rng.standard_normal((784, 512), dtype=np.float32) * np.float32(784**-0.5)
    b = np.zeros(512, np.float32)
    out = np.empty((256, 512), np.float32)
    if not hasattr(siglin, "set_num_threads"):
        print("siglin runs on one thread here: there is nothing to compare")
        return 0
    busy = environment.cpus()
    print(
        f"{environment.cpu_name()}, siglin {siglin.target()}; beside {busy} spinning "
        f"processes, {args.calls} calls each"
    )

    def forward() -> object:
        return siglin.forward(x, w, b, out=out)

    report("quiet", forward, max(BLOCK, args.calls // 4))
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
    try:
        median, p99 = report("busy", forward, args.calls)
        if args.numpy:
            report("busy, NumPy", lambda: np.matmul(x, w, out=out), args.calls // 4)
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()
    missed = [
        f"the {name} is {ratio:.2f} times that on one thread, more than {bar}"
        for name, ratio, bar in (("median", median, MEDIAN_BAR), ("p99", p99, P99_BAR))
        if ratio > bar
    ]
    print(*missed, sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
