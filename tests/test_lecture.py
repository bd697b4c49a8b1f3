"""`python -m siglin`: what it prints, what it compares, its options, and the Iris data."""

import contextlib
import io
import math
import re
import subprocess
import sys

import numpy as np
import pytest

import siglin
from siglin.lecture import goldens as constants
from siglin.lecture import (
    iris_neuron,
    load_iris,
    sanity_run,
    small_examples,
    worked_example,
)
from siglin.lecture.checks import Checks
from siglin.lecture.command import main

FEW_UPDATES = ["--timed-updates", "1000"]


def run(arguments):
    """Return the exit code, the standard output and the standard error of a run."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def report():
    """One run of the job, with a short race against NumPy."""
    code, out, err = run(FEW_UPDATES)
    assert (code, err) == (0, "")
    return out


def section(report, title):
    """Return the lines under a heading that begins with the title."""
    lines = report.splitlines()
    (start,) = [
        i
        for i, line in enumerate(lines[:-1])
        if line.startswith(title) and set(lines[i + 1]) == {"-"}
    ]
    return "\n".join(lines[start + 2 :]).split("\n\n")[0].splitlines()


def numbers(text):
    """Return every number in a text, thousands separators taken off."""
    pattern = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    return [float(n) for n in re.findall(pattern, text.replace(",", ""))]


# What is printed.


def test_last_line_says_that_everything_matched(report):
    last = report.splitlines()[-1]
    assert re.fullmatch(
        r"All 8\d comparisons with the lecture's golden values match\.", last
    )


@pytest.mark.parametrize("goal", [1, 0])
def test_worked_example_table_has_the_goldens_thrice(report, goldens, goal):
    expected = goldens["worked_example"][f"target_{goal}"]
    rows = {
        line.split()[0]: line.split()
        for line in section(report, f"The worked example, target {goal}")
        if not line.startswith("*")
    }
    wanted = {"y": expected["y"], "J": expected["J"], "dJ/dy": expected["dJ_dy"]}
    wanted |= {f"h{j + 1}": h for j, h in enumerate(expected["h"][0])}
    wanted |= {f"dJ/dh{j + 1}": g for j, g in enumerate(expected["dh"][0])}
    wanted |= {f"dJ/dV{j + 1}": g for j, (g,) in enumerate(expected["dV"])}
    wanted |= {f"dJ/dx{i + 1}": g for i, g in enumerate(expected["dx"][0])}
    wanted |= {
        f"dJ/dW{i + 1}{j + 1}": g
        for i, row in enumerate(expected["dW"])
        for j, g in enumerate(row)
    }
    for name, value in wanted.items():
        # Twelve digits are printed.
        shown = [float(cell) for cell in rows[name][-3:]]
        assert shown == pytest.approx([value] * 3, rel=6e-12), name


def test_worked_example_shows_what_the_lecture_prints(report):
    lines = section(report, "The worked example, target 1")
    cells = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert cells["y"] == "0.590378"
    assert cells["J"] == "0.526992"
    assert cells["dJ/dy"] == "-1.69383"
    assert cells["h2"] == "0.7310*"
    assert cells["dJ/dW12"] == "-2e-6*"
    notes = [line for line in lines if line.startswith("* ")]
    assert [note.split(":")[0] for note in notes] == [
        "* h1",
        "* h2",
        "* h3",
        "* dJ/dW11",
        "* dJ/dW12",
    ]
    assert notes[1].endswith("0.73106")
    assert notes[3].endswith("-3.42e-06")
    assert notes[4].endswith("-0.2013")


def test_sanity_run_table_has_the_goldens(report, goldens):
    lines = section(report, "The sanity run")
    for target, line in ((1, lines[1]), (0, lines[3])):
        expected = goldens["single_sample_descent"][f"target_{target}"]
        shown = [float(cell) for cell in line.split()]
        assert shown == [
            target,
            round(expected["J_before_step"][0], 6),
            round(expected["J_before_step"][-1], 6),
            round(expected["J_after"], 6),
            round(expected["y_before_step"][0], 6),
            round(expected["y_after"], 6),
        ]
    # Turned to the other target, each ends near it.
    assert lines[2].startswith("then 0")
    assert float(lines[2].split()[-1]) < 0.06
    assert lines[4].startswith("then 1")
    assert float(lines[4].split()[-1]) > 0.94


def test_iris_section_has_the_goldens(report, goldens):
    expected = goldens["iris_neuron"]
    text = "\n".join(section(report, "Iris setosa"))
    assert re.search(r"^updates +234,669$", text, re.MULTILINE)
    assert re.search(r"^correct +150 of 150$", text, re.MULTILINE)
    theta = re.search(r"^theta +(.*)$", text, re.MULTILINE)[1]
    shown = numbers(theta.replace(", ", " "))
    assert shown == pytest.approx(expected["theta"], abs=5.2e-13)
    loss = re.search(r"^mean bce +(\S+)$", text, re.MULTILINE)[1]
    assert float(loss) == pytest.approx(expected["mean_bce"], abs=5.1e-13)


def test_iris_training_prints_a_line_every_50_000_updates(report):
    lines = [line for line in section(report, "Iris") if line.startswith("step ")]
    assert [int(line.split()[1]) for line in lines] == [50000, 100000, 150000, 200000]
    losses = [float(line.split()[-1]) for line in lines]
    assert losses == sorted(losses, reverse=True)


def test_theta_on_the_way_is_the_goldens(report, goldens):
    after = goldens["iris_neuron"]["theta_after_updates"]
    table = report[report.index("after updates") :].splitlines()[1 : len(after) + 1]
    for line, (updates, theta) in zip(table, after.items(), strict=True):
        assert numbers(line) == pytest.approx(
            [int(updates), *theta], rel=1e-9, abs=1e-9
        )


def test_race_is_over_the_same_updates_and_its_ratio_is_that_of_the_times(report):
    text = report[report.index("NumPy loop of") :]
    assert text.startswith("NumPy loop of 1,000 updates")
    native = re.search(r"^native +(\S+) s$", text, re.MULTILINE)[1]
    plain = re.search(r"^NumPy +(\S+) s for the same 1,000", text, re.MULTILINE)[1]
    ratio = re.search(r"^ratio +(\S+) times$", text, re.MULTILINE)[1]
    # Each time is rounded to its last printed digit, and so is the ratio.
    slack = [0.5 * 10.0 ** -len(time.partition(".")[2]) for time in (plain, native)]
    low = (float(plain) - slack[0]) / (float(native) + slack[1]) - 0.5
    high = (float(plain) + slack[0]) / (float(native) - slack[1]) + 0.5
    assert low <= float(ratio) <= high


def test_decision_grid_has_the_goldens_count(report):
    assert section(report, "The decision boundary")[-1] == (
        "37,355 of 220 x 280 points have a score of 0.5 or more"
    )


def test_activations_table(report):
    header, *lines = section(report, "Activations")
    points = numbers(header)
    assert (points[0], points[-1]) == (-5, 5)
    formulas = {
        "step": lambda z: float(z > 0),
        "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
        "tanh": math.tanh,
        "relu": lambda z: max(0, z),
        "leaky_relu": lambda z: max(0.1 * z, z),
    }
    assert [line.split()[0] for line in lines] == list(formulas)
    for line in lines:
        formula = formulas[line.split()[0]]
        expected = [formula(z) for z in points]
        assert numbers(line) == pytest.approx(expected, abs=5.1e-5)


def test_perceptron_section(report):
    assert section(report, "The perceptron") == [
        "684 epochs until one without a mistake, 1,484 mistakes; 150 of 150 correct"
    ]


def test_regression_finds_the_least_squares_line(report):
    trained, closed_form, _ = section(report, "Regression")
    # Iris' best known line, in every R tutorial: -0.3631 + 0.4158 length.
    assert "width = 0.41575" in trained
    assert "length -0.36307" in trained
    assert trained.split("=")[1] == closed_form.split("=")[1]


# What is compared.


def test_goldens_of_the_package_are_those_of_the_tests(goldens):
    for target in (1, 0):
        ours = constants.WORKED_EXAMPLE[target]
        theirs = goldens["worked_example"][f"target_{target}"]
        for name, key in (("h", "h"), ("dJ/dV", "dV"), ("dJ/dh", "dh")):
            assert ours[name] == theirs[key]
        assert ours["dJ/dW"] == theirs["dW"]
        assert ours["dJ/dx"] == theirs["dx"]
        assert [[theirs["y"]], [theirs["dJ_dy"]]] == [*ours["y"], *ours["dJ/dy"]]
        assert ours["J"] == theirs["J"]
        ours = constants.SANITY_RUN[target]
        theirs = goldens["single_sample_descent"][f"target_{target}"]
        for step in (1, 2, 11, 51, 100):
            assert ours[f"loss before step {step}"] == pytest.approx(
                theirs["J_before_step"][step - 1], rel=1e-14
            )
        for name, key in (
            ("loss after", "J_after"),
            ("score after", "y_after"),
            ("W after", "W_after"),
            ("V after", "V_after"),
        ):
            np.testing.assert_allclose(ours[name], theirs[key], rtol=2e-14)
    iris = goldens["iris_neuron"]
    assert iris["updates"] == constants.IRIS_UPDATES
    assert iris["theta"] == constants.IRIS_THETA
    assert iris["mean_bce"] == constants.IRIS_LOSS
    assert iris["train_correct"] == constants.IRIS_CORRECT
    assert {str(k): v for k, v in constants.IRIS_THETA_AFTER.items()} == (
        iris["theta_after_updates"]
    )
    grid = iris["decision_grid"]
    assert [*constants.GRID_LENGTH] == grid["x"]
    assert [*constants.GRID_WIDTH] == grid["y"]
    assert grid["points_at_or_above_one_half"] == constants.GRID_POINTS
    curves = goldens["activation_plots"]
    assert curves["sigmoid_ends"] == constants.SIGMOID_ENDS
    assert curves["tanh_ends"] == constants.TANH_ENDS
    assert curves["relu_sum"] == constants.RELU_SUM


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("GRID_POINTS", 37_356, "decision grid, points of class 1: got 37355"),
        ("IRIS_LOSS", 0.0090961, "Iris, mean bce: got 0.009096098672"),
    ],
)
def test_a_value_that_does_not_match_is_named_and_sets_the_exit_code(
    monkeypatch, name, wrong, message
):
    monkeypatch.setattr(constants, name, wrong)
    code, out, _ = run(FEW_UPDATES)
    *_, failure, last = out.splitlines()
    assert code == 1
    assert failure.startswith(message)
    assert re.fullmatch(r"1 of 8\d comparisons .* failed\.", last)


def test_a_wrong_native_gradient_is_named(monkeypatch):
    backward = siglin.backward

    def slightly_off(*arguments, **options):
        gradients = backward(*arguments, **options)
        return gradients._replace(dw=gradients.dw * (1 + 2e-12))

    monkeypatch.setattr(siglin, "backward", slightly_off)
    code, out, _ = run(FEW_UPDATES)
    named = [line.split(": got")[0] for line in out.splitlines() if ": got" in line]
    assert code == 1
    assert named == [
        f"worked example, target {goal}, {name}, native"
        for goal in (1, 0)
        for name in ("dJ/dV", "dJ/dW")
    ]


@pytest.mark.parametrize(
    ("got", "expected", "passes"),
    [
        (1.0, 1.0, True),
        (1.0 + 1e-9, 1.0, True),
        (1.0 + 3e-9, 1.0, False),
        (-1.0, 1.0, False),
        (math.nan, 1.0, False),
        (math.inf, 1.0, False),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0], [1.0, 1.0], False),
        ([[1.0, 1.0]], [1.0, 1.0], False),
    ],
)
def test_close_compares_every_element_and_the_shape(got, expected, passes):
    checks = Checks()
    checks.close("value", got, expected, rtol=2e-9)
    assert checks.count == 1
    assert (checks.failures == []) is passes


def test_equal_notes_what_differs():
    checks = Checks()
    checks.equal("updates", 3, 3)
    checks.equal("updates", 3, 4)
    assert checks.count == 2
    assert checks.failures == ["updates: got 3, expected 4"]


# What it is made of.


def test_both_libraries_compute_the_worked_example():
    for target in (1, 0):
        native = worked_example.work_through(siglin, target)
        plain = worked_example.work_through(siglin.reference, target)
        assert native.keys() == plain.keys()
        for name, value in native.items():
            np.testing.assert_allclose(value, plain[name], rtol=1e-13)


def test_descent_keeps_every_loss_and_score(goldens):
    for target in (1, 0):
        expected = goldens["single_sample_descent"][f"target_{target}"]
        network = worked_example.example_network(siglin)
        descent = sanity_run.descend(network, target)
        np.testing.assert_allclose(
            descent.losses,
            [*expected["J_before_step"], expected["J_after"]],
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            descent.scores,
            [*expected["y_before_step"], expected["y_after"]],
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            sanity_run.fit_losses(target), expected["J_before_step"], rtol=1e-12
        )


def test_numpy_loop_takes_the_same_updates(goldens):
    for updates, theta in goldens["iris_neuron"]["theta_after_updates"].items():
        if int(updates) <= 1000:
            plain = iris_neuron.train_with_numpy(int(updates))
            assert plain.updates == int(updates)
            np.testing.assert_allclose(plain.theta, theta, rtol=1e-11)


def test_numpy_loop_stops_where_the_native_one_does(monkeypatch):
    monkeypatch.setattr(constants, "IRIS_TOL", 5e-3)
    plain = iris_neuron.train_with_numpy()
    native = iris_neuron.train(siglin.Neuron(3))
    assert 10 < plain.updates < 5000
    assert plain.updates == native.updates
    np.testing.assert_allclose(plain.theta, native.theta, rtol=1e-11)


@pytest.mark.slow
def test_numpy_loop_ends_at_the_goldens(goldens):
    plain = iris_neuron.train_with_numpy()
    assert plain.updates == goldens["iris_neuron"]["updates"]
    np.testing.assert_allclose(plain.theta, goldens["iris_neuron"]["theta"], rtol=1e-12)


def test_perceptron_is_the_rule_in_whole_numbers():
    x, t = iris_neuron.iris_rows()
    rows = [[round(10 * value) for value in row] for row in x]
    theta, epochs, mistakes = [0, 0, 0], 0, 0
    while True:
        before = mistakes
        for row, target in zip(rows, t, strict=True):
            z = sum(weight * value for weight, value in zip(theta, row, strict=True))
            error = int(target) - (z > 0)
            mistakes += abs(error)
            theta = [w + error * v for w, v in zip(theta, row, strict=True)]
        epochs += 1
        if mistakes == before:
            break
    found = small_examples.train_perceptron()
    assert (found.epochs, found.mistakes) == (epochs, mistakes)
    assert found.theta.tolist() == theta
    assert found.correct == 150


# Options.


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: python -m siglin" in text
    assert "golden values" in text
    assert "--plots DIR" in text
    assert 'pip install "siglin[plot]"' in text
    assert "Exit code: 0 if everything matched" in text


def test_module_runs_the_same_command():
    command = [sys.executable, "-m", "siglin", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: python -m siglin")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timed-updates", "0"], "must be 1 or more, got 0"),
        (["--timed-updates", "many"], "invalid"),
        (["--plot"], "expected one argument"),
        (["iris"], "unrecognized arguments: iris"),
    ],
)
def test_wrong_arguments_end_with_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_plots_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    folder = tmp_path / "pictures"
    code, out, err = run(["--plots", str(folder)])
    assert code == 2
    assert err == '--plots needs matplotlib: pip install "siglin[plot]"\n'
    # It says so before any work.
    assert out == ""
    assert not folder.exists()


def test_report_needs_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "siglin.lecture.pictures", raising=False)
    code, _, err = run(FEW_UPDATES)
    assert (code, err) == (0, "")


def test_plots_into_a_file_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "file"
    file.write_text("not a folder")
    code, out, err = run(["--plots", str(file)])
    assert code == 2
    assert err.startswith("--plots cannot use the directory: ")
    assert str(file) in err
    assert out == ""


# The Iris data.


def test_iris_is_that_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_iris()
    x, t = load_iris()
    np.testing.assert_array_equal(x, theirs.data)
    np.testing.assert_array_equal(t, theirs.target)


def test_iris_has_the_promised_shapes_and_dtypes():
    x, t = load_iris()
    assert (x.shape, x.dtype) == ((150, 4), np.float64)
    assert (t.shape, t.dtype) == ((150,), np.int64)
    assert x.flags.c_contiguous
    assert np.bincount(t).tolist() == [50, 50, 50]


def test_iris_has_fishers_values_where_copies_differ():
    x, _ = load_iris()
    assert x[34].tolist() == [4.9, 3.1, 1.5, 0.2]
    assert x[37].tolist() == [4.9, 3.6, 1.4, 0.1]


def test_iris_arrays_are_the_callers_own():
    first, species = load_iris()
    first[:], species[:] = 0, 0
    again, species_again = load_iris()
    assert again[0, 0] == 5.1
    assert species_again[-1] == 2


def test_iris_rows_are_the_lectures_features():
    x, t = iris_neuron.iris_rows()
    flowers, species = load_iris()
    np.testing.assert_array_equal(x[:, :2], flowers[:, :2])
    assert (x[:, 2] == 1).all()
    assert t.tolist() == [float(s > 0) for s in species]
