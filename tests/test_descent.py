"""What has native code of its own: gradient descent row by row, and one neuron."""

import itertools

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import reference

KINDS = siglin.Network, reference.Network
FUSED = [name for name in siglin.targets() if name != "x86_v2"]
# Around the vector widths, one output and more, up to eight layers, and one more.
SIZES = [
    [1, 1],
    [3, 1],
    [17, 1],
    [5, 4],
    [2, 3, 1],
    [1, 1, 1],
    [4, 4, 1],
    [3, 8, 1],
    [5, 3, 1],
    [4, 8, 2],
    [3, 9, 5, 1],
    [7, 33, 1, 17],
    [16, 40, 31, 3],
    [2, *[3] * 7, 1],
    [2, *[3] * 8, 1],
]


def make_data(rng, sizes, rows, dtype=np.float64, loss="bce"):
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        t = np.eye(sizes[-1])[rng.integers(sizes[-1], size=rows)].astype(dtype)
    else:
        t = rng.uniform(size=(rows, sizes[-1])).astype(dtype)
    return x, t


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["bce", "squared_error", "cross_entropy"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_shape_matches_the_reference(sizes, loss, bias, target, rng):
    x, t = make_data(rng, sizes, 30, loss=loss)
    options = {"loss": loss, "bias": bias, "seed": 1}
    net, ours = siglin.Network(sizes, **options), reference.Network(sizes, **options)
    settings = {"lr": 0.05, "epochs": 11, "batch_size": 1}
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-11)
    assert history.steps == want.steps == 330


@pytest.mark.parametrize(
    "activation", ["sigmoid", "tanh", "relu", "leaky_relu", "identity"]
)
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_every_activation_matches_the_reference(activation, rows, target, rng):
    sizes = [3, 6, 5, 2]
    x, t = make_data(rng, sizes, rows)
    options = {
        "activation": activation,
        "output_activation": activation,
        "loss": "squared_error",
        "seed": 1,
    }
    net, ours = siglin.Network(sizes, **options), reference.Network(sizes, **options)
    settings = {"lr": 0.02, "epochs": -(-600 // rows), "batch_size": 1}
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-10, atol=1e-20)


@pytest.mark.parametrize("sizes", SIZES[:-1], ids=str)
def test_the_bits_are_those_of_every_fused_target(sizes, dtype, rng):
    x, t = make_data(rng, sizes, 20, dtype)
    results = []
    for name in FUSED:
        before = siglin.target()
        siglin._core.use_target(name)
        net = siglin.Network(sizes, dtype=dtype, seed=1)
        loss = net.fit(x, t, epochs=5, batch_size=1).loss
        siglin._core.use_target(before)
        results.append((net.params, np.array(loss)))
    for params, loss in results:
        assert_same_bits(params, results[0][0])
        assert_same_bits(loss, results[0][1])


@pytest.mark.parametrize("largest", [700, 720, 1e6])
def test_sums_past_the_reach_of_the_exponential(largest, target):
    x = np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, 0.0]])
    t = np.array([1.0, 0.5, 0.0])
    nets = [kind([2, 3, 1], seed=1) for kind in KINDS]
    for net in nets:
        net.layers[0].w = np.array([[largest, 1, -largest], [0, 2, 0]])
        net.layers[1].w = np.array([[largest], [1], [-largest]])
        net.fit(x, t, lr=1e-3, epochs=3, batch_size=1)
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("rows", [1, 4, 255, 700])
def test_hooks_change_no_bit(rows, rng, capsys):
    """Where a callback or a line comes between, the steps are cut in other pieces."""
    sizes = [2, 3, 1]
    x, t = make_data(rng, sizes, rows)
    nets = [siglin.Network(sizes, seed=1) for _ in range(3)]
    settings = {"epochs": 9, "batch_size": 1}
    epochs = []
    losses = [
        nets[0].fit(x, t, **settings).loss,
        nets[1].fit(x, t, **settings, progress=7).loss,
        nets[2].fit(x, t, **settings, callback=lambda s: epochs.append(s.step)).loss,
    ]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 * rows // 7
    assert epochs == [rows * (1 + e) for e in range(9)]
    assert losses[0] == losses[1] == losses[2]
    for net in nets:
        assert_same_bits(net.params, nets[0].params)


