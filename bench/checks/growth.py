"""Growth: time per row and memory of a fit, from a thousand rows to ten million.

    python bench/checks/growth.py [--most N] [--threads N]

Fits 32-1, float32, full batch, a process of its own for each number of rows, and prints
the time per row of a step and the memory that the fit took beside its data. Reads x from
memory once per step where it does not fit into a cache. The exit code is 1 if a row takes
more than 1.5 times as long at the largest size as at the best size whose data is out of
the caches too, or if a fit takes more than 16 MB beside its data: a copy of x would be
a gigabyte.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

N_IN = 32
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
ROUNDS = 3
FLAT = 1.5
OUT_OF_CACHE = 1_000_000  # rows: 128 MB
MEMORY = 16e6  # bytes


def peak_bytes() -> int:
    """Return the most memory this process has held so far."""
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work(rows: int, threads: int) -> dict[str, float]:
    """Fit once, in this process, and return what it took."""
    import numpy as np  # noqa: PLC0415 - in the process of one size only

    import siglin  # noqa: PLC0415

    if hasattr(siglin, "set_num_threads"):
        siglin.set_num_threads(threads)
    rng = np.random.default_rng(1)
    x = np.empty((rows, N_IN), np.float32)
    t = np.empty((rows, 1), np.float32)
    for start in range(0, rows, 100_000):  # in place: the peak so far is the data
        part = x[start : start + 100_000]
        rng.standard_normal(out=part, dtype=np.float32)
        t[start : start + 100_000] = part[:, :1] > 0.5
    net = siglin.Network([N_IN, 1], dtype="float32", seed=0)
    net.fit(x[:1000], t[:1000], epochs=2)  # what a first fit loads is not growth
    steps = max(2, 20_000_000 // rows)
    before = peak_bytes()
    seconds = []
    for _ in range(ROUNDS):
        start_time = perf_counter()
        net.fit(x, t, epochs=steps)
        seconds.append(perf_counter() - start_time)
    return {
        "rows": rows,
        "steps": steps,
        "ns": min(seconds) / steps / rows * 1e9,
        "data": x.nbytes + t.nbytes,
        "extra": peak_bytes() - before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit more and more rows.")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="rows (10,000,000)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rows:
        print(json.dumps(work(args.rows, args.threads)))
        return 0
    print(
        f"{environment.cpu_name()}, {args.threads} thread(s), 32-1, float32, full batch"
    )
    print(
        f"{'rows':>11} {'steps':>7} {'ns per row':>11} {'GB/s':>6} {'data MB':>8} extra MB"
    )
    found = []
    for rows in [size for size in SIZES if size <= args.most]:
        command = [sys.executable, __file__, "--threads", str(args.threads)]
        done = subprocess.run(
            [*command, "--rows", str(rows)], check=True, capture_output=True, text=True
        )
        size = json.loads(done.stdout)
        found.append(size)
        rate = size["data"] / rows / size["ns"]
        print(
            f"{rows:11,} {size['steps']:7,} {size['ns']:11.2f} {rate:6.1f} "
            f"{size['data'] / 1e6:8.1f} {size['extra'] / 1e6:8.1f}",
            flush=True,
        )
    problems = [
        f"{size['rows']:,} rows take {size['extra'] / 1e6:.1f} MB beside their data"
        for size in found
        if size["extra"] > MEMORY
    ]
    large = [size["ns"] for size in found if size["rows"] >= OUT_OF_CACHE]
    if large and large[-1] > FLAT * min(large):
        problems.append("the time per row grows")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
