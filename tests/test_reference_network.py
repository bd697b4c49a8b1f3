"""The reference's layers and networks: gradients, initial weights, views."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

from helpers import (
    Array,
    assert_same_bits,
    complex_loss,
    complex_step_gradient,
)
from siglin import reference
from siglin.errors import ShapeError
from siglin.reference import losses, random


@pytest.mark.parametrize(("activation", "gain"), [("sigmoid", 4), ("tanh", 1)])
def test_glorot_weights_are_uniform_up_to_the_bound(
    activation: str, gain: float
) -> None:
    w = reference.Dense(30, 50, activation, seed=3).w
    bound = gain * math.sqrt(6 / 80)
    assert 0.99 * bound < np.abs(w).max() <= bound
    np.testing.assert_allclose(w.var(), bound**2 / 3, rtol=0.1)


@pytest.mark.parametrize("init", ["normal", "glorot"])
def test_layers_draw_one_after_the_other_from_one_generator(
    init: str, dtype: Any
) -> None:
    net = reference.Network([3, 4, 2], init=init, dtype=dtype, seed=9)
    generator = random.Generator(9)
    for layer in net.layers:
        n = layer.n_in * layer.n_out
        bound = 4 * math.sqrt(6 / (layer.n_in + layer.n_out))
        draws = generator.normal(n) if init == "normal" else generator.uniform(n, bound)
        assert_same_bits(layer.w, draws.astype(dtype).reshape(layer.w.shape))
        assert layer.b is not None
        np.testing.assert_array_equal(layer.b, 0)


NETWORKS: dict[str, tuple[Any, str, Any, str | None]] = {
    "one neuron": ([4, 1], "bce", "sigmoid", None),
    "two layers": ([3, 5, 2], "bce", "sigmoid", None),
    "softmax": ([4, 6, 3], "cross_entropy", "tanh", None),
    "regression": ([3, 4, 4, 2], "squared_error", ["relu", "leaky_relu"], None),
    "squared sigmoid": ([3, 4, 2], "squared_error", "tanh", "sigmoid"),
    "eight layers": ([2, 3, 3, 3, 3, 3, 3, 3, 1], "bce", "tanh", None),
}


def network_case(
    name: str, rng: np.random.Generator, dtype: Any = np.float64
) -> tuple[reference.Network, Array, Array]:
    """Return a network of NETWORKS with random parameters, and data for it."""
    sizes, loss, activation, output = NETWORKS[name]
    net = reference.Network(
        sizes, loss=loss, activation=activation, output_activation=output, dtype=dtype
    )
    net.params[...] = rng.normal(0, 0.7, net.n_params)
    x = rng.normal(size=(5, sizes[0]))
    t = rng.integers(0, 2, (5, sizes[-1])).astype(float)
    if loss == "cross_entropy":
        t = np.eye(sizes[-1])[rng.integers(0, sizes[-1], 5)]
    return net, x.astype(dtype), t.astype(dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_gradients_are_the_complex_step(
    name: str, rng: np.random.Generator
) -> None:
    net, x, t = network_case(name, rng)
    loss, grads = net.loss_and_grads(x, t)
    assert grads is net.grads
    np.testing.assert_allclose(loss, complex_loss(net, x, t, net.params), rtol=1e-13)
    want = complex_step_gradient(lambda p: complex_loss(net, x, t, p), net.params)
    np.testing.assert_allclose(grads, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_gradients_follow_the_float64_ones(
    name: str, rng: np.random.Generator
) -> None:
    net, x, t = network_case(name, rng, np.float32)
    grads = net.loss_and_grads(x, t)[1]
    assert grads.dtype == np.float32
    want = net.astype(np.float64).loss_and_grads(x.astype(float), t.astype(float))[1]
    bound = 64 * 2**-24 * math.sqrt(6)  # 64 u sqrt(k) in the norm, k the widest layer
    assert np.linalg.norm(grads - want) <= bound * np.linalg.norm(want)


def test_hand_written_loop_is_loss_and_grads(rng: np.random.Generator) -> None:
    net, x, t = network_case("regression", rng)
    loss, grads = net.loss_and_grads(x, t)
    want = grads.copy()
    net.grads[...] = np.nan
    a = net.forward(x)
    assert_same_bits(a, net.predict(x))
    assert net.backward(t) == loss == net.loss(x, t)
    assert_same_bits(net.grads, want)
    before = net.params.copy()
    net.update(0.5)
    assert_same_bits(net.params, before - 0.5 * want)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_backward_from_takes_any_loss(output: str, rng: np.random.Generator) -> None:
    """With da = dloss/da of the written-out loss, grads and dx are those of the loss."""
    loss = "bce" if output == "sigmoid" else "cross_entropy"
    net = reference.Network([3, 4, 3, 2], loss=loss, init="normal", seed=1)
    x, t = rng.normal(size=(5, 3)), np.eye(2)[[0, 1, 1, 0, 1]]
    want = net.loss_and_grads(x, t)[1].copy()
    a = net.forward(x)
    da = losses.bce_of_output_gradient(a, t) if output == "sigmoid" else -t / a
    dx = net.backward_from(da / 5)
    np.testing.assert_allclose(net.grads, want, rtol=1e-11, atol=1e-15)

    def value(p: Array) -> Any:
        return complex_loss(net, p.reshape(5, 3), t, net.params)

    want_dx = complex_step_gradient(value, x.ravel()).reshape(5, 3)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-11, atol=1e-15)


def test_class_numbers_mean_one_hot_rows(rng: np.random.Generator) -> None:
    net, x, t = network_case("softmax", rng)
    assert net.loss(x, t.argmax(axis=1)) == net.loss(x, t)

    # Of one class too, where a vector could be taken for a column.
    one = reference.Network([4, 1], loss="cross_entropy", seed=0)
    assert one.loss(x, np.zeros(len(x), int)) == one.loss(x, np.ones((len(x), 1))) == 0
    assert not one.loss_and_grads(x, np.zeros(len(x), int))[1].any()


def test_a_vector_of_targets_serves_one_output(rng: np.random.Generator) -> None:
    net, x, t = network_case("one neuron", rng)
    assert net.loss(x, t[:, 0].astype(bool)) == net.loss(x, t)
    with pytest.raises(ShapeError, match=r"t must have shape \(5, 1\), got \(4, 1\)"):
        net.loss(x, t[:4, 0])
    with pytest.raises(ShapeError, match="no rows"):
        net.loss(x[:0], t[:0])


def assert_views(net: reference.Network) -> None:
    """Assert that the layers' arrays lie in the network's vectors, in order."""
    flat = [
        part.ravel()
        for layer in net.layers
        for part in (layer.w, layer.b)
        if part is not None
    ]
    assert_same_bits(np.concatenate(flat), net.params)
    for layer in net.layers:
        assert np.shares_memory(layer.w, net.params)
        assert np.shares_memory(layer.dw, net.grads)
        assert layer.b is None or np.shares_memory(layer.b, net.params)
        assert layer.db is None or np.shares_memory(layer.db, net.grads)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_are_views_also_of_copies_and_pickles(bias: bool) -> None:
    net = reference.Network([2, 3, 1], bias=bias, seed=4)
    assert net.n_params == (13 if bias else 9)
    copies = [
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        net.astype("float64"),
    ]
    for other in [net, *copies]:
        assert_views(other)
        assert_same_bits(other.params, net.params)
        assert other.generator.state == net.generator.state
    net.params[...] = 0
    assert all(other.params.any() for other in copies)


def test_assigning_copies_the_values() -> None:
    net = reference.Network([2, 1])
    values = np.array([1.0, 2.0, 3.0])
    net.params = net.grads = values
    assert_views(net)
    values[...] = 0
    layer = net.layers[0]
    layer.w = [[5.0], [6.0]]
    layer.b = [7.0]
    np.testing.assert_array_equal(net.params, [5, 6, 7])
    np.testing.assert_array_equal(net.grads, [1, 2, 3])
    layer.params = np.zeros(3)
    np.testing.assert_array_equal(net.params, np.zeros(3))
    with pytest.raises(ValueError, match="no bias"):
        reference.Dense(2, 1, bias=False).b = [0.0]


def test_a_network_takes_layers_over() -> None:
    layers = [
        reference.Dense(2, 3, "tanh", bias=False, seed=1),
        reference.Dense(3, 1, seed=2),
    ]
    values = [layer.params.copy() for layer in layers]
    net = reference.Network(layers, loss="squared_error")
    assert_same_bits(net.params, np.concatenate(values))
    assert_views(net)
    assert net.layers[0] is layers[0]
    with pytest.raises(ShapeError, match="cannot follow"):
        reference.Network(layers[::-1], loss="squared_error")
    with pytest.raises(ValueError, match="softmax"):
        reference.Network(layers, loss="cross_entropy")


def test_dense_backward_is_the_functions_backward(rng: np.random.Generator) -> None:
    layer = reference.Dense(3, 2, init="normal", seed=8)
    x, da = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    a = layer.forward(x)
    assert layer.b is not None
    assert layer.db is not None
    assert_same_bits(a, reference.forward(x, layer.w, layer.b))
    want = reference.backward(x, layer.w, a, da, z=x @ layer.w + layer.b)
    assert want.dx is not None
    assert_same_bits(layer.backward(da), want.dx)
    assert_same_bits(layer.dw, want.dw)
    assert_same_bits(layer.db, want.db)
    w = layer.w.copy()
    layer.update(0.25)
    assert_same_bits(layer.w, w - 0.25 * want.dw)


def test_a_layer_is_its_neurons_side_by_side(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 5))
    stacked = np.hstack([reference.forward(x, w[:, [j]]) for j in range(5)])
    np.testing.assert_allclose(reference.forward(x, w), stacked, rtol=1e-14)
