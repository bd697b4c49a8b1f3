"""The reference's fit: optimisers, batches, stop rules; and the perceptron rule."""

import copy
import time
from typing import Any

import numpy as np
import pytest

from helpers import (
    assert_same_bits,
)
from siglin import reference
from siglin.errors import DivergenceError
from siglin.reference import random


def one_weight(w: float) -> reference.Network:
    """Return a net whose loss on the row x = 1, t = 0 is w^2 / 2, with gradient w."""
    net = reference.Network([1, 1], loss="squared_error", bias=False)
    net.params[...] = w
    return net


MU = 0.9
LR = 0.05
# (w, v) after a step, as a matrix times (w, v) before it, where the gradient is w.
LINEAR_STEPS: dict[str, Any] = {
    "gd": [[1 - LR, 0], [0, 0]],
    "momentum": [[1 - LR, -LR * MU], [1, MU]],
    "nesterov": [[1 - LR * (1 + MU), -LR * MU**2], [1, MU]],
}


@pytest.mark.parametrize("optimizer", LINEAR_STEPS)
def test_descent_of_a_parabola_is_a_matrix_power(optimizer: str) -> None:
    net = one_weight(2.0)
    history = net.fit([[1]], [0], lr=LR, epochs=30, optimizer=optimizer)
    powers = [np.linalg.matrix_power(LINEAR_STEPS[optimizer], n) for n in range(31)]
    weights = np.array([(power @ [2.0, 0.0])[0] for power in powers])
    np.testing.assert_allclose(net.params, weights[-1:], rtol=1e-13)
    np.testing.assert_allclose(history.loss, weights[:-1] ** 2 / 2, rtol=1e-12)


@pytest.mark.parametrize("given", [(), (0.8, 0.95, 1e-3)])
def test_adam_is_weighted_sums_of_the_gradients(
    given: tuple[float, ...], rng: np.random.Generator
) -> None:
    gradients = rng.normal(size=(6, 3))
    adam = reference.Adam(*given)
    beta1, beta2, eps = given or (0.9, 0.999, 1e-8)
    w = np.zeros(3)
    want = np.zeros(3)
    for t in range(1, 7):
        adam.step(w, gradients[t - 1], 0.1)
        age = np.arange(t)[::-1, None]
        mean = (beta1**age * gradients[:t]).sum(axis=0) / (beta1**age).sum()
        square = (beta2**age * gradients[:t] ** 2).sum(axis=0) / (beta2**age).sum()
        want -= 0.1 * mean / (np.sqrt(square) + eps)
        np.testing.assert_allclose(w, want, rtol=1e-12)


def test_adamw_is_adam_on_parameters_that_fade(rng: np.random.Generator) -> None:
    """With w = c u, where c fades by 1 - lr * decay a step, u moves as Adam says over c."""
    gradients = rng.normal(size=(6, 3))
    adam, adamw = reference.Adam(), reference.AdamW(weight_decay=0.3)
    start = rng.normal(size=3)
    w, want = start.copy(), start.copy()
    for g in gradients:
        step = np.zeros(3)
        adam.step(step, g, 0.1)
        want = (1 - 0.1 * 0.3) * want + step
        adamw.step(w, g, 0.1)
        np.testing.assert_allclose(w, want, rtol=1e-14)
    assert np.abs(want - start).max() > 0.1


def test_adamw_without_decay_is_adam(rng: np.random.Generator) -> None:
    x, t = rng.normal(size=(6, 2)), rng.integers(0, 2, 6)
    plain, decayed, free = (reference.Network([2, 3, 1], seed=3) for _ in range(3))
    plain.fit(x, t, epochs=5, optimizer="adam")
    free.fit(x, t, epochs=5, optimizer=reference.AdamW(weight_decay=0.0))
    decayed.fit(x, t, epochs=5, optimizer="adamw")
    assert_same_bits(free.params, plain.params)
    assert 1e-4 < np.abs(decayed.params - plain.params).max() < 0.1


def test_weight_decay_of_adamw_is_a_hundredth() -> None:
    """Of a gradient of 0, Adam makes no step: what is left is the decay."""
    w = np.array([1.0])
    reference.AdamW().step(w, np.zeros(1), 0.5)
    np.testing.assert_array_equal(w, [1 - 0.5 * 0.01])


def test_fit_by_default_is_one_epoch_of_plain_descent() -> None:
    net = one_weight(1.0)
    started = time.perf_counter()
    history = net.fit([[1]], [0])
    assert 0 <= history.seconds <= time.perf_counter() - started
    assert (history.epochs, history.steps, history.stop_reason) == (1, 1, "epochs")
    np.testing.assert_array_equal(net.params, [0.9])


