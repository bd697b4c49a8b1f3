"""Every number of the lecture, from the compiled library and from the reference.

`goldens.json` holds them: the worked example exactly rounded, the descent runs of 40
digits, the Iris run of a plain float64 loop. The tests go through its keys, so that a
number added there is a number tested here.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from helpers import Array, load_goldens
from siglin.lecture import load_iris

GOLDENS = load_goldens()
EXAMPLE = GOLDENS["worked_example"]
DESCENT = GOLDENS["single_sample_descent"]
IRIS = GOLDENS["iris_neuron"]
PLOTS = GOLDENS["activation_plots"]

X = np.array(EXAMPLE["x"])
W = np.array(EXAMPLE["W"])
V = np.array(EXAMPLE["V"])
TARGETS = {"target_0": 0.0, "target_1": 1.0}

# Either module has the same names; strings, because only a native test needs the core.
LIBRARIES = pytest.mark.parametrize("library", ["siglin", "siglin.reference"])


def network_of_the_example(library: str) -> Any:
    """Return the lecture's network, 2-3-1 without bias, with the weights W and V."""
    net = importlib.import_module(library).Network([2, 3, 1], bias=False)
    net.layers[0].w[...] = W
    net.layers[1].w[...] = V
    return net


def column(t: float) -> Array:
    """Return the target of the one row, (1, 1)."""
    return np.array([[t]])


@cache
def example_by_functions(library: str, case: str, form: str) -> dict[str, Any]:
    """Return the worked example by forward and backward, from dJ/dy back.

    The derivative is the stable one, from z, or the lecture's, h * (1 - h).
    """
    lib = importlib.import_module(library)
    t = TARGETS[case]
    h = lib.forward(X, W)
    y = lib.forward(h, V)
    dy = -t / y + (1 - t) / (1 - y)
    z1, z2 = (X @ W, h @ V) if form == "stable" else (None, None)
    output = lib.backward(h, V, y, dy, z=z2)
    hidden = lib.backward(X, W, h, output.dx, z=z1)
    return {
        "h": h,
        "y": y.item(),
        "J": -(t * np.log(y) + (1 - t) * np.log(1 - y)).item(),
        "dJ_dy": dy.item(),
        "dJ_dz2": output.db.item(),  # one row: the sum over the batch is dz itself
        "dV": output.dw,
        "dh": output.dx,
        "dW": hidden.dw,
        "dx": hidden.dx,
    }


@cache
def example_by_network(library: str, case: str) -> dict[str, Any]:
    """Return what a Network gives of the worked example, from the logits."""
    net = network_of_the_example(library)
    t = column(TARGETS[case])
    J, grads = net.loss_and_grads(X, t)
    dW, dV = grads[:6].reshape(2, 3).copy(), grads[6:].reshape(3, 1).copy()
    y = net.forward(X)
    dx = net.backward_from(-t / y + (1 - t) / (1 - y))
    return {"y": y.item(), "J": J, "dV": dV, "dW": dW, "dx": dx}


@cache
def example_by_layers(library: str, case: str) -> dict[str, Any]:
    """Return what two Dense layers on each other give of the worked example."""
    hidden, output = network_of_the_example(library).layers
    t = TARGETS[case]
    h = hidden.forward(X)
    y = output.forward(h)
    dh = output.backward(-t / y + (1 - t) / (1 - y))
    dx = hidden.backward(dh)
    return {
        "h": h,
        "y": y.item(),
        "dV": output.dw.copy(),
        "dh": dh,
        "dW": hidden.dw.copy(),
        "dx": dx,
    }


EXAMPLE_KEYS = pytest.mark.parametrize(
    ("case", "key"), [(case, key) for case in TARGETS for key in EXAMPLE[case]]
)


@LIBRARIES
@EXAMPLE_KEYS
def test_worked_example(library: str, case: str, key: str) -> None:
    got = example_by_functions(library, case, "stable")[key]
    np.testing.assert_allclose(got, EXAMPLE[case][key], rtol=1e-12)


