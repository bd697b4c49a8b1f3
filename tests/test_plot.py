"""siglin.plot: what the pictures show, and the axes that they are drawn in."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl
import matplotlib.image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import siglin
from siglin import ShapeError, plot
from siglin.plot._drawing import CLASS_COLOURS, NEGATIVE, POSITIVE

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    """Draw new figures without a display, and close them."""
    monkeypatch.setitem(mpl.rcParams, "backend", "Agg")
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def render(ax):
    """Draw the figure for real: mistakes in texts and layouts show only then."""
    FigureCanvasAgg(ax.figure).draw()


def regions(ax):
    """Return the coloured regions as (colour, path)."""
    filled = [c for c in ax.collections if getattr(c, "filled", False)]
    return [
        (to_hex(colour), path)
        for region in filled
        for colour, path in zip(region.get_facecolor(), region.get_paths(), strict=True)
    ]


def colour_at(ax, point):
    """Return the colours of the regions around a point."""
    return [colour for colour, path in regions(ax) if path.contains_point(point)]


def linear_network(dtype="float64"):
    """Return a network whose class is 0, 1, 2 for x0 left of -1, between, right of 1."""
    net = siglin.Network([2, 3], loss="cross_entropy", dtype=dtype)
    net.layers[0].w = [[-5, 0, 5], [0, 0, 0]]
    net.layers[0].b = [-5, 0, -5]
    return net


# Every function.


def calls():
    """Return every function with arguments that it takes, by name."""
    net = siglin.Network([2, 3, 1], seed=1)
    history = net.fit(XOR, [0, 1, 1, 0], epochs=3)
    return {
        "loss": lambda **ax: plot.loss(history, **ax),
        "activation": plot.activation,
        "weights": lambda **ax: plot.weights(net, **ax),
        "network": lambda **ax: plot.network(net, **ax),
        "decision_boundary": lambda **ax: plot.decision_boundary(
            net, XOR, [0, 1, 1, 0], **ax
        ),
        "confusion": lambda **ax: plot.confusion(net, XOR, [0, 1, 1, 0], **ax),
    }


def test_every_function_is_called_here():
    assert sorted(calls()) == plot.__all__


@pytest.mark.parametrize("name", plot.__all__)
def test_axes_are_the_given_ones_or_new_ones_of_pyplot(ax, name):
    draw = calls()[name]
    assert draw(ax=ax) is ax
    render(ax)
    from matplotlib import pyplot  # noqa: PLC0415  only now may it be imported

    before = pyplot.get_fignums()
    new = draw()
    assert new is not ax
    assert pyplot.get_fignums() != before
    assert new.figure is pyplot.gcf()
    render(new)


def test_drawing_into_given_axes_needs_no_pyplot():
    program = (
        "import sys, siglin, siglin.plot\n"
        "from matplotlib.figure import Figure\n"
        "ax = Figure().subplots()\n"
        "net = siglin.Neuron(2)\n"
        "siglin.plot.decision_boundary(net, [[0, 1], [1, 0]], [0, 1], ax=ax)\n"
        "siglin.plot.weights(net, ax=ax)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_without_matplotlib_the_extra_is_named():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import siglin\n"
        "try:\n    siglin.plot\n"
        "except ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 'pip install "siglin[plot]"' in result.stdout


# The loss.


class Fitted:
    """As scikit-learn's estimators are after a fit."""

    loss_curve_ = (3.0, 2.0)
    validation_loss_curve_ = (4.0, 3.5)


class Validated:
    """A history with validation data."""

    loss = (3.0, 2.0, 1.0)
    validation_loss = (4.0, 3.5, 3.0)


def test_loss_draws_one_number_per_epoch(ax):
    history = siglin.Neuron(2).fit(XOR, [0, 1, 1, 1], epochs=7)
    plot.loss(history, ax=ax)
    (line,) = ax.lines
    assert line.get_xdata().tolist() == list(range(1, 8))
    assert line.get_ydata().tolist() == history.loss
    assert ax.get_legend() is None
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == (
        "epoch",
        "loss",
        "linear",
    )


def test_loss_draws_the_validation_beside(ax):
    plot.loss(Validated(), log=True, ax=ax)
    training, validation = ax.lines
    assert validation.get_ydata().tolist() == [4.0, 3.5, 3.0]
    assert validation.get_color() == training.get_color()
    assert validation.get_linestyle() != training.get_linestyle()
    assert legend(ax) == ["training", "validation"]
    assert ax.get_yscale() == "log"


