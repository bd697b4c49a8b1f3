"""Model files: networks in the safetensors format, with their architecture beside them.

A file holds the weights as tensors, ``layers.0.w`` of shape (n_in, n_out), ``layers.0.b``
of shape (n_out,), ``layers.1.w`` and so on, which every reader of safetensors finds, and
under the key ``siglin`` of its metadata a JSON object with the rest:

| key | value |
| --- | --- |
| format | version of this table, 1 |
| kind | "Network", "Neuron" or "Perceptron" |
| sizes, activations, biases | as `siglin.Network` has them, one entry per layer |
| dtype | "float32" or "float64" |
| loss, generator | not of a Perceptron; the generator's state as 64 hexadecimal digits |
| sha256 | of this object without this entry, and of all parameters |

A file is read as what anybody may have written: nothing in it is executed, no memory is
taken because it says so, and every disagreement is a ModelFormatError.
"""

import contextlib
import math
import os
import re
import stat
import time
from collections.abc import Mapping
from io import BufferedReader, BufferedWriter
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin._data.arrays import (
    FLOAT32,
    FLOAT64,
    Array,
    DType,
    check_choice,
    check_flag,
    check_integer,
    check_size,
)
from siglin._layers import ACTIVATIONS, Dense
from siglin._network import Network
from siglin._neuron import Neuron, Perceptron
from siglin._plan import OUTPUTS, Plan, check_activations
from siglin._warnings import warn
from siglin.errors import ModelFormatError

__all__ = ["load", "save"]

Model: TypeAlias = Network | Perceptron

FORMAT = 1
KEY = "siglin"
KEYS = {"format", "kind", "sizes", "activations", "biases", "dtype", "sha256"}
NETWORK_KEYS = KEYS | {"loss", "generator"}

# A header of so many layers has about 200 kB; the library itself would take 100 MB.
MAX_HEADER = 2**20
MAX_LAYERS = 1024
MAX_BYTES = 2**31

# How files of other kinds begin, where people might try them.
OTHER_KINDS = {
    b"\x80": "a pickle; pickled data is refused, since reading it can run any program",
    b"PK": "a zip archive, such as .npz, .keras or PyTorch's .pt; those may hold pickled "
    "data, which is refused",
    b"\x93NUMPY": "a single NumPy array",
    b"\x89HDF": "HDF5",
}


# ---- writing -------------------------------------------------------------------------


def save(
    model: Model,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
) -> None:
    """Write a network, a neuron or a perceptron to a safetensors file.

    ``net.save(path)`` is the same.

    Parameters
    ----------
    model : Network, Neuron or Perceptron
        Its architecture, its parameters, and the state of its generator, so that a fit
        goes on as it would have. Gradients and the state of an optimiser object are not
        kept. While another thread fits, the parameters from before that fit are written.
    path : str or path-like
        Usually ``something.safetensors``; no ending is added.
    overwrite : bool, default True
        Whether a file of that name may be replaced.

    Raises
    ------
    ImportError
        If safetensors is missing: ``pip install "siglin[files]"``.
    OSError
        If the file cannot be written; IsADirectoryError, FileExistsError (with
        ``overwrite=False``), PermissionError, FileNotFoundError (no such folder) and
        others. A file that was there before is then as it was.
    TypeError, ValueError
        If the model is something else, or has more than 1024 layers.

    Warns
    -----
    UserWarning
        If a parameter is NaN or infinite.

    Notes
    -----
    The file is written beside its place without a name, forced to the disk, and then put
    in its place: at any moment, there is the old file or the new one, whole. Where `path`
    is a symbolic link, the file it points to is replaced. The same model gives the same
    bytes. Where a file is replaced, or the file system knows no files without names, the
    new one is for a moment named ``.siglin-<16 hexadecimal digits>.tmp``; such files of
    this user that are older than a day are what killed processes left, and are removed.

    Examples
    --------
    >>> import siglin
    >>> net = siglin.Network([2, 3, 1], seed=1)
    >>> net.save("xor.safetensors")
    >>> bool((siglin.load("xor.safetensors").params == net.params).all())
    True
    """
    library = _library()
    _check_model(model)
    overwrite = check_flag("save", "overwrite", overwrite)
    place = os.path.realpath(os.fsdecode(path))
    _check_place(place, overwrite)
    params = model._parameters.snapshot()
    if not np.isfinite(params).all():
        msg = (
            "save: a parameter is NaN or infinite; siglin.load will ask for "
            "allow_nonfinite=True"
        )
        warn(msg)
    about = _describe(model, params)
    plan = _plan_of(about)
    data: bytes = library.numpy.save(plan.views(params), {KEY: _dump(about)})
    _write(place, data, overwrite)


