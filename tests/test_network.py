"""Dense and Network: their vectors and views, what they compute, copies and threads."""

import copy
import itertools
import math
import os
import pickle
import threading
import time

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits, complex_loss, complex_step_gradient
from siglin import _core, reference

LOSSES = ["bce", "squared_error", "cross_entropy"]
SMOOTH = ["identity", "sigmoid", "tanh"]
DEPTHS = [[3, 1], [3, 4, 2], [3, 5, 4, 3], [2, 9, 1, 6, 3]]


def make_pair(sizes, dtype=np.float64, **options):
    """Return a network and its reference, of the same parameters."""
    net = siglin.Network(sizes, dtype=dtype, seed=7, **options)
    ours = reference.Network(sizes, dtype=dtype, seed=7, **options)
    ours.params[...] = net.params
    return net, ours


def make_data(rng, sizes, loss, dtype=np.float64, rows=11):
    """Return inputs and targets."""
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        return x, np.eye(sizes[-1], dtype=dtype)[rng.integers(sizes[-1], size=rows)]
    return x, rng.uniform(size=(rows, sizes[-1])).astype(dtype)


def close(got, want, dtype=np.float64, factor=64):
    """Assert equality up to rounding, relative to the largest of the numbers."""
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    bound = factor * np.finfo(dtype).eps * scale
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


# ---- vectors and views ---------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_params_are_w_row_by_row_then_b(bias, dtype):
    net = siglin.Network([2, 3, 1], bias=bias, dtype=dtype, seed=0)
    parts = []
    for layer in net.layers:
        parts.append(layer.w.ravel())
        if bias:
            parts.append(layer.b)
    assert net.n_params == sum(part.size for part in parts)
    assert net.params.shape == net.grads.shape == (net.n_params,)
    assert net.params.flags.c_contiguous
    assert_same_bits(net.params, np.concatenate(parts))


def test_layers_are_views():
    net = siglin.Network([2, 3, 1], seed=0)
    for layer in net.layers:
        for view, vector in [
            (layer.w, net.params),
            (layer.b, net.params),
            (layer.dw, net.grads),
            (layer.db, net.grads),
            (layer.params, net.params),
            (layer.grads, net.grads),
        ]:
            assert np.shares_memory(view, vector)
            assert view.flags.writeable
    net.params[...] = np.arange(net.n_params)
    assert net.layers[0].w.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert net.layers[0].b.tolist() == [6, 7, 8]
    assert net.layers[1].w.tolist() == [[9], [10], [11]]
    assert net.layers[1].b.tolist() == [12]


def test_what_is_written_is_seen_by_the_next_call():
    net, x = siglin.Network([2, 2, 1], seed=0), np.ones((1, 2))
    seen = {net.predict(x)[0, 0]}
    net.params[0] += 1
    seen.add(net.predict(x)[0, 0])
    net.layers[0].w[1, 1] -= 1
    seen.add(net.predict(x)[0, 0])
    net.layers[1].b[0] = 3
    seen.add(net.predict(x)[0, 0])
    net.layers[1].w = [[0], [0]]
    seen.add(net.predict(x)[0, 0])
    assert len(seen) == 5
    assert net.predict(x)[0, 0] == siglin.sigmoid(3.0)


def test_assigning_copies_the_values():
    net = siglin.Network([2, 1], seed=0)
    vector, values = net.params, np.array([1.0, 2.0, 3.0])
    net.params = values
    values[0] = 9
    assert net.params is vector
    assert vector.tolist() == [1, 2, 3]
    net.params -= 1
    assert net.params is vector
    assert vector.tolist() == [0, 1, 2]
    layer = net.layers[0]
    layer.w, layer.b, layer.dw, layer.db = [[4], [5]], [6], [[7], [8]], [9]
    assert vector.tolist() == [4, 5, 6]
    assert net.grads.tolist() == [7, 8, 9]
    layer.w += 1
    assert vector.tolist() == [5, 6, 6]
    net.grads = net.params[::-1]
    assert net.grads.tolist() == [6, 6, 5]


