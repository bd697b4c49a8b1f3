"""Reading: everything is checked before a record comes of it."""

import math
import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from types import ModuleType
from typing import Any

import numpy as np

from siglin._data.arrays import (
    FLOAT32,
    FLOAT64,
    Array,
    DType,
    check_flag,
    check_integer,
)
from siglin._losses import WITH_NUMBER
from siglin._plan import Plan
from siglin.errors import ModelFormatError
from siglin.files._record import (
    FORMAT,
    KEY,
    KEYS,
    MAX_HEADER,
    NETWORK_KEYS,
    Flaw,
    Record,
    checksum,
    clip,
    find_library,
    generator_of,
    plan_of,
    short,
)

MAX_BYTES = 2**31

# How files of other kinds begin, where people might try them.
OTHER_KINDS = {
    b"\x80": "a pickle; pickled data is refused, since reading it can run any program",
    b"PK": "a zip archive, such as .npz, .keras or PyTorch's .pt; those may hold pickled "
    "data, which is refused",
    b"\x93NUMPY": "a single NumPy array",
    b"\x89HDF": "HDF5",
}


def load(
    path: str | os.PathLike[str],
    *,
    allow_nonfinite: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Record:
    """Return the record that a file holds.

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
    Record
        Equal to the bit to what was saved.

    Raises
    ------
    ModelFormatError
        If the file is damaged, of another kind, from a newer siglin, too large, or
        contradicts itself. The message names the file and what is wrong with it.
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
    >>> record = siglin.files.load("neuron.safetensors")
    >>> record.kind, record.plan.sizes, record.params
    ('Neuron', (2, 1), array([0., 0.]))
    """
    library = find_library()
    allow_nonfinite = check_flag("load", "allow_nonfinite", allow_nonfinite)
    max_bytes = check_integer("load", "max_bytes", max_bytes, 1)
    name = os.fsdecode(path)
    try:
        return _load(library, name, allow_nonfinite, max_bytes)
    except Flaw as flaw:
        raise ModelFormatError(f"load: {name}: {flaw}") from None
    except RecursionError:
        raise ModelFormatError(f"load: {name}: nested too deeply") from None


def _load(
    library: ModuleType, name: str, allow_nonfinite: bool, max_bytes: int
) -> Record:
    def without_waiting(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its writer

    with open(name, "rb", opener=without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Flaw("not a regular file")
        if status.st_size > max_bytes:
            raise Flaw(
                f"{status.st_size} bytes, more than max_bytes = {max_bytes} allows"
            )
        start = _read_start(file, status.st_size)
        about, shapes = _read_header(start[8:])
        plan = plan_of(about)
        generator = generator_of(about)
        dtype = _check_tensors(plan, about, shapes)
        count = sum(math.prod(shape) for shape in plan.shapes().values())
        stored = status.st_size - len(start)
        if stored != count * dtype.itemsize:
            raise Flaw(
                f"{stored} bytes of weights, the architecture has {count} parameters "
                f"of {dtype}"
            )
        params = _read_params(library, file, start, status.st_size, plan, dtype)
    if checksum(about, params) != about["sha256"]:
        raise Flaw("the weights or the architecture are not those that were saved")
    if not allow_nonfinite:
        _check_finite(plan, params)
    return Record(about["kind"], plan, params, generator)


def _read_start(file: BufferedReader, size: int) -> bytes:
    """Return the first eight bytes, which tell the header's length, and the header."""
    length = file.read(8)
    for beginning, kind in OTHER_KINDS.items():
        # A header may be as long as a pickle's first byte says, but then { is next.
        if length.startswith(beginning) and file.peek(1)[:1] != b"{":
            raise Flaw(f"not a safetensors file but {kind}")
    if size < 8:
        raise Flaw(f"not a safetensors file: only {size} bytes")
    header_size = int.from_bytes(length, "little")
    if file.peek(1)[:1] != b"{":
        raise Flaw("not a safetensors file")
    if header_size > MAX_HEADER:
        raise Flaw(f"a header of {header_size} bytes; at most {MAX_HEADER} are read")
    if header_size > size - 8:
        raise Flaw(
            f"cut off: its header has {header_size} bytes, {size - 8} of them are there"
        )
    header = file.read(header_size)
    if len(header) != header_size:
        raise Flaw("it changed while it was read")
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
        raise Flaw("it changed while it was read")
    try:
        tensors: dict[str, Array] = library.numpy.load(data)
    except library.SafetensorError as error:
        raise Flaw(f"not a safetensors file: {clip(str(error))}") from None
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
        raise Flaw("a safetensors file, but not siglin's: its metadata has no 'siglin'")
    about = _parse("its architecture", text)
    version = about.get("format")
    if type(version) is not int or version < 1:
        raise Flaw(f"format must be {FORMAT}, got {short(version)}")
    if version > FORMAT:
        raise Flaw(
            f"format {short(version)} is newer than {FORMAT}, the newest that this "
            f"siglin reads; a newer siglin is needed"
        )
    wanted = KEYS if about.get("kind") == "Perceptron" else NETWORK_KEYS
    if about.get("loss") in WITH_NUMBER:
        wanted = wanted | {"loss_number"}
    for key in sorted(wanted ^ about.keys()):
        what = "lacks" if key in wanted else "has an unknown"
        raise Flaw(f"its architecture {what} {short(key)}")
    return about, tensors


def _parse(what: str, text: bytes | str) -> dict[str, Any]:
    """Return the JSON object that the text holds."""
    import json  # noqa: PLC0415  not at every import of siglin

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in names if names.count(name) > 1)
            raise Flaw(f"{what} has {short(double)} twice")
        return found

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")  # strictly; json would guess among encodings
        found = json.loads(text, object_pairs_hook=once)
    except ValueError as error:  # UnicodeDecodeError too
        raise Flaw(f"{what} is not JSON: {clip(str(error))}") from None
    if not isinstance(found, dict):
        raise Flaw(f"{what} is not a JSON object")
    return found


def _check_tensors(
    plan: Plan, about: Mapping[str, Any], found: Mapping[str, Any]
) -> DType:
    """Return the dtype, once the header's tensors are those of the plan."""
    dtype = FLOAT32 if about["dtype"] == "float32" else FLOAT64
    code = f"F{8 * dtype.itemsize}"
    shapes = plan.shapes()
    for name in found.keys() - shapes.keys():
        raise Flaw(f"a tensor {short(name)} that the architecture does not have")
    for name, shape in shapes.items():
        if name not in found:
            raise Flaw(f"the tensor {name!r} is missing")
        tensor = found[name]
        if not isinstance(tensor, dict):
            raise Flaw(f"the tensor {name!r} is not described by a JSON object")
        if tensor.get("dtype") != code:
            raise Flaw(
                f"the tensor {name!r} must have dtype '{code}', "
                f"got {short(tensor.get('dtype'))}"
            )
        if tensor.get("shape") != list(shape):
            raise Flaw(
                f"the tensor {name!r} must have shape {list(shape)}, "
                f"got {short(tensor.get('shape'))}"
            )
    return dtype


def _check_finite(plan: Plan, params: Array) -> None:
    for name, view in plan.views(params).items():
        if not np.isfinite(view).all():
            raise Flaw(
                f"the tensor {name!r} contains NaN or infinity; "
                f"allow_nonfinite=True takes it as it is"
            )
