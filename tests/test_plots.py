"""The pictures of `python -m siglin --plots`: what is drawn, where, and that it is legible."""

import contextlib
import io
import itertools
import struct

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle
from matplotlib.transforms import Bbox

import siglin
from siglin.lecture import (
    diagrams,
    iris_neuron,
    load_iris,
    pictures,
    sanity_run,
    worked_example,
)
from siglin.lecture.command import main
from siglin.lecture.goldens import IRIS_THETA

THETA = np.array(IRIS_THETA)
NAMES = ["activations", "iris", "layer", "network", "sanity_run", "worked_example"]


@pytest.fixture(scope="module")
def scores():
    """The trained neuron's scores over the grid."""
    neuron = siglin.Neuron(3)
    neuron.theta[:] = THETA
    return iris_neuron.decision_grid(neuron)


@pytest.fixture(scope="module")
def descents():
    """The sanity run to each target."""
    return {target: sanity_run.there_and_back(target).there for target in (1, 0)}


@pytest.fixture(scope="module")
def example():
    """The worked example for target 1."""
    return worked_example.work_through(siglin, 1)


def labels(ax):
    """Return the texts of an axes that are not empty."""
    return [text.get_text() for text in ax.texts if text.get_text()]


def circles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Circle)]


# The charts.


def test_activations_are_the_functions_over_minus_5_to_5():
    figure = pictures.activations_picture()
    formulas = {
        "step": lambda z: (z > 0) * 1.0,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "tanh": np.tanh,
        "ReLU": lambda z: np.maximum(z, 0),
    }
    assert [ax.get_title().split(":")[0] for ax in figure.axes] == list(formulas)
    for ax, formula in zip(figure.axes, formulas.values(), strict=True):
        (line,) = ax.lines
        z, a = line.get_data()
        assert (z[0], z[-1]) == (-5, 5)
        assert len(z) >= 100
        np.testing.assert_allclose(a, formula(z), rtol=1e-13, atol=1e-15)
        assert ax.get_xlim() == (-5, 5)
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "$z$", "$z$"]


def test_iris_picture_shows_every_flower_in_its_class(scores):
    (ax,) = pictures.iris_picture(THETA, scores).axes
    assert ax.get_xlabel() == "sepal length (cm)"
    assert ax.get_ylabel() == "sepal width (cm)"
    flowers, species = load_iris()
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections if c.get_label()}
    np.testing.assert_array_equal(drawn["setosa"], flowers[species == 0, :2])
    np.testing.assert_array_equal(
        drawn["versicolor or virginica"], flowers[species > 0, :2]
    )
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["score 0.5", "setosa", "versicolor or virginica"]
    assert ax.get_xlim() == pytest.approx((3.3, 8.88))
    assert ax.get_ylim() == pytest.approx((1.0, 5.38))


def test_iris_boundary_lies_where_the_score_is_one_half(scores):
    (ax,) = pictures.iris_picture(THETA, scores).axes
    (line,) = ax.lines
    length, width = line.get_data()
    z = THETA[0] * length + THETA[1] * width + THETA[2]
    assert np.abs(z).max() < 1e-10
    assert (width[0], width[-1]) == pytest.approx(ax.get_ylim())
    # It crosses the plane between the classes' flowers at a width of 3 cm.
    crossing = np.interp(3.0, width, length)
    assert 5.0 < crossing < 5.4


def test_iris_regions_are_on_the_right_sides_of_the_boundary(scores):
    (ax,) = pictures.iris_picture(THETA, scores).axes
    (filled,) = [c for c in ax.collections if hasattr(c, "levels")]
    assert list(filled.levels) == [0, 0.5, 1]
    setosa, rest = filled.get_paths()
    flowers, species = load_iris()
    # One setosa lies 0.01 cm from the boundary, nearer than the grid's step.
    z = flowers[:, :2] @ THETA[:2] + THETA[2]
    clear = np.abs(z) > 0.3
    assert clear.sum() >= 148
    for flower, kind in zip(flowers[clear], species[clear], strict=True):
        assert setosa.contains_point(flower[:2]) == (kind == 0)
        assert rest.contains_point(flower[:2]) == (kind > 0)


