"""Which targets there are, and how one is chosen."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core

WITH_FMA = [name for name in siglin.targets() if name != "x86_v2"]


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


def results(name: str) -> list[npt.NDArray[Any]]:
    """Return what a target gives for all kinds of operations, in float32."""
    rng = np.random.default_rng(3)
    shapes = [(41, 300), (300, 37), (37,), (41, 37)]
    x, w, b, da = (rng.normal(size=s).astype(np.float32) for s in shapes)
    w /= 10
    before = siglin.target()
    _core.use_target(name)
    try:
        assert siglin.target() == name
        found = []
        for activation in ("sigmoid", "tanh", "leaky_relu"):
            z = _core.forward(x, w, b, "identity")
            a = _core.activate(z, activation)
            dx, dw, db = _core.backward(x, w, a, da, activation, z)
            _core.update(dw, dw.copy(), 0.3)
            assert dx is not None
            found += [z, a, dx, dw, db]
        return found
    finally:
        _core.use_target(before)


def test_targets_agree_but_for_rounding() -> None:
    first, *others = (results(name) for name in siglin.targets())
    for other in others:
        for got, want in zip(other, first, strict=True):
            # Values of about 1 from chains of 300 roundings of 6e-8.
            assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max()


@pytest.mark.skipif(len(WITH_FMA) < 2, reason="this CPU runs one target with fma")
def test_targets_with_fma_give_the_same_bits() -> None:
    first, *others = (results(name) for name in WITH_FMA)
    for other in others:
        for got, want in zip(other, first, strict=True):
            assert_same_bits(got, want)


def test_a_refused_target_says_what_there_is() -> None:
    for name in ("", "mmx", "x86_v5", "X86_V3", "x86_v2 "):
        with pytest.raises(RuntimeError) as caught:
            _core.use_target(name)
        message = str(caught.value)
        assert message.startswith(f"unknown or unsupported target '{name}'; ")
        assert f"runs: {', '.join(siglin.targets())};" in message
        assert message.endswith(f"compiled: {', '.join(_core.compiled_targets())}")


def test_compiled_targets_this_cpu_lacks_are_refused() -> None:
    missing = set(_core.compiled_targets()) - set(siglin.targets())
    for name in missing:
        with pytest.raises(RuntimeError, match=f"unsupported target '{name}'"):
            _core.use_target(name)
        result = run(name)
        assert result.returncode == 1
        assert f"SIGLIN_TARGET: unknown or unsupported target '{name}'" in result.stderr
