"""A record of a model, and the metadata that describe it in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from siglin._data.arrays import Array, check_choice, check_flag, check_size
from siglin._losses import OUTPUTS, WITH_NUMBER
from siglin._plan import OUTPUT_ACTIVATIONS, Plan, check_activations

FORMAT = 1
KEY = "siglin"
KEYS = {"format", "kind", "sizes", "activations", "biases", "dtype", "sha256"}
NETWORK_KEYS = KEYS | {"loss", "generator"}

# A header of so many layers has about 200 kB; the library itself would take 100 MB.
MAX_HEADER = 2**20
MAX_LAYERS = 1024


@dataclass(frozen=True)
class Record:
    """What a file holds of a model.

    Attributes
    ----------
    kind : str
        "Network", "Neuron" or "Perceptron".
    plan : Plan
        Its loss is "" for a perceptron.
    params : ndarray, shape (n_params,)
    generator : ndarray of uint64, shape (4,), or None
        State of the generator; None for a perceptron, which has none.
    """

    kind: str
    plan: Plan
    params: Array
    generator: npt.NDArray[np.uint64] | None = None


class Flaw(Exception):
    """What is wrong with a file."""


# ---- from a record -------------------------------------------------------------------


def describe(record: Record) -> dict[str, Any]:
    """Return what the metadata holds."""
    plan, params = record.plan, record.params
    layers = len(plan.biases)
    if layers > MAX_LAYERS:
        msg = f"save: a file holds at most {MAX_LAYERS} layers, got {layers}"
        raise ValueError(msg)
    about: dict[str, Any] = {"format": FORMAT, "dtype": params.dtype.name}
    about |= {"kind": record.kind, "sizes": plan.sizes}
    about |= {"activations": plan.activations, "biases": plan.biases}
    if record.generator is not None:
        about["loss"] = plan.loss
        if plan.loss_number:
            about["loss_number"] = plan.loss_number
        about["generator"] = "".join(f"{word:016x}" for word in record.generator)
    return about | {"sha256": checksum(about, params)}


def checksum(about: Mapping[str, Any], params: Array) -> str:
    import hashlib  # noqa: PLC0415  not at every import of siglin

    described = {name: about[name] for name in about if name != "sha256"}
    digest = hashlib.sha256(dump(described).encode())
    digest.update(params.data)
    return digest.hexdigest()


def dump(about: Mapping[str, Any]) -> str:
    import json  # noqa: PLC0415  not at every import of siglin

    return json.dumps(about, sort_keys=True, separators=(",", ":"))


# ---- to a record ---------------------------------------------------------------------


def plan_of(about: Mapping[str, Any]) -> Plan:
    """Return the plan that the metadata describe, with a Flaw for what is impossible."""
    kind, sizes, names, biases = (
        about[key] for key in ("kind", "sizes", "activations", "biases")
    )
    for key in ("sizes", "activations", "biases"):
        if not isinstance(about[key], list | tuple):
            raise Flaw(f"{key} must be a list, got {short(about[key])}")
    layers = len(sizes) - 1
    if not 1 <= layers <= MAX_LAYERS:
        raise Flaw(f"it must have 1 to {MAX_LAYERS} layers, got {layers}")
    if len(names) != layers or len(biases) != layers:
        raise Flaw(
            f"{layers} layers with {len(names)} activations and {len(biases)} biases"
        )
    try:
        check_choice("", "kind", kind, ("Network", "Neuron", "Perceptron"))
        check_choice("", "dtype", about["dtype"], ("float32", "float64"))
        for i, size in enumerate(sizes):
            check_size("", f"sizes[{i}]", size)
        for i, (name, bias) in enumerate(zip(names, biases, strict=True)):
            check_choice("", f"activations[{i}]", name, OUTPUT_ACTIVATIONS)
            check_flag("", f"biases[{i}]", bias)
        if kind == "Perceptron":
            loss, number = "", 0.0
        else:
            loss = check_choice("", "loss", about["loss"], tuple(OUTPUTS))
            number = _loss_number(loss, about)
            check_activations(names, loss)
    except (TypeError, ValueError) as error:
        raise Flaw(clip(str(error).partition(": ")[2])) from None
    if kind != "Network":
        output = "sigmoid" if kind == "Neuron" else "step"
        if layers != 1 or sizes[1] != 1 or names[0] != output:
            raise Flaw(f"a {kind} is one {output} unit; its architecture is another")
    return Plan(tuple(sizes), tuple(names), tuple(biases), loss, number)


def _loss_number(loss: str, about: Mapping[str, Any]) -> float:
    """Return the number that goes with a loss, or raise ValueError or TypeError."""
    if loss not in WITH_NUMBER:
        return 0.0
    number = about["loss_number"]
    if not isinstance(number, float) or number == 0:
        raise ValueError(f": loss_number must be a number > 0, got {short(number)}")
    return WITH_NUMBER[loss](number).number


def generator_of(about: Mapping[str, Any]) -> npt.NDArray[np.uint64] | None:
    """Return the generator's state; None of a perceptron, which has none."""
    if about["kind"] == "Perceptron":
        return None
    text = about["generator"]
    digits = set("0123456789abcdef")
    if not isinstance(text, str) or len(text) != 64 or not set(text) <= digits:
        raise Flaw(f"generator must be 64 hexadecimal digits, got {short(text)}")
    state = np.array([int(text[i : i + 16], 16) for i in range(0, 64, 16)], np.uint64)
    if not state.any():
        raise Flaw("generator is all zeros, a state that it never leaves")
    return state


# ---- both ----------------------------------------------------------------------------


def short(value: object) -> str:
    """Return a value as a message may show it, however long or strange it is."""
    return clip(ascii(value))


def clip(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 100 else f"{text[:97]}..."


def find_library() -> ModuleType:
    """Return safetensors, with its side for NumPy arrays."""
    try:
        import safetensors.numpy  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(
            'model files need safetensors: pip install "siglin[files]"'
        ) from error
    return safetensors
