"""Network.fit: steps, batches, stop rules, callbacks, progress, Ctrl-C, divergence."""

import _thread
import copy
import math
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core, reference
from siglin._training.hooks import Watch

OPTIMIZERS = ["gd", "momentum", "nesterov", "adam", "adamw"]
SIZES = [3, 5, 2]


def make_data(rng, rows=23, dtype=np.float64):
    x = rng.normal(size=(rows, SIZES[0])).astype(dtype)
    return x, rng.uniform(size=(rows, SIZES[-1])).astype(dtype)


def make_network(dtype=np.float64, **options):
    return siglin.Network(SIZES, activation="tanh", dtype=dtype, seed=3, **options)


# ---- steps ---------------------------------------------------------------------------


def test_last_batch_of_one_row(rng):
    """After batches of more rows than a block, which bring the memory of a row."""
    x, t = make_data(rng, rows=5001)
    net, ours = make_network(), reference.Network(SIZES, activation="tanh", seed=3)
    settings = {"batch_size": 5000, "epochs": 2, "shuffle": False}
    net.fit(x, t, **settings)
    ours.fit(x, t, **settings)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 1, 7, 23, 100])
@pytest.mark.parametrize("loss", ["bce", "squared_error", "cross_entropy"])
def test_fit_matches_the_reference(optimizer, batch_size, loss, rng):
    x, t = make_data(rng)
    if loss == "cross_entropy":
        t = np.eye(2)[rng.integers(2, size=len(x))]
    options = {"activation": "tanh", "loss": loss, "seed": 3}
    net, ours = siglin.Network(SIZES, **options), reference.Network(SIZES, **options)
    settings = {
        "lr": 0.05,
        "epochs": 6,
        "batch_size": batch_size,
        "optimizer": optimizer,
    }
    history, want = net.fit(x, t, **settings), ours.fit(x, t, **settings)
    # Not the same bits: sums may be taken in another order. A permutation that differs
    # in one place would be off by more than this by a factor of 1e8.
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(history.loss, want.loss, rtol=1e-11)
    assert history.steps == want.steps == 6 * math.ceil(23 / min(batch_size or 23, 23))
    assert history.epochs == 6
    assert history.stop_reason == "epochs"
    assert 0 < history.seconds < 10


