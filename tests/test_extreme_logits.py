"""Losses and their gradients keep their digits for every logit, infinite ones included.

Every step implementation is asked for the gradient of one logit z: a network whose bias
is 0 and whose last weights make z of its input has the bias -lr dz after one step.
"""

import warnings
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

import siglin
from siglin import reference

ROWS = 32  # a power of two: means of equal rows are exact
HALF = 0.5  # sigmoid(0)


def neuron(z, n_in=1):
    """Return the parameters of [n_in, 1], and x, whose first input is z."""
    return [n_in, 1], [1.0] + [0.0] * n_in, [z] + [0.0] * (n_in - 1)


def hidden(z, width, activation="identity"):
    """Return those of [1, width, 1]; the hidden layer hands z on by its first unit."""
    to_hidden = [1.0] + [0.0] * (width - 1)
    out = [1.0] + [0.0] * (width - 1)
    if activation == "sigmoid":
        to_hidden = [0.0] * width
        out[0] = z / HALF
    return [1, width, 1], [*to_hidden, *[0.0] * width, *out, 0.0], [z]


def step(sizes, params, row, t, dtype, *, rows=1, activation="identity", **settings):
    """Return dz and the loss before, of one step of gradient descent on equal rows."""
    net = siglin.Network(sizes, activation=activation, dtype=dtype)
    net.params = params
    x = np.tile(np.array(row, dtype), (rows, 1))
    targets = np.full((rows, 1), t, dtype)
    history = net.fit(x, targets, lr=1.0, shuffle=False, **settings)
    return -net.params[-1], history.loss[0]


def many(z, t, dtype):
    sizes, params, row = neuron(z)
    net = siglin.Network(sizes, dtype=dtype)
    net.params = params
    (history,) = siglin.fit_many(
        [net], np.full((ROWS, 1), row[0], dtype), np.full((ROWS, 1), t, dtype), lr=1.0
    )
    return -net.params[-1], history.loss[0]


def alone(z, t, dtype):
    sizes, params, row = neuron(z)
    net = siglin.Network(sizes, dtype=dtype)
    net.params = params
    loss = net.learn_one(np.array(row, dtype), t, lr=1.0)
    return -net.params[-1], loss


def gradient(z, t, dtype, *, by_hand=False, rows=1):
    sizes, params, row = neuron(z)
    net = siglin.Network(sizes, dtype=dtype)
    net.params = params
    x, targets = np.full((rows, 1), row[0], dtype), np.full((rows, 1), t, dtype)
    if by_hand:
        net.forward(x)
        loss = net.backward(targets)
    else:
        loss, _ = net.loss_and_grads(x, targets)
    return net.grads[-1], loss


def weighted(z, t, dtype):
    return step(
        *neuron(z), t, dtype, rows=ROWS, sample_weight=np.full(ROWS, 2.0, dtype)
    )


Layout = Callable[..., tuple[float, float]]
LAYOUTS: dict[str, Layout] = {
    "row": gradient,
    "rows": lambda z, t, d: gradient(z, t, d, rows=ROWS),
    "by hand": lambda z, t, d: gradient(z, t, d, rows=ROWS, by_hand=True),
    "row by row": lambda z, t, d: step(*neuron(z), t, d, batch_size=1),
    "row by row, two layers": lambda z, t, d: step(
        *hidden(z, 3, "sigmoid"), t, d, activation="sigmoid", batch_size=1
    ),
    "row by row, wider": lambda z, t, d: step(*hidden(z, 20), t, d, batch_size=1),
    "learn_one": alone,
    "neuron by columns": lambda z, t, d: step(*neuron(z), t, d, rows=ROWS),
    "neuron by columns, momentum": lambda z, t, d: step(
        *neuron(z), t, d, rows=ROWS, optimizer="momentum"
    ),
    "neuron by rows": lambda z, t, d: step(*neuron(z, 70), t, d, rows=ROWS),
    "fit_many": many,
    "narrow": lambda z, t, d: step(*hidden(z, 4), t, d, rows=ROWS),
    "blocks": lambda z, t, d: step(*hidden(z, 200), t, d, rows=ROWS),
    "weighted": weighted,
}
# Steps on single rows wait for a quick exponential (elementary.h).
QUICK = {"row by row", "row by row, two layers", "row by row, wider", "learn_one"}
SINGLE = QUICK | {"row"}


def logits_of(layout, dtype):
    return far_logits(dtype, 1 if layout in SINGLE else ROWS)


