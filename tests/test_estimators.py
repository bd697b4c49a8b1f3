"""siglin.estimators against scikit-learn's MLP, parameter by parameter, on real data."""

import copy
import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from siglin import estimators as ours
from siglin.estimators import (
    MLPClassifier,
    MLPRegressor,
    NeuronClassifier,
    PerceptronClassifier,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [MLPClassifier(), MLPRegressor(), NeuronClassifier(), PerceptronClassifier()]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# ---- the same model ------------------------------------------------------------------


def data_of(name):
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        return x[:600] / 16, y[:600]
    if name == "diabetes":
        x, y = load_diabetes(return_X_y=True)
        return scale(x), y / 100
    x, y = {"iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer}[name](
        return_X_y=True
    )
    return scale(x), y


def both(kind, **parameters):
    """Return scikit-learn's estimator and siglin's."""
    return [getattr(module, kind)(**parameters) for module in (theirs, ours)]


def fit_both(kind, x, y, *, random_state=3, weights=None, **parameters):
    pair = both(kind, random_state=random_state, **parameters)
    for model in pair:
        model.fit(x, y, weights)
    return pair


def assert_same_model(want, got, rtol=1e-10):
    """Assert the fitted attributes of scikit-learn's model, of those it has."""
    for name in ("loss_curve_", "validation_scores_"):
        if getattr(want, name, None) is not None:
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol)
    for name in ("loss_", "best_loss_", "best_validation_score_"):
        if getattr(want, name, None) is not None:
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol)
        else:
            assert getattr(got, name, None) is None
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(got, name) == getattr(want, name), name
    for a, b in zip(
        [*got.coefs_, *got.intercepts_], [*want.coefs_, *want.intercepts_], strict=True
    ):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


CASES = {
    "classes": ("MLPClassifier", "wine", {}),
    "binary": ("MLPClassifier", "cancer", {}),
    "numbers": ("MLPRegressor", "diabetes", {}),
    "poisson": ("MLPRegressor", "diabetes", {"loss": "poisson"}),
}


def losses_after(module, kind, x, y, solver, **parameters):
    """Return the losses after 1, 5 and 20 steps with all rows."""
    cls = getattr(module, kind)
    parameters = {
        "solver": solver,
        "batch_size": len(x),
        "random_state": 3,
    } | parameters
    if solver == "lbfgs":
        return [cls(max_iter=n, **parameters).fit(x, y).loss_ for n in (1, 5, 20)]
    # An epoch is a step, and its loss is the one before it.
    curve = cls(max_iter=21, n_iter_no_change=99, **parameters).fit(x, y).loss_curve_
    return [curve[n] for n in (1, 5, 20)]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("case", CASES)
def test_loss_after_steps_of_each_activation(case, solver, activation):
    kind, name, settings = CASES[case]
    data = data_of(name)
    settings = {"activation": activation, "hidden_layer_sizes": (7, 5)} | settings
    want, got = (
        losses_after(module, kind, *data, solver, **settings)
        for module in (theirs, ours)
    )
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        *[("lbfgs", {"alpha": alpha}) for alpha in (0.0, 1e-4, 10.0)],
        *[("adam", {"alpha": alpha}) for alpha in (0.0, 10.0)],
        *[
            ("adam", {"beta_1": beta, "beta_2": beta / 2, "epsilon": epsilon})
            for beta, epsilon in itertools.product((0.0, 0.5, 0.99), (1e-8, 1e-2))
        ],
        *[
            ("sgd", {"alpha": alpha, "momentum": momentum, "nesterovs_momentum": nag})
            for alpha, momentum, nag in itertools.product(
                (0.0, 10.0), (0.0, 0.5, 0.9, 1.0), (True, False)
            )
        ],
    ],
)
def test_loss_after_steps_of_each_setting(solver, settings):
    data = data_of("wine")
    settings = {"hidden_layer_sizes": 7} | settings
    want, got = (
        losses_after(module, "MLPClassifier", *data, solver, **settings)
        for module in (theirs, ours)
    )
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 64},
        {"batch_size": 1, "max_iter": 2},
        {"batch_size": 7, "shuffle": False},
        {"random_state": np.random.RandomState(5)},
        {"hidden_layer_sizes": []},
        {"hidden_layer_sizes": 4},
        {"solver": "sgd", "learning_rate_init": 0.1},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "learning_rate_init": 0.3,
            "tol": 0.05,
            "n_iter_no_change": 1,
            "max_iter": 60,
        },
        {"tol": 0.3, "n_iter_no_change": 2, "max_iter": 60},
        {"n_iter_no_change": np.inf},
        {"early_stopping": True},
        {"early_stopping": True, "validation_fraction": 0.4, "shuffle": False},
        {"early_stopping": True, "tol": 0.02, "n_iter_no_change": 1, "max_iter": 60},
        {"solver": "lbfgs", "max_iter": 15},
        {"solver": "lbfgs", "max_fun": 9},
        {"solver": "lbfgs", "tol": 0.2, "max_iter": 200},
    ],
    ids=lambda settings: str(settings).split(" at 0x")[0],  # no address: same names
)
@pytest.mark.parametrize("case", ["classes", "binary", "numbers"])
def test_a_fit_is_that_of_scikit_learn(case, settings):
    kind, name, _ = CASES[case]
    x, y = data_of(name)
    settings = {"random_state": 3, "max_iter": 5} | settings
    pair = []
    for model in both(kind, **settings):
        # A RandomState is used up: each model gets one of its own.
        model.random_state = copy.deepcopy(model.random_state)
        pair.append(model.fit(x, y))
    assert_same_model(*pair)
    want, got = (model.predict(x) for model in pair)
    if kind == "MLPClassifier":
        np.testing.assert_array_equal(got, want)
        proba = [model.predict_proba(x) for model in pair]
        np.testing.assert_allclose(proba[1], proba[0], rtol=1e-6, atol=1e-12)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_the_random_state_is_left_where_scikit_learn_leaves_it():
    x, y = data_of("iris")
    for settings in ({}, {"early_stopping": True}, {"n_iter_no_change": 1, "tol": 1}):
        left = []
        for module in (theirs, ours):
            random = np.random.RandomState(8)
            model = module.MLPClassifier(random_state=random, max_iter=7, **settings)
            model.fit(x, y)
            left.append(random.randint(2**31))
        assert left[0] == left[1]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("case", CASES)