def test_losses_of_several_fits_share_axes(ax):
    plot.loss(Fitted(), label="first", ax=ax)
    plot.loss([1.0, 0.5], label="second", ax=ax)
    assert legend(ax) == ["first", "first, validation", "second"]
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        [3, 2],
        [4, 3.5],
        [1, 0.5],
    ]


@pytest.mark.parametrize("history", [None, 3.0, "text", [[1.0], [2.0]], object()])
def test_loss_refuses_what_has_no_curve(ax, history):
    with pytest.raises(TypeError, match="loss: history must be a History"):
        plot.loss(history, ax=ax)


# Activations.


def test_activations_and_derivatives_are_the_functions(ax):
    formulas = {
        "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + 2 * np.cosh(z))),
        "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
        "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
        "leaky_relu": (
            lambda z: np.where(z > 0, z, 0.1 * z),
            lambda z: np.where(z > 0, 1, 0.1),
        ),
        "identity": (lambda z: z, np.ones_like),
    }
    plot.activation(list(formulas), limit=3, ax=ax)
    lines = iter(ax.lines)
    for name, pair in formulas.items():
        for suffix, formula in zip(("", "'"), pair, strict=True):
            line = next(lines)
            assert line.get_label() == name + suffix
            z = line.get_xdata()
            assert (z[0], z[-1]) == (-3, 3)
            np.testing.assert_allclose(line.get_ydata(), formula(z), rtol=1e-12)
    assert next(lines, None) is None


def test_the_step_has_no_derivative_and_others_may_be_left_out(ax):
    plot.activation(["step", "tanh"], derivative=False, ax=ax)
    assert legend(ax) == ["step", "tanh"]
    plot.activation("step", ax=ax)
    assert len(ax.lines) == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "softmax"}, ValueError),
        ({"name": 3}, TypeError),
        ({"limit": 0}, ValueError),
        ({"limit": "5"}, TypeError),
        ({"derivative": 1}, TypeError),
    ],
)
def test_activation_refuses(ax, options, error):
    with pytest.raises(error):
        plot.activation(**{"ax": ax} | options)


# Weights.


def test_weights_are_an_image_of_the_matrix(ax):
    net = siglin.Network([6, 4, 1], seed=1)
    plot.weights(net, ax=ax)
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), net.layers[0].w)
    largest = np.abs(net.layers[0].w).max()
    assert image.get_clim() == (-largest, largest)  # 0 is white
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("unit", "input")
    assert len(ax.figure.axes) == 2  # the bar beside it


@pytest.mark.parametrize("n_out", [1, 2, 3, 10, 16])
def test_weights_of_each_unit_are_an_image_in_a_mosaic(ax, n_out):
    w = np.arange(1.0, 6 * n_out + 1).reshape(6, n_out)
    plot.weights(w, shape=(2, 3), colorbar=False, ax=ax)
    (image,) = ax.images
    found = np.ma.filled(image.get_array(), np.nan)
    tiles = [
        found[top : top + 2, left : left + 3]
        for top in range(0, found.shape[0], 3)
        for left in range(0, found.shape[1], 4)
    ]
    for unit in range(n_out):
        np.testing.assert_array_equal(tiles[unit], w[:, unit].reshape(2, 3))
    assert np.isfinite(found).sum() == w.size  # and nothing else
    assert len(ax.figure.axes) == 1


def test_a_mosaic_leaves_few_places_empty(ax):
    for n_out, rows, cols in ((10, 2, 5), (16, 4, 4), (3, 1, 3), (7, 2, 4)):
        plot.weights(np.ones((4, n_out)), shape=(2, 2), colorbar=False, ax=ax)
        assert ax.images[-1].get_array().shape == (3 * rows - 1, 3 * cols - 1)


def test_weights_of_every_kind_of_model(ax):
    perceptron = siglin.Perceptron(3, bias=True)
    perceptron.params = [1, 2, 3, 4]
    dense = siglin.Dense(2, 3, seed=1)
    net = siglin.Network([2, 3, 4], seed=1)
    for model, layer, want in (
        (perceptron, 0, [[1], [2], [3]]),
        (dense, 0, dense.w),
        (net, -1, net.layers[1].w),
        ([[0, 0]], 0, [[0, 0]]),
    ):
        plot.weights(model, layer, colorbar=False, ax=ax)
        np.testing.assert_array_equal(ax.images[-1].get_array(), want)


