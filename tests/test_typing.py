"""What a type checker sees of the package: README's snippets, and a name that is misspelt."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import siglin
from test_package import python_blocks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

# Other libraries need not be installed, or have types; nor need a reader's own functions.
SETTINGS = """
[mypy]
strict = True
disallow_untyped_defs = False
disallow_untyped_calls = False
follow_imports = silent
ignore_missing_imports = True
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed"
)


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """Return a function: what mypy --strict says of a source, by its line numbers.

    The source uses the installed package. One folder for all, as mypy keeps there what it
    knows of NumPy.
    """
    folder = tmp_path_factory.mktemp("typing")
    (folder / "mypy.ini").write_text(SETTINGS, encoding="utf-8")

    def check(source):
        (folder / "snippet.py").write_text(source, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "snippet.py"],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "MYPYPATH": str(Path(siglin.__file__).parents[1])},
        )
        assert result.stderr == ""
        found = re.findall(
            r"^snippet.py:(\d+): error: (.*)$", result.stdout, re.MULTILINE
        )
        assert len(found) == result.stdout.count("error: "), result.stdout
        return [(int(line), message) for line, message in found]

    return check


def program(block):
    """Return the code of a block, without prompts and results."""
    if not block.lstrip().startswith(">>>"):
        return block
    lines = [line for line in block.splitlines() if line[:3] in (">>>", "...")]
    return "\n".join(line[4:] for line in lines) + "\n"


MISTAKES = {
    "siglin.Networks([2, 1])": "Networks",
    "siglin.plto": "plto",
    "siglin.estimators.MLPClasifier()": "MLPClasifier",
    "siglin.plot.plot_bondary()": "plot_bondary",
    "siglin.reference.sigmiod(0)": "sigmiod",
    "siglin.convert.to_onxx()": "to_onxx",
    "siglin.Network([2, 1]).fit([[1]], [1], epcohs=2)": "epcohs",
    "siglin.Network([2, 1]).fit([[1]], [1], epochs='two')": "epochs",
    "siglin.Adam(beta3=0.1)": "beta3",
}


def test_snippets_of_the_readme_have_types(complaints):
    """They share their names, as a reader's session does."""
    blocks = [program(text) for _, text in python_blocks(README.read_text("utf-8"))]
    assert len(blocks) > 3
    assert complaints("\n".join(blocks)) == []


def test_each_mistake_is_an_error(complaints):
    found = complaints("\n".join(["import siglin", *MISTAKES]))
    assert [line for line, _ in found] == [*range(2, 2 + len(MISTAKES))]
    for (_, message), name in zip(found, MISTAKES.values(), strict=True):
        assert name in message


def test_lazy_modules_have_their_signatures(complaints):
    source = """import siglin

model: siglin.estimators.MLPClassifier = siglin.estimators.MLPClassifier()
net: siglin.Network = siglin.convert.from_sklearn(model)
a: int = siglin.reference.sigmoid(0.0)
"""
    ((line, message),) = complaints(source)
    assert line == 5
    assert "ndarray" in message
