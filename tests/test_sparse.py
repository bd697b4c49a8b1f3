"""Sparse rows give what the same rows give as a matrix, within rounding."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import siglin
from siglin import _core
from siglin._data import sparse
from siglin.estimators import NeuronClassifier

ROWS, COLS = 60, 40
RTOL = {np.dtype("float32"): 2e-4, np.dtype("float64"): 1e-12}


@pytest.fixture(autouse=True)
def always_sparse(monkeypatch):
    """Small matrices, which would be dense, stay sparse."""
    monkeypatch.setattr(sparse, "DENSE_ELEMENTS", 0)


@pytest.fixture
def rows(rng, dtype):
    x = rng.normal(size=(ROWS, COLS)).astype(dtype) * (rng.random((ROWS, COLS)) < 0.1)
    x[3] = 0  # a row without values
    return scipy.sparse.csr_array(x)


NETWORKS = {
    "neuron": ([COLS, 1], {}),
    "linear": ([COLS, 2], {"loss": "squared_error", "output_activation": "identity"}),
    "narrow": ([COLS, 5, 1], {}),
    "deep": (
        [COLS, 24, 9, 4],
        {
            "activation": "tanh",
            "loss": "cross_entropy",
            "output_activation": "softmax",
        },
    ),
    "poisson": (
        [COLS, 6, 2],
        {"activation": "relu", "loss": "poisson", "output_activation": "exp"},
    ),
}


def make(kind, dtype, **options):
    sizes, given = NETWORKS[kind]
    return siglin.Network(sizes, dtype=dtype, seed=2, **given, **options)


def targets(kind, dtype, rows=ROWS):
    rng = np.random.default_rng(8)
    net = make(kind, dtype)
    n_out = net.layers[-1].n_out
    if kind == "deep":
        return rng.integers(0, n_out, rows)
    return rng.integers(0, 2, (rows, n_out)).astype(dtype)


def assert_close(got, want, dtype):
    scale = np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=RTOL[dtype] * scale)


FITS = {
    "plain": {},
    "one step": {"epochs": 1},
    "batches": {"batch_size": 16},
    "single rows": {"batch_size": 1},
    "adam": {"optimizer": "adam", "batch_size": 16, "lr": 0.01},
    "momentum": {"optimizer": "momentum", "batch_size": 16, "lr": 0.01},
    "l1 and l2": {"l1": 0.01, "l2": 0.02, "batch_size": 16},
    "dropout": {"dropout": 0.3, "batch_size": 16},
    "clip_norm": {"clip_norm": 0.1, "batch_size": 16},
    "weights": {"sample_weight": np.linspace(0, 3, ROWS).tolist(), "batch_size": 16},
    "split": {"validation_split": 0.25, "patience": 3},
    "in order": {"shuffle": False, "batch_size": 7},
    "schedule": {"lr": lambda epoch: 0.2 / (1 + epoch), "batch_size": 16},
    "tol": {"tol": 1e-3},
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.usefixtures("target")
def test_fit(kind, name, rows, dtype):
    settings = {"lr": 0.1, "epochs": 6, "seed": 4} | FITS[name]
    t = targets(kind, dtype)
    dense, thin = make(kind, dtype), make(kind, dtype)
    want = dense.fit(rows.toarray(), t, **settings)
    got = thin.fit(rows, t, **settings)
    assert_close(thin.params, dense.params, dtype)
    assert_close(np.array(got.loss), np.array(want.loss), dtype)
    assert (got.epochs, got.steps) == (want.epochs, want.steps)
    if "validation_split" in settings:
        assert got.best_epoch == want.best_epoch
        assert_close(
            np.array(got.validation_loss), np.array(want.validation_loss), dtype
        )


@pytest.mark.parametrize("kind", NETWORKS)
def test_predictions_losses_and_gradients(kind, rows, dtype):
    net = make(kind, dtype)
    t = targets(kind, dtype)
    full = rows.toarray()
    assert_close(net.predict(rows), net.predict(full), dtype)
    out = np.empty((ROWS, net.layers[-1].n_out), dtype)
    assert net.predict(rows, out=out) is out
    assert_close(out, net.predict(full), dtype)
    assert net.loss(rows, t) == pytest.approx(net.loss(full, t), rel=RTOL[dtype])
    loss, grads = net.loss_and_grads(full, t)
    want = grads.copy()
    assert net.loss_and_grads(rows, t)[0] == pytest.approx(loss, rel=RTOL[dtype])
    assert_close(net.grads, want, dtype)


@pytest.mark.parametrize("kind", NETWORKS)
def test_validation_data_and_learn_many(kind, rows, dtype):
    t = targets(kind, dtype)
    nets = [make(kind, dtype) for _ in range(2)]
    losses = []
    for net, x in zip(nets, (rows, rows.toarray()), strict=True):
        history = net.fit(
            x[:40], t[:40], lr=0.1, epochs=3, validation_data=(x[40:], t[40:])
        )
        losses.append(np.array(history.validation_loss))
        net.learn_many(x[:20], t[:20], lr=0.1, optimizer="adam")
    assert_close(losses[0], losses[1], dtype)
    assert_close(nets[0].params, nets[1].params, dtype)


def test_fit_many_has_the_bits_of_fit(rows, dtype):
    t = targets("narrow", dtype)
    parts = [None, np.arange(0, ROWS, 2), np.arange(ROWS)[::-1]]
    nets = [make("narrow", dtype) for _ in parts]
    siglin.fit_many(
        nets, rows, t, rows=parts, lr=0.3, epochs=4, batch_size=16, seed=[1, 2, 3]
    )
    for net, part, seed in zip(nets, parts, [1, 2, 3], strict=True):
        alone = make("narrow", dtype)
        x, y = (rows, t) if part is None else (rows[part], t[part])
        alone.fit(x, y, lr=0.3, epochs=4, batch_size=16, seed=seed)
        assert alone.params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("kind", ["narrow", "wide"])
def test_the_same_bits_with_any_number_of_threads(kind, dtype):
    cols = 600 if kind == "narrow" else 30_000
    rng = np.random.default_rng(1)
    columns, starts = rng.integers(0, cols, 3000 * 20), np.arange(3001) * 20
    values = rng.normal(size=columns.size).astype(dtype)
    x = scipy.sparse.csr_array((values, columns, starts), shape=(3000, cols))
    t = np.arange(3000) % 2
    found = set()
    for threads in (1, 2, 3):
        net = siglin.Network([cols, 12, 1], dtype=dtype, seed=1)
        with siglin.num_threads(threads):
            net.fit(x, t, lr=0.1, epochs=2, batch_size=1500)
            found.add(net.params.tobytes() + net.predict(x).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize(
    "form", ["csr_array", "csr_matrix", "csc_array", "coo_matrix", "lil_array"]
)
def test_formats(form, rows, dtype):
    net = make("narrow", dtype)
    assert_close(
        net.predict(getattr(scipy.sparse, form)(rows)),
        net.predict(rows.toarray()),
        dtype,
    )


def test_columns_that_come_twice_and_in_any_order(dtype):
    data = np.array([1, 2, 3, 4], dtype)
    x = scipy.sparse.csr_array((data, [7, 2, 7, 0], [0, 3, 4]), shape=(2, COLS))
    net = make("narrow", dtype)
    assert_close(net.predict(x), net.predict(x.toarray()), dtype)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_wide_indices_and_numbers_of_other_types(kind, rows, dtype):
    net = make("narrow", dtype)
    want = net.predict(np.rint(rows.toarray() * 9).astype(dtype))
    other = (rows * 9).rint()
    other.indices, other.indptr = other.indices.astype(kind), other.indptr.astype(kind)
    assert_close(net.predict(other), want, dtype)
    assert_close(net.predict(other.astype(np.int16)), want, dtype)


def test_small_matrices_have_the_bits_of_dense_ones(rows, dtype, monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_ELEMENTS", ROWS * COLS)
    nets = [make("narrow", dtype) for _ in range(2)]
    for net, x in zip(nets, (rows, rows.toarray()), strict=True):
        net.fit(x, targets("narrow", dtype), lr=0.1, epochs=3)
    assert nets[0].params.tobytes() == nets[1].params.tobytes()


def test_what_cannot_be_taken(rows, dtype):
    net = make("narrow", dtype)
    t = targets("narrow", dtype)
    before = net.params.tobytes()
    other = np.float32 if dtype == np.float64 else np.float64
    with pytest.raises(siglin.DTypeError, match="fit: x must be float"):
        net.fit(rows.astype(other), t, lr=0.1)
    with pytest.raises(siglin.DTypeError, match="predict: x must be float"):
        net.predict(rows.astype(complex))
    with pytest.raises(siglin.ShapeError, match="fit: x must have 40 columns"):
        net.fit(rows[:, :-1], t, lr=0.1)
    with pytest.raises(siglin.ShapeError, match="t must have shape"):
        net.fit(rows, t[1:], lr=0.1)
    with pytest.raises(siglin.ShapeError, match="at least one is needed"):
        net.fit(rows[:0], t[:0], lr=0.1)
    wrong = rows.copy()
    wrong.data[5] = np.nan
    where = sparse.SparseRows(wrong).place_of(5)
    place = f"row {where[0]}, column {where[1]}"
    with pytest.raises(ValueError, match=f"x contains NaN or infinity at {place}"):
        net.fit(wrong, t, lr=0.1)
    with pytest.raises(TypeError, match=r"learn_one: x is a sparse .*toarray"):
        net.learn_one(rows[:1], 1, lr=0.1)
    assert net.params.tobytes() == before


def test_no_rows_have_no_predictions(rows, dtype):
    assert make("narrow", dtype).predict(rows[:0]).shape == (0, 1)


@pytest.mark.parametrize(
    ("values", "columns", "starts", "message"),
    [
        (3, [0, 1, 40], [0, 1, 3], "a column is out of range"),
        (3, [0, -1, 2], [0, 1, 3], "a column is out of range"),
        (3, [0, 2, 1], [0, 1, 3], "columns must rise within a row"),
        (3, [0, 2, 2], [0, 1, 3], "columns must rise within a row"),
        (3, [0, 1, 2], [0, 2, 1], "starts must not fall"),
        (3, [0, 1, 2], [0, 2, 4], "starts must lie within"),
        (3, [0, 1, 2], [-1, 2, 3], "starts must lie within"),
        (2, [0, 1, 2], [0, 1, 3], "must be those of CSR rows"),
        (3, [0, 1, 2], [], "must be those of CSR rows"),
    ],
)
def test_the_core_takes_no_broken_rows(values, columns, starts, message):
    with pytest.raises(ValueError, match=message):
        _core.CsrRows(
            np.ones(values),
            np.array(columns, np.int32),
            np.array(starts, np.int64),
            COLS,
        )


def test_divergence_keeps_the_parameters(rows, dtype):
    net = make("linear", dtype)
    t = targets("linear", dtype)
    largest = np.finfo(dtype).max
    with pytest.raises(siglin.DivergenceError):
        net.fit(rows, t, lr=float(largest) / 4, epochs=20)
    assert np.isfinite(net.params).all()


WIDE = """
import numpy as np, scipy.sparse, siglin
from siglin.estimators import MLPClassifier
rng = np.random.default_rng(0)
cols = 2**20  # as a matrix 3.3 GB
x = scipy.sparse.csr_array(
    (np.ones(400 * 50), rng.integers(0, cols, 400 * 50), np.arange(0, 20001, 50)),
    shape=(400, cols),
)
y = np.arange(400) % 2
net = siglin.Network([cols, 2, 1], seed=0)
net.fit(x, y, lr=0.5, epochs=4, batch_size=100)
net.predict(x)
MLPClassifier(2, max_iter=2, random_state=0).fit(x, y).predict(x)
with open("/proc/self/status") as status:  # not of the process that began this one
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.filterwarnings("ignore")
def test_rows_never_become_dense():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WIDE],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 1_000_000  # kB