def test_weights_refuses(ax):
    net = siglin.Network([6, 4], seed=1)
    with pytest.raises(ValueError, match="layer must be from -1 to 0, got 1"):
        plot.weights(net, 1, ax=ax)
    with pytest.raises(ShapeError, match=r"shape must hold 6 inputs, got \(4, 2\)"):
        plot.weights(net, shape=(4, 2), ax=ax)
    for model in (None, "text", [1.0, 2.0]):
        with pytest.raises(TypeError, match="model must be a Network, Dense"):
            plot.weights(model, ax=ax)


# The network.


def circles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Circle)]


def test_a_line_for_every_weight_by_sign_and_size(ax):
    net = siglin.Network([2, 1], seed=1)
    net.layers[0].w = [[2.0], [-1.0]]
    plot.network(net, ax=ax)
    up, down = ax.lines
    assert (up.get_color(), down.get_color()) == (POSITIVE, NEGATIVE)
    assert up.get_linewidth() > 1.5 * down.get_linewidth()
    assert len(circles(ax)) == 3
    centres = {tuple(circle.center) for circle in circles(ax)}
    for line in ax.lines:
        assert {tuple(end) for end in line.get_xydata()} <= centres
    assert "2\ninput" in [text.get_text() for text in ax.texts]
    assert "1\nsigmoid" in [text.get_text() for text in ax.texts]


def test_large_layers_are_cut_short_in_the_middle(ax):
    net = siglin.Network([64, 3, 10], activation="tanh", seed=1)
    plot.network(net, max_units=5, ax=ax)
    assert len(circles(ax)) == 4 + 3 + 4
    assert len(ax.lines) == 4 * 3 + 3 * 4
    names = [text.get_text() for text in ax.texts]
    assert [name for name in names if name.startswith("$x")] == [
        "$x_{1}$",
        "$x_{2}$",
        "$x_{3}$",
        "$x_{64}$",
    ]
    assert names.count("⋮") == 2
    colours = [line.get_color() for line in ax.lines[12:]]
    want = net.layers[1].w[:, [0, 1, 2, 9]].ravel() > 0
    assert [colour == POSITIVE for colour in colours] == want.tolist()


@pytest.mark.parametrize("layers", [[1, 1], [2, 4, 3], [30, 20, 20, 20, 20, 5]])
def test_names_fit_into_their_circles(layers):
    ax = plot.network(siglin.Network(layers, seed=1))
    render(ax)
    for circle, text in zip(circles(ax), ax.texts, strict=False):
        if text.get_text() != "⋮":
            rim = circle.get_window_extent()
            assert text.get_window_extent().width < rim.width
    width, height = ax.figure.get_size_inches()
    assert max(width, height) <= 12.01


def test_network_refuses(ax):
    with pytest.raises(TypeError, match="net must be a Network, got Dense"):
        plot.network(siglin.Dense(2, 1), ax=ax)
    with pytest.raises(ValueError, match="max_units must be at least 3, got 2"):
        plot.network(siglin.Network([2, 1]), max_units=2, ax=ax)


# Decision boundaries.


def test_the_boundary_of_a_neuron_is_where_its_score_is_one_half(ax, dtype):
    neuron = siglin.Neuron(2, bias=True, dtype=dtype)
    neuron.theta = [2.0, -1.0, -0.5]
    plot.decision_boundary(neuron, XOR, [0, 0, 1, 1], names=["no", "yes"], ax=ax)
    assert legend(ax) == ["no", "yes"]
    for point in (*XOR, (0.5, 0.3), (0.2, 0.8)):
        side = int(2 * point[0] - point[1] - 0.5 > 0)
        assert colour_at(ax, point) == [CLASS_COLOURS[side]]
    (line,) = [c for c in ax.collections if getattr(c, "filled", True) is False]
    ends = np.concatenate([path.vertices for path in line.get_paths()])
    np.testing.assert_allclose(2 * ends[:, 0] - ends[:, 1], 0.5, atol=1e-3)
    (low, high) = ax.get_xlim()
    assert (low, high) == pytest.approx((-0.1, 1.1))