def test_float32_stays_close_to_the_reference(rng):
    x, t = make_data(rng, dtype=np.float32)
    net = make_network(np.float32)
    ours = reference.Network(SIZES, activation="tanh", dtype=np.float32, seed=3)
    for one in (net, ours):
        one.fit(x, t, lr=0.1, epochs=100)
    np.testing.assert_allclose(net.params, ours.params, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_lowers_the_loss(optimizer, rng, dtype):
    x = rng.normal(size=(60, 3)).astype(dtype)
    t = (x.sum(axis=1) > 0).astype(dtype)
    net = siglin.Network([3, 4, 1], dtype=dtype, seed=0)
    before = net.loss(x, t)
    history = net.fit(x, t, lr=0.05, epochs=200, batch_size=10, optimizer=optimizer)
    assert net.loss(x, t) < before / 3
    assert history.loss[-1] < history.loss[0] / 3


@pytest.mark.parametrize("seed", [0, 12345, 2**64 - 1])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_permutations_are_those_of_the_reference(seed, n):
    state, generator = _core.seed_generator(seed), reference.Generator(seed)
    for _ in range(3):
        np.testing.assert_array_equal(
            _core.permutation(state, n), generator.permutation(n)
        )


def test_batches_are_slices_of_a_permutation(rng):
    """One epoch is the steps on the batches of the permutation, in their order."""
    x, t = make_data(rng)
    net, by_hand = make_network(), make_network()
    net.fit(x, t, lr=0.1, batch_size=5, seed=9)
    order = reference.Generator(9).permutation(23)
    losses, sizes = [], []
    for start in range(0, 23, 5):
        rows = order[start : start + 5]
        losses.append(by_hand.loss_and_grads(x[rows], t[rows])[0])
        sizes.append(len(rows))
        by_hand.update(0.1)
    np.testing.assert_allclose(net.params, by_hand.params, rtol=0, atol=1e-13)
    again = make_network()
    loss = again.fit(x, t, lr=0.1, batch_size=5, seed=9).loss
    mean = np.average(losses, weights=sizes)
    assert loss == [pytest.approx(mean, rel=1e-12)]


def test_without_shuffle_batches_are_in_order(rng):
    x, t = make_data(rng)
    net, by_hand = make_network(), make_network()
    state = copy.deepcopy(net)
    net.fit(x, t, lr=0.1, epochs=2, batch_size=5, shuffle=False)
    for _ in range(2):
        for start in range(0, 23, 5):
            by_hand.loss_and_grads(x[start : start + 5], t[start : start + 5])
            by_hand.update(0.1)
    np.testing.assert_allclose(net.params, by_hand.params, rtol=0, atol=1e-13)
    # The generator was not used.
    for one in (net, state):
        one.params.fill(0)
        one.fit(x, t, batch_size=5)
    assert_same_bits(net.params, state.params)


@pytest.mark.parametrize("batch_size", [23, 24, 10**30])
def test_one_batch_is_never_permuted(batch_size, rng):
    x, t = make_data(rng)
    full, same = make_network(), make_network()
    full.fit(x, t, epochs=3)
    same.fit(x, t, epochs=3, batch_size=batch_size)
    assert_same_bits(same.params, full.params)
    # And the generator is where it was: the next shuffles are those of a fresh network.
    fresh = make_network()
    fresh.params = full.params
    full.fit(x, t, batch_size=4)
    fresh.fit(x, t, batch_size=4)
    assert_same_bits(full.params, fresh.params)


def test_two_networks_of_one_seed_are_equal_to_the_bit(rng, dtype):
    x, t = make_data(rng, dtype=dtype)
    nets = [make_network(dtype) for _ in range(2)]
    for net in nets:
        net.fit(x, t, epochs=3, batch_size=4)
        net.fit(x, t, epochs=2, batch_size=6, optimizer="adam")
    assert_same_bits(nets[0].params, nets[1].params)


def test_the_generator_goes_on(rng):
    x, t = make_data(rng)
    once, twice = make_network(), make_network()
    once.fit(x, t, epochs=4, batch_size=4)
    for _ in range(2):
        twice.fit(x, t, epochs=2, batch_size=4)
    assert_same_bits(once.params, twice.params)


def test_seed_of_a_fit_is_its_own(rng):
    x, t = make_data(rng)
    one, two, three = make_network(), make_network(), make_network()
    one.fit(x, t, batch_size=4, seed=5)
    two.fit(x, t, batch_size=4, seed=5)
    three.fit(x, t, batch_size=4, seed=6)
    assert_same_bits(one.params, two.params)
    assert not np.array_equal(one.params, three.params)
    # It leaves the network's generator alone.
    one.params = three.params = make_network().params
    one.fit(x, t, batch_size=4)
    fresh = make_network()
    fresh.fit(x, t, batch_size=4)
    assert_same_bits(one.params, fresh.params)


def test_data_may_be_longer_than_a_block_of_rows(rng):
    """Full batches are worked through in blocks of rows; the loss is over all of them."""
    x = rng.normal(size=(20_000, 3))
    t = rng.uniform(size=(20_000, 2))
    net, ours = make_network(), reference.Network(SIZES, activation="tanh", seed=3)
    net.fit(x, t, lr=0.1, epochs=2)
    ours.fit(x, t, lr=0.1, epochs=2)
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-12)


# ---- the end of a fit ----------------------------------------------------------------


def test_no_epochs_do_nothing(rng):
    net, (x, t) = make_network(), make_data(rng)
    before = net.params.copy()
    calls = []
    history = net.fit(x, t, epochs=0, batch_size=2, callback=calls.append)
    assert history.loss == calls == []
    assert (history.epochs, history.steps, history.stop_reason) == (0, 0, "epochs")
    assert_same_bits(net.params, before)
    with pytest.raises(ValueError, match="NaN"):
        net.fit(np.full_like(x, np.nan), t, epochs=0)


def test_loss_of_the_history_is_before_each_update(rng):
    net, (x, t) = make_network(), make_data(rng)
    expected = []
    for _ in range(4):
        expected.append(net.loss(x, t))
        history = net.fit(x, t, lr=0.5)
        assert history.loss == [pytest.approx(expected[-1], rel=1e-13)]
        assert type(history.loss[0]) is float


def test_tol_stops_after_the_first_small_step(rng):
    net, (x, t) = make_network(), make_data(rng)
    tol, changes, params = 1e-3, [], [net.params.copy()]

    def note(state):
        changes.append(np.linalg.norm(state.params - params[-1]))
        params.append(state.params.copy())

    history = net.fit(x, t, lr=0.1, epochs=100_000, tol=tol, callback=note)
    assert history.stop_reason == "tol"
    assert len(changes) == history.epochs == history.steps == len(history.loss)
    assert changes[-1] <= tol * (1 + 1e-9)
    assert min(changes[:-1]) > tol * (1 - 1e-9)


