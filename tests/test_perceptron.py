"""Perceptron: the rule, its end, and what it shares with the networks."""

import copy
import pickle
import threading
import time

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits, layouts
from siglin import reference

AND = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float), np.array([0.0, 0, 0, 1])
XOR = AND[0], np.array([0.0, 1, 1, 0])


def separable(rng, rows=200, n_in=5, gap=0.1):
    """Return rows that a plane through 0 separates, with a gap."""
    x = rng.normal(size=(rows, n_in))
    z = x @ np.linspace(1, 2, n_in)
    return x[np.abs(z) > gap], (z[np.abs(z) > gap] > 0).astype(float)


def test_it_starts_at_zero(dtype):
    for bias in (False, True):
        perceptron = siglin.Perceptron(3, bias=bias, dtype=dtype)
        assert perceptron.theta is perceptron.params
        assert perceptron.theta.tolist() == [0] * (3 + bias)
        assert perceptron.theta.dtype == perceptron.dtype == dtype
        assert perceptron.n_params == 3 + bias
        # 1 only where z > 0: not at 0.
        assert perceptron.predict(np.ones((2, 3), dtype)).tolist() == [[0], [0]]


def test_the_rule_by_hand():
    """One epoch on three rows, worked out on paper."""
    perceptron = siglin.Perceptron(2, bias=True)
    x, t = [[1, 2], [3, -1], [-1, 1]], [1, 0, 1]
    # z = 0: predicted 0, wrong: theta = (1, 2, 1).  z = 2: wrong: (-2, 3, 0).
    # z = 5: right.
    history = perceptron.fit(x, t, epochs=1)
    assert perceptron.theta.tolist() == [-2, 3, 0]
    assert history.loss == [2.0]
    assert (history.epochs, history.steps, history.stop_reason) == (1, 3, "epochs")


@pytest.mark.parametrize("bias", [False, True])
def test_it_matches_the_reference_to_the_bit(bias, rng, dtype):
    x, t = separable(rng)
    x, t = np.rint(8 * x).astype(dtype), t.astype(dtype)  # exact sums
    ours, want = (
        library.Perceptron(5, bias=bias, dtype=dtype) for library in (siglin, reference)
    )
    history, right = ours.fit(x, t, epochs=30), want.fit(x, t, epochs=30)
    assert_same_bits(ours.theta, want.theta)
    assert history.loss == right.loss
    assert history.epochs == right.epochs
    assert history.steps == right.steps
    assert history.stop_reason == right.stop_reason


def test_separable_rows_end_without_a_mistake(rng, dtype):
    x, t = separable(rng)
    x, t = x.astype(dtype), t.astype(dtype)
    perceptron = siglin.Perceptron(5, dtype=dtype)
    history = perceptron.fit(x, t)
    assert history.stop_reason == "no_mistakes"
    assert history.loss[-1] == 0
    assert min(history.loss[:-1]) > 0
    assert history.epochs == len(history.loss) < 1000
    np.testing.assert_array_equal(perceptron.predict(x)[:, 0], t)


def test_logical_and_needs_the_bias():
    perceptron = siglin.Perceptron(2, bias=True)
    assert perceptron.fit(*AND).stop_reason == "no_mistakes"
    np.testing.assert_array_equal(perceptron.predict(AND[0])[:, 0], AND[1])


def test_exclusive_or_never_ends():
    history = siglin.Perceptron(2, bias=True).fit(*XOR, epochs=50)
    assert (history.epochs, history.steps, history.stop_reason) == (50, 200, "epochs")
    assert min(history.loss) > 0


def test_fit_goes_on():
    once, twice = siglin.Perceptron(2, bias=True), siglin.Perceptron(2, bias=True)
    once.fit(*XOR, epochs=7)
    twice.fit(*XOR, epochs=3)
    twice.fit(*XOR, epochs=4)
    assert_same_bits(once.theta, twice.theta)


def test_no_epochs_do_nothing():
    perceptron = siglin.Perceptron(2)
    history = perceptron.fit(*AND, epochs=0)
    assert history.loss == []
    assert (history.epochs, history.steps, history.stop_reason) == (0, 0, "epochs")


def test_kinds_of_targets():
    want = siglin.Perceptron(2, bias=True)
    want.fit(*AND, epochs=3)
    t = AND[1]
    for targets in (t[:, None], t.astype(bool), t.astype(int), t.tolist(), t > 0):
        perceptron = siglin.Perceptron(2, bias=True)
        perceptron.fit(AND[0].tolist(), targets, epochs=3)
        assert_same_bits(perceptron.theta, want.theta)


@pytest.mark.parametrize("layout", list(layouts(np.ones((2, 2)))))
def test_layouts(layout, rng):
    x, t = separable(rng)
    if "stride 0" in layout:
        x = np.full_like(x, 2.0)
    want, got = siglin.Perceptron(5), siglin.Perceptron(5)
    want.fit(x, t, epochs=5)
    variant = layouts(x)[layout]
    before = variant.tobytes()
    got.fit(variant, t, epochs=5)
    assert_same_bits(got.theta, want.theta)
    assert_same_bits(got.predict(variant), want.predict(x))
    assert variant.tobytes() == before


@pytest.mark.parametrize(
    "make_copy", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies(make_copy):
    perceptron = siglin.Perceptron(2, bias=True, dtype="float32")
    perceptron.theta = [1, 2, 3]
    twin = make_copy(perceptron)
    assert repr(twin) == repr(perceptron)
    assert twin.theta is twin.params
    assert twin.theta.tolist() == [1, 2, 3]
    twin.theta[0] = 9
    assert perceptron.theta[0] == 1
    assert twin.predict(np.ones((1, 2), "f4")) == 1


def test_assigning_copies_the_values():
    perceptron = siglin.Perceptron(2)
    vector = perceptron.theta
    perceptron.params = [3, 4]
    assert perceptron.theta is vector
    assert vector.tolist() == [3, 4]


def test_overflow_keeps_the_finite_weights():
    perceptron = siglin.Perceptron(2)
    perceptron.theta = [1.5e308, -10.0]
    with pytest.raises(siglin.DivergenceError, match="overflowed"):
        # z is inf - inf, so the row counts as a mistake, and is added.
        perceptron.fit([[1e308, 1e308]], [1], epochs=1)
    assert perceptron.theta.tolist() == [1.5e308, -10.0]


def test_one_fit_at_a_time():
    perceptron = siglin.Perceptron(2)
    long_fit = threading.Thread(
        target=lambda: perceptron.fit(*XOR, epochs=3_000_000), daemon=True
    )
    long_fit.start()
    time.sleep(0.05)  # of the half second that it takes
    with pytest.raises(RuntimeError, match="busy"):
        perceptron.fit(*XOR, epochs=1)
    long_fit.join()
    perceptron.fit(*XOR, epochs=1)
