"""Weights of rows, penalties, a given order and a changing step: fits beyond the plain."""

from itertools import pairwise

import numpy as np
import pytest

import siglin
from helpers import COMPLEX, assert_same_bits, complex_step_gradient, fit_arguments
from siglin import _core, reference

SIZES = [3, 5, 2]
LOSSES = ["bce", "squared_error", "cross_entropy", "poisson"]
OUTPUTS = {
    "bce": "sigmoid",
    "squared_error": "identity",
    "cross_entropy": "softmax",
    "poisson": "exp",
}
UNUSED = np.ones(4, np.uint64)  # a generator's state


def make_data(rng, loss="bce", rows=23, sizes=SIZES, dtype=np.float64):
    x = rng.normal(size=(rows, sizes[0]))
    t = rng.uniform(size=(rows, sizes[-1]))
    if loss == "cross_entropy":
        t = np.eye(sizes[-1])[rng.integers(sizes[-1], size=rows)]
    if loss == "poisson":
        t = rng.poisson(2.0, size=t.shape)
    w = rng.integers(4, size=rows)
    return x.astype(dtype), t.astype(dtype), w.astype(dtype)


def native(loss, sizes=SIZES, output=None, dtype="float64"):
    names = ["tanh"] * (len(sizes) - 2) + [output or OUTPUTS[loss]]
    return _core.Network(sizes, names, [True] * len(names), loss, dtype)


def weight_mask(sizes):
    """Return which entries of the parameters are weights, not biases."""
    parts = []
    for n_in, n_out in pairwise(sizes):
        parts += [np.ones(n_in * n_out, bool), np.zeros(n_out, bool)]
    return np.concatenate(parts)


def complex_objective(loss, sizes, output, x, t, w, penalties):
    """Return the objective as a function of complex parameters."""

    def value(params):
        a, start = x, 0
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            weights = params[start : start + n_in * n_out].reshape(n_in, n_out)
            start += n_in * n_out
            z = a @ weights + params[start : start + n_out]
            start += n_out
            name = "tanh" if i < len(sizes) - 2 else output
            a = np.exp(z) if name == "exp" else COMPLEX[name](z)
        if loss == "bce":
            each = -t * np.log(a) - (1 - t) * np.log(1 - a)
        elif loss == "squared_error":
            each = (a - t) ** 2 / 2
        elif loss == "cross_entropy":
            each = -t * np.log(a)
        else:
            each = t * np.log(np.where(t > 0, t, 1) / a) - t + a
        l1, l2 = penalties
        free = params[weight_mask(sizes)]
        size = np.where(free.real > 0, free, -free)  # |w|, written for complex w
        penalty = l1 * size.sum() + l2 * (free**2).sum() / 2
        return (w[:, None] * each).sum() / w.sum() + penalty

    return value