def test_tol_stops_in_the_midst_of_an_epoch(rng):
    net, (x, t) = make_network(), make_data(rng)
    history = net.fit(x, t, lr=0.1, epochs=5, batch_size=2, tol=1e6)
    assert (history.stop_reason, history.epochs, history.steps) == ("tol", 1, 1)
    assert len(history.loss) == 1


def test_tol_of_zero_never_stops():
    net = siglin.Network([1, 1], loss="squared_error", init="zeros")
    history = net.fit([[1.0]], [0.0], epochs=10)  # the gradient is 0
    assert (history.stop_reason, history.epochs) == ("epochs", 10)
    history = net.fit([[1.0]], [0.0], epochs=10, tol=1e-300)
    assert (history.stop_reason, history.epochs) == ("tol", 1)


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, siglin.Adam()])
def test_divergence_keeps_the_last_finite_weights(batch_size, optimizer):
    net = siglin.Network([1, 1], loss="squared_error", init="zeros", seed=0)
    x, t = np.array([[1e3], [2e3], [3e3]]), np.array([1.0, -1.0, 1.0])
    seen = []
    settings = {"lr": 1e300, "epochs": 50, "batch_size": batch_size}
    with pytest.raises(siglin.DivergenceError, match=r"^fit: .*epoch \d+, step \d+; "):
        net.fit(
            x,
            t,
            **settings,
            optimizer=optimizer,
            callback=lambda s: seen.append(s.params.copy()),
        )
    assert np.isfinite(net.params).all()
    assert all(np.isfinite(params).all() for params in seen)
    # The network and the optimizer can be used again.
    net.params = [0, 0]
    history = net.fit(x / 1e3, t, lr=1e-3, epochs=2, optimizer=optimizer)
    assert history.epochs == 2
    assert np.isfinite(net.params).all()


def test_divergence_makes_an_optimizer_forget():
    """Its vectors may have become infinite with the step that failed."""
    optimizer = siglin.Momentum()
    net = siglin.Network([1, 1], loss="squared_error", init="zeros")
    with pytest.raises(siglin.DivergenceError):
        net.fit([[1.0]], [1.0], lr=1e200, epochs=5, optimizer=optimizer)
    assert optimizer.moments is None
    assert optimizer.step_count == 0


def test_divergence_says_where():
    net = siglin.Network([1, 1], loss="squared_error", bias=False, init="zeros")
    # The weight goes 0, 1e200, and the loss of 1e200 is infinite.
    with pytest.raises(siglin.DivergenceError, match=r"epoch 2, step 2; .*lr is 1e"):
        net.fit([[1.0]], [1.0], lr=1e200, epochs=5)
    assert net.params.tolist() == [1e200]


# ---- optimisers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [siglin.GradientDescent, siglin.Momentum, siglin.Nesterov, siglin.Adam]
)
def test_state_of_an_object_goes_on(make, rng, dtype):
    x, t = make_data(rng, dtype=dtype)
    once, twice, optimizer = make_network(dtype), make_network(dtype), make()
    once.fit(x, t, epochs=6, optimizer=make())
    twice.fit(x, t, epochs=2, optimizer=optimizer)
    assert optimizer.step_count == 2
    twice.fit(x, t, epochs=4, optimizer=optimizer)
    assert optimizer.step_count == 6
    assert_same_bits(once.params, twice.params)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_a_name_has_fresh_state(name, rng):
    x, t = make_data(rng)
    once, twice = make_network(), make_network()
    once.fit(x, t, epochs=6, optimizer=name)
    for _ in range(2):
        twice.fit(x, t, epochs=3, optimizer=name)
    assert not np.allclose(once.params, twice.params, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_of_zero_is_gradient_descent(name, rng):
    x, t = make_data(rng)
    make = {"momentum": siglin.Momentum, "nesterov": siglin.Nesterov}[name]
    one, two = make_network(), make_network()
    one.fit(x, t, lr=0.1, epochs=5, optimizer=make(0.0))
    two.fit(x, t, lr=0.1, epochs=5)
    np.testing.assert_allclose(one.params, two.params, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("Momentum", {"momentum": 0.5}),
        ("Nesterov", {"momentum": 0.5}),
        ("Adam", {"beta1": 0.5, "beta2": 0.9, "eps": 1e-2}),
    ],
)
def test_settings_of_optimizers(options, settings, rng):
    x, t = make_data(rng)
    net, ours = make_network(), reference.Network(SIZES, activation="tanh", seed=3)
    method, same = getattr(siglin, options), getattr(reference, options)
    net.fit(x, t, lr=0.1, epochs=5, optimizer=method(**settings))
    ours.fit(x, t, lr=0.1, epochs=5, optimizer=same(**settings))
    np.testing.assert_allclose(net.params, ours.params, rtol=0, atol=1e-12)


