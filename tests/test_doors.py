"""Every door to training: an option does there what it does in Network.fit.

The doors are those of the estimators and of Network.fit itself, for the options that are
written in Python alone. An estimator is compared to the bit with a network that starts
from the same parameters, or with Network.fit given by hand what the option does by itself.
"""

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core

estimators = pytest.importorskip("siglin.estimators", exc_type=ImportError)
from sklearn.exceptions import ConvergenceWarning

ROWS = 40


@pytest.fixture
def data(rng):
    x = rng.normal(size=(ROWS, 3))
    return x, (x.sum(axis=1) > 0).astype(np.float64)


def network(**options):
    return siglin.Network([3, 4, 1], activation="tanh", seed=5, **options)


# ---- Network.fit: validation_split ---------------------------------------------------


def split_by_hand(share, seed):
    """Return the rows to train on and those held out, and the generator after it."""
    words = _core.seed_generator(seed)
    drawn = _core.permutation(words, ROWS)
    held = round(share * ROWS)
    return np.sort(drawn[held:]), np.sort(drawn[:held]), words


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_split_is_validation_data_of_those_rows(
    batch_size, weighted, data, rng
):
    x, t = data
    settings = {"lr": 0.3, "epochs": 12, "batch_size": batch_size}
    weights = rng.uniform(0.5, 2, size=ROWS) if weighted else None
    net = network()
    history = net.fit(
        x, t, **settings, seed=9, validation_split=0.25, sample_weight=weights
    )

    train, held, words = split_by_hand(0.25, 9)
    other = network()
    other._generator[...] = words
    expected = other.fit(
        x[train],
        t[train],
        **settings,
        sample_weight=None if weights is None else weights[train],
        validation_data=(x[held], t[held]),
    )
    assert_same_bits(net.params, other.params)
    assert history.loss == expected.loss
    assert len(history.validation_loss) == 12
    if not weighted:
        assert history.validation_loss == expected.validation_loss
    else:
        z = other.predict(x[held]).ravel()
        each = -(t[held] * np.log(z) + (1 - t[held]) * np.log(1 - z))
        last = np.average(each, weights=weights[held])
        np.testing.assert_allclose(history.validation_loss[-1], last, rtol=1e-12)


def test_validation_split_goes_on_with_the_networks_generator(data):
    x, t = data
    net, other = network(), network()
    before = net._generator.copy()
    for one in (net, other):
        for _ in range(2):
            one.fit(x, t, epochs=2, batch_size=8, validation_split=0.2)
    assert_same_bits(net.params, other.params)
    assert net._generator.tolist() == other._generator.tolist() != before.tolist()


@pytest.mark.parametrize(("share", "held"), [(0.001, 1), (0.1, 4), (0.999, ROWS - 1)])
def test_a_split_leaves_rows_on_both_sides(share, held, data):
    x, t = data
    seen = []
    net = network()
    net.fit(
        x,
        t,
        batch_size=1,
        validation_split=share,
        callback=lambda state: seen.append(state.step),
    )
    assert seen == [ROWS - held]


def test_a_split_that_cannot_be_made_is_refused_and_changes_nothing(data):
    x, t = data
    net = network()
    before, words = net.params.copy(), net._generator.copy()
    with pytest.raises(siglin.ShapeError, match="at least two rows"):
        net.fit(x[:1], t[:1], validation_split=0.5)
    with pytest.raises(ValueError, match="validation_data or validation_split"):
        net.fit(x, t, validation_split=0.5, validation_data=(x, t))
    with pytest.raises(ValueError, match=r"validation_split must be in \[0, 1\)"):
        net.fit(x, t, validation_split=1.0)
    one = np.zeros(ROWS)
    one[3] = 1
    with pytest.raises(ValueError, match="a part without weight"):
        net.fit(x, t, validation_split=0.5, sample_weight=one)
    assert_same_bits(net.params, before)
    assert net._generator.tolist() == words.tolist()