# ---- the objective of a batch --------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_out", [1, 2, 7, 19])
def test_gradient_is_the_complex_step_derivative(loss, n_out, target, rng):
    sizes = [3, 5, n_out]
    x, t, w = make_data(rng, loss, sizes=sizes)
    net = native(loss, sizes)
    params = rng.normal(size=net.n_params)
    grads = np.empty_like(params)
    got = net.loss_and_grads(params, grads, x, t, weights=w, l1=0.03, l2=0.2)
    value = complex_objective(loss, sizes, OUTPUTS[loss], x, t, w, (0.03, 0.2))
    assert got == pytest.approx(value(params).real, rel=1e-12)
    want = complex_step_gradient(value, params)
    np.testing.assert_allclose(grads, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_reference_has_the_same_objective(loss, target, rng, dtype):
    x, t, w = make_data(rng, loss, dtype=dtype)
    net = native(loss, dtype=dtype.name)
    other = reference.Network(SIZES, activation="tanh", loss=loss, dtype=dtype, seed=1)
    params = other.params.copy()
    grads = np.empty_like(params)
    got = net.loss_and_grads(params, grads, x, t, weights=w, l1=0.03, l2=0.2)
    eps = float(np.finfo(dtype).eps)
    want = other.loss_and_grads_of(x, t, w, 0.03, 0.2)
    assert got == pytest.approx(want, rel=100 * eps)
    np.testing.assert_allclose(grads, other.grads, rtol=1e3 * eps, atol=1e2 * eps)


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_squared_error_of_a_bent_output(output, target, rng):
    x, t, w = make_data(rng, "squared_error")
    net = native("squared_error", output=output)
    params = rng.normal(size=net.n_params)
    grads = np.empty_like(params)
    net.loss_and_grads(params, grads, x, t, weights=w)
    value = complex_objective("squared_error", SIZES, output, x, t, w, (0, 0))
    want = complex_step_gradient(value, params)
    np.testing.assert_allclose(grads, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_stays_close(loss, target, rng):
    x, t, w = make_data(rng, loss)
    params = rng.normal(size=native(loss).n_params)
    wide, narrow = np.empty_like(params), np.empty(params.size, np.float32)
    want = native(loss).loss_and_grads(params, wide, x, t, weights=w, l1=0.1, l2=0.1)
    got = native(loss, dtype="float32").loss_and_grads(
        params.astype(np.float32),
        narrow,
        *(v.astype(np.float32) for v in (x, t)),
        weights=w.astype(np.float32),
        l1=0.1,
        l2=0.1,
    )
    assert got == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 23, 5003])
def test_weights_of_one_change_nothing(rows, target, rng, dtype):
    x, t, _ = make_data(rng, rows=rows, dtype=dtype)
    net = native("bce", dtype=dtype.name)
    params = rng.normal(size=net.n_params).astype(dtype)
    plain, weighted = np.empty_like(params), np.empty_like(params)
    want = net.loss_and_grads(params, plain, x, t)
    got = net.loss_and_grads(params, weighted, x, t, weights=np.ones(rows, dtype))
    eps = float(np.finfo(dtype).eps)
    assert got == pytest.approx(want, rel=100 * eps)
    np.testing.assert_allclose(weighted, plain, rtol=1e3 * eps, atol=1e3 * eps)


def test_a_weight_is_a_number_of_copies(rng):
    x, t, w = make_data(rng)
    copies = np.repeat(np.arange(len(x)), w.astype(int))
    net = native("bce")
    params = rng.normal(size=net.n_params)
    one, many = np.empty_like(params), np.empty_like(params)
    got = net.loss_and_grads(params, one, x, t, weights=w)
    want = net.loss_and_grads(params, many, x[copies], t[copies])
    assert got == pytest.approx(want, rel=1e-14)
    np.testing.assert_allclose(one, many, rtol=1e-12, atol=1e-15)


def test_rows_of_no_weight_give_no_loss(rng):
    x, t, _ = make_data(rng)
    net = native("bce")
    params = rng.normal(size=net.n_params)
    grads = np.empty_like(params)
    assert net.loss_and_grads(params, grads, x, t, weights=np.zeros(len(x))) == 0
    assert not grads.any()


def test_poisson_predicts_the_exponential(target, rng, dtype):
    sizes = [3, 9]
    net = _core.Network(sizes, ["exp"], [True], "poisson", dtype.name)
    params = (20 * rng.normal(size=net.n_params)).astype(dtype)
    x = rng.normal(size=(11, 3)).astype(dtype)
    w, b = params[:27].reshape(3, 9).astype(float), params[27:].astype(float)
    z = x.astype(float) @ w + b
    got = net.predict(params, x)
    # The rounding of z, of up to 100, is an error of exp(z) times as large.
    info = np.finfo(dtype)
    np.testing.assert_allclose(got, np.exp(z), rtol=400 * info.eps, atol=info.tiny)
    few = net.predict(params, x[:1])
    assert_same_bits(few, got[:1])


