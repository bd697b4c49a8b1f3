"""The shapes of the benchmarks, by size class; no other file names one.

"small" shapes show the cost of a call, "layer" shapes are the layers and networks people
train, "large" ones are near the hardware's limit for everybody, and "ugly" ones divide by
nothing a kernel likes (mostly primes).
"""

from typing import NamedTuple


class Layer(NamedTuple):
    """One layer: x (batch, n_in), w (n_in, n_out)."""

    size: str
    batch: int
    n_in: int
    n_out: int

    def __str__(self) -> str:
        return f"({self.batch}, {self.n_in}) x ({self.n_in}, {self.n_out})"


class Net(NamedTuple):
    """One network and the rows of a step."""

    size: str
    batch: int
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        rows = "row" if self.batch == 1 else "rows"
        return f"{'-'.join(map(str, self.sizes))}, {self.batch} {rows}"


class Flat(NamedTuple):
    """A vector of n elements: pre-activations, or the parameters of a network."""

    size: str
    n: int

    def __str__(self) -> str:
        return f"({self.n},)"


Shape = Layer | Net | Flat

LAYERS = (
    Layer("small", 1, 2, 3),
    Layer("small", 150, 4, 1),
    Layer("small", 150, 4, 16),
    Layer("layer", 64, 64, 32),
    Layer("layer", 10, 784, 30),
    Layer("layer", 128, 784, 128),
    Layer("ugly", 37, 61, 53),
    Layer("ugly", 131, 257, 67),
    Layer("large", 256, 784, 512),
    Layer("large", 1024, 1024, 1024),
)

NETWORKS = (
    Net("small", 1, (2, 3, 1)),
    Net("small", 150, (4, 1)),
    Net("small", 150, (4, 16, 1)),
    Net("layer", 64, (64, 32, 10)),
    Net("layer", 10, (784, 30, 10)),
    Net("layer", 128, (784, 128, 10)),
    Net("ugly", 37, (61, 53, 7)),
    Net("ugly", 131, (257, 67, 3)),
    Net("large", 256, (784, 512, 10)),
    Net("large", 1024, (1024, 1024)),
)

# Networks of several classes, to be trained by softmax, by Adam and in smaller batches.
CLASSIFIERS = (
    Net("small", 150, (4, 16, 3)),
    Net("layer", 64, (64, 32, 10)),
    Net("layer", 128, (784, 128, 10)),
    Net("ugly", 37, (61, 53, 7)),
)

# Layers whose call is a part of their time worth asking for.
SMALLER_LAYERS = tuple(layer for layer in LAYERS if layer.size in {"small", "layer"})

# One row at a time, as a service asks for it.
SINGLE_ROWS = (
    Net("small", 1, (2, 3, 1)),
    Net("small", 1, (4, 16, 1)),
    Net("layer", 1, (64, 32, 10)),
)

# Outputs and weights of the layers above, from (1, 3) to (1024, 1024).
VECTORS = (
    Flat("small", 3),
    Flat("small", 150),
    Flat("small", 2_400),
    Flat("layer", 16_384),
    Flat("layer", 100_352),
    Flat("ugly", 3_233),
    Flat("ugly", 17_219),
    Flat("large", 1_048_576),
)

# The lecture's neuron: 150 flowers, sepal length, sepal width and a column of ones.
IRIS = (Net("small", 150, (3, 1)),)

# What `pytest bench` runs unless it is asked for more: a small shape and a layer-sized
# one of each kind.
QUICK = (
    Layer("small", 150, 4, 16),
    Layer("layer", 64, 64, 32),
    Net("small", 150, (4, 16, 1)),
    Net("small", 150, (4, 16, 3)),
    Net("layer", 64, (64, 32, 10)),
    *(Net("small", 1, (4, 16, 1)), Net("layer", 1, (64, 32, 10))),
    Flat("small", 2_400),
    Flat("layer", 100_352),
    *IRIS,
)