def test_an_optimizer_serves_one_fit_at_a_time(rng):
    x, t = make_data(rng)
    optimizer = siglin.Adam()

    def fit_another(_):
        make_network().fit(x, t, optimizer=optimizer)

    with pytest.raises(RuntimeError, match="the optimizer is busy"):
        make_network().fit(x, t, optimizer=optimizer, callback=fit_another)
    make_network().fit(x, t, optimizer=optimizer)


# ---- callback ------------------------------------------------------------------------


def test_callback_sees_every_epoch(rng):
    net, (x, t) = make_network(), make_data(rng)
    states = []

    def note(state):
        states.append((state.epoch, state.step, state.loss))
        assert_same_bits(state.params, net.params)

    history = net.fit(x, t, epochs=3, batch_size=10, callback=note)
    assert [state[:2] for state in states] == [(1, 3), (2, 6), (3, 9)]
    assert [state[2] for state in states] == history.loss


def test_params_of_the_callback_are_read_only(rng):
    net, (x, t) = make_network(), make_data(rng)

    def spoil(state):
        state.params[0] = 1

    with pytest.raises(ValueError, match="read-only"):
        net.fit(x, t, callback=spoil)
    assert net.params.flags.writeable
    with pytest.raises(AttributeError):
        net.fit(x, t, callback=lambda state: setattr(state, "epoch", 3))


def test_callback_stops_the_fit(rng):
    net, (x, t) = make_network(), make_data(rng)
    history = net.fit(x, t, epochs=100, callback=lambda state: state.epoch == 3)
    assert (history.epochs, history.stop_reason) == (3, "callback")
    same = make_network()
    same.fit(x, t, epochs=3, callback=lambda _: None)
    assert_same_bits(net.params, same.params)


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt, SystemExit, ValueError])
def test_exception_of_the_callback_arrives_unchanged(error, rng):
    net, (x, t) = make_network(), make_data(rng)
    raised = error("mine")

    def fail(state):
        if state.epoch == 2:
            raise raised

    with pytest.raises(error) as caught:
        net.fit(x, t, epochs=5, callback=fail)
    assert caught.value is raised
    same = make_network()
    same.fit(x, t, epochs=2)
    assert_same_bits(net.params, same.params)
    net.fit(x, t)  # not left busy


def test_fit_within_a_fit_is_busy(rng):
    net, (x, t) = make_network(), make_data(rng)
    with pytest.raises(RuntimeError, match="busy"):
        net.fit(x, t, callback=lambda _: net.fit(x, t))
    net.fit(x, t)


def test_fit_from_another_thread_is_busy(rng):
    net, (x, t) = make_network(), make_data(rng)
    errors = []

    def fit():
        try:
            net.fit(x, t)
        except RuntimeError as error:
            errors.append(str(error))

    def start_another(_):
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()

    net.fit(x, t, epochs=2, callback=start_another)
    assert errors == ["fit: the network is busy with another fit"] * 2
    fit()
    assert len(errors) == 2


