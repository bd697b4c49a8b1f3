"""The one definition rule: an object of one target shares no symbol with another's.

An inline function compiled for two targets is one weak symbol, and the linker may keep the
copy that this CPU can't run. So the only external symbol of a target's object is its table.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from siglin import _core

CSRC = Path(__file__).resolve().parents[1] / "csrc"
COMPILER = os.environ.get("CXX", "c++")
WIDEST_REGISTER = {"x86_v2": "xmm", "x86_v3": "ymm", "x86_v4": "zmm"}

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C++ compiler"),
    pytest.mark.skipif(shutil.which("nm") is None, reason="no nm (binutils)"),
]


def target_flags():
    """Return the flags of each target, from the list that CMake reads."""
    text = (CSRC / "targets.cmake").read_text(encoding="utf-8")
    entries = re.findall(r"^\s*siglin_add_target\((\w+)([^)]*)\)", text, re.MULTILINE)
    # Less their optimisation levels: that of compile_object's caller is to hold.
    return {
        name: [one for one in flags.replace('"', " ").split() if one[:2] != "-O"]
        for name, flags in entries
    }


def compile_object(source, path, *flags):
    command = [
        COMPILER,
        "-std=c++20",
        "-fPIC",
        *flags,
        "-c",
        str(source),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    return path


def nm(path, *options):
    """Return (type letter, demangled name) of each symbol."""
    command = ["nm", "--demangle", *options, str(path)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [tuple(line[17:].split(" ", 1)) for line in listing.splitlines()]


def external_symbols(path):
    # Lower case is local, except for weak (v, w) and unique (u) symbols.
    symbols = nm(path, "--defined-only")
    return sorted(s for s in symbols if s[0].isupper() or s[0] in "uvw")


@pytest.fixture(scope="module", params=_core.compiled_targets())
def target_object(request, tmp_path_factory):
    """The name and the object file of a target of this architecture."""
    name = request.param
    path = tmp_path_factory.mktemp("objects") / f"{name}.o"
    defines = [f"-DSIGLIN_TARGET={name}", f'-DSIGLIN_VEC_HEADER="vec_{name}.h"']
    # Without inlining, an inline function that is used leaves its symbol in the object.
    flags = ["-O1", "-fno-inline", f"-I{CSRC}", *defines, *target_flags()[name]]
    return name, compile_object(CSRC / "kernels" / "target.cpp", path, *flags)


def test_only_external_symbol_is_the_table(target_object):
    name, path = target_object
    assert external_symbols(path) == [("T", f"siglin::{name}::kernel_table()")]


def test_nothing_is_called_that_another_target_might_define(target_object):
    _, path = target_object
    needed = [name for _, name in nm(path, "--undefined-only")]
    assert [name for name in needed if "::" in name or "operator" in name] == []


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump (binutils)")
def test_object_uses_the_registers_of_its_target(target_object):
    name, path = target_object
    if name not in WIDEST_REGISTER:
        pytest.skip(f"{name} has one width of registers")
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(path)]
    code = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert max(re.findall(r"%([xyz]mm)", code)) == WIDEST_REGISTER[name]


def test_weak_and_stray_symbols_are_found(tmp_path):
    source = tmp_path / "planted.cpp"
    source.write_text(
        "inline int weak(int x) { return x + 1; }\n"
        "int stray(int x) { return weak(x); }\n"
        "namespace { int local(int x) { return x + 2; } }\n"
        "int (*address)(int) = local;\n",
        encoding="utf-8",
    )
    path = compile_object(source, tmp_path / "planted.o", "-O0")
    assert external_symbols(path) == [
        ("D", "address"),
        ("T", "stray(int)"),
        ("W", "weak(int)"),
    ]