# ---- Network.fit: patience without validation data -----------------------------------


def test_patience_without_validation_data_watches_the_training_loss(data):
    x, t = data
    net = network()
    history = net.fit(x, t, lr=60.0, epochs=400, patience=4)
    best = int(np.argmin(history.loss)) + 1
    assert history.stop_reason == "patience"
    assert history.best_epoch == best
    assert history.epochs == best + 4
    assert history.validation_loss == []
    other = network()
    other.fit(x, t, lr=60.0, epochs=best)
    assert_same_bits(net.params, other.params)


def test_min_delta_holds_for_the_training_loss_too(data):
    x, t = data
    history = network().fit(x, t, lr=0.01, epochs=50, patience=3, min_delta=10.0)
    assert (history.stop_reason, history.epochs, history.best_epoch) == (
        "patience",
        4,
        1,
    )


# ---- step sizes of optimisers --------------------------------------------------------

DEFAULTS = {"gd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adam": 0.001}


@pytest.mark.parametrize(("name", "lr"), DEFAULTS.items())
def test_without_lr_a_fit_takes_the_optimisers(name, lr, data):
    x, t = data
    nets = [network() for _ in range(4)]
    kind = type(siglin._training.optimizers.OPTIMIZERS[name]())
    nets[0].fit(x, t, optimizer=name, epochs=3)
    nets[1].fit(x, t, optimizer=name, epochs=3, lr=lr)
    assert_same_bits(nets[0].params, nets[1].params)
    assert f"{lr} without" in kind.__doc__
    nets[2].fit(x, t, optimizer=kind(lr=0.3), epochs=3)
    nets[3].fit(x, t, optimizer=name, epochs=3, lr=0.3)
    assert_same_bits(nets[2].params, nets[3].params)
    assert not np.array_equal(nets[0].params, nets[2].params)


def test_lr_of_a_fit_comes_before_the_optimisers(data):
    x, t = data
    net, other = network(), network()
    net.fit(x, t, optimizer=siglin.Adam(lr=0.3), lr=0.02)
    other.fit(x, t, optimizer="adam", lr=0.02)
    assert_same_bits(net.params, other.params)


def test_fit_many_takes_each_optimisers_lr(data):
    x, t = data
    nets, others = [network(), network()], [network(), network()]
    methods = ["adam", siglin.Momentum(lr=0.05)]
    siglin.fit_many(nets, x, t, optimizer=methods, epochs=3)
    others[0].fit(x, t, optimizer="adam", lr=0.001, epochs=3)
    others[1].fit(x, t, optimizer="momentum", lr=0.05, epochs=3)
    for net, other in zip(nets, others, strict=True):
        assert_same_bits(net.params, other.params)


@pytest.mark.parametrize("lr", [0.0, -1.0, np.inf])
def test_an_optimisers_lr_is_checked(lr):
    with pytest.raises(ValueError, match="Adam: lr must be"):
        siglin.Adam(lr=lr)


def test_an_optimisers_lr_is_in_its_repr_and_its_pickle():
    method = siglin.Nesterov(0.8, lr=0.5)
    assert repr(method) == "Nesterov(momentum=0.8, lr=0.5)"
    state = method.__getstate__()
    other = siglin.Nesterov()
    other.__setstate__(state)
    assert other.lr == 0.5


def test_doors_without_schedules_refuse_one(data):
    x, t = data
    with pytest.raises(TypeError, match="learn_one: lr must be a real number"):
        network().learn_one(x[0], t[0], lr=lambda _: 0.1)


# ---- NeuronClassifier ----------------------------------------------------------------

