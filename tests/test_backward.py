"""backward, backward_update and layer_backward: gradients, on every target.

test_products.py has the bounds for all small shapes; here are the stricter promises.
"""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import siglin
from helpers import (
    COMPLEX,
    assert_same_bits,
    awkward_sizes,
    complex_step_gradient,
    wider,
)
from siglin import _core
from test_forward import SHAPES, assert_exact_within, chains
from test_update import make

Array = npt.NDArray[Any]

NAMES = [name for name in _core.activations() if name != "step"]

# Roundings of dz = da * f'(z): the ulp of f' (test_activation.py) and one product.
# From a only f' is up to three roundings. One ulp is at most 2 roundings' worth.
DZ_ROUNDINGS = {"tanh": 13, "sigmoid": 9}


def exact_derivative(name: str, z: Array) -> Array:
    """Return f'(z) of a z of the wider type, by closed forms."""
    e = np.exp(-np.abs(z))
    forms: dict[str, Array] = {
        "identity": np.ones_like(z),
        "sigmoid": e / (1 + e) ** 2,
        "tanh": 4 * e * e / (1 + e * e) ** 2,
        "relu": np.where(z > 0, np.ones_like(z), 0),
        "leaky_relu": np.where(z > 0, 1, np.asarray(0.1, z.dtype)),
    }
    return forms[name]


def exact_derivative_from_a(name: str, a: Array) -> Array:
    """Return f' of the a = f(z) of the wider type."""
    if name == "sigmoid":
        return a * (1 - a)
    if name == "tanh":
        return (1 - a) * (1 + a)
    return exact_derivative(name, a)  # a has the sign of z


def check_gradients(
    got: tuple[Array | None, Array, Array], x: Array, w: Array, dz: Array, extra: int
) -> None:
    """Assert the bounds of dx, dw and db; dz is exact, `extra` the roundings of its own."""
    dx, dw, db = got
    x, w = wider(x), wider(w)
    size = np.abs(dz)
    m, n = dz.shape
    assert dx is not None
    assert_exact_within(dx, dz @ w.T, n + extra, size @ np.abs(w.T))
    assert_exact_within(dw, x.T @ dz, m + extra, np.abs(x.T) @ size)
    assert_exact_within(db, dz.sum(axis=0), m + extra, size.sum(axis=0))