# ---- fits ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
@pytest.mark.parametrize("loss", ["bce", "squared_error", "cross_entropy"])
def test_fit_matches_the_reference(optimizer, batch_size, loss, rng):
    x, t, w = make_data(rng, loss)
    options = {"activation": "tanh", "loss": loss, "seed": 3}
    net, ours = siglin.Network(SIZES, **options), reference.Network(SIZES, **options)
    settings = {
        "lr": 0.05,
        "epochs": 6,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "sample_weight": w,
        "l1": 0.02,
        "l2": 0.3,
    }
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-12)


@pytest.mark.parametrize("settings", [{"l2": 0.5}, {"l1": 0.01}, {"l1": 0.1, "l2": 1}])
def test_a_neuron_takes_penalties_too(settings, rng):
    """Its plain fits have loops of their own."""
    x, t, _ = make_data(rng, sizes=[3, 1])
    net, ours = siglin.Neuron(3, bias=True), reference.Neuron(3, bias=True)
    for batch_size in (None, 1, 4):
        net.fit(x, t, epochs=9, batch_size=batch_size, shuffle=False, **settings)
        ours.fit(x, t, epochs=9, batch_size=batch_size, shuffle=False, **settings)
        np.testing.assert_allclose(net.params, ours.params, rtol=1e-11)


def test_l2_shrinks_weights_and_not_biases(rng):
    x = rng.normal(size=(40, 3))
    settings = {"lr": 0.1, "epochs": 4000}
    free = siglin.Network([3, 1], loss="squared_error", seed=0)
    bound = siglin.Network([3, 1], loss="squared_error", seed=0)
    free.fit(x, x @ [[1], [2], [3]] + 5, **settings)
    bound.fit(x, x @ [[1], [2], [3]] + 5, l2=1.0, **settings)
    np.testing.assert_allclose(free.params, [1, 2, 3, 5], atol=1e-9)
    # Ridge regression, with the intercept free.
    centred = x - x.mean(axis=0)
    w = np.linalg.solve(
        centred.T @ centred / 40 + np.eye(3), centred.T @ centred / 40 @ [1, 2, 3]
    )
    np.testing.assert_allclose(bound.params[:3], w, atol=1e-9)


def test_l1_makes_weights_small(rng):
    x = rng.normal(size=(60, 4))
    net = siglin.Network([4, 1], loss="squared_error", init="zeros")
    net.fit(x, x @ [[3], [0], [0], [0]], lr=0.01, epochs=3000, l1=0.5)
    assert np.abs(net.params[1:4]).max() < 0.01  # no further than a step from 0
    assert net.params[0] > 2