def test_iris_legend_hides_neither_flower_nor_boundary(scores):
    figure = pictures.iris_picture(THETA, scores)
    (ax,) = figure.axes
    FigureCanvasAgg(figure).draw()
    box = ax.get_legend().get_window_extent()
    flowers, _ = load_iris()
    points = ax.transData.transform(flowers[:, :2])
    assert not any(box.contains(*point) for point in points)
    assert not ax.lines[0].get_path().transformed(ax.transData).intersects_bbox(box)


def test_sanity_run_picture_shows_both_runs(descents, goldens):
    figure = pictures.sanity_run_picture(descents)
    loss_ax, score_ax = figure.axes
    assert loss_ax.get_ylabel() == "loss before the step"
    assert score_ax.get_ylabel() == "score before the step"
    for ax, key in ((loss_ax, "J_before_step"), (score_ax, "y_before_step")):
        assert ax.get_xlabel() == "step"
        assert [line.get_label() for line in ax.lines] == ["target 1", "target 0"]
        for line, target in zip(ax.lines, (1, 0), strict=True):
            step, value = line.get_data()
            assert step.tolist() == list(range(1, 101))
            expected = goldens["single_sample_descent"][f"target_{target}"][key]
            np.testing.assert_allclose(value, expected, rtol=1e-12)


# The diagrams.


def test_worked_example_diagram_carries_every_value_and_gradient(example, goldens):
    (ax,) = diagrams.worked_example_diagram(example, target=1).axes
    assert len(circles(ax)) == 6
    assert len(ax.lines) == 2 * 3 + 3 * 1
    expected = goldens["worked_example"]["target_1"]
    weights = [*np.ravel(worked_example.W), *np.ravel(worked_example.V)]
    gradients = [*np.ravel(expected["dW"]), *np.ravel(expected["dV"])]
    drawn = labels(ax)
    for number in [*weights, *gradients]:
        assert f"{number:.4g}" in drawn
    for value in [*expected["h"][0], expected["y"]]:
        assert f"{value:.5f}" in drawn
    for name, gradient in (
        ("x_1", expected["dx"][0][0]),
        ("x_2", expected["dx"][0][1]),
        ("h_1", expected["dh"][0][0]),
        ("h_2", expected["dh"][0][1]),
        ("h_3", expected["dh"][0][2]),
        ("y", expected["dJ_dy"]),
    ):
        assert rf"$\partial J/\partial {name}$ = {gradient:.4g}" in drawn
    assert "$J$ = 0.526992" in drawn


def test_worked_example_labels_stand_on_their_own_lines(example):
    (ax,) = diagrams.worked_example_diagram(example, target=1).axes
    weights = [*np.ravel(worked_example.W), *np.ravel(worked_example.V)]
    gradients = [*np.ravel(example["dJ/dW"]), *np.ravel(example["dJ/dV"])]
    texts = [text for text in ax.texts if text.get_bbox_patch() is not None]
    ends = [line.get_xydata() for line in ax.lines]
    # Lines and pairs of labels are drawn weight by weight: x1 to h1, h2, h3, then x2.
    for k, (start, end) in enumerate(ends):
        value, gradient = texts[2 * k], texts[2 * k + 1]
        assert value.get_text() == f"{weights[k]:.4g}"
        assert gradient.get_text() == f"{gradients[k]:.4g}"
        middle = np.mean([value.get_position(), gradient.get_position()], axis=0)
        along, across = end - start, middle - start
        assert abs(along[0] * across[1] - along[1] * across[0]) < 1e-9