def exact(z, t):
    """Return the loss and dz of one logit, by 400 digits: 1 + exp(-708) has 308."""
    with localcontext() as context:
        context.prec = 400
        logit, target = Decimal(float(z)), Decimal(float(t))
        e = (-abs(logit)).exp()
        tail = e / (1 + e)
        a = 1 - tail if logit > 0 else tail
        return (1 + e).ln() + max(logit, Decimal(0)) - target * logit, a - target


def ulps(got, want, dtype):
    spacing = np.spacing(dtype.type(abs(want)))
    return float(abs(Decimal(float(got)) - want) / Decimal(float(spacing)))


def is_close(got, want, dtype, bound, layout):
    """Return whether a number is within so many ulp of the exact one.

    In a network subnormal numbers count as 0. The exponential of single rows adds parts
    that are smaller than its result: within 2^24 (float32) of the smallest normal number
    one of them may be subnormal, and is then missing.
    """
    missing = float(abs(Decimal(float(got)) - want)) <= 2 * float(np.finfo(dtype).tiny)
    return ulps(got, want, dtype) <= bound or (layout in SINGLE and missing)


def far_logits(dtype, rows):
    """Return logits up to where sigma(-z) / rows is the last normal number."""
    last = (87.33 if dtype == np.float32 else 708.39) - np.log(rows)
    some = [0.01, 1.3, 5.0, 9.7, 16.0, 17.0, 20.0, 33.3, 36.7, 40.0, 60.0, 83.8, 87.3]
    some += [100.5, 300.0, 645.2, 704.8, 708.3]
    return [float(dtype.type(z)) for z in some if z <= last]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bce_gradient_keeps_its_digits_however_sure_the_network_is(
    layout, dtype, target
):
    """-sigma(-z) for t = 1, sigma(z) for t = 0: 0 or half of it lost is what was."""
    bound = 4 if layout in QUICK else 2
    bound += 1 if target == "x86_v2" else 0  # no fused multiply-add
    for z in logits_of(layout, dtype):
        for logit, t in ((z, 1.0), (-z, 0.0)):
            got, _ = LAYOUTS[layout](logit, t, dtype)
            want = exact(logit, t)[1]
            assert is_close(got, want, dtype, bound, layout), (logit, t)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bce_gradient_of_a_wrong_and_sure_network_is_one(layout, dtype, target):
    for z in logits_of(layout, dtype):
        for logit, t in ((z, 0.0), (-z, 1.0)):
            got, _ = LAYOUTS[layout](logit, t, dtype)
            assert ulps(got, exact(logit, t)[1], dtype) <= 4, (logit, t)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bce_gradient_keeps_its_digits_for_soft_targets(layout, dtype, target):
    """A difference of two small numbers, each of which has all its digits."""
    eps = float(np.finfo(dtype).eps)
    for soft in (2 * eps, 1e-3, 0.25, 0.75, 1 - 1e-3, 1 - 2 * eps):
        t = float(dtype.type(soft))
        for z in (-40.0, -17.0, -3.0, 0.0, 3.0, 17.0, 40.0):
            got, _ = LAYOUTS[layout](z, t, dtype)
            want = exact(z, t)[1]
            near = min(1 - Decimal(t), 1 - (want + Decimal(t)))
            if t < 0.5:
                near = min(Decimal(t), want + Decimal(t))
            scale = max(abs(want), near)
            error = abs(Decimal(float(got)) - want) / scale
            assert error <= Decimal(5 * eps), (z, t)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bce_loss_keeps_its_digits_however_sure_the_network_is(layout, dtype, target):
    for z in logits_of(layout, dtype):
        soft = float(dtype.type(0.9))
        for logit, t in ((z, 1.0), (-z, 0.0), (z, 0.0), (-z, 1.0), (z, soft)):
            _, loss = LAYOUTS[layout](logit, t, dtype)
            want = exact(logit, t)[0]
            assert is_close(loss, want, dtype, 6, layout), (logit, t)


def infinite(dtype):
    """Return a finite weight and input whose product is infinite."""
    large = float(np.finfo(dtype).max) / 4
    return large, 8.0


INFINITE = {
    "row": {"rows": 1, "fit": False},
    "rows": {"rows": ROWS, "fit": False},
    "row by row": {"rows": 1, "batch_size": 1},
    "neuron by columns": {"rows": ROWS},
    "neuron by columns, momentum": {"rows": ROWS, "optimizer": "momentum"},
    "neuron by rows": {"rows": ROWS, "n_in": 70},
    "narrow": {"rows": ROWS, "n_out": 2},
    "blocks": {"rows": ROWS, "n_out": 200},
    "weighted": {"rows": ROWS, "weighted": True},
}