def test_sample_weights(case, solver, rng):
    kind, name, settings = CASES[case]
    x, y = data_of(name)
    weights = rng.uniform(0, 3, len(x))
    pair = fit_both(
        kind,
        x,
        y,
        weights=weights,
        solver=solver,
        batch_size=50,
        max_iter=4,
        **settings,
    )
    assert_same_model(*pair, rtol=1e-9)


def test_sample_weights_with_early_stopping(rng):
    x, y = data_of("cancer")
    weights = rng.uniform(0, 3, len(x))
    assert_same_model(
        *fit_both("MLPClassifier", x, y, weights=weights, early_stopping=True)
    )


def test_several_labels_to_a_row(rng):
    x, _ = data_of("wine")
    y = (x[:, :3] + rng.normal(size=(len(x), 3)) > 0).astype(int)
    for solver in ("adam", "lbfgs"):
        want, got = fit_both("MLPClassifier", x, y, solver=solver, max_iter=6)
        assert_same_model(want, got)
        np.testing.assert_array_equal(got.predict(x), want.predict(x))
        np.testing.assert_array_equal(got.classes_, want.classes_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_several_outputs(solver, rng):
    x, y = data_of("diabetes")
    several = np.column_stack([y, 3 * y, rng.normal(size=len(y))])
    pair = fit_both("MLPRegressor", x, several, solver=solver, max_iter=6)
    assert_same_model(*pair)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_warm_start_goes_on(solver):
    x, y = data_of("iris")
    pair = both("MLPClassifier", solver=solver, warm_start=True, max_iter=4)
    for model in pair:
        model.random_state = 1
        model.fit(x, y)
        model.fit(x, y)
    assert_same_model(*pair)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_partial_fit_goes_on(kind, solver):
    x, y = data_of("wine" if kind == "MLPClassifier" else "diabetes")
    classes = {"classes": np.unique(y)} if kind == "MLPClassifier" else {}
    pair = both(kind, solver=solver, random_state=2, learning_rate="invscaling")
    for model in pair:
        model.partial_fit(x[:70], y[:70], **classes)
        for start in range(0, 140, 35):
            model.partial_fit(x[start : start + 35], y[start : start + 35])
    assert_same_model(*pair)


def test_partial_fit_after_fit(rng):
    x, y = data_of("iris")
    pair = both("MLPClassifier", random_state=2, max_iter=3)
    for model in pair:
        model.fit(x, y).partial_fit(x[::2], y[::2])
    assert_same_model(*pair)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_partial_fit_is_not_for_lbfgs(kind):
    assert not hasattr(getattr(ours, kind)(solver="lbfgs"), "partial_fit")


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_matrix"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_sparse_rows(form, solver, monkeypatch):
    x, y = data_of("digits")
    monkeypatch.setattr("siglin._data.sparse.DENSE_ELEMENTS", 0)
    sparse = getattr(scipy.sparse, form)(x)
    settings = {"solver": solver, "max_iter": 3, "batch_size": 64, "alpha": 0.1}
    want, got = fit_both("MLPClassifier", sparse, y, **settings)
    assert_same_model(want, got)
    np.testing.assert_array_equal(got.predict(sparse), want.predict(sparse))
    dense = MLPClassifier(random_state=3, **settings).fit(x, y)
    np.testing.assert_allclose(got.loss_, dense.loss_, rtol=1e-10)


def test_sparse_rows_with_weights(rng, monkeypatch):
    x, y = data_of("digits")
    monkeypatch.setattr("siglin._data.sparse.DENSE_ELEMENTS", 0)
    weights = rng.uniform(0, 2, len(x))
    for solver in ("adam", "lbfgs"):
        pair = fit_both(
            "MLPClassifier",
            scipy.sparse.csr_matrix(x),
            y,
            weights=weights,
            solver=solver,
            max_iter=3,
        )
        assert_same_model(*pair)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_float32_stays_float32(kind, solver):
    x, y = data_of("iris" if kind == "MLPClassifier" else "diabetes")
    narrow = getattr(ours, kind)(solver=solver, random_state=1, max_iter=5)
    wide = clone(narrow).fit(x, y)
    narrow.fit(x.astype(np.float32), y)
    assert {a.dtype for a in [*narrow.coefs_, *narrow.intercepts_]} == {
        np.dtype(np.float32)
    }
    np.testing.assert_allclose(narrow.loss_, wide.loss_, rtol=1e-4)
    if kind == "MLPRegressor":
        assert narrow.predict(x.astype(np.float32)).dtype == np.float32
        np.testing.assert_allclose(narrow.predict(x), wide.predict(x), atol=1e-3)
    # Rows in float64 are not rounded, as scikit-learn does not.
    other = getattr(theirs, kind)(solver=solver, random_state=1, max_iter=5)
    other.fit(x.astype(np.float32), y)
    other.coefs_, other.intercepts_ = narrow.coefs_, narrow.intercepts_
    method = "predict_proba" if kind == "MLPClassifier" else "predict"
    for rows in (x, scipy.sparse.csr_matrix(x)):
        got, want = (getattr(model, method)(rows) for model in (narrow, other))
        assert got.dtype == want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_verbose_prints_what_scikit_learn_prints(capsys):
    x, y = data_of("iris")
    printed = []
    for model in both(
        "MLPClassifier", random_state=0, max_iter=3, verbose=True, early_stopping=True
    ):
        model.fit(x, y)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    MLPClassifier(solver="lbfgs", verbose=True, max_iter=3).fit(x, y)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")
    for rate in ("constant", "adaptive"):
        settings = {"learning_rate": rate, "tol": 9, "n_iter_no_change": 1}
        MLPClassifier(solver="sgd", verbose=True, max_iter=4, **settings).fit(x, y)
        word = "Stopping" if rate == "constant" else "learning rate is now 0.000200"
        assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "hidden"), [("digits", 32), ("cancer", 8), ("wine", 8), ("iris", 8)]
)
def test_accuracy_on_real_data(name, hidden):
    x, y = data_of(name)
    for seed in range(5):
        train, test, t, truth = train_test_split(x, y, random_state=seed, stratify=y)
        want, got = (
            model.fit(train, t).score(test, truth)
            for model in both(
                "MLPClassifier",
                hidden_layer_sizes=hidden,
                random_state=seed,
                learning_rate_init=0.02,
                max_iter=30,
            )
        )
        assert abs(got - want) <= 0.01
        assert got > 0.8


