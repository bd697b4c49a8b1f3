"""Model files: what comes back, what is refused and why, and what a crash leaves behind."""

import contextlib
import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("safetensors")

import safetensors.numpy

import siglin
from helpers import assert_same_bits
from siglin import ModelFormatError
from siglin.files._record import MAX_HEADER, MAX_LAYERS

NETWORKS = {
    "one layer": {"layers": [3, 2]},
    "deep": {"layers": [3, 5, 4, 1], "activation": ["tanh", "relu"]},
    "leaky": {"layers": [3, 4, 2], "activation": "leaky_relu", "loss": "squared_error"},
    "softmax": {"layers": [3, 4, 3], "activation": "identity", "loss": "cross_entropy"},
    "no bias": {"layers": [3, 4, 1], "bias": False},
    "step": {"layers": [3, 4, 1], "activation": "step"},
    "tanh output": {
        "layers": [3, 1],
        "loss": "squared_error",
        "output_activation": "tanh",
    },
}

# Written by siglin 0.1.0: Network([2, 1], seed=7), its parameters set to 1, -0.5 and 0.25.
GOLDEN = (
    b"\xd0\x01\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"siglin":"{\\"activations\\":[\\"sigmoid\\"],\\"biases\\":[true],\\"dt'
    b'ype\\":\\"float64\\",\\"format\\":1,\\"generator\\":\\"3a5859de077bf1a98f5ee2ecf234241c3'
    b'5275021661965d57675391cadf3b9a9\\",\\"kind\\":\\"Network\\",\\"loss\\":\\"bce\\",\\"sha256'
    b'\\":\\"dab3b0c9e9e4b4bf2855ccce4b07d1dbc4fdf46b668b49ca0dc2567cc9e5afc4\\",\\"sizes\\'
    b'":[2,1]}"},"layers.0.b":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"layers'
    b'.0.w":{"dtype":"F64","shape":[2,1],"data_offsets":[8,24]}}      '
    b"\x00\x00\x00\x00\x00\x00\xd0?\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\xe0\xbf"
)


def mixed_network(dtype):
    """Return a network whose layers differ in having a bias."""
    layers = [
        siglin.Dense(3, 4, "tanh", bias=False, dtype=dtype, seed=1),
        siglin.Dense(4, 2, "sigmoid", dtype=dtype, seed=2),
    ]
    return siglin.Network(layers, seed=3)


def models(dtype):
    """Return one model of every kind, by name."""
    found = {
        name: siglin.Network(**options, dtype=dtype, seed=5)
        for name, options in NETWORKS.items()
    }
    found["mixed bias"] = mixed_network(dtype)
    for bias in (False, True):
        found[f"neuron {bias}"] = siglin.Neuron(3, bias=bias, dtype=dtype)
        found[f"perceptron {bias}"] = siglin.Perceptron(3, bias=bias, dtype=dtype)
    rng = np.random.default_rng(1)
    for model in found.values():
        model.params = rng.normal(size=model.n_params).astype(dtype)
        model.params[0] = -0.0
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    """The bytes of a small file."""
    net = siglin.Network([2, 3, 1], activation="tanh", dtype="float32", seed=4)
    net.save(path)
    return path.read_bytes()


def header_of(data):
    """Return the header of a file as an object, and the bytes after it."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def with_header(header, rest=b""):
    """Return the bytes of a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def edited(data, edit):
    """Return the file after ``edit(header, architecture)`` has changed either."""
    header, rest = header_of(data)
    about = json.loads(header["__metadata__"]["siglin"])
    edit(header, about)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and "siglin" in metadata:
        header["__metadata__"]["siglin"] = json.dumps(about)
    return with_header(header, rest)


def error_of(path, data, **options):
    """Return the message with which a file of these bytes is refused."""
    path.write_bytes(data)
    with pytest.raises(ModelFormatError) as caught:
        siglin.load(path, **options)
    message = str(caught.value)
    assert message.startswith(f"load: {path}: ")
    assert len(message) < len(str(path)) + 250
    assert message.isprintable()
    return message


# What comes back.


def test_every_model_comes_back_to_the_bit(path, dtype, rng):
    x = rng.normal(size=(9, 3)).astype(dtype)
    for name, model in models(dtype).items():
        model.save(path)
        loaded = siglin.load(path)
        assert type(loaded) is type(model), name
        assert repr(loaded) == repr(model)
        assert_same_bits(loaded.params, model.params)
        assert_same_bits(loaded.predict(x), model.predict(x))


@pytest.mark.parametrize("name", ["deep", "softmax", "no bias", "mixed bias"])
def test_a_loaded_network_trains_on_as_the_saved_one_would(path, dtype, rng, name):
    net = models(dtype)[name]
    x = rng.normal(size=(20, 3)).astype(dtype)
    t = rng.random((20, net.layers[-1].n_out)).astype(dtype)
    if net.loss_name == "cross_entropy":
        t = np.arange(20) % 3
    net.fit(x, t, epochs=2, batch_size=4)
    net.save(path)
    loaded = siglin.load(path)
    for each in (net, loaded):  # shuffled by the generator that the file holds
        each.fit(x, t, epochs=3, batch_size=4)
    assert_same_bits(loaded.params, net.params)


def test_a_loaded_model_is_one_of_its_own(path):
    net = siglin.Network([2, 1], seed=1)
    net.save(path)
    first, second = siglin.load(path), siglin.load(path)
    first.params[:] = 7
    assert first.layers[0].w[0, 0] == 7
    assert not (second.params == 7).any()
    assert not first.grads.any()


def test_the_same_model_gives_the_same_bytes(path, tmp_path):
    for model in models("float32").values():
        model.save(path)
        siglin.load(path).save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_other_readers_find_the_weights(path):
    net = mixed_network("float64")
    net.save(path)
    tensors = safetensors.numpy.load_file(path)
    assert sorted(tensors) == ["layers.0.w", "layers.1.b", "layers.1.w"]
    assert_same_bits(tensors["layers.0.w"], net.layers[0].w)
    assert_same_bits(tensors["layers.1.w"], net.layers[1].w)
    assert_same_bits(tensors["layers.1.b"], net.layers[1].b)


def test_a_file_of_the_first_release_is_read(path):
    path.write_bytes(GOLDEN)
    net = siglin.load(path)
    want = siglin.Network([2, 1], seed=7)
    assert repr(net) == repr(want)
    assert net.params.tolist() == [1.0, -0.5, 0.25]
    assert net._generator.tolist() == want._generator.tolist()


def test_a_derived_class_comes_back_as_its_base(path):
    class Mine(siglin.Network):
        pass

    Mine([2, 1]).save(path)
    assert type(siglin.load(path)) is siglin.Network


def test_another_thread_saves_the_parameters_from_before_the_fit(path):
    net = siglin.Network([1, 1], loss="squared_error", init="zeros")
    seen = []

    def callback(state):
        thread = threading.Thread(target=net.save, args=(path,))
        thread.start()
        thread.join()
        seen.append(siglin.load(path).params.any())
        net.save(path)  # and the thread that fits, those of this moment
        seen.append(siglin.load(path).params.tolist() == state.params.tolist())

    net.fit([[1.0]], [1.0], epochs=1, callback=callback)
    assert seen == [False, True]


def test_parameters_that_are_not_finite_are_asked_about(path):
    net = siglin.Network([2, 3, 1])
    net.layers[1].w[1] = np.nan
    with pytest.warns(UserWarning, match="NaN or infinite") as caught:
        net.save(path)
    assert caught[0].filename == __file__
    with pytest.raises(ModelFormatError, match=r"'layers\.1\.w' contains NaN"):
        siglin.load(path)
    loaded = siglin.load(path, allow_nonfinite=True)
    assert_same_bits(loaded.params, net.params)


# What is refused.


def change(where, key, value):
    """Return an edit that sets one entry of the header, a tensor or the architecture."""

    def edit(header, about):
        target = {"about": about, "header": header}.get(where, header.get(where))
        if value is None:
            del target[key]
        else:
            target[key] = value

    return edit


W, B = "layers.0.w", "layers.0.b"
SPEC = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
EDITS = {
    "no metadata": (change("header", "__metadata__", None), "not siglin's"),
    "foreign": (change("header", "__metadata__", {"format": "pt"}), "not siglin's"),
    "odd metadata": (change("header", "__metadata__", [1]), "not siglin's"),
    "no format": (change("about", "format", None), "format must be 1, got None"),
    "format 0": (change("about", "format", 0), "format must be 1, got 0"),
    "format True": (change("about", "format", True), "format must be 1, got True"),
    "format text": (change("about", "format", "1"), "format must be 1, got '1'"),
    "newer": (change("about", "format", 2), "format 2 is newer than 1"),
    "no sizes": (change("about", "sizes", None), "lacks 'sizes'"),
    "more": (change("about", "code", "print()"), "has an unknown 'code'"),
    "kind": (change("about", "kind", "os.system"), "kind must be one of"),
    "odd kind": (change("about", "kind", [1]), "kind must be a str, got list"),
    "sizes text": (change("about", "sizes", "231"), "sizes must be a list, got '231'"),
    "one size": (change("about", "sizes", [2]), "must have 1 to 1024 layers, got 0"),
    "deep": (change("about", "sizes", [1] * 1026), "1 to 1024 layers, got 1025"),
    "size 0": (change("about", "sizes", [2, 0, 1]), "sizes[1] must be from 1 to"),
    "size -3": (change("about", "sizes", [2, -3, 1]), "sizes[1] must be from 1 to"),
    "size 1.0": (change("about", "sizes", [2, 3.0, 1]), "sizes[1] must be an int"),
    "size True": (change("about", "sizes", [2, 3, True]), "sizes[2] must be an int"),
    "size 1e99": (change("about", "sizes", [2, 10**99, 1]), "sizes[1] must be from 1"),
    "two names": (
        change("about", "activations", ["tanh"]),
        "2 layers with 1 activations and 2 biases",
    ),
    "name": (
        change("about", "activations", ["tanh", "__import__"]),
        "activations[1] must be one of",
    ),
    "long name": (change("about", "activations", ["a" * 9999, "b"]), "activations[0]"),
    "bias": (change("about", "biases", [1, True]), "biases[0] must be True or False"),
    "loss": (change("about", "loss", "mae"), "loss must be one of"),
    "pair": (change("about", "loss", "cross_entropy"), "needs output_activation"),
    "inner softmax": (
        change("about", "activations", ["softmax", "sigmoid"]),
        "output layer only",
    ),
    "neuron": (change("about", "kind", "Neuron"), "a Neuron is one sigmoid unit"),
    "deep neuron": (
        lambda _, about: about.update(kind="Neuron", activations=["sigmoid"] * 2),
        "a Neuron is one sigmoid unit",
    ),
    "half": (change("about", "dtype", "float16"), "dtype must be one of"),
    "other dtype": (
        change("about", "dtype", "float64"),
        "'layers.0.w' must have dtype 'F64', got 'F32'",
    ),
    "other shape": (
        change("about", "sizes", [2, 4, 1]),
        "'layers.0.w' must have shape [2, 4], got [2, 3]",
    ),
    "transposed": (
        change(W, "shape", [3, 2]),
        "'layers.0.w' must have shape [2, 3], got [3, 2]",
    ),
    "unknown dtype": (change(W, "dtype", "F16"), "must have dtype 'F32', got 'F16'"),
    "odd dtype": (change(W, "dtype", {}), "must have dtype 'F32', got {}"),
    "no shape": (change(W, "shape", None), "must have shape [2, 3], got None"),
    "missing": (change("header", B, None), "the tensor 'layers.0.b' is missing"),
    "extra": (change("header", "x" * 300, SPEC), "a tensor 'xxx"),
    "path": (change("header", "../w", SPEC), "a tensor '../w' that the architecture"),
    "no object": (
        change("header", W, [1]),
        "'layers.0.w' is not described by a JSON object",
    ),
    "overlap": (change(W, "data_offsets", [0, 24]), "not a safetensors file"),
    "backwards": (change(W, "data_offsets", [24, 0]), "not a safetensors file"),
    "beyond": (change(W, "data_offsets", [12, 10**15]), "not a safetensors file"),
    "negative": (change(W, "data_offsets", [-1, 23]), "not a safetensors file"),
    "no offsets": (change(W, "data_offsets", None), "not a safetensors file"),
    "generator": (change("about", "generator", "0" * 63 + "g"), "hexadecimal digits"),
    "still generator": (change("about", "generator", "0" * 64), "is all zeros"),
    "checksum": (change("about", "sha256", "0" * 64), "not those that were saved"),
    "other names": (
        change("about", "activations", ["sigmoid", "sigmoid"]),
        "not those that were saved",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_contradicts_itself_is_refused(path, saved, name):
    edit, message = EDITS[name]
    data = edited(saved, edit)
    assert message in error_of(path, data)


def test_a_file_that_is_no_safetensors_file_is_refused(path, saved):
    header, rest = header_of(saved)
    plain = json.dumps(header).encode()
    cases = {
        "only 0 bytes": b"",
        "only 7 bytes": saved[:7],
        "at most 1048576 are read": (2**63).to_bytes(8, "little") + plain + rest,
        "cut off: its header has": saved[:200],
        "not JSON": with_header(plain[:-2], rest),
        "not JSON: 'utf-8' codec": with_header(b"{\xff" + plain[1:], rest),
        "not a safetensors file": with_header(b"[]", rest),
        "has 'layers.0.w' twice": with_header(
            b'{"layers.0.w":' + json.dumps(SPEC).encode() + b"," + plain[1:], rest
        ),
        "nested too deeply": with_header(b'{"a":' + b"[" * 100_000 + b"}", rest),
        "bytes of weights": saved[:-4],
        "bytes of weights, the architecture has 13 parameters": saved + bytes(4),
    }
    for message, data in cases.items():
        assert message in error_of(path, data)


def test_an_architecture_that_is_no_object_is_refused(path, saved):
    header, rest = header_of(saved)
    for text, message in {
        "[1]": "its architecture is not a JSON object",
        "{'a': 1}": "its architecture is not JSON",
        "[" * 100_000: "nested too deeply",
        '{"format": 1, "format": 1}': "its architecture has 'format' twice",
        '{"format": ' + "9" * 10_000 + "}": "",
    }.items():
        header["__metadata__"]["siglin"] = text
        assert message in error_of(path, with_header(header, rest))


def test_a_long_header_is_refused_unread(path, saved):
    header, rest = header_of(saved)
    text = json.dumps(header).encode()
    fits = text + b" " * (MAX_HEADER - len(text))
    path.write_bytes(with_header(fits, rest))
    assert siglin.load(path).n_params == 13
    assert "a header of 1048577 bytes" in error_of(path, with_header(fits + b" ", rest))


def test_pickles_and_archives_are_refused_and_not_executed(path, tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        message = error_of(path, pickle.dumps(Payload(), protocol))
        assert "a pickle; pickled data is refused" in message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Payload()))
    assert "a zip archive" in error_of(path, path.read_bytes())
    with path.open("wb") as file:
        np.save(file, np.array([Payload()]), allow_pickle=True)
    assert "a single NumPy array" in error_of(path, path.read_bytes())
    assert "HDF5" in error_of(path, b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert not canary.exists()


def test_every_shortened_file_is_refused(path, saved):
    for length in range(len(saved)):
        error_of(path, saved[:length])


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_noticed_or_harmless(path, bit):
    siglin.Network([1, 1], dtype="float32", seed=4).save(path)
    saved = path.read_bytes()
    path.write_bytes(saved)
    before = siglin.load(path)
    harmless = 0
    for place in range(len(saved)):
        data = bytearray(saved)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        try:
            net = siglin.load(path)
        except ModelFormatError:
            continue
        harmless += 1
        assert repr(net) == repr(before)
        assert_same_bits(net.params, before.params)
        assert net._generator.tolist() == before._generator.tolist()
    assert harmless < 10  # such as another kind of white space


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_other_bytes_raise_nothing_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    siglin.Network([2, 3, 1], dtype="float32", seed=4).save(path)
    good = path.read_bytes()
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, len(good)))
    piece = data.draw(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
    changed = good[:start] + piece + good[stop:]
    path.write_bytes(changed)
    if changed != good:
        with contextlib.suppress(ModelFormatError):
            siglin.load(path)


def huge_claims(header, about):
    about["sizes"] = [2**31 - 1, 2**31 - 1, 1]
    header[W] |= {"shape": about["sizes"][:2], "data_offsets": [0, 2**64 - 1]}
    header[B]["shape"] = [2**31 - 1]
    header["layers.1.w"]["shape"] = [2**31 - 1, 1]


def test_what_a_file_claims_takes_no_memory(path, saved):
    refused = {
        "4611686016279904255 * parameters": edited(saved, huge_claims),
        "more than max_bytes": saved,
        "bytes of weights": saved,
    }
    tracemalloc.start()
    try:
        message = error_of(path, refused["4611686016279904255 * parameters"])
        assert "52 bytes of weights, the architecture has 4611686" in message
        path.write_bytes(saved)
        os.truncate(path, 2**30)  # a hole, which a file system stores in no space
        with pytest.raises(ModelFormatError, match="bytes of weights"):
            siglin.load(path)
        os.truncate(path, 2**31 + 1)
        with pytest.raises(ModelFormatError, match="more than max_bytes = 2147483648"):
            siglin.load(path)
        with pytest.raises(ModelFormatError, match="more than max_bytes = 600 allows"):
            siglin.load(path, max_bytes=600)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_regular_file_is_refused_without_waiting(path, tmp_path):
    os.mkfifo(path)
    with pytest.raises(ModelFormatError, match="not a regular file"):
        siglin.load(path)
    with pytest.raises(ModelFormatError, match="not a regular file"):
        siglin.load("/dev/zero")
    with pytest.raises(IsADirectoryError):
        siglin.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        siglin.load(tmp_path / "absent")


@pytest.mark.parametrize("change", ["shorter", "another header"])
def test_a_file_that_changes_while_it_is_read_is_refused(path, monkeypatch, change):
    def check_and_change(*arguments):
        result = check(*arguments)
        if change == "shorter":
            os.truncate(path, path.stat().st_size - 8)
        else:
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"?")
        return result

    check = siglin.files._read._check_tensors
    monkeypatch.setattr("siglin.files._read._check_tensors", check_and_change)
    # Its header is longer than what open reads ahead.
    siglin.Network([3] * 200).save(path)
    assert "it changed while it was read" in error_of(path, path.read_bytes())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_bytes": 0}, ValueError),
        ({"max_bytes": 1.5}, TypeError),
        ({"allow_nonfinite": 1}, TypeError),
        ({"path": 3}, TypeError),
        ({"path": None}, TypeError),
    ],
)
def test_arguments_of_another_kind_are_refused(path, saved, options, error):
    with pytest.raises(error):
        siglin.load(**{"path": path} | options)


