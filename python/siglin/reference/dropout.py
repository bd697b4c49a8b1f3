"""Dropout: which outputs of the hidden layers a step drops."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from siglin.reference.checks import Array

UNIT_STEP = 0x9E3779B1  # 2^32 / golden ratio, odd
Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]


def mixed(words: Words) -> Words:
    """Return words of which each bit depends on about all of the given one's.

    Two rounds of xor-shift and multiplication (constants: C. Wellons 2018, a search).
    """
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x7FEB352D)
    words = words ^ (words >> np.uint32(15))
    words = words * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))


def dropout_words(layer: int, rows: int, width: int, seed: int) -> Words:
    """Return the word of each output of a hidden layer: the hash of its place.

    A row's key, plus the unit's number times an odd constant, mixed.
    """
    halves = np.array([seed % 2**32, seed >> 32], np.uint32)
    of_rows = mixed(halves[:1] + np.uint32((layer + 1) * UNIT_STEP % 2**32))
    of_units = mixed(halves[1:] ^ of_rows)
    keys = mixed(np.arange(rows, dtype=np.uint32) ^ of_rows) + of_units
    steps = np.arange(width, dtype=np.uint32) * np.uint32(UNIT_STEP)
    return mixed(keys[:, None] + steps)


def dropout_masks(
    widths: Sequence[int], rows: int, dropout: float, seed: int, dtype: np.dtype[Any]
) -> list[Array]:
    """Return for each hidden layer 0 where an output is dropped, else 1 / (1 - p).

    An output is dropped where its word of 32 bits is below p times 2^32.

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
    for layer, width in enumerate(widths):
        dropped = dropout_words(layer, rows, width, seed) < int(dropout * 2**32)
        masks.append(np.where(dropped, 0, 1 / (1 - dropout)).astype(dtype))
    return masks