def test_r2_on_real_data():
    x, y = data_of("diabetes")
    for seed in range(5):
        train, test, t, truth = train_test_split(x, y, random_state=seed)
        want, got = (
            model.fit(train, t).score(test, truth)
            for model in both(
                "MLPRegressor", hidden_layer_sizes=8, random_state=seed, max_iter=150
            )
        )
        assert abs(got - want) <= 0.01


# ---- an estimator among others -------------------------------------------------------


def test_weights_written_by_the_user_are_used():
    x, y = data_of("diabetes")
    model = MLPRegressor(hidden_layer_sizes=4, random_state=0, max_iter=2).fit(x, y)
    model.coefs_[0][...] = 0
    model.coefs_[1] = np.ones((4, 1))
    model.intercepts_ = [np.ones(4), np.array([0.5])]
    np.testing.assert_array_equal(model.predict(x), 4.5)
    model.partial_fit(x, y)
    assert 4 < model.predict(x)[0] < 5


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_predict_alike_and_go_on_alone(copied):
    x, y = data_of("iris")
    model = MLPClassifier(4, random_state=0, max_iter=2).fit(x, y)
    other = copied(model)
    np.testing.assert_array_equal(other.predict_proba(x), model.predict_proba(x))
    before = model.coefs_[0].copy()
    other.partial_fit(x, y)
    np.testing.assert_array_equal(model.coefs_[0], before)
    model.partial_fit(x, y)  # with the same optimiser's state
    np.testing.assert_array_equal(model.coefs_[0], other.coefs_[0])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_grid_search(backend):
    import joblib  # noqa: PLC0415

    x, y = data_of("iris")
    model = make_pipeline(
        StandardScaler(), MLPClassifier(4, random_state=0, max_iter=5)
    )
    grid = {"mlpclassifier__alpha": [1e-4, 1.0]}
    alone = GridSearchCV(model, grid, cv=2).fit(x, y)
    with joblib.parallel_backend(backend, n_jobs=2):
        search = GridSearchCV(model, grid, cv=2).fit(x, y)
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], alone.cv_results_[name])