def test_a_network_that_has_seen_sparse_rows_is_pickled(rows, dtype):
    net = make("narrow", dtype)
    net.fit(rows, targets("narrow", dtype), lr=0.1)
    again = pickle.loads(pickle.dumps(net))
    assert again.params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize(
    ("rows", "t", "lr"),
    [
        ([[0, 1, 0], [1e36, 0, 0]], [0, 1e-6], 1e4),
        ([[0, 1, 0], [1e36, 0, 0]], [0, 0], 1e4),
        ([[0, 1, 0], [1e34, 0, 0]], [0, 1], 1e2),
    ],
)
def test_steps_at_the_edge_of_overflow_are_those_of_dense_rows(rows, t, lr):
    found = []
    for make_rows in (np.array, scipy.sparse.csr_array):
        net = siglin.Network(
            [3, 1], loss="squared_error", dtype="float32", init="zeros", bias=False
        )
        x = make_rows(np.array(rows, np.float32))
        try:
            net.fit(x, np.float32(t), lr=lr, epochs=3, batch_size=1, shuffle=False)
            found.append("fit")
        except siglin.DivergenceError:
            found.append("diverged")
        assert np.isfinite(net.params).all()
        found.append(net.params.tolist())
    assert found[:2] == found[2:]


def test_indices_out_of_range_are_refused(dtype):
    x = scipy.sparse.csr_array((np.ones(1, dtype), [1], [0, 1]), shape=(1, COLS))
    x.indices = np.array([2**32 + 1])
    with pytest.raises(ValueError, match="column out of range"):
        make("narrow", dtype).predict(x)


def test_writing_into_the_matrix_meanwhile_harms_nobody(rows, dtype):
    net = make("narrow", dtype)

    def scribble(_):
        rows.indices[...] = 2**30
        rows.indptr[...] = 0

    history = net.fit(rows, targets("narrow", dtype), epochs=3, callback=scribble)
    assert history.epochs == 3


def test_neuron_classifier(rows, dtype):
    y = np.arange(ROWS) % 3
    thin = NeuronClassifier(max_iter=20).fit(rows, y)
    full = NeuronClassifier(max_iter=20).fit(rows.toarray(), y)
    assert_close(thin.coef_, full.coef_, dtype)
    assert_close(thin.predict_proba(rows), full.predict_proba(rows.toarray()), dtype)
