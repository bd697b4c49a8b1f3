"""A grid search with several jobs beside one: in threads and in processes.

    python bench/training/grid_search.py [--jobs N] [--rounds N] [--peer]

Searches eight values of alpha with three folds of the digits, 64-32-10, in turns: one job,
several in threads of one process, several in processes that have been started before. The
jobs' BLAS and siglin have one thread each. Prints the seconds of each one's best round;
with --peer those of one round of scikit-learn's MLP too. All ways have to find the same
scores. The exit code is 1 if several jobs of siglin, in threads or in processes, are less
than 0.75 times as many times as fast as there are jobs.
"""

import argparse
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from siglin import estimators

GRID = {"alpha": [10.0**-power for power in range(8)]}
BAR = 0.75  # of as many times as there are jobs
WAYS = {"one job": None, "threads": "threading", "processes": "loky"}


def search(kind: Any, x: Any, y: Any, way: str, jobs: int) -> tuple[float, Any]:
    """Return the seconds of a search and its scores."""
    model = kind(hidden_layer_sizes=32, batch_size=64, max_iter=200, random_state=0)
    grid = GridSearchCV(model, GRID, cv=3, refit=False)
    backend = WAYS[way]
    start = perf_counter()
    if backend is None:
        grid.fit(x, y)
    else:
        inner = {"inner_max_num_threads": 1} if backend == "loky" else {}
        with joblib.parallel_backend(backend, n_jobs=jobs, **inner):
            grid.fit(x, y)
    return perf_counter() - start, grid.cv_results_["mean_test_score"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Search a grid with several jobs.")
    parser.add_argument("--jobs", type=int, default=environment.cpus())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="scikit-learn's MLP too")
    args = parser.parse_args()
    if args.jobs < 2:
        print("one CPU: there is nothing to compare")
        return 0
    warnings.simplefilter("ignore", ConvergenceWarning)
    environment.set_threads(1)
    digits, y = load_digits(return_X_y=True)
    x = digits / 16
    print(f"{environment.cpu_name()}, {args.jobs} jobs")
    problems = []
    kinds = {"siglin": (estimators.MLPClassifier, args.rounds)}
    if args.peer:
        kinds["scikit-learn"] = (MLPClassifier, 1)
    for name, (kind, rounds) in kinds.items():
        best = dict.fromkeys(WAYS, float("inf"))
        scores = {}
        for way in WAYS:  # a warm-up: processes start, and stay
            scores[way] = search(kind, x, y, way, args.jobs)[1]
        for _ in range(rounds):
            for way in WAYS:
                best[way] = min(best[way], search(kind, x, y, way, args.jobs)[0])
        print(
            f"{name:13}",
            *(
                f"{way} {best[way]:6.2f} s ({best['one job'] / best[way]:.2f} times)"
                for way in WAYS
            ),
            flush=True,
        )
        for way in WAYS:
            if not np.array_equal(scores[way], scores["one job"]):
                problems.append(f"{name}: {way} find other scores than one job")
            ratio = best["one job"] / best[way]
            if name == "siglin" and way != "one job" and ratio < BAR * args.jobs:
                problems.append(f"{way} are {ratio:.2f} times as fast as one job")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
