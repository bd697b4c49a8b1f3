"""The contenders of the race: siglin, and what a user would take instead.

``CONTENDERS`` holds one function per contender, which takes a row and returns a
``Trainer``. All train from the same weights on the same batches in the same order and compute the loss of each
step. What needs doing once only, such as cutting the data into batches and compiling, is
done beforehand, and the losses are read off afterwards.

Peers divide some losses by the number of outputs, which siglin does not: their learning
rate, Adam's eps and the losses are scaled back.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from race_rows import BETA1, BETA2, EPS, Row, data

Array = NDArray[Any]
Run = Callable[[], Any]


class Trainer(NamedTuple):
    """A contender, ready to train one row."""

    # Goes back to the starting weights; the function it returns is what is timed: so many
    # epochs, at whose end all work is done.
    start: Callable[[int], Run]
    # Makes of what that returned the losses to compare.
    losses: Callable[[Any, int], "Losses"]


class Losses(NamedTuple):
    """What a run of some epochs reports: an epoch's loss is the mean over its steps."""

    mean: float  # over all epochs
    last: float  # of the last epoch


def losses_of(values: Any, epochs: int) -> Losses:
    """Take the losses of all steps, or of all epochs, in order."""
    by_epoch = np.asarray(values, dtype=np.float64).reshape(epochs, -1).mean(axis=1)
    return Losses(float(by_epoch.mean()), float(by_epoch[-1]))


def batches(row: Row, array: Any) -> list[Any]:
    """Return the contiguous slices that are the batches of an epoch."""
    return [array[i : i + row.batch] for i in range(0, row.rows, row.batch)]


def flat(row: Row) -> Array:
    """Return the starting weights as one vector: by layer w row by row, then b."""
    return np.concatenate([a.ravel() for layer in data(row).weights for a in layer])


# ---- siglin --------------------------------------------------------------------------


def siglin(row: Row) -> Trainer:
    """Network.fit, with the history that it always keeps."""
    from siglin import Network  # noqa: PLC0415 - each contender imports its own package

    x, t, _ = data(row)
    net = Network(
        row.sizes, activation=row.activation, loss=row.loss, dtype=row.dtype, seed=0
    )
    first = flat(row)

    def start(epochs: int) -> Run:
        net.params[:] = first
        return lambda: net.fit(
            x,
            t,
            lr=row.lr,
            epochs=epochs,
            batch_size=row.batch,
            shuffle=False,
            optimizer=row.optimizer,
        )

    # The list that history.loss makes of its array is read off like the peers' arrays.
    return Trainer(start, lambda history, epochs: losses_of(history.loss, epochs))


# ---- NumPy ---------------------------------------------------------------------------


def numpy_sigmoid(z: Array) -> None:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


def numpy_tanh(z: Array) -> None:
    np.tanh(z, out=z)


def numpy_relu(z: Array) -> None:
    np.maximum(z, 0, out=z)


# Multiply d by the activation's derivative, given its value a, which is not needed again.


def numpy_sigmoid_back(d: Array, a: Array) -> None:
    d *= a
    np.subtract(1, a, out=a)
    d *= a


def numpy_tanh_back(d: Array, a: Array) -> None:
    a *= a
    np.subtract(1, a, out=a)
    d *= a


def numpy_relu_back(d: Array, a: Array) -> None:
    np.sign(a, out=a)
    d *= a


NUMPY_ACTIVATIONS = {
    "sigmoid": (numpy_sigmoid, numpy_sigmoid_back),
    "tanh": (numpy_tanh, numpy_tanh_back),
    "relu": (numpy_relu, numpy_relu_back),
}