def test_parameters_and_defaults_are_scikit_learns():
    for kind in ("MLPClassifier", "MLPRegressor"):
        want, got = both(kind)
        known = got.get_params()
        assert {name: known[name] for name in want.get_params()} == want.get_params()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("hidden_layer_sizes", -1),
        ("hidden_layer_sizes", (3, 0)),
        ("activation", "sine"),
        ("solver", "newton"),
        ("alpha", -1),
        ("batch_size", 0),
        ("learning_rate", "fast"),
        ("learning_rate_init", 0),
        ("power_t", -1),
        ("max_iter", 0),
        ("tol", -1),
        ("momentum", 2),
        ("validation_fraction", 1),
        ("beta_1", 1),
        ("beta_2", 1),
        ("epsilon", 0),
        ("n_iter_no_change", 0),
        ("max_fun", 0),
        ("shuffle", "yes"),
        ("warm_start", "no"),
    ],
)
def test_a_wrong_parameter_is_refused_by_fit(parameter, value):
    with pytest.raises(ValueError, match=parameter):
        MLPClassifier(**{parameter: value}).fit([[0.0], [1.0]], [0, 1])


def test_refusals():
    x, y = data_of("iris")
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(x)
    for setting in ({"l1": 1}, {"dropout": 0.1}):
        with pytest.raises(ValueError, match="not lbfgs"):
            MLPClassifier(solver="lbfgs", **setting).fit(x, y)
    with pytest.raises(ValueError, match="activation must be"):
        MLPClassifier((3, 4), activation=["tanh"]).fit(x, y)
    with pytest.raises(ValueError, match="activation must be"):
        MLPClassifier(3, activation=["sine"]).fit(x, y)
    with pytest.raises(ValueError, match="balanced"):
        MLPClassifier(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="same classes"):
        MLPClassifier(warm_start=True, max_iter=1).fit(x, y).fit(x[y > 0], y[y > 0])
    with pytest.raises(ValueError, match="not in classes_"):
        MLPClassifier(max_iter=1).fit(x[y > 0], y[y > 0]).partial_fit(x, y)
    with pytest.raises(ValueError, match="2 are needed"):
        MLPRegressor(early_stopping=True).fit(x[:4], y[:4])
    with pytest.raises(ValueError, match="begun with 1"):
        MLPRegressor(max_iter=1).fit(x, y).partial_fit(x, np.column_stack([y, y]))
    with pytest.raises(TypeError, match="float"):
        MLPClassifier((5.7,)).fit(x, y)
    for words in (np.array(["1", "2", "3"])[y], y.astype("datetime64[D]")):
        with pytest.raises(ValueError, match="y must be numbers"):
            MLPRegressor().fit(x, words)
    for solver in ("adam", "lbfgs"):
        with pytest.raises(ValueError, match="needs y >= 0"):
            MLPRegressor("poisson", solver=solver).fit(x, y - 1.0)
    with pytest.raises(ValueError, match="sums to zero"):
        MLPClassifier().fit(x, y, np.tile([1.0, -1.0], len(x) // 2))


def test_warnings():
    x, y = data_of("iris")
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        MLPClassifier(max_iter=1).fit(x, y)
    with pytest.warns(ConvergenceWarning, match="lbfgs"):
        MLPClassifier(solver="lbfgs", max_iter=1).fit(x, y)
    with pytest.warns(UserWarning, match="150 rows"):
        MLPClassifier(batch_size=151, max_iter=1).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(tol=9, n_iter_no_change=1, max_iter=5).fit(x, y)
        MLPClassifier(max_iter=1).partial_fit(x, y, classes=[0, 1, 2])


def fit_here(model, x, y):
    model.fit(x, y)


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


def test_warnings_name_the_line_of_the_user():
    x, y = data_of("iris")

    def interrupt(_):
        raise KeyboardInterrupt

    grid = GridSearchCV(NeuronClassifier(tol=1e-9), {"max_iter": [2, 3]}, cv=2)
    for model in (
        MLPClassifier(max_iter=1),
        MLPClassifier(solver="lbfgs", max_iter=1),
        MLPRegressor(max_iter=1),
        MLPClassifier(batch_size=151, max_iter=1),
        MLPClassifier(callback=interrupt),
        NeuronClassifier(tol=1e-9, max_iter=2),
        PerceptronClassifier(max_iter=2),
        make_pipeline(StandardScaler(), PerceptronClassifier(max_iter=2)),
        grid,
    ):
        caught = warnings_of(lambda model=model: fit_here(model, x, y))
        assert caught
        for warning in caught:
            assert warning.filename == __file__
            assert warning.lineno == fit_here.__code__.co_firstlineno + 1
    model = MLPClassifier(batch_size=151)
    caught = warnings_of(lambda: model.partial_fit(x, y, classes=[0, 1, 2]))
    assert [warning.filename for warning in caught] == [__file__]


def test_neurons_short_of_convergence_say_so():
    x, y = data_of("iris")
    with pytest.warns(ConvergenceWarning, match=r"max_iter=5 .* tol=1e-06"):
        NeuronClassifier(tol=1e-6, max_iter=5).fit(x, y)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=5 .* mistakes"):
        PerceptronClassifier(max_iter=5).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert NeuronClassifier(tol=0.1, max_iter=50).fit(x, y).n_iter_ < 50
        NeuronClassifier(max_iter=5).fit(x, y)  # tol is 0: nothing was to be reached
        assert PerceptronClassifier().fit(x, y == 0).mistakes_[0][-1] == 0
        # Also where the last epoch allowed is the one without a mistake.
        n_iter = PerceptronClassifier().fit(x, y == 0).n_iter_
        PerceptronClassifier(max_iter=n_iter).fit(x, y == 0)


def test_divergence_is_an_error_and_keeps_finite_weights():
    x, y = data_of("diabetes")
    model = MLPRegressor(
        solver="sgd", learning_rate_init=1e9, activation="identity", random_state=0
    )
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(x, y)
    assert all(np.isfinite(w).all() for w in model.coefs_)


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}])
def test_ctrl_c_ends_a_fit_with_a_warning(settings, monkeypatch):
    x, y = data_of("iris")
    model = MLPClassifier(random_state=0, **settings)
    judge = model._judge

    def interrupted(*args):
        judge(*args)
        if len(model.loss_curve_) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(model, "_judge", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(x, y)
    assert len(model.loss_curve_) == model.n_iter_ == 3
    assert model.predict(x).shape == y.shape


# ---- what scikit-learn's MLP does not have -------------------------------------------


def test_class_weight_is_a_weight_of_rows():
    x, y = data_of("wine")
    weights = np.array([1.0, 3.0, 0.5])
    settings = {"random_state": 0, "max_iter": 4, "batch_size": 50}
    model = MLPClassifier(class_weight=dict(enumerate(weights)), **settings).fit(x, y)
    want = MLPClassifier(**settings).fit(x, y, weights[y])
    np.testing.assert_array_equal(model.coefs_[0], want.coefs_[0])
    both_of_them = MLPClassifier(class_weight=dict(enumerate(weights)), **settings)
    want = MLPClassifier(**settings).fit(x, y, weights[y] * (1 + y))
    both_of_them.fit(x, y, 1 + y)
    np.testing.assert_array_equal(both_of_them.coefs_[0], want.coefs_[0])
    balanced = MLPClassifier(class_weight="balanced", **settings).fit(x, y)
    want = MLPClassifier(**settings).fit(x, y, len(y) / 3 / np.bincount(y)[y])
    np.testing.assert_allclose(balanced.coefs_[0], want.coefs_[0], rtol=1e-10)


def test_class_weight_of_a_class_that_these_rows_lack():
    x, y = data_of("wine")
    few = y < 2
    settings = {"random_state": 0}
    model = MLPClassifier(class_weight={1: 3.0, 2: 5.0}, **settings)
    want = MLPClassifier(**settings)
    for rows in (few, ~few, y == 0):
        model.partial_fit(x[rows], y[rows], classes=[0, 1, 2])
        weights = np.array([1.0, 3.0, 5.0])[y[rows]]
        want.partial_fit(x[rows], y[rows], weights, classes=[0, 1, 2])
    np.testing.assert_array_equal(model.coefs_[0], want.coefs_[0])


def test_an_activation_for_each_layer():
    x, y = data_of("diabetes")
    settings = {"hidden_layer_sizes": (5, 4), "random_state": 0, "max_iter": 6}
    same = MLPRegressor(activation=["tanh", "tanh"], **settings).fit(x, y)
    want = MLPRegressor(activation="tanh", **settings).fit(x, y)
    np.testing.assert_array_equal(same.predict(x), want.predict(x))
    model = MLPRegressor(activation=("logistic", "relu"), **settings).fit(x, y)
    (w1, w2, w3), (b1, b2, b3) = model.coefs_, model.intercepts_
    hidden = np.maximum(0, 1 / (1 + np.exp(-(x @ w1 + b1))) @ w2 + b2)
    np.testing.assert_allclose(model.predict(x), (hidden @ w3 + b3)[:, 0], rtol=1e-10)


def first_step(**parameters):
    """Return the first weights, and the change of a first step of size 1 with all rows."""
    x, y = data_of("diabetes")
    model = MLPRegressor(
        hidden_layer_sizes=3,
        solver="sgd",
        momentum=0,
        learning_rate_init=1e-9,
        random_state=0,
        max_iter=1,
        batch_size=len(x),
        **parameters,
    )
    start = np.concatenate([w.ravel() for w in first_weights(x, 3)])
    end = np.concatenate([w.ravel() for w in model.fit(x, y).coefs_])
    return start, (end - start) / 1e-9, len(x)


def first_weights(x, hidden):
    """Return the weights that random_state=0 draws for one hidden layer of relu."""
    random = np.random.RandomState(0)
    weights = []
    for n_in, n_out in ((x.shape[1], hidden), (hidden, 1)):
        bound = np.sqrt(6 / (n_in + n_out))
        weights.append(random.uniform(-bound, bound, (n_in, n_out)))
        random.uniform(-bound, bound, n_out)
    return weights


def test_l1_pulls_every_weight_towards_zero():
    _, free, _ = first_step(alpha=0)
    start, bound, rows = first_step(alpha=0, l1=50.0)
    np.testing.assert_allclose(bound - free, -50 / rows * np.sign(start), atol=1e-5)


@pytest.mark.parametrize("form", [np.array, scipy.sparse.csr_matrix])
def test_dropout(form):
    x, y = data_of("cancer")
    settings = {"hidden_layer_sizes": 30, "learning_rate_init": 0.01, "max_iter": 30}
    free = MLPClassifier(random_state=0, **settings).fit(form(x), y)
    model = MLPClassifier(random_state=0, dropout=0.5, **settings).fit(form(x), y)
    again = clone(model).fit(form(x), y)
    np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
    assert model.loss_ > 1.2 * free.loss_  # of the network with gaps
    assert model.score(x, y) > 0.95


def test_clip_norm_bounds_a_step():
    _, free, _ = first_step()
    _, clipped, _ = first_step(clip_norm=0.5)
    assert np.linalg.norm(free) > 0.5
    assert np.linalg.norm(clipped) <= 0.5 + 1e-6
    cosine = free @ clipped / np.linalg.norm(free) / np.linalg.norm(clipped)
    assert cosine == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_keep_optimizer_makes_two_fits_one(solver):
    x, y = data_of("iris")
    settings = {"solver": solver, "random_state": 0, "shuffle": False, "batch_size": 40}
    whole = MLPClassifier(max_iter=6, **settings).fit(x, y)
    halves = MLPClassifier(max_iter=3, warm_start=True, **settings)
    kept = clone(halves).set_params(keep_optimizer=True)
    for _ in range(2):
        halves.fit(x, y)
        kept.fit(x, y)
    np.testing.assert_array_equal(kept.coefs_[0], whole.coefs_[0])
    assert not np.array_equal(halves.coefs_[0], whole.coefs_[0])
    cold = clone(kept).set_params(warm_start=False).fit(x, y).fit(x, y)
    want = MLPClassifier(max_iter=3, **settings).fit(x, y)
    np.testing.assert_array_equal(cold.coefs_[0], want.coefs_[0])


@pytest.mark.parametrize(
    "change", [{"solver": "adam"}, {"momentum": 0.5}, {"nesterovs_momentum": False}]
)
def test_another_optimizer_starts_anew(change):
    x, y = data_of("iris")
    settings = {"solver": "sgd", "shuffle": False, "max_iter": 3, "warm_start": True}
    kept = MLPClassifier(keep_optimizer=True, random_state=0, **settings)
    anew = MLPClassifier(random_state=0, **settings)
    for model in (kept, anew):
        model.fit(x, y).set_params(**change).fit(x, y)
    np.testing.assert_array_equal(kept.coefs_[0], anew.coefs_[0])


def test_a_kept_optimizer_takes_another_step_size():
    x, y = data_of("iris")
    settings = {"solver": "sgd", "shuffle": False, "max_iter": 3, "momentum": 0.0}
    settings |= {"warm_start": True, "random_state": 0}
    kept, anew = (
        MLPClassifier(keep_optimizer=True, **settings),
        MLPClassifier(**settings),
    )
    for model in (kept, anew):
        model.fit(x, y).set_params(learning_rate_init=0.1).fit(x, y)
    np.testing.assert_array_equal(kept.coefs_[0], anew.coefs_[0])


def test_callback_sees_every_epoch_and_can_stop():
    x, y = data_of("iris")
    states = []

    def callback(state):
        assert not state.params.flags.writeable
        states.append(state)
        return state.epoch == 4

    model = MLPClassifier(callback=callback, random_state=0, batch_size=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, y)
    assert [state.loss for state in states] == model.loss_curve_
    assert [state.step for state in states] == [3, 6, 9, 12]
    assert model.n_iter_ == 4
    assert states[0].validation_loss is None
    states.clear()
    model.set_params(early_stopping=True).fit(x, y)
    held = [state.validation_loss for state in states]
    assert held == model.validation_loss_curve_


def test_callback_sees_the_epoch_that_ends_the_training():
    x, y = data_of("iris")
    epochs = []
    model = MLPClassifier(
        4, random_state=0, tol=0.1, callback=lambda state: epochs.append(state.epoch)
    ).fit(x, y)
    assert epochs == list(range(1, model.n_iter_ + 1))
    assert model.n_iter_ < 200


def test_an_exception_of_the_callback_arrives():
    x, y = data_of("iris")

    def callback(state):
        raise LookupError(state.epoch)

    with pytest.raises(LookupError, match="1"):
        MLPClassifier(callback=callback).fit(x, y)


@pytest.mark.parametrize("form", [np.array, scipy.sparse.csr_matrix])
def test_validation_loss_is_that_of_the_rows_held_out(form):
    x, y = data_of("cancer")
    model = MLPClassifier(early_stopping=True, random_state=0, max_iter=3, alpha=0)
    model.fit(form(x), y)
    # The same draws: the weights come first.
    random = np.random.RandomState(0)
    for n_in, n_out in ((30, 100), (100, 1)):
        random.uniform(size=(n_in + 1) * n_out)
    _, held, _, truth = train_test_split(
        x, y[:, None], random_state=random, test_size=0.1, stratify=y
    )
    best = int(np.argmax(model.validation_scores_))
    proba = model.predict_proba(held)
    want = -np.log(proba[np.arange(len(held)), truth[:, 0]]).mean()
    assert model.validation_loss_curve_[best] == pytest.approx(want, rel=1e-10)


def test_partial_fit_stops_early():
    x, y = data_of("cancer")
    model = MLPClassifier(
        4, early_stopping=True, random_state=0, n_iter_no_change=3, tol=0.01
    )
    calls = 0
    while calls == 0 or not model.stopped_:
        model.partial_fit(x, y, classes=[0, 1])
        calls += 1
        assert calls < 200
    scores = model.validation_scores_
    assert len(scores) == len(model.validation_loss_curve_) == calls
    assert model.best_validation_score_ == max(scores)
    held, truth = model._held, model._held_answers
    assert np.mean(model.predict(held.x) == truth) == max(scores)
    before = model.coefs_[0].copy()
    model.partial_fit(x, y)
    np.testing.assert_array_equal(model.coefs_[0], before)
    model.fit(x, y).partial_fit(x, y)  # begins anew
    assert not model.stopped_


class Scored(MLPRegressor):
    """An MLP with early stopping whose scores on the rows held out are given."""

    def score_as(self, scores):
        self.scores, self.vectors = list(scores), []
        return self

    def _validation_score(self, data, y):  # noqa: ARG002
        self.vectors.append(self._network.params.copy())
        return self.scores[len(self.vectors) - 1]


def scored(scores, **settings):
    model = Scored(
        hidden_layer_sizes=3, random_state=0, early_stopping=True, **settings
    )
    return model.score_as(scores)


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
def test_a_score_that_is_nan_is_never_the_best(how):
    x, y = data_of("diabetes")
    nan = np.nan
    model = scored([nan, nan, 0.1, nan, 0.3, nan, nan, nan, nan], n_iter_no_change=3)
    if how == "fit":
        model.fit(x, y)
    else:
        for _ in range(10):
            model.partial_fit(x, y)
    assert len(model.vectors) == 9  # four in a row without improvement
    assert model.stopped_
    assert model.best_validation_score_ == 0.3
    np.testing.assert_array_equal(model._network.params, model.vectors[4])


def test_without_a_score_the_last_weights_stay():
    x, y = data_of("diabetes")
    for n_iter_no_change, max_iter in ((2, 9), (9, 3)):
        model = scored(
            [np.nan] * 9, n_iter_no_change=n_iter_no_change, max_iter=max_iter
        ).fit(x, y)
        assert len(model.vectors) == 3
        np.testing.assert_array_equal(model._network.params, model.vectors[-1])


@pytest.mark.filterwarnings("ignore:Training was interrupted")
@pytest.mark.parametrize("how", [True, KeyboardInterrupt])
def test_what_calls_a_partial_fit_off_does_not_end_early_stopping(how):
    x, y = data_of("iris")

    def callback(_):
        if how is True:
            return True
        raise how

    model = MLPClassifier(4, early_stopping=True, random_state=0, callback=callback)
    model.partial_fit(x, y, classes=[0, 1, 2])
    assert not model.stopped_
    before = model.coefs_[0].copy()
    model.partial_fit(x, y)
    assert len(model.loss_curve_) == 2
    assert not np.array_equal(model.coefs_[0], before)


@pytest.mark.parametrize("then", [True, False])
def test_early_stopping_may_be_switched_between_fits(then):
    x, y = data_of("iris")
    model = MLPClassifier(4, random_state=0, max_iter=3, early_stopping=not then)
    model.fit(x, y).set_params(early_stopping=then, warm_start=True)
    for go_on in (model.fit, model.partial_fit):
        go_on(x, y)
        assert (model.validation_scores_ is None) == (not then)
        assert hasattr(model, "validation_loss_curve_") == then
    assert len(model.loss_curve_) == 7
    model.set_params(early_stopping=not then, warm_start=False).fit(x, y)
    assert hasattr(model, "validation_loss_curve_") != then
    model.set_params(solver="lbfgs").fit(x, y)
    model = clone(model).set_params(warm_start=True).fit(x, y)
    assert len(model.set_params(solver="adam").fit(x, y).loss_curve_) == 3


def test_partial_fit_of_labels_needs_no_classes(rng):
    x, _ = data_of("wine")
    y = (x[:, :3] + rng.normal(size=(len(x), 3)) > 0).astype(int)
    models = [MLPClassifier(5, random_state=0) for _ in range(2)]
    models[0].partial_fit(x, y).partial_fit(x, y)
    models[1].partial_fit(x, y, classes=[0, 1, 2]).partial_fit(x, y)
    np.testing.assert_array_equal(*(model.predict(x) for model in models))
    assert models[0].predict(x).shape == y.shape


# ---- neurons -------------------------------------------------------------------------


def test_neuron_is_logistic_regression():
    x, y = data_of("cancer")
    model = NeuronClassifier(lr=1.0, max_iter=3000, l2=0.1).fit(x, y)
    # The same optimum: scikit-learn's sums over the rows and weighs the loss by C.
    want = LogisticRegression(C=10 / len(x), tol=1e-10).fit(x, y)
    np.testing.assert_allclose(model.coef_, want.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, want.intercept_, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(x), want.predict_proba(x), atol=1e-6)


def test_neuron_starts_from_zero_and_descends():
    x, y = data_of("iris")
    model = NeuronClassifier(lr=0.5, max_iter=1, fit_intercept=False).fit(x, y == 1)
    np.testing.assert_allclose(model.coef_[0], 0.5 * x.T @ ((y == 1) - 0.5) / len(x))
    assert model.loss_curve_ == pytest.approx([np.log(2)])
    assert model.intercept_ == [0]


def test_neurons_of_several_classes_are_one_against_all():
    x, y = data_of("wine")
    model = NeuronClassifier(max_iter=50).fit(x, y)
    for i in range(3):
        one = NeuronClassifier(max_iter=50).fit(x, y == i)
        np.testing.assert_allclose(model.coef_[i], one.coef_[0], rtol=1e-10)
    assert model.score(x, y) > 0.95
    a = 1 / (1 + np.exp(-model.decision_function(x)))
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba, a / a.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(
        np.exp(model.predict_log_proba(x)).round(12), proba.round(12)
    )
    far = model.predict_proba(-1000 * np.abs(x))
    np.testing.assert_allclose(far.sum(axis=1), 1)


def test_neuron_weighs_classes_and_rows(rng):
    x, y = data_of("cancer")
    weights = rng.integers(3, size=len(x))
    rows = np.repeat(np.arange(len(x)), weights)
    model = NeuronClassifier(max_iter=20).fit(x, y, sample_weight=weights)
    want = NeuronClassifier(max_iter=20).fit(x[rows], y[rows])
    np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-10)
    heavy = NeuronClassifier(max_iter=20, class_weight={0: 3, 1: 1}).fit(x, y)
    want = NeuronClassifier(max_iter=20).fit(x, y, sample_weight=np.where(y == 0, 3, 1))
    np.testing.assert_allclose(heavy.coef_, want.coef_, rtol=1e-12)


