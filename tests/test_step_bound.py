"""Steps that may overflow are looked at before they are made; the others are not."""

import copy

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core

OPTIMIZERS = ["gd", "momentum", "nesterov", "adam", "adamw"]
# A decay of its own would overflow before the step does.
OBJECTS = {"adamw": siglin.AdamW(weight_decay=0.0)}
X = np.ones((2, 1))
T = np.ones((2, 2))


def fresh(optimizer):
    return copy.deepcopy(OBJECTS.get(optimizer, optimizer))


def at_the_edge(dtype, share):
    """Return a network with w = -b = share of the largest number, so that z is 0.

    The gradient is -1/2 for every parameter: w grows, b shrinks.
    """
    net = siglin.Network([1, 2], dtype=dtype)
    large = share * float(np.finfo(dtype).max)
    net.params = [large, large, -large, -large]
    return net


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.999])
def test_steps_at_the_edge_are_made_while_they_are_finite(
    share, optimizer, target, dtype
):
    net = at_the_edge(dtype, share)
    before = net.params.copy()
    lr = 0.02 * float(np.finfo(dtype).max)
    settings = {"lr": lr, "optimizer": fresh(optimizer)}
    x, t = X.astype(dtype), T.astype(dtype)
    # In the first step momentum is the gradient, Nesterov 1.9 times that, Adam 1.
    change = {"gd": 0.5, "momentum": 0.5, "nesterov": 0.95}.get(optimizer, 1.0) * lr
    if share < 0.9:
        net.fit(x, t, **settings)
        np.testing.assert_allclose(
            net.params, before + change, rtol=1e-6, atol=1e-4 * lr
        )
        return
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, t, **settings)
    assert_same_bits(net.params, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_written_by_a_callback_are_looked_at(optimizer, target, dtype):
    net = siglin.Network([1, 2], dtype=dtype, init="zeros")
    edge = at_the_edge(dtype, 0.9999).params

    def move(state):
        if state.epoch == 3:
            net.params = edge

    settings = {"lr": 0.001 * float(np.finfo(dtype).max)}
    settings["optimizer"] = fresh(optimizer)
    with pytest.raises(siglin.DivergenceError, match="epoch 4, step 4"):
        net.fit(X.astype(dtype), T.astype(dtype), epochs=9, callback=move, **settings)
    assert_same_bits(net.params, edge)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov"])
def test_growing_steps_are_looked_at_in_the_end(optimizer, target, dtype):
    net = siglin.Network([1, 2], loss="squared_error", dtype=dtype, init="zeros")
    x, t = 2 * X.astype(dtype), T.astype(dtype)
    # Beyond 2 / 5, the curvature's inverse, every step is larger than the last.
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, t, lr=5.0, epochs=10**5, optimizer=optimizer)
    assert np.isfinite(net.params).all()
    assert np.abs(net.params).max() > np.sqrt(np.finfo(dtype).max) / 100


@pytest.mark.parametrize("make", [siglin.Momentum, siglin.Nesterov, siglin.Adam])
def test_a_memory_of_large_gradients_is_looked_at(make, dtype):
    """The state of an object may be larger than any gradient of this fit."""
    net, optimizer = at_the_edge(dtype, 0.05), make()
    x, t = X.astype(dtype), T.astype(dtype)
    net.fit(x, t, lr=1e-3, optimizer=optimizer)
    optimizer.moments[:] = np.abs(optimizer.moments)
    optimizer.moments[: net.n_params] = -0.1 * float(np.finfo(dtype).max)
    before = net.params.copy()
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, t, lr=100.0, optimizer=optimizer)
    assert_same_bits(net.params, before)


@pytest.mark.filterwarnings("ignore::siglin.SaturationWarning")
def test_a_bound_that_has_grown_does_not_end_fused_steps():
    """Every step adds to it, by the largest input, while the parameters stay small."""
    sizes = [1, *[150] * 6, 1]
    net = siglin.Network(
        sizes, activation="tanh", loss="squared_error", dtype="float32", seed=0
    )
    x = np.array([[1.0], [-1.0], [0.5], [-0.5]], "float32") * 2**13
    t = np.ones((4, 1), "float32")
    before, epochs = _core.fused_steps(), 2000
    net.fit(x, t, lr=0.01, epochs=epochs)
    assert np.abs(net.params).max() < 100
    assert _core.fused_steps() - before > 0.9 * epochs
