"""Network.learn_one: the bits of a fit on one row, what it takes, what it refuses."""

import copy
import inspect
import pickle
import threading

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits, layouts
from siglin._training.optimizers import OPTIMIZERS

NETWORKS = {
    "smallest": ([2, 3, 1], {}),
    "no bias": ([4, 16, 1], {"bias": False, "activation": "tanh"}),
    "many outputs": ([7, 33, 12], {"loss": "squared_error", "activation": "relu"}),
    "classes": ([5, 9, 4], {"loss": "cross_entropy", "activation": "leaky_relu"}),
    "many classes": ([3, 20], {"loss": "cross_entropy"}),
    "deep": ([3, 4, 5, 6, 5, 4, 3, 2, 1], {}),
    "deeper": ([3, *[4] * 9, 1], {}),  # the general path, as the next one
    "large": ([70, 80, 2], {}),
    "neuron": ([5, 1], {}),
    "counts": ([5, 9, 2], {"loss": "poisson"}),
    "far ones": ([5, 9, 2], {"loss": siglin.Huber(0.3)}),
    "a quantile": ([5, 1], {"loss": siglin.Quantile(0.9)}),
}


def make(name, dtype=np.float64):
    sizes, options = NETWORKS[name]
    return siglin.Network(sizes, dtype=dtype, seed=3, **options)


def make_rows(net, rng, rows=20):
    x = rng.normal(size=(rows, net.layers[0].n_in)).astype(net.dtype)
    n_out = net.layers[-1].n_out
    if net.loss_name == "cross_entropy":
        return x, rng.integers(0, n_out, rows)
    return x, rng.uniform(size=(rows, n_out)).astype(net.dtype)


def state(net):
    return net.params.tobytes(), net._generator.tobytes()


# ---- the bits ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_bits_are_those_of_a_fit(name, target, dtype, rng):
    net, row_by_row, at_once = make(name, dtype), make(name, dtype), make(name, dtype)
    x, t = make_rows(net, rng)
    losses = []
    for one, targets in zip(x, t, strict=True):
        losses.append(net.learn_one(one, targets, lr=0.05))
        history = (
            row_by_row.fit(one[None], np.atleast_1d(targets)[None], lr=0.05)
            if (net.loss_name != "cross_entropy")
            else row_by_row.fit(one[None], [targets], lr=0.05)
        )
        assert history.loss == losses[-1:]
        assert state(net) == state(row_by_row)
    history = at_once.fit(x, t, lr=0.05, batch_size=1, shuffle=False)
    assert state(net) == state(at_once)
    assert np.mean(losses) == pytest.approx(history.loss[0], rel=1e-6)