def test_an_optimizer_object_remembers_a_name_does_not() -> None:
    whole, parts, forgetful = one_weight(1.0), one_weight(1.0), one_weight(1.0)
    whole.fit([[1]], [0], epochs=4, optimizer="momentum")
    momentum = reference.Momentum()
    for _ in range(2):
        parts.fit([[1]], [0], epochs=2, optimizer=momentum)
        forgetful.fit([[1]], [0], epochs=2, optimizer="momentum")
    assert_same_bits(parts.params, whole.params)
    assert forgetful.params[0] != whole.params[0]


@pytest.mark.parametrize("shuffle", [True, False])
def test_minibatches_are_cut_from_a_permutation(
    shuffle: bool, dtype: Any, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(5, 3)).astype(dtype)
    t = rng.integers(0, 2, (5, 2)).astype(dtype)
    net = reference.Network([3, 5, 2], dtype=dtype)
    by_hand = copy.deepcopy(net)
    history = net.fit(x, t, epochs=3, batch_size=2, shuffle=shuffle, seed=6)
    generator = random.Generator(6)
    for epoch in range(3):
        order = generator.permutation(5) if shuffle else np.arange(5)
        batch_losses = []
        for rows in (order[0:2], order[2:4], order[4:5]):
            loss, grads = by_hand.loss_and_grads(x[rows], t[rows])
            by_hand.params[...] -= 0.1 * grads
            batch_losses.append(loss)
        mean = np.average(batch_losses, weights=[2, 2, 1])  # over the rows
        assert history.loss[epoch] == pytest.approx(mean, rel=1e-15)
    assert_same_bits(net.params, by_hand.params)
    assert (history.epochs, history.steps, history.stop_reason) == (3, 9, "epochs")


def test_shuffling_goes_on_with_the_networks_generator(
    rng: np.random.Generator,
) -> None:
    x, t = rng.normal(size=(6, 2)), rng.integers(0, 2, 6)
    once, twice = (reference.Network([2, 3, 1], seed=12) for _ in range(2))
    once.fit(x, t, epochs=4, batch_size=2)
    for _ in range(2):
        twice.fit(x, t, epochs=2, batch_size=2)
    assert_same_bits(once.params, twice.params)
    state = once.generator.state
    once.fit(x, t, batch_size=6)
    once.fit(x, t, batch_size=2, seed=1)
    assert once.generator.state == state  # one batch and a seed of its own draw nothing


def test_tol_stops_after_the_first_small_enough_step() -> None:
    net = one_weight(1.0)
    history = net.fit([[1]], [0], lr=0.5, epochs=100, tol=2.0**-5)
    assert (history.steps, history.epochs, history.stop_reason) == (5, 5, "tol")
    np.testing.assert_array_equal(net.params, [2.0**-5])
    still = one_weight(0.0).fit([[1]], [0], epochs=3)
    assert (still.steps, still.stop_reason) == (3, "epochs")


def test_callback_sees_each_epoch_and_can_stop() -> None:
    net = one_weight(1.0)
    seen: list[tuple[int, int, float, float]] = []

    def callback(state: reference.TrainingState) -> bool:
        seen.append((state.epoch, state.step, state.loss, float(state.params[0])))
        assert not state.params.flags.writeable
        return state.epoch == 2

    rows = np.ones((4, 1))
    history = net.fit(
        rows, np.zeros(4), lr=0.5, epochs=9, batch_size=2, callback=callback
    )
    assert seen == [(1, 2, (0.5 + 0.125) / 2, 0.25), (2, 4, 0.625 / 32, 0.0625)]
    assert history.loss == [loss for _, _, loss, _ in seen]
    assert (history.epochs, history.stop_reason) == (2, "callback")


@pytest.mark.parametrize(
    ("start", "lr"),
    [
        (1e200, 0.1),  # the loss overflows, the parameters would not
        (1e150, 1e200),  # the parameters overflow, the loss does not
    ],
)
def test_divergence_keeps_the_last_finite_parameters(start: float, lr: float) -> None:
    net = one_weight(start)
    with pytest.raises(DivergenceError, match="epoch 1, step 1"):
        net.fit([[1]], [0], lr=lr, epochs=9)
    np.testing.assert_array_equal(net.params, [start])


