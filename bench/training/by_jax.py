"""JAX in the race: a compiled step, and all epochs in one compiled loop."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax as jx
import jax.numpy as jnp
import numpy as np

from race_rows import BETA1, BETA2, EPS, Row, data
from trainers import Losses, Run, Trainer, losses_of


class Step(NamedTuple):
    """What both ways are made of."""

    first: Any  # the state at the start, as NumPy arrays
    take: Callable[..., Any]  # (state, batch, key) -> state, loss
    arrays: tuple[Any, ...]  # x, t and perhaps the rows' weights, on the device
    shuffled: Callable[[Any, Any], Any]  # (arrays, key) -> those by batches


def prepare(row: Row) -> Step:
    activate = {"sigmoid": jx.nn.sigmoid, "tanh": jnp.tanh, "relu": jx.nn.relu}[
        row.activation
    ]
    given = data(row)
    n = row.steps_per_epoch
    arrays = [given.x, given.t]
    if row.weighted:
        arrays.append(given.row_weights[:, None])

    def drop(h: Any, key: Any) -> Any:
        kept = jx.random.bernoulli(key, 1 - row.dropout, h.shape)
        return jnp.where(kept, h / (1 - row.dropout), 0)

    def of_logits(z: Any, t: Any) -> Any:
        if row.loss == "bce":
            # Minus the logarithm of the probability given to a 0 or a 1. Forms on logits
            # are slower here, up to three times where the network is tiny, unless their
            # gradient is written by hand; that is no faster than this.
            y = jx.nn.sigmoid(z)
            return -jnp.log(jnp.where(t > 0.5, y, 1 - y))
        if row.is_softmax:
            return -t * jx.nn.log_softmax(z)
        return 0.5 * (z - t) ** 2

    def loss_of(weights: Any, batch: Any, key: Any) -> Any:
        x, t, *row_weights = batch
        h = x
        for i, (w, b) in enumerate(weights[:-1]):
            h = activate(h @ w + b)
            if row.dropout:
                h = drop(h, jx.random.fold_in(key, i))
        w, b = weights[-1]
        each = of_logits(h @ w + b, t)
        if row_weights:
            loss = (row_weights[0] * each).sum() / row_weights[0].sum()
        else:
            loss = each.sum() / row.batch
        if row.l2:
            loss += 0.5 * row.l2 * sum((w**2).sum() for w, _ in weights)
        return loss

    def descend(state: Any, batch: Any, key: Any) -> Any:
        loss, grads = jx.value_and_grad(loss_of)(state, batch, key)
        return jx.tree.map(lambda p, g: p - row.lr * g, state, grads), loss

    def adam(state: Any, batch: Any, key: Any) -> Any:
        weights, m, v, step = state
        loss, grads = jx.value_and_grad(loss_of)(weights, batch, key)
        step = step + 1
        m = jx.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
        v = jx.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
        size, rest = row.lr / (1 - BETA1**step), 1 / (1 - BETA2**step)
        weights = jx.tree.map(
            lambda w, m, v: w - size * m / (jnp.sqrt(v * rest) + EPS), weights, m, v
        )
        return (weights, m, v, step), loss

    def by_batches(arrays: Any) -> Any:
        return tuple(array.reshape(n, row.batch, -1) for array in arrays)

    def shuffled(arrays: Any, key: Any) -> Any:
        if not row.shuffle:
            return by_batches(arrays)
        order = jx.random.permutation(key, row.rows)
        return by_batches(array[order] for array in arrays)

    first: Any = given.weights
    if row.optimizer == "adam":
        m, v = (jx.tree.map(np.zeros_like, first) for _ in range(2))
        first = (first, m, v, np.zeros((), row.dtype))
    on_device = tuple(map(jx.device_put, arrays))
    take = adam if row.optimizer == "adam" else descend
    return Step(first, take, on_device, shuffled)


def key_of(seed: int) -> Any:
    # The default generator: by "rbg" a step with dropout takes a fifth longer, and one that
    # only shuffles as long. So does gathering the rows of each batch in its own step.
    return jx.random.key(seed)


def step_trainer(row: Row) -> Trainer:
    """A compiled step that takes over its state's memory, called for each batch."""
    step = prepare(row)
    compiled = jx.jit(step.take, donate_argnums=0)
    shuffle = jx.jit(lambda arrays, key: unstacked(step.shuffled(arrays, key)))

    def unstacked(stacked: Any) -> list[Any]:
        return [tuple(a[j] for a in stacked) for j in range(row.steps_per_epoch)]

    split = jx.jit(lambda key: tuple(jx.random.split(key)))
    fixed = None if row.shuffle else shuffle(step.arrays, key_of(0))

    def start(epochs: int) -> Run:
        state = jx.block_until_ready(jx.device_put(step.first, may_alias=False))

        def run() -> list[Any]:
            now, key = state, key_of(0)
            losses = []
            for _ in range(epochs):
                if fixed is None:
                    key, own = split(key)
                    parts = shuffle(step.arrays, own)
                else:
                    parts = fixed
                for part in parts:
                    if row.dropout:
                        key, own = split(key)
                        now, loss = compiled(now, part, own)
                    else:
                        now, loss = compiled(now, part, None)
                    losses.append(loss)
            jx.block_until_ready(now)
            return losses

        return run

    return Trainer(start, losses_of)


def loop_trainer(row: Row) -> Trainer:
    """All epochs, with shuffling and dropout, inside one compiled function.

    Only two losses are kept, the sum over all epochs and that of the last one: with an
    array for every loss a tiny network takes twice as long.
    """
    step = prepare(row)
    n = row.steps_per_epoch
    zero = np.zeros((), row.dtype)

    def loop(epochs: int, state: Any, arrays: Any) -> Any:
        def one_epoch(number: Any, carry: Any) -> Any:
            state, total, _ = carry
            key = jx.random.fold_in(key_of(0), number)
            stacked = step.shuffled(arrays, jx.random.fold_in(key, n))

            def one_step(j: Any, carry: Any) -> Any:
                state, total = carry
                own = jx.random.fold_in(key, j) if row.dropout else None
                state, loss = step.take(state, tuple(a[j] for a in stacked), own)
                return state, total + loss

            if n == 1:  # no loop of its own
                state, loss = one_step(0, (state, zero))
            else:
                state, loss = jx.lax.fori_loop(0, n, one_step, (state, zero))
            return state, total + loss / n, loss / n

        return jx.lax.fori_loop(0, epochs, one_epoch, (state, zero, zero))

    compiled = jx.jit(loop, static_argnums=0, donate_argnums=1)

    @functools.cache
    def ready(epochs: int) -> Any:
        return compiled.lower(epochs, step.first, step.arrays).compile()

    def start(epochs: int) -> Run:
        state = jx.block_until_ready(jx.device_put(step.first, may_alias=False))
        run = ready(epochs)
        return lambda: jx.block_until_ready(run(state, step.arrays))[1:]

    def losses(raw: Any, epochs: int) -> Losses:
        total, last = map(float, raw)
        return Losses(total / epochs, last)

    return Trainer(start, losses)
