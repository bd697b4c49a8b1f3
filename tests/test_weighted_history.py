"""The history's loss is the mean over rows by weight; what weighs nothing is no step."""

import numpy as np
import pytest

import siglin
from siglin import reference

LIBRARIES = [siglin, reference]
# A linear neuron of weight 0: half the squared target is a row's loss.
TENS = np.sqrt([[20.0], [20.0], [18.0]])


def still(library, dtype="float64", n_in=1):
    """Return a network whose parameters stay 0: all inputs are to be 0."""
    return library.Network(
        [n_in, 1], loss="squared_error", bias=False, init="zeros", dtype=dtype
    )


@pytest.mark.parametrize("library", LIBRARIES, ids=["siglin", "reference"])
def test_history_is_the_mean_over_the_rows_of_unequal_batches(library):
    history = still(library).fit(np.zeros((3, 1)), TENS, batch_size=2, shuffle=False)
    assert history.loss == [pytest.approx(29 / 3, rel=1e-15)]


@pytest.mark.parametrize("library", LIBRARIES, ids=["siglin", "reference"])
def test_history_is_the_mean_by_weight(library):
    history = still(library).fit(
        np.zeros((3, 1)), TENS, batch_size=1, shuffle=False, sample_weight=[1, 0, 1]
    )
    assert history.loss == [pytest.approx(9.5, rel=1e-15)]
    assert history.steps == 2
    history = still(library).fit(
        np.zeros((3, 1)), TENS, batch_size=2, shuffle=False, sample_weight=[1, 1, 6]
    )
    assert history.loss == [pytest.approx((10 + 10 + 6 * 9) / 8, rel=1e-15)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [[3, 1], [3, 8, 2], [3, 200, 2], [40, 150, 3]])
def test_history_of_every_path_is_the_mean_over_the_rows(sizes, threads, dtype, rng):
    """Seven rows in batches of three, with a step so small that nothing changes."""
    rows = 7
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    t = rng.integers(0, 2, size=(rows, sizes[-1])).astype(dtype)
    net = siglin.Network(sizes, seed=1, dtype=dtype)
    with siglin.num_threads(threads):
        want = net.loss(x, t)
        (loss,) = net.fit(x, t, lr=1e-30, batch_size=3).loss
    assert loss == pytest.approx(want, rel=20 * float(np.finfo(dtype).eps))


def test_equal_batches_have_the_plain_mean_of_their_losses(rng):
    """To the bit: a weight of 1 each changes nothing."""
    x, t = rng.normal(size=(9, 2)), rng.integers(0, 2, size=9)
    net = siglin.Network([2, 1], seed=1)
    losses = [net.loss(x[i : i + 3], t[i : i + 3]) for i in (0, 3, 6)]
    (loss,) = net.fit(x, t, lr=1e-30, batch_size=3, shuffle=False).loss
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-15)
    other = siglin.Network([2, 1], seed=1)
    (again,) = other.fit(
        x, t, lr=1e-30, batch_size=3, shuffle=False, sample_weight=np.ones(9)
    ).loss
    assert again == pytest.approx(loss, rel=4e-16)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_a_batch_that_weighs_nothing_makes_no_step(optimizer, rng):
    """Not of the optimiser either, and no penalty or dropout takes part in it."""
    x, t = rng.normal(size=(6, 2)), rng.integers(0, 2, size=6).astype(float)
    weights = np.array([1.0, 2, 0, 0, 3, 1])
    settings = {
        "lr": 0.1,
        "epochs": 3,
        "batch_size": 2,
        "shuffle": False,
        "l2": 0.1,
        "l1": 0.01,
        "dropout": 0.3,
    }
    kept = weights > 0
    nets = [siglin.Network([2, 5, 1], seed=4) for _ in range(2)]
    methods = [siglin.Adam(), siglin.Adam()] if optimizer == "adam" else [optimizer] * 2
    with_nothing = nets[0].fit(
        x, t, sample_weight=weights, optimizer=methods[0], **settings
    )
    without = nets[1].fit(
        x[kept], t[kept], sample_weight=weights[kept], optimizer=methods[1], **settings
    )
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    assert with_nothing.steps == without.steps == 6
    assert with_nothing.loss == pytest.approx(without.loss, rel=1e-14)
    if optimizer == "adam":
        assert methods[0].step_count == 6


