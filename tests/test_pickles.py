"""What comes out of a pickle can be trained on, wherever its arrays lay.

A pickle may hand its arrays over as memory maps (joblib, for arrays of some size), as
buffers out of band that are read-only (Ray) or begin anywhere (Dask). The models own
plain arrays all the same.
"""

import pickle

import joblib
import numpy as np
import pytest
import scipy.sparse

import siglin
from siglin.estimators import (
    MLPClassifier,
    MLPRegressor,
    NeuronClassifier,
    PerceptronClassifier,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(5).normal(size=(40, 6))
LABELS = (X[:, 0] > 0).astype(int)
CLASSES = np.digitize(X[:, 1], [-0.5, 0.5])

# ---- the models, each of them trained, and what goes on training them ----------------


def network(dtype):
    net = siglin.Network([6, 5, 1], seed=1, dtype=dtype)
    net.fit(X.astype(dtype), LABELS, epochs=2, batch_size=8)
    net.loss_and_grads(X.astype(dtype), LABELS)
    return net


def neuron(dtype):
    model = siglin.Neuron(6, dtype=dtype)
    model.fit(X.astype(dtype), LABELS, epochs=3)
    return model


def perceptron(dtype):
    model = siglin.Perceptron(6, bias=True, dtype=dtype)
    model.fit(X.astype(dtype), LABELS, epochs=2)
    return model


def dense(dtype):
    layer = siglin.Dense(6, 3, seed=2, dtype=dtype)
    layer.forward(X.astype(dtype))
    layer.backward(np.ones((len(X), 3), dtype))
    return layer


def optimizer(kind):
    def make(dtype):
        method = kind()
        siglin.Neuron(6, dtype=dtype).fit(
            X.astype(dtype), LABELS, epochs=3, optimizer=method
        )
        return method

    return make


def estimator(model, y, *, partial=False):
    def make(dtype):
        fitted = model()
        if partial:
            return fitted.partial_fit(X.astype(dtype), y, np.ones(len(X)))
        return fitted.fit(X.astype(dtype), y)

    return make


def fit_network(model, dtype):
    history = model.fit(X.astype(dtype), LABELS, epochs=3, batch_size=8)
    model.grads[0] += 1
    model.params[0] += 1
    return [*history.loss, *model.params, *model.grads]


def fit_perceptron(model, dtype):
    model.params[0] += 1
    return [*model.fit(X.astype(dtype), LABELS, epochs=2).loss, *model.params]


def fit_dense(layer, dtype):
    layer.w += 1
    layer.db += 1
    a = layer.forward(X.astype(dtype))
    dx = layer.backward(a)
    layer.update(0.1)
    return [*a.ravel(), *dx.ravel(), *layer.params, *layer.grads]


def fit_with(method, dtype):
    model = siglin.Neuron(6, dtype=dtype)
    model.fit(X.astype(dtype), LABELS, epochs=3, optimizer=method)
    return [method.step_count, *model.params]


def fit_mlp(y):
    def go_on(model, dtype):
        model.coefs_[0][0, 0] += 1
        for _ in range(3):
            model.partial_fit(X.astype(dtype), y, np.ones(len(X)))
        model.intercepts_[-1] += 1
        held = getattr(model, "validation_loss_curve_", ())
        return [*model.loss_curve_, *held, *model.predict(X.astype(dtype)).ravel()]

    return go_on


def fit_neurons(model, dtype):
    model.coef_ += 1
    model.intercept_ -= 1
    return model.decision_function(X.astype(dtype)).ravel()


def mlp(kind, **settings):
    return lambda: kind(
        hidden_layer_sizes=(5,),
        max_iter=3,
        batch_size=8,
        random_state=0,
        dropout=0.1,
        **settings,
    )


NUMBERS = X[:, :2] * 3
MODELS = {
    "Network": (network, fit_network),
    "Neuron": (neuron, fit_network),
    "Perceptron": (perceptron, fit_perceptron),
    "Dense": (dense, fit_dense),
    **{
        kind.__name__: (optimizer(kind), fit_with)
        for kind in (
            siglin.GradientDescent,
            siglin.Momentum,
            siglin.Nesterov,
            siglin.Adam,
        )
    },
    "MLPClassifier": (
        estimator(mlp(MLPClassifier), CLASSES),
        fit_mlp(CLASSES),
    ),
    "MLPRegressor": (
        estimator(mlp(MLPRegressor, solver="sgd"), NUMBERS),
        fit_mlp(NUMBERS),
    ),
    "MLPRegressor that holds rows out": (
        estimator(mlp(MLPRegressor, early_stopping=True), NUMBERS, partial=True),
        fit_mlp(NUMBERS),
    ),
    "NeuronClassifier": (
        estimator(lambda: NeuronClassifier(max_iter=5), CLASSES),
        fit_neurons,
    ),
    "PerceptronClassifier": (
        estimator(lambda: PerceptronClassifier(max_iter=5), LABELS),
        fit_neurons,
    ),
}

# ---- the ways to travel --------------------------------------------------------------


def by_joblib(mode):
    def travel(thing, path):
        joblib.dump(thing, path / "thing.joblib")
        return joblib.load(path / "thing.joblib", mmap_mode=mode)

    return travel


def out_of_band(*, offset, writable):
    def travel(thing, path):
        buffers = []
        data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        assert buffers or isinstance(thing, siglin.GradientDescent)
        arrived = []
        for buffer in buffers:
            raw = buffer.raw()
            place = memoryview(bytearray(raw.nbytes + 64))
            address = np.frombuffer(place, np.uint8).ctypes.data
            start = -address % 32 + offset  # to 32 bytes, then off by the offset
            place[start : start + raw.nbytes] = raw
            part = place[start : start + raw.nbytes]
            arrived.append(part if writable else part.toreadonly())
        return pickle.loads(data, buffers=arrived)

    return travel


WAYS = {
    **{f"joblib {mode}": by_joblib(mode) for mode in (None, "r", "r+", "c")},
    "read-only": out_of_band(offset=0, writable=False),
    "misaligned": out_of_band(offset=1, writable=True),
    "misaligned, read-only": out_of_band(offset=3, writable=False),
}


def arrays_of(thing, name, seen):
    """Yield the arrays that a model reaches, with the way to them."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, so that no other object gets its id
    if isinstance(thing, np.ndarray):
        yield name, thing
    elif isinstance(thing, list | tuple):
        for i, one in enumerate(thing):
            yield from arrays_of(one, f"{name}[{i}]", seen)
    elif isinstance(thing, dict):
        for key, one in thing.items():
            yield from arrays_of(one, f"{name}.{key}", seen)
    elif type(thing).__module__.startswith("siglin") and hasattr(thing, "__dict__"):
        yield from arrays_of(vars(thing), name, seen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_unpickled_owns_plain_writable_arrays(name, way, dtype, tmp_path):
    make, go_on = MODELS[name]
    model = make(dtype)
    arrived = WAYS[way](model, tmp_path)
    arrays = dict(arrays_of(arrived, name, {}))
    if isinstance(arrived, siglin._training.optimizers.Optimizer):
        arrays["moments"] = arrived.moments
    if name == "GradientDescent":
        assert arrays.pop("moments") is None
    else:
        assert arrays
    for path, array in arrays.items():
        assert type(array) is np.ndarray, path
        assert array.flags.aligned, path
        assert array.flags.writeable, path
        assert array.flags.c_contiguous, path
        assert array.dtype.isnative, path
    np.testing.assert_array_equal(go_on(arrived, dtype), go_on(model, dtype))


@pytest.mark.parametrize("way", WAYS)
def test_layers_and_coefs_of_what_is_unpickled_are_views_of_one_vector(way, tmp_path):
    net = WAYS[way](network(np.float64), tmp_path)
    for layer in net.layers:
        assert np.shares_memory(layer.w, net.params)
        assert np.shares_memory(layer.db, net.grads)
    layer = WAYS[way](dense(np.float64), tmp_path)
    assert np.shares_memory(layer.w, layer.params)
    assert np.shares_memory(layer.db, layer.grads)
    model = WAYS[way](MODELS["MLPClassifier"][0](np.float64), tmp_path)
    for array in (*model.coefs_, *model.intercepts_):
        assert np.shares_memory(array, model._network.params)


def test_sparse_rows_that_are_held_out_serve_after_a_pickle():
    settings = {"early_stopping": True, "random_state": 0, "hidden_layer_sizes": (5,)}
    want = MLPRegressor(**settings)
    got = MLPRegressor(**settings)
    x = scipy.sparse.csr_array(X * (X > 0))
    for _ in range(3):
        want.partial_fit(x, NUMBERS)
        got = WAYS["misaligned, read-only"](got.partial_fit(x, NUMBERS), None)
    np.testing.assert_array_equal(got.predict(x), want.predict(x))
    assert got.validation_loss_curve_ == want.validation_loss_curve_
