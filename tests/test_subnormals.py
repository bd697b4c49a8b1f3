"""Inside a network subnormal numbers count as 0; outputs and functions keep them."""

import numpy as np
import pytest

import siglin


def tiny(dtype):
    """Return a subnormal number."""
    return float(np.finfo(dtype).tiny) / 64


def logit_of(a, dtype):
    """Return where the sigmoid is about a."""
    return dtype.type(np.log(a)) if dtype == np.float32 else np.log(a)


def is_subnormal(value, dtype):
    return 0 < abs(float(value)) < float(np.finfo(dtype).tiny)


@pytest.mark.parametrize("rows", [1, 3, 400])
def test_outputs_keep_their_tails(rows, dtype, target):
    net = siglin.Neuron(1, dtype=dtype)
    net.params = [1.0]
    z = np.full((rows, 1), logit_of(tiny(dtype), dtype), dtype)
    for a in (net.predict(z), net.forward(z), net.predict(z.tolist())):
        assert all(is_subnormal(one, dtype) for one in a.ravel())
        np.testing.assert_array_equal(a, siglin.sigmoid(z))


@pytest.mark.parametrize("rows", [1, 3, 400])
def test_hidden_tails_count_as_zero(rows, dtype, target):
    """2^40 times a subnormal number shows whether it was there."""
    net = siglin.Network([1, 1, 1], loss="squared_error", bias=False, dtype=dtype)
    net.params = [1.0, 2.0**40]
    x = np.full((rows, 1), logit_of(tiny(dtype), dtype), dtype)
    hidden = siglin.sigmoid(x)
    assert all(is_subnormal(one, dtype) for one in hidden.ravel())
    assert not net.predict(x).any()
    assert not net.forward(x).any()
    layer = siglin.Dense(1, 1, bias=False, dtype=dtype)
    layer.w = [[1.0]]
    assert all(is_subnormal(one, dtype) for one in layer.forward(x).ravel())


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("rows", [1, 3, 400])
def test_training_leaves_no_subnormal_number(rows, optimizer, dtype, target):
    """In parameters, moments or gradients, whatever they begin with."""
    net = siglin.Network([2, 3, 1], dtype=dtype, seed=0)
    net.params = np.full(net.n_params, tiny(dtype), dtype)
    x = np.full((rows, 2), tiny(dtype), dtype)
    t = np.full((rows, 1), 0.5, dtype)
    method = siglin._training.optimizers.OPTIMIZERS[optimizer]()
    net.fit(x, t, lr=0.1, epochs=3, optimizer=method)
    moments = method.moments
    for values in (net.params, net.loss_and_grads(x, t)[1], moments):
        if values is not None:
            assert not any(is_subnormal(one, dtype) for one in values)


def test_learn_one_leaves_no_subnormal_number(dtype, target):
    net = siglin.Network([2, 3, 1], dtype=dtype, seed=0)
    net.params = np.full(net.n_params, tiny(dtype), dtype)
    net.learn_one(np.full(2, tiny(dtype), dtype), 0.25)
    assert not any(is_subnormal(one, dtype) for one in net.params)
