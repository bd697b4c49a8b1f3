"""What a callback and a bar cost: fits with them beside fits without.

    python bench/checks/hooks.py [--rounds N]

Trains networks of several sizes for half a second or so, in turns without anything, with a
callback that looks at the loss, and with progress=True (into a file that nobody reads), and
prints how much longer the last two take: the median over the rounds of the processor time
of a fit, divided by that of the plain fit of its round. The exit code is 1 if progress costs
more than 2 % anywhere, or the callback where an epoch takes 100 us or more.
"""

import argparse
import contextlib
import io
import sys
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import numpy as np

import siglin

BAR = 0.02
LONG_EPOCH = 100e-6  # seconds
SECONDS = 0.5

# Sizes, rows, batch_size: what is fitted.
FITS = (
    ((4, 16, 1), 150, None),
    ((4, 16, 1), 150, 1),
    ((4, 16, 1), 150, 32),
    ((30, 32, 1), 569, 64),
    ((64, 32, 10), 1797, 64),
    ((64, 256, 10), 1797, 200),
    ((784, 128, 10), 10_000, 128),
)

HOOKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "callback": {"callback": lambda state: state.loss < 0},
    "progress": {"progress": True},
}


def measure(sizes: tuple[int, ...], rows: int, batch_size: int | None, rounds: int):
    """Return the seconds of an epoch, and what each hook adds, as a fraction."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    t = rng.uniform(size=(rows, sizes[-1])).astype(np.float32)

    def fit(epochs: int, **hooks: Any) -> float:
        net = siglin.Network(sizes, dtype="float32", seed=0)
        start = process_time()
        net.fit(x, t, lr=1e-3, epochs=epochs, batch_size=batch_size, **hooks)
        return process_time() - start

    epochs = 1
    while (seconds := fit(epochs)) < SECONDS / 4:
        epochs *= 2
    epochs = max(1, round(epochs * SECONDS / seconds))
    ratios: dict[str, list[float]] = {name: [] for name in HOOKS}
    plain = []
    for _ in range(rounds):
        times = {name: fit(epochs, **hooks) for name, hooks in HOOKS.items()}
        plain.append(times["plain"])
        for name, taken in times.items():
            ratios[name].append(taken / times["plain"])
    return median(plain) / epochs, {name: median(r) - 1 for name, r in ratios.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Time callbacks and progress.")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    environment.set_threads(1)
    print(f"{environment.cpu_name()}, one thread, float32")
    print(f"{'network':>12} {'rows':>6} {'batch':>5} {'us/epoch':>9} callback progress")
    dear = []
    for sizes, rows, batch_size in FITS:
        with contextlib.redirect_stderr(io.StringIO()):
            siglin.Neuron(1).fit([[1.0]], [1], progress=True)  # imports tqdm
            epoch, added = measure(sizes, rows, batch_size, args.rounds)
        name = "-".join(map(str, sizes))
        print(
            f"{name:>12} {rows:6} {batch_size or rows:5} {epoch * 1e6:9.1f} "
            f"{added['callback']:8.1%} {added['progress']:8.1%}",
            flush=True,
        )
        for hook in ("callback", "progress"):
            bound = epoch >= LONG_EPOCH or hook == "progress"
            if bound and added[hook] > BAR:
                dear.append(f"{name}: {hook} costs {added[hook]:.1%}")
    print(*dear, sep="\n")
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