@pytest.mark.parametrize("most", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("optimizer", ["gd", "nesterov", "adam"])
def test_clipped_gradients_match_the_reference(most, optimizer, rng):
    x, t, _ = make_data(rng)
    net, ours = (library.Network(SIZES, seed=3) for library in (siglin, reference))
    settings = {"lr": 0.2, "epochs": 5, "batch_size": 6, "optimizer": optimizer}
    net.fit(x, t, clip_norm=most, **settings)
    ours.fit(x, t, clip_norm=most, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_clipping_of_gradients_whose_squares_are_out_of_range(size):
    net = siglin.Neuron(2)
    # Half of x is missing: the gradient is -(3, 4) times the size.
    net.fit([[6 * size, 8 * size]], [1], lr=1.0, clip_norm=size / 10)
    np.testing.assert_allclose(net.params / size, [0.06, 0.08], rtol=1e-14)


def test_a_schedule_gives_the_step_of_each_epoch(rng):
    x, t, _ = make_data(rng)
    for optimizer in ("gd", "momentum", "adam"):
        net, ours = (library.Network(SIZES, seed=3) for library in (siglin, reference))
        seen = []

        def schedule(epoch, seen=seen):
            seen.append(epoch)
            return 0.5 / (1 + epoch)

        settings = {"epochs": 4, "batch_size": 9, "optimizer": optimizer}
        net.fit(x, t, lr=schedule, **settings)
        assert seen == [0, 1, 2, 3]  # not beyond the last epoch
        ours.fit(x, t, lr=lambda epoch: 0.5 / (1 + epoch), **settings)
        np.testing.assert_allclose(net.params, ours.params, rtol=1e-10, atol=1e-12)
    net.fit(x, t, lr=schedule, epochs=0)


def test_a_constant_schedule_changes_no_step(rng):
    x, t, _ = make_data(rng)
    net, other = siglin.Network(SIZES, seed=3), siglin.Network(SIZES, seed=3)
    net.fit(x, t, lr=0.1, epochs=5, batch_size=4)
    other.fit(x, t, lr=lambda epoch: 0.1, epochs=5, batch_size=4)  # noqa: ARG005
    np.testing.assert_allclose(net.params, other.params, rtol=1e-12)


@pytest.mark.parametrize(
    "wrong", [lambda e: 0.1 - 0.1 * e, lambda e: "x" * e, lambda e: 1 / (1 - e)]
)
def test_what_a_schedule_does_wrong_ends_the_fit(wrong, rng):
    x, t, _ = make_data(rng)
    net, one = siglin.Network(SIZES, seed=3), siglin.Network(SIZES, seed=3)
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        net.fit(x, t, lr=wrong, epochs=9)
    if wrong(0) != "":
        one.fit(x, t, lr=wrong(0), epochs=1)
    assert_same_bits(net.params, one.params)


def test_divergence_tells_the_step_size_of_its_epoch(rng):
    x, t, _ = make_data(rng)
    net = siglin.Network(SIZES, loss="squared_error", seed=3)
    with pytest.raises(siglin.DivergenceError, match=r"lr is 1e\+300"):
        net.fit(x, t, lr=lambda epoch: [0.1, 1e300][epoch], epochs=2, batch_size=1)


# ---- dropout -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "identity", "relu"])
@pytest.mark.parametrize("loss", ["bce", "squared_error", "cross_entropy"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_dropout_matches_the_reference(activation, loss, batch_size, rng):
    sizes = [3, 5, 8, 2]
    x, t, w = make_data(rng, loss, sizes=sizes)
    options = {"activation": activation, "loss": loss, "seed": 3}
    net, ours = siglin.Network(sizes, **options), reference.Network(sizes, **options)
    settings = {"lr": 0.01, "epochs": 4, "batch_size": batch_size, "dropout": 0.4}
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-11)
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-10, atol=1e-12)
    settings |= {"sample_weight": w, "optimizer": "adam", "l2": 0.1}
    net.fit(x, t, **settings)
    ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-9, atol=1e-12)


def test_dropped_are_as_many_as_asked_for():
    net = reference.Network([1, 40, 31, 1])
    for p in (0.1, 0.5, 0.9):
        for seed in (0, 2**64 - 1):
            for mask in net.dropout_masks(500, p, seed):
                dropped = mask == 0
                np.testing.assert_allclose(mask[~dropped], 1 / (1 - p))
                count = mask.size
                # Five standard deviations.
                assert abs(dropped.mean() - p) < 5 * np.sqrt(p * (1 - p) / count)
                rows = dropped.mean(axis=1)
                spread = np.sqrt(p * (1 - p) / mask.shape[1])
                assert 0.8 * spread < rows.std() < 1.2 * spread
    one, other = net.dropout_masks(500, 0.5, 1)[0], net.dropout_masks(500, 0.5, 2)[0]
    assert abs(((one == 0) == (other == 0)).mean() - 0.5) < 0.02


def test_dropout_is_the_same_for_any_number_of_threads(rng):
    sizes = [3, 30, 1]
    x, t, _ = make_data(rng, rows=20_000, sizes=sizes)
    params = []
    for threads in (1, 2, 5):
        net = siglin.Network(sizes, seed=3)
        with siglin.num_threads(threads):
            net.fit(x, t, epochs=2, dropout=0.3)
        params.append(net.params)
    assert_same_bits(params[0], params[1])
    assert_same_bits(params[0], params[2])


@pytest.mark.parametrize(
    ("value", "error"), [(-0.1, ValueError), (1, ValueError), ("0", TypeError)]
)
def test_dropout_is_a_fraction(value, error):
    with pytest.raises(error, match="dropout"):
        siglin.Network([1, 2, 1]).fit([[1.0]], [1.0], dropout=value)


# ---- validation ----------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, 1, 4])
@pytest.mark.parametrize("min_delta", [0.0, 0.003])
def test_validation_matches_the_reference(patience, min_delta, rng):
    x, t, _ = make_data(rng, rows=8)
    held = make_data(rng, rows=6)[:2]
    net, ours = (library.Network(SIZES, seed=3) for library in (siglin, reference))
    settings = {
        "lr": 1.0,
        "epochs": 40,
        "validation_data": held,
        "patience": patience,
        "min_delta": min_delta,
    }
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(
        history.validation_loss, want.validation_loss, rtol=1e-11
    )
    assert len(history.validation_loss) == history.epochs
    for name in ("epochs", "steps", "stop_reason", "best_epoch"):
        assert getattr(history, name) == getattr(want, name)
    assert history.stop_reason == ("epochs" if patience is None else "patience")
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-10)


