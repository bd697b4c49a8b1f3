"""The doors of `cliffs.py`: networks, options, and a function that trains for each door.

A door's function takes a network, an option and the threads, and returns the start of its
fits, or None where the door has no such option.
"""

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import siglin

LR = 1e-4  # small: no network may saturate or diverge, whatever the option
MANY = 2  # networks of a fit_many, for each thread

Run = Callable[[], object]
Start = Callable[[int], Run]  # makes what is timed: so many epochs, from the beginning


@dataclass(frozen=True)
class Problem:
    """A network, and the rows that it is trained on."""

    sizes: tuple[int, ...]
    batch: int
    rows: int
    dtype: str = "float32"

    def __str__(self) -> str:
        size = f"full {self.rows:,}" if self.batch == self.rows else str(self.batch)
        words = ["-".join(map(str, self.sizes)), f"batch {size}", self.dtype]
        if self.is_single:
            words[1] = "single rows"
        return ", ".join(words)

    @property
    def is_single(self) -> bool:
        return self.batch == 1

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.rows // self.batch)


# The rows of batches fit into half of an L2 of 512 kB, but for those of 784 inputs.
PROBLEMS = (
    Problem((4, 1), 150, 150, "float64"),
    Problem((4, 16, 3), 150, 150, "float64"),
    Problem((16, 32, 1), 64, 1_024),
    Problem((64, 32, 10), 64, 768),
    Problem((20, 64, 64, 5), 32, 1_024),
    Problem((13, 50, 50, 1), 64, 1_024, "float64"),
    Problem((30, 100, 1), 200, 800, "float64"),
    Problem((200, 1), 50_000, 50_000),
    Problem((784, 128, 10), 128, 512),
    Problem((6, 12, 2), 1, 256, "float64"),
)


class Option(NamedTuple):
    """Something that a fit may be asked for, and what it may cost."""

    name: str
    settings: dict[str, Any]  # by their names in Network.fit; "loss" is the network's
    bar: float | None = None
    single: float | None = None  # the bar where a step sees one row
    by_epoch: bool = False  # costs a call of Python an epoch, not something a step

    @property
    def loss(self) -> str:
        return str(self.settings.get("loss", ""))


def option(
    name: str, bar: float | None, single: float | None = None, **settings: Any
) -> Option:
    return Option(name, settings, bar, bar if single is None else single)


def hook(name: str, **settings: Any) -> Option:
    return Option(name, settings, 1.15, 1.15, by_epoch=True)


# l1 and Nesterov's momentum have the bars of their kin, the other losses softmax's.
OPTIONS = (
    option("weights", 1.25, sample_weight=True),
    option("softmax", 1.25, loss="cross_entropy"),
    option("classes", 1.25, loss="cross_entropy", classes=True),
    option("squared", 1.25, loss="squared_error"),
    option("poisson", 1.25, loss="poisson"),
    option("huber", 1.25, loss="huber"),
    option("quantile", 1.25, loss="quantile"),
    option("shuffle", 1.25, shuffle=True),
    option("l2", 1.3, 1.6, l2=1e-3),
    option("l1", 1.3, 1.6, l1=1e-3),
    option("clip", 1.3, clip_norm=1e-3),
    option("momentum", 1.3, 1.6, optimizer="momentum"),
    option("nesterov", 1.3, 1.6, optimizer="nesterov"),
    Option("adam", {"optimizer": "adam"}, 1.6),
    Option("adamw", {"optimizer": "adamw"}, 1.6),
    Option("dropout", {"dropout": 0.2}, 1.6),
    hook("schedule", lr=lambda epoch: LR / (1 + epoch)),
    hook("callback", callback=lambda *_: None),
    Option("tol", {"tol": 1e-30}),
    Option("validation", {"validation_data": True}),
)


# ---- what a problem consists of ------------------------------------------------------


class Data(NamedTuple):
    """Rows, and targets of every form."""

    x: Any
    t: Any  # 0 or 1, one for each output
    one_hot: Any
    classes: Any
    weights: Any


@functools.lru_cache(maxsize=1)
def data(problem: Problem) -> Data:
    rng = np.random.default_rng(1)
    rows, n_out, dtype = problem.rows, problem.sizes[-1], problem.dtype
    x = rng.standard_normal((rows, problem.sizes[0]), dtype=np.float32).astype(dtype)
    classes = rng.integers(n_out, size=rows)
    classes[:n_out] = range(n_out)
    t = rng.integers(2, size=(rows, n_out)).astype(dtype)
    t[:2] = [[0], [1]]
    one_hot = np.eye(n_out, dtype=dtype)[classes]
    weights = rng.uniform(0.5, 1.5, rows).astype(dtype)
    return Data(x, t, one_hot, classes, weights)