def test_many_networks_fit_in_threads(rng):
    x, t = make_data(rng, rows=200)
    nets = [make_network() for _ in range(6)]
    threads = [
        threading.Thread(target=net.fit, args=(x, t), kwargs={"epochs": 50})
        for net in nets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in nets[1:]:
        assert_same_bits(net.params, nets[0].params)


# ---- progress ------------------------------------------------------------------------


def test_bar(capsys, rng):
    net, (x, t) = make_network(), make_data(rng)
    net.fit(x, t, epochs=1000, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1000/1000" in captured.err
    assert re.search(r"loss [\d.e-]+  [\d,]+ rows/s", captured.err)


def test_bar_is_closed_by_an_exception(rng, monkeypatch):
    tqdm = pytest.importorskip("tqdm.auto")
    bars = []

    class Spy(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**options)
            bars.append(self)

        def close(self):
            bars.append("closed")
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Spy)
    net, (x, t) = make_network(), make_data(rng)

    def fail(_):
        raise OwnError

    with pytest.raises(OwnError):
        net.fit(x, t, progress=True, callback=fail)
    assert bars[1] == "closed"


def test_lines_without_tqdm(capsys, rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    net, (x, t) = make_network(), make_data(rng)
    history = net.fit(x, t, epochs=20, batch_size=10, progress=True)
    captured = capsys.readouterr()
    assert captured.err == ""
    start = f"epoch 20/20  step 60  loss {history.loss[-1]:.6g}  "
    assert captured.out.startswith(start)
    rate = captured.out.removeprefix(start).removesuffix(" rows/s\n")
    # Since the bar was made, before the loop began.
    assert 0 < int(rate.replace(",", "")) < 20 * len(x) / history.seconds


@pytest.mark.parametrize("lines", [False, True])
def test_progress_ends_with_the_last_epoch(lines, capsys, rng, monkeypatch):
    """Also where the fit ends early, long before the next sign of life."""
    if lines:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    x, t = make_data(rng)

    def stop(state):
        return state.epoch == 3

    history = make_network().fit(x, t, epochs=1000, progress=True, callback=stop)
    captured = capsys.readouterr()
    shown = captured.out if lines else captured.err
    assert "3/1000" in shown
    assert f"loss {history.loss[-1]:.6g}" in shown

    def fail(state):
        if state.epoch == 3:
            raise OwnError

    with pytest.raises(OwnError):
        make_network().fit(x, t, epochs=1000, progress=True, callback=fail)
    captured = capsys.readouterr()
    assert "3/1000" in (captured.out if lines else captured.err)


def test_a_line_every_k_steps(capsys, rng):
    net, (x, t) = make_network(), make_data(rng)
    net.fit(x, t, epochs=3, batch_size=10, progress=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit("  ", 1)[0] for line in lines] == [
        "step 4  epoch 2",
        "step 8  epoch 3",
    ]
    assert all(np.isfinite(float(line.split()[-1])) for line in lines)


@pytest.mark.parametrize("progress", [False, np.False_])
def test_no_progress(progress, capsys, rng):
    net, (x, t) = make_network(), make_data(rng)
    net.fit(x, t, epochs=20, progress=progress)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, 10, 10**6])
def test_progress_changes_no_bit(progress, capsys, rng):
    net, silent = make_network(), make_network()
    x, t = make_data(rng)
    net.fit(x, t, epochs=40, batch_size=3, progress=progress)
    silent.fit(x, t, epochs=40, batch_size=3)
    capsys.readouterr()
    assert_same_bits(net.params, silent.params)


@pytest.mark.parametrize("progress", [False, True])
def test_epochs_are_not_all_reported(progress, capsys, monkeypatch):
    """An epoch of less than a microsecond must not cost a call into Python."""
    calls, report = [], Watch.on_epoch

    def count(watch, *state):
        calls.append(state)
        return report(watch, *state)

    monkeypatch.setattr(Watch, "on_epoch", count)
    net = siglin.Neuron(2)
    history = net.fit(np.ones((4, 2)), np.ones(4), epochs=200_000, progress=progress)
    capsys.readouterr()
    if progress:
        assert calls[-1][0] == 200_000
        assert len(calls) <= history.seconds / 0.1 + 1
    else:
        assert calls == []


def test_a_bar_does_not_move_after_every_epoch(rng, monkeypatch, capsys):
    tqdm, moves = pytest.importorskip("tqdm.auto"), []

    class Spy(tqdm.tqdm):
        def update(self, n=1):
            moves.append(n)
            super().update(n)

    monkeypatch.setattr(tqdm, "tqdm", Spy)
    x, t = make_data(rng)
    net = make_network()
    history = net.fit(x, t, epochs=3000, progress=True, callback=lambda _: None)
    capsys.readouterr()
    assert sum(moves) == 3000
    assert len(moves) <= history.seconds / 0.1 + 1


# ---- Ctrl-C --------------------------------------------------------------------------


def interrupt_after(seconds):
    """Return an event, and a list that gets the time of a Ctrl-C to the main thread.

    The Ctrl-C follows so many seconds after the event is set: inside of pytest.raises,
    since on a busy machine it may come before the next line of the test runs.
    """
    sent, go = [], threading.Event()

    def send():
        go.wait()
        time.sleep(seconds)
        sent.append(time.perf_counter())
        _thread.interrupt_main()

    threading.Thread(target=send).start()
    return go, sent