def test_patience_leaves_the_best_parameters(rng):
    x, t, _ = make_data(rng, rows=8)
    held = make_data(rng, rows=6)[:2]
    net = siglin.Network(SIZES, seed=3)
    history = net.fit(x, t, lr=1.0, epochs=400, validation_data=held, patience=5)
    best = min(history.validation_loss)
    assert history.best_epoch == history.validation_loss.index(best) + 1
    assert history.epochs == history.best_epoch + 5 < 400
    assert net.loss(*held) == best


def test_patience_restores_also_where_the_epochs_end(rng):
    x, t, _ = make_data(rng, rows=8)
    held = make_data(rng, rows=6)[:2]
    net = siglin.Network(SIZES, seed=3)
    history = net.fit(x, t, lr=1.0, epochs=400, validation_data=held, patience=400)
    assert history.stop_reason == "epochs"
    assert net.loss(*held) == min(history.validation_loss) < history.validation_loss[-1]


def overflowing(library, dtype):
    """Return a network, rows that halve its weights, and rows that it soon stands.

    In the first epochs both hidden units are infinite on the last of them, and the logit
    is their difference. Later it is 0.
    """
    net = library.Network([1, 2, 1], activation="relu", bias=False, dtype=dtype)
    net.params = [16, 16, 1, -1]
    large = np.finfo(dtype).max / 1.8
    held = np.array([[1], [large]], dtype), np.array([0.5, 0.5], dtype)
    train = np.zeros((4, 1), dtype), np.full(4, 0.5, dtype)
    return net, train, {"validation_data": held, "lr": 0.5, "l2": 1.0}


@pytest.mark.parametrize("patience", [6, 40])
def test_the_best_validation_loss_is_finite(patience, dtype):
    net, train, settings = overflowing(siglin, dtype)
    seen = []
    history = net.fit(
        *train,
        **settings,
        epochs=30,
        patience=patience,
        callback=lambda state: seen.append(state.params.copy()),
    )
    losses = np.array(history.validation_loss)
    assert np.isnan(losses[:3]).all()
    np.testing.assert_allclose(losses[3:], np.log(2))
    assert history.best_epoch == 4
    assert history.stop_reason == ("patience" if patience == 6 else "epochs")
    assert history.epochs == (10 if patience == 6 else 30)
    np.testing.assert_array_equal(net.params, seen[3])
    with np.errstate(all="ignore"):
        ours, train, settings = overflowing(reference, dtype)
        want = ours.fit(*train, **settings, epochs=30, patience=patience)
    for name in ("epochs", "stop_reason", "best_epoch"):
        assert getattr(history, name) == getattr(want, name)
    np.testing.assert_array_equal(net.params, ours.params)