def l2_bytes() -> int:
    """Return the size of a core's second cache."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    if not path.exists():
        return 512 * 1024
    number, unit = re.fullmatch(r"(\d+)([KM]?)", path.read_text().strip()).groups()  # type: ignore[union-attr]
    return int(number) * {"": 1, "K": 2**10, "M": 2**20}[unit]


def make_network(problem: Problem, loss: str = "") -> Any:
    return siglin.Network(
        problem.sizes, loss=loss or "bce", dtype=problem.dtype, seed=0
    )


def targets_of(problem: Problem, one: Option) -> Any:
    given = data(problem)
    if one.settings.get("classes"):
        return given.classes
    return given.one_hot if one.loss == "cross_entropy" else given.t


@functools.cache
def has_loss(name: str) -> bool:
    try:
        siglin.Network([1, 1], loss=name)
    except ValueError:
        return False
    return True


@functools.cache
def has_optimizer(name: str) -> bool:
    try:
        siglin.Neuron(1).fit([[0.0]], [0.0], lr=LR, optimizer=name)
    except ValueError:
        return False
    return True


def suits(problem: Problem, one: Option, door: str) -> bool:
    """Return whether an option means something to a network, and a door may have it."""
    if one.loss == "cross_entropy" and problem.sizes[-1] == 1:
        return False
    if "dropout" in one.settings and len(problem.sizes) == 2:
        return False
    if "shuffle" in one.settings and problem.batch == problem.rows:
        return False
    if door in ESTIMATORS:  # they have names of their own
        return True
    if one.loss and not has_loss(one.loss):
        return False
    return has_optimizer(one.settings.get("optimizer", "gd"))


def accepts(start: Start) -> bool:
    """Return whether a door takes the value of a setting whose name it knows."""
    try:
        start(1)()
    except (TypeError, ValueError):
        return False
    return True


def bar_of(problem: Problem, one: Option) -> float | None:
    if "shuffle" in one.settings:
        given = data(problem)
        if 2 * (given.x.nbytes + given.t.nbytes) > l2_bytes():
            return None
    return one.single if problem.is_single else one.bar


# ---- the doors -----------------------------------------------------------------------

PLAIN = Option("plain", {})


def takes(function: Callable[..., object], settings: dict[str, Any]) -> bool:
    """Return whether a function has all of these parameters."""
    return settings.keys() <= inspect.signature(function).parameters.keys()


def common(problem: Problem, one: Option) -> dict[str, Any]:
    """Return the settings of an option, with arrays where it names them."""
    given = data(problem)
    settings = {k: v for k, v in one.settings.items() if k not in {"loss", "classes"}}
    if "sample_weight" in settings:
        settings["sample_weight"] = given.weights
    if "validation_data" in settings:
        part = max(1, problem.rows // 5)
        settings["validation_data"] = given.x[:part], given.t[:part]
    return settings


def starts_over(nets: list[Any], run: Callable[[int], object]) -> Start:
    """Return a start from the parameters that the networks have now."""
    first = [net.params.copy() for net in nets]

    def start(epochs: int) -> Run:
        for net, params in zip(nets, first, strict=True):
            net.params = params
        return lambda: run(epochs)

    return start


def fit(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    settings = common(problem, one)
    if not takes(siglin.Network.fit, settings):
        return None
    settings = {"lr": LR, "shuffle": False, "optimizer": "gd"} | settings
    net, x, t = (
        make_network(problem, one.loss),
        data(problem).x,
        targets_of(problem, one),
    )
    return starts_over(
        [net], lambda n: net.fit(x, t, epochs=n, batch_size=problem.batch, **settings)
    )


def fit_many(problem: Problem, one: Option, threads: int) -> Start | None:
    settings = common(problem, one)
    if not takes(siglin.fit_many, settings):
        return None
    settings = {"lr": LR, "shuffle": False, "optimizer": "gd"} | settings
    nets = [make_network(problem, one.loss) for _ in range(MANY * threads)]
    x, t = data(problem).x, targets_of(problem, one)
    return starts_over(
        nets,
        lambda n: siglin.fit_many(
            nets, x, t, epochs=n, batch_size=problem.batch, **settings
        ),
    )


def learn_one(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    settings = common(problem, one)
    if not problem.is_single or not takes(siglin.Network.learn_one, settings):
        return None
    weights = settings.pop("sample_weight", None)
    settings = {"lr": LR} | settings
    net = make_network(problem, one.loss)
    x, t = data(problem).x, targets_of(problem, one)
    # Numbers and rows as a stream brings them, taken apart beforehand.
    rows = list(zip(x, t.tolist() if t.ndim == 1 else t, strict=True))

    def plain(epochs: int) -> None:
        for _ in range(epochs):
            for row, target in rows:
                net.learn_one(row, target, **settings)

    if weights is None:
        return starts_over([net], plain)
    weighted = [(*row, w) for row, w in zip(rows, weights.tolist(), strict=True)]

    def by_weight(epochs: int) -> None:
        for _ in range(epochs):
            for row, target, weight in weighted:
                net.learn_one(row, target, sample_weight=weight, **settings)

    return starts_over([net], by_weight)


def batches(problem: Problem, array: Any) -> list[Any]:
    return [array[i : i + problem.batch] for i in range(0, problem.rows, problem.batch)]


def learn_many(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    learn = getattr(siglin.Network, "learn_many", None)
    settings = common(problem, one)
    if learn is None or not takes(learn, settings):
        return None
    weights = settings.pop("sample_weight", None)
    settings = {"lr": LR} | settings
    net = make_network(problem, one.loss)
    x, t = data(problem).x, targets_of(problem, one)
    parts = [
        (xb, tb, {} if weights is None else {"sample_weight": wb})
        for xb, tb, wb in zip(
            batches(problem, x),
            batches(problem, t),
            batches(problem, x if weights is None else weights),
            strict=True,
        )
    ]

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for xb, tb, extra in parts:
                net.learn_many(xb, tb, **settings, **extra)

    return starts_over([net], run)


def update(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    """Take the gradient, then the step that the option changes."""
    settings = common(problem, one)
    if not takes(siglin.Network.update, settings):
        return None
    settings = {"lr": LR} | settings
    net = make_network(problem, one.loss)
    parts = list(
        zip(
            batches(problem, data(problem).x),
            batches(problem, targets_of(problem, one)),
            strict=True,
        )
    )

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for xb, tb in parts:
                net.loss_and_grads(xb, tb)
                net.update(**settings)

    return starts_over([net], run)


def of_estimator(one: Option) -> dict[str, Any] | None:
    """Return the settings of an option by the names that scikit-learn's MLPs have."""
    settings = dict(one.settings)
    match settings.pop("optimizer", None):
        case "momentum":
            settings |= {"momentum": 0.9}
        case "nesterov":
            settings |= {"momentum": 0.9, "nesterovs_momentum": True}
        case str(name):
            settings |= {"solver": name}
    if "l2" in settings:
        settings["alpha"] = settings.pop("l2")
    if "lr" in settings:
        del settings["lr"]
        settings["learning_rate"] = "invscaling"
    if "tol" in settings or "validation_data" in settings:
        return None  # both mean something else to an MLP
    return settings