OPTIONS = [
    {"optimizer": "adam"},
    {"optimizer": "momentum"},
    {"optimizer": "adamw"},
    {"optimizer": "nesterov", "l1": 0.01},
    {"l2": 0.1},
    {"l1": 0.02, "l2": 0.1, "clip_norm": 0.05},
    {"dropout": 0.3},
    {"dropout": 0.5, "optimizer": "adam", "l2": 0.01},
    {"sample_weight": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "name", ["smallest", "classes", "deeper", "large", "counts", "a quantile"]
)
def test_options_have_the_bits_of_a_fit(name, options, target, dtype, rng):
    """An optimiser by name is one whose memory goes on from step to step."""
    net, other = make(name, dtype), make(name, dtype)
    x, t = make_rows(net, rng)
    fit_options = {n: v for n, v in options.items() if n != "sample_weight"}
    if "optimizer" in options:
        fit_options["optimizer"] = OPTIMIZERS[options["optimizer"]]()
    for one, targets in zip(x, t, strict=True):
        loss = net.learn_one(one, targets, lr=0.05, **options)
        history = other.fit(one[None], targets[None], lr=0.05, **fit_options)
        assert history.loss == [loss]
        assert state(net) == state(other)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_lr_a_step_takes_the_optimisers(optimizer, rng):
    x, t = make_rows(make("smallest"), rng, 3)
    kind = OPTIMIZERS[optimizer]
    steps = [
        lambda net, lr, by: net.learn_one(x[0], t[0], lr=lr, optimizer=by),
        lambda net, lr, by: net.learn_many(x, t, lr=lr, optimizer=by),
        lambda net, lr, by: net.update(lr, optimizer=by),
    ]
    for step in steps:
        nets = [make("smallest") for _ in range(4)]
        for net in nets:
            net.loss_and_grads(x, t)
        step(nets[0], None, optimizer)
        step(nets[1], kind.default_lr, optimizer)
        step(nets[2], None, kind(lr=0.3))
        step(nets[3], 0.3, optimizer)
        assert state(nets[0]) == state(nets[1]) != state(nets[2]) == state(nets[3])


def test_a_step_has_no_schedule(rng):
    net = make("smallest")
    x, t = make_rows(net, rng, 3)
    for step in (net.learn_many, lambda *_, **given: net.update(**given)):
        with pytest.raises(TypeError, match="lr must be"):
            step(x, t, lr=lambda _: 0.1, optimizer="adam")
    with pytest.raises(TypeError, match="lr must be"):
        net.learn_one(x[0], t[0], lr=lambda _: 0.1)


@pytest.mark.parametrize("name", ["smallest", "classes", "large"])
def test_an_object_keeps_the_memory_itself(name, dtype, rng):
    net, other = make(name, dtype), make(name, dtype)
    x, t = make_rows(net, rng)
    mine, theirs = siglin.Adam(0.8), siglin.Adam(0.8)
    for one, targets in zip(x, t, strict=True):
        net.learn_one(one, targets, lr=0.05, optimizer=mine)
        other.fit(one[None], targets[None], lr=0.05, optimizer=theirs)
    assert mine.step_count == theirs.step_count == len(x)
    assert state(net) == state(other)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ([5, 9, 4], {"loss": "cross_entropy"}),
        ([3, 20], {"loss": "cross_entropy"}),
        ([64, 128, 10], {"loss": "cross_entropy", "activation": "relu"}),
        ([64, 128, 3], {}),
        ([3, *[4] * 9, 1], {"loss": "squared_error"}),
    ],
    ids=str,
)
def test_no_detour_for_any_network(sizes, options, target, dtype, rng):
    net = siglin.Network(sizes, dtype=dtype, seed=3, **options)
    other = siglin.Network(sizes, dtype=dtype, seed=3, **options)
    for _ in range(5):
        x = rng.normal(size=sizes[0]).astype(dtype)
        t = np.eye(sizes[-1], dtype=dtype)[rng.integers(sizes[-1])]
        targets = [t]
        if "loss" in options:
            targets.append(float(t.argmax()) if len(t) > 1 else float(t[0]))
        for one in targets:
            loss = net._learn_now(net._parameters, x, one, 0.05)
            assert other.fit(x[None], t[None], lr=0.05).loss == [loss]
            assert state(net) == state(other)


def test_its_options_can_be_seen_and_a_misspelt_one_is_named():
    options = inspect.signature(make("smallest").learn_one).parameters
    assert [*options] == [
        *("x", "t", "lr", "optimizer", "sample_weight", "l1", "l2", "dropout"),
        "clip_norm",
    ]
    assert options["optimizer"].default == "gd"
    with pytest.raises(TypeError, match=r"learn_one\(\) got an unexpected .*'l3'"):
        make("smallest").learn_one(X, 1, lr=0.1, l3=0.1)


def test_a_weight_multiplies_the_gradient(dtype, rng):
    for weight in (0.25, 2.0, 3.0):
        net, other = make("smallest", dtype), make("smallest", dtype)
        x, t = make_rows(net, rng, 1)
        loss = net.learn_one(x[0], t[0], lr=0.1, sample_weight=weight)
        want = other.learn_one(x[0], t[0], lr=0.1 * weight)
        rtol = 1e-5 if dtype == np.float32 else 1e-13
        assert loss == pytest.approx(want, rel=rtol)
        np.testing.assert_allclose(net.params, other.params, rtol=rtol, atol=rtol)
    before = state(net)
    want = net.loss(x, t)
    assert net.learn_one(x[0], t[0], sample_weight=0.0) == pytest.approx(want)
    assert state(net) == before