def test_the_reference_makes_no_step_of_nothing_either(rng):
    x, t = rng.normal(size=(6, 2)), rng.integers(0, 2, size=6).astype(float)
    weights = np.array([1.0, 2, 0, 0, 3, 1])
    runs = []
    for library in LIBRARIES:
        net = library.Network([2, 5, 1], seed=4)
        history = net.fit(
            x,
            t,
            sample_weight=weights,
            optimizer="adam",
            lr=0.1,
            epochs=4,
            batch_size=2,
            seed=3,
            dropout=0.2,
        )
        runs.append((net.params.copy(), history.loss, history.steps))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-11)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-12)
    assert runs[0][2] == runs[1][2]


def test_a_row_without_weight_may_have_an_infinite_loss(dtype, target):
    large = float(np.finfo(dtype).max) / 4
    net = siglin.Network([1, 1], bias=False, dtype=dtype)
    net.params = [large]
    x, t = np.array([[8], [0]], dtype), np.array([[0], [0]], dtype)
    (loss,) = net.fit(x, t, lr=0.5, sample_weight=np.array([0, 1], dtype)).loss
    assert loss == pytest.approx(np.log(2), rel=1e-6)


# ---- weights far from 1 --------------------------------------------------------------

FAR = {np.dtype(np.float32): (1e-40, 3e38), np.dtype(np.float64): (1e-310, 1e308)}


@pytest.mark.parametrize("far", [0, 1], ids=["subnormal", "sum is infinite"])
@pytest.mark.parametrize("batch_size", [None, 2, 1])
def test_weights_count_by_their_ratios_however_small_or_large(
    far, batch_size, dtype, target, rng
):
    """The same bits as with weights near 1, a power of two away."""
    x = rng.normal(size=(5, 3)).astype(dtype)
    t = rng.integers(0, 2, size=5).astype(dtype)
    weights = np.array([0.25, 0.5, 0, 0.125, 0.5], dtype)
    largest = dtype.type(FAR[dtype][far])
    exponent = int(np.frexp(largest)[1])
    runs = []
    for scaled in (weights, np.ldexp(weights, exponent + (0 if far else 1))):
        net = siglin.Network([3, 4, 1], seed=2, dtype=dtype)
        history = net.fit(
            x,
            t,
            sample_weight=scaled,
            optimizer="adam",
            epochs=5,
            batch_size=batch_size,
            l2=0.1,
        )
        runs.append((net.params.tobytes(), history.loss))
    assert runs[0] == runs[1]


def test_weights_in_a_list_count_by_their_ratios_too(rng):
    x, t = rng.normal(size=(3, 2)).astype(np.float32), [0, 1, 1]
    runs = []
    for weights in ([1.0, 2.0, 4.0], [2.0**1000, 2.0**1001, 2.0**1002]):
        net = siglin.Network([2, 1], seed=2, dtype="float32")
        net.fit(x, t, sample_weight=weights, epochs=3)
        runs.append(net.params.tobytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize("small", ["tiny", "subnormal"])
def test_a_weight_far_below_the_largest_is_no_division_by_zero(small, dtype, target):
    """In a batch of its own: a whole step of a normal weight, none of a subnormal one."""
    info = np.finfo(dtype)
    weight = info.tiny if small == "tiny" else info.smallest_subnormal
    net = siglin.Network([1, 1], loss="squared_error", init="zeros", dtype=dtype)
    history = net.fit(
        np.ones((2, 1), dtype),
        np.array([1e6, 0], dtype),
        lr=0.25,
        batch_size=1,
        shuffle=False,
        sample_weight=np.array([weight, 1], dtype),
    )
    assert history.steps == (2 if small == "tiny" else 1)
    assert np.isfinite(net.params).all()
    assert (net.params[0] != 0) == (small == "tiny")


def test_the_reference_takes_weights_by_their_ratios_too():
    x, t = np.array([[1.0], [2.0]]), [0, 1]
    for weights in ([1e308, 1e308], [1e-310, 1e-310]):
        net, other = reference.Neuron(1), reference.Neuron(1)
        net.fit(x, t, sample_weight=weights)
        other.fit(x, t)
        np.testing.assert_allclose(net.params, other.params, rtol=1e-15)