def _check_model(model: object) -> None:
    if not isinstance(model, Network | Perceptron):
        msg = (
            f"save: model must be a Network, Neuron or Perceptron, "
            f"got {type(model).__name__}"
        )
        raise TypeError(msg)


def _describe(model: Model, params: Array) -> dict[str, Any]:
    """Return what the metadata holds."""
    about: dict[str, Any] = {"format": FORMAT, "dtype": params.dtype.name}
    if isinstance(model, Perceptron):
        about |= {"kind": "Perceptron", "sizes": [model.n_in, 1]}
        about |= {"activations": ["step"], "biases": [model.bias]}
    else:
        plan = model._plan
        if len(plan.biases) > MAX_LAYERS:
            msg = (
                f"save: a file holds at most {MAX_LAYERS} layers, got "
                f"{len(plan.biases)}"
            )
            raise ValueError(msg)
        about["kind"] = "Neuron" if isinstance(model, Neuron) else "Network"
        about |= {"sizes": plan.sizes, "activations": plan.activations}
        about |= {"biases": plan.biases, "loss": plan.loss}
        about["generator"] = "".join(f"{word:016x}" for word in model._generator)
    return about | {"sha256": _checksum(about, params)}


def _checksum(about: Mapping[str, Any], params: Array) -> str:
    import hashlib  # noqa: PLC0415  not at every import of siglin

    described = {name: about[name] for name in about if name != "sha256"}
    digest = hashlib.sha256(_dump(described).encode())
    digest.update(params.data)
    return digest.hexdigest()


def _dump(about: Mapping[str, Any]) -> str:
    import json  # noqa: PLC0415  not at every import of siglin

    return json.dumps(about, sort_keys=True, separators=(",", ":"))


def _check_place(place: str, overwrite: bool) -> None:
    """Raise OSError for what must not be replaced."""
    try:
        kind = os.lstat(place).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(f"save: {place} is a directory")
    if not stat.S_ISREG(kind):
        raise OSError(f"save: {place} is no regular file")
    if not overwrite:
        raise FileExistsError(f"save: {place} exists, and overwrite is False")


def _write(place: str, data: bytes, overwrite: bool) -> None:
    """Write the data beside the place, and give it the name once it is on the disk."""
    folder = os.path.dirname(place)  # noqa: PTH120  of what realpath returned
    # A name of its own: the model's may already be as long as names can be.
    name = f".siglin-{os.urandom(8).hex()}.tmp"
    draft = os.path.join(folder, name)  # noqa: PTH118
    try:
        if not _write_nameless(folder, draft, place, data, overwrite):
            _write_named(draft, place, data, overwrite)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # noqa: PTH108
        raise
    _sync_folder(folder)
    _remove_leftovers(folder)


def _write_nameless(
    folder: str, draft: str, place: str, data: bytes, overwrite: bool
) -> bool:
    """Write a file that vanishes with this process until it is whole and gets its name.

    Returns False where the file system, or a missing /proc, does not allow that.
    """
    flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
    try:
        descriptor = os.open(folder, flags, 0o666)  # less what the user's umask takes
    except OSError:  # a file with a name fails for the same reason, or does not
        return False
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        _fill(file, place, data)
        source = f"/proc/self/fd/{descriptor}"
        try:
            # An absolute path does without src_dir_fd, but only where one is given does
            # Python ask the kernel to follow the link in /proc.
            os.link(source, place, src_dir_fd=descriptor)
            return True
        except FileExistsError:
            if not overwrite:
                raise
        except OSError:
            return False
        os.link(source, draft, src_dir_fd=descriptor)  # a link never replaces a file
    os.replace(draft, place)  # noqa: PTH105
    return True


def _write_named(draft: str, place: str, data: bytes, overwrite: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o666)  # less what the user's umask takes away
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        _fill(file, place, data)
    if overwrite:
        os.replace(draft, place)  # noqa: PTH105
    else:
        os.link(draft, place)  # unlike a rename, it fails if there is a file by now
        os.unlink(draft)  # noqa: PTH108


