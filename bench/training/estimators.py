"""The estimators against scikit-learn's MLP: the same fits, in turns, in one process.

    python bench/training/estimators.py [--threads N] [--rounds N] [--only WORD] [--check]

Prints for each fit the best seconds of an epoch, the whole of `fit` divided by its epochs,
checks and shuffles and all, and the ratio. Every round runs each contender once, in an
order drawn anew. Before anything is timed the two must have the same loss curve. The exit
code is 1 if a bar is missed, or a curve is another; with --check nothing is timed.
"""

import argparse
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

environment.drop_openblas_overrides()

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from siglin import estimators


class Fit(NamedTuple):
    """A fit that is timed, and how many times as fast as scikit-learn it has to be."""

    name: str
    kind: str
    load: Callable[[], tuple[Any, Any]]
    parameters: dict[str, Any]
    epochs: int
    bar: float | None = None


def digits() -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def digits32() -> tuple[Any, Any]:
    x, y = digits()
    return x.astype(np.float32), y


def cancer() -> tuple[Any, Any]:
    x, y = load_breast_cancer(return_X_y=True)
    return scale(x), y


def diabetes() -> tuple[Any, Any]:
    x, y = load_diabetes(return_X_y=True)
    return scale(x), y / 100


SMALL = {"hidden_layer_sizes": 32, "batch_size": 64}
WIDE = {"hidden_layer_sizes": 256}
FITS = [
    Fit("digits 64-32-10, batch 64, adam", "MLPClassifier", digits, SMALL, 60, 10),
    Fit(
        "digits 64-32-10, batch 64, sgd",
        "MLPClassifier",
        digits,
        {**SMALL, "solver": "sgd"},
        60,
        10,
    ),
    Fit(
        "digits 64-32-10, batch 64, adam, float32",
        "MLPClassifier",
        digits32,
        SMALL,
        60,
    ),
    Fit("digits 64-256-10, batch 200, adam", "MLPClassifier", digits, WIDE, 10, 3),
    Fit(
        "digits 64-256-10, batch 200, adam, float32",
        "MLPClassifier",
        digits32,
        WIDE,
        10,
    ),
    Fit("cancer 30-100-1, batch 200, adam", "MLPClassifier", cancer, {}, 30),
    Fit("diabetes 10-100-1, batch 200, adam", "MLPRegressor", diabetes, {}, 30),
    Fit(
        "cancer 30-16-1, early stopping",
        "MLPClassifier",
        cancer,
        {"hidden_layer_sizes": 16, "early_stopping": True, "n_iter_no_change": 30},
        30,
    ),
    Fit(
        "digits 64-32-10, lbfgs",
        "MLPClassifier",
        digits,
        {"hidden_layer_sizes": 32, "solver": "lbfgs"},
        20,
    ),
]


def model_of(module: Any, fit: Fit) -> Any:
    """Return an estimator that has not been fitted."""
    return getattr(module, fit.kind)(
        random_state=0, max_iter=fit.epochs, **fit.parameters
    )


def problem(fit: Fit) -> str | None:
    """Say how the two models differ, if they do."""
    x, y = fit.load()
    theirs = model_of(neural_network, fit).fit(x, y)
    ours = model_of(estimators, fit).fit(x, y)
    want = getattr(theirs, "loss_curve_", [theirs.loss_])[:5]
    got = getattr(ours, "loss_curve_", [ours.loss_])[:5]
    rtol = 1e-6 if x.dtype == np.float64 else 1e-3
    if np.allclose(got, want, rtol=rtol, atol=0):
        return None
    return f"{fit.name}: the losses are {got}, scikit-learn's {want}"


def race(fit: Fit, rounds: int) -> dict[str, float]:
    """Return the best seconds of an epoch for each contender."""
    x, y = fit.load()
    modules = {"scikit-learn": neural_network, "siglin": estimators}
    best = dict.fromkeys(modules, float("inf"))
    for _ in range(rounds):
        for name in random.sample(list(modules), len(modules)):
            model = model_of(modules[name], fit)
            start = perf_counter()
            model.fit(x, y)
            best[name] = min(best[name], (perf_counter() - start) / model.n_iter_)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description="Race scikit-learn's MLP.")
    parser.add_argument("--threads", type=int, default=1, help="of BLAS and siglin (1)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="fits whose name holds this word")
    parser.add_argument("--check", action="store_true", help="compare the losses only")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    environment.set_threads(args.threads)
    fits = [fit for fit in FITS if args.only in fit.name]
    problems = [found for fit in fits if (found := problem(fit))]
    if not args.check:
        print(f"{environment.cpu_name()}, {args.threads} thread(s)")
        print(f"{'fit':44} {'scikit-learn':>12} {'siglin':>9}  ratio  bar")
    for fit in [] if args.check else fits:
        best = race(fit, args.rounds)
        ratio = best["scikit-learn"] / best["siglin"]
        print(
            f"{fit.name:44} {best['scikit-learn'] * 1e3:9.3f} ms "
            f"{best['siglin'] * 1e3:6.3f} ms {ratio:6.1f} {fit.bar or '':>4}",
            flush=True,
        )
        if fit.bar is not None and ratio < fit.bar:
            problems.append(f"{fit.name}: {ratio:.1f} times as fast, not {fit.bar}")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
