"""Checks of the built distributions, called by .ci/run.

python checks.py sdist <file>     it holds what a build and the tests need, nothing else
python checks.py wheel <file>     it holds the package alone, stripped and small
python checks.py import-cost      `import siglin` costs little beyond `import numpy`
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

WHEEL_LIMIT = 1_300_000  # bytes
IMPORT_LIMIT = 0.030  # seconds
IMPORT_ROUNDS = 40
LIBRARIES = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"}
LOADER = "ld-linux"  # needed on some architectures
# The module itself, and what threadpoolctl looks for and calls.
EXPORTS = {"PyInit__core", "siglin_get_num_threads", "siglin_set_num_threads"}
SHIPPED = {"siglin/py.typed", "siglin/_core.pyi", "siglin/lecture/iris.csv"}


def check(condition: bool, message: str) -> None:
    """Stop with the message unless the condition holds."""
    if not condition:
        sys.exit(message)


def check_sdist(path: Path) -> None:
    """Look for the sources, the tests, and files that should have stayed at home."""
    with tarfile.open(path) as archive:
        paths = [PurePosixPath(name) for name in archive.getnames()]
    names = {PurePosixPath(*path.parts[1:]) for path in paths}
    needed = [
        "pyproject.toml",
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "csrc/dispatch.cpp",
    ]
    needed += ["python/siglin/_core.pyi", "tests/test_package.py"]
    for name in needed:
        check(PurePosixPath(name) in names, f"{path.name} lacks {name}")
    stray = [
        n for n in names if n.suffix in {".so", ".o", ".pyc"} or "build" in n.parts
    ]
    check(not stray, f"{path.name} holds {sorted(map(str, stray))}")
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e3:.0f} kB")


def check_wheel(path: Path) -> None:
    """Look at the names in the wheel, its size, and what the module asks of the loader."""
    size = path.stat().st_size
    print(f"{path.name}: {size / 1e3:.0f} kB, limit {WHEEL_LIMIT / 1e3:.0f} kB")
    check(size < WHEEL_LIMIT, f"{path.name} is too big")
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = set(archive.namelist())
        modules = [name for name in names if name.endswith(".so")]
        check(len(modules) == 1, f"expected one compiled module, got {modules}")
        check_module(Path(archive.extract(modules[0], folder)))
    check(names >= SHIPPED, f"{path.name} lacks {sorted(SHIPPED - names)}")
    allowed = {".py", ".pyi", ".typed", ".csv", ".so"}
    for name in map(PurePosixPath, names):
        in_package = name.parts[0] == "siglin" and name.suffix in allowed
        is_metadata = name.parts[0].endswith(".dist-info")
        check(in_package or is_metadata, f"{path.name} holds {name}")


def check_module(path: Path) -> None:
    """Look for symbols, unexpected libraries, and exported names."""
    sections = output("readelf", "--section-headers", "--wide", str(path))
    check(".symtab" not in sections, f"{path.name} is not stripped")
    for line in output("readelf", "--dynamic", "--wide", str(path)).splitlines():
        check("RPATH" not in line and "RUNPATH" not in line, f"{path.name}: {line}")
        if "(NEEDED)" in line:
            library = line.split("[")[1].rstrip("]")
            known = library in LIBRARIES or library.startswith(LOADER)
            check(known, f"{path.name} needs {library}")
    lines = output("nm", "--dynamic", "--defined-only", str(path)).splitlines()
    names = {line.split()[-1] for line in lines}
    check(names == EXPORTS, f"{path.name} exports {names}")
    check_hardening(path)


def check_hardening(path: Path) -> None:
    """Look for what makes an error in the module harder to exploit."""
    dynamic = output("readelf", "--dynamic", "--wide", str(path))
    check("BIND_NOW" in dynamic, f"{path.name}: its links can be written to later")
    segments = output("readelf", "--segments", "--wide", str(path))
    check("GNU_RELRO" in segments, f"{path.name}: no read-only relocations")
    # Without this segment the loader would make stacks executable.
    check("GNU_STACK" in segments, f"{path.name}: an executable stack")
    check("RWE" not in segments, f"{path.name}: memory to write to and to execute")
    needed = output("nm", "--dynamic", "--undefined-only", str(path))
    check("__stack_chk_fail" in needed, f"{path.name}: no stack protector")


def check_import_cost() -> None:
    """Time the import of siglin where numpy is loaded: the fastest of several processes.

    In processor time, which leaves out what other programs take. The difference of two
    whole imports would be noise: each takes ten times as long.
    """
    program = (
        "import numpy, time; t = time.process_time(); "
        "import siglin; print(time.process_time() - t)"
    )
    cost = min(
        float(output(sys.executable, "-c", program)) for _ in range(IMPORT_ROUNDS)
    )
    print(
        f"import siglin: {1e3 * cost:.1f} ms beyond numpy's, "
        f"limit {1e3 * IMPORT_LIMIT:.0f} ms (fastest of {IMPORT_ROUNDS})"
    )
    check(cost < IMPORT_LIMIT, "import siglin takes too long")


def output(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    match sys.argv[1:]:
        case ["sdist", path]:
            check_sdist(Path(path))
        case ["wheel", path]:
            check_wheel(Path(path))
        case ["import-cost"]:
            check_import_cost()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
