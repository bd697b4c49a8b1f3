"""The rows of the race: networks, data, settings, and the ratios asked for.

A row says all that a contender needs to know. Hidden layers are sigmoid, the loss is
binary cross-entropy, the step plain gradient descent and the batches contiguous slices,
always in the same order, unless the row says otherwise.
"""

import functools
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Of Adam, as torch and Keras have it: eps is added after the bias correction.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

SOFTMAX = "cross_entropy"


class Bars(NamedTuple):
    """What best peer / siglin must reach, and what is aimed at; None is nothing."""

    one_thread: float
    goal: float | None = None  # on one thread
    more_threads: float | None = None


class Data(NamedTuple):
    """What every contender starts from, to be copied and not changed."""

    x: Array  # (rows, n_in)
    t: Array  # (rows, n_out)
    weights: tuple[tuple[Array, Array], ...]  # w (n_in, n_out) and b (n_out,) by layer
    row_weights: Array  # (rows,), whose mean is 1 in every batch


@dataclass(frozen=True)
class Row:
    """One row of the race."""

    sizes: tuple[int, ...]
    batch: int
    rows: int
    dtype: str
    bars: Bars
    activation: str = "sigmoid"
    loss: str = "bce"
    optimizer: str = "gd"
    lr: float = 0.5
    shuffle: bool = False
    weighted: bool = False  # by a number for each row
    l2: float = 0.0
    dropout: float = 0.0
    density: float = 1.0  # share of x that is not 0
    check_epochs: int = 3
    large: bool = False  # left out of a quick race
    name: str = ""  # otherwise made of the above

    def __str__(self) -> str:
        if self.name:
            return self.name
        first, *rest = self.sizes
        if len(rest) > 3 and len(set(rest[:-1])) == 1:
            name = f"{first}-{rest[0]}x{len(rest) - 1}-{rest[-1]}"
        else:
            name = "-".join(map(str, self.sizes))
        words = [name]
        if self.activation != "sigmoid":
            words[0] += f" {self.activation}"
        if self.is_softmax:
            words[0] += " softmax"
        elif self.activation != "sigmoid":
            words.append(self.loss.replace("_", " "))
        if self.optimizer == "adam":
            words.append("Adam")
        if self.weighted:
            words.append("weights")
        if self.l2:
            words.append("L2")
        if self.dropout:
            words.append(f"dropout {self.dropout:g}")
        if self.rows == 1:
            words.append("1 row")
        elif self.batch == self.rows:
            words.append(f"full batch {self.rows:,}")
        else:
            words.append(f"batch {self.batch} of {self.rows:,}")
        if self.shuffle:
            words[-1] += " shuffled"
        return ", ".join(words)

    @property
    def is_softmax(self) -> bool:
        return self.loss == "cross_entropy"

    @property
    def is_random(self) -> bool:
        """Tell whether contenders draw numbers of their own, so that losses differ."""
        return self.shuffle or self.dropout > 0

    def without_chance(self) -> "Row":
        """Return the row with its batches in order and nothing dropped."""
        return replace(self, shuffle=False, dropout=0.0)

    @property
    def short_dtype(self) -> str:
        return {"float32": "f32", "float64": "f64"}[self.dtype]

    @property
    def steps_per_epoch(self) -> int:
        return self.rows // self.batch

    @property
    def n_params(self) -> int:
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))

    @property
    def itemsize(self) -> int:
        return {"float32": 4, "float64": 8}[self.dtype]

    @property
    def flops(self) -> int:
        """Of the matrix products of one step; the first layer needs no gradient to x."""
        first, *rest = (n_in * n_out for n_in, n_out in pairwise(self.sizes))
        return 2 * self.batch * round(2 * self.density * first + 3 * sum(rest))

    @property
    def tolerance(self) -> float:
        """How far apart two contenders' losses may be, relative."""
        return {"float32": 1e-3, "float64": 1e-9}[self.dtype]