@pytest.mark.parametrize("patience", [2, 9])
def test_without_a_finite_validation_loss_the_last_parameters_stay(patience, dtype):
    net, train, settings = overflowing(siglin, dtype)
    other, _, _ = overflowing(siglin, dtype)
    history = net.fit(*train, **settings, epochs=3, patience=patience)
    assert np.isnan(history.validation_loss).all()
    assert history.best_epoch is None
    assert history.stop_reason == ("patience" if patience == 2 else "epochs")
    other.fit(*train, lr=0.5, l2=1.0, epochs=history.epochs)
    assert history.epochs == min(patience, 3)
    assert_same_bits(net.params, other.params)


def test_callback_sees_the_validation_loss_and_has_the_last_word(rng):
    x, t, _ = make_data(rng, rows=8)
    held = make_data(rng, rows=6)[:2]
    net, seen = siglin.Network(SIZES, seed=3), []

    def callback(state):
        seen.append(state.validation_loss)
        return state.epoch == 3

    history = net.fit(
        x, t, epochs=9, validation_data=held, patience=3, callback=callback
    )
    assert seen == history.validation_loss
    assert (history.epochs, history.stop_reason) == (3, "callback")
    net.fit(x, t, callback=lambda state: seen.append(state.validation_loss))
    assert seen[-1] is None


def test_validation_changes_no_step(rng):
    x, t, _ = make_data(rng)
    net, other = siglin.Network(SIZES, seed=3), siglin.Network(SIZES, seed=3)
    net.fit(x, t, epochs=6, batch_size=4)
    other.fit(x, t, epochs=6, batch_size=4, validation_data=(x, t))
    assert_same_bits(net.params, other.params)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"patience": 0}, ValueError, "patience"),
        ({"min_delta": -1}, ValueError, "min_delta"),
        ({"clip_norm": 0}, ValueError, "clip_norm"),
        ({"clip_norm": np.inf}, ValueError, "clip_norm"),
        ({"validation_data": 3}, TypeError, "pair"),
        (
            {"validation_data": ([[1.0, 2.0]], [1])},
            siglin.ShapeError,
            "validation_data",
        ),
        ({"validation_data": ([[1.0]], [2])}, ValueError, "validation_data"),
        ({"validation_data": ([[np.nan]], [1])}, ValueError, "validation_data"),
    ],
)
def test_wrong_validation_is_refused(changes, error, words):
    net = siglin.Neuron(1)
    with pytest.raises(error, match=words):
        net.fit([[1.0], [2.0]], [0, 1], **changes)
    assert not net.params.any()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("l1", -1, ValueError),
        ("l2", float("nan"), ValueError),
        ("l2", "1", TypeError),
        ("sample_weight", [1, 2], siglin.ShapeError),
        ("sample_weight", [1, -1, 1], ValueError),
        ("sample_weight", [1, np.inf, 1], ValueError),
        ("sample_weight", [0, 0, 0], ValueError),
    ],
)
def test_wrong_values_are_refused(name, value, error):
    net = siglin.Neuron(1)
    with pytest.raises(error, match=name):
        net.fit([[1.0], [2.0], [3.0]], [0, 1, 1], **{name: value})
    assert not net.params.any()


# ---- what a native fit takes besides -------------------------------------------------


def native_fit(net, params, x, t, **changes):
    settings = {
        "lr": 0.1,
        "epochs": 3,
        "batch_size": 5,
        "shuffle": False,
        "optimizer": "momentum",
        "options": [0.9],
        "moments": np.zeros(net.n_params),
    }
    given = (params, x, t, UNUSED.copy())
    return net.fit(*given, **fit_arguments(**settings | changes))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_given_order_is_that_of_permuted_rows(batch_size, rng):
    x, t, w = make_data(rng)
    net = native("bce")
    order = rng.permutation(len(x))
    start = rng.normal(size=net.n_params)
    params, want = start.copy(), start.copy()
    native_fit(net, params, x, t, order=order, weights=w, batch_size=batch_size)
    native_fit(net, want, x[order], t[order], weights=w[order], batch_size=batch_size)
    assert_same_bits(params, want)


