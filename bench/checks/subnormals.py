"""Steps that meet subnormal numbers: saturated units, and fits that go on for long.

    python bench/checks/subnormals.py [--scales] [--epochs] [--rounds N] [--threads N]

Two tables; without an option both. `--scales`: a step and a prediction on inputs of
scale 1 to 10,000, for every activation and both dtypes, over those at scale 1. Saturated
sigmoids and tanhs have derivatives that are subnormal or 0. `--epochs`: an epoch of every
optimiser after 500 to 50,000 of them, over the first ones: gradients and moments become
smaller and smaller. A processor takes some 150 cycles for an operation on a subnormal
number, so a network counts them as 0. The exit code is 1 if anything takes more than 1.3
times as long as its first figure.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

MOST = 1.3
SCALES = (1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4)
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
SIZES = [64, 256, 256, 10]
BATCH = 64
EPOCHS = (500, 5_000, 20_000, 50_000)


def best(rounds: int, calls: list[Callable[[], object]]) -> list[float]:
    """Return the seconds of each call at its best, the rounds interleaved."""
    seconds = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = perf_counter()
            call()
            seconds[i] = min(seconds[i], perf_counter() - start)
    return seconds


def show(name: str, unit: float, seconds: list[float]) -> bool:
    """Print a row: the first figure, and the others over it; return whether it is flat."""
    ratios = [one / seconds[0] for one in seconds]
    print(f"{name:34} {seconds[0] / unit:9.2f} us", *(f"{r:6.2f}" for r in ratios))
    return max(ratios) <= MOST


def by_scale(rounds: int) -> list[str]:
    """Time steps and predictions at every scale; return what is not flat."""
    import numpy as np  # noqa: PLC0415 - after the environment is set

    import siglin  # noqa: PLC0415

    rng = np.random.default_rng(1)
    steps = 20
    print(f"{SIZES}, batches of {BATCH}; at scales", *(f"{s:g}" for s in SCALES))
    found = []
    for dtype in ("float32", "float64"):
        x = rng.normal(size=(steps * BATCH, SIZES[0]))
        t = rng.uniform(size=(len(x), SIZES[-1])).astype(dtype)
        for activation in ACTIVATIONS:
            # The output of steps that must stay finite whatever the scale of x is.
            net = siglin.Network(SIZES, activation=activation, dtype=dtype, seed=1)
            start = net.params.copy()
            inputs = [(x * scale).astype(dtype) for scale in SCALES]

            def fit(data: object) -> None:
                net.params = start  # noqa: B023 - called in this turn of the loop
                net.fit(data, t, lr=1e-9, epochs=1, batch_size=BATCH)  # noqa: B023

            name = f"{dtype} {activation}"
            fits = [lambda data=data: fit(data) for data in inputs]
            if not show(f"{name} fit", steps * 1e-6, best(rounds, fits)):
                found.append(f"{name} fit")
            net.params = start
            predicts = [lambda data=data: net.predict(data) for data in inputs]  # noqa: B023
            if not show(f"{name} predict", steps * 1e-6, best(rounds, predicts)):
                found.append(f"{name} predict")
    return found


def by_epoch(rounds: int) -> list[str]:
    """Time epochs of ever longer fits; return what is not flat."""
    import numpy as np  # noqa: PLC0415

    import siglin  # noqa: PLC0415

    optimizers = {
        "gd": siglin.GradientDescent,
        "momentum": siglin.Momentum,
        "nesterov": siglin.Nesterov,
        "adam": siglin.Adam,
        "adamw": siglin.AdamW,
    }
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(150, 4)), rng.integers(3, size=150)
    together = 500  # epochs timed at once: some milliseconds
    print("\n4-16-3, softmax, full batch of 150; after epochs", *map(str, EPOCHS))
    found = []
    for dtype in ("float32", "float64"):
        for name, make in optimizers.items():
            net = siglin.Network([4, 16, 3], loss="cross_entropy", dtype=dtype, seed=1)
            optimizer, done, seconds = make(), 0, []
            lr = 0.01 if name.startswith("adam") else 0.1
            data = x.astype(dtype), labels

            def fit(epochs: int) -> None:
                net.fit(*data, lr=lr, epochs=epochs, optimizer=optimizer)  # noqa: B023

            for epochs in EPOCHS:
                fit(max(epochs - done - together * rounds, 0))
                seconds.append(best(rounds, [lambda: fit(together)])[0])
                done = epochs
            if not show(f"{dtype} {name}", together * 1e-6, seconds):
                found.append(f"{dtype} {name}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Time steps that meet subnormals.")
    parser.add_argument("--scales", action="store_true")
    parser.add_argument("--epochs", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    environment.drop_openblas_overrides()
    environment.set_threads(args.threads)
    print(f"{environment.cpu_name()}, {args.threads} thread(s)")
    both = args.scales == args.epochs
    found = by_scale(args.rounds) if both or args.scales else []
    found += by_epoch(args.rounds) if both or args.epochs else []
    print(*(f"takes more than {MOST} times as long: {one}" for one in found), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
