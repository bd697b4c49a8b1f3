"""Losses that are one functor in the kernels: values and gradients in every layout."""

import numpy as np
import pytest

import siglin
from siglin import reference

LOSSES = {
    "poisson": ("poisson", "poisson"),
    "huber": (siglin.Huber(0.7), reference.Huber(0.7)),
    "huber, default": ("huber", reference.Huber(1.0)),
    "quantile": (siglin.Quantile(0.8), reference.Quantile(0.8)),
    "quantile, default": ("quantile", reference.Quantile(0.5)),
}
# Sizes and rows of each layout: one row, columns, rows through products, a neuron's rows.
LAYOUTS = {
    "row": ([3, 4, 2], 1),
    "few rows": ([3, 4, 2], 5),
    "columns": ([3, 4, 2], 77),
    "products": ([130, 140, 3], 40),
    "neuron": ([70, 1], 530),
}


def problem(name, layout, dtype, rng):
    loss, of_reference = LOSSES[name]
    sizes, rows = LAYOUTS[layout]
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    t = rng.gamma(2.0, size=(rows, sizes[-1])).astype(dtype)
    net = siglin.Network(sizes, loss=loss, dtype=dtype, seed=3)
    net.params[:] = 0.3 * rng.normal(size=net.n_params)
    same = reference.Network(sizes, loss=of_reference, dtype=dtype, seed=3)
    same.params[:] = net.params
    return net, same, x, t


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_the_references(name, layout, dtype, target, rng):
    net, same, x, t = problem(name, layout, dtype, rng)
    loss, grads = net.loss_and_grads(x, t)
    want, right = same.loss_and_grads(x, t)
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    assert loss == pytest.approx(want, rel=rtol)
    size = np.abs(right).max()
    np.testing.assert_allclose(grads, right, rtol=rtol, atol=rtol * size)
    assert net.loss(x, t) == pytest.approx(want, rel=rtol)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_fit_is_the_references(name, layout, weights, rng):
    net, same, x, t = problem(name, layout, np.dtype("float64"), rng)
    settings = {"lr": 1e-3, "epochs": 3, "batch_size": 33, "shuffle": False}
    if weights:
        settings["sample_weight"] = rng.uniform(0.1, 2, len(x))
    history = net.fit(x, t, **settings)
    want = same.fit(x, t, **settings)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-11)
    np.testing.assert_allclose(net.params, same.params, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("output", ["identity", "tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("name", ["huber", "quantile"])
def test_any_output_goes_with_them(name, output, rng):
    loss, of_reference = LOSSES[name]
    x, t = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    net = siglin.Network([3, 5, 2], loss=loss, output_activation=output, seed=1)
    same = reference.Network(
        [3, 5, 2], loss=of_reference, output_activation=output, seed=1
    )
    same.params[:] = net.params
    for rows in (1, 7, 40):
        got = net.loss_and_grads(x[:rows], t[:rows])[1]
        want = same.loss_and_grads(x[:rows], t[:rows])[1]
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


def test_single_rows_descend_by_them(rng):
    for loss, of_reference in LOSSES.values():
        net = siglin.Network([3, 4, 2], loss=loss, seed=1)
        same = reference.Network([3, 4, 2], loss=of_reference, seed=1)
        same.params[:] = net.params
        x, t = rng.normal(size=(20, 3)), rng.gamma(2.0, size=(20, 2))
        settings = {"lr": 1e-2, "epochs": 4, "batch_size": 1, "shuffle": False}
        got, want = net.fit(x, t, **settings), same.fit(x, t, **settings)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-10)
        np.testing.assert_allclose(net.params, same.params, rtol=1e-9, atol=1e-12)


def test_the_median_is_learnt_by_the_quantile_loss(rng):
    t = rng.exponential(size=4001)
    net = siglin.Network(
        [1, 1], loss=siglin.Quantile(0.9), init="zeros", dtype="float64"
    )
    net.fit(np.zeros((t.size, 1)), t, lr=0.5, epochs=4000)
    assert net.params[-1] == pytest.approx(np.quantile(t, 0.9), abs=0.01)


@pytest.mark.parametrize("loss", [siglin.Huber(2.5), siglin.Quantile(0.25), "poisson"])
def test_files_and_repr_keep_the_number(loss, tmp_path):
    net = siglin.Network([2, 3, 1], loss=loss, seed=0)
    net.save(tmp_path / "net.safetensors")
    again = siglin.load(tmp_path / "net.safetensors")
    assert repr(again) == repr(net)
    assert repr(loss) in repr(net)
    x, t = np.ones((4, 2)), np.arange(4.0)
    assert again.loss(x, t) == net.loss(x, t)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: siglin.Huber(0), ValueError),
        (lambda: siglin.Huber(float("nan")), ValueError),
        (lambda: siglin.Huber("1"), TypeError),
        (lambda: siglin.Quantile(0), ValueError),
        (lambda: siglin.Quantile(1.0), ValueError),
        (lambda: siglin.Quantile(None), TypeError),
        (lambda: siglin.Network([1, 1], loss="mse"), ValueError),
        (lambda: siglin.Network([1, 1], loss=siglin.Huber), TypeError),
    ],
)
def test_wrong_losses_are_refused(make, error):
    with pytest.raises(error):
        make()


def test_the_names_are_those_of_the_kernels():
    assert siglin.losses() == list(siglin._losses.OUTPUTS)
