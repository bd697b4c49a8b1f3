"""Wide layers keep their weights packed over a fit: nobody can tell."""

import itertools
import threading
import time

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core, reference

# Layers that are packed (more than 16 kB of weights) and others; sizes that no tile and
# no block of depth divides, and one that both do.
SIZES = [[130, 64, 70, 1], [500, 33, 390], [384, 64, 3], [9, 800, 2], [4200, 1]]
ROWS = 50  # more than four tiles of any target


def make_data(sizes, rows, dtype, rng):
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    return x, rng.uniform(size=(rows, sizes[-1])).astype(dtype)


def make_network(sizes, dtype, **options):
    activation = ["tanh", "relu", "sigmoid"][: len(sizes) - 2]
    return siglin.Network(sizes, activation=activation, dtype=dtype, seed=1, **options)


def step_by_step(net, x, t, epochs, batch_size=ROWS):
    """Do what fit does, by steps that pack nothing; yield after every epoch."""
    for _ in range(epochs):
        for begin in range(0, len(x), batch_size):
            rows = slice(begin, begin + batch_size)
            net.loss_and_grads(x[rows], t[rows])
            net.update(0.05)
        yield net.params


SETTINGS = {"lr": 0.05, "batch_size": ROWS, "shuffle": False}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_steps_have_the_bits_of_single_ones(sizes, threads, target, dtype, rng):
    x, t = make_data(sizes, 3 * ROWS + 1, dtype, rng)  # and a last batch of one row
    net, by_hand = make_network(sizes, dtype), make_network(sizes, dtype)
    with siglin.num_threads(threads):
        net.fit(x, t, epochs=3, **SETTINGS)
    *_, expected = step_by_step(by_hand, x, t, 3)
    assert_same_bits(net.params, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 10])
@pytest.mark.parametrize("sizes", [*SIZES, [385, 100, 20], [100, 61]], ids=str)
def test_few_rows_have_them_too(sizes, batch_size, bias, target, dtype, rng):
    x, t = make_data(sizes, 21, dtype, rng)
    nets = [make_network(sizes, dtype, bias=bias) for _ in range(2)]
    settings = {**SETTINGS, "batch_size": batch_size}
    losses = nets[0].fit(x, t, epochs=3, **settings).loss
    *_, expected = step_by_step(nets[1], x, t, 3, batch_size)
    assert_same_bits(nets[0].params, expected)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("sizes", "batch_size", "rows"),
    [([10, 32, 3], 40, 85), ([10, 32, 3], 20, 41), ([10, 32, 16, 3], 4, 9)],
)
def test_a_last_batch_whose_path_is_another(
    sizes, batch_size, rows, target, dtype, rng
):
    """One of both leaves weights packed, the other reads the parameters."""
    x, t = make_data(sizes, rows, dtype, rng)
    net, by_hand = make_network(sizes, dtype), make_network(sizes, dtype)
    net.fit(x, t, epochs=4, **{**SETTINGS, "batch_size": batch_size})
    *_, expected = step_by_step(by_hand, x, t, 4, batch_size)
    assert_same_bits(net.params, expected)


def test_the_number_of_threads_may_change_meanwhile(rng):
    """Whether a step looks ahead depends on it."""
    sizes = [784, 640, 10]
    x, t = make_data(sizes, 100, np.float32, rng)
    nets = [make_network(sizes, np.float32) for _ in range(2)]
    settings = {**SETTINGS, "epochs": 2, "batch_size": 1}
    done = threading.Event()

    def change():
        for n in itertools.cycle([1, 2]):
            siglin.set_num_threads(n)
            if done.is_set():
                break

    with siglin.num_threads(1):
        nets[0].fit(x, t, **settings)
        other = threading.Thread(target=change)
        other.start()
        try:
            nets[1].fit(x, t, **settings)
        finally:
            done.set()
            other.join()
    assert_same_bits(nets[1].params, nets[0].params)


@pytest.mark.parametrize("every", [1, 3])
def test_single_rows_in_another_order_and_with_lines_between(every, rng, capsys):
    sizes = [385, 100, 20]
    x, t = make_data(sizes, 11, np.float32, rng)
    nets = [make_network(sizes, np.float32) for _ in range(3)]
    settings = {"epochs": 4, "batch_size": 1, "lr": 0.05, "seed": 3}
    nets[0].fit(x, t, **settings)
    nets[1].fit(x, t, **settings, progress=every)
    assert len(capsys.readouterr().out.splitlines()) == 44 // every
    generator = reference.Generator(3)
    for _ in range(4):
        for row in generator.permutation(11):
            nets[2].loss_and_grads(x[row : row + 1], t[row : row + 1])
            nets[2].update(0.05)
    for net in nets[1:]:
        assert_same_bits(net.params, nets[0].params)


@pytest.mark.parametrize("sizes", SIZES[:3], ids=str)
def test_callbacks_see_and_write_the_parameters(sizes, dtype, rng):
    x, t = make_data(sizes, 2 * ROWS, dtype, rng)
    net, by_hand = make_network(sizes, dtype), make_network(sizes, dtype)
    steps = step_by_step(by_hand, x, t, 5)

    def look(state):
        assert_same_bits(state.params, next(steps))
        if state.epoch == 3:
            net.params *= 0.5
            by_hand.params *= 0.5

    net.fit(x, t, epochs=5, callback=look, **SETTINGS)
    assert_same_bits(net.params, by_hand.params)


def test_an_exception_leaves_whole_steps(rng):
    sizes = SIZES[0]
    x, t = make_data(sizes, 2 * ROWS, np.float64, rng)
    net, by_hand = make_network(sizes, np.float64), make_network(sizes, np.float64)

    def stop(state):
        if state.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit(x, t, epochs=9, callback=stop, **SETTINGS)
    *_, expected = step_by_step(by_hand, x, t, 4)
    assert_same_bits(net.params, expected)


@pytest.mark.timing
def test_a_signal_need_not_wait_for_the_end_of_an_epoch(rng):
    """Nor where the only layer's products are all made ahead."""
    signal = pytest.importorskip("signal")
    x = np.broadcast_to(rng.normal(size=(1, 784)), (10**6, 784))
    t = np.broadcast_to(rng.uniform(size=(1, 64)), (10**6, 64))
    net = make_network([784, 64], np.float64)

    class OwnError(Exception):
        pass

    def handler(*_):
        raise OwnError

    before = signal.signal(signal.SIGALRM, handler)
    start = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(OwnError):
            net._native.fit(
                net._params,
                x,
                t,
                np.ones(4, np.uint64),
                _core.FitSettings(**{**SETTINGS, "batch_size": 1, "epochs": 1}),
                np.empty(0),
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - start < 1  # all of it takes more


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_keeps_the_last_finite_weights(dtype, rng):
    sizes = [130, 64, 70, 1]
    x, t = make_data(sizes, 2 * ROWS, dtype, rng)
    net = siglin.Network(
        sizes, activation="relu", loss="squared_error", dtype=dtype, seed=1
    )
    with pytest.raises(siglin.DivergenceError):
        net.fit(x, t, lr=10.0, epochs=99, batch_size=ROWS)
    assert np.isfinite(net.params).all()