@pytest.mark.parametrize("every", [1, 7])
def test_hooks_change_no_bit_where_a_sum_is_large(every, dtype, rng, capsys):
    """One step that the quickest code leaves to the other says nothing of the next."""
    sizes = [2, 3, 1]
    x, t = make_data(rng, sizes, 100, dtype)
    x[99] = 1e4
    nets = [siglin.Network(sizes, seed=1, dtype=dtype) for _ in range(2)]
    settings = {"epochs": 3, "batch_size": 1, "lr": 0.1, "shuffle": False}
    plain = nets[0].fit(x, t, **settings).loss
    assert nets[1].fit(x, t, **settings, progress=every).loss == plain
    assert len(capsys.readouterr().out.splitlines()) == 300 // every
    assert_same_bits(nets[1].params, nets[0].params)


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_come_in_the_order_of_the_permutations(shuffle, rng):
    x, t = make_data(rng, [2, 3, 1], 10)
    net, by_hand = (siglin.Network([2, 3, 1], seed=1) for _ in range(2))
    net.fit(x, t, lr=0.1, epochs=60, batch_size=1, shuffle=shuffle, seed=9)
    generator = reference.Generator(9)
    for _ in range(60):
        for row in generator.permutation(10) if shuffle else range(10):
            by_hand.loss_and_grads(x[row : row + 1], t[row : row + 1])
            by_hand.update(0.1)
    np.testing.assert_allclose(net.params, by_hand.params, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_divergence_keeps_the_last_finite_weights(rows, dtype):
    """In the midst of many steps, at the one at which a callback would see it."""
    lr = 3.0  # the weight's distance from 0 grows by 1 - lr in every step
    x, t = np.ones((rows, 1), dtype), np.zeros((rows, 1), dtype)
    settings = {"lr": lr, "epochs": 2000, "batch_size": 1}
    nets, messages, seen = [], [], []
    for options in ({}, {"callback": lambda s: seen.append(s.params.copy())}):
        net = siglin.Network([1, 1], loss="squared_error", bias=False, dtype=dtype)
        net.params = [1.0]
        with pytest.raises(siglin.DivergenceError) as caught:
            net.fit(x, t, **settings, **options)
        nets.append(net)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert_same_bits(nets[0].params, nets[1].params)
    assert np.isfinite(nets[0].params).all()
    # The loss, half the square, is what overflows first.
    assert abs(nets[0].params[0]) > np.sqrt(np.finfo(dtype).max)
    if rows == 1:
        assert_same_bits(nets[0].params, seen[-1])


def test_error_of_the_sigmoid(dtype):
    """Measured through a step so long that the weight becomes -lr times the sigmoid."""
    eps = np.finfo(dtype).eps
    worst = 0.0
    lr = 2.0**70
    low = -80.0 if dtype == np.float32 else -700.0
    for z in np.concatenate([np.linspace(low, 40, 1500), np.linspace(-2, 2, 500)]):
        net = siglin.Network([1, 1], bias=False, dtype=dtype)
        net.params = [z]
        weight = np.longdouble(net.params[0])
        net.fit(np.ones((1, 1), dtype), np.zeros((1, 1), dtype), lr=lr, epochs=1)
        exact = 1 / (1 + np.exp(-weight))
        if exact * lr < 2 * abs(z) / eps:
            continue  # the old weight would show
        got = -np.longdouble(net.params[0]) / lr
        worst = max(worst, float(abs(got - exact) / np.spacing(dtype.type(exact))))
    assert 0.5 < worst <= 4.0


@pytest.mark.parametrize("z", [-1e30, -800.0, -90.0, 90.0, 800.0, 1e30])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_saturated_neurons_still_learn_and_report(z, t, dtype):
    net = siglin.Network([1, 1, 1], dtype=dtype)
    net.params = [0, 0, 0, z]
    want = net.loss([[1]], [[t]])
    history = net.fit([[1]], [[t]], lr=0.5, epochs=1)
    assert history.loss == [pytest.approx(want, rel=1e-6)]
    a = 1.0 if z > 0 else 0.0
    np.testing.assert_allclose(
        net.params, [0, 0, -0.25 * (a - t), z - 0.5 * (a - t)], atol=1e-6, rtol=1e-6
    )


def test_scores_of_rows_in_pieces_are_those_of_all(rng):
    """An epoch of more rows than a call takes: every loss counts once."""
    x, t = make_data(rng, [2, 3, 1], 1000)
    net = siglin.Network([2, 3, 1], seed=1)
    start = net.params.copy()
    history = net.fit(x, t, lr=1e-30, epochs=2, batch_size=1)
    mean = np.mean(
        [net.loss(*rows) for rows in zip(x[:, None], t[:, None], strict=True)]
    )
    np.testing.assert_allclose(history.loss, [mean, mean], rtol=1e-12)
    np.testing.assert_allclose(net.params, start, rtol=0, atol=1e-25)


def test_transposed_weights_stay_the_weights(rng):
    """Later layers keep their weights twice; both are updated alike, or dx would drift."""
    sizes = [3, 5, 4, 2]
    x, t = make_data(rng, sizes, 8)
    one, two = siglin.Network(sizes, seed=1), siglin.Network(sizes, seed=1)
    one.fit(x, t, lr=0.5, epochs=96, batch_size=1, shuffle=False)
    for _, row in itertools.product(range(96), range(8)):
        two.fit(x[row : row + 1], t[row : row + 1], lr=0.5)
    assert_same_bits(one.params, two.params)


# ---- one neuron, full batches --------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_in", [1, 2, 3, 4, 5, 7, 8, 17, 64])
@pytest.mark.parametrize("rows", [2, 7, 8, 9, 16, 31, 150, 192, 193, 500])
def test_neuron_matches_the_reference(rows, n_in, bias, rng):
    x, t = make_data(rng, [n_in, 1], rows)
    net, ours = (kind([n_in, 1], bias=bias, seed=1) for kind in KINDS)
    settings = {"lr": 0.3, "epochs": 300}
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-11)


