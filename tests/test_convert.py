"""Weights from and to scikit-learn, PyTorch and Keras' lists: by value, and what is refused."""

import sys

import numpy as np
import pytest

import siglin
import stand_in_torch
from helpers import assert_same_bits
from siglin import DTypeError, ShapeError
from siglin.convert import from_sklearn, from_torch, to_sklearn, to_torch

sklearn_networks = pytest.importorskip("sklearn.neural_network")
MLPClassifier = sklearn_networks.MLPClassifier
MLPRegressor = sklearn_networks.MLPRegressor


@pytest.fixture
def x(rng):
    return rng.normal(size=(30, 4))


def close(got, want):
    tolerance = 1e-12 if want.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# Keras-style lists.


def test_weights_come_as_keras_orders_them_and_go_back(dtype):
    net = siglin.Network([4, 3, 2], dtype=dtype, seed=1)
    weights = net.get_weights()
    assert [w.shape for w in weights] == [(4, 3), (3,), (3, 2), (2,)]
    assert_same_bits(weights[0], net.layers[0].w)
    assert_same_bits(weights[3], net.layers[1].b)
    other = siglin.Network([4, 3, 2], dtype=dtype, seed=2)
    other.set_weights(weights)
    assert_same_bits(other.params, net.params)
    weights[0][:] = 7  # neither side is shared
    other.params[:] = 5
    assert not np.isin(net.params, (5, 7)).any()


def test_layers_without_bias_have_no_entry():
    first = siglin.Dense(2, 3, bias=False, seed=1)
    net = siglin.Network([first, siglin.Dense(3, 1, seed=2)])
    assert [w.shape for w in net.get_weights()] == [(2, 3), (3, 1), (1,)]
    net.set_weights([np.ones((2, 3)), [[2], [3], [4]], [5.0]])
    assert net.params.tolist() == [1.0] * 6 + [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w: w[:3], ValueError, r"4 arrays \(layers.0.w, layers.0.b, .*got 3"),
        (lambda w: [*w, w[0]], ValueError, "got 5"),
        (
            lambda w: [w[0].T, *w[1:]],
            ShapeError,
            r"weights\[0\] .*\(4, 3\) as layers.0",
        ),
        (
            lambda w: [*w[:3], [w[3]]],
            ShapeError,
            r"weights\[3\] must have shape \(2,\)",
        ),
        (lambda w: [*w[:3], w[3].astype("float32")], DTypeError, "got float32"),
        (lambda w: [*w[:3], ["a", "b"]], TypeError, r"weights\[3\]"),
        (lambda w: [*w[:3], None], TypeError, r"weights\[3\] must be an array"),
    ],
)
def test_a_wrong_list_changes_nothing(change, error, message):
    net = siglin.Network([4, 3, 2], seed=1)
    before = net.params.copy()
    with pytest.raises(error, match=f"set_weights: .*{message}"):
        net.set_weights(change([w + 1 for w in net.get_weights()]))
    assert_same_bits(net.params, before)


# scikit-learn.


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
def test_an_mlp_and_its_network_predict_alike(x, dtype, activation, hidden):
    x = x.astype(dtype)
    options = {"hidden_layer_sizes": hidden, "activation": activation, "max_iter": 3}
    options |= {"random_state": 1, "batch_size": 10}
    classes = np.arange(30) % 3
    labels = np.column_stack([x[:, 0] > 0, x[:, 1] > x[:, 2]])

    two = MLPClassifier(**options).partial_fit(x, x[:, 0] > 0, classes=[False, True])
    net = from_sklearn(two, seed=3)
    assert (net.loss_name, net.dtype) == ("bce", dtype)
    close(net.predict(x)[:, 0], two.predict_proba(x)[:, 1])

    several = MLPClassifier(**options).partial_fit(x, classes, classes=[0, 1, 2])
    net = from_sklearn(several)
    assert net.loss_name == "cross_entropy"
    close(net.predict(x), several.predict_proba(x))

    with pytest.warns(Warning, match="Maximum iterations"):
        multilabel = MLPClassifier(**options).fit(x, labels)
    net = from_sklearn(multilabel)
    assert net.loss_name == "bce"
    close(net.predict(x), multilabel.predict_proba(x))

    one = MLPRegressor(**options).partial_fit(x, x[:, 0])
    net = from_sklearn(one)
    assert net.loss_name == "squared_error"
    close(net.predict(x)[:, 0], one.predict(x))

    several = MLPRegressor(**options).partial_fit(x, x[:, :2])
    close(from_sklearn(several).predict(x), several.predict(x))


