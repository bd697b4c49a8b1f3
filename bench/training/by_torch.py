"""PyTorch in the race: eager, on whole arrays and their slices; the loss on logits.

Functions on tensors are faster here than modules; one foreach operation is faster than the
fused SGD, and the fused Adam faster than a foreach one.

PyTorch divides some losses by the number of outputs, which siglin does not: the learning
rate, Adam's eps and the losses are scaled back.
"""

from collections.abc import Iterator
from typing import Any

import torch as th

from race_rows import BETA1, BETA2, EPS, Row, data
from trainers import Run, Trainer, labels, losses_of


def trainer(row: Row) -> Trainer:
    given = data(row)
    functions = th.nn.functional
    sources = [
        th.from_numpy(given.x),
        th.from_numpy(labels(row) if row.is_softmax else given.t),
    ]
    if row.weighted:
        sources.append(th.from_numpy(given.row_weights[:, None].copy()))
    first = [th.from_numpy(array) for layer in given.weights for array in layer]
    params = [value.clone().requires_grad_() for value in first]
    *hidden, (last_w, last_b) = zip(params[::2], params[1::2], strict=True)
    activate = {"sigmoid": th.sigmoid, "tanh": th.tanh, "relu": th.relu}[row.activation]
    # Means over rows and outputs, but the cross-entropy; and the squared error lacks its
    # half.
    scale = {
        "bce": float(row.sizes[-1]),
        "squared_error": 0.5 * row.sizes[-1],
        "cross_entropy": 1.0,
    }[row.loss]
    criterion: Any = {
        "bce": functions.binary_cross_entropy_with_logits,
        "squared_error": functions.mse_loss,
        "cross_entropy": functions.cross_entropy,
    }[row.loss]

    def split(arrays: list[Any]) -> list[Any]:
        return list(zip(*(array.split(row.batch) for array in arrays), strict=True))

    parts = split(sources)

    def epoch() -> list[Any]:
        if not row.shuffle:
            return parts
        order = th.randperm(row.rows)
        return split([source[order] for source in sources])

    def loss_of(xb: Any, tb: Any, wb: Any = None) -> Any:
        h = xb
        for w, b in hidden:
            h = activate(th.addmm(b, h, w))
            if row.dropout:
                h = functions.dropout(h, row.dropout)
        z = th.addmm(last_b, h, last_w)
        if wb is None:
            return criterion(z, tb)
        return criterion(z, tb, weight=wb, reduction="sum") / (wb.sum() * scale)

    def penalty() -> Any:
        # Its gradient is Adam's weight_decay; the history of siglin has its value too.
        norms = th.stack(th._foreach_norm(params[::2]))
        return 0.5 * row.l2 * norms.square().sum()

    def batches_of(epochs: int) -> Iterator[Any]:
        for _ in range(epochs):
            yield from epoch()

    def descend(epochs: int) -> list[Any]:
        losses = []
        for part in batches_of(epochs):
            loss = loss_of(*part)
            grads = th.autograd.grad(loss, params)
            with th.no_grad():
                th._foreach_add_(params, grads, alpha=-row.lr * scale)
            losses.append(loss.detach())
        return losses

    def adam(epochs: int) -> list[Any]:
        losses = []
        groups: Any = params
        if row.l2:
            groups = [
                {"params": params[::2], "weight_decay": row.l2 / scale},
                {"params": params[1::2]},
            ]
        optimizer = th.optim.Adam(
            groups, lr=row.lr, betas=(BETA1, BETA2), eps=EPS / scale, fused=True
        )
        for part in batches_of(epochs):
            loss = loss_of(*part)
            optimizer.zero_grad()
            loss.backward()
            if row.l2:
                with th.no_grad():
                    losses.append(loss.detach() + penalty() / scale)
            else:
                losses.append(loss.detach())
            optimizer.step()
        return losses

    def start(epochs: int) -> Run:
        with th.no_grad():
            th._foreach_copy_(params, first)
        loop = adam if row.optimizer == "adam" else descend
        return lambda: loop(epochs)

    return Trainer(start, lambda raw, n: losses_of(scale * th.stack(raw).numpy(), n))