@pytest.mark.parametrize("rows", [2, 15, 150, 1000])
def test_the_neuron_has_the_bits_of_every_fused_target(rows, dtype, rng):
    x, t = make_data(rng, [4, 1], rows, dtype)
    results = []
    for name in FUSED:
        before = siglin.target()
        siglin._core.use_target(name)
        net = siglin.Network([4, 1], dtype=dtype, seed=1)
        loss = net.fit(x, t, epochs=50, tol=1e-9).loss
        siglin._core.use_target(before)
        results.append((net.params, np.array(loss)))
    for params, loss in results:
        assert_same_bits(params, results[0][0])
        assert_same_bits(loss, results[0][1])


@pytest.mark.parametrize("rows", [2, 150, 4000])
def test_hooks_change_no_bit_of_a_neuron(rows, rng, capsys):
    x, t = make_data(rng, [4, 1], rows)
    settings = {"epochs": 700, "lr": 0.5, "tol": 1e-3}
    fits = []
    for options in ({}, {"progress": 7}, {"callback": lambda _: None}):
        net = siglin.Network([4, 1], seed=1)
        fits.append((net.params, net.fit(x, t, **settings, **options)))
    lines = capsys.readouterr().out.splitlines()
    assert fits[0][1].stop_reason == "tol"
    assert len(lines) == fits[0][1].steps // 7
    for params, history in fits:
        assert_same_bits(params, fits[0][0])
        assert history.loss == fits[0][1].loss