def _fill(file: BufferedWriter, place: str, data: bytes) -> None:
    """Write the data to the disk, with the permissions of the file that it replaces."""
    if os.path.exists(place):  # noqa: PTH110
        mode = os.stat(place).st_mode  # noqa: PTH116
        os.fchmod(file.fileno(), stat.S_IMODE(mode))
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _remove_leftovers(folder: str) -> None:
    """Remove the drafts of saves that were killed, once in a process and folder.

    A draft counts as left over when it has this user's name on it and is a day old.
    """
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    newest = time.time() - 24 * 60 * 60
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _DRAFT.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                ours = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
                if ours and status.st_mtime < newest:
                    os.unlink(entry.path)  # noqa: PTH108


_DRAFT = re.compile(r"\.siglin-[0-9a-f]{16}\.tmp")
_cleaned: set[str] = set()  # the folders where leftovers were looked for


def _sync_folder(folder: str) -> None:
    """Force the new name to the disk, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # a folder that may be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


# ---- reading -------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str],
    *,
    allow_nonfinite: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Any:
    """Return the network, neuron or perceptron that a file holds.

    Parameters
    ----------
    path : str or path-like
        What `save` wrote.
    allow_nonfinite : bool, default False
        Whether a parameter may be NaN or infinite.
    max_bytes : int, default 2**31
        Larger files are refused.

    Returns
    -------
    Network, Neuron or Perceptron
        Equal to the bit to what was saved, with the generator's state; gradients are 0.
        Of a class derived from these, it is the base class.

    Raises
    ------
    ModelFormatError
        If the file is damaged, of another kind, from a newer siglin, too large, or says
        of itself what is not so. The message names the file and what is wrong with it.
    OSError
        If the file cannot be read: FileNotFoundError, IsADirectoryError, PermissionError.
    ImportError
        If safetensors is missing: ``pip install "siglin[files]"``.
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Notes
    -----
    Files may come from anywhere. They are data alone: nothing in them is executed. Memory
    is taken for a file that has passed as far as its header, about four times its size.

    Examples
    --------
    >>> import siglin
    >>> siglin.Neuron(2).save("neuron.safetensors")
    >>> siglin.load("neuron.safetensors")
    Neuron(2, bias=False, dtype='float64')
    >>> with open("broken.safetensors", "wb") as file:
    ...     count = file.write(b"hello, world")
    >>> siglin.load("broken.safetensors")
    Traceback (most recent call last):
        ...
    siglin.ModelFormatError: load: broken.safetensors: no safetensors file
    """
    library = _library()
    allow_nonfinite = check_flag("load", "allow_nonfinite", allow_nonfinite)
    max_bytes = check_integer("load", "max_bytes", max_bytes, 1)
    name = os.fsdecode(path)
    try:
        return _load(library, name, allow_nonfinite, max_bytes)
    except _Flaw as flaw:
        raise ModelFormatError(f"load: {name}: {flaw}") from None
    except RecursionError:
        raise ModelFormatError(f"load: {name}: nested too deeply") from None


class _Flaw(Exception):
    """What is wrong with a file."""


def _load(
    library: ModuleType, name: str, allow_nonfinite: bool, max_bytes: int
) -> Model:
    def without_waiting(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its writer

    with open(name, "rb", opener=without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _Flaw("no regular file")
        if status.st_size > max_bytes:
            raise _Flaw(
                f"{status.st_size} bytes, more than max_bytes = {max_bytes} allows"
            )
        start = _read_start(file, status.st_size)
        about, shapes = _read_header(start[8:])
        plan = _plan_of(about)
        generator = _generator(about)
        dtype = _check_tensors(plan, about, shapes)
        count = sum(math.prod(shape) for shape in plan.shapes().values())
        stored = status.st_size - len(start)
        if stored != count * dtype.itemsize:
            raise _Flaw(
                f"{stored} bytes of weights, the architecture has {count} parameters "
                f"of {dtype}"
            )
        params = _read_params(library, file, start, status.st_size, plan, dtype)
    if _checksum(about, params) != about["sha256"]:
        raise _Flaw("the weights or the architecture are not those that were saved")
    if not allow_nonfinite:
        _check_finite(plan, params)
    return _build(about["kind"], plan, params, generator)


def _read_start(file: BufferedReader, size: int) -> bytes:
    """Return the first eight bytes, which tell the header's length, and the header."""
    length = file.read(8)
    for beginning, kind in OTHER_KINDS.items():
        # A header may be as long as a pickle's first byte says, but then { is next.
        if length.startswith(beginning) and file.peek(1)[:1] != b"{":
            raise _Flaw(f"no safetensors file but {kind}")
    if size < 8:
        raise _Flaw(f"no safetensors file: only {size} bytes")
    header_size = int.from_bytes(length, "little")
    if file.peek(1)[:1] != b"{":
        raise _Flaw("no safetensors file")
    if header_size > MAX_HEADER:
        raise _Flaw(f"a header of {header_size} bytes; at most {MAX_HEADER} are read")
    if header_size > size - 8:
        raise _Flaw(
            f"cut off: its header has {header_size} bytes, {size - 8} of them are there"
        )
    header = file.read(header_size)
    if len(header) != header_size:
        raise _Flaw("it changed while it was read")
    return length + header