def set_and_fit(event, net, *data, **settings):
    event.set()
    net.fit(*data, **settings)


def whole_steps(make, x, t, params, **settings):
    """Tell whether the parameters are those after some number of whole steps."""
    net = make()
    same = []

    def compare(state):
        same.append(np.array_equal(state.params, params))
        return same[-1]

    net.fit(x, t, callback=compare, **settings)
    return same[-1]


@pytest.mark.timing
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("sizes", "rows"), [([3, 5, 2], 50), ([60, 80, 2], 3000), ([200, 300, 2], 8000)]
)
@pytest.mark.parametrize("seconds", [0.01, 0.2])
def test_ctrl_c_leaves_whole_steps(sizes, rows, seconds, optimizer, rng):
    x = rng.normal(size=(rows, sizes[0]))
    t = rng.uniform(size=(rows, 2))

    def make():
        return siglin.Network(sizes, seed=1)

    net = make()
    settings = {"lr": 1e-4, "epochs": 10**8, "optimizer": optimizer}
    go, sent = interrupt_after(seconds)
    with pytest.raises(KeyboardInterrupt):
        set_and_fit(go, net, x, t, **settings)
    # 100 ms are promised; a busy machine may add as much.
    assert time.perf_counter() - sent[0] < 0.2
    if not np.array_equal(net.params, make().params):
        settings["epochs"] = 3_000_000 if rows < 100 else 10_000
        assert whole_steps(make, x, t, net.params, **settings)
    net.fit(x, t, epochs=1)  # not left busy


@pytest.mark.timing
def test_ctrl_c_with_an_optimizer_that_goes_on(rng):
    x, t = make_data(rng, rows=500)
    net, optimizer = make_network(), siglin.Adam()
    go, _ = interrupt_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        set_and_fit(go, net, x, t, epochs=10**8, optimizer=optimizer)
    assert optimizer.step_count > 0
    net.fit(x, t, epochs=5, optimizer=optimizer)
    assert np.isfinite(net.params).all()


def test_exception_of_a_signal_handler_arrives(rng):
    """Not only Ctrl-C: a timeout by alarm, for example."""
    x, t = make_data(rng)

    def handler(*_):
        raise OwnError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(OwnError):
            make_network().fit(x, t, epochs=10**9)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_optimizer_counts_the_steps_of_an_epoch_broken_off(rng):
    signal = pytest.importorskip("signal")
    x, t = make_data(rng, rows=400_000)

    def handler(*_):
        raise OwnError

    net, optimizer = make_network(), siglin.Adam()
    settings = {"batch_size": 1, "shuffle": False, "lr": 1e-4}
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(OwnError):
            net.fit(x, t, epochs=1000, optimizer=optimizer, **settings)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    count = optimizer.step_count
    assert 0 < count < len(x)
    again = make_network()
    again.fit(x[:count], t[:count], optimizer="adam", **settings)
    assert_same_bits(net.params, again.params)


@pytest.mark.parametrize("optimizer", ["gd", siglin.Momentum(momentum=0.0)])
def test_gradient_that_overflows_ends_the_fit_however_small_lr_is(optimizer):
    """lr times it would be small enough, but it is a sum of float32."""
    net = siglin.Network(
        [1, 1], loss="squared_error", init="zeros", dtype="float32", bias=False
    )
    x = np.array([[0.0]] * 8 + [[1e21]] * 8, np.float32)
    t = np.array([[0.0]] * 8 + [[1e18]] * 8, np.float32)
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, t, lr=1e-30, batch_size=8, shuffle=False, optimizer=optimizer)
    assert net.params[0] == 0


def test_bits_of_the_history_are_those_of_every_target_with_fma(rng):
    """Blocks longer than a strip of the pipeline, whose length in vectors differs."""
    x, t = make_data(rng, rows=900)
    histories = {}
    before = siglin.target()
    try:
        for name in siglin.targets():
            if name != "x86_v2":
                _core.use_target(name)
                net = siglin.Network([x.shape[1], 8, t.shape[1]], seed=1)
                histories[name] = tuple(net.fit(x, t, lr=0.1, epochs=50).loss)
    finally:
        _core.use_target(before)
    assert len(set(histories.values())) <= 1