# The learning rates and epochs of the check let each loss move by far more than the
# tolerance in a few steps and stay clear of divergence: race.py looks.
ROWS = (
    Row((2, 3, 1), 1, 1, "float64", Bars(2, 2.5, 2), check_epochs=50),
    Row((4, 1), 150, 150, "float64", Bars(3, 3.5, 3), check_epochs=50),
    Row((4, 16, 1), 150, 150, "float64", Bars(2.5, 3, 2.5), check_epochs=50),
    Row((64, 32, 10), 64, 1_792, "float32", Bars(2, 2.5, 2)),
    Row((16, 64, 32, 3), 32, 1_600, "float32", Bars(2, 2.5, 2)),
    Row((784, 100, 10), 1, 512, "float32", Bars(1.2, 1.4, 1.2), lr=0.01),
    Row((784, 30, 10), 10, 2_000, "float32", Bars(2, 2.5, 2), lr=0.1),
    Row((784, 128, 10), 128, 2_560, "float32", Bars(1.2, 1.3, 1.1), lr=0.1),
    Row(
        (8, 128, 64, 1),
        128,
        5_120,
        "float32",
        Bars(1.3, 1.5, 1.3),
        activation="relu",
        loss="squared_error",
        optimizer="adam",
        lr=1e-3,
    ),
    Row(
        (4, 32, 16, 4),
        10_000,
        10_000,
        "float32",
        Bars(2, 2.5, 2),
        activation="tanh",
        loss="squared_error",
        optimizer="adam",
        lr=1e-2,
        check_epochs=20,
    ),
    Row(
        (28, 300, 300, 300, 300, 300, 1),
        100,
        1_000,
        "float32",
        Bars(1.15, 1.25, 1.1),
        activation="tanh",
        lr=0.05,
    ),
    Row(
        (32, 1),
        1_000_000,
        1_000_000,
        "float32",
        Bars(2, 2.5, 2),
        check_epochs=5,
        large=True,
    ),
    Row((784, 512, 256, 10), 256, 2_560, "float32", Bars(1.15, 1.2, 1.1), lr=0.1),
    Row(
        (1_024, 1_024, 1_024),
        1_024,
        2_048,
        "float32",
        Bars(1.05, 1.1, 1),
        lr=0.01,
        check_epochs=2,
        large=True,
    ),
    Row(
        (1_024, 1_024, 1_024),
        1_024,
        1_024,
        "float64",
        Bars(1.1, 1.15, 1.05),
        lr=0.01,
        large=True,
        name="1024-1024-1024, batch 1024 of 1,024",
    ),
    # What people use beside the plain step: bars on one thread alone.
    Row((4, 16, 3), 150, 150, "float64", Bars(2.5), loss=SOFTMAX, check_epochs=50),
    Row(
        (4, 16, 3),
        150,
        150,
        "float32",
        Bars(3.5),
        loss=SOFTMAX,
        optimizer="adam",
        lr=1e-2,
        check_epochs=50,
    ),
    Row(
        (64, 32, 10),
        64,
        1_792,
        "float32",
        Bars(3.5),
        loss=SOFTMAX,
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
    ),
    Row(
        (20, 64, 64, 5),
        32,
        1_600,
        "float32",
        Bars(2.5),
        activation="relu",
        loss=SOFTMAX,
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
    ),
    Row(
        (30, 100, 1),
        200,
        600,
        "float64",
        Bars(2),
        activation="relu",
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
        l2=1e-3,
        check_epochs=20,
    ),
    Row(
        (13, 50, 50, 1),
        64,
        512,
        "float64",
        Bars(2.2),
        activation="tanh",
        loss="squared_error",
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
        check_epochs=10,
    ),
    Row(
        (64, 64, 10),
        64,
        1_792,
        "float32",
        Bars(3.5),
        activation="relu",
        loss=SOFTMAX,
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
        dropout=0.2,
    ),
    Row((16, 32, 1), 64, 1_600, "float32", Bars(2.2), weighted=True),
    Row(
        (200, 1),
        100_000,
        100_000,
        "float32",
        Bars(2),
        weighted=True,
        check_epochs=20,
        large=True,
    ),
    Row(
        (784, 128, 10),
        128,
        2_560,
        "float32",
        Bars(1.35),
        activation="relu",
        loss=SOFTMAX,
        optimizer="adam",
        lr=1e-3,
        shuffle=True,
    ),
)

# The lecture's neuron, with a bias as a third input; until an update moves it by no more
# than 5e-5. Against the lecture's NumPy loop alone.
IRIS = Row((3, 1), 150, 150, "float64", Bars(40, 50, 40), name="Iris to the stop rule")

# Hashed documents, in CSR, of binary labels: against scikit-learn alone, in time and in
# memory.
WORDS = 100  # of a document
DOCUMENTS = Row(
    (2**18, 16, 1),
    200,
    1_000,
    "float64",
    Bars(1),
    activation="relu",
    optimizer="adam",
    lr=1e-3,
    density=WORDS / 2**18,
    large=True,
    name="1,000 hashed documents, 262144-16-1, Adam, batch 200",
)


@functools.lru_cache(maxsize=1)
def data(row: Row) -> Data:
    """Return the inputs, targets and starting weights of a row, the same every time.

    The targets hang on the inputs, so that there is something to learn. All numbers are
    drawn in float32, so that they are the same in either dtype.
    """
    rng = np.random.default_rng(20240607)

    def normal(*size: int) -> Array:
        return rng.standard_normal(size, dtype=np.float32)

    n_in, n_out = row.sizes[0], row.sizes[-1]
    x = normal(row.rows, n_in)
    signal = x @ normal(n_in, n_out) * np.float32(n_in**-0.5) + np.float32(0.25)
    if row.loss == "squared_error":
        t = signal
    elif row.is_softmax:
        t = np.eye(n_out, dtype=np.float32)[signal.argmax(axis=1)]
    else:
        t = (signal > 0).astype(np.float32)
    weights = tuple(
        (
            (normal(m, n) * np.float32(m**-0.5)).astype(row.dtype),
            (normal(n) * np.float32(0.1)).astype(row.dtype),
        )
        for m, n in pairwise(row.sizes)
    )
    row_weights = rng.uniform(0.5, 1.5, (row.rows // row.batch, row.batch))
    row_weights *= row.batch / row_weights.sum(axis=1, keepdims=True)
    return Data(
        x.astype(row.dtype),
        t.astype(row.dtype),
        weights,
        row_weights.ravel().astype(row.dtype),
    )
