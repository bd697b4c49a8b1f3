"""As much of PyTorch as siglin.convert touches, on NumPy: the tests do without the real one."""

import contextlib
import types

import numpy as np


class Tensor:
    """An array with the few methods of a tensor."""

    def __init__(self, array):
        self.array = array

    @property
    def dtype(self):
        return f"torch.{self.array.dtype}"

    @property
    def shape(self):
        return self.array.shape

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array

    def copy_(self, other):
        self.array[...] = other.array


class Linear:
    """y = x @ weight.T + bias; starts at values that no test expects."""

    def __init__(self, n_in, n_out, bias=True, dtype="torch.float32"):
        dtype = dtype.removeprefix("torch.")
        self.weight = Tensor(np.full((n_out, n_in), 77, dtype))
        self.bias = Tensor(np.full(n_out, 77, dtype)) if bias else None

    def __call__(self, x):
        z = x.array @ self.weight.array.T
        return Tensor(z if self.bias is None else z + self.bias.array)


class Sequential:
    """Modules one after the other."""

    def __init__(self, *modules):
        self.modules = modules

    def eval(self):
        for module in self.modules:
            if hasattr(module, "eval"):
                module.eval()
        return self

    def __iter__(self):
        return iter(self.modules)

    def __getitem__(self, index):
        return self.modules[index]

    def __call__(self, x):
        for module in self.modules:
            x = module(x)
        return x


def elementwise(name, function):
    """Return a module class that applies a function."""

    def call(_self, x):
        return Tensor(function(x.array))

    return type(name, (), {"__call__": call})


class LeakyReLU:
    def __init__(self, negative_slope=0.01):
        self.negative_slope = negative_slope

    def __call__(self, x):
        return Tensor(np.where(x.array > 0, x.array, self.negative_slope * x.array))


class Softmax:
    def __init__(self, dim=None):
        self.dim = dim

    def __call__(self, x):
        e = np.exp(x.array - x.array.max(axis=1, keepdims=True))
        return Tensor(e / e.sum(axis=1, keepdims=True))


class Dropout:
    """Of any kind: while it trains, every second number is 0 and the others grow."""

    def __init__(self, p=0.5):
        self.p = p
        self.training = True

    def eval(self):
        self.training = False
        return self

    def __call__(self, x):
        if not self.training:
            return x
        a = x.array / (1 - self.p)
        a.reshape(-1)[::2] = 0
        return Tensor(a)


class Flatten:
    def __init__(self, start_dim=1, end_dim=-1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def __call__(self, x):
        shape = list(x.array.shape)
        end = self.end_dim % len(shape)
        shape[self.start_dim : end + 1] = [-1]
        return Tensor(x.array.reshape(shape))


nn = types.SimpleNamespace(
    Linear=Linear,
    Sequential=Sequential,
    LeakyReLU=LeakyReLU,
    Dropout=Dropout,
    AlphaDropout=type("AlphaDropout", (Dropout,), {}),
    Flatten=Flatten,
    Softmax=Softmax,
    Sigmoid=elementwise("Sigmoid", lambda z: 1 / (1 + np.exp(-z))),
    Tanh=elementwise("Tanh", np.tanh),
    ReLU=elementwise("ReLU", lambda z: np.maximum(z, 0)),
    Identity=elementwise("Identity", lambda z: z),
    GELU=elementwise("GELU", lambda z: z),
    utils=types.SimpleNamespace(skip_init=lambda kind, *args, **kw: kind(*args, **kw)),
)
float16, float32, float64 = "torch.float16", "torch.float32", "torch.float64"
from_numpy = Tensor
no_grad = contextlib.nullcontext
