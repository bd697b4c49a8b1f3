"""The report's sections: each runs one part of the lecture, prints it and checks it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

import siglin
import siglin.reference

from . import goldens, iris_neuron, sanity_run, small_examples, worked_example
from .checks import Checks
from .tables import format_table


def heading(text: str) -> None:
    """Print a heading, with an empty line above it."""
    print(f"\n{text}\n{'-' * len(text)}")


def worked_example_section(checks: Checks) -> worked_example.Values:
    """Print the worked example for both targets; return the values for target 1."""
    results = {}
    for target, exact in goldens.WORKED_EXAMPLE.items():
        heading(f"The worked example, target {target}")
        plain = worked_example.work_through(siglin.reference, target)
        native = worked_example.work_through(siglin, target)
        for name, golden in exact.items():
            where = f"worked example, target {target}, {name}"
            rtol = goldens.WORKED_EXAMPLE_RTOL
            checks.close(f"{where}, reference", plain[name], golden, rtol=rtol)
            checks.close(f"{where}, native", native[name], golden, rtol=rtol)
        _worked_example_table(target, exact, plain, native)
        results[target] = native
    return results[1]


def _worked_example_table(
    target: int,
    exact: Mapping[str, npt.ArrayLike],
    plain: worked_example.Values,
    native: worked_example.Values,
) -> None:
    columns = [worked_example.by_row(values) for values in (exact, plain, native)]
    rows, notes = [], []
    for name in columns[0]:
        printed = worked_example.printed(name, target)
        if printed and name in worked_example.PRINTED_WRONG:
            printed += "*"
            why = worked_example.PRINTED_WRONG[name].format(columns[0][name])
            notes.append(f"* {name}: {why}")
        rows.append([name, printed, *(f"{column[name]:.12g}" for column in columns)])
    print(format_table(["", "printed", "exact", "reference", "native"], rows))
    print("\n".join(notes))


def sanity_run_section(checks: Checks) -> dict[int, sanity_run.Descent]:
    """Print the sanity run to both targets and back; return the runs there."""
    heading(f"The sanity run: {sanity_run.STEPS} descent steps of {sanity_run.LR}")
    rtol = goldens.SANITY_RUN_RTOL
    descents, rows, fits = {}, [], []
    for target, expected in goldens.SANITY_RUN.items():
        run = sanity_run.there_and_back(target)
        found = run.named()
        for name, golden in expected.items():
            what = f"sanity run, target {target}, {name}"
            checks.close(what, found[name], golden, rtol=rtol)
        for name, descent in (
            (f"{target}", run.there),
            (f"then {1 - target}", run.back),
        ):
            losses, scores = descent.losses, descent.scores
            numbers = (losses[0], losses[-2], losses[-1], scores[0], scores[-1])
            rows.append([name, *(f"{number:.6f}" for number in numbers)])
        fit_losses = sanity_run.fit_losses(target)
        what = f"sanity run, target {target}, Network.fit"
        checks.close(what, fit_losses, run.there.losses[:-1], rtol=rtol)
        fits.append(f"{fit_losses[-1]:.6f} (target {target})")
        descents[target] = run.there
    header = ["target", "loss before step 1", "before step 100", "after"]
    print(format_table([*header, "score at first", "after"], rows))
    print(f"Network.fit, all in one call: before step 100 {', '.join(fits)}")
    return descents


def iris_neuron_section(checks: Checks, timed_updates: int) -> siglin.Neuron:
    """Train the neuron on the Iris rows, natively and with NumPy; return it.

    Parameters
    ----------
    checks : Checks
        Collects the comparisons.
    timed_updates : int
        Over how many updates the two are timed, at most.
    """
    heading("Iris setosa (0) against the rest (1): one neuron from zeros")
    x, t = iris_neuron.iris_rows()
    print(
        "features: sepal length (cm), sepal width (cm), 1; full batch, "
        f"step {goldens.IRIS_LR},\nuntil theta moves by no more than {goldens.IRIS_TOL}"
    )
    neuron = siglin.Neuron(3)
    run = iris_neuron.train(neuron, progress=iris_neuron.PROGRESS_EVERY)
    correct = int(np.sum((neuron.predict(x)[:, 0] >= 0.5) == t))
    loss = neuron.loss(x, t)
    print(f"updates   {run.updates:,}")
    print(f"theta     {', '.join(f'{value:.12f}' for value in run.theta)}")
    print(f"correct   {correct} of {len(t)}")
    print(f"mean bce  {loss:.12f}")
    checks.equal("Iris, updates", run.updates, goldens.IRIS_UPDATES)
    checks.equal("Iris, correct rows", correct, goldens.IRIS_CORRECT)
    checks.close("Iris, theta", run.theta, goldens.IRIS_THETA, rtol=goldens.IRIS_RTOL)
    checks.close("Iris, mean bce", loss, goldens.IRIS_LOSS, rtol=goldens.IRIS_RTOL)
    _iris_on_the_way(checks)
    _iris_race(checks, run, timed_updates)
    return neuron


def _iris_on_the_way(checks: Checks) -> None:
    """Print theta after 1, 10, 100, ... updates."""
    rows, neuron, done = [], siglin.Neuron(3), 0
    for updates, theta in goldens.IRIS_THETA_AFTER.items():
        iris_neuron.train(neuron, most_updates=updates - done)
        done = updates
        rows.append([f"{updates:,}", *(f"{value:.9f}" for value in neuron.theta)])
        checks.close(
            f"Iris, theta after {updates} updates",
            neuron.theta,
            theta,
            rtol=goldens.IRIS_RTOL,
        )
    print()
    print(format_table(["after updates", "theta 1", "theta 2", "theta 3"], rows))


def _iris_race(checks: Checks, run: iris_neuron.Run, timed_updates: int) -> None:
    """Print the time of the NumPy loop and of the native one over the same updates."""
    native = run
    if timed_updates < run.updates:
        native = iris_neuron.train(siglin.Neuron(3), most_updates=timed_updates)
    print(f"\nNumPy loop of {native.updates:,} updates ...", flush=True)
    plain = iris_neuron.train_with_numpy(native.updates)
    print(f"native    {native.seconds:.4f} s")
    print(f"NumPy     {plain.seconds:.4f} s for the same {plain.updates:,} updates")
    print(f"ratio     {plain.seconds / native.seconds:.0f} times")
    checks.equal("Iris, updates of the NumPy loop", plain.updates, native.updates)
    checks.close(
        "Iris, theta of the NumPy loop",
        plain.theta,
        native.theta,
        rtol=goldens.IRIS_RTOL,
    )


def decision_grid_section(
    checks: Checks, neuron: siglin.Neuron
) -> npt.NDArray[np.float64]:
    """Print how many of the grid's points are class 1; return their scores."""
    heading("The decision boundary")
    scores = iris_neuron.decision_grid(neuron)
    points = int(np.sum(scores >= 0.5))
    rows, columns = scores.shape
    length, width = goldens.GRID_LENGTH, goldens.GRID_WIDTH
    print(
        f"sepal length {length[0]} to {length[1]} cm, sepal width {width[0]} to "
        f"{width[1]} cm, every {length[2]} cm:"
    )
    print(f"{points:,} of {rows} x {columns} points have a score of 0.5 or more")
    checks.equal("decision grid, shape", scores.shape, goldens.GRID_SHAPE)
    checks.equal("decision grid, points of class 1", points, goldens.GRID_POINTS)
    return scores