def test_layer_diagram_joins_every_input_with_every_neuron():
    (ax,) = diagrams.layer_diagram().axes
    assert len(circles(ax)) == 3 + 3
    assert len(ax.lines) == 3 * 3
    assert [label for label in labels(ax) if label.startswith("$a_")][:3] == [
        "$a_1$",
        "$a_2$",
        "$a_p$",
    ]


def test_network_diagram_joins_neighbouring_layers():
    (ax,) = diagrams.network_diagram().axes
    assert len(circles(ax)) == 3 + 4 + 3 + 1
    assert len(ax.lines) == 3 * 4 + 3 * 1
    captions = [label.split("\n")[0] for label in labels(ax) if "layer" in label]
    assert captions == [
        "input layer",
        "hidden layer 1",
        "hidden layer $k$",
        "output layer",
    ]


def test_lines_end_in_circles(example):
    for figure in (
        diagrams.worked_example_diagram(example, target=1),
        diagrams.layer_diagram(),
        diagrams.network_diagram(),
    ):
        (ax,) = figure.axes
        centres = {tuple(circle.center) for circle in circles(ax)}
        for line in ax.lines:
            assert {tuple(end) for end in line.get_xydata()} <= centres


def crowding(figure):
    """Return what makes a diagram illegible: texts on texts, on rims, or cut off."""
    (ax,) = figure.axes
    figure.dpi = pictures.DOTS_PER_INCH
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for text in (*ax.texts, ax.title) if text.get_text()]
    # A text's own box: that of an annotation would include its arrow.
    boxes = [Bbox(type(ax.title).get_window_extent(t, renderer)) for t in texts]
    found = [
        (a.get_text(), b.get_text())
        for (a, box_a), (b, box_b) in itertools.combinations(
            zip(texts, boxes, strict=True), 2
        )
        if box_a.overlaps(box_b)
    ]
    width, height = canvas.get_width_height()
    for text, box in zip(texts, boxes, strict=True):
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            found.append((text.get_text(), "edge of the picture"))
        for circle in circles(ax):
            x, y = ax.transData.transform(circle.center)
            rim, _ = ax.transData.transform((circle.radius, 0)) - (
                ax.transData.transform((0, 0))
            )
            corners = np.hypot(box.corners()[:, 0] - x, box.corners()[:, 1] - y)
            nearest = np.hypot(
                x - np.clip(x, box.x0, box.x1), y - np.clip(y, box.y0, box.y1)
            )
            if nearest < rim < corners.max():
                found.append((text.get_text(), "rim of a circle"))
    return found


def test_diagrams_are_legible(example):
    assert crowding(diagrams.worked_example_diagram(example, target=1)) == []
    assert crowding(diagrams.layer_diagram()) == []
    assert crowding(diagrams.network_diagram()) == []


def test_a_crowded_diagram_is_found():
    figure = diagrams.layer_diagram()
    (ax,) = figure.axes
    ax.text(0.0, 2.25, "over a name")
    # Kept out of the layout, which would make room for it.
    ax.text(8.4, 0.0, "cut off at the edge").set_in_layout(False)
    found = crowding(figure)
    assert ("$x_1$", "over a name") in found
    assert ("over a name", "rim of a circle") in found
    assert ("cut off at the edge", "edge of the picture") in found


# The files.


def test_plots_option_writes_the_pictures(tmp_path):
    folder = tmp_path / "new" / "pictures"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["--plots", str(folder), "--timed-updates", "10"])
    assert code == 0
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{name}.png" for name in NAMES]
    for file in files:
        assert str(file) in out.getvalue()
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", data[16:24])
        assert 1200 <= width <= 2400
        assert 600 <= height <= 1600


def test_pictures_that_cannot_be_written_end_with_code_2(tmp_path):
    (tmp_path / "iris.png").mkdir()
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        code = main(["--plots", str(tmp_path), "--timed-updates", "10"])
    assert code == 2
    assert err.getvalue().startswith("cannot write the pictures: ")
    assert "iris.png" in err.getvalue()