def numpy(row: Row) -> Trainer:
    """By hand: every array made once, every operation in place, one vector to update."""
    x, t, weights = data(row)
    first = flat(row)
    params, grads = np.empty_like(first), np.empty_like(first)
    views = [numpy_views(row, vector) for vector in (params, grads)]
    depth = len(weights)
    a = [np.empty((row.batch, n), row.dtype) for n in row.sizes[1:]]
    d = [np.empty_like(layer) for layer in a]
    spare = np.empty_like(a[-1])
    activate, back = NUMPY_ACTIVATIONS[row.activation]
    forward = [(w, b, a[i], i + 1 < depth) for i, (w, b) in enumerate(views[0])]
    backward = [
        (w.T, *views[1][i], d[i], a[i - 1], a[i - 1].T, d[i - 1])
        for i, (w, _) in enumerate(views[0])
    ][:0:-1]
    first_dw, first_db = views[1][0]
    parts = [
        (xb, xb.T, tb) for xb, tb in zip(batches(row, x), batches(row, t), strict=True)
    ]
    bce = row.loss == "bce"

    def gradient(xb: Array, xbt: Array, tb: Array) -> float:
        """Fill grads with batch times the gradient, and return the loss."""
        h = xb
        for w, b, z, hidden in forward:
            np.matmul(h, w, out=z)
            np.add(z, b, out=z)
            if hidden:
                activate(z)
            h = z
        last = d[-1]
        if bce:
            numpy_sigmoid(h)
            np.subtract(h, tb, out=last)
            # Targets are 0 or 1: the probability given to the right one is 1 - |y - t|.
            np.abs(last, out=spare)
            np.subtract(1, spare, out=spare)
            np.log(spare, out=spare)
            loss = -float(spare.sum())
        else:
            np.subtract(h, tb, out=last)
            loss = 0.5 * float(np.vdot(last, last))
        for wt, dw, db, dz, below, below_t, below_d in backward:
            np.matmul(below_t, dz, out=dw)
            np.add.reduce(dz, axis=0, out=db)
            np.matmul(dz, wt, out=below_d)
            back(below_d, below)
        np.matmul(xbt, d[0], out=first_dw)
        np.add.reduce(d[0], axis=0, out=first_db)
        return loss / row.batch

    def descend(epochs: int) -> list[float]:
        losses = []
        scale = row.lr / row.batch
        for _ in range(epochs):
            for part in parts:
                losses.append(gradient(*part))
                np.multiply(grads, scale, out=grads)
                np.subtract(params, grads, out=params)
        return losses

    def adam(epochs: int) -> list[float]:
        losses = []
        m, v, s = np.zeros_like(params), np.zeros_like(params), np.empty_like(params)
        step = 0
        for _ in range(epochs):
            for part in parts:
                losses.append(gradient(*part))
                step += 1
                np.multiply(grads, 1 / row.batch, out=grads)
                np.multiply(m, BETA1, out=m)
                np.multiply(grads, 1 - BETA1, out=s)
                np.add(m, s, out=m)
                np.multiply(v, BETA2, out=v)
                np.multiply(grads, grads, out=s)
                np.multiply(s, 1 - BETA2, out=s)
                np.add(v, s, out=v)
                np.multiply(v, 1 / (1 - BETA2**step), out=s)
                np.sqrt(s, out=s)
                np.add(s, EPS, out=s)
                np.divide(m, s, out=s)
                np.multiply(s, row.lr / (1 - BETA1**step), out=s)
                np.subtract(params, s, out=params)
        return losses

    def start(epochs: int) -> Run:
        params[:] = first
        loop = adam if row.optimizer == "adam" else descend
        return lambda: loop(epochs)

    return Trainer(start, losses_of)


def numpy_views(row: Row, vector: Array) -> list[tuple[Array, Array]]:
    """Return w and b of each layer as views of a vector of all parameters."""
    views, begin = [], 0
    for n_in, n_out in pairwise(row.sizes):
        end = begin + n_in * n_out
        views.append(
            (vector[begin:end].reshape(n_in, n_out), vector[end : end + n_out])
        )
        begin = end + n_out
    return views


# ---- PyTorch -------------------------------------------------------------------------


