"""Estimators take rows, targets and weights wherever they lie in memory."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network as theirs
from sklearn.base import clone

from helpers import assert_same_bits, layouts
from siglin.estimators import (
    MLPClassifier,
    MLPRegressor,
    NeuronClassifier,
    PerceptronClassifier,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(11)
X = RNG.normal(size=(30, 4))
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
WEIGHTS = RNG.random(30) + 0.5


def mapped(array, path):
    """Return the array as a read-only memory map of a file, at an odd offset."""
    with path.open("wb") as file:
        file.write(b"x" + array.tobytes())
    return np.memmap(path, array.dtype, "r", offset=1, shape=array.shape)


def everywhere(array, path):
    kinds = layouts(array)
    kinds["memory-mapped"] = mapped(np.ascontiguousarray(array), path)
    return kinds


MODELS = {
    "MLPClassifier": (
        MLPClassifier((3,), max_iter=3, random_state=0, batch_size=7),
        CLASSES,
    ),
    "MLPClassifier that holds rows out": (
        MLPClassifier((3,), max_iter=3, random_state=0, early_stopping=True),
        CLASSES.astype(str),
    ),
    "MLPClassifier by lbfgs": (
        MLPClassifier((3,), max_iter=3, random_state=0, solver="lbfgs"),
        X > 0,
    ),
    "MLPRegressor": (
        MLPRegressor(hidden_layer_sizes=(3,), max_iter=3, random_state=0),
        X[:, :2] * 2,
    ),
    "MLPRegressor of one output": (
        MLPRegressor(hidden_layer_sizes=(3,), max_iter=3, random_state=0),
        X[:, 0] * 2,
    ),
    "NeuronClassifier": (NeuronClassifier(max_iter=3), CLASSES.astype(float)),
    "PerceptronClassifier": (PerceptronClassifier(max_iter=3), CLASSES),
}


def answers(model, x, y, weights, how="fit"):
    """Return what a model answers that was trained on these, as numbers."""
    model = clone(model)
    weighted = not isinstance(model, PerceptronClassifier)
    args = (x, y, weights) if weighted else (x, y)
    if how == "fit":
        model.fit(*args)
    else:
        labels = isinstance(model, MLPClassifier)
        classes = {"classes": np.unique(y)} if labels else {}
        for _ in range(2):
            model.partial_fit(*args, **classes)
    got = [model.predict(x)]
    got += [
        getattr(model, name)(x)
        for name in ("predict_proba", "decision_function")
        if hasattr(model, name)
    ]
    return [*got, np.float64(model.score(x, y, weights))]


def doors():
    for name, (model, y) in MODELS.items():
        yield name, "fit"
        steps = hasattr(model, "partial_fit")
        if steps and np.ndim(y) == 1 and not model.early_stopping:
            yield name, "partial_fit"


@pytest.mark.parametrize(("name", "how"), list(doors()))
def test_rows_targets_and_weights_may_lie_anywhere(name, how, dtype, tmp_path):
    model, y = MODELS[name]
    x = X.astype(dtype)
    if y.dtype.kind == "f":
        y = y.astype(dtype)
    weights = WEIGHTS.astype(dtype)
    want = answers(model, x, y, weights, how)
    given = itertools.chain(
        ((kind, (a, y, weights)) for kind, a in everywhere(x, tmp_path / "x").items()),
        ((kind, (x, a, weights)) for kind, a in everywhere(y, tmp_path / "y").items()),
        (
            (kind, (x, y, a))
            for kind, a in everywhere(weights, tmp_path / "weights").items()
        ),
    )
    for kind, arrays in given:
        got = answers(model, *arrays, how)
        for one, other in zip(got, want, strict=True):
            if other.dtype.kind == "f":
                assert_same_bits(np.atleast_1d(one), np.atleast_1d(other))
            else:
                np.testing.assert_array_equal(one, other, err_msg=kind)


def test_a_number_too_large_for_the_parameters_is_named():
    model = MLPRegressor(hidden_layer_sizes=(3,), random_state=0)
    model.partial_fit(X.astype(np.float32), X[:, 0].astype(np.float32))
    message = "X has a number too large for float32"
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X * 1e300, X[:, 0])
    with pytest.raises(ValueError, match="y has a number too large for float32"):
        model.partial_fit(X, X[:, 0] * 1e300)


def misaligned_sparse(x):
    x = scipy.sparse.csr_array(x)
    x.data = layouts(x.data)["misaligned"]
    x.data.flags.writeable = False
    return x


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows_may_lie_anywhere(solver, dtype, monkeypatch):
    monkeypatch.setattr("siglin._data.sparse.DENSE_ELEMENTS", 0)
    rows = scipy.sparse.csr_array((X * (X > 0)).astype(dtype))
    model = MLPClassifier((3,), max_iter=3, random_state=0, solver=solver)
    want = model.fit(rows, CLASSES).predict_proba(rows)
    other = misaligned_sparse(rows)
    assert not other.data.flags.aligned
    assert_same_bits(model.fit(other, CLASSES).predict_proba(other), want)


# ---- sparse indicators ---------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.csc_array],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("how", ["fit", "partial_fit"])
def test_labels_given_as_a_sparse_matrix_are_predicted_as_one(kind, how):
    y = kind((X[:, :3] > 0).astype(int))
    settings = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0}
    models = theirs.MLPClassifier(**settings), MLPClassifier(**settings)
    classes = {} if how == "fit" else {"classes": np.arange(3)}
    want, got = (getattr(m, how)(X, y, **classes).predict(X) for m in models)
    assert type(got) is type(want)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.toarray(), want.toarray())
    assert models[1].score(X, y) == models[0].score(X, y)
    dense = MLPClassifier(**settings).fit(X, y.toarray()).predict(X)
    assert isinstance(dense, np.ndarray)