def test_a_network_shares_nothing_with_its_mlp(x):
    mlp = MLPRegressor(hidden_layer_sizes=[5]).partial_fit(x, x[:, 0])
    net = from_sklearn(mlp)
    before = [w.copy() for w in (*mlp.coefs_, *mlp.intercepts_)]
    net.fit(x, x[:, 0], epochs=2)
    for w, old in zip((*mlp.coefs_, *mlp.intercepts_), before, strict=True):
        assert_same_bits(w, old)
    to_sklearn(net, mlp)
    kept = net.params.copy()
    mlp.partial_fit(x, x[:, 0])
    assert_same_bits(net.params, kept)


NETWORKS = {
    "two classes": {"layers": [4, 5, 1], "activation": "tanh"},
    "multilabel": {"layers": [4, 5, 3, 2], "activation": "relu"},
    "several": {"layers": [4, 5, 3], "loss": "cross_entropy"},
    "one": {"layers": [4, 5, 1], "loss": "squared_error", "activation": "identity"},
    "two": {"layers": [4, 2], "loss": "squared_error", "bias": False},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_new_mlp_predicts_what_the_network_does(x, dtype, name):
    x = x.astype(dtype)
    net = siglin.Network(**NETWORKS[name], dtype=dtype, seed=1)
    net.params += 0.1
    mlp = to_sklearn(net)
    want = net.predict(x)
    if net.loss_name == "squared_error":
        got = mlp.predict(x).reshape(want.shape)
    else:
        got = mlp.predict_proba(x)[:, -want.shape[1] :]
        picked = want.argmax(axis=1) if name == "several" else (want > 0.5) * 1
        np.testing.assert_array_equal(mlp.predict(x).reshape(picked.shape), picked)
    close(got, want)
    assert mlp.coefs_[0].dtype == dtype
    assert mlp.get_params() == (
        type(mlp)().get_params()
        | {
            "hidden_layer_sizes": [layer.n_out for layer in net.layers[:-1]],
            "activation": mlp.activation,
        }
    )
    back = from_sklearn(mlp)
    close(back.predict(x), want)
    mlp.partial_fit(x, mlp.predict(x))  # it trains on as any MLP


def test_classes_name_the_outputs(x):
    net = siglin.Network([4, 1], seed=1)
    mlp = to_sklearn(net, classes=["no", "yes"])
    want = np.where(net.predict(x)[:, 0] > 0.5, "yes", "no")
    assert mlp.predict(x).tolist() == want.tolist()


def test_a_given_mlp_takes_the_weights_over(x):
    mlp = MLPClassifier([5], activation="tanh", random_state=0)
    mlp.partial_fit(x, np.arange(30) % 3, classes=[0, 1, 2])
    net = siglin.Network(
        [4, 5, 3], activation="tanh", loss="cross_entropy", bias=False, seed=1
    )
    assert to_sklearn(net, mlp) is mlp
    close(mlp.predict_proba(x), net.predict(x))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: from_sklearn(MLPClassifier()),
            TypeError,
            "MLPClassifier has no coefs_",
        ),
        (lambda: from_sklearn(None), TypeError, "this NoneType has no"),
        (lambda: to_sklearn(siglin.Perceptron(2)), TypeError, "got Perceptron"),
        (
            lambda: to_sklearn(
                siglin.Network([2, 3, 4, 1], activation=["relu", "tanh"])
            ),
            ValueError,
            "one activation for all hidden layers, got relu, tanh",
        ),
        (
            lambda: to_sklearn(siglin.Network([2, 3, 1], activation="leaky_relu")),
            ValueError,
            "activation must be one of .*; got 'leaky_relu'",
        ),
        (
            lambda: to_sklearn(siglin.Network([2, 2], loss="cross_entropy")),
            ValueError,
            "one logistic output for two classes",
        ),
        (
            lambda: to_sklearn(
                siglin.Network([2, 1], loss="squared_error", output_activation="tanh")
            ),
            ValueError,
            "has no 'tanh' output with the loss 'squared_error'",
        ),
        (
            lambda: to_sklearn(siglin.Network([2, 1]), classes=[0, 1, 2]),
            ShapeError,
            r"classes must have shape \(2,\)",
        ),
        (
            lambda: to_sklearn(siglin.Network([2, 1]), classes=[1, 0]),
            ValueError,
            "in ascending order",
        ),
        (
            lambda: to_sklearn(siglin.Network([2, 2]), classes=[0, 1]),
            ValueError,
            "classes are for one output of classes",
        ),
    ],
)
def test_what_scikit_learn_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=f"sklearn: .*{message}"):
        make()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": [4, 6, 1]}, ShapeError, r"shapes \[\(4, 5\), \(5, 1\)\]"),
        (
            {"layers": [4, 5, 1], "activation": "tanh"},
            ValueError,
            "'relu', the network",
        ),
        (
            {"layers": [4, 5, 1], "activation": "relu", "loss": "squared_error"},
            ValueError,
            "output is 'logistic', the network's is 'identity'",
        ),
    ],
)
def test_an_mlp_of_another_kind_is_left_alone(x, options, error, message):
    mlp = MLPClassifier([5]).partial_fit(x, np.arange(30) % 2, classes=[0, 1])
    before = mlp.coefs_[0].copy()
    with pytest.raises(error, match=message):
        to_sklearn(siglin.Network(**{"activation": "relu"} | options), mlp)
    assert_same_bits(mlp.coefs_[0], before)
    with pytest.raises(ValueError, match="those of the given estimator"):
        to_sklearn(siglin.Network([4, 5, 1]), mlp, classes=[0, 1])