def infinite_case(layout, sign, t, dtype):
    """Return a network with an infinite logit in the first output, x and targets."""
    case = dict(INFINITE[layout])
    rows, n_in, n_out = case.pop("rows"), case.pop("n_in", 1), case.pop("n_out", 1)
    net = siglin.Network([n_in, n_out], bias=False, dtype=dtype)
    large, factor = infinite(dtype)
    net.params[:] = 0
    net.params[0] = large
    x = np.zeros((rows, n_in), dtype)
    x[:, 0] = sign * factor
    targets = np.full((rows, n_out), 0.5, dtype)
    targets[:, 0] = t
    if case.pop("weighted", False):
        case["sample_weight"] = np.arange(rows).astype(dtype)
    return net, x, targets, case


@pytest.mark.parametrize("layout", INFINITE)
@pytest.mark.parametrize(("sign", "t"), [(1, 1.0), (-1, 0.0)])
def test_an_infinite_logit_on_the_right_side_costs_nothing(
    layout, sign, t, dtype, target
):
    net, x, targets, case = infinite_case(layout, sign, t, dtype)
    others = (targets.shape[1] - 1) * float(np.log(2))  # whose logit is 0
    before = net.params.copy()
    if case.pop("fit", True):
        (loss,) = net.fit(x, targets, lr=0.5, **case).loss
        assert (net.params == before).all()
    else:
        loss, grads = net.loss_and_grads(x, targets)
        assert grads[0] == 0
    assert loss == pytest.approx(others, rel=1e-4, abs=0)
    assert net.loss(x, targets) == pytest.approx(others, rel=1e-4, abs=0)


@pytest.mark.parametrize("layout", INFINITE)
@pytest.mark.parametrize(("sign", "t"), [(1, 0.0), (-1, 1.0), (1, 0.5), (-1, 0.5)])
def test_an_infinite_logit_on_the_wrong_side_is_an_infinite_loss(
    layout, sign, t, dtype, target
):
    net, x, targets, case = infinite_case(layout, sign, t, dtype)
    before = net.params.copy()
    assert net.loss(x, targets) == np.inf
    if case.pop("fit", True):
        with pytest.raises(siglin.DivergenceError):
            net.fit(x, targets, lr=0.5, **case)
        assert (net.params == before).all()
    else:
        loss, grads = net.loss_and_grads(x, targets)
        assert loss == np.inf
        assert np.isfinite(grads).all()


def test_an_infinite_loss_is_a_divergence_in_the_history_of_many(dtype, target):
    net, x, targets, _ = infinite_case("rows", 1, 0.0, dtype)
    with pytest.warns(RuntimeWarning, match="non-finite"):
        (history,) = siglin.fit_many([net], x, targets)
    assert history.stop_reason == "diverged"
    assert history.loss == [np.inf]


def softmax_network(logits, rows, dtype):
    """Return a network and x whose rows have these logits, by w times a factor of 8."""
    net = siglin.Network(
        [1, len(logits)], loss="cross_entropy", bias=False, dtype=dtype
    )
    net.params = np.array(logits, dtype) / 8
    return net, np.full((rows, 1), 8, dtype)


@pytest.mark.parametrize("rows", [1, 2, 19])
@pytest.mark.parametrize("classes", [3, 16, 20])
def test_softmax_of_one_infinite_logit_is_one_hot(rows, classes, dtype, target):
    large, factor = infinite(dtype)
    net, x = softmax_network([0.0] * classes, rows, dtype)
    net.params[[0, 2]] = large, -large
    assert large * factor > float(np.finfo(dtype).max)
    want = np.zeros((rows, classes), dtype)
    want[:, 0] = 1
    np.testing.assert_array_equal(net.predict(x), want)
    loss, grads = net.loss_and_grads(x, want)
    assert loss == 0
    assert (grads == 0).all()
    for wrong in (1, 2):
        assert net.loss(x, np.roll(want, wrong, axis=1)) == np.inf
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, np.roll(want, 1, axis=1))


@pytest.mark.parametrize("rows", [1, 2, 19])
@pytest.mark.parametrize("classes", [3, 20])
def test_softmax_of_two_infinite_logits_is_not_a_number(rows, classes, dtype, target):
    large, _ = infinite(dtype)
    net, x = softmax_network([0.0] * classes, rows, dtype)
    net.params[[0, 2]] = large
    assert np.isnan(net.predict(x)[:, [0, 2]]).all()
    assert np.isnan(net.loss(x, np.eye(classes, dtype=dtype)[np.zeros(rows, int)]))