@LIBRARIES
@EXAMPLE_KEYS
def test_worked_example_in_the_lectures_form(library: str, case: str, key: str) -> None:
    """Where h is almost 1, h * (1 - h) has lost five of sixteen digits."""
    got = example_by_functions(library, case, "lecture")[key]
    rtol = 1e-10 if key == "dW" else 1e-12
    np.testing.assert_allclose(got, EXAMPLE[case][key], rtol=rtol)


@LIBRARIES
@pytest.mark.parametrize("case", TARGETS)
@pytest.mark.parametrize("way", [example_by_network, example_by_layers])
def test_worked_example_by_objects(library: str, case: str, way: Any) -> None:
    for key, got in way(library, case).items():
        np.testing.assert_allclose(got, EXAMPLE[case][key], rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("case", TARGETS)
def test_worked_example_by_the_references_losses(case: str) -> None:
    losses = importlib.import_module("siglin.reference.losses")
    want = EXAMPLE[case]
    y, t = column(want["y"]), column(TARGETS[case])
    loss = losses.bce_of_output(y, t).item()
    gradient = losses.bce_of_output_gradient(y, t).item()
    np.testing.assert_allclose(loss, want["J"], rtol=1e-12)
    np.testing.assert_allclose(gradient, want["dJ_dy"], rtol=1e-12)


@cache
def descent_by_fit(library: str, case: str) -> dict[str, Any]:
    """Return the lecture's sanity run, made by one call of fit."""
    net = network_of_the_example(library)
    t = column(TARGETS[case])
    run = DESCENT[case]
    history = net.fit(X, t, lr=run["lr"], epochs=run["steps"])
    return {
        "steps": history.steps,
        "J_before_step": history.loss,
        "J_after": net.loss(X, t),
        "y_after": net.predict(X).item(),
        "W_after": net.layers[0].w,
        "V_after": net.layers[1].w,
    }


@cache
def descent_by_hand(library: str, case: str) -> dict[str, Any]:
    """Return the sanity run once more, as a loop of forward, backward and update."""
    net = network_of_the_example(library)
    t = column(TARGETS[case])
    run = DESCENT[case]
    J_before_step, y_before_step = [], []
    for _ in range(run["steps"]):
        y_before_step.append(net.forward(X).item())
        J_before_step.append(net.backward(t))
        net.update(run["lr"])
    return {
        "steps": len(J_before_step),
        "J_before_step": J_before_step,
        "y_before_step": y_before_step,
        "J_after": net.loss(X, t),
        "y_after": net.predict(X).item(),
        "W_after": net.layers[0].w,
        "V_after": net.layers[1].w,
    }


@LIBRARIES
@pytest.mark.parametrize("case", TARGETS)
def test_hundred_descent_steps_by_hand(library: str, case: str) -> None:
    got = descent_by_hand(library, case)
    assert {*got, "lr"} == set(DESCENT[case])  # lr is an input
    for key, value in got.items():
        np.testing.assert_allclose(value, DESCENT[case][key], rtol=1e-9, err_msg=key)


@LIBRARIES
@pytest.mark.parametrize("case", TARGETS)
def test_hundred_descent_steps_by_fit(library: str, case: str) -> None:
    for key, value in descent_by_fit(library, case).items():
        np.testing.assert_allclose(value, DESCENT[case][key], rtol=1e-9, err_msg=key)


def iris_data() -> tuple[Array, Array]:
    """Return sepal length, sepal width and ones; 0 for setosa and 1 for the rest."""
    flowers, species = load_iris()
    x = np.column_stack([flowers[:, :2], np.ones(len(flowers))])
    return x, (species != 0).astype(np.float64)


def iris_neuron(library: str, theta: Any) -> Any:
    """Return a neuron with the given weights."""
    neuron = importlib.import_module(library).Neuron(len(IRIS["columns"]))
    neuron.theta[...] = theta
    return neuron


@cache
def theta_after(library: str, updates: int) -> Array:
    """Return theta after so many updates; fit goes on from the next smaller golden."""
    marks = sorted(int(key) for key in IRIS["theta_after_updates"])
    before = max((mark for mark in marks if mark < updates), default=0)
    start = theta_after(library, before) if before else np.array(IRIS["start"], float)
    neuron = iris_neuron(library, start)
    history = neuron.fit(*iris_data(), lr=IRIS["lr"], epochs=updates - before)
    assert history.steps == updates - before
    theta: Array = neuron.theta.copy()
    return theta


@pytest.mark.parametrize(
    ("library", "updates"),
    [
        (library, updates)
        for library in ("siglin", "siglin.reference")
        for updates in sorted(map(int, IRIS["theta_after_updates"]))
        # More than 10,000 updates would take the reference seconds.
        if library == "siglin" or updates <= 10_000
    ],
)
def test_iris_theta_after_updates(library: str, updates: int) -> None:
    want = IRIS["theta_after_updates"][str(updates)]
    np.testing.assert_allclose(theta_after(library, updates), want, rtol=1e-9)


def test_iris_run_stops_after_the_lectures_number_of_updates() -> None:
    neuron = iris_neuron("siglin", IRIS["start"])
    x, t = iris_data()
    history = neuron.fit(x, t, lr=IRIS["lr"], epochs=1_000_000, tol=IRIS["threshold"])
    assert (history.steps, history.stop_reason) == (IRIS["updates"], "tol")
    np.testing.assert_allclose(neuron.theta, IRIS["theta"], rtol=1e-8)
    assert_the_iris_neuron_is_the_lectures(neuron)


def test_iris_reference_takes_its_last_update_at_the_lectures_theta() -> None:
    """At the golden theta one more step is below the threshold, and so the last."""
    neuron = iris_neuron("siglin.reference", IRIS["theta"])
    assert_the_iris_neuron_is_the_lectures(neuron)
    history = neuron.fit(*iris_data(), lr=IRIS["lr"], epochs=9, tol=IRIS["threshold"])
    assert (history.steps, history.stop_reason) == (1, "tol")


def assert_the_iris_neuron_is_the_lectures(neuron: Any) -> None:
    """Assert the loss, the predictions and the decision grid of a trained neuron."""
    x, t = iris_data()
    np.testing.assert_allclose(neuron.loss(x, t), IRIS["mean_bce"], rtol=1e-9)
    predicted = neuron.predict(x)[:, 0] >= 0.5
    assert np.count_nonzero(predicted == t) == IRIS["train_correct"]

    grid = IRIS["decision_grid"]
    lengths, widths = np.meshgrid(np.arange(*grid["x"]), np.arange(*grid["y"]))
    assert list(lengths.shape) == grid["shape"]
    ones = np.ones(lengths.size)
    points = np.column_stack([lengths.ravel(), widths.ravel(), ones])
    above = np.count_nonzero(neuron.predict(points) >= 0.5)
    assert above == grid["points_at_or_above_one_half"]


@LIBRARIES
def test_activation_plots(library: str) -> None:
    lib = importlib.import_module(library)
    z = np.linspace(-5, 5, 50)

    def plotted(activation: str) -> Array:
        """Return the curve as the output of one neuron of weight 1."""
        a: Array = lib.forward(z[:, None], np.ones((1, 1)), activation=activation)
        return a[:, 0]

    step = plotted("step")
    got = {
        "sigmoid_ends": lib.sigmoid(z)[[0, -1]],
        "sigmoid_sum": plotted("sigmoid").sum(),
        "tanh_ends": plotted("tanh")[[0, -1]],
        "relu_sum": plotted("relu").sum(),
        "step_zeros": np.count_nonzero(step == 0),
        "step_ones": np.count_nonzero(step == 1),
    }
    assert {*got, "z"} == set(PLOTS)  # z names the points
    for key, value in got.items():
        np.testing.assert_allclose(value, PLOTS[key], rtol=1e-14, err_msg=key)