def test_an_output_that_siglin_lacks_is_named(x):
    mlp = MLPRegressor(hidden_layer_sizes=[5]).partial_fit(x, x[:, 0])
    mlp.out_activation_ = "cloglog"
    with pytest.raises(ValueError, match=r"from_sklearn: .*; got 'cloglog'"):
        from_sklearn(mlp)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    with pytest.raises(ImportError, match=r"pip install \"siglin\[sklearn\]\""):
        to_sklearn(siglin.Network([2, 1]))


# PyTorch, and what stands in for it where it is not installed.


@pytest.fixture(params=["stand-in", "torch"])
def torch(request, monkeypatch):
    if request.param == "torch":
        return pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", stand_in_torch)
    return stand_in_torch


def output(torch, module, x):
    """Return what a module makes of x."""
    return module(torch.from_numpy(x)).detach().numpy()


TORCH_NETWORKS = {
    "sigmoid": {"layers": [4, 5, 1]},
    "every hidden": {
        "layers": [4, 5, 6, 3, 4, 2],
        "activation": ["tanh", "relu", "leaky_relu", "identity"],
        "loss": "squared_error",
    },
    "softmax": {"layers": [4, 5, 3], "loss": "cross_entropy"},
    "no bias": {"layers": [4, 3, 1], "bias": False},
    "tanh output": {
        "layers": [4, 2],
        "loss": "squared_error",
        "output_activation": "tanh",
    },
}


@pytest.mark.parametrize("name", TORCH_NETWORKS)
def test_a_module_predicts_what_the_network_does_and_back(torch, x, dtype, name):
    x = x.astype(dtype)
    net = siglin.Network(**TORCH_NETWORKS[name], dtype=dtype, seed=1)
    net.params += 0.1
    module = to_torch(net)
    close(output(torch, module, x), net.predict(x))
    loss = "squared_error" if net.loss_name == "squared_error" else None
    back = from_torch(module, loss=loss, seed=2)
    assert repr(back) == repr(net)
    assert_same_bits(back.params, net.params)
    back.params += 1  # nothing is shared
    close(output(torch, module, x), net.predict(x))


@pytest.mark.parametrize(
    ("loss", "n_out", "function"),
    [("bce", 2, "Sigmoid"), ("cross_entropy", 3, "Softmax")],
)
def test_logits_go_with_their_loss(torch, x, loss, n_out, function):
    net = siglin.Network([4, 5, n_out], loss=loss, seed=1)
    module = to_torch(net, logits=True)
    ended = getattr(torch.nn, function)(*([1] if function == "Softmax" else []))
    close(output(torch, torch.nn.Sequential(module, ended), x), net.predict(x))
    back = from_torch(module, loss=loss)
    assert repr(back) == repr(net)
    assert from_torch(module).layers[-1].activation == "identity"
    net.params *= 0.5
    assert to_torch(net, module) is module
    assert_same_bits(from_torch(module, loss=loss).params, net.params)


