"""Types of the compiled core: the strict layer under _functions.py, _layers.py and _network.py.

Every array is used as it is: float32 or float64 of native byte order, aligned, of the one
dtype of the call. A matrix has unit column stride and any row stride that is a multiple of
the item size (also 0 or negative, where it is only read). Nothing is copied or cast.
Mistakes raise siglin.DTypeError or siglin.ShapeError (or ValueError, TypeError).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Matrix: TypeAlias = Array  # (rows, cols), unit column stride
Vector: TypeAlias = Array  # (n,), contiguous
GeneratorState: TypeAlias = npt.NDArray[
    np.uint64
]  # (4,), contiguous, advanced in place
# Epoch, step, loss, validation loss, whether it was the last epoch -> stop.
EpochHook: TypeAlias = Callable[[int, int, float, float | None, bool], bool]
StepHook: TypeAlias = Callable[[int, int, float], None]  # epoch, step, loss
RowNumbers: TypeAlias = npt.NDArray[np.int64]  # (n,), contiguous, never written to
Inputs: TypeAlias = Matrix | CsrRows
# network, params, t, rows, state, settings, memory, hook.
FitJob: TypeAlias = tuple[
    Network,
    Parameters | Vector,
    Matrix,
    RowNumbers | None,
    GeneratorState,
    FitSettings,
    OptimizerMemory | Vector,
    EpochHook | None,
]

class FitResult(NamedTuple):
    losses: npt.NDArray[np.float64]  # of the epochs
    epochs: int
    steps: int
    seconds: float
    reason: str
    validation_losses: npt.NDArray[np.float64]
    best_epoch: int | None

class FitSettings(NamedTuple):
    lr: float
    epochs: int
    batch_size: int
    shuffle: bool = True
    tol: float = 0.0
    optimizer: str = "gd"
    options: Sequence[float] = ()
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    clip_norm: float = 0.0  # 0: none
    scikit_learn: bool = False
    weights: Vector | None = None
    order: RowNumbers | None = None  # read, as the rate is, at the start of each epoch
    rate: npt.NDArray[np.float64] | None = None  # (1,), instead of lr
    validation: tuple[Inputs, Matrix, Vector | None] | None = None  # x, t, weights
    patience: int = 0  # 0: any
    min_delta: float = 0.0
    weights_scale: bool = False  # weights multiply losses and gradients of their rows

class FitHooks(NamedTuple):
    on_epoch: EpochHook | None = None
    min_interval: float = 0.0
    on_step: StepHook | None = None
    every: int = 0

def complaint() -> str: ...
def compiled_targets() -> list[str]: ...
def targets() -> list[str]: ...
def target() -> str: ...
def use_target(name: str) -> None: ...
def build_info() -> dict[str, str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def parallel_probe(
    blocks: int,
    multiply_adds: float,
    *,
    busy: float = 0.0,
    sleep: float = 0.0,
    throw_at: int = -1,
    nested: int = 0,
    throw_waiting: bool = False,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
def make_helpers_late(
    seconds: float, waking_seconds: float = 0.0, *, forget: bool = True
) -> None: ...
def activations() -> list[str]: ...
def losses() -> list[str]: ...
def activate(z: Array, activation: str, out: Array | None = None) -> Array: ...
def forward(
    x: Matrix, w: Matrix, b: Vector | None, activation: str, out: Matrix | None = None
) -> Matrix: ...
def backward(
    x: Matrix,
    w: Matrix,
    a: Matrix,
    da: Matrix,
    activation: str,
    z: Matrix | None = None,
    need_dx: bool = True,
) -> tuple[Matrix | None, Matrix, Vector]: ...
def backward_update(
    x: Matrix,
    w: Matrix,
    b: Vector | None,
    a: Matrix,
    da: Matrix,
    lr: float,
    activation: str,
    z: Matrix | None = None,
    need_dx: bool = True,
) -> Matrix | None: ...
def update(param: Array, grad: Array, lr: float) -> None: ...
def layer_forward(
    x: Matrix, w: Matrix, b: Vector | None, activation: str
) -> tuple[Matrix, Matrix]: ...
def layer_backward(
    x: Matrix,
    w: Matrix,
    derivative: Matrix,
    da: Matrix,
    dw: Matrix,
    db: Vector | None,
    need_dx: bool = True,
) -> Matrix | None: ...
def first_outside(x: Matrix, low: float, high: float) -> int: ...
def seed_generator(seed: int) -> GeneratorState: ...
def copy_generator(state: GeneratorState) -> GeneratorState: ...
def random_bits(state: GeneratorState, n: int) -> npt.NDArray[np.uint64]: ...
def permutation(state: GeneratorState, n: int) -> npt.NDArray[np.int64]: ...
def init_bound(init: str, gain: float, n_in: float, n_out: float) -> float: ...
def fill_uniform(state: GeneratorState, out: Vector, bound: float) -> None: ...
def fill_normal(state: GeneratorState, out: Vector) -> None: ...
def fused_steps() -> int: ...
def perceptron_fit(
    params: Parameters | Vector, x: Matrix, t: Matrix, bias: bool, epochs: int
) -> tuple[list[int], int, str]: ...
def fit_many(
    x: Inputs, jobs: list[FitJob], *, on_progress: Callable[[int], None] | None
) -> list[FitResult]: ...
def new_vector(n: int, dtype: str) -> Vector: ...

class Parameters:
    def __init__(self, n: int, dtype: str) -> None: ...
    @property
    def vector(self) -> Vector: ...
    @property
    def readers(self) -> int: ...
    def snapshot(self) -> Vector: ...
    def snapshot_generator(self, state: GeneratorState) -> GeneratorState: ...
    def assign(self, function: str, values: Vector) -> None: ...

class OptimizerMemory:
    moments: Vector | None
    step_count: int
    def __init__(self) -> None: ...
    @property
    def is_busy(self) -> bool: ...
    def begin(self, n: int, dtype: str) -> Vector: ...
    def snapshot(self) -> tuple[Vector | None, int]: ...
    def reset(self) -> None: ...

class CsrRows:
    """Rows in compressed sparse row form, for a network."""

    def __init__(
        self,
        values: Vector,
        columns: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
        cols: int,
    ) -> None: ...
    def __len__(self) -> int: ...

class Network:
    def __init__(
        self,
        sizes: Sequence[int],
        activations: Sequence[str],
        biases: Sequence[bool],
        loss: str,
        dtype: str,
        loss_number: float = 0.0,
    ) -> None: ...
    @property
    def n_params(self) -> int: ...
    def predict(
        self, params: Parameters | Vector, x: Inputs, out: Matrix | None = None
    ) -> Matrix: ...
    def predict_now(
        self, params: Parameters, x: Matrix, out: Matrix | None
    ) -> Matrix | None: ...
    def learn_now(
        self, params: Parameters, x: object, t: object, lr: object
    ) -> float | None: ...
    def learn(
        self,
        params: Parameters | Vector,
        x: Inputs,
        t: Matrix,
        state: GeneratorState,
        settings: FitSettings,
        moments: OptimizerMemory | Vector,
        function: str,
    ) -> FitResult: ...
    def step(
        self,
        params: Parameters | Vector,
        grads: Vector,
        settings: FitSettings,
        moments: OptimizerMemory | Vector,
    ) -> bool: ...
    def forward(
        self, params: Parameters | Vector, x: Matrix
    ) -> tuple[Matrix, list[tuple[Matrix, Matrix]], Matrix]: ...
    def backward(
        self,
        params: Parameters | Vector,
        grads: Vector,
        x: Matrix,
        hidden: Sequence[tuple[Matrix, Matrix]],
        z: Matrix,
        t: Matrix,
    ) -> float: ...
    def backward_from(
        self,
        params: Parameters | Vector,
        grads: Vector,
        x: Matrix,
        hidden: Sequence[tuple[Matrix, Matrix]],
        z: Matrix,
        da: Matrix,
    ) -> Matrix: ...
    def update(self, params: Parameters | Vector, grads: Vector, lr: float) -> None: ...
    def loss(
        self,
        params: Parameters | Vector,
        x: Inputs,
        t: Matrix,
        *,
        weights: Vector | None = None,
        scikit_learn: bool = False,
    ) -> float: ...
    def loss_and_grads(
        self,
        params: Parameters | Vector,
        grads: Vector,
        x: Inputs,
        t: Matrix,
        *,
        weights: Vector | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        scikit_learn: bool = False,
    ) -> float: ...
    def fit(
        self,
        params: Parameters | Vector,
        x: Inputs,
        t: Matrix,
        state: GeneratorState,
        settings: FitSettings,
        moments: OptimizerMemory | Vector,
        step_count: int = 0,
        hooks: FitHooks | None = None,
        function: str = "fit",
    ) -> FitResult: ...