def test_network_takes_layers_over():
    layers = [
        siglin.Dense(2, 3, "tanh", seed=1),
        siglin.Dense(3, 1, bias=False, seed=2),
    ]
    values = [layer.params.copy() for layer in layers]
    layers[0].dw = np.ones((2, 3))
    net = siglin.Network(layers)
    assert net.layers == tuple(layers)
    assert_same_bits(net.params, np.concatenate(values))
    assert net.grads.tolist() == [1] * 6 + [0] * 6
    layers[0].w[0, 0] = 5
    assert net.params[0] == 5
    assert layers[0].network is net
    x = np.ones((2, 2))
    assert_same_bits(net.predict(x), layers[1].forward(layers[0].forward(x)))


def test_layers_of_a_dead_network_are_free():
    layer = siglin.Dense(2, 1, seed=0)
    siglin.Network([layer])
    assert siglin.Network([layer]).layers == (layer,)


def test_sizes_from_a_list_of_dense_have_their_dtype():
    net = siglin.Network([siglin.Dense(2, 1, dtype="float32")])
    assert net.dtype == np.float32


@pytest.mark.parametrize("loss", LOSSES)
def test_default_output_activation(loss):
    net = siglin.Network([2, 3, 2], activation="tanh", loss=loss)
    names = [layer.activation for layer in net.layers]
    output = {"bce": "sigmoid", "squared_error": "identity", "cross_entropy": "softmax"}
    assert names == ["tanh", output[loss]]
    assert net.loss_name == loss


def test_activation_of_each_hidden_layer():
    net = siglin.Network([1, 2, 3, 4], activation=("relu", "tanh"))
    assert [layer.activation for layer in net.layers] == ["relu", "tanh", "sigmoid"]
    assert len(siglin.Network([1, 2], activation=[]).layers) == 1


# ---- initial weights -----------------------------------------------------------------


@pytest.mark.parametrize("init", ["glorot", "he", "lecun", "normal", "zeros"])
@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_initial_weights_are_those_of_the_reference(init, seed, dtype):
    sizes = [5, 7, 4, 2]
    options = {"init": init, "seed": seed, "dtype": dtype, "activation": "tanh"}
    ours = siglin.Network(sizes, **options)
    assert_same_bits(ours.params, reference.Network(sizes, **options).params)
    layer = siglin.Dense(5, 7, init=init, seed=seed, dtype=dtype)
    want = reference.Dense(5, 7, init=init, seed=seed, dtype=dtype)
    assert_same_bits(layer.params, want.params)


@pytest.mark.parametrize(
    ("activation", "gain"), [("sigmoid", 4), ("tanh", 1), ("relu", 1)]
)
def test_glorot_bound(activation, gain):
    layer = siglin.Dense(60, 40, activation, seed=3)
    bound = gain * math.sqrt(6 / 100)
    assert 0.99 * bound < np.abs(layer.w).max() <= bound
    # The mean of 2400 uniform numbers has the standard deviation bound / sqrt(3 * 2400).
    assert abs(layer.w.mean()) < 4 * bound / math.sqrt(3 * 2400)
    assert (layer.b == 0).all()


@pytest.mark.parametrize(("init", "gain"), [("he", 2), ("lecun", 1)])
def test_he_and_lecun_bounds(init, gain):
    layer = siglin.Dense(60, 40, "relu", init=init, seed=3)
    bound = math.sqrt(3 * gain / 60)
    assert 0.99 * bound < np.abs(layer.w).max() <= bound
    # Four standard deviations of the variance of 2400 uniform numbers.
    variance = gain / 60
    assert abs(layer.w.var() - variance) < 4 * variance * math.sqrt(0.8 / 2400)


def test_normal_weights():
    w = siglin.Dense(100, 100, init="normal", seed=3).w
    # Four standard deviations of the mean and of the variance of 10,000 numbers.
    assert abs(w.mean()) < 4 / 100
    assert abs(w.var() - 1) < 4 * math.sqrt(2) / 100


def test_seeds():
    same = [siglin.Network([3, 4, 1], seed=5).params for _ in range(2)]
    assert_same_bits(*same)
    others = [siglin.Network([3, 4, 1], seed=seed).params for seed in (6, None, None)]
    for one, two in itertools.combinations([same[0], *others], 2):
        assert not np.array_equal(one, two)


