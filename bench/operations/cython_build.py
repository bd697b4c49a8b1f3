"""Build and load cython_kernels.pyx, the Cython contender of the benchmarks.

``load()`` compiles into ``bench/operations/_build/`` (a second call finds the result up to date) and
returns the module, or raises KernelsMissingError, whose text says what was missing.
The build runs in a process of its own, so that neither setuptools nor Cython is loaded
where times are taken.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).with_name("cython_kernels.pyx")
# One folder per interpreter, as a file built for one cannot be loaded by another.
BUILD = SOURCE.parent / "_build" / str(sysconfig.get_config_var("SOABI") or "default")


class KernelsMissingError(RuntimeError):
    """The Cython contender cannot be built here; the message says why."""


def build() -> None:
    """Compile SOURCE into BUILD with optimisation and otherwise the compiler's defaults.

    Changes the working directory: it is meant for a process of its own.

    -O3 switches the compiler's vectoriser on for its baseline instruction set; neither
    -march nor -ffast-math is given, as a package on an index could not give them either.
    """
    from Cython.Build import cythonize  # noqa: PLC0415 - only the building process has it
    from setuptools import Distribution, Extension  # noqa: PLC0415

    windows = sys.platform == "win32"
    # Relative to the source's folder, as both tools would rebuild the folders of an
    # absolute path inside the build folder.
    os.chdir(SOURCE.parent)
    folder = str(BUILD.relative_to(SOURCE.parent))
    extension = Extension(
        SOURCE.stem,
        [SOURCE.name],
        extra_compile_args=[] if windows else ["-O3"],
        libraries=[] if windows else ["m"],
    )
    modules = cythonize([extension], build_dir=folder, quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = folder
    command.build_temp = "."
    command.ensure_finalized()
    command.run()


@functools.cache
def load() -> ModuleType:
    """Return the compiled kernels, building them first where the source is newer.

    Raises
    ------
    KernelsMissingError
        If Cython, setuptools or a working C compiler is missing.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        check=False,
    )
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    binary = BUILD / (SOURCE.stem + suffix)
    if done.returncode != 0 or not binary.exists():
        lines = done.stderr.strip().splitlines() or ["no output"]
        message = f"the Cython kernels could not be built: {lines[-1]}"
        raise KernelsMissingError(message)
    spec = importlib.util.spec_from_file_location(SOURCE.stem, binary)
    if spec is None or spec.loader is None:
        message = f"the Cython kernels could not be loaded from {binary.name}"
        raise KernelsMissingError(message)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    build()