NEURON_OPTIONS = {
    "a schedule": {"lr": lambda epoch: 0.5 / (1 + epoch)},
    "an optimiser's name": {"optimizer": "adam"},
    "l1": {"l1": 0.02},
    "l2": {"l2": 0.02},
    "clip_norm": {"clip_norm": 0.05},
    "tol": {"tol": 0.03},
    "batches in order": {"batch_size": 8, "shuffle": False},
    "a callback": {"callback": lambda state: state.epoch == 5},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", NEURON_OPTIONS)
def test_an_option_of_the_neuron_classifier_is_network_fits(name, data):
    x, t = data
    options = dict(NEURON_OPTIONS[name])
    model = estimators.NeuronClassifier(max_iter=20, **options).fit(x, t.astype(int))
    neuron = siglin.Neuron(3, bias=True)
    history = neuron.fit(x, t, epochs=20, **options)
    assert_same_bits(model.coef_.ravel(), neuron.layers[0].w.ravel())
    assert_same_bits(model.intercept_, neuron.layers[0].b)
    assert model.loss_curve_ == history.loss
    plain = estimators.NeuronClassifier(max_iter=20).fit(x, t.astype(int))
    assert not np.array_equal(model.coef_, plain.coef_)


def test_an_optimiser_of_the_neuron_classifier_goes_on(data):
    x, t = data
    method = siglin.Momentum(lr=0.2)
    model = estimators.NeuronClassifier(optimizer=method, max_iter=3)
    model.fit(x, t.astype(int)).fit(x, t.astype(int))
    assert method.step_count == 6


@pytest.mark.parametrize("verbose", [2, True])
def test_the_neuron_classifier_shows_its_progress(verbose, data, capsys):
    x, t = data
    model = estimators.NeuronClassifier(max_iter=4, verbose=verbose)
    model.fit(x, t.astype(int))
    out, err = capsys.readouterr()
    if verbose == 2:
        assert [line.split()[1] for line in out.splitlines()] == ["2", "4"]
    else:
        assert "4/4" in out + err


def test_divergence_of_the_neuron_classifier_is_a_value_error(data):
    x, t = data
    model = estimators.NeuronClassifier(lr=1e300, max_iter=50)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(x * 1e200, t.astype(int))


# ---- the MLPs ------------------------------------------------------------------------


def mlp_and_network(x, t, fit_options, **options):
    """Return an MLP that was trained, and a network of its start trained by Network.fit.

    alpha is 0, as scikit-learn divides its penalties by the rows of a batch.
    """
    settings = {"alpha": 0.0, "shuffle": False, "tol": 0.0, "random_state": 1}
    settings |= {"max_iter": 6, "n_iter_no_change": 100, "batch_size": 10}
    settings |= {"activation": "tanh"} | options
    start = estimators.MLPClassifier((4,), **settings)
    with pytest.warns(ConvergenceWarning):
        start.set_params(max_iter=1, solver="sgd", learning_rate_init=1e-300).fit(x, t)
    net = network()
    weights = zip(start.coefs_, start.intercepts_, strict=True)
    net.set_weights([array for pair in weights for array in pair])
    with pytest.warns(ConvergenceWarning):
        model = estimators.MLPClassifier((4,), **settings).fit(x, t)
    net.fit(x, t, epochs=6, batch_size=10, shuffle=False, **fit_options)
    return model, net


MLP_OPTIONS = {
    "a schedule": (
        {"solver": "sgd", "momentum": 0, "learning_rate_init": lambda k: 0.5 / (1 + k)},
        {"lr": lambda k: 0.5 / (1 + k)},
    ),
    "a schedule with momentum": (
        {"solver": "sgd", "learning_rate_init": lambda k: 0.1 / (1 + k)},
        {"lr": lambda k: 0.1 / (1 + k), "optimizer": "nesterov"},
    ),
    "an optimiser": (
        {"solver": siglin.Momentum(0.8, lr=0.2)},
        {"optimizer": siglin.Momentum(0.8, lr=0.2)},
    ),
    "an optimiser without lr": (
        {"solver": siglin.Adam(), "learning_rate_init": 0.02},
        {"optimizer": "adam", "lr": 0.02},
    ),
    "clip_norm": (
        {"solver": "sgd", "momentum": 0, "clip_norm": 0.1, "learning_rate_init": 0.5},
        {"lr": 0.5, "clip_norm": 0.1},
    ),
}


@pytest.mark.parametrize("name", MLP_OPTIONS)
def test_an_option_of_an_mlp_is_network_fits(name, data):
    x, t = data
    options, fit_options = MLP_OPTIONS[name]
    model, net = mlp_and_network(x, t, fit_options, **options)
    # scikit-learn adds Adam's eps before the correction for the start at zero.
    rtol = 1e-4 if name == "an optimiser without lr" else 1e-12
    for layer, w, b in zip(net.layers, model.coefs_, model.intercepts_, strict=True):
        np.testing.assert_allclose(w, layer.w, rtol=rtol, atol=1e-14)
        np.testing.assert_allclose(b, layer.b, rtol=rtol, atol=1e-14)


def test_an_optimiser_of_an_mlp_goes_on(data):
    x, t = data
    method = siglin.Adam(lr=0.01)
    model = estimators.MLPClassifier((4,), solver=method, max_iter=2, random_state=0)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning, match="max_iter"):
            model.fit(x, t)
    assert method.step_count == 4


