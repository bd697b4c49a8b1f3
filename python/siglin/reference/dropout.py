"""Dropout: which outputs of the hidden layers a step drops."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from siglin.reference.checks import Array
from siglin.reference.random import WORD, splitmix64


def dropout_masks(
    widths: Sequence[int], rows: int, dropout: float, seed: int, dtype: np.dtype[Any]
) -> list[Array]:
    """Return for each hidden layer 0 where an output is dropped, else 1 / (1 - p).

    A word of SplitMix64 serves two units of a row, its lower half the first.

    Parameters
    ----------
    widths : sequence of int
        Outputs of each hidden layer.
    rows : int
        Of the batch.
    dropout : float
        The probability p, in [0, 1).
    seed : int
        A step's own word: the masks depend on it, the row and the unit alone.
    dtype : dtype

    Returns
    -------
    list of ndarray, shape (rows, width)
    """
    masks = []
    for i, width in enumerate(widths, start=1):
        mask = np.full((rows, width), 1 / (1 - dropout), dtype)
        for row in range(rows):
            start = seed ^ row * 0xD1342543DE82EF95 % WORD
            start ^= i * 0xAF251AF3B0F025B5 % WORD
            words = splitmix64(start, (width + 1) // 2)
            halves = [half for w in words for half in (w % 2**32, w >> 32)]
            drawn = np.array(halves[:width])
            mask[row, drawn < int(dropout * 2**32)] = 0
        masks.append(mask)
    return masks