@pytest.mark.parametrize("classes", [3, 16, 20])
def test_an_infinite_logit_of_one_row_leaves_the_others(classes, dtype, target, rng):
    rows = 19
    net = siglin.Network([rows, classes], loss="cross_entropy", bias=False, dtype=dtype)
    z = rng.normal(size=(rows, classes)).astype(dtype)
    net.params = z.ravel()
    x = np.eye(rows, dtype=dtype)
    t = np.eye(classes, dtype=dtype)[rng.integers(classes, size=rows)]
    want = net.loss_and_grads(x, t)[1].reshape(rows, classes).copy()
    large, factor = infinite(dtype)
    x[5, 5] = factor
    net.params[5 * classes] = large
    got = net.loss_and_grads(x, t)[1].reshape(rows, classes)
    others = np.arange(rows) != 5
    assert got[others].tobytes() == want[others].tobytes()


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("classes", [2, 3, 16, 20])
def test_softmax_gradient_keeps_its_digits_however_sure_the_network_is(
    rows, classes, dtype, target
):
    """-(1 - p) of the right class is minus the sum of the others' p."""
    for z in far_logits(dtype, rows)[1:]:
        net, x = softmax_network([0.0] * classes, rows, dtype)
        net.params[1] = z / 8
        t = np.zeros((rows, classes), dtype)
        t[:, 1] = 1
        _, grads = net.loss_and_grads(x, t)
        with localcontext() as context:
            context.prec = 400
            e = (classes - 1) * (-Decimal(z)).exp()
            want = -e / (1 + e)
        assert ulps(grads[1] / 8, want, dtype) <= 4 + classes, z


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("classes", [2, 16, 20])
def test_softmax_loss_keeps_its_digits_however_sure_the_network_is(
    rows, classes, dtype, target
):
    for z in far_logits(dtype, rows)[1:]:
        net, x = softmax_network([0.0] * classes, rows, dtype)
        net.params[1] = z / 8
        t = np.zeros((rows, classes), dtype)
        t[:, 1] = 1
        with localcontext() as context:
            context.prec = 400
            want = (1 + (classes - 1) * (-Decimal(z)).exp()).ln()
        loss = net.loss_and_grads(x, t)[0]
        assert ulps(loss, want, dtype) <= 4 + classes, z


def test_equal_highest_logits_share_the_gradient(dtype, target):
    for classes in (2, 3, 16, 20):
        for rows in (1, 17):
            net, x = softmax_network([1.0] * 2 + [0.0] * (classes - 2), rows, dtype)
            t = np.zeros((rows, classes), dtype)
            t[:, 0] = 1
            _, grads = net.loss_and_grads(x, t)
            total = 2 + (classes - 2) * np.exp(-1)
            eps = float(np.finfo(dtype).eps)
            want = np.array([1 / total - 1, 1 / total])
            np.testing.assert_allclose(grads[:2] / 8, want, rtol=(classes + 4) * eps)


@pytest.mark.parametrize(("z", "t"), [(40.0, 1.0), (17.0, 1.0), (-40.0, 0.0)])
def test_the_reference_says_the_same_of_a_sure_network(z, t, dtype):
    _, dz = reference.losses.output_gradient(
        "bce", "sigmoid", np.array([[z]], dtype), np.array([[t]], dtype)
    )
    assert ulps(dz[0, 0], exact(z, t)[1], dtype) <= 4


@pytest.mark.parametrize(
    ("z", "t", "want"),
    [
        (np.inf, 1, 0),
        (-np.inf, 0, 0),
        (np.inf, 0, np.inf),
        (-np.inf, 1, np.inf),
        (np.inf, 0.5, np.inf),
    ],
)
def test_the_reference_says_the_same_of_infinite_logits(z, t, want, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = reference.losses.bce(np.array([[z]], dtype), np.array([[t]], dtype))
    assert loss == want


def test_the_reference_says_the_same_of_infinite_softmax(dtype):
    z = np.array([[np.inf, 0, -np.inf]], dtype)
    one, two = np.eye(3, dtype=dtype)[:2, None]
    assert reference.losses.output_gradient("cross_entropy", "softmax", z, one)[0] == 0
    with np.errstate(divide="ignore"):
        loss, dz = reference.losses.output_gradient("cross_entropy", "softmax", z, two)
    assert loss == np.inf
    np.testing.assert_array_equal(dz, [[1, -1, 0]])