def test_a_weighted_row_pays_its_penalty_once(rng):
    net, other = make("smallest"), make("smallest")
    x, t = make_rows(net, rng, 1)
    options = {"lr": 0.1, "l1": 0.2, "l2": 0.3}
    got = net.learn_one(x[0], t[0], sample_weight=2.0, **options)
    want = other.fit(x, t, **options).loss[0]
    assert got == pytest.approx(want, rel=1e-12)


def test_the_memory_of_a_name(rng):
    """It begins anew for another name and a reset; copies have it, fits leave it."""
    x, t = make_rows(make("smallest"), rng, 12)

    def learn(net, rows, name="adam"):
        for i in rows:
            net.learn_one(x[i], t[i], lr=0.05, optimizer=name)

    def by_fits(net, rows, optimizer):
        for i in rows:
            net.fit(x[i : i + 1], t[i : i + 1], lr=0.05, optimizer=optimizer)

    net, other = make("smallest"), make("smallest")
    learn(net, range(3))
    by_fits(other, range(3), adam := siglin.Adam())
    net.fit(x, t, lr=0.01, optimizer="adam", epochs=2)  # does not touch it
    other.fit(x, t, lr=0.01, optimizer="adam", epochs=2)
    copies = [copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for one in [net, *copies]:
        learn(one, range(3, 6))
    by_fits(other, range(3, 6), adam)
    assert all(state(one) == state(other) for one in [net, *copies])
    net.learn_many(x, t, lr=0.05, optimizer="adam")  # one memory for all of them
    other.fit(x, t, lr=0.05, optimizer=adam)
    assert state(net) == state(other)
    learn(net, range(2), "nesterov")
    by_fits(other, range(2), siglin.Nesterov())
    learn(net, range(2))
    by_fits(other, range(2), siglin.Adam())
    net.reset_optimizer()
    learn(net, range(2))
    by_fits(other, range(2), siglin.Adam())
    assert state(net) == state(other)
    assert net.astype("float32").learn_one([1, 2], 1, optimizer="adam") > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": "sgd"}, ValueError, "optimizer must be one of"),
        ({"optimizer": 3}, TypeError, "optimizer must be one of"),
        ({"sample_weight": -1.0}, ValueError, "sample_weight"),
        ({"sample_weight": np.nan}, ValueError, "sample_weight"),
        ({"l1": -1.0}, ValueError, "l1"),
        ({"l2": np.inf}, ValueError, "l2"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm"),
        ({"lr": 0.0, "optimizer": "adam"}, ValueError, "lr"),
    ],
)
def test_bad_options(options, error, message, rng):
    net = make("smallest")
    x, t = make_rows(net, rng, 1)
    net.learn_one(x[0], t[0], optimizer="momentum")
    before = state(net)
    with pytest.raises(error, match=f"^learn_one: {message}"):
        net.learn_one(x[0], t[0], **options)
    assert state(net) == before
    assert net._online["momentum"].step_count == 1


def test_loss_is_that_before_the_step(rng):
    net = make("smallest")
    x, t = make_rows(net, rng)
    before = net.loss(x[:1], t[:1])
    assert net.learn_one(x[0], t[0]) == pytest.approx(before, rel=1e-12)
    assert net.loss(x[:1], t[:1]) < before


@pytest.mark.parametrize("name", ["many outputs", "classes", "smallest", "large"])
def test_layouts_of_x_and_t(name, dtype, rng):
    net = make(name, dtype)
    x, t = make_rows(net, rng, 1)
    once = make(name, dtype)
    once.learn_one(x[0], t[0])
    rows = [x[0].tolist(), tuple(x[0].tolist()), *layouts(x).values()]
    rows += layouts(x[0]).values()
    for row in rows:
        same = make(name, dtype)
        same.learn_one(row, t[0])
        assert_same_bits(same.params, once.params)
    if name == "classes":
        return
    for targets in [t[0].tolist(), *layouts(t).values(), *layouts(t[0]).values()]:
        same = make(name, dtype)
        same.learn_one(x[0], targets)
        assert_same_bits(same.params, once.params)