def test_layers_of_one_network_share_no_draw():
    net = siglin.Network([8] * 12, bias=False, seed=0)
    assert np.unique(net.params).size == net.n_params


# ---- what they compute ---------------------------------------------------------------


def test_worked_example(goldens):
    """The lecture's two layers with numbers, for either target."""
    example = goldens["worked_example"]
    net = siglin.Network([2, 3, 1], bias=False)
    net.layers[0].w = example["W"]
    net.layers[1].w = example["V"]
    x = np.array(example["x"])
    for t in (0, 1):
        want = example[f"target_{t}"]
        assert net.forward(x)[0, 0] == pytest.approx(want["y"], rel=1e-12)
        assert net.backward([t]) == pytest.approx(want["J"], rel=1e-12)
        np.testing.assert_allclose(net.layers[1].dw, want["dV"], rtol=1e-12)
        np.testing.assert_allclose(net.layers[0].dw, want["dW"], rtol=1e-12)
        dx = net.backward_from([[want["dJ_dy"]]])
        np.testing.assert_allclose(dx, want["dx"], rtol=1e-11)
        np.testing.assert_allclose(net.layers[0].dw, want["dW"], rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "activation", ["sigmoid", "tanh", "relu", "leaky_relu", "identity"]
)
@pytest.mark.parametrize("sizes", DEPTHS, ids=str)
def test_network_matches_the_reference(sizes, activation, loss, rng, dtype):
    net, ours = make_pair(sizes, dtype, activation=activation, loss=loss)
    x, t = make_data(rng, sizes, loss, dtype)
    close(net.predict(x), ours.predict(x), dtype)
    close(net.forward(x), ours.predict(x), dtype)
    close(net.loss(x, t), ours.loss(x, t), dtype)
    want_loss, want = ours.loss_and_grads(x, t)
    loss_value, grads = net.loss_and_grads(x, t)
    assert grads is net.grads
    close(loss_value, want_loss, dtype)
    close(grads, want, dtype)
    net.grads.fill(np.nan)
    net.forward(x)
    close(net.backward(t), want_loss, dtype)
    close(net.grads, want, dtype)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("sizes", DEPTHS, ids=str)
def test_gradients_are_those_of_the_loss(sizes, activation, loss, rng):
    """Against derivatives by complex steps, which are exact to rounding."""
    net = siglin.Network(sizes, activation=activation, loss=loss, seed=1)
    x, t = make_data(rng, sizes, loss)
    want = complex_step_gradient(lambda p: complex_loss(net, x, t, p), net.params)
    net.loss_and_grads(x, t)
    np.testing.assert_allclose(net.grads, want, rtol=1e-12, atol=1e-12)
    net.grads.fill(np.nan)
    net.forward(x)
    net.backward(t)
    np.testing.assert_allclose(net.grads, want, rtol=1e-12, atol=1e-12)