def _read_params(
    library: ModuleType,
    file: BufferedReader,
    start: bytes,
    size: int,
    plan: Plan,
    dtype: DType,
) -> Array:
    """Return the parameters, of a file whose header fits its size."""
    # Not mapped into memory: whoever shortens the file then would end this process.
    file.seek(0)
    data = file.read(size)
    if len(data) != size or not data.startswith(start):
        raise _Flaw("it changed while it was read")
    try:
        tensors: dict[str, Array] = library.numpy.load(data)
    except library.SafetensorError as error:
        raise _Flaw(f"no safetensors file: {_clip(str(error))}") from None
    del data
    params: Array = np.empty(plan.n_params(dtype), dtype)
    for name, view in plan.views(params).items():
        view[...] = tensors[name]
    return params


def _read_header(header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the file says of the architecture and of its tensors."""
    tensors = _parse("its header", header)
    metadata = tensors.pop("__metadata__", None)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise _Flaw("a safetensors file, but not siglin's: its metadata lack 'siglin'")
    about = _parse("its architecture", text)
    version = about.get("format")
    if type(version) is not int or version < 1:
        raise _Flaw(f"format must be {FORMAT}, got {_short(version)}")
    if version > FORMAT:
        raise _Flaw(
            f"format {_short(version)} is newer than {FORMAT}, the newest that this "
            f"siglin reads; a newer siglin is needed"
        )
    wanted = KEYS if about.get("kind") == "Perceptron" else NETWORK_KEYS
    for key in sorted(wanted ^ about.keys()):
        what = "lacks" if key in wanted else "has an unknown"
        raise _Flaw(f"its architecture {what} {_short(key)}")
    return about, tensors


def _parse(what: str, text: bytes | str) -> dict[str, Any]:
    """Return the JSON object that the text holds."""
    import json  # noqa: PLC0415  not at every import of siglin

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in names if names.count(name) > 1)
            raise _Flaw(f"{what} has {_short(double)} twice")
        return found

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")  # strictly; json would guess among encodings
        found = json.loads(text, object_pairs_hook=once)
    except ValueError as error:  # UnicodeDecodeError too
        raise _Flaw(f"{what} is no JSON: {_clip(str(error))}") from None
    if not isinstance(found, dict):
        raise _Flaw(f"{what} is no JSON object")
    return found


def _plan_of(about: Mapping[str, Any]) -> Plan:
    """Return the plan that the metadata describe, with a Flaw for what is impossible."""
    kind, sizes, names, biases = (
        about[key] for key in ("kind", "sizes", "activations", "biases")
    )
    for key in ("sizes", "activations", "biases"):
        if not isinstance(about[key], list | tuple):
            raise _Flaw(f"{key} must be a list, got {_short(about[key])}")
    layers = len(sizes) - 1
    if not 1 <= layers <= MAX_LAYERS:
        raise _Flaw(f"it must have 1 to {MAX_LAYERS} layers, got {layers}")
    if len(names) != layers or len(biases) != layers:
        raise _Flaw(
            f"{layers} layers with {len(names)} activations and {len(biases)} biases"
        )
    try:
        check_choice("", "kind", kind, ("Network", "Neuron", "Perceptron"))
        check_choice("", "dtype", about["dtype"], ("float32", "float64"))
        for i, size in enumerate(sizes):
            check_size("", f"sizes[{i}]", size)
        for i, (name, bias) in enumerate(zip(names, biases, strict=True)):
            check_choice("", f"activations[{i}]", name, ACTIVATIONS)
            check_flag("", f"biases[{i}]", bias)
        if kind == "Perceptron":
            loss = ""
        else:
            loss = check_choice("", "loss", about["loss"], tuple(OUTPUTS))
            check_activations(names, loss)
    except (TypeError, ValueError) as error:
        raise _Flaw(_clip(str(error).partition(": ")[2])) from None
    if kind != "Network":
        output = "sigmoid" if kind == "Neuron" else "step"
        if layers != 1 or sizes[1] != 1 or names[0] != output:
            raise _Flaw(f"a {kind} is one {output} unit; its architecture is another")
    return Plan(tuple(sizes), tuple(names), tuple(biases), loss)


def _check_tensors(
    plan: Plan, about: Mapping[str, Any], found: Mapping[str, Any]
) -> DType:
    """Return the dtype, once the header's tensors are those of the plan."""
    dtype = FLOAT32 if about["dtype"] == "float32" else FLOAT64
    code = f"F{8 * dtype.itemsize}"
    shapes = plan.shapes()
    for name in found.keys() - shapes.keys():
        raise _Flaw(f"a tensor {_short(name)} that the architecture does not have")
    for name, shape in shapes.items():
        if name not in found:
            raise _Flaw(f"the tensor {name!r} is missing")
        tensor = found[name]
        if not isinstance(tensor, dict):
            raise _Flaw(f"the tensor {name!r} is described by no JSON object")
        if tensor.get("dtype") != code:
            raise _Flaw(
                f"the tensor {name!r} must have dtype '{code}', "
                f"got {_short(tensor.get('dtype'))}"
            )
        if tensor.get("shape") != list(shape):
            raise _Flaw(
                f"the tensor {name!r} must have shape {list(shape)}, "
                f"got {_short(tensor.get('shape'))}"
            )
    return dtype


def _check_finite(plan: Plan, params: Array) -> None:
    for name, view in plan.views(params).items():
        if not np.isfinite(view).all():
            raise _Flaw(
                f"the tensor {name!r} contains NaN or infinity; "
                f"allow_nonfinite=True takes it as it is"
            )


def _build(
    kind: str, plan: Plan, params: Array, generator: npt.NDArray[np.uint64] | None
) -> Model:
    """Return the model, once all is checked."""
    model: Model
    n_in, bias, dtype = plan.sizes[0], plan.biases[0], params.dtype.name
    if generator is None:
        model = Perceptron(n_in, bias=bias, dtype=dtype)
    else:
        if kind == "Neuron":
            model = Neuron(n_in, bias=bias, dtype=dtype)
        else:
            layers = [
                Dense(n_in, n_out, name, bias=bias, init="zeros", dtype=dtype)
                for (n_in, n_out), name, bias in zip(
                    pairwise(plan.sizes), plan.activations, plan.biases, strict=True
                )
            ]
            model = Network(layers, loss=plan.loss)
        model._generator[...] = generator
    model.params = params
    return model


def _generator(about: Mapping[str, Any]) -> npt.NDArray[np.uint64] | None:
    """Return the generator's state; None of a perceptron, which has none."""
    if about["kind"] == "Perceptron":
        return None
    text = about["generator"]
    digits = set("0123456789abcdef")
    if not isinstance(text, str) or len(text) != 64 or not set(text) <= digits:
        raise _Flaw(f"generator must be 64 hexadecimal digits, got {_short(text)}")
    state = np.array([int(text[i : i + 16], 16) for i in range(0, 64, 16)], np.uint64)
    if not state.any():
        raise _Flaw("generator is all zeros, a state that it never leaves")
    return state


def _short(value: object) -> str:
    """Return a value as a message may show it, however long or strange it is."""
    return _clip(ascii(value))


def _clip(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 100 else f"{text[:97]}..."


def _library() -> ModuleType:
    """Return safetensors, with its side for NumPy arrays."""
    try:
        import safetensors.numpy  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(
            'model files need safetensors: pip install "siglin[files]"'
        ) from error
    return safetensors
