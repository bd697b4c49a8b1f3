"""Cross-entropy: few classes go a row to a lane, many, and a row alone, side by side."""

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits

CLASSES = [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 20]


def logits_as_parameters(classes, rows, dtype):
    """Return a network whose logits are its own weights, one row for each input."""
    net = siglin.Network([rows, classes], loss="cross_entropy", bias=False, dtype=dtype)
    return net, np.eye(rows, dtype=dtype)


def exact(z, t):
    """Return each row's loss and dz, in long double."""
    z, t = z.astype(np.longdouble), t.astype(np.longdouble)
    shifted = z - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    mass = t.sum(axis=1, keepdims=True)
    loss = np.where(t == 0, 0, t * -shifted).sum(axis=1) + mass[:, 0] * np.log(
        total[:, 0]
    )
    return loss, mass * np.exp(shifted) / total - t


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 70])
def test_loss_and_gradient_of_every_shape(classes, rows, dtype, target, rng):
    net, x = logits_as_parameters(classes, rows, dtype)
    z = rng.normal(scale=4, size=(rows, classes)).astype(dtype)
    t = np.eye(classes, dtype=dtype)[rng.integers(classes, size=rows)]
    t[:: rows // 2 + 1] = rng.dirichlet(np.ones(classes))
    net.params = z.ravel()
    loss, dz = exact(z, t)
    eps = float(np.finfo(dtype).eps)
    got, grads = net.loss_and_grads(x, t)
    # classes + 4 roundings in a row's sums, 2 ulp of exp, 1 each of logarithm and mean.
    assert got == pytest.approx(float(loss.mean()), rel=(classes + 8) * eps, abs=eps)
    want = (dz / rows).astype(np.float64).ravel()
    np.testing.assert_allclose(grads, want, rtol=0, atol=(classes + 8) * eps / rows)


@pytest.mark.parametrize("classes", [2, 10, 17])
def test_a_lane_does_not_depend_on_the_others(classes, dtype, target, rng):
    """Whatever is in the other rows, and wherever in the batch it is."""
    rows = 19
    net, x = logits_as_parameters(classes, rows, dtype)
    z = rng.normal(scale=4, size=(rows, classes)).astype(dtype)
    t = np.eye(classes, dtype=dtype)[rng.integers(classes, size=rows)]
    net.params = z.ravel()
    want = net.loss_and_grads(x, t)[1].reshape(rows, classes).copy()
    order = rng.permutation(rows)
    net.params = z[order].ravel()
    got = net.loss_and_grads(x, t[order])[1].reshape(rows, classes)
    assert_same_bits(got, want[order])


@pytest.mark.parametrize("classes", [3, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_a_broken_logit_breaks_the_loss(classes, bad, place, dtype, target):
    """Also one whose class has no share of the target."""
    rows = 5
    net, x = logits_as_parameters(classes, rows, dtype)
    t = np.eye(classes, dtype=dtype)[np.ones(rows, int)]
    z = np.zeros((rows, classes), dtype)
    z[3, place] = bad
    net.params[:] = z.ravel()
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(net.loss(x, t))


@pytest.mark.parametrize("classes", [3, 20])
def test_far_logits(classes, dtype, target):
    """exp(-1000) is 0, and a class that is out of reach costs nothing where unwanted."""
    rows = 4
    net, x = logits_as_parameters(classes, rows, dtype)
    z = np.zeros((rows, classes), dtype)
    z[:, 1] = 1000
    t = np.eye(classes, dtype=dtype)[np.ones(rows, int)]
    net.params = z.ravel()
    assert net.loss(x, t) == 0
    assert net.loss(x, np.roll(t, 1, axis=1)) == 1000


def test_logarithms_of_sums(dtype, target):
    """n equal logits: log(n), for one class to sixteen, in every binade on the way."""
    eps = float(np.finfo(dtype).eps)
    for classes in range(1, 17):
        net, x = logits_as_parameters(classes, 3, dtype)
        net.params[:] = 0.25
        t = np.eye(classes, dtype=dtype)[np.zeros(3, int)]
        assert net.loss(x, t) == pytest.approx(np.log(classes), rel=4 * eps, abs=0)
