"""What the tests share: sizes, layouts, error measures, and the lecture's numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core

Array: TypeAlias = npt.NDArray[Any]

COMPLEX_STEP = 1e-30

# The activations and the losses of an output, of complex arguments: independent of the
# library's own formulas, for complex_step_gradient.
COMPLEX: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": lambda z: 1 - 2 / (1 + np.exp(2 * z)),
    "relu": lambda z: np.where(z.real > 0, z, 0),
    "leaky_relu": lambda z: np.where(z.real > 0, z, 0.1 * z),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    "exp": np.exp,
}
COMPLEX_LOSS: dict[str, Callable[[Array, Array], Array]] = {
    "bce": lambda a, t: -t * np.log(a) - (1 - t) * np.log(1 - a),
    "squared_error": lambda a, t: (a - t) ** 2 / 2,
    "cross_entropy": lambda a, t: -t * np.log(a),
    "poisson": lambda a, t: t * np.log(np.where(t > 0, t, 1) / a) - t + a,
    "huber": lambda a, t: np.where(
        np.abs((a - t).real) <= 1,
        (a - t) ** 2 / 2,
        np.where(a.real > t, a - t, t - a) - 0.5,
    ),
    "quantile": lambda a, t: np.where(a.real > t, a - t, t - a) / 2,
}


def load_goldens() -> dict[str, Any]:
    """Return the lecture's numbers: exactly rounded, or of 40-digit or float64 runs."""
    path = Path(__file__).with_name("goldens.json")
    goldens: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return goldens


def awkward_sizes(limit: int) -> list[int]:
    """Return 0, 1, and 2^k and 3 * 2^k with their two neighbours, up to `limit`."""
    sizes = {0, 1}
    power = 1
    while power <= limit + 1:
        sizes |= {m * power + d for m in (1, 3) for d in (-1, 0, 1)}
        power *= 2
    return sorted(size for size in sizes if size <= limit)


def tolerance(dtype: npt.DTypeLike, k: int) -> float:
    """Bound |got - want| for f(sums of k products), relative to the sum of |products|.

    Each side has n = (k + 1) + 16 roundings of u = eps / 2:

    - k + 1: k products and k - 1 additions, of which each summand meets at most k,
      whatever their order, fused or not (Higham 2002, section 3.1); 1 for the bias.
    - 16: f, f' and da * f'. NumPy's float32 exp errs by up to 2.5 ulp, 1 + e and the
      division add 1, so f has 3.5 ulp = 7 u; f' is the product of two of them, and the
      two products are 2 u more. The slope of f is at most 1: errors of z do not grow.

    gamma_n = n u / (1 - n u) bounds their product, and 2 gamma_n two such results that
    err to opposite sides: the one tested and the reference.
    """
    u = float(np.finfo(dtype).eps) / 2
    n = (k + 1) + 16
    return 2 * n * u / (1 - n * u)


def assert_close(got: Array, want: Array, k: int, magnitude: Any = 1.0) -> None:
    """Assert |got - want| <= tolerance(dtype, k) * magnitude, element by element.

    `magnitude` is the sum of the absolute values of what was summed, such as
    |x| @ |w| + |b|. Shape and dtype must be the same; so must NaN and infinities.
    """
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    allowed = np.broadcast_to(tolerance(want.dtype, k) * magnitude, want.shape)
    error = np.abs(got[finite].astype(np.float64) - want[finite].astype(np.float64))
    worst = np.max(error - allowed[finite], initial=-np.inf)
    assert worst <= 0, f"an error is {worst:.3g} above the bound"


