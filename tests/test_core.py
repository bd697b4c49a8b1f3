"""The strict layer: what _core refuses, how it says so, and that nothing has changed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from helpers import assert_same_bits, fit_arguments
from siglin import DTypeError, ShapeError, _core
from siglin.reference import Generator

Array = npt.NDArray[Any]
Arguments = dict[str, Any]

M, K, N = 4, 3, 2
SIZES = (K, 5, N)
FIT: Arguments = {
    "lr": 0.1,
    "epochs": 2,
    "batch_size": 2,
    "shuffle": True,
    "tol": 0.0,
    "optimizer": "adam",
    "options": [0.9, 0.999, 1e-8],
    "step_count": 0,
    "hooks": _core.FitHooks(),
}


def make_network(dtype: Any, /, **changes: Any) -> _core.Network:
    arguments: Arguments = {
        "sizes": SIZES,
        "activations": ["tanh", "sigmoid"],
        "biases": [True, True],
        "loss": "bce",
        "dtype": str(np.dtype(dtype)),
    }
    return _core.Network(**arguments | changes)


N_PARAMS = make_network(np.float64).n_params


class Function(NamedTuple):
    """A function of _core, the shapes of its arrays, and its other arguments."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    others: Arguments
    written: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    of_network: bool = False

    def arguments(self, dtype: Any) -> Arguments:
        """Return arguments that are accepted; arrays lie apart, rows touch."""
        rng = np.random.default_rng(7)
        arrays = {
            name: rng.uniform(0.1, 0.9, shape).astype(dtype)
            for name, shape in self.shapes.items()
        }
        others = dict(self.others)
        if "state" in others:
            others["state"] = _core.seed_generator(5)
        if self.of_network:
            others["network"] = make_network(dtype)
        return arrays | others

    def call(self, arguments: Arguments) -> Any:
        rest = arguments.copy()
        if self.name == "fit":
            rest = fit_arguments(**rest)
        return getattr(rest.pop("network", _core), self.name)(**rest)


X, W, B, A = (M, K), (K, N), (N,), (M, N)
T, P = A, (N_PARAMS,)
FUNCTIONS = [
    Function(
        "forward", {"x": X, "w": W, "b": B, "out": A}, {"activation": "sigmoid"},
        ("out",), ("b", "out"),
    ),
    Function(
        "backward", {"x": X, "w": W, "a": A, "da": A, "z": A}, {"activation": "tanh"},
        (), ("z",),
    ),
    Function(
        "backward_update", {"x": X, "w": W, "b": B, "a": A, "da": A, "z": A},
        {"lr": 0.1, "activation": "relu"}, ("w", "b"), ("b", "z"),
    ),
    Function("layer_forward", {"x": X, "w": W, "b": B}, {"activation": "tanh"}, (),
             ("b",)),
    Function(
        "layer_backward",
        {"x": X, "w": W, "derivative": A, "da": A, "dw": W, "db": B}, {},
        ("dw", "db"), ("db",),
    ),
    Function("first_outside", {"x": X}, {"low": 0.0, "high": 1.0}),
    Function(
        "perceptron_fit", {"params": (K + 1,), "x": X, "t": (M, 1)},
        {"bias": True, "epochs": 1}, ("params",),
    ),
    Function("predict", {"params": P, "x": X, "out": A}, {}, ("out",), ("out",), True),
    Function("loss", {"params": P, "x": X, "t": T}, {}, of_network=True),
    Function("loss_and_grads", {"params": P, "grads": P, "x": X, "t": T}, {},
             ("grads",), of_network=True),
    Function(
        "fit", {"params": P, "x": X, "t": T, "moments": (2 * N_PARAMS,)},
        FIT | {"state": None}, ("params", "moments"), of_network=True,
    ),
]  # fmt: skip
# Of any number of dimensions: their layouts have tests of their own below.
ANY_DIMENSIONS = [
    Function("activate", {"z": A, "out": A}, {"activation": "tanh"}, ("out",),
             ("out",)),
    Function("update", {"param": A, "grad": A}, {"lr": 0.1}, ("param",)),
]  # fmt: skip
VECTORS = [
    Function("fill_uniform", {"out": (7,)}, {"state": None, "bound": 1.0}, ("out",)),
    Function("fill_normal", {"out": (7,)}, {"state": None}, ("out",)),
]
ALL = FUNCTIONS + ANY_DIMENSIONS + VECTORS

