"""The machine, versions and threads the benchmarks run with.

Nothing is imported here that loads NumPy before ``drop_openblas_overrides`` has run.
"""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def drop_openblas_overrides() -> list[str]:
    """Unset the variables that pin OpenBLAS to another CPU or cache, and name them.

    With one of them set NumPy's products may run on kernels slower than this CPU's, and
    the comparison would flatter siglin.

    Raises
    ------
    RuntimeError
        If NumPy is loaded already: OpenBLAS read the variables when it was.
    """
    dropped = [name for name in OVERRIDES if name in os.environ]
    if dropped and "numpy" in sys.modules:
        unset = " ".join(f"-u {name}" for name in dropped)
        message = (
            f"{' and '.join(dropped)} slowed NumPy down before the benchmarks began; "
            f"run them as: env {unset} <the command>"
        )
        raise RuntimeError(message)
    for name in dropped:
        del os.environ[name]
    return dropped


def set_threads(n: int) -> None:
    """Let every BLAS use n threads from now on, and siglin where it has a thread team."""
    import numpy as np  # noqa: F401, PLC0415 - its BLAS has to be there to be set
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    import siglin  # noqa: PLC0415

    threadpool_limits(limits=n)
    if hasattr(siglin, "set_num_threads"):
        siglin.set_num_threads(n)


def cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def installed(name: str) -> str:
    """Return the version of an installed distribution, with its name."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def describe() -> dict[str, str]:
    """What a figure depends on beside the code; call it after ``set_threads``."""
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    import siglin  # noqa: PLC0415

    threads = siglin.get_num_threads() if hasattr(siglin, "get_num_threads") else 1
    blas = [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), "
        f"threads {pool['num_threads']}"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    build = ", ".join(f"{key} {value}" for key, value in siglin.build_info().items())
    return {
        "cpu": f"{cpu_name()}, {os.cpu_count()} CPUs",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(map(installed, ("siglin", "numpy", "cython"))),
        "target": siglin.target(),
        "threads": str(threads),
        "blas": "; ".join(blas) or "none",
        "build_info": build,
    }