@pytest.mark.parametrize(
    "number", [1, 1.0, True, np.int64(1), np.uint8(1), np.bool_(True), np.array(1), [1]]
)
@pytest.mark.parametrize("name", ["smallest", "classes"])
def test_numbers_as_targets(name, number, dtype, rng):
    net, same = make(name, dtype), make(name, dtype)
    x, _ = make_rows(net, rng, 1)
    n_out = net.layers[-1].n_out
    targets = np.ones(1, dtype) if n_out == 1 else np.eye(n_out, dtype=dtype)[1]
    assert net.learn_one(x[0], number) == same.learn_one(x[0], targets)
    assert_same_bits(net.params, same.params)
    own = make(name, dtype)
    own.learn_one(x[0], np.dtype(dtype).type(1))
    assert_same_bits(own.params, same.params)


def test_a_distribution_over_classes(rng):
    net, same = make("classes"), make("classes")
    x, _ = make_rows(net, rng, 1)
    t = np.array([0.1, 0.2, 0.3, 0.4])
    loss = net.learn_one(x[0], t, lr=0.3)
    assert [loss] == same.fit(x, t[None], lr=0.3).loss
    assert_same_bits(net.params, same.params)


def test_subclasses_and_neurons(rng):
    neuron, same = siglin.Neuron(3), siglin.Neuron(3)
    x = rng.normal(size=3)
    neuron.learn_one(x, 1, lr=2.0)
    same.fit([x], [1], lr=2.0)
    assert_same_bits(neuron.theta, same.theta)
    assert neuron.learn_one(x, 1, lr=1) == same.learn_one(x, 1, lr=np.float32(1))


def test_the_next_call_sees_what_was_written(rng):
    net = make("smallest")
    net.params[...] = 0
    assert net.learn_one([1.0, 2.0], 1.0) == pytest.approx(np.log(2))
    x = np.array([1.0, 2.0])
    net.params[...] = 0
    assert net.learn_one(x, 1.0) == pytest.approx(np.log(2))
    copy = siglin.Network.__new__(siglin.Network)
    copy.__setstate__(net.__getstate__())
    assert net.learn_one(x, 1.0) == copy.learn_one(x, 1.0)
    assert_same_bits(net.params, copy.params)


# ---- what is refused -----------------------------------------------------------------

X = np.array([1.0, 2.0])


@pytest.mark.parametrize("quick", [True, False], ids=["array", "list"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), 1.0), siglin.ShapeError, r"x must be one row, of shape \(2,\)"),
        ((np.ones((2, 2)), 1.0), siglin.ShapeError, "x must be one row"),
        ((np.ones((2, 1)), 1.0), siglin.ShapeError, "x must be one row"),
        ((np.array(1.0), 1.0), siglin.ShapeError, "x must be one row"),
        ((X, np.ones(2)), siglin.ShapeError, "t must have shape"),
        ((X, np.ones((2, 1))), siglin.ShapeError, "t must have shape"),
        ((X, np.ones((1, 1, 1))), siglin.ShapeError, "t must have shape"),
        ((np.array([1.0, np.nan]), 1.0), ValueError, "x contains NaN or infinity"),
        ((np.array([np.inf, 1.0]), 1.0), ValueError, "x contains NaN or infinity"),
        ((X, np.nan), ValueError, "t contains NaN or infinity"),
        ((X, 1.5), ValueError, r"t contains something outside \[0, 1\]"),
        ((X, np.array([-0.5])), ValueError, r"t contains something outside \[0, 1\]"),
        ((X, 2), ValueError, r"t contains something outside \[0, 1\]"),
        ((X, 10**400), (siglin.DTypeError, ValueError), "t must be|too large"),
        ((None, 1.0), TypeError, "x must be an array"),
        ((X, None), TypeError, "t must be an array"),
        ((X, "1"), siglin.DTypeError, "t must be float32 or float64"),
        ((X.astype(np.float32), 1.0), siglin.DTypeError, "x must be float64"),
        ((X, np.ones(1, np.float32)), siglin.DTypeError, "t must be float64"),
        ((X.astype(complex), 1.0), siglin.DTypeError, "x must be float32 or float64"),
    ],
)
def test_bad_rows(arguments, error, message, quick):
    net = make("smallest")
    before = state(net)
    x, t = arguments
    if not quick and isinstance(x, np.ndarray) and x.dtype == np.float64:
        x = x.tolist()
    with pytest.raises(error, match=f"learn_one: .*{message}"):
        net.learn_one(x, t)
    assert state(net) == before