def test_sequentials_within_and_identities_are_read(torch, x):
    nn = torch.nn
    block = nn.Sequential(nn.Identity(), nn.Linear(4, 3), nn.Identity(), nn.Tanh())
    module = nn.Sequential(block, nn.Linear(3, 2, bias=False))
    net = from_torch(module)
    assert [layer.activation for layer in net.layers] == ["tanh", "identity"]
    assert [layer.bias for layer in net.layers] == [True, False]
    assert net.dtype == np.float32
    close(net.predict(x.astype("float32")), output(torch, module, x.astype("float32")))
    alone = nn.Linear(4, 2)
    close(
        from_torch(alone).predict(x.astype("float32")),
        output(torch, alone, x.astype("float32")),
    )


@pytest.mark.parametrize("trains", [True, False])
def test_dropout_and_flatten_change_no_prediction(torch, x, trains):
    nn = torch.nn
    x = x.astype("float32")
    linears = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 1)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.2),
        linears[0],
        nn.Dropout(),
        nn.Tanh(),
        nn.AlphaDropout(0.1),
        linears[1],
        nn.Flatten(1),
        nn.ReLU(),
        nn.Sequential(nn.Dropout(0.9), linears[2]),
    )
    if not trains:
        module.eval()
    net = from_torch(module)
    assert [layer.activation for layer in net.layers] == ["tanh", "relu", "identity"]
    predicted = net.predict(x)
    close(predicted, output(torch, module.eval(), x))
    close(predicted, output(torch, module, x.reshape(-1, 2, 2)))
    net.params *= 0.5
    assert to_torch(net, module) is module
    close(net.predict(x), output(torch, module, x))


def test_a_flatten_that_mixes_rows_is_refused(torch):
    linear = torch.nn.Linear(4, 3)
    for flatten in (torch.nn.Flatten(0), torch.nn.Flatten(1, 2)):
        with pytest.raises(ValueError, match="Flatten must have start_dim = 1"):
            from_torch(torch.nn.Sequential(flatten, linear))


def test_a_given_module_takes_the_weights_over(torch, x):
    nn = torch.nn
    x = x.astype("float32")
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1), nn.Sigmoid())
    net = siglin.Network([4, 3, 1], activation="tanh", bias=False, dtype="float32")
    assert to_torch(net, module) is module
    close(output(torch, module, x), net.predict(x))
    assert not module[0].bias.detach().numpy().any()


def modules(nn):
    """Return modules that no network can be, with the reason."""
    first = nn.Linear(4, 3)
    return [
        ("must be a torch.nn.Sequential, got list", TypeError, [first]),
        ("has no Linear", ValueError, nn.Sequential()),
        ("GELU", ValueError, nn.Sequential(first, nn.GELU())),
        ("must come after a Linear", ValueError, nn.Sequential(nn.Tanh(), first)),
        (
            "must come after a Linear",
            ValueError,
            nn.Sequential(first, nn.Tanh(), nn.Tanh()),
        ),
        (
            "negative_slope = 0.1, got 0.01",
            ValueError,
            nn.Sequential(first, nn.LeakyReLU()),
        ),
        ("must have dim = 1", ValueError, nn.Sequential(first, nn.Softmax(dim=0))),
        (
            "output layer only",
            ValueError,
            nn.Sequential(first, nn.Softmax(dim=1), nn.Linear(3, 1)),
        ),
    ]


def test_what_a_network_cannot_be_is_refused(torch):
    for message, error, module in modules(torch.nn):
        with pytest.raises(error, match=message):
            from_torch(module)
    half = torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=torch.float16))
    with pytest.raises(DTypeError, match=r"got float16; module.float\(\) converts it"):
        from_torch(half)
    tanh = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    with pytest.raises(ValueError, match="'bce' needs output_activation 'sigmoid'"):
        from_torch(tanh, loss="bce")
    with pytest.raises(ValueError, match="from_torch: loss must be one of"):
        from_torch(tanh, loss="mae")
    uneven = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(2, 1))
    with pytest.raises(ShapeError, match="must have n_in = 3"):
        from_torch(uneven)