# How it is written.


def test_save_replaces_or_refuses_what_is_there(path):
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="overwrite is False"):
        siglin.Neuron(2).save(path, overwrite=False)
    assert path.read_bytes() == b"old"
    siglin.Neuron(2).save(path)
    assert siglin.load(path).n_params == 2
    path.unlink()
    siglin.Neuron(3).save(path, overwrite=False)
    assert siglin.load(path).n_params == 3
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_save_does_not_win_against_a_file_that_appears_meanwhile(path, monkeypatch):
    def link(source, target, **options):
        path.write_bytes(b"theirs")
        return real_link(source, target, **options)

    real_link = os.link
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileExistsError):
        siglin.Neuron(2).save(path, overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_save_writes_where_a_link_points_and_keeps_the_permissions(path, tmp_path):
    target = tmp_path / ("n" * 250)  # nearly as long as names can be
    target.write_bytes(b"old")
    target.chmod(0o640)
    path.symlink_to(target)
    siglin.Neuron(2).save(path)
    assert path.is_symlink()
    assert siglin.load(target).n_params == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_permissions_of_any_new_file(path, tmp_path):
    (tmp_path / "other").write_bytes(b"")
    siglin.Neuron(2).save(str(path))
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_save_refuses_what_is_no_regular_file(path, tmp_path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        siglin.Neuron(2).save(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        siglin.Neuron(2).save(tmp_path)
    with pytest.raises(FileNotFoundError):
        siglin.Neuron(2).save(tmp_path / "absent" / "model")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_other(path, monkeypatch, function):
    siglin.Neuron(2).save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        siglin.Neuron(3).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


SAVER = """
import sys, siglin
models = [siglin.Network([50, 40, n], seed=n) for n in (1, 2)]
models[0].save(sys.argv[1])
print("ready", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""


def test_a_killed_save_leaves_a_whole_file(path):
    for wait in (0.0, 0.05, 0.11):
        command = [sys.executable, "-c", SAVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            process.kill()
        assert siglin.load(path).layers[-1].n_out in (1, 2)


# Saves again and again, and is killed by itself before its nth call of a function of os.
KILLED = """
import os, signal, sys, siglin
path, function, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = siglin.Network([5, 4, 3], seed=0)
real, calls = getattr(os, function), []

def call(*args, **options):
    calls.append(1)
    if len(calls) == n:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **options)

setattr(os, function, call)
for _ in range(5):
    model.save(path)
"""


def drafts(folder):
    return [p for p in folder.iterdir() if p.name.startswith(".siglin-")]


@pytest.fixture
def nameless(tmp_path):
    """Skip where the file system has no files without names."""
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system knows no O_TMPFILE")


@pytest.mark.usefixtures("nameless")
@pytest.mark.parametrize(
    ("function", "n", "there", "left"),
    [
        ("fchmod", 1, True, 0),
        ("fsync", 1, False, 0),
        ("fsync", 3, True, 0),
        ("link", 1, False, 0),
        ("link", 2, True, 0),
        ("link", 3, True, 0),
        ("replace", 1, True, 1),  # the one moment in which the draft has a name
        ("replace", 2, True, 1),
    ],
)
def test_a_killed_save_leaves_no_draft(path, function, n, there, left):
    command = [sys.executable, "-c", KILLED, str(path), function, str(n)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.exists() is there
    assert not there or siglin.load(path).layers[-1].n_out == 3
    assert len(drafts(path.parent)) == left


@pytest.mark.parametrize("failing", ["O_TMPFILE", "link in /proc"])
def test_save_does_without_files_that_have_no_name(path, monkeypatch, failing):
    real_open, real_link = os.open, os.link

    def open_(name, flags, *args, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real_open(name, flags, *args, **options)

    def link(source, target, **options):
        if source.startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real_link(source, target, **options)

    if failing == "O_TMPFILE":
        monkeypatch.setattr(os, "open", open_)
    else:
        monkeypatch.setattr(os, "link", link)
    for n in (2, 3):
        siglin.Neuron(n).save(path)
        assert siglin.load(path).n_params == n
    with pytest.raises(FileExistsError):
        siglin.Neuron(4).save(path, overwrite=False)
    path.unlink()
    siglin.Neuron(4).save(path, overwrite=False)
    assert siglin.load(path).n_params == 4
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_interrupt_after_the_rename_arrives_as_it_is(path, monkeypatch):
    real = os.replace

    def replace(*args):
        real(*args)
        raise KeyboardInterrupt

    siglin.Neuron(2).save(path)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        siglin.Neuron(3).save(path)
    assert siglin.load(path).n_params == 3
    assert drafts(path.parent) == []


def test_save_removes_what_killed_saves_left_and_nothing_else(path, tmp_path):
    old = time.time() - 2 * 24 * 60 * 60
    ours = tmp_path / f".siglin-{'0a' * 8}.tmp"
    young = tmp_path / f".siglin-{'1b' * 8}.tmp"
    others = [
        tmp_path / name
        for name in (
            f".siglin-{'0A' * 8}.tmp",
            f".siglin-{'0' * 15}.tmp",
            f"siglin-{'0' * 16}.tmp",
            f".siglin-{'0' * 16}.tmp.txt",
        )
    ]
    for file in (ours, young, *others):
        file.write_bytes(b"draft")
        os.utime(file, (old, old) if file != young else None)
    folder = tmp_path / f".siglin-{'2' * 16}.tmp"
    folder.mkdir()
    os.utime(folder, (old, old))
    link = tmp_path / f".siglin-{'3' * 16}.tmp"
    link.symlink_to(others[0])
    os.utime(link, (old, old), follow_symlinks=False)
    siglin.Neuron(2).save(path)
    assert set(tmp_path.iterdir()) == {path, young, folder, link, *others}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_save_leaves_the_drafts_of_other_users(path, tmp_path):
    theirs = tmp_path / f".siglin-{'4' * 16}.tmp"
    theirs.write_bytes(b"draft")
    os.utime(theirs, (0, 0))
    os.chown(theirs, 1, 1)
    siglin.Neuron(2).save(path)
    assert theirs.exists()


def test_save_refuses_other_things(path):
    with pytest.raises(TypeError, match=r"a Record, got Dense; .* net\.save\(path\)"):
        siglin.files.save(siglin.Dense(2, 1), path)
    with pytest.raises(TypeError, match="overwrite must be True or False"):
        siglin.Neuron(2).save(path, overwrite=1)
    with pytest.raises(TypeError):
        siglin.Neuron(2).save(3)
    with pytest.raises(ValueError, match="at most 1024 layers, got 1025"):
        siglin.Network([1] * (MAX_LAYERS + 2)).save(path)
    assert not path.exists()
    siglin.Network([1] * (MAX_LAYERS + 1)).save(path)
    assert len(siglin.load(path).layers) == MAX_LAYERS


def test_without_safetensors_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for function in (siglin.Neuron(2).save, siglin.Perceptron(2).save, siglin.load):
        with pytest.raises(ImportError, match=r"pip install \"siglin\[files\]\""):
            function(path)
    assert not path.exists()