def test_given_masks_are_those_of_the_steps(rng: np.random.Generator) -> None:
    x, t = rng.normal(size=(5, 3)), rng.integers(0, 2, 5)
    drawn, given = (reference.Network([3, 4, 2, 1], seed=3) for _ in range(2))
    seeds = random.Generator(8)
    masks = []
    for _ in range(3):
        masks += [given.dropout_masks(n, 0.4, seeds.next_word()) for n in (2, 2, 1)]
    order: dict[str, Any] = {"epochs": 3, "batch_size": 2, "shuffle": False}
    first = drawn.fit(x, t, seed=8, dropout=0.4, **order)
    second = given.fit(x, t, dropout=masks, **order)
    assert first.loss == second.loss
    assert_same_bits(drawn.params, given.params)
    assert any((mask == 0).any() for layers in masks for mask in layers)


def test_a_constant_learns_the_quantile_of_its_targets() -> None:
    t = np.arange(101.0)
    net = reference.Network([1, 1], loss=reference.Quantile(0.9), init="zeros")
    net.fit(np.zeros((101, 1)), t, lr=lambda n: 10 / (1 + n) ** 0.5, epochs=2000)
    assert net.predict([[0.0]])[0, 0] == pytest.approx(90, abs=0.1)


def test_a_huber_fit_is_hardly_moved_by_one_far_target() -> None:
    """Two targets of 0 and one of 100 pull with a force of at most delta each."""
    answers = {}
    for loss in (reference.Huber(0.5), "squared_error"):
        net = reference.Network([1, 1], loss=loss, init="zeros")
        net.fit(np.zeros((3, 1)), [0, 0, 100], lr=0.5, epochs=500)
        answers[net.loss_name] = net.predict([[0.0]])[0, 0]
    assert answers == pytest.approx({"huber": 0.25, "squared_error": 100 / 3})


def test_a_poisson_fit_of_a_constant_is_the_mean() -> None:
    net = reference.Network([1, 1], loss="poisson", init="zeros")
    net.fit(np.zeros((4, 1)), [0, 1, 1, 8], lr=0.1, epochs=500)
    assert net.predict([[0.0]])[0, 0] == pytest.approx(2.5)


def test_exp_is_for_the_output_of_poisson_alone() -> None:
    with pytest.raises(ValueError, match="needs the output activation 'exp'"):
        reference.Network([2, 1], loss="poisson", output_activation="identity")
    with pytest.raises(ValueError, match="exp goes with the loss 'poisson' only"):
        reference.Network([2, 1], loss="huber", output_activation="exp")
    with pytest.raises(ValueError, match="exp is for the output layer only"):
        reference.Network([2, 2, 1], activation="exp", loss="poisson")


def test_neuron_gradient_is_the_mean_of_prediction_errors(
    rng: np.random.Generator,
) -> None:
    x, t = rng.normal(size=(7, 3)), rng.integers(0, 2, 7).astype(float)
    neuron = reference.Neuron(3)
    np.testing.assert_array_equal(neuron.theta, np.zeros(3))
    neuron.theta = [1.0, -2.0, 0.5]
    p = 1 / (1 + np.exp(-x @ neuron.theta))
    want = ((p - t)[:, None] * x).mean(axis=0)
    np.testing.assert_allclose(neuron.loss_and_grads(x, t)[1], want, rtol=1e-12)


def test_perceptron_rule_by_hand() -> None:
    """Row 1 is missed, (0, 0) -> (1, 2); so is row 2, -> (2, 1), which is right."""
    perceptron = reference.Perceptron(2)
    history = perceptron.fit([[1, 2], [-1, 1]], [1, 0], epochs=10)
    np.testing.assert_array_equal(perceptron.theta, [2, 1])
    perceptron.theta = [-2, 0]
    np.testing.assert_array_equal(perceptron.predict([[1, 2], [-1, 1]]), [[0], [1]])
    assert history.loss == [2, 0]
    assert (history.epochs, history.steps) == (2, 4)
    assert history.stop_reason == "no_mistakes"
    assert 0 <= history.seconds < 60


def test_perceptron_bias_learns_and_xor_never_ends(dtype: Any) -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype)
    perceptron = reference.Perceptron(2, bias=True, dtype=dtype)
    assert perceptron.fit(x, [1, 1, 1, 0], epochs=50).stop_reason == "no_mistakes"
    np.testing.assert_array_equal(perceptron.predict(x).ravel(), [1, 1, 1, 0])
    history = reference.Perceptron(2, bias=True).fit(
        x.astype(float), [0, 1, 1, 0], epochs=50
    )
    assert (history.epochs, history.stop_reason) == (50, "epochs")
    assert min(history.loss) > 0
