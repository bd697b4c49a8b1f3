"""Labels as targets: what scikit-learn's LabelBinarizer makes of them, and its errors."""

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.preprocessing import LabelBinarizer

from siglin._data.labels import Labels
from siglin.estimators import MLPClassifier

KNOWN = {
    "integers": [3, 1, 2, 1, 3],
    "two": [7, 5, 7],
    "one": [4, 4],
    "bools": [True, False, True],
    "floats": [0.0, 2.0, 1.0],
    "unsigned": np.array([250, 3, 250, 9], np.uint8),
    "words": ["c", "a", "bb", "a"],
    "objects": np.array(["c", "a", "bb"], object),
    "labels": [[1, 0, 1], [0, 0, 1], [0, 0, 0]],
}


@pytest.mark.parametrize("name", KNOWN)
def test_targets_and_back_are_the_label_binarizers(name, rng):
    y = np.asarray(KNOWN[name])
    theirs, labels = LabelBinarizer().fit(y), Labels(y)
    for part in (y, y[:1], y[::-1]):
        want = theirs.transform(part)
        got = labels.encode(part)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(labels.decode(got.astype(float)), part)
    outputs = rng.uniform(size=(20, want.shape[1]))
    got, want = labels.decode(outputs), theirs.inverse_transform(outputs)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("y", "other"),
    [
        ([1, 2, 3], [1, 4]),
        ([1, 2, 3], [0]),
        ([1, 2, 3], [1.0, 2.0]),
        ([1, 2, 3], ["1"]),
        (["a", "b"], ["ab"]),
        ([0.0, 1.0], [np.nan]),
    ],
)
def test_what_is_not_plainly_known_needs_checks(y, other):
    assert Labels(np.asarray(y)).codes(np.asarray(other)) is None


STREAM = {
    "plain": (lambda x: x, lambda y: y),
    "lists": (lambda x: x.tolist(), lambda y: y.tolist()),
    "float32": (lambda x: x.astype(np.float32), lambda y: y),
    "integers": (lambda x: np.round(x).astype(int), lambda y: y),
    "Fortran": (np.asfortranarray, lambda y: y),
    "column": (lambda x: x, lambda y: y),
    "words": (lambda x: x, lambda y: np.array(["u", "v", "w"])[y]),
}


@pytest.mark.parametrize("name", STREAM)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_stream_is_scikit_learns(name, rows, rng):
    """Plain arrays skip its checks, the others do not."""
    of_x, of_y = STREAM[name]
    x, y = rng.normal(size=(60, 4)), rng.integers(3, size=60)
    classes = np.unique(of_y(np.arange(3)))
    pair = [
        model((5,), random_state=3, solver="sgd") for model in (MLPClassifier, Theirs)
    ]
    for model in pair:
        for start in range(0, 60, rows):
            part = slice(start, start + rows)
            model.partial_fit(of_x(x[part]), of_y(y[part]), classes=classes)
    ours, theirs = pair
    for got, want in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5 if name == "float32" else 1e-9)
    np.testing.assert_array_equal(ours.predict(of_x(x)), theirs.predict(of_x(x)))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[1.0, np.nan]], [0], "NaN"),
        ([[1.0, np.inf]], [0], "infinity"),
        ([[1.0, 2.0, 3.0]], [0], "features"),
        ([1.0, 2.0], [0, 1], "2D array"),
        ([[1.0, 2.0]], [0, 1], "inconsistent"),
        (np.empty((0, 2)), np.empty(0, int), "0 sample"),
        ([[1.0, 2.0]], [5], "classes that are not in"),
        ([[1.0, 2.0]], [np.nan], "NaN"),
        ([[1 + 1j, 2.0]], [0], "Complex"),
    ],
)
def test_a_broken_row_of_a_stream(x, y, message):
    model = MLPClassifier((3,), random_state=0)
    model.partial_fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], classes=[0, 1])
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match=message):
        model.partial_fit(np.asarray(x), np.asarray(y))
    for got, want in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(got, want)
