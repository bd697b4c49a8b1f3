"""fit_many: the bits of single fits, row subsets, bad arguments, Ctrl-C, divergence."""

import copy
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import siglin
from siglin import _core
from test_fit import interrupt_after

PLENTY = 400  # epochs of these networks that are worth sharing among threads


def make_data(rng, dtype=np.float64, rows=40, n_out=1):
    x = rng.normal(size=(rows, 3)).astype(dtype)
    t = rng.uniform(size=(rows, n_out)).astype(dtype)
    return x, t


def make_networks(count, dtype=np.float64, sizes=(3, 5, 1), **options):
    return [
        siglin.Network(sizes, dtype=dtype, seed=seed, **options)
        for seed in range(count)
    ]


def assert_same(nets, histories, others, other_histories):
    for net, other in zip(nets, others, strict=True):
        assert net.params.tobytes() == other.params.tobytes()
        assert net._generator.tobytes() == other._generator.tobytes()
    for one, other in zip(histories, other_histories, strict=True):
        assert one.loss == other.loss
        assert (one.epochs, one.steps) == (other.epochs, other.steps)
        assert one.stop_reason == other.stop_reason
        assert one.seconds > 0


# ---- the bits of single fits ---------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [None, 1, 7, 16])
def test_bits_are_those_of_single_fits(batch_size, threads, dtype, rng):
    x, t = make_data(rng, dtype)
    lrs = np.geomspace(0.01, 1.0, 6)
    nets, singles = make_networks(6, dtype), make_networks(6, dtype)
    settings = {"epochs": PLENTY // 4, "batch_size": batch_size}
    with siglin.num_threads(threads):
        histories = siglin.fit_many(nets, x, t, lr=lrs, **settings)
    expected = [
        net.fit(x, t, lr=lr, **settings) for net, lr in zip(singles, lrs, strict=True)
    ]
    assert_same(nets, histories, singles, expected)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 4, 16, 32])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 5, 2), {}),  # narrow; small, row by row
        ((3, 1), {"bias": False}),  # one neuron
        ((3, 80, 80, 2), {"activation": "tanh"}),  # beyond what is small or narrow
        ((3, 6, 4), {"loss": "cross_entropy"}),  # never narrow
    ],
)
def test_bits_with_subsets_are_those_of_copies(
    sizes, options, batch_size, shuffle, target, dtype, rng
):
    x, _ = make_data(rng, dtype)
    classes = options.get("loss") == "cross_entropy"
    t = (
        rng.integers(0, 4, len(x))
        if classes
        else rng.uniform(size=(len(x), sizes[-1])).astype(dtype)
    )
    subsets = [
        None,
        rng.permutation(40)[:33],
        rng.integers(0, 40, 45),  # as a bootstrap has them: repeated
        np.arange(40) % 3 != 0,  # a mask
        [7],
        np.arange(40)[::-2],
    ]
    settings = {"epochs": 3, "batch_size": batch_size, "shuffle": shuffle, "lr": 0.05}
    nets = make_networks(len(subsets), dtype, sizes, **options)
    singles = make_networks(len(subsets), dtype, sizes, **options)
    histories = siglin.fit_many(nets, x, t, rows=subsets, **settings)
    expected = [
        net.fit(x if one is None else x[one], t if one is None else t[one], **settings)
        for net, one in zip(singles, subsets, strict=True)
    ]
    assert_same(nets, histories, singles, expected)


def test_many_rows_in_a_subset(rng):
    """Single rows whose epochs are not many to a kernel call, blocks that are shared."""
    x, t = make_data(rng, rows=3000)
    subset = rng.permutation(3000)[:2500]
    for sizes, batch_size, shuffle in (
        ((3, 4, 1), 1, False),
        ((3, 1), None, True),
        ((3, 4, 1), 1024, False),
        ((3, 90, 70, 1), 2200, True),
    ):
        (net,), (single,) = make_networks(1, sizes=sizes), make_networks(1, sizes=sizes)
        settings = {"epochs": 2, "batch_size": batch_size, "shuffle": shuffle}
        history = siglin.fit_many([net], x, t, rows=[subset], **settings)
        expected = [single.fit(x[subset], t[subset], **settings)]
        assert_same([net], history, [single], expected)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_optimizers_of_each(optimizer, rng):
    x, t = make_data(rng)
    nets, singles = make_networks(4), make_networks(4)
    settings = {"epochs": PLENTY, "tol": 1e-3, "batch_size": 16}
    histories = siglin.fit_many(nets, x, t, optimizer=optimizer, **settings)
    expected = [net.fit(x, t, optimizer=optimizer, **settings) for net in singles]
    assert_same(nets, histories, singles, expected)


