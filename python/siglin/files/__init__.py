"""Model files: networks in the safetensors format, with their architecture beside them.

A file holds the weights as tensors, ``layers.0.w`` of shape (n_in, n_out), ``layers.0.b``
of shape (n_out,), ``layers.1.w`` and so on, which every reader of safetensors finds, and
under the key ``siglin`` of its metadata a JSON object with the rest:

| key | value |
| --- | --- |
| format | version of this table, 1 |
| kind | "Network", "Neuron" or "Perceptron" |
| sizes, activations, biases | as `siglin.Network` has them, one entry per layer |
| dtype | "float32" or "float64" |
| loss, generator | not of a Perceptron; the generator's state as 64 hexadecimal digits |
| sha256 | of this object without this entry, and of all parameters |

A file may come from anybody: reading it executes nothing, and takes no memory before the
file's size and its header agree; every disagreement is a ModelFormatError.

`save` and `load` here know records: plan, parameters and generator. ``net.save`` and
`siglin.load` make records of networks, and networks of records.
"""

from siglin.files._read import MAX_BYTES, load
from siglin.files._record import MAX_LAYERS, Record
from siglin.files._write import save

__all__ = ["MAX_BYTES", "MAX_LAYERS", "Record", "load", "save"]
