"""The warning of hidden layers that cannot learn: given when true, and only then."""

import warnings

import numpy as np
import pytest
from sklearn import datasets

import siglin
from siglin import reference
from siglin._training.saturation import LEAST_WORK, loss_of_constant

# name: its data, the output's size, the loss
DATA = {
    "iris": (datasets.load_iris, 3, "cross_entropy"),
    "wine": (datasets.load_wine, 3, "cross_entropy"),
    "cancer": (datasets.load_breast_cancer, 1, "bce"),
    "diabetes": (datasets.load_diabetes, 1, "squared_error"),
}


def load(name, *, scaled):
    x, y = DATA[name][0](return_X_y=True)
    if scaled:
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, y / 100 if name == "diabetes" else y


def network(name, n_in, activation, seed=0):
    _, n_out, loss = DATA[name]
    sizes = [n_in, 10, 10, n_out]
    return siglin.Network(sizes, activation=activation, loss=loss, seed=seed)


def fit(net, x, t, lr, optimizer="gd", epochs=300):
    return net.fit(x, t, lr=lr, optimizer=optimizer, epochs=epochs, batch_size=32)


def test_fit_many_looks_at_each_network():
    x, t = load("cancer", scaled=False)
    nets = [network("cancer", x.shape[1], f) for f in ("sigmoid", "leaky_relu", "tanh")]
    settings = {"lr": [0.1, 1e-7, 0.1], "epochs": 300, "batch_size": 32}
    rows = [None, None, np.arange(0, len(x), 2)]
    with pytest.warns(siglin.SaturationWarning) as caught:
        siglin.fit_many(nets, x, t, rows=rows, **settings)
    assert [str(one.message).split(":")[1] for one in caught] == [
        " network 0",
        " network 2",
    ]
    single = network("cancer", x.shape[1], "tanh")
    with pytest.warns(siglin.SaturationWarning) as alone:
        fit(single, x[::2], t[::2], 0.1)
    told = str(caught[1].message).removeprefix("fit_many: network 2: ")
    assert told == str(alone[0].message).removeprefix("fit: ")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize(("optimizer", "lr"), [("gd", 0.05), ("adam", 0.01)])
def test_no_word_of_a_network_that_learns(name, activation, optimizer, lr):
    """Warnings are errors here. Some of these end with units that decide hard."""
    x, t = load(name, scaled=True)
    net = network(name, x.shape[1], activation)
    losses = fit(net, x, t, lr, optimizer, epochs=1000).loss
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["wine", "cancer"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_inputs_in_the_hundreds(name, activation):
    x, t = load(name, scaled=False)
    net = network(name, x.shape[1], activation)
    message = rf"of the 10 units of hidden layer 1 \({activation}\) are saturated"
    with pytest.warns(siglin.SaturationWarning, match=message) as caught:
        fit(net, x, t, 0.1)
    assert len(caught) == 1
    assert caught[0].filename.endswith("test_saturation.py")


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_steps_that_are_too_large(activation):
    x, t = load("wine", scaled=True)
    net = network("wine", x.shape[1], activation)
    with pytest.warns(siglin.SaturationWarning, match="a smaller lr"):
        fit(net, x, t, 30)


def test_a_wild_start_in_the_second_layer():
    x, t = load("iris", scaled=True)
    net = network("iris", 4, "sigmoid")
    net.layers[1].b[:] = 100
    with pytest.warns(siglin.SaturationWarning, match=r"10 of the 10 .* layer 2 "):
        fit(net, x, t, 0.1, epochs=500)


def test_dead_relus_only_where_all_are():
    x, t = load("cancer", scaled=True)
    net = network("cancer", 30, "relu")
    net.layers[0].b[1:] = -100
    net.layers[0].w[:, 0] = 1e-3
    fit(net, x, t, 1e-4)
    net.layers[0].b[0] = -100
    with pytest.warns(siglin.SaturationWarning, match=r"\(relu\) are zero"):
        fit(net, x, t, 1e-4)


def test_a_short_fit_is_not_looked_at():
    x, t = load("wine", scaled=False)
    net = network("wine", 13, "sigmoid")
    epochs = int(LEAST_WORK / (net.n_params * len(x)))
    fit(net, x, t, 0.1, epochs=epochs)
    with pytest.warns(siglin.SaturationWarning):
        fit(net, x, t, 0.1, epochs=epochs + 1)


def test_a_fit_that_diverges_says_only_that():
    x, t = load("diabetes", scaled=True)
    net = network("diabetes", 10, "relu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(siglin.DivergenceError):
            fit(net, 100 * x, t, 1e6, epochs=10_000)


@pytest.mark.parametrize("loss", ["bce", "squared_error", "cross_entropy"])
def test_loss_of_the_best_constant(loss, rng):
    """It is the reference's loss of the mean, and of no other constant a lower one."""
    t = rng.uniform(size=(30, 3))
    if loss == "cross_entropy":
        t /= t.sum(axis=1, keepdims=True)
    mean = t.mean(axis=0)
    logits = {
        "bce": np.log(mean / (1 - mean)),
        "cross_entropy": np.log(mean),
        "squared_error": mean,
    }[loss]
    of_loss = getattr(reference.losses, loss)

    def at(constant):
        return of_loss(np.tile(constant, (30, 1)), t).sum() / 30

    want = at(logits)
    assert loss_of_constant(loss, t) == pytest.approx(want, rel=1e-12)
    assert all(at(logits + rng.normal(scale=0.1, size=3)) > want for _ in range(20))
    hard = np.eye(3)[[0] * 30]
    assert loss_of_constant(loss, hard) == 0
