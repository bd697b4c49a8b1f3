"""The race's row of sparse data: hashed documents, by the MLPs of siglin and scikit-learn.

    python bench/training/documents.py siglin|scikit-learn

prints how many bytes a fit takes beside its data; the race runs that in a process of its
own for each of the two.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import numpy as np
from scipy.sparse import csr_matrix

from race_rows import DOCUMENTS, WORDS

EPOCHS = 4  # of one timing


def corpus() -> tuple[Any, Any]:
    """Return documents and their labels: some words are frequent, and some of those tell."""
    rng = np.random.default_rng(20240607)
    n_words, rows = DOCUMENTS.sizes[0], DOCUMENTS.rows
    places = rng.permutation(n_words)
    words = places[rng.zipf(1.2, size=(rows, WORDS)) % n_words]
    starts = np.arange(rows + 1) * WORDS
    x = csr_matrix((np.ones(rows * WORDS), words.ravel(), starts), (rows, n_words))
    x.sum_duplicates()
    x.data /= np.sqrt(x.multiply(x).sum(axis=1).A1).repeat(np.diff(x.indptr))
    y = (words % 7 == 0).mean(axis=1) > 1 / 7
    return x, y.astype(np.int64)


def estimator(name: str, epochs: int) -> Any:
    """Return the MLP of that contender, not fitted."""
    if name == "siglin":
        from siglin.estimators import MLPClassifier  # noqa: PLC0415
    else:
        from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    return MLPClassifier(
        hidden_layer_sizes=DOCUMENTS.sizes[1:-1],
        activation=DOCUMENTS.activation,
        alpha=0.0,
        batch_size=DOCUMENTS.batch,
        learning_rate_init=DOCUMENTS.lr,
        max_iter=epochs,
        n_iter_no_change=epochs,
        tol=0.0,
        random_state=0,
    )


def fit(name: str, x: Any, y: Any, epochs: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of epochs that were not enough
        return estimator(name, epochs).fit(x, y)


def start(name: str) -> Callable[[], Callable[[], object]]:
    """Return what the race times."""
    x, y = corpus()
    return lambda: lambda: fit(name, x, y, EPOCHS)


def check() -> list[str]:
    """Return what is wrong: from one random state both must have the same loss curve."""
    x, y = corpus()
    curves = [fit(name, x, y, 2).loss_curve_ for name in ("siglin", "scikit-learn")]
    if np.allclose(*curves, rtol=1e-9, atol=0):
        return []
    return [f"{DOCUMENTS}: the losses are {curves[0]}, scikit-learn's are {curves[1]}"]


def memory(threads: int) -> dict[str, int]:
    """Return the bytes that a fit of each takes beside its data."""
    found = {}
    for name in ("siglin", "scikit-learn"):
        command = [sys.executable, __file__, name, str(threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = int(json.loads(done.stdout))
    return found


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # getrusage's number would begin with that of the race's process
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # noqa: PLC0415 - not there on every system

    # macOS counts bytes, others kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> int:
    name, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    environment.set_threads(threads)
    x, y = corpus()
    estimator(name, 1)  # what an import takes is not counted
    before = peak_bytes()
    fit(name, x, y, 1)
    print(json.dumps(peak_bytes() - before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
