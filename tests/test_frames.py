"""Frames: what is in their columns counts, not what NumPy makes of them together.

pandas and polars are not needed: a class with their ways stands in for them. Where they
are installed, they are tried too.
"""

import numpy as np
import pytest

import siglin
from helpers import assert_same_bits
from siglin.estimators import (
    MLPClassifier,
    MLPRegressor,
    NeuronClassifier,
    PerceptronClassifier,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

T = np.array([0, 1, 0, 1])


class Nullable:
    """As the dtype of a pandas column that may have missing values."""

    def __init__(self, numpy_dtype):
        self.numpy_dtype = np.dtype(numpy_dtype)


class Column:
    """As a pandas series: objects where its dtype may have missing values."""

    ndim = 1

    def __init__(self, values, dtype=None, name="y"):
        self.values = values
        self.dtype = Nullable(dtype) if dtype else np.asarray(values).dtype
        self.name = name
        self.iloc = self

    def __array__(self, dtype=None, copy=None):
        kind = object if isinstance(self.dtype, Nullable) else None
        return np.array(self.values, dtype or kind)

    def isna(self):
        return [value is None for value in self.values]

    def to_numpy(self, dtype):
        return np.array(self.values, dtype)


class Frame:
    """As a pandas frame: objects where its columns are of several kinds."""

    ndim = 2

    def __init__(self, **columns):
        self.columns = list(columns)
        self._series = list(columns.values())
        self.iloc = self

    def __getitem__(self, key):
        rows, number = key
        assert rows == slice(None)
        return self._series[number]

    def __array__(self, dtype=None, copy=None):
        arrays = [np.asarray(column) for column in self._series]
        kinds = {array.dtype for array in arrays}
        kind = dtype or (kinds.pop() if len(kinds) == 1 else object)
        return np.stack([array.astype(kind) for array in arrays], axis=1)


class Polars:
    """As a polars frame."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self._series = list(columns.values())

    def get_columns(self):
        return self._series

    __array__ = Frame.__array__


class Arrow:
    """As an Arrow table."""

    def __init__(self, **columns):
        self.column_names = list(columns)
        self.columns = self._series = list(columns.values())

    __array__ = Frame.__array__


FLOATS = Column([1.5, -2.0, 3.0, 0.5])
BOOLS = Column([True, False, True, True])
WANT = np.stack([FLOATS.values, BOOLS.values], 1)


@pytest.mark.parametrize("kind", [Frame, Polars, Arrow])
def test_truth_values_beside_numbers_are_numbers(kind):
    frame = kind(a=FLOATS, b=BOOLS)
    assert np.asarray(frame).dtype == object
    net, same = (siglin.Network([2, 3, 1], seed=1) for _ in range(2))
    assert_same_bits(net.predict(frame), same.predict(WANT))
    assert net.fit(frame, T, epochs=3).loss == same.fit(WANT, T, epochs=3).loss
    w = np.ones((2, 3))
    assert_same_bits(siglin.forward(frame, w), siglin.forward(WANT, w))
    layer, other = (siglin.Dense(2, 3, seed=1) for _ in range(2))
    assert_same_bits(layer.forward(frame), other.forward(WANT))
    perceptron = siglin.Perceptron(2)
    assert perceptron.fit(frame, T, epochs=2).steps == 8


def test_nullable_columns_without_missing_values_are_numbers():
    frame = Frame(
        a=Column([1.5, -2.0, 3.0, 0.5], "f8"),
        b=Column([True, False, True, True], "?"),
        i=Column([1, 2, 3, 4], "i8"),
    )
    want = np.stack([[1.5, -2, 3, 0.5], [1, 0, 1, 1], [1, 2, 3, 4]], 1)
    net = siglin.Network([3, 1], seed=1)
    assert_same_bits(net.predict(frame), net.predict(want))
    t = Column(T.tolist(), "i8")
    assert np.asarray(t).dtype == object
    assert net.loss(frame, t) == net.loss(want, T)
    weights = Column([1.0, 2.0, 0.5, 1.0], "f8")
    again = siglin.Network([3, 1], seed=1)
    got = net.fit(frame, t, sample_weight=weights).loss
    assert got == again.fit(want, T, sample_weight=weights.values).loss


def test_the_float_columns_of_a_frame_decide_its_dtype():
    floats = Column(np.float32([1.5, -2, 3, 0.5]))
    net = siglin.Network([2, 1], seed=1, dtype="float32")
    frame = Frame(a=floats, i=Column([1, 2, 3, 4], "i8"))
    want = np.stack([floats.values, np.float32([1, 2, 3, 4])], 1)
    assert_same_bits(net.predict(frame), net.predict(want))
    with pytest.raises(siglin.DTypeError, match="must be float32"):
        net.predict(Frame(a=FLOATS, b=BOOLS))


def test_a_frame_of_whole_numbers_becomes_what_the_network_is(dtype):
    net = siglin.Network([2, 1], seed=1, dtype=dtype)
    frame = Frame(b=Column([True, False], "?"), i=Column([1, 2], "i8"))
    assert_same_bits(net.predict(frame), net.predict([[1, 1], [0, 2]]))


@pytest.mark.parametrize(
    ("column", "kind", "what"),
    [
        (Column([1, None, 3, None], "i8"), ValueError, "has a missing value at row 1"),
        (
            Column([None, 1.0, 3.0, 2.0], "f8"),
            ValueError,
            "has a missing value at row 0",
        ),
        (Column(["u", "v", "u", "w"]), siglin.DTypeError, "is <U1"),
        (Column([1j, 0, 0, 0]), siglin.DTypeError, "is complex128"),
    ],
)
def test_a_frame_that_cannot_become_numbers_names_its_first_bad_column(
    column, kind, what
):
    net = siglin.Network([3, 1], seed=1)
    frame = Frame(a=FLOATS, b=BOOLS, bad=column)
    for call in (net.predict, lambda x: net.fit(x, T), lambda x: net.loss(x, T)):
        with pytest.raises(kind, match=f"x must be numbers; its column 'bad' {what}"):
            call(frame)
    with pytest.raises(kind, match=f"t must be numbers; its column 'y' {what}"):
        net.fit(WANT[:, [0, 0, 1]], column)
    column = Column(column.values, getattr(column.dtype, "numpy_dtype", None), None)
    with pytest.raises(kind, match=f"t must be numbers; it {what}"):
        net.fit(WANT[:, [0, 0, 1]], column)


# ---- the libraries themselves --------------------------------------------------------

ESTIMATORS = [
    MLPClassifier((3,), max_iter=3, random_state=0),
    MLPRegressor(hidden_layer_sizes=(3,), max_iter=3, random_state=0),
    NeuronClassifier(max_iter=3),
    PerceptronClassifier(max_iter=3),
]


def pandas_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"a": [1.5, -2, 3, 0.5], "c": ["u", "v", "u", "u"], "i": [1, 2, 3, 4]}
    )
    dummies = pd.get_dummies(frame)
    return pd, frame, dummies, dummies.to_numpy(np.float64)


def test_pandas_dummies_and_converted_frames_are_numbers():
    _, _, dummies, want = pandas_frames()
    net = siglin.Network([4, 1], seed=1)
    for frame in (dummies, dummies.convert_dtypes(), dummies.astype("Float64")):
        assert np.asarray(frame).dtype == object
        assert_same_bits(net.predict(frame), net.predict(want))
        assert net.loss(frame, frame["c_u"]) == net.loss(want, want[:, 2])


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda m: type(m).__name__)
def test_estimators_take_pandas_dummies_and_nullable_frames(model):
    _, _, dummies, want = pandas_frames()
    predicted = model.fit(want, T).predict(want)
    for frame in (dummies, dummies.convert_dtypes(), dummies.astype("Float64")):
        np.testing.assert_array_equal(model.fit(frame, T).predict(frame), predicted)


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda m: type(m).__name__)
def test_estimators_name_the_first_bad_column(model):
    pd, frame, dummies, _ = pandas_frames()
    gaps = dummies.convert_dtypes()
    gaps.loc[2, "i"] = pd.NA
    infinite = dummies.astype(float)
    infinite.loc[3, "c_v"] = np.inf
    dates = dummies.assign(when=pd.date_range("2020", periods=4))
    for bad, what in [
        (frame, "column 'c' is "),
        (gaps, "column 'i' has a missing value at row 2"),
        (infinite, "column 'c_v' has NaN or infinity at row 3"),
        (dates, "column 'when' is datetime64"),
    ]:
        with pytest.raises(ValueError, match=what):
            model.fit(bad, T)
    model.fit(dummies, T)
    with pytest.raises(ValueError, match="column 'i' has a missing value at row 2"):
        model.predict(gaps)


def test_polars_frames_are_numbers_or_name_the_bad_column():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": FLOATS.values, "b": BOOLS.values, "c": ["u"] * 4})
    net = siglin.Network([2, 1], seed=1)
    assert_same_bits(net.predict(frame[["a", "b"]]), net.predict(WANT))
    with pytest.raises(siglin.DTypeError, match="column 'c' is String"):
        siglin.Network([3, 1]).predict(frame)
    with pytest.raises(ValueError, match="column 'c' is String"):
        MLPClassifier().fit(frame, T)
