"""Online learning: a row at a time by learn_one, and by scikit-learn's partial_fit.

    python bench/training/online.py

Prints the microseconds of a call, the best of some rounds, beside those of fit on one row
and of MLPClassifier.partial_fit (solver sgd without momentum, batch_size 1, no penalty)
where scikit-learn is installed. The exit code is 1 if a call takes more than BAR
microseconds in a network of up to 64-32-10.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import numpy as np

import siglin

BAR = 3.0  # us: two, and what a busy machine adds
NETWORKS = ((2, 3, 1), (4, 16, 1), (16, 32, 4), (64, 32, 10), (784, 30, 10))
LARGEST = 4096  # parameters that the bar is for
LR = 1e-3


def us_per_call(call: Callable[[], object]) -> float:
    number = 20
    while repeat(call, number=number, repeat=1)[0] < 0.02:
        number *= 2
    return min(repeat(call, number=number, repeat=7)) / number * 1e6


def scikit_learn(sizes: tuple[int, ...], x: Any, label: int) -> Callable[[], object]:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - optional

    model = MLPClassifier(
        sizes[1:-1],
        activation="logistic",
        solver="sgd",
        momentum=0.0,
        alpha=0.0,
        batch_size=1,
        learning_rate_init=LR,
    )
    classes = np.arange(max(sizes[-1], 2))
    row, target = x[None], np.array([label])
    model.partial_fit(row, target, classes=classes)
    return lambda: model.partial_fit(row, target)


def main() -> int:
    print(f"{environment.cpu_name()}, microseconds a call")
    print(f"{'network':>12} {'dtype':>8} {'learn_one':>10} {'fit':>7} partial_fit")
    slow = []
    for sizes in NETWORKS:
        for dtype in ("float64", "float32"):
            loss = "bce" if sizes[-1] == 1 else "cross_entropy"
            net = siglin.Network(sizes, loss=loss, dtype=dtype, seed=0)
            x = np.random.default_rng(1).normal(size=sizes[0]).astype(dtype)
            row, target = x[None], np.ones(1, dtype)
            learn = us_per_call(lambda net=net, x=x: net.learn_one(x, 1, lr=LR))
            fit = us_per_call(lambda net=net, row=row, t=target: net.fit(row, t, lr=LR))
            try:
                peer = f"{us_per_call(scikit_learn(sizes, x, 1)):11.0f}"
            except ImportError:
                peer = "not there"
            name = "-".join(map(str, sizes))
            print(f"{name:>12} {dtype:>8} {learn:10.2f} {fit:7.1f} {peer}", flush=True)
            if learn > BAR and net.n_params <= LARGEST:
                slow.append(f"{name} {dtype} takes more than {BAR} us")
    print(*slow, sep="\n")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