def test_memory_of_optimizers_goes_on(rng):
    x, t = make_data(rng)
    nets, singles = make_networks(3), make_networks(3)
    mixed = [siglin.Adam(), siglin.Momentum(0.5), "nesterov"]
    alone = [siglin.Adam(), siglin.Momentum(0.5), "nesterov"]
    for _ in range(2):
        histories = siglin.fit_many(nets, x, t, optimizer=mixed, epochs=9, lr=0.01)
        expected = [
            net.fit(x, t, optimizer=one, epochs=9, lr=0.01)
            for net, one in zip(singles, alone, strict=True)
        ]
        assert_same(nets, histories, singles, expected)
    assert mixed[0].step_count == mixed[1].step_count == 18


@pytest.mark.parametrize("seed", [5, [5, None, 6]])
def test_seeds_of_the_permutations(seed, rng):
    x, t = make_data(rng)
    nets, singles = make_networks(3), make_networks(3)
    settings = {"epochs": 3, "batch_size": 8}
    histories = siglin.fit_many(nets, x, t, seed=seed, **settings)
    seeds = seed if isinstance(seed, list) else [seed] * 3
    expected = [
        net.fit(x, t, seed=one, **settings)
        for net, one in zip(singles, seeds, strict=True)
    ]
    assert_same(nets, histories, singles, expected)


def test_targets_of_each(rng):
    x, _ = make_data(rng)
    targets = [rng.uniform(size=40), rng.uniform(size=(40, 1)), rng.integers(0, 2, 40)]
    nets, singles = make_networks(3), make_networks(3)
    histories = siglin.fit_many(nets, x, targets, epochs=5)
    expected = [
        net.fit(x, t, epochs=5) for net, t in zip(singles, targets, strict=True)
    ]
    assert_same(nets, histories, singles, expected)


def test_networks_may_differ(rng):
    x, _ = make_data(rng)
    t = rng.integers(0, 2, 40)
    nets = [
        siglin.Network([3, 4, 1], seed=1),
        siglin.Network([3, 2], loss="cross_entropy", seed=2),
        siglin.Network([3, 70, 9, 1], loss="squared_error", activation="relu"),
        siglin.Neuron(3),
    ]
    singles = copy.deepcopy(nets)
    histories = siglin.fit_many(nets, x, t, epochs=5, lr=0.01)
    expected = [net.fit(x, t, epochs=5, lr=0.01) for net in singles]
    assert_same(nets, histories, singles, expected)


def test_data_as_users_have_it(rng):
    """Lists, other layouts, a generator of networks, one of no rows to speak of."""
    nets, singles = make_networks(2), make_networks(2)
    x, t = [[1, 2, 3], [4, 5, 7]], [0, 1]
    histories = siglin.fit_many(iter(nets), x, t, epochs=2)
    expected = [net.fit(x, t, epochs=2) for net in singles]
    assert_same(nets, histories, singles, expected)
    assert siglin.fit_many([], x, t) == []
    before = nets[0].params.copy()
    assert [h.steps for h in siglin.fit_many(nets, x, t, epochs=0)] == [0, 0]
    np.testing.assert_array_equal(nets[0].params, before)