def test_a_module_of_another_kind_is_left_alone(torch):
    nn, double = torch.nn, {"dtype": torch.float64}
    net = siglin.Network([4, 3, 1], activation="tanh", seed=1)
    linear = nn.Linear(3, 1, **double)
    cases = [
        (ShapeError, "shapes", nn.Sequential(nn.Linear(4, 3, **double))),
        (DTypeError, "is float32", nn.Sequential(nn.Linear(4, 3), nn.Tanh(), linear)),
        (
            ValueError,
            "has 'relu', the network 'tanh'",
            nn.Sequential(nn.Linear(4, 3, **double), nn.ReLU(), linear),
        ),
        (
            ValueError,
            "Linear 0 has no bias",
            nn.Sequential(nn.Linear(4, 3, bias=False, **double), nn.Tanh(), linear),
        ),
    ]
    for error, message, module in cases:
        before = [w.weight.detach().numpy().copy() for w in (module[0], linear)]
        with pytest.raises(error, match=f"to_torch: .*{message}"):
            to_torch(net, module)
        for w, old in zip((module[0], linear), before, strict=True):
            assert_same_bits(w.weight.detach().numpy(), old)
    with pytest.raises(ValueError, match="logits is for a new module"):
        to_torch(net, nn.Sequential(linear), logits=True)
    with pytest.raises(ValueError, match="no module for 'step'"):
        to_torch(siglin.Network([2, 2, 1], activation="step"))
    with pytest.raises(TypeError, match="net must be a Network, got Dense"):
        to_torch(siglin.Dense(2, 1))


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "squared_error"])
def test_from_the_same_weights_pytorch_takes_the_same_steps(x, loss, optimizer):
    torch = pytest.importorskip("torch")
    n_out = 3
    net = siglin.Network([4, 5, n_out], activation="tanh", loss=loss, seed=1)
    module = to_torch(net, logits=True)
    t = np.eye(n_out)[np.arange(30) % n_out]
    criterion, factor = {  # torch's mean is over the outputs too
        "bce": (torch.nn.BCEWithLogitsLoss(), n_out),
        "cross_entropy": (torch.nn.CrossEntropyLoss(), 1),
        "squared_error": (torch.nn.MSELoss(), n_out / 2),
    }[loss]
    make = {
        "gd": torch.optim.SGD,
        "momentum": lambda *args, **lr: torch.optim.SGD(*args, **lr, momentum=0.9),
        "nesterov": lambda *args, **lr: torch.optim.SGD(
            *args, **lr, momentum=0.9, nesterov=True
        ),
        "adam": torch.optim.Adam,
    }[optimizer]
    steps = make(module.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        steps.zero_grad()
        value = factor * criterion(module(torch.from_numpy(x)), torch.from_numpy(t))
        value.backward()
        losses.append(value.item())
        steps.step()
    history = net.fit(x, t, lr=0.05, epochs=20, optimizer=optimizer)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    np.testing.assert_allclose(
        net.params, from_torch(module, loss=loss).params, rtol=1e-8, atol=1e-10
    )


def test_the_random_numbers_of_pytorch_are_not_touched():
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    to_torch(siglin.Network([4, 3, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_estimator_with_an_activation_for_each_layer(x):
    estimators = pytest.importorskip("siglin.estimators")
    mlp = estimators.MLPRegressor(
        hidden_layer_sizes=(5, 3), activation=["tanh", "relu"], max_iter=2
    )
    with pytest.warns(UserWarning, match="max_iter"):
        mlp.fit(x, x[:, 0])
    net = from_sklearn(mlp)
    assert [layer.activation for layer in net.layers] == ["tanh", "relu", "identity"]
    close(net.predict(x)[:, 0], mlp.predict(x))
    with pytest.raises(ValueError, match="'relu', 'tanh', the network's is 'tanh'"):
        to_sklearn(
            siglin.Network([4, 5, 3, 1], activation="tanh", loss="squared_error"), mlp
        )


def test_without_pytorch_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="to_torch needs PyTorch: pip install torch"):
        to_torch(siglin.Network([2, 1]))