def torch(row: Row) -> Trainer:
    """Eager, on slices made beforehand; the loss on logits.

    Functions on tensors are faster here than modules; one foreach operation is faster
    than the fused SGD, and the fused Adam faster than a foreach one.
    """
    import torch as th  # noqa: PLC0415

    x, t, weights = data(row)
    parts = list(
        zip(batches(row, th.from_numpy(x)), batches(row, th.from_numpy(t)), strict=True)
    )
    first = [th.from_numpy(array) for layer in weights for array in layer]
    params = [value.clone().requires_grad_() for value in first]
    *hidden, (last_w, last_b) = zip(params[::2], params[1::2], strict=True)
    activate = {"sigmoid": th.sigmoid, "tanh": th.tanh, "relu": th.relu}[row.activation]
    # Both are means over rows and outputs, and the squared error lacks its half.
    functions = th.nn.functional
    if row.loss == "bce":
        criterion = functions.binary_cross_entropy_with_logits
        scale = float(row.sizes[-1])
    else:
        criterion, scale = functions.mse_loss, 0.5 * row.sizes[-1]

    def loss_of(xb: Any, tb: Any) -> Any:
        h = xb
        for w, b in hidden:
            h = activate(th.addmm(b, h, w))
        return criterion(th.addmm(last_b, h, last_w), tb)

    def descend(epochs: int) -> list[Any]:
        losses = []
        for _ in range(epochs):
            for xb, tb in parts:
                loss = loss_of(xb, tb)
                grads = th.autograd.grad(loss, params)
                with th.no_grad():
                    th._foreach_add_(params, grads, alpha=-row.lr * scale)
                losses.append(loss.detach())
        return losses

    def adam(epochs: int) -> list[Any]:
        losses = []
        optimizer = th.optim.Adam(
            params, lr=row.lr, betas=(BETA1, BETA2), eps=EPS / scale, fused=True
        )
        for _ in range(epochs):
            for xb, tb in parts:
                loss = loss_of(xb, tb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return losses

    def start(epochs: int) -> Run:
        with th.no_grad():
            th._foreach_copy_(params, first)
        loop = adam if row.optimizer == "adam" else descend
        return lambda: loop(epochs)

    return Trainer(start, lambda raw, n: losses_of(scale * th.stack(raw).numpy(), n))


# ---- JAX -----------------------------------------------------------------------------


def jax_parts(row: Row) -> tuple[Any, Any]:
    """Return the state at the start, as NumPy arrays, and the function of one step."""
    import jax as jx  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    activate = {"sigmoid": jx.nn.sigmoid, "tanh": jnp.tanh, "relu": jx.nn.relu}[
        row.activation
    ]

    def loss_of(weights: Any, x: Any, t: Any) -> Any:
        h = x
        for w, b in weights[:-1]:
            h = activate(h @ w + b)
        w, b = weights[-1]
        z = h @ w + b
        if row.loss == "bce":
            # Minus the logarithm of the probability given to a 0 or a 1. Forms on logits
            # are slower here, up to three times where the network is tiny, unless their
            # gradient is written by hand; that is no faster than this.
            y = jx.nn.sigmoid(z)
            each = -jnp.log(jnp.where(t > 0.5, y, 1 - y))
        else:
            each = 0.5 * (z - t) ** 2
        return each.sum() / row.batch

    def descend(state: Any, x: Any, t: Any) -> Any:
        loss, grads = jx.value_and_grad(loss_of)(state, x, t)
        return jx.tree.map(lambda p, g: p - row.lr * g, state, grads), loss

    def adam(state: Any, x: Any, t: Any) -> Any:
        weights, m, v, step = state
        loss, grads = jx.value_and_grad(loss_of)(weights, x, t)
        step = step + 1
        m = jx.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
        v = jx.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
        size, rest = row.lr / (1 - BETA1**step), 1 / (1 - BETA2**step)
        weights = jx.tree.map(
            lambda w, m, v: w - size * m / (jnp.sqrt(v * rest) + EPS), weights, m, v
        )
        return (weights, m, v, step), loss

    weights = data(row).weights
    if row.optimizer != "adam":
        return weights, descend
    m, v = (jx.tree.map(np.zeros_like, weights) for _ in range(2))
    return (weights, m, v, np.zeros((), row.dtype)), adam


def jax_step(row: Row) -> Trainer:
    """A compiled step that takes over its state's memory, called for each batch."""
    import jax as jx  # noqa: PLC0415

    x, t, _ = data(row)
    first, step = jax_parts(row)
    compiled = jx.jit(step, donate_argnums=0)
    xs = list(map(jx.device_put, batches(row, x)))
    ts = list(map(jx.device_put, batches(row, t)))
    parts = list(zip(xs, ts, strict=True))

    def start(epochs: int) -> Run:
        state = jx.block_until_ready(jx.device_put(first, may_alias=False))

        def run() -> list[Any]:
            now = state
            losses = []
            for _ in range(epochs):
                for xb, tb in parts:
                    now, loss = compiled(now, xb, tb)
                    losses.append(loss)
            jx.block_until_ready(now)
            return losses

        return run

    return Trainer(start, losses_of)


def jax_loop(row: Row) -> Trainer:
    """All epochs inside one compiled function, state and losses in its loops.

    Only two losses are kept, the sum over all epochs and that of the last one: with an
    array for every loss a tiny network takes twice as long.
    """
    import jax as jx  # noqa: PLC0415

    x, t, _ = data(row)
    first, step = jax_parts(row)
    n = row.steps_per_epoch
    xs = jx.device_put(x.reshape(n, row.batch, -1))
    ts = jx.device_put(t.reshape(n, row.batch, -1))
    zero = np.zeros((), row.dtype)

    def loop(epochs: int, state: Any, xs: Any, ts: Any) -> Any:
        def one_step(j: Any, carry: Any) -> Any:
            state, total = carry
            state, loss = step(state, xs[j], ts[j])
            return state, total + loss

        def epoch(_: Any, carry: Any) -> Any:
            state, total, _ = carry
            if n == 1:  # no loop of its own
                state, loss = step(state, xs[0], ts[0])
            else:
                state, loss = jx.lax.fori_loop(0, n, one_step, (state, zero))
            return state, total + loss / n, loss / n

        return jx.lax.fori_loop(0, epochs, epoch, (state, zero, zero))

    compiled = jx.jit(loop, static_argnums=0, donate_argnums=1)

    @functools.cache
    def ready(epochs: int) -> Any:
        return compiled.lower(epochs, first, xs, ts).compile()

    def start(epochs: int) -> Run:
        state = jx.block_until_ready(jx.device_put(first, may_alias=False))
        run = ready(epochs)
        return lambda: jx.block_until_ready(run(state, xs, ts))[1:]

    def losses(raw: Any, epochs: int) -> Losses:
        total, last = map(float, raw)
        return Losses(total / epochs, last)

    return Trainer(start, losses)


# ---- scikit-learn --------------------------------------------------------------------


def sklearn(row: Row) -> Trainer:
    """MLPClassifier or MLPRegressor, without its penalty, momentum and stop rules."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: PLC0415
    from sklearn.preprocessing import LabelBinarizer  # noqa: PLC0415

    class Classifier(MLPClassifier):  # type: ignore[misc]
        """Takes one row too, which has one class only."""

        def _validate_input(self, X: Any, y: Any, *args: Any, **options: Any) -> Any:
            if row.rows > 1:
                return super()._validate_input(X, y, *args, **options)
            self.classes_ = np.array([0, 1])
            self._label_binarizer = LabelBinarizer().fit(self.classes_)
            return X, y

    x, t, weights = data(row)
    adam = row.optimizer == "adam"
    classify = row.loss == "bce"
    estimator = (Classifier if classify else MLPRegressor)(
        hidden_layer_sizes=row.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(row.activation, row.activation),
        solver="adam" if adam else "sgd",
        alpha=0.0,
        batch_size=row.batch,
        learning_rate_init=row.lr,
        max_iter=1,
        shuffle=False,
        tol=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
        warm_start=True,
        beta_1=BETA1,
        beta_2=BETA2,
        epsilon=EPS,
        n_iter_no_change=np.inf,
    )
    target = t.astype(np.int64) if classify else t
    if row.sizes[-1] == 1:
        target = target[:, 0]
    # The squared error is a mean over the outputs here, the gradient is not.
    scale = 1.0 if classify else float(row.sizes[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x, target)

    def start(epochs: int) -> Run:
        estimator.coefs_ = [w.copy() for w, _ in weights]
        estimator.intercepts_ = [b.copy() for _, b in weights]
        estimator.max_iter = epochs
        estimator.n_iter_ = estimator.t_ = estimator._no_improvement_count = 0
        estimator.loss_curve_ = []
        estimator.best_loss_ = np.inf
        if hasattr(estimator, "_optimizer"):
            del estimator._optimizer

        def run() -> Sequence[float]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                estimator.fit(x, target)
            return estimator.loss_curve_  # type: ignore[no-any-return]

        return run

    return Trainer(start, lambda raw, n: losses_of(scale * np.array(raw), n))


# By name in the table: the function, and the package without which it is left out.
CONTENDERS: dict[str, tuple[Callable[[Row], Trainer], str]] = {
    "siglin": (siglin, "siglin"),
    "NumPy": (numpy, "numpy"),
    "torch": (torch, "torch"),
    "jax step": (jax_step, "jax"),
    "jax loop": (jax_loop, "jax"),
    "scikit-learn": (sklearn, "sklearn"),
}


def available() -> tuple[list[str], list[str]]:
    """Return the contenders that are installed, and lines about those that are not."""
    there, missing = [], []
    for name, (_, package) in CONTENDERS.items():
        if importlib.util.find_spec(package) is None:
            missing.append(f"{name}: left out, the package {package} is not installed")
        else:
            there.append(name)
    return there, missing


def configure(threads: int) -> None:
    """Import what is installed, and give every contender so many threads."""
    there, _ = available()
    if "torch" in there:
        import torch as th  # noqa: PLC0415

        th.set_num_threads(threads)
        th.set_num_interop_threads(1)
    if "jax step" in there:
        import jax as jx  # noqa: PLC0415

        jx.config.update("jax_enable_x64", True)
        jx.config.update("jax_platforms", "cpu")
    if "scikit-learn" in there:
        import sklearn.neural_network  # noqa: F401, PLC0415 - its BLAS, to be limited