# Networks and batches of the path of kernels/columns.h, around its 16 rows and the
# borders of its blocks and lanes.
NARROW_SIZES = [[4, 16, 1], [3, 7, 5, 2], [16, 33, 20, 18], [1, 1], [40, 3, 40]]
NARROW_ROWS = [*range(1, 71), 143, 144, 145, 150, 1007, 1008, 1009, 2500]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("loss", ["bce", "squared_error"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", NARROW_SIZES, ids=str)
def test_any_number_of_rows(sizes, bias, loss, activation, rng, dtype):
    options = {"activation": activation, "loss": loss, "bias": bias}
    net, ours = make_pair(sizes, dtype, **options)
    for rows in NARROW_ROWS:
        x, t = make_data(rng, sizes, loss, dtype, rows)
        want_loss, want = ours.loss_and_grads(x, t)
        close(net.loss_and_grads(x, t)[0], want_loss, dtype)
        close(net.grads, want, dtype)


@pytest.mark.parametrize("sizes", [[1, 1], [64, 1], [4, 16, 1], [64, 128, 64]], ids=str)
def test_loss_of_many_rows_alone_and_with_its_gradient(sizes, rng, dtype):
    """Both take blocks of their own size, and share the memory for their sums."""
    net = siglin.Network(sizes, dtype=dtype, seed=0)
    x, t = make_data(rng, sizes, "bce", dtype, rows=200_000)
    close(net.loss(x, t), net.loss_and_grads(x, t)[0], dtype)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("loss", ["bce", "squared_error"])
@pytest.mark.parametrize("rows", [16, 17, 47, 150])
def test_gradients_of_many_rows_are_those_of_the_loss(rows, loss, activation, rng):
    """As test_gradients_are_those_of_the_loss, where rows fill the vectors."""
    sizes = [3, 18, 4, 2]
    net = siglin.Network(sizes, activation=activation, loss=loss, seed=1)
    x, t = make_data(rng, sizes, loss, rows=rows)
    x /= 4  # log(1 - a) of the formula has few digits where a is almost 1
    want = complex_step_gradient(lambda p: complex_loss(net, x, t, p), net.params)
    net.loss_and_grads(x, t)
    np.testing.assert_allclose(net.grads, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", NARROW_SIZES, ids=str)
@pytest.mark.parametrize("rows", [16, 31, 64, 145, 1009])
def test_targets_with_fma_train_alike(rows, sizes, rng, dtype):
    """Sums over rows have the same order for every vector width."""
    names = [name for name in siglin.targets() if name != "x86_v2"]
    x, t = make_data(rng, sizes, "bce", dtype, rows)
    before = siglin.target()
    results = []
    try:
        for name in names:
            _core.use_target(name)
            net = siglin.Network(sizes, dtype=dtype, seed=3)
            net.fit(x, t, epochs=3, batch_size=16 if rows < 100 else None, seed=1)
            results.append(net.params)
    finally:
        _core.use_target(before)
    for params in results[1:]:
        assert_same_bits(params, results[0])


@pytest.mark.parametrize("batch_size", [16, 40, 144, 200])
@pytest.mark.parametrize("dtype_name", ["float32", "float64"])
def test_shuffled_rows_are_taken_as_they_are(batch_size, dtype_name, rng):
    """A fit on shuffled batches is that on batches of the same rows in that order."""
    sizes = [5, 9, 2]
    x, t = make_data(rng, sizes, "bce", np.dtype(dtype_name), rows=433)
    net = siglin.Network(sizes, dtype=dtype_name, seed=3)
    ours = reference.Network(sizes, dtype=dtype_name, seed=3)
    ours.params[...] = net.params
    net.fit(x, t, epochs=2, batch_size=batch_size, lr=0.5, seed=11)
    ours.fit(x, t, epochs=2, batch_size=batch_size, lr=0.5, seed=11)
    close(net.params, ours.params, np.dtype(dtype_name), factor=1024)


@pytest.mark.parametrize(
    "output", ["sigmoid", "tanh", "relu", "leaky_relu", "identity"]
)
def test_squared_error_takes_any_output(output, rng, dtype):
    sizes = [3, 4, 2]
    options = {"loss": "squared_error", "output_activation": output}
    net, ours = make_pair(sizes, dtype, **options)
    x, t = make_data(rng, sizes, "squared_error", dtype)
    want_loss, want = ours.loss_and_grads(x, t)
    close(net.loss_and_grads(x, t)[0], want_loss, dtype)
    close(net.grads, want, dtype)
    net.forward(x)
    close(net.backward(t), want_loss, dtype)
    close(net.grads, want, dtype)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sizes", [[3, 2], [3, 4, 2]], ids=str)
def test_a_loss_of_ones_own(sizes, loss, rng, dtype):
    """Cubes of the outputs: their gradient is given, dx comes back."""
    net, ours = make_pair(sizes, dtype, loss=loss)
    x, _ = make_data(rng, sizes, loss, dtype)
    da = 3 * net.forward(x) ** 2
    ours.forward(x)
    close(net.backward_from(da), ours.backward_from(da), dtype)
    close(net.grads, ours.grads, dtype)


@pytest.mark.parametrize(
    "activation", ["sigmoid", "tanh", "relu", "leaky_relu", "identity"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_dense_matches_the_reference(activation, bias, rng, dtype):
    layer = siglin.Dense(6, 4, activation, bias=bias, dtype=dtype, seed=0)
    ours = reference.Dense(6, 4, activation, bias=bias, dtype=dtype, seed=0)
    x = rng.normal(size=(9, 6)).astype(dtype)
    da = rng.normal(size=(9, 4)).astype(dtype)
    close(layer.forward(x), ours.forward(x), dtype)
    close(layer.backward(da), ours.backward(da), dtype)
    close(layer.dw, ours.dw, dtype)
    layer.update(0.1)
    ours.update(0.1)
    close(layer.params, ours.params, dtype)
    assert (layer.b is None) == (layer.db is None) == (not bias)


def test_dense_keeps_the_derivative_where_it_is_saturated(dtype):
    layer = siglin.Dense(1, 1, bias=False, dtype=dtype)
    layer.w = [[30]]
    layer.forward(np.ones((1, 1), dtype))
    layer.backward(np.ones((1, 1), dtype))
    right = math.exp(-30) / (1 + math.exp(-30)) ** 2
    assert layer.dw[0, 0] == pytest.approx(right, rel=4 * float(np.finfo(dtype).eps))


def test_backward_replaces_the_gradients():
    net, x, t = siglin.Network([2, 1], seed=0), np.ones((1, 2)), np.ones((1, 1))
    net.loss_and_grads(x, t)
    once = net.grads.copy()
    net.loss_and_grads(x, t)
    assert_same_bits(net.grads, once)
    for _ in range(2):
        net.forward(x)
        net.backward(t)
    close(net.grads, once)


@pytest.mark.parametrize("loss", LOSSES)
def test_forward_has_the_bits_of_predict(loss, rng, dtype):
    sizes = [5, 8, 3]
    net = siglin.Network(sizes, loss=loss, dtype=dtype, seed=2)
    x, _ = make_data(rng, sizes, loss, dtype, rows=13)
    assert_same_bits(net.forward(x), net.predict(x))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(loss, rng, dtype):
    sizes = [7, 19, 3]
    net = siglin.Network(sizes, loss=loss, dtype=dtype, seed=2)
    x, _ = make_data(rng, sizes, loss, dtype, rows=70)
    want = net.predict(x)
    for start, stop in [(0, 1), (69, 70), (3, 8), (1, 34), (5, 69)]:
        assert_same_bits(net.predict(x[start:stop]), want[start:stop])


def test_predict_returns_a_fresh_array(rng):
    net, x = siglin.Network([2, 1], seed=0), rng.normal(size=(3, 2))
    one = net.predict(x)
    two = net.predict(x)
    assert not np.shares_memory(one, two)
    one.fill(7)
    assert (two != 7).all()


def test_targets_of_one_dimension(rng):
    x = rng.normal(size=(6, 3))
    net = siglin.Network([3, 1], seed=0)
    t = rng.uniform(size=6)
    assert net.loss(x, t) == net.loss(x, t[:, None]) == net.loss(x, t.tolist())

    classes = np.array([0, 3, 1, 2, 3, 0])
    one_hot = np.eye(4)[classes]
    net = siglin.Network([3, 5, 4], loss="cross_entropy", seed=0)
    want = net.loss_and_grads(x, one_hot)[0], net.grads.copy()
    for t in (classes, classes.astype(np.uint8), classes.astype(float), list(classes)):
        assert net.loss(x, t) == want[0]
        assert net.loss_and_grads(x, t)[0] == want[0]
        assert_same_bits(net.grads, want[1])
    net.forward(x)
    net.backward(classes)
    close(net.grads, want[1])
    one, two = copy.deepcopy(net), copy.deepcopy(net)
    one.fit(x, classes, epochs=3)
    two.fit(x, one_hot, epochs=3)
    assert_same_bits(one.params, two.params)


def test_targets_may_be_distributions(rng):
    net, ours = make_pair([3, 4], loss="cross_entropy")
    x, t = rng.normal(size=(6, 3)), rng.dirichlet(np.ones(4), size=6)
    close(net.loss(x, t), ours.loss(x, t))
    want = complex_step_gradient(lambda p: complex_loss(net, x, t, p), net.params)
    close(net.loss_and_grads(x, t)[1], want)


@pytest.mark.parametrize("output", ["tanh", "sigmoid", "softmax"])
def test_the_outputs_of_forward_are_the_callers(output, rng):
    """A hand-written loop may turn them into da in place."""
    loss = "cross_entropy" if output == "softmax" else "squared_error"
    net = siglin.Network([3, 4, 2], loss=loss, output_activation=output, seed=0)
    x, t = rng.normal(size=(6, 3)), rng.uniform(size=(6, 2))
    want_dx = net.backward_from(net.forward(x) - t)
    want = net.grads.copy()
    a = net.forward(x)
    a -= t
    assert_same_bits(net.backward_from(a), want_dx)
    assert_same_bits(net.grads, want)


def test_losses_of_large_logits_are_finite(dtype):
    """log(1 - sigmoid(1000)) is -inf; the loss comes from the logit."""
    net = siglin.Neuron(1, dtype=dtype)
    net.theta = [1000]
    x = np.ones((1, 1), dtype)
    assert net.loss(x, [0]) == 1000
    assert net.loss(x, [1]) == 0
    assert net.loss(-x, [1]) == 1000
    net.forward(x)
    assert net.backward([0]) == 1000
    soft = siglin.Network([1, 2], loss="cross_entropy", bias=False, dtype=dtype)
    soft.params = [1000, 0]
    assert soft.loss(x, [1]) == 1000
    assert soft.loss(x, [0]) == 0


def test_neuron():
    neuron = siglin.Neuron(3, bias=True)
    assert isinstance(neuron, siglin.Network)
    assert neuron.theta is neuron.params
    assert neuron.theta.tolist() == [0, 0, 0, 0]
    assert neuron.loss_name == "bce"
    neuron.theta = [1, 2, 3, 4]
    x = np.array([[1.0, -1.0, 0.5]])
    assert neuron.predict(x)[0, 0] == siglin.sigmoid(1 - 2 + 1.5 + 4)
    assert siglin.Neuron(3).n_params == 3


# ---- a loop written by hand ----------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_hand_written_loop_matches_fit(loss, rng):
    sizes = [3, 6, 2]
    x, t = make_data(rng, sizes, loss)
    fitted, by_call, by_step = (
        siglin.Network(sizes, loss=loss, seed=4) for _ in range(3)
    )
    losses = fitted.fit(x, t, lr=0.3, epochs=50).loss
    for epoch in range(50):
        by_call.loss_and_grads(x, t)
        by_call.update(0.3)
        by_step.forward(x)
        assert by_step.backward(t) == pytest.approx(losses[epoch], rel=1e-12)
        by_step.update(0.3)
    np.testing.assert_allclose(by_call.params, fitted.params, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_step.params, fitted.params, rtol=1e-12, atol=1e-12)


def test_loop_over_dense_matches_fit(rng):
    """Layers alone, with a da that carries the mean over the rows."""
    x, t = make_data(rng, [3, 4, 1], "squared_error")
    layers = [siglin.Dense(3, 4, seed=1), siglin.Dense(4, 1, "identity", seed=2)]
    net = siglin.Network([copy.deepcopy(la) for la in layers], loss="squared_error")
    for _ in range(20):
        a = layers[1].forward(layers[0].forward(x))
        layers[0].backward(layers[1].backward((a - t) / len(x)))
        for layer in layers:
            layer.update(0.1)
    net.fit(x, t, lr=0.1, epochs=20)
    params = np.concatenate([layer.params for layer in layers])
    np.testing.assert_allclose(params, net.params, rtol=1e-12, atol=1e-12)


# ---- copies --------------------------------------------------------------------------

COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    **{
        f"pickle {protocol}": (
            lambda thing, p=protocol: pickle.loads(pickle.dumps(thing, p))
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_copies_of_a_network(make_copy, rng):
    net = siglin.Network([3, 4, 2], activation="tanh", seed=1)
    x, t = make_data(rng, [3, 4, 2], "bce")
    net.fit(x, t, epochs=2, batch_size=3)
    net.loss_and_grads(x, t)
    twin = make_copy(net)
    assert type(twin) is siglin.Network
    assert repr(twin) == repr(net)
    assert_same_bits(twin.params, net.params)
    assert_same_bits(twin.grads, net.grads)
    assert not np.shares_memory(twin.params, net.params)
    assert not np.shares_memory(twin.grads, net.grads)
    # The views are views of the copy.
    for layer in twin.layers:
        assert np.shares_memory(layer.w, twin.params)
        assert np.shares_memory(layer.db, twin.grads)
        assert layer.network is twin
    twin.layers[0].w[0, 0] += 1
    assert twin.params[0] == net.params[0] + 1
    twin.params[0] -= 1
    # The generator goes on alike, and apart.
    twin.params = net.params
    twin.fit(x, t, epochs=3, batch_size=3)
    before = net.params.copy()
    assert not np.array_equal(twin.params, before)
    net.fit(x, t, epochs=3, batch_size=3)
    assert_same_bits(twin.params, net.params)
    # No forward pass came along.
    with pytest.raises(RuntimeError, match="forward comes first"):
        make_copy(net).backward(t)


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_copies_of_layers(make_copy):
    net = siglin.Network([2, 3, 1], seed=0)
    for layer in (siglin.Dense(2, 3, bias=False, seed=1), net.layers[0]):
        twin = make_copy(layer)
        assert repr(twin) == repr(layer)
        assert_same_bits(twin.params, layer.params)
        assert twin.network is None
        twin.w[0, 0] += 1
        assert twin.params[0] == twin.w[0, 0] == layer.w[0, 0] + 1
        assert siglin.Network([twin]).layers == (twin,)


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_copies_of_neurons_and_optimizers(make_copy):
    neuron = siglin.Neuron(2, bias=True)
    neuron.theta = [1, 2, 3]
    twin = make_copy(neuron)
    assert type(twin) is siglin.Neuron
    assert twin.theta.tolist() == [1, 2, 3]
    optimizer = siglin.Adam(beta1=0.8)
    x, t = np.ones((2, 2)), [0.0, 1.0]
    neuron.fit(x, t, epochs=2, optimizer=optimizer)
    other = make_copy(optimizer)
    assert repr(other) == repr(optimizer)
    assert other.step_count == 2
    one, two = make_copy(neuron), make_copy(neuron)
    one.fit(x, t, epochs=3, optimizer=optimizer)
    two.fit(x, t, epochs=3, optimizer=make_copy(other))
    assert_same_bits(one.params, two.params)


def test_a_subclass_keeps_its_attributes():
    twin = copy.deepcopy(Named(2))
    assert type(twin) is Named
    assert twin.name == "mine"


class Named(siglin.Neuron):
    """A network with an attribute of its own; at the top level, so that it pickles."""

    def __init__(self, n_in):
        super().__init__(n_in)
        self.name = "mine"


def test_copy_does_not_share_a_fit():
    """A copy made in the midst of a fit is free, and has whole weights."""
    net = siglin.Network([2, 1], seed=0)
    x, t = np.ones((2, 2)), [0.0, 1.0]
    copies = []
    net.fit(x, t, epochs=2, callback=lambda _: copies.append(copy.deepcopy(net)))
    copies[0].fit(x, t, epochs=1)
    assert_same_bits(copies[0].params, net.params)


def test_astype(rng):
    net = siglin.Network([3, 4, 2], activation="relu", seed=1)
    x, t = make_data(rng, [3, 4, 2], "bce")
    net.loss_and_grads(x, t)
    half = net.astype("float32")
    assert half.dtype == np.float32
    assert_same_bits(half.params, net.params.astype(np.float32))
    assert_same_bits(half.grads, net.grads.astype(np.float32))
    assert half.layers[0].w.dtype == np.float32
    assert np.shares_memory(half.layers[0].w, half.params)
    close(half.predict(x.astype(np.float32)), net.predict(x), np.float32)
    back = half.astype(np.float64)
    assert_same_bits(back.params, half.params.astype(np.float64))
    same = net.astype(np.float64)
    assert not np.shares_memory(same.params, net.params)
    assert type(siglin.Neuron(2).astype("float32")) is siglin.Neuron
    # The generator goes on alike.
    net.params = half.params.astype(np.float64)
    net.fit(x, t, epochs=2, batch_size=3)
    back.fit(x, t, epochs=2, batch_size=3)
    assert_same_bits(back.params, net.params)
    net.params[0] = 1e300
    with pytest.raises(ValueError, match="astype: params has a number too large"):
        net.astype("float32")


def test_repr_makes_another_one():
    names = vars(siglin)
    for thing in [
        siglin.Network([2, 3, 1], activation="tanh", seed=0),
        siglin.Network([4, 2], loss="cross_entropy", bias=False, dtype="float32"),
        siglin.Neuron(3, bias=True, dtype="float32"),
        siglin.Perceptron(3, bias=True),
        siglin.Dense(2, 3, "relu", bias=False),
        siglin.Adam(beta1=0.5),
        siglin.Momentum(),
        siglin.Nesterov(0.5),
        siglin.GradientDescent(),
    ]:
        assert repr(eval(repr(thing), dict(names))) == repr(thing)
    mixed = [siglin.Dense(1, 1, bias=False), siglin.Dense(1, 1)]
    assert "bias=[False, True]" in repr(siglin.Network(mixed))


# ---- threads and processes -----------------------------------------------------------


def run_threads(target, count):
    """Run the target in so many threads; return the exceptions."""
    errors = []

    def guarded(index):
        try:
            target(index)
        except Exception as error:  # noqa: BLE001  (handed to the test)
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_predict_from_many_threads(rng):
    net = siglin.Network([20, 30, 5], seed=0)
    x = rng.normal(size=(40, 20))
    want = net.predict(x)

    def predict(_):
        for _ in range(50):
            assert_same_bits(net.predict(x), want)

    assert run_threads(predict, 8) == []


def test_predict_while_another_thread_fits_is_never_a_mix(rng):
    """Each row must be the one of the weights before or after one of the fits."""
    net = siglin.Network([10, 200, 50], seed=0)
    x, t = make_data(rng, [10, 200, 50], "bce", rows=4)
    states = [net.params.copy()]
    seen, done = [], threading.Event()

    def predict(_):
        while not done.is_set():
            seen.append(net.predict(x).tobytes())

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        net.fit(x, t, epochs=5)
        states.append(net.params.copy())
    done.set()
    for thread in threads:
        thread.join()
    allowed = set()
    for state in states:
        net.params = state
        allowed.add(net.predict(x).tobytes())
    assert seen
    assert set(seen) <= allowed


def test_callback_sees_the_present_weights_and_others_the_old_ones():
    net, x, t = siglin.Neuron(1), np.ones((1, 1)), [1.0]
    inside, outside = [], []

    def look(_):
        inside.append(net.predict(x)[0, 0])
        assert run_threads(lambda _: outside.append(net.predict(x)[0, 0]), 1) == []

    net.fit(x, t, epochs=3, callback=look)
    assert outside == [0.5] * 3
    assert 0.5 < inside[0] < inside[1] < inside[2] == net.predict(x)[0, 0]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_fork_while_another_thread_fits(rng):
    """The child has a network that is free, with the weights from before the fit."""
    net = siglin.Network([10, 100, 10], seed=0)
    adam = siglin.Adam()
    x, t = make_data(rng, [10, 100, 10], "bce", rows=50)
    want = net.predict(x)
    stop = threading.Event()
    settings = {"callback": lambda _: stop.is_set(), "optimizer": adam}
    fit = threading.Thread(target=lambda: net.fit(x, t, epochs=10**9, **settings))
    fit.start()
    time.sleep(0.05)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            right = net.predict(x).tobytes() == want.tobytes()
            net.fit(x, t, epochs=1, optimizer=adam)  # which has forgotten that fit
            os._exit(0 if right and adam.step_count == 1 else 1)
        deadline = time.monotonic() + 10
        while (state := os.waitpid(child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.001)
        assert state[1] == 0
    stop.set()
    fit.join()
    assert not np.array_equal(net.predict(x), want)


def test_out_of_predict_is_filled(rng, dtype):
    net = siglin.Network([3, 2], dtype=dtype, seed=0)
    x = rng.normal(size=(4, 3)).astype(dtype)
    out = np.empty((4, 2), dtype)
    assert net.predict(x, out=out) is out
    assert_same_bits(out, net.predict(x))
    with_list = np.empty((1, 2), dtype)
    assert net.predict([[1, 2, 3]], out=with_list) is with_list
    assert_same_bits(with_list, net.predict([[1, 2, 3]]))