def corner(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape cut to what long double multiplies in no time."""
    m, k, n = shape
    return (m, k, n) if m * k * n < 100_000 else (min(m, 60), min(k, 60), min(n, 60))


@pytest.mark.parametrize("shape", SHAPES)
def test_error_of_every_element_is_bounded(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape if dtype == np.float32 else corner(shape)
    x, w, da = make(rng, dtype, (m, k), (k, n), (m, n))
    got = _core.backward(x, w, da, da, "identity")
    check_gradients(got, x, w, wider(da), 1)


@pytest.mark.parametrize("shape", [(n, k, m) for m, k, n in SHAPES])
def test_integers_are_exact(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w = rng.integers(-20, 21, (m, k)), rng.integers(-20, 21, (k, n))
    da = rng.integers(-20, 21, (m, n))
    fx, fw, fda = (v.astype(dtype) for v in (x, w, da))
    dx, dw, db = _core.backward(fx, fw, fda, fda, "identity")
    assert np.array_equal(dx, da @ w.T)
    assert np.array_equal(dw, x.T @ da)
    assert np.array_equal(db, da.sum(axis=0))


def test_integers_of_all_awkward_shapes_are_exact(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    x, w = rng.integers(-9, 10, (65, 65)), rng.integers(-9, 10, (65, 65))
    da = rng.integers(-9, 10, (65, 65))
    fx, fw, fda = (v.astype(dtype) for v in (x, w, da))
    sizes = [0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 32, 33, 65]
    for m in sizes:
        sums = x[:m].T @ da[:m]
        for k in (0, 1, 3, 8, 17, 33, 65):
            for n in sizes:
                part = fda[:m, :n]
                dx, dw, db = _core.backward(
                    fx[:m, :k], fw[:k, :n], part, part, "identity"
                )
                assert np.array_equal(dx, da[:m, :n] @ w[:k, :n].T), (m, k, n)
                assert np.array_equal(dw, sums[:k, :n]), (m, k, n)
                assert np.array_equal(db, da[:m, :n].sum(axis=0)), (m, k, n)


@pytest.mark.parametrize("m", [1, 2, 5, 30, 257, 513])
def test_sums_have_the_documented_order(
    target: str, dtype: np.dtype[Any], m: int, rng: np.random.Generator
) -> None:
    """dw and dx: the chains of the product. db: four chains of rows, two by two."""
    x, w, dz = make(rng, dtype, (m, 20), (20, 70), (m, 70))
    for n in (1, 3, 70):
        part = np.ascontiguousarray(dz[:, :n])
        dx, dw, db = _core.backward(x, w[:, :n], part, part, "identity")
        rows = np.ascontiguousarray(x.T[[0, 19]])
        assert_same_bits(dw[[0, 19], -1], chains(target, rows, part[:, -1], None))
        assert dx is not None
        assert_same_bits(dx[-1:, 7], chains(target, part[-1:], w[7, :n], None))
        four = [np.zeros(n, dtype) for _ in range(4)]
        for i in range(m):
            four[i % 4] += part[i]
        assert_same_bits(db, (four[0] + four[1]) + (four[2] + four[3]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 2, 3), (23, 7, 5), (40, 20, 33)])
def test_given_z_every_activation_is_within_its_bound(
    target: str,
    dtype: np.dtype[Any],
    name: str,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, z, da = make(rng, dtype, (m, k), (k, n), (m, n), (m, n))
    z *= 8  # saturated for the most part
    a = _core.activate(z, name)
    got = _core.backward(x, w, a, da, name, z)
    dz = wider(da) * exact_derivative(name, wider(z))
    check_gradients(got, x, w, dz, DZ_ROUNDINGS.get(name, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 2, 3), (23, 7, 5), (40, 20, 33)])
def test_given_a_every_activation_is_within_its_bound(
    target: str,
    dtype: np.dtype[Any],
    name: str,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, w, z, da = make(rng, dtype, (m, k), (k, n), (m, n), (m, n))
    a = _core.activate(4 * z, name)
    got = _core.backward(x, w, a, da, name)
    dz = wider(da) * exact_derivative_from_a(name, wider(a))
    check_gradients(got, x, w, dz, 5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_layer(
    target: str, name: str, rng: np.random.Generator
) -> None:
    """The complex-step derivative of sum(da * f(x @ w + b)), 1e-12 relative."""
    m, k, n = 6, 5, 4
    x, w, b, da = make(rng, np.dtype(float), (m, k), (k, n), n, (m, n))
    borders = np.cumsum([x.size, w.size])

    def total(p: Array) -> Any:
        px, pw, pb = np.split(p, borders)
        return (da * COMPLEX[name](px.reshape(m, k) @ pw.reshape(k, n) + pb)).sum()

    gradient = complex_step_gradient(total, np.r_[x.ravel(), w.ravel(), b])
    want = [
        part.reshape(shape)
        for part, shape in zip(
            np.split(gradient, borders), [(m, k), (k, n), (n,)], strict=True
        )
    ]
    z = _core.forward(x, w, b, "identity")
    a = _core.forward(x, w, b, name)
    _, derivative = _core.layer_forward(x, w, b, name)
    dw, db = np.empty_like(w), np.empty_like(b)
    dx = _core.layer_backward(x, w, derivative, da, dw, db)
    for got in (
        _core.backward(x, w, a, da, name, z),
        _core.backward(x, w, a, da, name),
        (dx, dw, db),
    ):
        for g, expected in zip(got, want, strict=True):
            np.testing.assert_allclose(g, expected, rtol=0, atol=1e-12)


def test_z_saves_the_gradient_where_a_is_saturated(target: str) -> None:
    one = np.ones((1, 1), np.float32)
    for value in (17, 18, 80):  # at 17 the sigmoid is the last number below 1
        z = np.full((1, 1), value, np.float32)
        a = _core.activate(z, "sigmoid")
        from_a = _core.backward(one, one, a, one, "sigmoid")[2][0]
        true = np.exp(-float(value)) / (1 + np.exp(-float(value))) ** 2
        assert from_a > 1.4 * true if value == 17 else from_a == 0
        for gradient in _core.backward(one, one, a, one, "sigmoid", z):
            assert abs(gradient.item() / true - 1) <= 2.4e-7


@pytest.mark.parametrize("size", awkward_sizes(33)[1:])
def test_without_dx_the_rest_is_the_same(
    target: str, dtype: np.dtype[Any], size: int, rng: np.random.Generator
) -> None:
    x, w, a, da = make(rng, dtype, (9, size), (size, 5), (9, 5), (9, 5))
    _, dw, db = _core.backward(x, w, a, da, "sigmoid")
    nothing, dw_alone, db_alone = _core.backward(x, w, a, da, "sigmoid", need_dx=False)
    assert nothing is None
    assert_same_bits(dw_alone, dw)
    assert_same_bits(db_alone, db)


@pytest.mark.parametrize("sizes", [(3, 4, 1), (14, 9, 33), (49, 60, 70)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_row_and_column(
    target: str,
    dtype: np.dtype[Any],
    sizes: tuple[int, int, int],
    value: float,
    rng: np.random.Generator,
) -> None:
    m, k, n = sizes
    x, w, da = make(rng, dtype, (m, k), (k, n), (m, n))
    dx, dw, db = _core.backward(x, w, da, da, "identity")
    assert dx is not None
    i, j = m - 1, n // 2
    da[i, j] = value
    dx2, dw2, db2 = _core.backward(x, w, da, da, "identity")
    assert dx2 is not None
    assert_same_bits(np.delete(dx2, i, 0), np.delete(dx, i, 0))
    assert_same_bits(np.delete(dw2, j, 1), np.delete(dw, j, 1))
    assert_same_bits(np.delete(db2, j), np.delete(db, j))
    np.testing.assert_array_equal(dx2[i], value * w[:, j])
    np.testing.assert_array_equal(dw2[:, j], value * x[i])
    np.testing.assert_array_equal(db2[j], value)


def test_dx_of_a_row_has_the_same_bits_in_any_batch(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    for k, n in [(1, 4), (3, 3), (30, 300), (70, 40)]:
        x, w, z, da = make(rng, dtype, (50, k), (k, n), (50, n), (50, n))
        a = _core.activate(z, "sigmoid")
        dx = _core.backward(x, w, a, da, "sigmoid", z)[0]
        assert dx is not None
        for split in range(0, 51, 7):
            parts = [
                _core.backward(x[s], w, a[s], da[s], "sigmoid", z[s])[0]
                for s in (slice(0, split), slice(split, 50))
            ]
            assert_same_bits(np.concatenate(parts), dx)


def test_arguments_may_be_views_of_one_buffer(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    (buffer,) = make(rng, dtype, (80, 80))
    x, w, a, da, z = (
        buffer[:30, :20],
        buffer[5:25, 7:40],
        buffer[10:40, :33],
        buffer[::2, 40:73][:30],
        buffer[40:10:-1, 3:36],
    )
    before = buffer.copy()
    want = _core.backward(*(v.copy() for v in (x, w, a, da)), "tanh", z.copy())
    got = _core.backward(x, w, a, da, "tanh", z)
    for g, expected in zip(got, want, strict=True):
        assert_same_bits(g, expected)
    assert_same_bits(buffer, before)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_empty_shapes(
    target: str, dtype: np.dtype[Any], shape: tuple[int, int, int]
) -> None:
    m, k, n = shape
    x, w, da = np.ones((m, k), dtype), np.ones((k, n), dtype), np.ones((m, n), dtype)
    for gradient, expected in zip(
        _core.backward(x, w, da, da, "sigmoid", da),
        [np.zeros((m, k), dtype), np.zeros((k, n), dtype), None],
        strict=True,
    ):
        if expected is not None:
            assert_same_bits(gradient, expected)
    db = _core.backward(x, w, da, da, "identity")[2]
    assert_same_bits(db, np.full(n, m, dtype))


@pytest.mark.parametrize("shape", [(1, 2, 3), (23, 7, 5), (10, 300, 30), (0, 3, 2)])
@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("lr", [0.1, -0.1, 0.0])
def test_backward_update_is_backward_then_update(
    target: str,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    with_z: bool,
    lr: float,
    rng: np.random.Generator,
) -> None:
    m, k, n = shape
    x, wide, b, z, da = make(rng, dtype, (m, k), (k, n + 3), n, (m, n), (m, n))
    w = wide[:, 1 : n + 1]  # rows lie apart
    a = _core.activate(z, "tanh")
    maybe_z = z if with_z else None
    dx, dw, db = _core.backward(x, w, a, da, "tanh", maybe_z)
    wide_after, b_after = wide.copy(), b.copy()
    _core.update(wide_after[:, 1 : n + 1], dw, lr)
    _core.update(b_after, db, lr)
    wide_before, b_before = wide.copy(), b.copy()

    assert dx is not None
    got = _core.backward_update(x, w, b, a, da, lr, "tanh", maybe_z)
    assert got is not None
    assert_same_bits(got, dx)
    assert_same_bits(wide, wide_after)
    assert_same_bits(b, b_after)

    wide[...], b[...] = wide_before, b_before
    nothing = _core.backward_update(x, w, b, a, da, lr, "tanh", maybe_z, need_dx=False)
    assert nothing is None
    assert_same_bits(wide, wide_after)
    assert_same_bits(b, b_after)

    wide[...] = wide_before
    nothing = _core.backward_update(
        x, w, None, a, da, lr, "tanh", maybe_z, need_dx=False
    )
    assert nothing is None
    assert_same_bits(wide, wide_after)
    assert_same_bits(b, b_after)  # as it was: not an argument of this call


def test_layer_backward_is_backward_with_the_derivative_at_hand(
    target: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    for m, k, n in [(1, 2, 3), (23, 7, 5), (60, 40, 33)]:
        x, w, b, da = make(rng, dtype, (m, k), (k, n), n, (m, n))
        z = _core.forward(x, w, b, "identity")
        a, derivative = _core.layer_forward(x, w, b, "sigmoid")
        dx, dw, db = _core.backward(x, w, a, da, "sigmoid", z)
        assert dx is not None
        dw2, db2 = np.full((k, n), 7, dtype), np.full(n, 7, dtype)
        dx2 = _core.layer_backward(x, w, derivative, da, dw2, db2)
        assert dx2 is not None
        assert_same_bits(dx2, dx)
        assert_same_bits(dw2, dw)
        assert_same_bits(db2, db)
        dw2[...] = 7
        assert (
            _core.layer_backward(x, w, derivative, da, dw2, None, need_dx=False) is None
        )
        assert_same_bits(dw2, dw)


def test_products_with_an_empty_dimension_are_made_at_once() -> None:
    """2^28 rows without an element are no work, and those of no sum are zeros."""
    many = 2**28
    for n_in, n_out in ((0, 0), (3, 0)):
        row = np.zeros((1, n_in))
        x, w = np.broadcast_to(row, (many, n_in)), np.zeros((n_in, n_out))
        a = np.zeros((many, n_out))
        start = time.perf_counter()
        assert siglin.forward(x, w).shape == (many, n_out)
        assert siglin.backward(x, w, a, a, need_dx=False).dw.shape == (n_in, n_out)
        siglin.backward_update(x, w, np.zeros(n_out), a, a, 0.1, need_dx=False)
        siglin.update(a, a.copy(), 0.1)
        assert time.perf_counter() - start < 0.02
    a = np.ones((4, 0))
    dx, dw, db = siglin.backward(np.ones((4, 3)), np.ones((3, 0)), a, a)
    assert_same_bits(dx, np.zeros((4, 3)))
    assert (dw.shape, db.shape) == ((3, 0), (0,))
    a = np.ones((0, 5))
    dx, dw, db = siglin.backward(np.ones((0, 3)), np.ones((3, 5)), a, a)
    assert dx.shape == (0, 3)
    assert_same_bits(dw, np.zeros((3, 5)))
    assert_same_bits(db, np.zeros(5))


# ---- backward_update -----------------------------------------------------------------


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 384, 1000])
@pytest.mark.parametrize("stride", [40, 64])
def test_backward_update_is_backward_and_update_to_the_bit(
    batch: int, stride: int, threads: int, dtype: Any, rng: np.random.Generator
) -> None:
    """Also where rows of w lie apart: what is between them stays, whatever it is."""
    before = siglin.get_num_threads()
    siglin.set_num_threads(threads)
    n_in, n_out = 300, 40
    x = rng.normal(size=(batch, n_in)).astype(dtype)
    x[0, 0] = np.inf  # times 0 between the rows it would be NaN
    memory = rng.normal(size=(n_in, stride)).astype(dtype)
    memory[:, n_out:] = 0
    other = memory.copy()
    w, b = memory[:, :n_out], np.ones(n_out, dtype)
    da = rng.normal(size=(batch, n_out)).astype(dtype)
    a = np.zeros((batch, n_out), dtype)
    grads = siglin.backward(x, w, a, da, activation="identity")
    want_b = b.copy()
    siglin.update(other[:, :n_out], grads.dw, 0.1)
    siglin.update(want_b, grads.db, 0.1)
    dx = siglin.backward_update(x, w, b, a, da, 0.1, activation="identity")
    siglin.set_num_threads(before)
    assert_same_bits(dx, grads.dx)
    assert_same_bits(memory, other)
    assert_same_bits(b, want_b)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_backward_update_stores_no_dw_where_it_is_short() -> None:
    """With the memory for a tenth of dw left it works all the same."""
    program = """
        import resource, numpy as np, siglin
        siglin.set_num_threads(1)
        x, da = np.ones((5, 3000), np.float32), np.ones((5, 16_000), np.float32)
        w = np.ones((3000, 16_000), np.float32)
        siglin.backward_update(x[:, :9], w[:9], None, da, da, 0.1, need_dx=False)
        pages = int(open("/proc/self/statm").read().split()[0])
        left = w.nbytes // 10
        most = pages * resource.getpagesize() + left
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        siglin.backward_update(x, w, None, da, da, 0.5, activation="identity", need_dx=False)
        print(w[9:].min(), w[9:].max(), 1 - 0.5 * 5)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("-1.5 -1.5 -1.5\n", "")


@pytest.mark.timing
def test_backward_update_leaves_the_gil_to_others() -> None:
    """The pass over w too: another thread never waits for long."""
    # More work than is done in one piece.
    x, da = np.ones((20, 8000), np.float32), np.ones((20, 9000), np.float32)
    w = np.ones((8000, 9000), np.float32)
    gaps: list[float] = []
    done = threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    siglin.backward_update(x[:2], w, None, da[:2], da[:2], 0.1, need_dx=False)
    watcher = threading.Thread(target=watch)
    start = time.perf_counter()
    dw = np.ones_like(w)
    siglin.update(w, dw, 0.1)
    update = time.perf_counter() - start
    del dw
    watcher.start()
    siglin.backward_update(x, w, None, da, da, 0.1, need_dx=False)
    done.set()
    watcher.join()
    assert max(gaps) < update / 2