def test_an_mlp_warns_of_saturation(rng):
    x = rng.normal(size=(2000, 20)) * 1e4
    y = rng.normal(size=2000)
    model = estimators.MLPRegressor(
        hidden_layer_sizes=30, activation="logistic", max_iter=20, random_state=0
    )
    with (
        pytest.warns(ConvergenceWarning),
        pytest.warns(siglin.SaturationWarning, match="hidden layer 1 .sigmoid. are"),
    ):
        model.fit(x, y)


# ---- a Network of the regressor's loss -----------------------------------------------


def test_poisson_is_a_networks_loss_too(rng):
    x = rng.uniform(0, 1, size=(200, 2))
    t = rng.poisson(np.exp(1 + x @ [1.0, -2.0])).astype(np.float64)
    net = siglin.Network([2, 1], loss="poisson", init="zeros")
    assert net.layers[0].activation == "exp"
    net.fit(x, t, lr=0.2, epochs=4000)
    np.testing.assert_allclose(net.layers[0].w.ravel(), [1.0, -2.0], atol=0.3)
    z = x @ net.layers[0].w + net.layers[0].b
    np.testing.assert_allclose(net.predict(x), np.exp(z), rtol=1e-12)
    mean = net.predict(x).ravel()
    t_log = t * np.log(np.where(t > 0, t, 1) / mean)
    np.testing.assert_allclose(net.loss(x, t), (t_log - t + mean).mean(), rtol=1e-10)


def test_poisson_targets_are_not_negative():
    net = siglin.Network([2, 1], loss="poisson")
    with pytest.raises(ValueError, match="not >= 0 at row 1, column 0"):
        net.fit(np.ones((2, 2)), [1.0, -1.0])
    with pytest.raises(ValueError, match=r'"exp" goes with the loss "poisson" only'):
        siglin.Network([2, 1], loss="squared_error", output_activation="exp")


# ---- names of other libraries --------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        (lambda x, t: network().fit(x, t, optimizer="sgd"), "gd"),
        (lambda x, t: siglin.fit_many([network()], x, t, optimizer="SGD"), "gd"),
        (lambda *_: siglin.Network([2, 1], loss="mse"), "squared_error"),
        (lambda *_: siglin.Network([2, 1], loss="binary_crossentropy"), "bce"),
        (lambda *_: siglin.Network([2, 2, 1], activation="logistic"), "sigmoid"),
        (lambda *_: siglin.Dense(2, 1, "linear"), "identity"),
        (lambda *_: siglin.Network([2, 1], init="xavier"), "glorot"),
    ],
)
def test_a_name_of_another_library_is_translated(call, ours, data):
    with pytest.raises(ValueError, match=f"which is '{ours}' here$"):
        call(*data)


def test_a_name_of_nothing_is_not():
    with pytest.raises(ValueError, match=r"got 'sgd'$"):
        siglin.Network([2, 1], loss="sgd")
