"""A setting that a network's dtype rounds out of its range is named, not trained with."""

import re

import numpy as np
import pytest

import siglin

X, T = np.array([[1.0], [-2.0]]), np.array([1.0, 0.0])

# Out of range in float32, in range in float64.
SETTINGS = [
    (siglin.Adam(eps=1e-46), "eps=1e-46"),
    (siglin.Adam(eps=1e-40), "eps=1e-40"),  # subnormal: 0 inside a network
    (siglin.Adam(beta2=1 - 1e-12), "beta2=0.999999999999"),
    (siglin.Adam(beta1=1 - 1e-12), "beta1=0.999999999999"),
    (siglin.Momentum(1 - 1e-9), "momentum=0.999999999"),
    (siglin.Nesterov(1 - 1e-9), "momentum=0.999999999"),
]
NAMES = [f"{type(s).__name__} {n}" for s, n in SETTINGS]


@pytest.mark.parametrize(("optimizer", "text"), SETTINGS, ids=NAMES)
def test_fit_names_the_setting_and_the_dtype(optimizer, text):
    net = siglin.Neuron(1, dtype="float32")
    message = rf"{type(optimizer).__name__}: {re.escape(text)}.* float32"
    with pytest.raises(ValueError, match=message):
        net.fit(X.tolist(), T.tolist(), optimizer=optimizer)
    assert (net.params == 0).all()
    assert optimizer.moments is None
    assert optimizer.step_count == 0


@pytest.mark.parametrize(("optimizer", "text"), SETTINGS, ids=NAMES)
def test_fit_many_names_the_setting_and_the_dtype(optimizer, text):
    nets = [siglin.Neuron(1, dtype="float32") for _ in range(2)]
    with pytest.raises(ValueError, match=rf"{re.escape(text)}.* float32"):
        siglin.fit_many(nets, X.tolist(), T.tolist(), optimizer=["adam", optimizer])
    assert all((net.params == 0).all() for net in nets)


@pytest.mark.parametrize(("optimizer", "text"), SETTINGS, ids=NAMES)
def test_the_same_setting_trains_in_float64(optimizer, text):
    del text
    net = siglin.Neuron(1)
    net.fit(X, T, epochs=3, optimizer=optimizer)
    assert np.isfinite(net.params).all()
    optimizer.reset()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_eps_that_is_named_trains(dtype):
    """At the first step too, where eps is multiplied by sqrt(1 - beta2)."""
    with pytest.raises(ValueError, match="at least") as caught:
        siglin.Neuron(1, dtype=dtype).fit(
            X.tolist(), T.tolist(), optimizer=siglin.Adam(eps=1e-310)
        )
    least = float(re.search(r"at least (\S+)", str(caught.value))[1])
    net = siglin.Network([2, 1], dtype=dtype, init="zeros", bias=False)
    rows = np.array([[1, 0], [-2, 0]], dtype)  # a gradient of 0: m / eps is 0 / eps
    net.fit(rows, T.tolist(), epochs=3, optimizer=siglin.Adam(eps=least * 1.01))
    assert np.isfinite(net.params).all()
    assert net.params[1] == 0
