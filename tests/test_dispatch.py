"""Which targets there are, and how one is chosen."""

import os
import subprocess
import sys

import pytest

import siglin
from siglin import _core


def run(target: str) -> subprocess.CompletedProcess[str]:
    """Import siglin in a process of its own under SIGLIN_TARGET=target."""
    return subprocess.run(
        [sys.executable, "-c", "import siglin; print(siglin.target())"],
        env={**os.environ, "SIGLIN_TARGET": target},
        capture_output=True,
        text=True,
        check=False,
    )


def test_targets_are_compiled_and_best_first() -> None:
    compiled = _core.compiled_targets()
    assert siglin.targets() == [name for name in compiled if name in siglin.targets()]
    assert siglin.targets()
    ranks = [name for name in ("x86_v4", "x86_v3", "x86_v2") if name in compiled]
    assert compiled in (ranks, ["neon"])


def test_best_target_runs_by_default() -> None:
    result = run("")
    assert result.stdout.strip() == siglin.targets()[0]


@pytest.mark.parametrize("name", siglin.targets())
def test_environment_picks_a_target(name: str) -> None:
    assert run(name).stdout.strip() == name


def test_unknown_target_is_an_error_that_lists_the_valid_ones() -> None:
    result = run("mmx")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: SIGLIN_TARGET: ")
    assert "'mmx'" in last
    assert all(name in last for name in siglin.targets())


def test_use_target_refuses_others() -> None:
    before = siglin.target()
    with pytest.raises(RuntimeError, match="unknown or unsupported target 'mmx'"):
        _core.use_target("mmx")
    assert siglin.target() == before


def test_self_test_passes(target: str) -> None:
    assert siglin.target() == target
    siglin.self_test()


def test_build_info_says_what_runs(target: str) -> None:
    info = siglin.build_info()
    assert info["target"] == target
    assert info["version"] == siglin.__version__
    assert info["targets"].split() == _core.compiled_targets()
    assert {"compiler", "architecture", "build_type"} <= info.keys()