@pytest.mark.parametrize(
    ("lr", "error", "message"),
    [
        (0.0, ValueError, "lr must be > 0"),
        (0, ValueError, "lr must be > 0"),
        (-1.0, ValueError, "lr must be > 0"),
        (np.nan, ValueError, "lr must be finite"),
        (np.inf, ValueError, "lr must be finite"),
        ("0.1", TypeError, "lr must be a real number"),
        (True, TypeError, "lr must be a real number"),
        ([0.1], TypeError, "lr must be a real number"),
    ],
)
@pytest.mark.parametrize("x", [X, X.tolist()], ids=["array", "list"])
def test_bad_lr(x, lr, error, message):
    net = make("smallest")
    before = state(net)
    with pytest.raises(error, match=f"learn_one: {message}"):
        net.learn_one(x, 1.0, lr=lr)
    assert state(net) == before


def test_lr_that_no_float32_holds():
    net = make("smallest", np.float32)
    with pytest.raises(ValueError, match="lr must be a finite float32"):
        net.learn_one(X.astype(np.float32), 1.0, lr=1e39)


@pytest.mark.parametrize("t", [4, -1, 0.5, np.int64(4), [4]])
def test_bad_classes(t, rng):
    net = make("classes")
    before = state(net)
    with pytest.raises(ValueError, match="learn_one: t must be class numbers"):
        net.learn_one(make_rows(net, rng)[0][0], t)
    assert state(net) == before


def test_a_distribution_that_is_none(rng):
    net = make("classes")
    x = make_rows(net, rng)[0][0]
    for t in ([0.5, 0.5, 0.5, 0.0], [1.0, 1.0, 0.0, 0.0], [2.0, -1.0, 0.0, 0.0]):
        for targets in (t, np.array(t)):
            with pytest.raises(ValueError, match=r"one-hot|outside \[0, 1\]"):
                net.learn_one(x, targets)


def test_a_step_function_is_refused():
    net = siglin.Network([2, 3, 1], activation="step")
    with pytest.raises(ValueError, match="step"):
        net.learn_one(X, 1.0)


def test_row_that_shares_memory_with_the_parameters():
    net = siglin.Network([2, 1], seed=1)
    before = state(net)
    for x, t in ((net.params[:2], 0.5), (X, net.params[2:])):
        with pytest.raises(ValueError, match="overlap"):
            net.learn_one(x, t)
    assert state(net) == before


def test_parameters_that_are_read_only():
    net = make("smallest")
    net.params.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        net.learn_one(X, 1.0)


@pytest.mark.parametrize("sizes", [[2, 3, 1], [7, 33, 12], [70, 80, 2]])
def test_divergence_keeps_the_parameters(sizes, dtype, rng):
    net = siglin.Network(sizes, loss="squared_error", dtype=dtype, seed=1)
    x, t = make_rows(net, rng, 1)
    before = state(net)
    largest = float(np.finfo(dtype).max)
    for lr, target in ((largest, 1e3), (1.0, largest)):
        with pytest.raises(siglin.DivergenceError, match=r"learn_one: .* smaller lr"):
            net.learn_one(x[0], np.full_like(t[0], target), lr=lr)
        assert state(net) == before
    net.learn_one(x[0], t[0])  # not left busy