def estimator(
    make: Callable[..., Any], problem: Problem, x: Any, y: Any, settings: dict[str, Any]
) -> Start | None:
    """Return the start of the fits of an estimator; None where it lacks a setting."""
    weights = data(problem).weights if settings.pop("sample_weight", False) else None
    known = inspect.signature(make).parameters.keys()
    if not settings.keys() <= known:
        return None
    defaults = {
        "solver": "sgd",
        "alpha": 0.0,
        "momentum": 0.0,
        "nesterovs_momentum": False,
        "learning_rate_init": LR,
        "lr": LR,
        "shuffle": False,
        "tol": 0.0,
        "n_iter_no_change": float("inf"),
        "batch_size": problem.batch,
        "random_state": 0,
        "optimizer": "gd",
    }
    settings = {k: v for k, v in defaults.items() if k in known} | settings

    def start(epochs: int) -> Run:
        model = make(max_iter=epochs, **settings)

        def run() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of epochs that were not enough
                model.fit(x, y, sample_weight=weights)

        return run

    return start


def mlp_classifier(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    from siglin.estimators import MLPClassifier  # noqa: PLC0415 - needs scikit-learn

    settings, given = of_estimator(one), data(problem)
    if settings is None:
        return None
    y = given.t if problem.sizes[-1] > 1 else given.t[:, 0]
    match settings.pop("loss", None):
        case "cross_entropy" if problem.sizes[-1] > 2 and "classes" in settings:
            del settings["classes"]
            y = given.classes
        case None:
            pass
        case _:
            return None
    make = functools.partial(MLPClassifier, problem.sizes[1:-1], "logistic")
    return estimator(make, problem, given.x, y, settings)


def mlp_regressor(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    from siglin.estimators import MLPRegressor  # noqa: PLC0415 - needs scikit-learn

    settings, given = of_estimator(one), data(problem)
    if settings is None or one.loss in {"squared_error", "cross_entropy"}:
        return None
    y = given.t if problem.sizes[-1] > 1 else given.t[:, 0]
    make = functools.partial(
        MLPRegressor,
        hidden_layer_sizes=problem.sizes[1:-1],
        activation="logistic",
    )
    return estimator(make, problem, given.x, y, settings)


def neuron_classifier(problem: Problem, one: Option, threads: int) -> Start | None:  # noqa: ARG001
    from siglin.estimators import NeuronClassifier  # noqa: PLC0415 - needs scikit-learn

    if problem.sizes[1:] != (1,) or one.loss:
        return None
    y = data(problem).t[:, 0]
    return estimator(NeuronClassifier, problem, data(problem).x, y, dict(one.settings))


DOORS: dict[str, Callable[[Problem, Option, int], Start | None]] = {
    "fit": fit,
    "fit_many": fit_many,
    "learn_one": learn_one,
    "learn_many": learn_many,
    "update": update,
    "MLPClassifier": mlp_classifier,
    "MLPRegressor": mlp_regressor,
    "NeuronClassifier": neuron_classifier,
}
ESTIMATORS = {"MLPClassifier", "MLPRegressor", "NeuronClassifier"}
