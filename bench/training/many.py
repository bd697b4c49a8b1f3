"""Many networks: fit_many on all cores, beside a loop of fits on one thread.

    python bench/training/many.py [--networks N] [--rounds N]

Trains 4-16-1 networks on full batches of 150 rows, in turns with both, and prints the
seconds of the best round of each and how many times as long the loop takes. Every network
must have the same bits from both. The exit code is 1 if the loop on one thread takes less
than 0.9 times as many times as long as there are CPUs: 1.8 with two.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import numpy as np

import siglin

SIZES, ROWS, EPOCHS = (4, 16, 1), 150, 5_000
BAR = 0.9  # of as many times as there are CPUs


def make(count: int, dtype: str) -> list[siglin.Network]:
    return [siglin.Network(SIZES, dtype=dtype, seed=seed) for seed in range(count)]


def compare(count: int, dtype: str, rounds: int) -> float:
    """Print the figures of one dtype, and return how many times as long the loop takes."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, SIZES[0])).astype(dtype)
    t = (x[:, :1] > 0).astype(dtype)
    alone, together = [], []
    for _ in range(rounds):
        singles, networks = make(count, dtype), make(count, dtype)
        with siglin.num_threads(1):
            start = perf_counter()
            for network in singles:
                network.fit(x, t, epochs=EPOCHS)
            alone.append(perf_counter() - start)
        with siglin.num_threads(environment.cpus()):
            start = perf_counter()
            siglin.fit_many(networks, x, t, epochs=EPOCHS)
            together.append(perf_counter() - start)
        for one, other in zip(singles, networks, strict=True):
            np.testing.assert_array_equal(one.params, other.params)
    ratio = min(alone) / min(together)
    print(
        f"{dtype}: {count} fits one by one {min(alone):.3f} s, together "
        f"{min(together):.3f} s, {ratio:.2f} times"
    )
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description="Train many small networks.")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cpus = environment.cpus()
    print(
        f"{environment.cpu_name()}, {cpus} CPUs, {'-'.join(map(str, SIZES))}, full batch "
        f"of {ROWS}, {EPOCHS} epochs"
    )
    ratios = [
        compare(args.networks, dtype, args.rounds) for dtype in ("float64", "float32")
    ]
    if cpus == 1:
        print("one CPU: nothing to compare")
        return 0
    if min(ratios) < BAR * cpus:
        print(f"less than {BAR * cpus:.1f} times")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
