"""What runs: the targets of this CPU, how the module was built, and whether it is right."""

from typing import Any

import numpy as np

from siglin import _core
from siglin._data.arrays import AnyArray, Array
from siglin._functions import backward, forward, sigmoid


def targets() -> list[str]:
    """Return the compiled instruction-set targets this CPU can run, best first.

    Returns
    -------
    list of str
        Of "x86_v4" (AVX-512), "x86_v3" (AVX2 and FMA), "x86_v2" (SSE4.2) and "neon".

    Notes
    -----
    The environment variable ``SIGLIN_TARGET=name`` picks one when siglin is imported; a
    name that is not in this list raises RuntimeError then.

    Examples
    --------
    >>> import siglin
    >>> len(siglin.targets()) >= 1
    True
    """
    return _core.targets()


def target() -> str:
    """Return the name of the target that runs.

    Examples
    --------
    >>> import siglin
    >>> siglin.target() in siglin.targets()
    True
    """
    return _core.target()


def build_info() -> dict[str, str]:
    """Return how the compiled module was built, for a bug report.

    Examples
    --------
    >>> import siglin
    >>> all(isinstance(value, str) for value in siglin.build_info().values())
    True
    """
    return _core.build_info()


def self_test() -> None:
    """Compare the running target with `siglin.reference` on a small fixed set.

    The set is 64 values of the sigmoid, and a layer of 33 inputs and 9 outputs on 17
    rows, forward and backward, in float32 and float64.

    Raises
    ------
    RuntimeError
        If a result is further from the reference than rounding allows: the message says
        which, and by how much.

    Examples
    --------
    >>> import siglin
    >>> siglin.self_test()
    """
    for dtype in (np.float32, np.float64):
        for name, got, want, bound in _known_answers(dtype):
            error = np.abs(np.subtract(got, want, dtype=np.float64))
            # Not "error > bound": a NaN must count as wrong.
            if not (error <= bound).all():
                msg = (
                    f"self_test: target {_core.target()}: {name} in {np.dtype(dtype)} "
                    f"is off by up to {error.max():.3g}"
                )
                raise RuntimeError(msg)


def _known_answers(
    dtype: type[np.floating[Any]],
) -> list[tuple[str, Array, AnyArray, AnyArray]]:
    """Return (name, result, right result, largest error allowed) of each comparison."""
    from siglin import reference  # noqa: PLC0415  (only this test needs it)

    eps = float(np.finfo(dtype).eps)
    z = np.linspace(-30, 30, 64).astype(dtype)
    right = reference.sigmoid(z.astype(np.float64))
    # 4 eps of the value: an ulp or two of the result, as much of the reference.
    answers = [("sigmoid", sigmoid(z), right, 4 * eps * right)]

    # Sines are as good as random numbers here, and the same on every machine.
    wave = np.sin(np.arange(17 * 33 + 33 * 9 + 9 + 17 * 9)).astype(dtype)
    x, w, b, da = np.split(wave, np.cumsum([17 * 33, 33 * 9, 9]))
    x, w, da = x.reshape(17, 33), w.reshape(33, 9), da.reshape(17, 9)
    a = forward(x, w, b)
    wide = [array.astype(np.float64) for array in (x, w, b, a, da)]
    x64, w64, b64, a64, da64 = wide
    # A sum of k products of numbers up to 1 is off by at most k (k + 1) eps / 2, far
    # below what a wrong lane or a wrong constant does; 2 eps are for the sigmoid.
    right = reference.forward(x64, w64, b64)
    answers.append(("forward", a, right, np.full((), (2 + 34 * 35 / 8) * eps)))
    grads = backward(x, w, a, da)
    for name, got, want, k in zip(
        ("backward's dx", "backward's dw", "backward's db"),
        grads,
        reference.backward(x64, w64, a64, da64),
        (9, 17, 17),
        strict=True,
    ):
        if got is not None and want is not None:
            answers.append((name, got, want, np.full((), (k + 3) * (k + 4) / 2 * eps)))
    return answers