def test_neuron_in_batches_repeats_itself():
    x, y = data_of("cancer")
    model = NeuronClassifier(batch_size=16, max_iter=5, random_state=4)
    first = model.fit(x, y).coef_
    np.testing.assert_array_equal(model.fit(x, y).coef_, first)
    assert not np.array_equal(model.set_params(random_state=5).fit(x, y).coef_, first)


def test_perceptron_finds_a_plane():
    x, y = data_of("iris")
    model = PerceptronClassifier().fit(x, y == 0)
    assert model.score(x, y == 0) == 1
    assert model.mistakes_[0][-1] == 0
    assert model.n_iter_ == len(model.mistakes_[0]) < 1000
    assert PerceptronClassifier().fit(x, y).coef_.shape == (3, 4)


# ---- numbers that a dtype does not hold ----------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", 1e-46), ("beta_1", 1 - 1e-12), ("beta_2", 1 - 1e-12)],
)
def test_a_setting_that_float32_rounds_out_of_range_is_named(name, value):
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(3.0)
    model = MLPRegressor(hidden_layer_sizes=2, max_iter=2, **{name: value})
    with pytest.raises(ValueError, match=f"{name}={value!r} is .* float32"):
        model.fit(x, y)
    assert model.fit(x.astype(float), y).n_iter_ == 2


@pytest.mark.parametrize("weight", [1e-320, 1e308])
def test_weights_whose_sum_is_out_of_range_are_named(weight):
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    model = MLPRegressor(hidden_layer_sizes=2, max_iter=2)
    with pytest.raises(ValueError, match="sample_weight sums to"):
        model.fit(x, y, sample_weight=np.full(3, weight))


# ---- the extra -----------------------------------------------------------------------


def test_without_scikit_learn_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import siglin\n"
        "try:\n    import siglin.estimators\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "siglin[sklearn]"' in done.stdout


def test_siglin_imports_scikit_learn_when_it_is_needed():
    code = (
        "import siglin, sys; print('sklearn' in sys.modules, 'scipy' in sys.modules)\n"
        "print(siglin.estimators.MLPClassifier.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "MLPClassifier"]