def test_divergence_of_a_neuron_keeps_the_last_finite_weights(dtype):
    x = np.full((20, 1), 1e30, dtype)
    t = (np.arange(20) % 2).astype(dtype)[:, None]
    seen = []
    for options in ({}, {"callback": lambda s: seen.append(s.params.copy())}):
        net = siglin.Network([1, 1], bias=False, dtype=dtype)
        net.params = [1e-30]
        with pytest.raises(siglin.DivergenceError):
            net.fit(x, t, lr=float(np.finfo(dtype).max) / 1e20, epochs=90, **options)
        assert np.isfinite(net.params).all()
        seen.append(net.params.copy())
    for params in seen[1:]:
        assert_same_bits(params, seen[0])


def test_small_losses_of_a_neuron_keep_their_digits(dtype):
    """Where every row is classified with certainty, log(1 + e) is e and not 0."""
    x = np.linspace(40, 60, 50, dtype=dtype)[:, None]
    net = siglin.Network([1, 1], bias=False, dtype=dtype)
    net.params = [1.0]
    loss = net.fit(x, np.ones_like(x), lr=1e-30, epochs=1).loss
    assert loss == [pytest.approx(np.exp(-x.astype(float)).mean(), rel=1e-5)]


# ---- one neuron, rows as they lie ----------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_in", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 131])
@pytest.mark.parametrize("batch_size", [2, 3, 4, 5, 31, 32, 33, 77])
def test_batches_of_a_neuron_match_the_reference(batch_size, n_in, bias, target, rng):
    x, t = make_data(rng, [n_in, 1], 77)
    net, ours = (kind([n_in, 1], bias=bias, seed=1) for kind in KINDS)
    # One batch of all rows would be stored by columns.
    settings = {"lr": 0.3, "epochs": 4, "batch_size": min(batch_size, 76)}
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-12)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-12)


@pytest.mark.parametrize(("rows", "n_in"), [(20_011, 5), (2_003, 300), (700, 2_100)])
def test_many_rows_of_a_neuron_match_the_reference(rows, n_in, dtype, rng):
    """More than a range of rows, whose gradients are summed and then added."""
    x, t = make_data(rng, [n_in, 1], rows, dtype)
    nets = [kind([n_in, 1], dtype=dtype, seed=1) for kind in KINDS]
    losses = [net.fit(x, t, lr=0.3, epochs=3).loss for net in nets]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=0, atol=40 * eps)
    np.testing.assert_allclose(losses[0], losses[1], rtol=200 * eps)


@pytest.mark.parametrize("n_in", [1, 9, 40, 1000])
def test_rows_of_a_neuron_may_lie_anywhere(n_in, dtype, rng):
    x, t = make_data(rng, [n_in, 1], 50, dtype)
    net = siglin.Network([n_in, 1], dtype=dtype, seed=1)
    loss, grads = net.loss_and_grads(x, t)
    grads = grads.copy()
    wide = np.full((100, n_in + 3), np.nan, dtype)
    wide[::2, 1:-2] = x
    targets = np.full((50, 7), np.nan, dtype)
    targets[:, 3:4] = t
    again, _ = net.loss_and_grads(wide[::2, 1:-2], targets[:, 3:4])
    assert again == loss
    assert_same_bits(net.grads, grads)


@pytest.mark.parametrize("n_in", [1, 6, 8, 20, 50])
@pytest.mark.parametrize("rows", [2, 33, 9000])
def test_rows_of_a_neuron_have_the_bits_of_every_fused_target(rows, n_in, dtype, rng):
    x, t = make_data(rng, [n_in, 1], rows, dtype)
    results = []
    for name in FUSED:
        before = siglin.target()
        siglin._core.use_target(name)
        net = siglin.Network([n_in, 1], dtype=dtype, seed=1)
        loss, grads = net.loss_and_grads(x, t)
        siglin._core.use_target(before)
        results.append((loss, grads.copy()))
    for loss, grads in results:
        assert loss == results[0][0]
        assert_same_bits(grads, results[0][1])
