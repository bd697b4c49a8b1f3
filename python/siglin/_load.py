"""load: a network, a neuron or a perceptron of the record that a file holds."""

import os
from typing import Any

from siglin._network import Network
from siglin._neuron import Neuron, Perceptron

KINDS: dict[str, type[Network] | type[Perceptron]] = {
    "Network": Network,
    "Neuron": Neuron,
    "Perceptron": Perceptron,
}


def load(
    path: str | os.PathLike[str],
    *,
    allow_nonfinite: bool = False,
    max_bytes: int = 2**31,  # files.MAX_BYTES
) -> Any:
    """Return the network, neuron or perceptron that a file holds.

    Parameters
    ----------
    path : str or path-like
        What ``net.save`` wrote.
    allow_nonfinite : bool, default False
        Whether a parameter may be NaN or infinite.
    max_bytes : int, default 2**31
        Larger files are refused.

    Returns
    -------
    Network, Neuron or Perceptron
        Equal to the bit to what was saved, with the generator's state; gradients are 0.
        An object of a derived class comes back as its base class.

    Raises
    ------
    ModelFormatError
        If the file is damaged, of another kind, from a newer siglin, too large, or
        contradicts itself. The message names the file and what is wrong with it.
    OSError
        If the file cannot be read: FileNotFoundError, IsADirectoryError, PermissionError.
    ImportError
        If safetensors is missing: ``pip install "siglin[files]"``.
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Notes
    -----
    Files may come from anywhere. They are data alone: nothing in them is executed. Memory
    is taken for a file that has passed as far as its header, about four times its size.

    Examples
    --------
    >>> import siglin
    >>> siglin.Neuron(2).save("neuron.safetensors")
    >>> siglin.load("neuron.safetensors")
    Neuron(2, bias=False, dtype='float64')
    >>> with open("broken.safetensors", "wb") as file:
    ...     count = file.write(b"hello, world")
    >>> siglin.load("broken.safetensors")
    Traceback (most recent call last):
        ...
    siglin.ModelFormatError: load: broken.safetensors: not a safetensors file
    """
    from siglin import files  # noqa: PLC0415  not at every import of siglin

    record = files.load(path, allow_nonfinite=allow_nonfinite, max_bytes=max_bytes)
    return KINDS[record.kind]._from_record(record)
