"""NumPy in the race, by hand: every array made once, every operation in place."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from race_rows import BETA1, BETA2, EPS, Row, data
from trainers import Array, Run, Trainer, batches, flat, losses_of


def sigmoid(z: Array) -> None:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


def softmax(z: Array) -> None:
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)


def tanh(z: Array) -> None:
    np.tanh(z, out=z)


def relu(z: Array) -> None:
    np.maximum(z, 0, out=z)


# Multiply d by the activation's derivative, given its value a, which is not needed again.


def sigmoid_back(d: Array, a: Array) -> None:
    d *= a
    np.subtract(1, a, out=a)
    d *= a


def tanh_back(d: Array, a: Array) -> None:
    a *= a
    np.subtract(1, a, out=a)
    d *= a


def relu_back(d: Array, a: Array) -> None:
    np.sign(a, out=a)
    d *= a


ACTIVATIONS = {
    "sigmoid": (sigmoid, sigmoid_back),
    "tanh": (tanh, tanh_back),
    "relu": (relu, relu_back),
}


class Part(NamedTuple):
    """A batch."""

    x: Array
    xt: Array
    t: Array
    weights: Array | None  # (batch, 1)
    total: float  # what the batch's losses are divided by


class Parts:
    """The batches of each epoch: slices, of arrays that a shuffling epoch fills anew."""

    def __init__(self, row: Row) -> None:
        given = data(row)
        self.row = row
        self.sources = [given.x, given.t]
        if row.weighted:
            self.sources.append(given.row_weights[:, None])
        self.arrays = [np.empty_like(a) if row.shuffle else a for a in self.sources]
        x, t, *rest = (batches(row, array) for array in self.arrays)
        self.slices = list(zip(x, t, *rest, strict=True))
        self.rng = np.random.default_rng(0)
        self.fixed = None if row.shuffle else [self._part(*s) for s in self.slices]

    def _part(self, x: Array, t: Array, weights: Array | None = None) -> Part:
        total = float(len(x)) if weights is None else float(weights.sum())
        return Part(x, x.T, t, weights, total)

    def epoch(self) -> list[Part]:
        if self.fixed is not None:
            return self.fixed
        order = self.rng.permutation(self.row.rows)
        for source, array in zip(self.sources, self.arrays, strict=True):
            np.take(source, order, axis=0, out=array)
        return [self._part(*s) for s in self.slices]


def trainer(row: Row) -> Trainer:
    if row.dropout and row.activation != "relu":
        raise NotImplementedError  # the derivative below is that of what dropout left
    weights = data(row).weights
    first = flat(row)
    params, grads = np.empty_like(first), np.empty_like(first)
    views = [views_of(row, vector) for vector in (params, grads)]
    depth = len(weights)
    a = [np.empty((row.batch, n), row.dtype) for n in row.sizes[1:]]
    d = [np.empty_like(layer) for layer in a]
    spare = np.empty_like(a[-1])
    masks = [np.empty_like(layer) for layer in a]
    activate, back = ACTIVATIONS[row.activation]
    forward = [(w, b, a[i], i + 1 < depth) for i, (w, b) in enumerate(views[0])]
    backward = [
        (w.T, *views[1][i], d[i], a[i - 1], a[i - 1].T, d[i - 1], masks[i - 1])
        for i, (w, _) in enumerate(views[0])
    ][:0:-1]
    first_dw, first_db = views[1][0]
    parts = Parts(row)
    rng = np.random.default_rng(1)

    def drop(h: Array, mask: Array) -> None:
        rng.random(out=mask, dtype=mask.dtype)
        np.greater_equal(mask, row.dropout, out=mask)
        mask *= 1 / (1 - row.dropout)
        h *= mask

    def output(z: Array, part: Part) -> float:
        """Fill the last d with total times the gradient, and return the loss's sum."""
        last = d[-1]
        if row.loss == "squared_error":
            np.subtract(z, part.t, out=last)
            return 0.5 * float(np.vdot(last, last))
        if row.is_softmax:
            softmax(z)
            np.subtract(z, part.t, out=last)
            np.multiply(z, part.t, out=spare)
            return -float(np.log(spare.sum(axis=1)).sum())
        sigmoid(z)
        np.subtract(z, part.t, out=last)
        # Targets are 0 or 1: the probability given to the right one is 1 - |y - t|.
        np.abs(last, out=spare)
        np.subtract(1, spare, out=spare)
        np.log(spare, out=spare)
        if part.weights is None:
            return -float(spare.sum())
        last *= part.weights
        return -float(np.vdot(spare, part.weights))

    def gradient(part: Part) -> float:
        """Fill grads with the gradient, and return the loss."""
        h = part.x
        for i, (w, b, z, hidden) in enumerate(forward):
            np.matmul(h, w, out=z)
            np.add(z, b, out=z)
            if hidden:
                activate(z)
                if row.dropout:
                    drop(z, masks[i])
            h = z
        loss = output(h, part) / part.total
        for wt, dw, db, dz, below, below_t, below_d, mask in backward:
            np.matmul(below_t, dz, out=dw)
            np.add.reduce(dz, axis=0, out=db)
            np.matmul(dz, wt, out=below_d)
            if row.dropout:
                np.multiply(below_d, mask, out=below_d)
            back(below_d, below)
        np.matmul(part.xt, d[0], out=first_dw)
        np.add.reduce(d[0], axis=0, out=first_db)
        return loss

    def penalise() -> float:
        """Add the penalty's gradient, and return the penalty."""
        squares = 0.0
        for (w, _), (dw, _) in zip(*views, strict=True):
            squares += float(np.vdot(w, w))
            np.add(dw, row.l2 * w, out=dw)
        return 0.5 * row.l2 * squares

    def steps(epochs: int) -> Iterator[tuple[float, float]]:
        """Yield the loss of each step, and what grads has to be divided by still."""
        for _ in range(epochs):
            for part in parts.epoch():
                loss = gradient(part)
                if row.l2:
                    np.multiply(grads, 1 / part.total, out=grads)
                    yield loss + penalise(), 1.0
                else:
                    yield loss, part.total

    def descend(epochs: int) -> list[float]:
        losses = []
        for loss, total in steps(epochs):
            losses.append(loss)
            np.multiply(grads, row.lr / total, out=grads)
            np.subtract(params, grads, out=params)
        return losses

    def adam(epochs: int) -> list[float]:
        losses = []
        m, v, s = np.zeros_like(params), np.zeros_like(params), np.empty_like(params)
        for step, (loss, total) in enumerate(steps(epochs), 1):
            losses.append(loss)
            np.multiply(grads, 1 / total, out=grads)
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


def views_of(row: Row, vector: Array) -> list[tuple[Array, Array]]:
    """Return w and b of each layer as views of a vector of all parameters."""
    views: list[tuple[Array, Any]] = []
    begin = 0
    for n_in, n_out in pairwise(row.sizes):
        end = begin + n_in * n_out
        views.append(
            (vector[begin:end].reshape(n_in, n_out), vector[end : end + n_out])
        )
        begin = end + n_out
    return views
