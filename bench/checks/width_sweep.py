"""Two threads never make it slower: a sweep over the width of a small network.

    python bench/checks/width_sweep.py [--rounds N] [--widths N,N,...] [--late US,US,...]

Fits 10-w-w-10, batch 128, float32, on one thread and on two, in turns, for w from 8 to
256. The exit code is 1 if two threads take more than 1.1 times the time of one anywhere.
With --late the sweep is run once for each of so many microseconds that helpers wait
before they look for work, and that waking one takes its caller in addition: a stand-in
for CPUs whose threads hear of each other slowly.
"""

import argparse
import gc
import random
import statistics
import sys
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment
import siglin

BAR = 1.1
WIDTHS = (*range(8, 64, 8), *range(64, 257, 16))
BATCH, ROWS = 128, 1_280
TIMING = 0.03  # seconds that a timing should take
REST = 0.005  # seconds before it, so that no helper still looks for work


def fit_seconds(net: siglin.Network, epochs: int, threads: int) -> float:
    """Time one fit on so many threads, from the same weights."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, 10), dtype=np.float32)
    t = (rng.standard_normal((ROWS, 10)) > 0).astype(np.float32)
    params = net.params.copy()
    siglin.set_num_threads(threads)
    sleep(REST)
    gc.disable()
    start = perf_counter()
    net.fit(x, t, epochs=epochs, batch_size=BATCH, shuffle=False)
    seconds = perf_counter() - start
    gc.enable()
    net.params[:] = params
    return seconds


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(width: int, rounds: int) -> dict[int, list[float]]:
    """Return the seconds per step on one and on two threads, of each round."""
    net = siglin.Network([10, width, width, 10], dtype="float32", seed=0)
    epochs = 1
    while fit_seconds(net, epochs, 1) < TIMING / 2:
        epochs *= 2
    fit_seconds(net, epochs, 2)  # the helper is started, and not timed
    times: dict[int, list[float]] = {1: [], 2: []}
    order = random.Random(0)
    for _ in range(rounds):
        for threads in order.sample([1, 2], 2):
            seconds = fit_seconds(net, epochs, threads)
            times[threads].append(seconds / (epochs * ROWS // BATCH))
    return times


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Fit small networks on 1 and 2 threads."
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--widths", type=numbers, default=[*WIDTHS], help="of the hidden layers"
    )
    parser.add_argument(
        "--late", type=numbers, default=[0], help="microseconds (0: as the CPU is)"
    )
    args = parser.parse_args()
    if not hasattr(siglin, "set_num_threads"):
        print("siglin runs on one thread here: there is nothing to compare")
        return 0
    if environment.cpus() < 2:
        print("there is one CPU: two threads have nowhere to run")
        return 0
    print(f"{environment.cpu_name()}, siglin {siglin.target()}, {args.rounds} rounds")
    slower = False
    for late in args.late:
        slower |= sweep(args.widths, args.rounds, late)
    return 1 if slower else 0


def sweep(widths: list[int], rounds: int, late: int) -> bool:
    """Print the times of all widths; return whether two threads are slower anywhere."""
    print(
        "best (median) us per step, 10-w-w-10, batch 128, float32"
        + (f", helpers {late} us late" if late else "")
    )
    print(f"{'w':>4} {'1 thread':>18} {'2 threads':>18} {'2 / 1':>6}")
    slower = []
    for width in widths:
        if late:
            siglin._core.make_helpers_late(late * 1e-6, late * 1e-6)
        times = measure(width, rounds)
        best = {n: min(values) * 1e6 for n, values in times.items()}
        shown = [
            f"{best[n]:8.1f} ({statistics.median(times[n]) * 1e6:7.1f})" for n in (1, 2)
        ]
        ratio = best[2] / best[1]
        verdict = "" if ratio <= BAR else f"  more than {BAR}"
        if verdict:
            slower.append(width)
        print(
            f"{width:4} {shown[0]:>18} {shown[1]:>18} {ratio:6.2f}{verdict}", flush=True
        )
    if slower:
        print(f"two threads are slower at w = {', '.join(map(str, slower))}")
    return bool(slower)


if __name__ == "__main__":
    sys.exit(main())