def activations_section(checks: Checks) -> None:
    """Print the activations at some points of [-5, 5]."""
    heading("Activations over [-5, 5]")
    points = np.array([-5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0])
    rows = []
    for name in small_examples.ACTIVATIONS:
        values = small_examples.activation_values(points, name)
        rows.append([name, *(f"{value:.4f}" for value in values)])
    print(format_table(["z", *(f"{point:g}" for point in points)], rows))
    z = np.linspace(*goldens.ACTIVATION_POINTS)
    rtol = goldens.ACTIVATION_RTOL
    curves = {
        name: small_examples.activation_values(z, name)
        for name in small_examples.ACTIVATIONS
    }
    ends = [0, -1]
    sigmoid, tanh, relu = curves["sigmoid"], curves["tanh"], curves["relu"]
    checks.close("sigmoid, ends", sigmoid[ends], goldens.SIGMOID_ENDS, rtol=rtol)
    checks.close("sigmoid, sum", sigmoid.sum(), goldens.SIGMOID_SUM, rtol=rtol)
    checks.close("tanh, ends", tanh[ends], goldens.TANH_ENDS, rtol=rtol)
    checks.close("relu, sum", relu.sum(), goldens.RELU_SUM, rtol=rtol)
    checks.equal("step, ones", int(curves["step"].sum()), goldens.STEP_ONES)


def layers_section(checks: Checks) -> None:
    """Print a layer against its neurons, and the scores of a small network."""
    heading("A layer and a network")
    layer, neurons = small_examples.layer_and_neurons()
    difference = float(np.max(np.abs(layer - neurons)))
    print(
        f"a layer of 3 neurons and the 3 neurons one by one, on {len(layer)} rows: "
        f"no output\ndiffers by more than {difference:.1g}"
    )
    checks.close("a layer is its neurons", layer, neurons, rtol=1e-14)
    native = small_examples.two_layer_scores(siglin)
    plain = small_examples.two_layer_scores(siglin.reference)
    for name, scores in (("native", native), ("reference", plain)):
        first = ", ".join(f"{score:.8f}" for score in scores[:3, 0])
        print(f"a 2-3-1 network from N(0, 1), {name:9}  {first}, ...")
    checks.close("scores of the 2-3-1 network", native, plain, rtol=1e-12)


def perceptron_section(checks: Checks) -> None:
    """Print what the perceptron came to on the Iris rows."""
    heading("The perceptron on the same rows")
    run = small_examples.train_perceptron()
    print(
        f"{run.epochs} epochs until one without a mistake, {run.mistakes:,} mistakes; "
        f"{run.correct} of 150 correct"
    )
    checks.equal("perceptron, epochs", run.epochs, goldens.PERCEPTRON_EPOCHS)
    checks.equal("perceptron, mistakes", run.mistakes, goldens.PERCEPTRON_MISTAKES)
    checks.equal("perceptron, correct rows", run.correct, goldens.IRIS_CORRECT)
    theta = [float(value) for value in run.theta]
    checks.close("perceptron, theta", theta, goldens.PERCEPTRON_THETA, rtol=0)


def regression_section(checks: Checks) -> None:
    """Print a trained line and the least-squares line."""
    heading("Regression: petal width from petal length, linear output, squared error")
    line = small_examples.train_regression()
    for name, (slope, intercept) in (
        (f"{line.updates:,} updates", line.trained),
        ("least squares", line.closed_form),
    ):
        print(f"{name:14}  width = {slope:.8f} * length {intercept:+.8f} cm")
    print(f"{'loss':14}  {line.loss:.8f} cm^2")
    checks.close("regression, line", line.trained, line.closed_form, rtol=1e-9)