@pytest.mark.timing
def test_x_is_not_copied(rng):
    """Neither for the networks nor for their subsets: the memory in use says so."""
    resource = pytest.importorskip("resource")
    rows = 5_000_000  # 120 MB, if copied
    x = np.broadcast_to(rng.normal(size=(1, 3)), (rows, 3))
    t = np.lib.stride_tricks.as_strided(np.zeros((1, 1)), (rows, 1), (0, 8))
    nets = make_networks(2, sizes=(3, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    siglin.fit_many(nets, x, t, rows=[[3, 4], [rows - 1]])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 30_000  # kB


# ---- threads -------------------------------------------------------------------------


def test_fits_are_shared_among_threads(rng):
    x, t = make_data(rng, rows=400)
    settings = {"epochs": 300, "batch_size": 32}
    with siglin.num_threads(2):
        for _ in range(50):  # on a busy machine the helper may come late
            before = time.thread_time()
            whole = time.process_time()
            siglin.fit_many(make_networks(8), x, t, **settings)
            mine = time.thread_time() - before
            all_of_us = time.process_time() - whole
            if mine < 0.8 * all_of_us:
                return
    pytest.fail("all fits ran on the calling thread")


def test_several_callers_at_once(rng):
    x, t = make_data(rng)
    expected = make_networks(4)
    for net in expected:
        net.fit(x, t, epochs=PLENTY)
    wrong = []

    def run():
        nets = make_networks(4)
        siglin.fit_many(nets, x, t, epochs=PLENTY)
        for net, other in zip(nets, expected, strict=True):
            if not np.array_equal(net.params, other.params):
                wrong.append(net)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_networks_are_busy_meanwhile_and_free_afterwards(rng):
    x, t = make_data(rng)
    nets = make_networks(2)
    before = nets[0].params.copy()
    with pytest.raises(RuntimeError, match="busy"):
        nets[1].fit(x, t, callback=lambda _: siglin.fit_many(nets, x, t))
    np.testing.assert_array_equal(nets[0].params, before)
    optimizer = siglin.Adam()
    with pytest.raises(RuntimeError, match="optimizer is busy"):
        siglin.Neuron(3).fit(
            x,
            t,
            optimizer=optimizer,
            callback=lambda _: siglin.fit_many(nets[:1], x, t, optimizer=[optimizer]),
        )
    siglin.fit_many(nets, x, t)


# ---- divergence ----------------------------------------------------------------------


def test_one_that_diverges_does_not_stop_the_others(rng):
    x, t = make_data(rng)
    x[3] = 1e5
    options = {"loss": "squared_error", "activation": "relu"}
    nets, singles = make_networks(3, **options), make_networks(3, **options)
    lrs = [1e-12, 1e300, 1e-11]
    adams = [siglin.Adam() for _ in lrs]
    message = r"1 of 3 networks .* \(networks 1\)"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        histories = siglin.fit_many(
            nets, x, t, lr=lrs, epochs=20, optimizer=adams, batch_size=9
        )
    reasons = [history.stop_reason for history in histories]
    assert reasons == ["epochs", "diverged", "epochs"]
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(siglin.DivergenceError):
        singles[1].fit(x, t, lr=1e300, epochs=20, optimizer="adam", batch_size=9)
    for k in (0, 2):
        singles[k].fit(x, t, lr=lrs[k], epochs=20, optimizer="adam", batch_size=9)
    for net, single in zip(nets, singles, strict=True):
        np.testing.assert_array_equal(net.params, single.params)
        assert np.isfinite(net.params).all()
    assert [adam.step_count for adam in adams] == [100, 0, 100]


# ---- Ctrl-C --------------------------------------------------------------------------


def set_and_fit(event, nets, *data, **settings):
    event.set()
    siglin.fit_many(nets, *data, **settings)


@pytest.mark.timing
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_leaves_whole_steps(threads, rng):
    """Of every network: those done, those under way on any thread, those not begun."""
    x, t = make_data(rng, rows=2000)

    def make():
        return make_networks(5, sizes=(3, 20, 1))

    # The caller runs out of work before the others do, and waits.
    nets, adams = make(), [siglin.Adam() for _ in range(5)]
    go, sent = interrupt_after(0.3)
    rows = [[0], *[None] * 4]
    with siglin.num_threads(threads), pytest.raises(KeyboardInterrupt):
        set_and_fit(go, nets, x, t, epochs=40_000, rows=rows, lr=1e-4, optimizer=adams)
    # 100 ms are promised; a busy machine may add as much.
    assert time.perf_counter() - sent[0] < 0.2
    for net, single, subset, adam in zip(nets, make(), rows, adams, strict=True):
        if not np.array_equal(net.params, single.params):
            assert adam.step_count > 0
            data = (x, t) if subset is None else (x[subset], t[subset])
            seen = []

            def same(state, params=net.params, seen=seen):
                seen.append(np.array_equal(state.params, params))
                return seen[-1]

            single.fit(*data, epochs=40_000, lr=1e-4, optimizer="adam", callback=same)
            assert seen[-1]
    siglin.fit_many(nets, x, t)  # not left busy


@pytest.mark.timing
def test_ctrl_c_while_the_caller_waits_for_others(rng):
    """It took the short fit, of one row, and a helper has the long one."""
    x, t = make_data(rng, rows=2000)
    for _ in range(5):
        nets = make_networks(2, sizes=(3, 20, 1))
        go, sent = interrupt_after(0.3)
        before = time.thread_time()
        with siglin.num_threads(2), pytest.raises(KeyboardInterrupt):
            set_and_fit(go, nets, x, t, epochs=500_000, rows=[[0], None], lr=1e-6)
        assert time.perf_counter() - sent[0] < 0.2
        if time.thread_time() - before < 0.2:
            return
    pytest.skip("no helper came in time to leave the caller waiting")


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_epoch_counts_its_steps(threads, rng):
    x, t = make_data(rng, rows=100_000)
    nets = make_networks(2, sizes=(3, 20, 1))
    before = [net.params.copy() for net in nets]
    adams = [siglin.Adam() for _ in nets]

    def stop(_):
        raise KeyboardInterrupt

    jobs = [
        (
            net._native,
            net._params,
            t,
            None,
            np.ones(4, np.uint64),
            _core.FitSettings(1e-4, 9, 1, False, 0.0, adam.name, adam.options),
            adam.memory,
            None,
        )
        for net, adam in zip(nets, adams, strict=True)
    ]
    for net, adam in zip(nets, adams, strict=True):
        adam.prepare("fit_many", net.n_params, net.dtype)
    with siglin.num_threads(threads), pytest.raises(KeyboardInterrupt):
        _core.fit_many(x, jobs, on_progress=stop)
    for net, first, adam in zip(nets, before, adams, strict=True):
        assert (adam.step_count > 0) == (not np.array_equal(net.params, first))
    assert any(adam.step_count for adam in adams)


def test_exception_of_a_signal_handler_arrives(rng):
    signal = pytest.importorskip("signal")
    x, t = make_data(rng)

    class OwnError(Exception):
        pass

    def handler(*_):
        raise OwnError

    nets = make_networks(3)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(OwnError):
            siglin.fit_many(nets, x, t, epochs=10**9)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    siglin.fit_many(nets, x, t)


FORK_IN_A_HANDLER = """
import os, signal, sys, threading, time, warnings
import numpy as np
import siglin

warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
children = []

def handler(*_):
    if all(np.array_equal(net.params, w) for net, w in zip(nets, starts)):
        return  # not in the midst of a fit yet
    signal.setitimer(signal.ITIMER_PROF, 0)
    children.append(os.fork())

signal.signal(signal.SIGPROF, handler)
x = np.ones((2000, 3))
nets = [siglin.Network([3, 20, 1], seed=seed) for seed in range(int(sys.argv[1]))]
starts = [net.params.copy() for net in nets]
rows = [None] * len(nets) if sys.argv[2] == "all" else [[0], *[None] * (len(nets) - 1)]
siglin.set_num_threads(int(sys.argv[3]))
signal.setitimer(signal.ITIMER_PROF, 0.02, 0.02)
try:
    siglin.fit_many(nets, x, x[:, 0], epochs=3000, rows=rows)
    ended = "done"
except RuntimeError as error:
    ended = str(error)
if children == [0]:
    siglin.fit_many(nets, x, x[:, 0], epochs=2)  # a team of its own
    print("child:", ended, flush=True)
    os._exit(0)
os.waitpid(children[0], 0)
print("parent:", ended)
"""


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [
        (("4", "all", "2"), "a forked child cannot end work that threads share"),
        (("2", "one", "2"), "a forked child cannot end work that threads share"),
        (("2", "all", "1"), "done"),  # all of it is the child's own
    ],
)
def test_a_fork_in_a_signal_handler(arguments, ended):
    """In the midst of a fit, and while the caller waits for others."""
    command = [sys.executable, "-c", FORK_IN_A_HANDLER, *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == [f"child: {ended}", "parent: done"]


def test_weights_of_0_on_the_rows_that_are_seen():
    net = siglin.Network([2, 1])
    with pytest.raises(
        ValueError, match=r"sample_weight is 0 for every row of rows\[0\]"
    ):
        siglin.fit_many(
            [net],
            np.ones((5, 2)),
            np.ones(5),
            rows=[[3, 4]],
            sample_weight=[1, 1, 1, 0, 0],
        )


# ---- progress ------------------------------------------------------------------------


def test_bar_over_all_epochs(monkeypatch, capsys, rng):
    tqdm, bars = pytest.importorskip("tqdm.auto"), []

    class Spy(tqdm.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Spy)
    x, t = make_data(rng)
    siglin.fit_many(make_networks(3), x, t, epochs=50, progress=True)
    capsys.readouterr()
    assert [(bar.total, bar.n, bar.disable) for bar in bars] == [(150, 150, True)]


def test_lines_without_tqdm(monkeypatch, capsys, rng):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    x, t = make_data(rng)
    siglin.fit_many(make_networks(3), x, t, epochs=50, progress=True)
    assert capsys.readouterr().out == "epoch 150/150\n"


def test_lines_by_count(capsys, rng):
    x, t = make_data(rng)
    siglin.fit_many(make_networks(3), x, t, epochs=50, progress=100)
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.removeprefix("epoch ").removesuffix("/150")) for line in lines]
    assert counts[0] >= 100
    assert [count // 100 for count in counts] == [1]
    siglin.fit_many(make_networks(3), x, t, epochs=50, progress=151)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("threads", [1, 2])
def test_what_progress_raises_ends_all_fits(threads, rng):
    x, t = make_data(rng, rows=400)
    nets = make_networks(3)
    states = [siglin.Adam() for _ in nets]
    for one, net in zip(states, nets, strict=True):
        one.prepare("fit_many", net.n_params, net.dtype)

    def fail(epochs):
        if epochs > 0:
            raise RuntimeError("from the hook")

    settings = [
        _core.FitSettings(0.1, 10**8, 400, False, 0.0, "adam", one.options)
        for one in states
    ]
    jobs = [
        (n._native, n.params, t, None, n._generator, one, a.memory, None)
        for n, one, a in zip(nets, settings, states, strict=True)
    ]
    with siglin.num_threads(threads), pytest.raises(RuntimeError, match="the hook"):
        _core.fit_many(x, jobs, on_progress=fail)
    assert any(one.step_count for one in states)


# ---- bad arguments -------------------------------------------------------------------

X, T = np.ones((4, 3)), np.zeros((4, 1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": 0.0}, ValueError, "lr must be > 0"),
        ({"lr": [0.1, -1.0]}, ValueError, "lr must be > 0"),
        ({"lr": [0.1, np.nan]}, ValueError, "lr must be finite"),
        ({"lr": [0.1]}, ValueError, "lr must be one for all or one for each of the 2"),
        ({"lr": "0.1"}, TypeError, "lr must be a real number"),
        ({"lr": [0.1, [0.1, 0.2]]}, TypeError, "lr must be a real number, got list"),
        ({"epochs": -1}, ValueError, "epochs must be"),
        ({"epochs": 2.0}, TypeError, "epochs must be an int"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
        ({"tol": -1.0}, ValueError, "tol must be >= 0"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": [1, 2, 3]}, ValueError, "seed must be one for all"),
        ({"seed": [1, 2.5]}, TypeError, "seed must be an int"),
        ({"seed": [[1], [2, 3]]}, TypeError, "seed must be an int, got list"),
        ({"progress": 0}, ValueError, "progress must be from 1"),
        ({"progress": "yes"}, TypeError, "progress must be an int"),
        ({"optimizer": "sgd"}, ValueError, "optimizer must be one of"),
        ({"optimizer": ["adam"]}, ValueError, "optimizer must be one for all"),
        ({"optimizer": siglin.Adam()}, TypeError, "memory of one network"),
        ({"optimizer": ["adam", 3]}, TypeError, "optimizer must be one of"),
        ({"optimizer": [[1], [2, 3]]}, TypeError, "optimizer must be one of"),
        ({"rows": 3}, TypeError, "rows must be None or a sequence"),
        ({"rows": [None]}, ValueError, "rows must have one entry for each of the 2"),
        ({"rows": [0, 1]}, siglin.ShapeError, r"rows\[0\] must be 1-D"),
        ({"rows": [[[0], [1, 2]], None]}, siglin.ShapeError, r"rows\[0\] must be 1-D"),
        ({"rows": [None, []]}, siglin.ShapeError, r"rows\[1\] has no rows"),
        ({"rows": [[0], [4]]}, ValueError, r"rows\[1\] must be numbers from 0 to 3"),
        ({"rows": [[-1], None]}, ValueError, r"rows\[0\] .* from 0 to 3, got -1"),
        ({"rows": [[0.0], None]}, siglin.DTypeError, r"rows\[0\] must be numbers"),
        ({"rows": [[True], None]}, siglin.ShapeError, r"rows\[0\] must have shape"),
        ({"rows": [[False] * 4, None]}, siglin.ShapeError, r"rows\[0\] has no rows"),
    ],
)
def test_bad_options(options, error, message):
    nets = make_networks(2)
    before = [net.params.copy() for net in nets]
    with pytest.raises(error, match=f"^fit_many: .*{message}"):
        siglin.fit_many(nets, X, T, **options)
    for net, params in zip(nets, before, strict=True):
        np.testing.assert_array_equal(net.params, params)
    siglin.fit_many(nets, X, T)  # not left busy


@pytest.mark.parametrize("folds", [2, 3])
def test_splits_with_their_test_parts_are_told_how_to_leave_them_out(folds):
    model_selection = pytest.importorskip("sklearn.model_selection")
    nets = make_networks(folds)
    splits = list(model_selection.KFold(folds).split(X))
    message = r"^fit_many: rows\[0\] is a pair .*\[train for train, _ in splits\]"
    with pytest.raises(siglin.ShapeError, match=message):
        siglin.fit_many(nets, X, T, rows=splits)
    siglin.fit_many(nets, X, T, rows=[train for train, _ in splits])


def test_an_optimizer_of_another_network_is_refused():
    methods = [siglin.Adam(), siglin.Adam()]
    siglin.Network([5, 1]).fit(np.ones((2, 5)), [0, 1], optimizer=methods[1])
    nets = make_networks(2)
    with pytest.raises(ValueError, match=r"^fit_many: this Adam holds the memory of"):
        siglin.fit_many(nets, X, T, optimizer=methods)
    siglin.fit_many(nets, X, T)  # not left busy


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (np.ones((4, 2)), T, siglin.ShapeError, "x must have 3 columns"),
        (np.ones(3), T, siglin.ShapeError, "x must be 2-D"),
        (np.full((4, 3), np.nan), T, ValueError, "x contains NaN"),
        (X.astype(np.float32), T, siglin.DTypeError, "x must be float64"),
        (X, np.zeros((3, 1)), siglin.ShapeError, r"t must have shape \(4, 1\)"),
        (X, T + 2, ValueError, r"t contains something outside \[0, 1\]"),
        (X, [T, T, T], ValueError, "one for each of the 2 networks, got 3"),
        (X, [T, T + 2], ValueError, r"t contains something outside \[0, 1\]"),
        (X, [T, T[:3]], siglin.ShapeError, r"t must have shape \(4, 1\)"),
        (np.ones((0, 3)), T[:0], siglin.ShapeError, "no rows"),
    ],
)
def test_bad_data(x, t, error, message):
    nets = make_networks(2)
    before = [net.params.copy() for net in nets]
    with pytest.raises(error, match=f"fit_many: .*{message}"):
        siglin.fit_many(nets, x, t)
    for net, params in zip(nets, before, strict=True):
        np.testing.assert_array_equal(net.params, params)


def test_bad_networks():
    net = siglin.Network([3, 1])
    for networks, error, message in (
        (net, TypeError, "networks must be a sequence of Network"),
        (3, TypeError, "networks must be a sequence of Network"),
        ([net, siglin.Perceptron(3)], TypeError, r"networks\[1\] must be a Network"),
        ([net, net], ValueError, r"networks\[1\] is the same object as networks\[0\]"),
        ([net, siglin.Network([2, 1])], siglin.ShapeError, "number of inputs"),
        ([net, net.astype("float32")], siglin.DTypeError, "the same dtype"),
        (
            [net, siglin.Network([3, 2, 1], activation="step")],
            ValueError,
            "step",
        ),
    ):
        with pytest.raises(error, match=message):
            siglin.fit_many(networks, X, T)
    optimizer = siglin.Adam()
    with pytest.raises(ValueError, match=r"optimizer\[1\] is the same object"):
        siglin.fit_many(make_networks(2), X, T, optimizer=[optimizer, optimizer])


# ---- every option of fit -------------------------------------------------------------


class Stop(Exception):
    pass


def weights_of(rng, dtype):
    return rng.uniform(0.5, 2, size=40).astype(dtype)


# Each has one value for all, and one for each of three networks.
OPTIONS = {
    "lr": (0.3, [0.1, lambda epoch: 0.5 / (1 + epoch), 0.7]),
    "schedule": (lambda epoch: 0.9**epoch, None),
    "epochs": (7, [3, 0, 11]),
    "batch_size": (6, [None, 1, 9]),
    "shuffle": (False, [True, False, True]),
    "seed": (4, [1, None, 2]),
    "optimizer": ("adam", ["gd", "nesterov", "momentum"]),
    "decay": ("adamw", ["adamw", "adam", "gd"]),
    "tol": (0.05, [0.0, 0.04, 0.1]),
    "sample_weight": (weights_of, None),
    "l1": (0.01, [0.0, 0.1, 0.02]),
    "l2": (0.1, [0.0, 0.3, 0.2]),
    "dropout": (0.25, [0.0, 0.5, 0.1]),
    "clip_norm": (0.05, [None, 0.01, 0.1]),
    "validation_split": (0.25, [0.0, 0.5, 0.1]),
    "patience": (2, [None, 1, 3]),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_what_it_is_in_a_single_fit(
    name, several, batch_size, threads, dtype, rng
):
    x, t = make_data(rng, dtype)
    one, each = OPTIONS[name]
    if name == "sample_weight":
        one = weights_of(rng, dtype)
        each = [one, None, weights_of(rng, dtype)]
    if name == "schedule":
        name, each = "lr", [one, 0.5, lambda epoch: 1 / (3 + epoch)]
    if name == "decay":
        name = "optimizer"
    given = each if several else one
    values = each if several else [one] * 3
    settings = {"epochs": 9, "batch_size": batch_size, "lr": 0.5}
    nets, singles = make_networks(3, dtype), make_networks(3, dtype)
    with siglin.num_threads(threads):
        histories = siglin.fit_many(nets, x, t, **settings | {name: given})
    expected = [
        net.fit(x, t, **settings | {name: value})
        for net, value in zip(singles, values, strict=True)
    ]
    for history in [*histories, *expected]:
        vars(history)["seconds"] = 1.0  # of no epoch there may be none
    assert_same(nets, histories, singles, expected)
    for one, other in zip(histories, expected, strict=True):
        assert one.validation_loss == other.validation_loss
        assert one.best_epoch == other.best_epoch


@pytest.mark.parametrize("loss", ["poisson", siglin.Huber(0.3), siglin.Quantile(0.9)])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_any_loss_has_the_bits_of_a_single_fit(loss, batch_size, dtype, rng):
    x, t = make_data(rng, dtype)
    settings = {"epochs": 5, "batch_size": batch_size, "optimizer": "adamw"}
    settings["validation_data"] = make_data(rng, dtype, rows=9)
    nets = make_networks(3, dtype, loss=loss)
    singles = make_networks(3, dtype, loss=loss)
    histories = siglin.fit_many(nets, x, t, **settings)
    expected = [net.fit(x, t, **settings) for net in singles]
    assert_same(nets, histories, singles, expected)
    for one, other in zip(histories, expected, strict=True):
        assert one.validation_loss == other.validation_loss


@pytest.mark.parametrize("weighted", [False, True])
def test_a_split_is_one_of_the_rows_that_a_network_sees(weighted, dtype, rng):
    x, t = make_data(rng, dtype)
    w = weights_of(rng, dtype) if weighted else None
    subsets = [rng.permutation(40)[:33], None, np.arange(40) % 3 != 0]
    settings = {"epochs": 6, "batch_size": 5, "lr": 0.5, "validation_split": 0.3}
    nets, singles = make_networks(3, dtype), make_networks(3, dtype)
    histories = siglin.fit_many(nets, x, t, rows=subsets, sample_weight=w, **settings)
    expected = []
    for net, subset in zip(singles, subsets, strict=True):
        rows = slice(None) if subset is None else subset
        weights = None if w is None else w[rows]
        expected.append(net.fit(x[rows], t[rows], sample_weight=weights, **settings))
    assert_same(nets, histories, singles, expected)
    for one, other in zip(histories, expected, strict=True):
        assert one.validation_loss == other.validation_loss != ()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2},
        {"patience": [1, None, 6], "min_delta": [0.0, 0.1, 0.001]},
        {"patience": 4, "min_delta": 0.01, "tol": 0.02},
    ],
    ids=str,
)
def test_each_is_judged_by_its_own_validation_loss(options, threads, dtype, rng):
    x, t = make_data(rng, dtype)
    held = make_data(rng, dtype, rows=15)
    nets, singles = make_networks(3, dtype), make_networks(3, dtype)
    settings = {"epochs": 60, "batch_size": 8, "lr": 2.0, "validation_data": held}
    with siglin.num_threads(threads):
        histories = siglin.fit_many(nets, x, t, **settings, **options)
    expected = [
        net.fit(
            x,
            t,
            **settings,
            **{n: v[k] if isinstance(v, list) else v for n, v in options.items()},
        )
        for k, net in enumerate(singles)
    ]
    assert_same(nets, histories, singles, expected)
    for one, other in zip(histories, expected, strict=True):
        assert one.validation_loss == other.validation_loss != ()
        assert one.best_epoch == other.best_epoch
    if options == {"patience": 2}:
        assert any(history.stop_reason == "patience" for history in histories)