def test_several_classes_have_smooth_borders(ax, dtype):
    net = linear_network(dtype)
    x = np.array([[-3.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    plot.decision_boundary(net, x, np.eye(3), ax=ax)
    assert legend(ax) == ["0", "1", "2"]
    for point, k in (((-1.1, 0.5), 0), ((-0.9, 0.5), 1), ((0.9, 1), 1), ((1.1, 1), 2)):
        assert colour_at(ax, point) == [CLASS_COLOURS[k]]
    borders = [c for c in ax.collections if getattr(c, "filled", True) is False]
    xs = np.concatenate([p.vertices[:, 0] for c in borders for p in c.get_paths()])
    np.testing.assert_allclose(np.abs(xs), 1, atol=1e-3)


def test_points_are_drawn_in_the_colour_of_their_class(ax):
    perceptron = siglin.Perceptron(2, bias=True)
    perceptron.fit(XOR, [0, 0, 0, 1], epochs=100)
    plot.decision_boundary(perceptron, XOR, np.array([[0], [0], [0], [1]]), ax=ax)
    drawn = {c.get_label(): c for c in ax.collections if c.get_label() in ("0", "1")}
    np.testing.assert_array_equal(drawn["0"].get_offsets(), XOR[:3])
    np.testing.assert_array_equal(drawn["1"].get_offsets(), XOR[3:])
    for k, label in enumerate("01"):
        assert to_hex(drawn[label].get_facecolor()[0]) == CLASS_COLOURS[k]
    for point, k in zip(XOR, [0, 0, 0, 1], strict=True):
        assert colour_at(ax, point) == [CLASS_COLOURS[k]]


def test_a_class_that_never_wins_has_no_region(ax):
    net = linear_network()
    net.layers[0].b[1] = -100
    plot.decision_boundary(net, [[-3.0, 0.0], [3.0, 1.0]], [0, 2], ax=ax)
    assert {colour for colour, _ in regions(ax)} == {CLASS_COLOURS[0], CLASS_COLOURS[2]}
    one_sided = siglin.Neuron(2, bias=True)
    one_sided.theta = [0.1, 0, 5]
    other = Figure().subplots()
    plot.decision_boundary(one_sided, XOR, [1, 1, 1, 1], ax=other)
    render(other)
    lines = [c for c in other.collections if getattr(c, "filled", True) is False]
    assert not any(len(path.vertices) for line in lines for path in line.get_paths())


@pytest.mark.parametrize("kind", [np.str_, object])
def test_texts_are_labels_of_the_classes_of_a_network(ax, kind):
    x = np.array([[-3.0, 0.0], [0.0, 1.0], [3.0, 2.0], [-2.0, 1.0]])
    t = np.array(["ash", "elm", "oak", "ash"], kind)
    plot.decision_boundary(linear_network(), x, t, ax=ax)
    assert legend(ax) == ["ash", "elm", "oak"]
    drawn = {c.get_label(): c for c in ax.collections}
    np.testing.assert_array_equal(drawn["ash"].get_offsets(), x[[0, 3]])
    np.testing.assert_array_equal(drawn["oak"].get_offsets(), x[[2]])
    # In the order of the names, where they are given; a class may be missing then.
    other = Figure().subplots()
    names = ["oak", "elm", "ash"]
    plot.decision_boundary(linear_network(), x, t[[0, 0, 2, 0]], names=names, ax=other)
    drawn = {c.get_label(): c for c in other.collections}
    np.testing.assert_array_equal(drawn["oak"].get_offsets(), x[[2]])
    for name, k in (("oak", 0), ("ash", 2)):
        assert to_hex(drawn[name].get_facecolor()[0]) == CLASS_COLOURS[k]


def test_texts_are_labels_of_one_output(ax):
    for model in (siglin.Neuron(2), siglin.Perceptron(2)):
        plot.decision_boundary(model, XOR, ["no", "no", "yes", "no"], ax=ax)
        assert legend(ax) == ["no", "yes"]
        ax.clear()


def test_confusion_of_texts(ax):
    pytest.importorskip("sklearn")
    t = ["low", "low", "high", "mid"]
    x = np.array([[-3.0, 0], [0, 0], [0, 0], [3, 0]])
    names = ["low", "mid", "high"]
    plot.confusion(linear_network(), x, t, names=names, ax=ax)
    assert [text.get_text() for text in ax.texts] == list("110001010")
    assert [label.get_text() for label in ax.get_xticklabels()] == names


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifiers_are_drawn_by_scikit_learn(ax, n_classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    names = np.array(["ash", "elm", "oak"])
    t = names[np.digitize(x[:, 0], [-0.5, 0.5][: n_classes - 1])]
    model = linear_model.LogisticRegression(C=1e3).fit(x, t)
    plot.decision_boundary(model, x, t, ax=ax)
    assert legend(ax) == ["ash", "elm", "oak"][:n_classes]
    render(ax)
    if n_classes == 2:
        points = x[np.abs(model.predict_proba(x)[:, 1] - 0.5) > 0.2]
        for point, k in zip(points, model.predict(points) == "elm", strict=True):
            assert colour_at(ax, point) == [CLASS_COLOURS[int(k)]]
    else:
        (mesh,) = [c for c in ax.collections if hasattr(c, "get_coordinates")]
        mesh.set_alpha(None)
        found = {to_hex(colour) for colour in mesh.to_rgba(np.arange(3))}
        assert found == set(CLASS_COLOURS[:3])
        assert set(np.unique(mesh.get_array())) == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [[1.0], [2.0]]}, ShapeError, r"x must have shape \(rows, 2\)"),
        ({"x": np.zeros((0, 2))}, ShapeError, r"x must have shape \(rows, 2\)"),
        ({"t": [0, 1]}, ShapeError, r"t must have shape \(4,\) or \(4, 3\)"),
        ({"t": [0, 1, 2, 3]}, ValueError, r"classes \[0, 1, 2\], got 3 at row 3"),
        ({"t": [0, 1, 2, 0.5]}, ValueError, "got 0.5 at row 3"),
        ({"t": list("abab")}, ValueError, "t has 2 labels, a, b, and the model 3"),
        ({"t": list("abcd")}, ValueError, "t has 4 labels, a, b, c, d, and"),
        ({"t": list("abad"), "names": list("abc")}, ValueError, "got 'd' at row 3"),
        ({"names": ["a"]}, ValueError, "names must be 3 texts, got 1"),
        ({"model": siglin.Dense(2, 1)}, TypeError, "model must be a Network"),
    ],
)
def test_decision_boundary_refuses(ax, change, error, message):
    arguments = {"model": linear_network(), "x": XOR, "t": [0, 1, 2, 0], "ax": ax}
    with pytest.raises(error, match=f"decision_boundary: .*{message}"):
        plot.decision_boundary(**arguments | change)
    assert not ax.collections


