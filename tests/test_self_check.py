"""The check at the import: a target that computes wrong numbers here is not used.

What is imported is a copy of the package whose compiled module is broken: an entry of a
target's table calls another function, which writes nothing, or a constant is flipped.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import siglin
from siglin import _core

PACKAGE = Path(siglin.__file__).parent
CSRC = Path(__file__).resolve().parents[1] / "csrc"
BEST = siglin.targets()[0]
REPORT = "import siglin; print(siglin.target(), siglin.sigmoid([0.0])[0])"
needs_two = pytest.mark.skipif(len(siglin.targets()) < 2, reason="one target runs here")


def operations() -> list[str]:
    """Return the entries of a table, in order; the optimisers have a list of their own."""
    every = (CSRC / "optimizers.inc").read_text()
    listed = (CSRC / "ops.inc").read_text().replace('#include "optimizers.inc"', every)
    pattern = r"^SIGLIN_(?:OP\(\w+, |OPTIMIZER\()(\w+),"
    return re.findall(pattern, listed, re.MULTILINE)


class Module:
    """The compiled module of a copy of the package, to be broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, folder / "siglin", ignore=ignore)
        self.path = folder / "siglin" / Path(_core.__file__).name
        self.bytes = bytearray(self.path.read_bytes())
        self.sections = self._read_sections()
        begin, size, _ = self.sections[".rela.dyn"]
        # Where the relocation of a place in memory has its addend, which the loader
        # writes there: for a pointer to a function of ours its address.
        self.addend_at = {
            struct.unpack_from("<Q", self.bytes, at)[0]: at + 16
            for at in range(begin, begin + size, 24)
        }

    def _read_sections(self) -> dict[str, tuple[int, int, int]]:
        """Return offset in the file, size and address of each section."""
        (start,) = struct.unpack_from("<Q", self.bytes, 40)
        size, count, names = struct.unpack_from("<HHH", self.bytes, 58)
        headers = [
            struct.unpack_from("<IIQQQQ", self.bytes, start + i * size)
            for i in range(count)
        ]
        texts = headers[names][4]
        return {
            self.bytes[texts + name :].split(b"\0", 1)[0].decode(): (
                at,
                length,
                address,
            )
            for name, _, _, address, at, length in headers
        }

    def addend(self, place: int) -> int | None:
        at = self.addend_at.get(place)
        return None if at is None else struct.unpack_from("<q", self.bytes, at)[0]

    def table(self, target: str) -> int:
        """Return the address of a target's table: its name, a size, and functions."""
        names = [
            address + match.start()
            for begin, size, address in self.sections.values()
            for match in re.finditer(
                target.encode() + b"\0", self.bytes[begin : begin + size]
            )
            if address
        ]
        for place in self.addend_at:
            if self.addend(place) in names and self.addend(place + 16) is not None:
                return place
        raise AssertionError(f"no table of {target}")

    def break_entry(self, target: str, name: str, dtype: str) -> None:
        """Let an entry of the table call pack_b_pays, which only looks at numbers."""
        names = operations()
        first = self.table(target) + 16
        if dtype == "float64":
            first += 8 * (len(names) + 2)  # the tile's rows and columns
        right = self.addend(first + 8 * names.index("pack_b_pays"))
        struct.pack_into(
            "<q", self.bytes, self.addend_at[first + 8 * names.index(name)], right
        )

    def flip(self, constant: bytes) -> None:
        """Change the sign of a constant, wherever the kernels have it."""
        flipped = constant[:-1] + bytes([constant[-1] ^ 0x80])
        assert constant in self.bytes
        self.bytes = self.bytes.replace(constant, flipped)

    def run(
        self, program: str = REPORT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        self.path.write_bytes(self.bytes)
        paths = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": paths, "SIGLIN_TARGET": "", **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def module(tmp_path: Path) -> Module:
    return Module(tmp_path)


def test_a_copy_that_is_not_broken_is_used_without_a_word(module: Module) -> None:
    result = module.run()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == [BEST, "0.5"]


@needs_two
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("activate", "sigmoid"),
        ("forward", "forward"),
        ("input_gradient", "input gradient"),
        ("weight_gradient", "weight gradient"),
        ("column_sums", "bias gradient"),
    ],
)
def test_the_next_target_runs_where_one_is_wrong(
    module: Module, entry: str, name: str, dtype: str
) -> None:
    module.break_entry(BEST, entry, dtype)
    result = module.run()
    following = siglin.targets()[1]
    assert result.stdout.split() == [following, "0.5"]
    message = (
        f"<string>:1: RuntimeWarning: on this machine the results are wrong of {BEST} "
        f"({name} in {dtype}); siglin uses {following} instead "
        f"(SIGLIN_TARGET={following} does so without a warning)\n"
    )
    assert result.stderr == message
    assert module.run(SIGLIN_TARGET=following).stderr == ""


@needs_two
def test_a_wrong_target_that_is_asked_for_is_an_error(module: Module) -> None:
    module.break_entry(BEST, "activate", "float32")
    wrong = f"on this machine the results are wrong of {BEST} (sigmoid in float32)"
    result = module.run(SIGLIN_TARGET=BEST)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"RuntimeError: SIGLIN_TARGET: {wrong}"
    program = f"""if True:
        import warnings
        warnings.simplefilter("ignore")
        import siglin
        before = siglin.target()
        try:
            siglin._core.use_target("{BEST}")
        except RuntimeError as error:
            print(error)
        print(siglin.target() == before)
    """
    assert module.run(program).stdout.splitlines() == [wrong, "True"]


def test_no_right_target_is_an_import_error(module: Module) -> None:
    for name in siglin.targets():
        module.break_entry(name, "forward", "float64")
    result = module.run()
    assert result.returncode == 1
    faults = ", ".join(f"{name} (forward in float64)" for name in siglin.targets())
    assert result.stderr.splitlines()[-1] == (
        f"ImportError: siglin: on this machine the results are wrong of every target: "
        f"{faults}"
    )


@pytest.mark.parametrize(
    ("dtype", "constant"),
    [
        ("float32", struct.pack("<f", float.fromhex("0x1.62e4p-1"))),
        ("float64", struct.pack("<d", float.fromhex("0x1.62e42fefa38p-1"))),
    ],
)
def test_a_flipped_constant_is_found(
    module: Module, dtype: str, constant: bytes
) -> None:
    module.flip(constant)
    result = module.run()
    assert result.returncode == 1
    assert f"{BEST} (sigmoid in {dtype})" in result.stderr.splitlines()[-1]


@pytest.mark.timing
def test_the_check_takes_less_than_a_millisecond(target: str) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        _core.use_target(target)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(20)) < 1e-3
