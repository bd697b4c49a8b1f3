"""siglin in the race: Network.fit, with the history that it always keeps."""

from typing import Any

import siglin
from race_rows import Row, data
from trainers import Run, Trainer, flat, labels, losses_of


def trainer(row: Row) -> Trainer:
    given = data(row)
    x, t = given.x, labels(row) if row.is_softmax else given.t
    net = siglin.Network(
        row.sizes, activation=row.activation, loss=row.loss, dtype=row.dtype, seed=0
    )
    first = flat(row)
    options: dict[str, Any] = {}
    if row.weighted:
        options["sample_weight"] = given.row_weights
    if row.l2:
        options["l2"] = row.l2
    if row.dropout:
        options["dropout"] = row.dropout

    def start(epochs: int) -> Run:
        net.params[:] = first
        return lambda: net.fit(
            x,
            t,
            lr=row.lr,
            epochs=epochs,
            batch_size=row.batch,
            shuffle=row.shuffle,
            optimizer=row.optimizer,
            **options,
        )

    # The list that history.loss makes of its array is read off like the peers' arrays.
    return Trainer(start, lambda history, epochs: losses_of(history.loss, epochs))