# Confusion.


def test_confusion_counts_what_was_taken_for_what(ax):
    pytest.importorskip("sklearn")
    x = np.array([[-3.0, 0], [-2, 0], [0, 0], [0.5, 0], [2, 0], [3, 0]])
    plot.confusion(linear_network(), x, [0, 1, 1, 1, 1, 2], names=list("abc"), ax=ax)
    assert [text.get_text() for text in ax.texts] == list("100121001")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]


def test_one_output_stands_for_class_1_from_one_half_on(ax):
    pytest.importorskip("sklearn")
    neuron = siglin.Neuron(1)
    neuron.theta = [1.0]
    plot.confusion(neuron, [[-0.01], [0.0], [0.01]], [0, 0, 1], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["1", "1", "0", "1"]


def test_confusion_of_labels_one_hot_and_shares(ax):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    t = np.array(["no", "no", "yes", "yes"])
    model = linear_model.LogisticRegression().fit(x, t)
    plot.confusion(model, x, ["no", "yes", "yes", "yes"], normalize="true", ax=ax)
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.00", "0.33", "0.67"]
    other = Figure().subplots()
    plot.confusion(linear_network(), np.eye(3, 2) * 9, np.eye(3)[[2, 1, 1]], ax=other)
    assert [text.get_text() for text in other.texts] == list("000020001")


def test_confusion_without_scikit_learn_names_the_extra(ax, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"pip install \"siglin\[sklearn\]\""):
        plot.confusion(siglin.Neuron(2), XOR, [0, 0, 0, 1], ax=ax)


# The gallery.


def test_the_gallery_is_what_readme_shows(tmp_path):
    pytest.importorskip("sklearn")
    root = Path(__file__).resolve().parents[1]
    script = runpy.run_path(str(root / "bench" / "training" / "gallery.py"))
    script["main"](tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    kept = root / "bench" / "training" / "gallery"
    assert sorted(path.name for path in kept.iterdir()) == drawn
    for name in drawn:  # of the same size; fonts may differ from one machine to another
        now, then = (mpl.image.imread(folder / name) for folder in (tmp_path, kept))
        assert now.shape == then.shape
    readme = (root / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(bench/training/gallery/(\w+\.png)\)", readme)
    assert shown
    assert set(shown) <= set(drawn)
