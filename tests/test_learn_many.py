"""Network.learn_many and update: the bits of a fit's step, and what they refuse."""

import numpy as np
import pytest

import siglin
from siglin._training.optimizers import OPTIMIZERS
from test_learn_one import OPTIONS, make, make_rows, state


def object_of(options):
    """Return the options with an object for the name of an optimiser."""
    name = options.get("optimizer", "gd")
    return {**options, "optimizer": OPTIMIZERS[name]()}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", [{}, *OPTIONS[:-1]], ids=str)
@pytest.mark.parametrize(
    "name",
    ["smallest", "classes", "large", "neuron", "counts", "far ones", "a quantile"],
)
def test_bits_are_those_of_a_fit(name, options, weighted, target, dtype, rng):
    net, other = make(name, dtype), make(name, dtype)
    fit_options = object_of(options)
    for rows in (20, 1, 33):
        x, t = make_rows(net, rng, rows)
        w = rng.uniform(0.5, 2, size=rows).astype(dtype) if weighted else None
        loss = net.learn_many(x, t, lr=0.05, sample_weight=w, **options)
        history = other.fit(x, t, lr=0.05, sample_weight=w, **fit_options)
        assert history.loss == [loss]
        assert state(net) == state(other)


def test_what_it_refuses(rng):
    net = make("smallest")
    x, t = make_rows(net, rng, 5)
    before = state(net)
    for arguments, options, error in (
        ((x[0], t[0]), {}, siglin.ShapeError),
        ((x[:0], t[:0]), {}, siglin.ShapeError),
        ((x, t[:3]), {}, siglin.ShapeError),
        ((x * np.nan, t), {}, ValueError),
        ((x, t + 2), {}, ValueError),
        ((x.astype(np.float32), t), {}, siglin.DTypeError),
        ((x, t), {"lr": 0.0}, ValueError),
        ((x, t), {"sample_weight": np.zeros(5)}, ValueError),
        ((x, t), {"sample_weight": np.ones(4)}, siglin.ShapeError),
        ((x, t), {"clip_norm": -1.0}, ValueError),
    ):
        with pytest.raises(error, match=r"^learn_many: "):
            net.learn_many(*arguments, **options)
        assert state(net) == before
    with pytest.raises(ValueError, match=r"^learn_many: .*step"):
        siglin.Network([3, 2, 1], activation="step").learn_many(np.ones((2, 3)), [1, 0])


def test_divergence_keeps_the_parameters(dtype):
    net = siglin.Network([1, 1], loss="squared_error", dtype=dtype, seed=0)
    huge = np.finfo(dtype).max / 4
    before = state(net)
    for optimizer in ("gd", "adam"):
        with pytest.raises(siglin.DivergenceError, match=r"^learn_many: "):
            net.learn_many(
                np.array([[huge]], dtype), [[-huge]], lr=1.0, optimizer=optimizer
            )
        assert state(net) == before


# ---- update --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"optimizer": name} for name in OPTIMIZERS]
    + [{"l1": 0.02}, {"l2": 0.1, "optimizer": "adam"}, {"clip_norm": 0.05}],
    ids=str,
)
@pytest.mark.parametrize("name", ["smallest", "large"])
def test_update_takes_the_step_of_a_fit(name, options, target, dtype, rng):
    net, other = make(name, dtype), make(name, dtype)
    fit_options = object_of(options)
    for _ in range(4):
        x, t = make_rows(net, rng)
        net.loss_and_grads(x, t)
        grads = net.grads.copy()
        net.update(0.05, **options)
        assert net.grads.tobytes() == grads.tobytes()
        other.fit(x, t, lr=0.05, **fit_options)
        assert state(net) == state(other)


def test_update_refuses_what_fit_does(rng):
    net = make("smallest")
    net.grads = np.ones(net.n_params)
    before = state(net)
    for options, error in (
        ({"optimizer": "sgd"}, ValueError),
        ({"lr": -1.0, "optimizer": "adam"}, ValueError),
        ({"l1": -1.0}, ValueError),
        ({"clip_norm": 0.0}, ValueError),
    ):
        with pytest.raises(error, match=r"^update: "):
            net.update(**{"lr": 0.1, **options})
    net.grads = np.full(net.n_params, np.nan)
    with pytest.raises(siglin.DivergenceError, match=r"^update: "):
        net.update(0.1, optimizer="adam")
    assert state(net) == before