def assert_same_bits(got: Array, want: Array) -> None:
    """Assert the same shape, dtype and bytes; a NaN must be the same NaN, -0 is not 0."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    words = np.dtype(f"u{want.dtype.itemsize}")
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(words), np.ascontiguousarray(want).view(words)
    )


def layouts(array: Array) -> dict[str, Array]:
    """Return arrays of the same values and shape that lie differently in memory.

    Where all rows (columns) of a matrix are equal, a broadcast with stride 0 is one.
    """
    array = np.ascontiguousarray(array)
    every_second = tuple(slice(None, None, 2) for _ in array.shape)
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    spread = np.full([2 * size for size in array.shape], 7, array.dtype)
    spread[every_second] = array

    read_only = array.copy()
    read_only.flags.writeable = False
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = buffer[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array

    variants = {
        "contiguous": array.copy(),
        "every second": spread[every_second],
        "reversed": np.ascontiguousarray(array[backwards])[backwards],
        "read-only": read_only,
        "misaligned": misaligned,
        "byte-swapped": array.astype(array.dtype.newbyteorder()),
    }
    if array.ndim == 2:
        rows, columns = array.shape
        wide = np.full((rows, columns + 3), 7, array.dtype)
        wide[:, 1 : columns + 1] = array
        variants |= {
            "Fortran": np.asfortranarray(array),
            "columns of a wider array": wide[:, 1 : columns + 1],
            "every second column": np.repeat(array, 2, axis=1)[:, ::2],
            "every second row": np.repeat(array, 2, axis=0)[::2],
            "reversed rows": np.ascontiguousarray(array[::-1])[::-1],
            "reversed columns": np.ascontiguousarray(array[:, ::-1])[:, ::-1],
        }
        if rows and np.array_equal(array, array[:1].repeat(rows, axis=0)):
            variants["stride 0 between rows"] = np.broadcast_to(array[:1], array.shape)
        if columns and np.array_equal(array, array[:, :1].repeat(columns, axis=1)):
            variants["stride 0 between columns"] = np.broadcast_to(
                array[:, :1], array.shape
            )
    return variants


def floats_around(dtype: Any, limit: float) -> Array:
    """Return numbers of both signs: small ones, and an even sweep of [-limit, limit]."""
    small = np.geomspace(np.finfo(dtype).smallest_subnormal, 1, 400)
    return np.concatenate([-small, small, np.linspace(-limit, limit, 20_001)]).astype(
        dtype
    )


def wider(array: Array) -> Array:
    """Return float32 as float64, and float64 as long double (64 bits of precision)."""
    return array.astype(np.float64 if array.dtype == np.float32 else np.longdouble)


def exact_sigmoid(z: Array) -> Array:
    """Return the sigmoid in the wider type: 2048 times finer than the dtype, or more."""
    z = wider(z)
    e = np.exp(-np.abs(z))
    result: Array = np.where(z >= 0, 1, e) / (1 + e)
    return result


def ulp_error(got: Array, exact: Array) -> Array:
    """Return |got - exact| in units of the last place of `exact` in got's dtype.

    `exact` is of a wider type. Below the smallest normal number the unit is the
    smallest subnormal. 0 where both are NaN or the same infinity, inf where one is.
    """
    info = np.finfo(got.dtype)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    finite = np.isfinite(got) & np.isfinite(exact)
    safe = np.where(finite, exact, 1)
    exponent = np.maximum(np.frexp(safe)[1], info.minexp + 1)
    ulp = np.ldexp(np.ones_like(safe), exponent - (info.nmant + 1))
    error = np.abs(np.where(finite, got, 1).astype(exact.dtype) - safe) / ulp
    result: Array = np.where(finite, error, np.where(same, 0, np.inf))
    return result.astype(np.float64)


def complex_step_gradient(f: Callable[[Array], Any], p: Array) -> Array:
    """Return the gradient of f at the float64 vector p, exact to rounding.

    f(p + i h e) = f(p) + i h f'(p) + O(h^2) has f' in its imaginary part with no
    difference taken, so h can be 1e-30 (Squire and Trapp 1998). f must be written in
    complex arithmetic, without abs or comparisons of complex numbers.
    """
    gradient = np.empty(p.size)
    for i in range(p.size):
        stepped = p.astype(np.complex128)
        stepped[i] += 1j * COMPLEX_STEP
        gradient[i] = np.imag(f(stepped)) / COMPLEX_STEP
    return gradient


def complex_loss(net: Any, x: Array, t: Array, params: Array) -> Any:
    """Return the loss of `net` at complex parameters, for complex_step_gradient.

    `net` gives the sizes, the activations and the loss; `params` is laid out as
    net.params.
    """
    a, start = x, 0
    for layer in net.layers:
        n_in, n_out = layer.w.shape
        w = params[start : start + n_in * n_out].reshape(n_in, n_out)
        start += n_in * n_out
        z = a @ w
        if layer.b is not None:
            z = z + params[start : start + n_out]
            start += n_out
        a = COMPLEX[layer.activation](z)
    return COMPLEX_LOSS[net.loss_name](a, t).sum() / len(x)


def fit_arguments(**given: Any) -> dict[str, Any]:
    """Return the arguments of a native fit, with fields of its two records among them."""
    rest = dict(given)
    for name, record in (("settings", _core.FitSettings), ("hooks", _core.FitHooks)):
        fields = {field: rest.pop(field) for field in record._fields if field in rest}
        if fields:
            rest[name] = record(**fields)
    return rest
