"""t log(t) of the Poisson deviance: in every loss, and found once for a whole fit."""

import time

import numpy as np
import pytest

from siglin import _core
from siglin.reference import losses as reference


def network(dtype, n_out=1):
    return _core.Network([1, n_out], ["exp"], [True], "poisson", np.dtype(dtype).name)


def fit(net, params, x, t, *, epochs, batch_size, weights=None, on_epoch=None):
    return net.fit(
        params,
        x,
        t,
        np.array([1, 2, 3, 4], np.uint64),
        _core.FitSettings(1e-9, epochs, batch_size, weights=weights),
        np.empty(0, x.dtype),
        hooks=_core.FitHooks(on_epoch),
    )


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("epochs", [1, 3])
def test_every_epoch_has_the_whole_deviance(
    batch_size, weighted, epochs, dtype, target, rng
):
    rows, n_out = 11, 2
    net = network(dtype, n_out)
    params = rng.normal(size=2 * n_out).astype(dtype)
    x = rng.normal(size=(rows, 1)).astype(dtype)
    t = rng.poisson(2.0, size=(rows, n_out)).astype(dtype)
    weights = rng.uniform(0.5, 2, size=rows).astype(dtype) if weighted else None
    z = x.astype(float) @ params[None, :n_out].astype(float) + params[n_out:]
    each = reference.poisson(z, t.astype(float)).sum(axis=1)
    want = np.average(each, weights=weights)
    assert net.loss(params, x, t, weights=weights) == pytest.approx(want, rel=1e-5)
    got = fit(
        net,
        params,
        x,
        t,
        epochs=epochs,
        batch_size=batch_size,
        weights=weights if weighted else None,
    )[0]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_many_fits_on_some_rows_have_the_whole_deviance(rng):
    net = network(np.float64)
    x, t = rng.normal(size=(9, 1)), rng.poisson(3.0, size=(9, 1)).astype(float)
    rows = np.array([8, 1, 1, 5])
    params = np.array([0.3, 0.2])
    want = reference.poisson(x[rows] * 0.3 + 0.2, t[rows]).mean()
    job = (
        net,
        params,
        t,
        rows,
        np.array([1, 2, 3, 4], np.uint64),
        _core.FitSettings(1e-9, 3, 2),
        np.empty(0),
        None,
    )
    ((losses, *_),) = _core.fit_many(x, [job], on_progress=None)
    np.testing.assert_allclose(losses, want, rtol=1e-7)


@pytest.mark.parametrize(
    ("z", "t", "want"),
    [
        (np.inf, 1.0, np.inf),
        (np.inf, 0.0, np.inf),
        (-np.inf, 0.0, 0.0),
        (-np.inf, 2.0, np.inf),
    ],
)
def test_an_infinite_logarithm_has_the_loss_of_its_limit(z, t, want, dtype, target):
    large = float(np.finfo(dtype).max) / 4
    params = np.array([large, 0], dtype)
    x = np.array([[8 if z > 0 else -8]], dtype)
    assert network(dtype).loss(params, x, np.array([[t]], dtype)) == want
    assert reference.poisson(np.array([[z]], dtype), np.array([[t]], dtype)) == want


def test_logarithms_of_targets_take_no_time_in_later_epochs():
    """Steps on targets whose logarithm is needed take as long as those on zeros."""
    rows, n_out, epochs = 256, 64, 40
    net = network(np.float32, n_out)
    x = np.zeros((rows, 1), np.float32)

    def seconds(t):
        targets = np.full((rows, n_out), t, np.float32)
        params = np.zeros(2 * n_out, np.float32)
        start = time.process_time()
        fit(net, params, x, targets, epochs=epochs, batch_size=rows)
        return time.process_time() - start

    pairs = [(seconds(7.3), seconds(0.0)) for _ in range(15)]
    assert np.median([some / none for some, none in pairs]) < 1.3
