"""Single rows with options: many steps at a time have the bits of one at a time."""

import itertools

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits

# With a tolerance, and for that alone, every step goes the way of all batches.
ONE_BY_ONE = {"tol": 1e-300}
OPTIMIZERS = {
    "gd": siglin.GradientDescent,
    "momentum": siglin.Momentum,
    "nesterov": siglin.Nesterov,
    "adam": siglin.Adam,
    "adamw": siglin.AdamW,
}
OPTIONS = [
    {},
    {"l2": 0.01},
    {"l1": 0.01, "l2": 0.1},
    {"clip_norm": 0.1},
    {"clip_norm": 1e3},
    {"dropout": 0.3},
    {"dropout": 0.5, "l2": 0.1, "clip_norm": 0.2},
]
# Plain descent has a kernel and bits of its own.
CASES = [pair for pair in itertools.product(OPTIMIZERS, OPTIONS) if pair != ("gd", {})]
SIZES = [[3, 1], [4, 3], [2, 3, 1], [6, 12, 2], [5, 9, 17, 4], [2, *[3] * 8, 2]]


def fitted(sizes, dtype, optimizer, x, t, *, loss="bce", activation="sigmoid", **more):
    """Return what a fit leaves, and the message it ends with, if that is an error."""
    net = siglin.Network(sizes, loss=loss, activation=activation, dtype=dtype, seed=3)
    memory = OPTIMIZERS[optimizer]()
    settings = {"lr": 0.02, "epochs": 3, "batch_size": 1, "optimizer": memory}
    message, history = "", None
    try:
        history = net.fit(x, t, **(settings | more))
    except siglin.DivergenceError as error:
        message = str(error)
    params = net.params.copy()
    # The order in which the network's generator lets it take rows next.
    net.params = np.full_like(params, 0.1)
    rows = np.arange(1.0, 10 * sizes[0] + 1, dtype=dtype).reshape(10, -1) / 50
    targets = np.full((10, sizes[-1]), 1 / sizes[-1], dtype)
    losses = net.fit(rows, targets, batch_size=1).loss
    return params, memory, message, history, losses


def assert_same_fits(first, second):
    assert_same_bits(first[0], second[0])
    if first[1].moments is not None:
        assert_same_bits(first[1].moments, second[1].moments)
    assert first[1].step_count == second[1].step_count
    assert first[2] == second[2]
    if first[3] is not None:
        assert first[3].loss == second[3].loss
        assert first[3].steps == second[3].steps
    assert first[4] == second[4]


def make_rows(rng, sizes, dtype, rows=40):
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    return x, rng.uniform(size=(rows, sizes[-1])).astype(dtype)


@pytest.mark.parametrize(("optimizer", "options"), CASES, ids=str)
def test_many_steps_have_the_bits_of_single_ones(
    optimizer, options, target, dtype, rng
):
    for sizes, shuffle in itertools.product(SIZES, [True, False]):
        x, t = make_rows(rng, sizes, dtype)
        settings = options | {"shuffle": shuffle}
        assert_same_fits(
            fitted(sizes, dtype, optimizer, x, t, **settings),
            fitted(sizes, dtype, optimizer, x, t, **settings, **ONE_BY_ONE),
        )


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu", "identity"])
@pytest.mark.parametrize(
    "loss", ["bce", "squared_error", "poisson", siglin.Huber(0.3), "cross_entropy"]
)
def test_every_loss_has_the_bits_of_single_steps(loss, activation, dtype, rng):
    sizes = [4, 11, 3]
    x, t = make_rows(rng, sizes, dtype)
    if loss == "cross_entropy":
        t = t / t.sum(axis=1, keepdims=True)
    weights = rng.uniform(0.5, 2, size=len(x)).astype(dtype)
    for options in ({"sample_weight": weights, "l2": 0.1}, {"dropout": 0.4}):
        settings = {"loss": loss, "activation": activation, "epochs": 2} | options
        assert_same_fits(
            fitted(sizes, dtype, "momentum", x, t, **settings),
            fitted(sizes, dtype, "momentum", x, t, **settings, **ONE_BY_ONE),
        )


@pytest.mark.parametrize("row", [0, 1, 17, 39])
@pytest.mark.parametrize(("optimizer", "options"), CASES, ids=str)
def test_the_step_that_diverges_is_not_made(optimizer, options, row, dtype, rng):
    """In the midst of many, which are then made up to there."""
    sizes = [4, 6, 2]
    x, t = make_rows(rng, sizes, dtype)
    x[row] = np.finfo(dtype).max / 8
    settings = {"loss": "squared_error", "activation": "identity", "shuffle": False}
    settings |= options
    first, second = (
        fitted(sizes, dtype, optimizer, x, t, **settings, **more)
        for more in ({}, ONE_BY_ONE)
    )
    assert_same_fits(first, second)
    assert "non-finite" in first[2]
    assert np.isfinite(first[0]).all()
    if row > 0:
        settings["epochs"] = 1
        before = fitted(sizes, dtype, optimizer, x[:row], t[:row], **settings)
        assert_same_bits(first[0], before[0])