def test_weights_and_subsets_go_together(dtype, rng):
    x, t = make_data(rng, dtype)
    w = weights_of(rng, dtype)
    subsets = [rng.permutation(40)[:33], None, np.arange(40) % 3 != 0]
    settings = {"epochs": 4, "batch_size": 5, "lr": 0.5}
    nets, singles = make_networks(3, dtype), make_networks(3, dtype)
    histories = siglin.fit_many(nets, x, t, rows=subsets, sample_weight=w, **settings)
    expected = [
        net.fit(x[rows], t[rows], sample_weight=w[rows], **settings)
        for net, rows in zip(
            singles, [np.arange(40) if s is None else s for s in subsets], strict=True
        )
    ]
    assert_same(nets, histories, singles, expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_a_callback_sees_and_stops_each_network(batch_size, threads, dtype, rng):
    x, t = make_data(rng, dtype)
    held = make_data(rng, dtype, rows=9)
    settings = {"epochs": [9, 4, 6], "batch_size": batch_size, "lr": 0.5}
    caller = threading.get_ident()

    def watched(seen, k, state):
        assert threading.get_ident() == caller
        assert not state.params.flags.writeable
        seen[k].append((state.epoch, state.step, state.loss, state.validation_loss))
        seen[k].append(state.params.copy().tobytes())
        return (k, state.epoch) == (0, 5)

    nets, singles = make_networks(3, dtype), make_networks(3, dtype)
    seen, want = [[], [], []], [[], [], []]
    with siglin.num_threads(threads):
        histories = siglin.fit_many(
            nets,
            x,
            t,
            callback=lambda k, state: watched(seen, k, state),
            validation_data=held,
            **settings,
        )
    expected = [
        net.fit(
            x,
            t,
            callback=lambda state, k=k: watched(want, k, state),
            validation_data=held,
            **settings | {"epochs": settings["epochs"][k]},
        )
        for k, net in enumerate(singles)
    ]
    assert seen == want
    assert [h.epochs for h in histories] == [5, 4, 6]
    assert histories[0].stop_reason == "callback"
    assert_same(nets, histories, singles, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_callback_raises_ends_all_fits(threads, rng):
    x, t = make_data(rng)
    nets, singles = make_networks(3), make_networks(3)

    def fail(k, state):
        if (k, state.epoch) == (1, 4):
            raise Stop

    with siglin.num_threads(threads), pytest.raises(Stop):
        siglin.fit_many(nets, x, t, epochs=9, lr=0.5, callback=fail)
    for net, single in zip(nets, singles, strict=True):
        single.fit(x, t, epochs=4, lr=0.5)
        assert net.params.tobytes() == single.params.tobytes()
    siglin.fit_many(nets, x, t)  # none is busy


def test_a_callback_may_write_parameters(dtype, rng):
    x, t = make_data(rng, dtype)
    nets, singles = make_networks(2, dtype), make_networks(2, dtype)
    settings = {"epochs": 5, "batch_size": 8, "lr": 0.5, "optimizer": "adam"}

    def halve(net):
        net.params[...] /= 2

    histories = siglin.fit_many(
        nets, x, t, callback=lambda k, _: halve(nets[k]), **settings
    )
    expected = [
        net.fit(x, t, callback=lambda _, net=net: halve(net), **settings)
        for net in singles
    ]
    assert_same(nets, histories, singles, expected)


def test_one_diverges_beside_a_callback(rng):
    x, t = make_data(rng)
    nets = make_networks(2, loss="squared_error")
    epochs = [[], []]
    with pytest.warns(RuntimeWarning, match="1 of 2 networks"):
        histories = siglin.fit_many(
            nets,
            x * [1e3],
            t,
            lr=[1e-9, 1e300],
            epochs=5,
            callback=lambda k, state: epochs[k].append(state.epoch),
        )
    assert [h.stop_reason for h in histories] == ["epochs", "diverged"]
    assert epochs[0] == [1, 2, 3, 4, 5]
    assert len(epochs[1]) == histories[1].epochs - 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"l1": [0.1]}, ValueError, "l1 must be one for all or one for each"),
        ({"l2": -1.0}, ValueError, "l2"),
        ({"dropout": [0.1, 1.0, 0.1]}, ValueError, "dropout"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm"),
        ({"epochs": [1, -1, 1]}, ValueError, "epochs"),
        ({"batch_size": [1, 2]}, ValueError, "batch_size must be one for all"),
        ({"patience": [2, 0, 2]}, ValueError, "patience"),
        ({"validation_split": 1.0}, ValueError, "validation_split"),
        (
            {"validation_split": 0.5, "validation_data": (np.ones((2, 3)), [0, 1])},
            ValueError,
            "validation_data or validation_split",
        ),
        ({"validation_data": 3}, TypeError, "must be a pair"),
        ({"min_delta": -1.0}, ValueError, "min_delta"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
        ({"sample_weight": [np.ones(40)] * 2}, ValueError, "sample_weight must have"),
        ({"lr": lambda epoch: epoch - 1.0}, ValueError, "lr"),
    ],
)
def test_what_an_option_cannot_be(options, error, message, rng):
    x, t = make_data(rng)
    nets = make_networks(3)
    before = [net.params.copy() for net in nets]
    with pytest.raises(error, match=message):
        siglin.fit_many(nets, x, t, **options)
    for net, params in zip(nets, before, strict=True):
        assert net.params.tobytes() == params.tobytes()