OF_ALL = [(f, name) for f in ALL for name in f.shapes]
MATRICES = [
    (f, n) for f in FUNCTIONS for n, shape in f.shapes.items() if len(shape) > 1
]
ONE_DIMENSIONAL = [
    (f, n) for f in FUNCTIONS + VECTORS for n, s in f.shapes.items() if len(s) == 1
]
WRITTEN = [(f, name) for f in ALL for name in f.written]


def each(pairs: list[tuple[Function, str]]) -> Any:
    """Run a test for each pair of a function and the name of an argument."""
    return pytest.mark.parametrize(
        ("function", "name"), pairs, ids=[f"{f.name}-{name}" for f, name in pairs]
    )


def memory(value: Any) -> Any:
    """Return what must not change of an argument, the array it is a view of included."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    base = value if value.base is None else value.base
    return bytes(value.tobytes()), bytes(np.asarray(base).tobytes())


def refused(
    function: Function, arguments: Arguments, error: type[Exception], *words: str
) -> None:
    """Assert that exactly this error is raised, says the words, and changes nothing."""
    before = {name: memory(value) for name, value in arguments.items()}
    with pytest.raises(error) as caught:
        function.call(arguments)
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(f"{function.name}: "), message
    for word in words:
        assert word in message
    assert {name: memory(value) for name, value in arguments.items()} == before


class Subclass(np.ndarray):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("function", ALL, ids=[f.name for f in ALL])
def test_what_is_varied_below_is_accepted_as_it_is(
    function: Function, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    function.call(arguments)
    for name in function.optional:
        function.call(arguments | {name: None})


@each(OF_ALL)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda v: v.tolist(), "list"),
        (lambda v: v.view(Subclass), "Subclass"),
        (np.ma.masked_array, "MaskedArray"),
        (memoryview, "memoryview"),
        (lambda _: 1.0, "float"),
        (lambda _: "text", "str"),
        (lambda _: None, "NoneType"),
    ],
    ids=["list", "subclass", "masked", "memoryview", "float", "str", "None"],
)
def test_what_is_no_ndarray_is_refused(
    function: Function, name: str, make: Callable[[Array], Any], kind: str
) -> None:
    if kind == "NoneType" and name in function.optional:
        return  # accepted: the test above
    arguments = function.arguments(np.float64)
    arguments[name] = make(arguments[name])
    expected = f"{name} must be a numpy.ndarray, got {kind}"
    refused(function, arguments, TypeError, expected)


@each(OF_ALL)
@pytest.mark.parametrize(
    "wrong", ["f2", "g", "i8", "i4", "?", "c8", "c16", "O", "U3", "m8[s]"]
)
def test_dtype_is_refused(function: Function, name: str, wrong: str) -> None:
    arguments = function.arguments(np.float64)
    arguments[name] = np.zeros(arguments[name].shape, wrong)
    expected = f"{name} must be float32 or float64, got {np.dtype(wrong)}"
    refused(function, arguments, DTypeError, expected)


@each(OF_ALL)
def test_another_float_dtype_is_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    if len(function.shapes) == 1:
        return  # there is nothing it could differ from
    other = np.dtype(np.float64 if dtype == np.float32 else np.float32)
    arguments[name] = arguments[name].astype(other)
    if name == next(iter(function.shapes)) and not function.of_network:
        expected = f"must be {other} like {name}, got {dtype}"  # the others follow it
    else:
        expected = f"{function.name}: {name} must be {dtype} like "
    refused(function, arguments, DTypeError, expected)


@each(OF_ALL)
def test_swapped_bytes_are_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    arguments[name] = arguments[name].astype(dtype.newbyteorder())
    refused(function, arguments, ShapeError, f"{name} has a layout", "swapped bytes")


@each(OF_ALL)
def test_misaligned_is_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    value = arguments[name]
    buffer = np.zeros(value.nbytes + 1, np.uint8)
    arguments[name] = buffer[1:].view(dtype).reshape(value.shape)
    arguments[name][...] = value
    refused(function, arguments, ShapeError, f"{name} has a layout", "misaligned")


@each(MATRICES)
@pytest.mark.parametrize(
    "make",
    [
        np.asfortranarray,
        lambda v: np.repeat(v, 2, axis=1)[:, ::2],
        lambda v: v[:, ::-1],
        lambda v: np.broadcast_to(v[:, :1], v.shape),
    ],
    ids=["Fortran", "every second column", "reversed columns", "one column"],
)
def test_columns_that_do_not_touch_are_refused(
    function: Function, name: str, make: Callable[[Array], Array], dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    if arguments[name].shape[1] == 1:
        return  # no two columns
    arguments[name] = make(arguments[name])
    refused(function, arguments, ShapeError, f"{name} has a layout", "strides (")


@each(ONE_DIMENSIONAL)
def test_vectors_that_are_not_contiguous_are_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    for make in (lambda v: np.repeat(v, 2)[::2], lambda v: v[::-1]):
        arguments = function.arguments(dtype)
        arguments[name] = make(arguments[name])
        refused(function, arguments, ShapeError, f"{name} has a layout", "stride ")


@pytest.mark.parametrize("function", ANY_DIMENSIONS, ids=["activate", "update"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_elements_that_do_not_touch_are_refused(
    function: Function, ndim: int, dtype: np.dtype[Any]
) -> None:
    shape = (3, 4, 5)[:ndim]
    for name in function.shapes:
        values = {key: np.ones(shape, dtype) for key in function.shapes}
        arguments = function.arguments(dtype) | values
        function.call(arguments)
        arguments[name] = np.ones((*shape, 2), dtype)[..., 0]
        refused(function, arguments, ShapeError, f"{name} has a layout")


@each(MATRICES)
def test_rows_may_lie_apart_and_run_backwards_where_they_are_read(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    want = function.call(function.arguments(dtype))
    value = arguments[name]
    rows, cols = value.shape
    wide = np.zeros((rows, cols + 3), dtype)
    wide[:, 1 : cols + 1] = value
    variants = [wide[:, 1 : cols + 1]]
    if name not in function.written:
        variants.append(value[::-1].copy()[::-1])
    if name == "dw":
        return  # contiguous: the test below
    for variant in variants:
        got = function.call(function.arguments(dtype) | {name: variant})
        if function.name == "fit":  # element 3 is the time it took
            got, want = got[:3], want[:3]
        for g, w in zip(
            got if isinstance(got, tuple) else (got,),
            want if isinstance(want, tuple) else (want,),
            strict=True,
        ):
            np.testing.assert_array_equal(g, w)


@each(WRITTEN)
def test_read_only_is_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    arguments[name].flags.writeable = False
    refused(function, arguments, ValueError, f"{name} is read-only")


@each([(f, n) for f, n in WRITTEN if len(f.shapes[n]) == 2 and f.name != "activate"])
def test_written_rows_that_meet_or_run_backwards_are_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    rows, cols = function.shapes[name]
    flat = np.zeros(rows * cols, dtype)
    overlapping = np.lib.stride_tricks.as_strided(
        flat, (rows, cols), (flat.itemsize, flat.itemsize)
    )
    same = np.lib.stride_tricks.as_strided(flat, (rows, cols), (0, flat.itemsize))
    for value in (overlapping, same, np.zeros((rows, cols), dtype)[::-1]):
        arguments = function.arguments(dtype) | {name: value}
        refused(function, arguments, ShapeError, f"{name} has a layout", "rows")


def test_dw_must_be_contiguous(dtype: np.dtype[Any]) -> None:
    function = next(f for f in FUNCTIONS if f.name == "layer_backward")
    arguments = function.arguments(dtype)
    arguments["dw"] = np.zeros((K, N + 1), dtype)[:, :N]
    refused(function, arguments, ShapeError, "dw has a layout", "not C-contiguous")


@each([(f, name) for f, name in OF_ALL if f not in VECTORS])
def test_shape_is_refused(function: Function, name: str, dtype: np.dtype[Any]) -> None:
    shape = function.shapes[name]
    if len(function.shapes) == 1:
        return  # any shape
    for axis in range(len(shape)):
        if (function.name, name, axis) == ("layer_forward", "x", 0):
            continue  # any number of rows
        for change in (-1, 1):
            arguments = function.arguments(dtype)
            wrong = list(shape)
            wrong[axis] += change
            arguments[name] = np.full(wrong, 0.5, dtype)
            # A wrong x, w, z or param shows in what has to follow it.
            refused(function, arguments, ShapeError, " must have shape (", ", got (")


@each(MATRICES)
def test_dimensions_are_refused(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    value = arguments[name]
    for wrong, words in [
        (value[0], f"1-D {value[0].shape}; for one row pass {name}[None, :]"),
        (value[None], f"3-D {value[None].shape}"),
        (value[0, 0, ...], "0-D ()"),
    ]:
        expected = f"{name} must be 2-D, got {words}"
        refused(function, arguments | {name: wrong}, ShapeError, expected)


@each(ONE_DIMENSIONAL)
def test_a_vector_has_one_dimension(
    function: Function, name: str, dtype: np.dtype[Any]
) -> None:
    arguments = function.arguments(dtype)
    for wrong in (arguments[name][None], arguments[name][0, ...]):
        expected = f"{name} must have shape ("
        refused(function, arguments | {name: wrong}, ShapeError, expected)


def overlapping(a: tuple[int, ...], b: tuple[int, ...], dtype: Any) -> list[Any]:
    """Return pairs of arrays of the two shapes that share one element, or more."""
    size_a, size_b = int(np.prod(a)), int(np.prod(b))
    pairs = []
    for shift in {1 - size_b, 0, size_a - 1}:
        buffer = np.full(size_a + 2 * size_b, 0.5, dtype)
        first = buffer[size_b : size_b + size_a].reshape(a)
        second = buffer[size_b + shift :][:size_b].reshape(b)
        pairs.append((first, second))
    return pairs


OVERLAPS = [
    ("forward", "out", ["x", "w", "b"]),
    ("backward_update", "w", ["x", "a", "da", "z"]),
    ("backward_update", "b", ["x", "w", "a", "da", "z"]),
    ("layer_backward", "dw", ["x", "w", "derivative", "da"]),
    ("layer_backward", "db", ["x", "w", "derivative", "da", "dw"]),
    ("activate", "out", ["z"]),
    ("update", "param", ["grad"]),
    ("perceptron_fit", "params", ["x", "t"]),
    ("predict", "out", ["x", "params"]),
    ("loss_and_grads", "grads", ["params", "x", "t"]),
    ("fit", "params", ["x", "t"]),
]


@pytest.mark.parametrize(
    ("function_name", "out", "name"),
    [(f, out, name) for f, out, names in OVERLAPS for name in names],
)
def test_overlap_is_refused(
    function_name: str, out: str, name: str, dtype: np.dtype[Any]
) -> None:
    function = next(f for f in ALL if f.name == function_name)
    pairs = overlapping(function.shapes[out], function.shapes[name], dtype)
    for first, second in pairs:
        arguments = function.arguments(dtype) | {out: first, name: second}
        refused(function, arguments, ValueError, f"{out} must not overlap {name}")


def test_out_may_lie_between_the_rows_of_x(dtype: np.dtype[Any]) -> None:
    """The extents meet, the elements do not."""
    both = np.ones((M, K + N), dtype)
    x, out = both[:, :K], both[:, K:]
    w = np.ones((K, N), dtype)
    _core.forward(x, w, None, "identity", out)
    assert np.all(out == K)
    assert np.all(x == 1)


def test_activate_in_place_is_allowed(dtype: np.dtype[Any]) -> None:
    z = np.zeros((3, 5), dtype)
    assert _core.activate(z, "sigmoid", z) is z
    assert np.all(z == 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["update", "backward_update"])
def test_lr_must_be_finite(name: str, value: float) -> None:
    function = next(f for f in ALL if f.name == name)
    arguments = function.arguments(np.float64) | {"lr": value}
    refused(function, arguments, ValueError, "lr must be a finite number, got ")


@pytest.mark.parametrize("value", ["0.1", None, np.ones(2), 1j, [0.1]])
@pytest.mark.parametrize("name", ["update", "backward_update", "fit"])
def test_lr_must_be_a_number(name: str, value: Any) -> None:
    function = next(f for f in ALL if f.name == name)
    with pytest.raises(TypeError, match=rf"{name}\(\): incompatible"):
        function.call(function.arguments(np.float64) | {"lr": value})


@pytest.mark.parametrize(
    "name", ["forward", "backward", "backward_update", "layer_forward", "activate"]
)
@pytest.mark.parametrize("value", ["softmax", "", "Sigmoid", "selu"])
def test_unknown_activation_is_refused(name: str, value: str) -> None:
    function = next(f for f in ALL if f.name == name)
    arguments = function.arguments(np.float64) | {"activation": value}
    valid = ", ".join(f'"{activation}"' for activation in _core.activations())
    expected = f'activation must be one of {valid}, got "{value}"'
    refused(function, arguments, ValueError, expected)


@pytest.mark.parametrize("name", ["backward", "backward_update"])
def test_step_has_no_way_back(name: str) -> None:
    function = next(f for f in ALL if f.name == name)
    arguments = function.arguments(np.float64) | {"activation": "step"}
    refused(function, arguments, ValueError, 'activation "step" has no derivative')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": 0.0}, "lr must be a finite number > 0"),
        ({"lr": -0.1}, "lr must be a finite number > 0"),
        ({"lr": np.nan}, "lr must be a finite number > 0"),
        ({"lr": np.inf}, "lr must be a finite number > 0"),
        ({"epochs": -1}, "epochs must be >= 0, got -1"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"tol": -1.0}, "tol must be >= 0"),
        ({"tol": np.nan}, "tol must be >= 0"),
        ({"step_count": -1}, "step_count must be >= 0"),
        ({"optimizer": "sgd"}, 'optimizer must be one of "gd", "momentum", "nesterov"'),
        ({"options": []}, "options must be"),
        ({"options": [0.9]}, "options must be"),
        ({"options": [1.0, 0.9, 1e-8]}, "options must lie in [0, 1)"),
        ({"options": [0.9, -0.1, 1e-8]}, "options must lie in [0, 1)"),
        ({"options": [np.nan, 0.9, 1e-8]}, "options must lie in [0, 1)"),
        ({"options": [0.9, 0.9, 0.0]}, "eps must be > 0"),
        ({"optimizer": "gd"}, "options must be"),
        ({"optimizer": "momentum", "options": [0.9]}, "moments must have shape"),
        ({"state": np.zeros(3, np.uint64)}, "state must be a writable array of 4"),
        ({"state": np.zeros(8, np.uint64)[::2]}, "state must be a writable array"),
    ],
)
def test_options_of_fit_are_refused(changes: Arguments, words: str) -> None:
    function = next(f for f in ALL if f.name == "fit")
    arguments = function.arguments(np.float64) | changes
    shape = "moments" in words
    refused(function, arguments, ShapeError if shape else ValueError, words)


def test_training_needs_a_row(dtype: np.dtype[Any]) -> None:
    for function in FUNCTIONS:
        if function.name in {"loss", "loss_and_grads", "fit"}:
            empty = {"x": np.empty((0, K), dtype), "t": np.empty((0, N), dtype)}
            arguments = function.arguments(dtype) | empty
            expected = "x must have at least one row, got (0, 3)"
            refused(function, arguments, ShapeError, expected)


def test_epochs_of_a_perceptron() -> None:
    function = next(f for f in ALL if f.name == "perceptron_fit")
    arguments = function.arguments(np.float64) | {"epochs": -1}
    refused(function, arguments, ValueError, "epochs must be >= 0, got -1")


# ---- Network -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": []}, "needs at least two sizes"),
        ({"sizes": [3], "activations": [], "biases": []}, "needs at least two sizes"),
        ({"sizes": [3, 2]}, "needs at least two sizes, and an activation and a bias"),
        ({"activations": ["tanh"]}, "needs at least two sizes, and an activation"),
        ({"biases": [True]}, "needs at least two sizes, and an activation and a bias"),
        ({"sizes": [0, 5, 2]}, "sizes[0] must be >= 1, got 0"),
        ({"sizes": [3, -1, 2]}, "sizes[1] must be >= 1, got -1"),
        ({"sizes": [3, 5, 0]}, "sizes[2] must be >= 1, got 0"),
        ({"sizes": [2**40, 2**40, 2]}, "sizes give too many parameters"),
        ({"sizes": [2, 2**31, 2**31]}, "sizes give too many parameters"),
        ({"activations": ["selu", "sigmoid"]}, 'activation must be one of "identity"'),
        ({"activations": ["softmax", "sigmoid"]}, 'got "softmax"'),
        ({"activations": ["tanh", "softmax"]}, 'got "softmax"'),
        ({"activations": ["tanh", "tanh"]}, 'loss "bce" does not go with output'),
        ({"loss": "cross_entropy"}, 'does not go with output activation "sigmoid"'),
        ({"loss": "mse"}, 'loss must be one of "bce", "squared_error", "cross_'),
    ],
)
def test_network_is_refused(changes: Arguments, words: str) -> None:
    with pytest.raises(ValueError, match=r"^Network: ") as caught:
        make_network(np.float64, **changes)
    assert type(caught.value) is ValueError
    assert words in str(caught.value)


@pytest.mark.parametrize("sizes", [[1, 2**63 - 1], [2**63 - 1, 1]])
def test_network_of_too_many_parameters_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="sizes give too many parameters"):
        make_network(np.float64, sizes=sizes, activations=["sigmoid"], biases=[True])


@pytest.mark.parametrize("name", ["float16", "longdouble", "int64", "", "f4"])
def test_dtype_of_a_network_is_refused(name: str) -> None:
    with pytest.raises(DTypeError, match="Network: dtype must be float32 or float64"):
        make_network(np.float64, dtype=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": [3, 5.5, 2]},
        {"sizes": [3, "5", 2]},
        {"sizes": None},
        {"sizes": [3, 2**63, 2]},
        {"activations": [1, 2]},
        {"loss": None},
    ],
)
def test_arguments_of_another_kind_are_refused(changes: Arguments) -> None:
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        make_network(np.float64, **changes)


def test_number_of_parameters() -> None:
    assert N_PARAMS == 3 * 5 + 5 + 5 * 2 + 2
    assert make_network(np.float32, biases=[False, True]).n_params == N_PARAMS - 5


# ---- random numbers ------------------------------------------------------------------

SEEDS = [0, 1, 42, 2**63, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_generator_is_the_references(seed: int) -> None:
    state, reference = _core.seed_generator(seed), Generator(seed)
    assert state.dtype == np.uint64
    assert state.shape == (4,)
    want = [reference.next_word() for _ in range(100)]
    assert _core.random_bits(state, 60).tolist() == want[:60]
    assert _core.random_bits(state, 40).tolist() == want[60:]  # goes on
    for n in (0, 1, 2, 3, 1000):
        got = _core.permutation(state, n)
        assert got.dtype == np.int64
        assert_same_bits(got, reference.permutation(n))


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_the_references_rounded(seed: int, dtype: np.dtype[Any]) -> None:
    state, reference = _core.seed_generator(seed), Generator(seed)
    out = np.empty(500, dtype)
    _core.fill_uniform(state, out, 0.7)
    assert_same_bits(out, reference.uniform(500, 0.7).astype(dtype))
    assert np.abs(out).max() <= 0.7
    _core.fill_normal(state, out)
    assert_same_bits(out, reference.normal(500).astype(dtype))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None])
def test_seed_is_refused(seed: Any) -> None:
    with pytest.raises(TypeError, match=r"seed_generator\(\): incompatible"):
        _core.seed_generator(seed)


DRAWS: dict[str, Callable[[Any], Any]] = {
    "random_bits": lambda state: _core.random_bits(state, 3),
    "permutation": lambda state: _core.permutation(state, 3),
    "fill_uniform": lambda state: _core.fill_uniform(state, np.zeros(3), 1.0),
    "fill_normal": lambda state: _core.fill_normal(state, np.zeros(3)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_state_is_refused(name: str) -> None:
    good = _core.seed_generator(3)
    read_only = good.copy()
    read_only.flags.writeable = False
    strided = np.repeat(good, 2)[::2]
    for state in (read_only, good[:3], np.tile(good, 2), good[None], strided):
        before = state.copy()
        expected = f"^{name}: state must be a writable array of 4 uint64$"
        with pytest.raises(ValueError, match=expected):
            DRAWS[name](state)
        assert_same_bits(state, before)
    for state in (good.astype(np.int64), good.tolist(), None):
        with pytest.raises(
            TypeError, match=f"^{name}: state must be an array of uint64"
        ):
            DRAWS[name](state)


@pytest.mark.parametrize("draw", [_core.random_bits, _core.permutation])
def test_count_is_refused(draw: Callable[[Any, Any], Any]) -> None:
    state = _core.seed_generator(3)
    before = state.copy()
    with pytest.raises(ValueError, match="n must be >= 0, got -1"):
        draw(state, -1)
    with pytest.raises(ValueError, match="too big"):
        draw(state, 2**62)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        draw(state, 1.5)
    assert_same_bits(state, before)


# ---- first_outside -------------------------------------------------------------------


@pytest.mark.parametrize("cols", [1, 3, 16, 33, 600])
def test_first_outside_finds_every_place(
    target: str, dtype: np.dtype[Any], cols: int
) -> None:
    wide = np.full((5, cols + 2), np.nan, dtype)
    for x in (np.zeros((5, cols), dtype), wide[:, 1:-1], wide[::-1, 1:-1]):
        x[...] = 0.5
        assert _core.first_outside(x, 0.0, 1.0) == -1
        for place in np.linspace(0, x.size - 1, 60).astype(int):
            row, col = divmod(int(place), cols)
            for value in (np.nan, -0.25, 1.25, np.inf, -np.inf):
                x[row, col] = value
                x[-1, -1] = value  # a later one does not matter
                assert _core.first_outside(x, 0.0, 1.0) == place
                x[row, col] = x[-1, -1] = 0.5


def test_first_outside_takes_the_borders_as_inside(
    target: str, dtype: np.dtype[Any]
) -> None:
    largest = float(np.finfo(dtype).max)
    x = np.array([[0.0, -0.0, 1.0]], dtype)
    assert _core.first_outside(x, 0.0, 1.0) == -1
    assert _core.first_outside(np.nextafter(x, dtype.type(2)), 0.0, 1.0) == 2
    x = np.array([[largest, -largest, np.finfo(dtype).smallest_subnormal]], dtype)
    maximum = np.finfo(np.float64).max
    assert _core.first_outside(x, -maximum, maximum) == -1
    assert _core.first_outside(np.array([[np.inf]], dtype), -maximum, maximum) == 0
    for shape in [(0, 3), (3, 0), (0, 0)]:
        assert _core.first_outside(np.empty(shape, dtype), 0.0, 1.0) == -1


def test_moments_must_be_apart_from_the_parameters() -> None:
    params = np.zeros(N_PARAMS)
    with pytest.raises(ValueError, match="fit: moments must not overlap params"):
        make_network(np.float64).fit(
            params,
            np.ones((2, SIZES[0])),
            np.ones((2, SIZES[-1])),
            _core.seed_generator(1),
            _core.FitSettings(0.1, 1, 2, optimizer="momentum", options=[0.9]),
            params,
        )


def test_misaligned_generator_state_is_refused() -> None:
    state = np.zeros(33, np.uint8)[1:].view(np.uint64)
    with pytest.raises(ValueError, match="random_bits: state must be"):
        _core.random_bits(state, 2)