# ---- one at a time -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smallest", "large"])
def test_busy_while_a_fit_runs(name, rng):
    net = make(name)
    x, t = make_rows(net, rng)
    with pytest.raises(RuntimeError, match="busy"):
        net.fit(x, t, callback=lambda _: net.learn_one(x[0], t[0]))
    errors = []

    def learn():
        try:
            net.learn_one(x[0], t[0])
        except RuntimeError as error:
            errors.append(str(error))

    def from_another_thread(_):
        thread = threading.Thread(target=learn)
        thread.start()
        thread.join()

    net.fit(x, t, callback=from_another_thread)
    assert errors == ["learn_one: the network is busy with another fit"]
    net.learn_one(x[0], t[0])


def test_predictions_beside_it_are_of_whole_steps(rng):
    """All weights are equal after each step, so a mix of two shows."""
    net = siglin.Network([64, 1], bias=False, init="zeros", loss="squared_error")
    x, stop, mixed = np.ones(64), threading.Event(), []
    rows = np.eye(64).repeat(40, axis=0)  # enough to give the lock back

    def read():
        while not stop.is_set():
            if len(set(net.predict(rows).ravel().tolist())) != 1:
                mixed.append(True)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(300):
        net.learn_one(x, float(i), lr=1e-3)
    stop.set()
    for reader in readers:
        reader.join()
    assert not mixed


# ---- an optimiser's name -------------------------------------------------------------


def test_a_weight_that_the_dtype_rounds_to_0_makes_no_step(dtype):
    net = make("smallest", dtype)
    before = state(net)
    tiny = (
        np.nextafter(dtype.type(0), dtype.type(1)) / 4.0
        if dtype == np.float64
        else 1e-60
    )
    want = net.loss(X[None].astype(dtype), [1])
    loss = net.learn_one(
        X.astype(dtype), 1, lr=0.1, optimizer="adam", sample_weight=float(tiny)
    )
    assert loss == pytest.approx(want)
    assert state(net) == before


def test_the_loss_of_a_light_row_is_its_own(dtype):
    net = make("smallest", dtype)
    other = make("smallest", dtype)
    want = other.learn_one(X.astype(dtype), 1, lr=0.1, l2=1.0)
    got = net.learn_one(X.astype(dtype), 1, lr=0.1, l2=1.0, sample_weight=1e-14)
    assert got == pytest.approx(want, rel=1e-6 if dtype == np.float32 else 1e-13)


def test_a_weight_that_no_float32_holds():
    with pytest.raises(
        ValueError, match=r"learn_one: sample_weight 1e\+60 is too large"
    ):
        make("smallest", np.dtype(np.float32)).learn_one(
            X, 1, lr=0.1, sample_weight=1e60
        )


@pytest.mark.parametrize("door", ["learn_one", "learn_many", "update"])
def test_threads_take_turns_with_one_memory(door):
    net = siglin.Network([40, 30, 10], seed=0)
    x, t = np.ones((8, 40)), np.eye(10)[:8]
    net.loss_and_grads(x, t)
    calls = {
        "learn_one": lambda: net.learn_one(x[0], t[0], optimizer="adam"),
        "learn_many": lambda: net.learn_many(x, t, optimizer="adam"),
        "update": lambda: net.update(optimizer="adam"),
    }
    errors = []

    def work():
        try:
            for _ in range(40):
                calls[door]()
        except Exception as error:  # noqa: BLE001 - to be shown
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert net._online["adam"].step_count == 160


def test_a_refused_step_keeps_the_memory_of_the_other_name():
    net = make("smallest")
    net.learn_one(X, 1, optimizer="adam")

    def refused(_):
        with pytest.raises(RuntimeError, match="busy"):
            net.learn_one(X, 1, optimizer="momentum")

    net.fit([X], [1], callback=refused)
    assert [*net._online] == ["adam"]
    assert net._online["adam"].step_count == 1