def test_order_and_rate_are_read_at_every_epoch(rng):
    x, t, _ = make_data(rng)
    net = native("bce")
    orders = [rng.permutation(len(x)) for _ in range(3)]
    rates = [0.1, 0.03, 0.2]
    order, rate = orders[0].copy(), np.array(rates[:1])
    params = rng.normal(size=net.n_params)
    want = params.copy()

    def on_epoch(epoch, step, loss, *_):
        if epoch < 3:
            order[...] = orders[epoch]
            rate[0] = rates[epoch]
        return False

    native_fit(net, params, x, t, order=order, rate=rate, on_epoch=on_epoch)
    moments = np.zeros(net.n_params)
    for epoch in range(3):
        native_fit(
            net,
            want,
            x[orders[epoch]],
            t[orders[epoch]],
            lr=rates[epoch],
            epochs=1,
            moments=moments,
        )
    assert_same_bits(params, want)


def test_order_written_in_mid_epoch_is_the_next_one(rng):
    x, t, _ = make_data(rng)
    net = native("bce")
    params = rng.normal(size=net.n_params)
    want = params.copy()
    order, wrong = rng.permutation(len(x)), 1 << 40
    native_fit(net, want, x, t, order=order.copy(), epochs=1)

    def on_step(epoch, step, loss):
        order[...] = wrong

    with pytest.raises(ValueError, match=str(wrong)):
        native_fit(net, params, x, t, order=order, on_step=on_step, every=1)
    assert_same_bits(params, want)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_steps_of_every_loss(loss, batch_size, target, rng):
    x, t, _ = make_data(rng, loss)
    net = native(loss)
    params = rng.normal(size=net.n_params)
    want, grads = params.copy(), np.empty_like(params)
    losses, sizes = [], []
    for begin in range(0, len(x), batch_size):
        rows = slice(begin, begin + batch_size)
        losses.append(net.loss_and_grads(want, grads, x[rows], t[rows]))
        sizes.append(len(x[rows]))
        want -= 0.01 * grads
    plain = {"optimizer": "gd", "options": [], "moments": np.empty(0)}
    settings = {"lr": 0.01, "batch_size": batch_size, "epochs": 1, **plain}
    got, *_ = native_fit(net, params, x, t, **settings)
    np.testing.assert_allclose(params, want, rtol=1e-11, atol=1e-13)
    assert got[0] == pytest.approx(np.average(losses, weights=sizes), rel=1e-11)


@pytest.mark.parametrize("wrong", [-1, 23, 2**40])
def test_order_beyond_the_rows_is_refused(wrong, rng):
    x, t, _ = make_data(rng)
    order = np.arange(len(x))
    order[7] = wrong
    net = native("bce")
    params = np.zeros(net.n_params)
    with pytest.raises(ValueError, match=r"order\[7\]"):
        native_fit(net, params, x, t, order=order)
    assert not params.any()


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_rate_must_be_one_that_descends(rate, rng):
    x, t, _ = make_data(rng)
    net = native("bce")
    with pytest.raises(ValueError, match="lr must be"):
        native_fit(net, np.zeros(net.n_params), x, t, rate=np.array([rate]))


@pytest.mark.parametrize(
    "changes",
    [
        {"order": np.arange(22)},
        {"order": np.arange(23.0)},
        {"order": list(range(23))},
        {"rate": np.ones(2)},
        {"weights": np.ones(22)},
        {"weights": np.ones(23, np.float32)},
        {"l1": -1.0},
        {"l2": np.inf},
        {"clip_norm": -1.0},
        {"l3": 1.0},
    ],
)
def test_the_strict_layer_refuses(changes, rng):
    x, t, _ = make_data(rng)
    net = native("bce")
    params = np.zeros(net.n_params)
    with pytest.raises((ValueError, TypeError)):
        native_fit(net, params, x, t, **changes)
    assert not params.any()