# ---- the strict layer ----------------------------------------------------------------


def job(net, t=T, rows=None, lr=0.1, moments=None):
    moments = np.empty(0, net.dtype) if moments is None else moments
    settings = _core.FitSettings(lr, epochs=1, batch_size=4)
    return [net._native, net.params, t, rows, net._generator, settings, moments, None]


def run_jobs(jobs):
    return _core.fit_many(X, [tuple(one) for one in jobs], on_progress=None)


def test_strict_layer_runs_what_is_right():
    results = run_jobs([job(net) for net in make_networks(2)])
    assert [result.steps for result in results] == [1, 1]


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        (1, np.zeros(3), siglin.ShapeError),
        (1, np.zeros(26, np.float32), siglin.DTypeError),
        (2, np.zeros((3, 1)), siglin.ShapeError),
        (3, np.array([4]), ValueError),
        (3, np.array([-1]), ValueError),
        (3, np.array([], np.int64), siglin.ShapeError),
        (3, np.zeros((1, 1), np.int64), siglin.ShapeError),
        (3, np.zeros(2, np.int32), TypeError),
        (3, np.zeros(4, np.int64)[::2], TypeError),
        (3, [0], TypeError),
        (4, np.zeros(4), TypeError),
        (5, _core.FitSettings(-1.0, 1, 4), ValueError),
        (5, _core.FitSettings(0.1, 1, 4, optimizer="sgd"), ValueError),
        (5, (0.1, 1, 4), TypeError),
        (6, np.zeros(1), siglin.ShapeError),
    ],
)
def test_strict_layer_refuses(place, value, error):
    jobs = [job(net) for net in make_networks(2)]
    assert jobs[1][1].size == 26
    jobs[1][place] = value
    with pytest.raises(error):
        run_jobs(jobs)


def test_strict_layer_refuses_jobs_that_overlap():
    nets = make_networks(3)
    jobs = [job(net) for net in nets]
    for place in (1, 4):  # parameters, generator
        wrong = [list(one) for one in jobs]
        wrong[2][place] = jobs[0][place]
        with pytest.raises(ValueError, match="must not overlap"):
            run_jobs(wrong)
    wrong = [list(one) for one in jobs]
    wrong[1][2] = nets[2].params[:4].reshape(4, 1)  # the targets of another
    with pytest.raises(ValueError, match="must not overlap"):
        run_jobs(wrong)
    wrong = [list(one) for one in jobs]
    wrong[1][3] = nets[0]._generator.view(np.int64)[:1]
    with pytest.raises(ValueError, match=r"must not overlap|must be numbers"):
        run_jobs(wrong)
    run_jobs(jobs)


def test_no_warning_where_none_diverges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        siglin.fit_many(make_networks(2), X, T)
