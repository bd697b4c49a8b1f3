"""The package as installed: its version, files, names, examples, and what it must not do."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import siglin

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(siglin.__file__).parent

FUNCTIONS = ["sigmoid", "forward", "backward", "backward_update", "update"]
MODELS = ["Dense", "Network", "Neuron", "Perceptron", "load"]
RESULTS = ["Gradients", "History"]
OPTIMIZERS = ["GradientDescent", "Momentum", "Nesterov", "Adam", "AdamW"]
LOSSES = ["Huber", "Quantile", "losses"]
ERRORS = ["SiglinError", "ShapeError", "DTypeError", "ModelFormatError"]
ERRORS += ["DivergenceError"]
THREADS = ["set_num_threads", "get_num_threads", "num_threads"]
ABOUT = ["reference", "convert", "targets", "target", "build_info", "self_test"]
PUBLIC = [
    *FUNCTIONS,
    *MODELS,
    *RESULTS,
    *OPTIMIZERS,
    *LOSSES,
    *ERRORS,
    *THREADS,
    *ABOUT,
]

# Imported by what siglin only sometimes needs, or by its tests.
HEAVY = ["matplotlib", "pandas", "safetensors", "scipy", "sklearn"]
HEAVY += ["threadpoolctl", "tqdm"]

CODE_LOADERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib"}
CODE_LOADERS |= {"marshal", "shelve", "yaml"}
CODE_RUNNERS = {"eval", "exec", "__import__"}

# They trade exact results for speed, or the one machine for all others; the first two also
# switch off subnormals in the whole process that loads the module.
FORBIDDEN_FLAGS = [
    "-ffast-math",
    "-Ofast",
    "-funsafe-math-optimizations",
    "-march=native",
    "-mtune=native",
]


def module_names():
    walk = pkgutil.walk_packages([str(PACKAGE)], prefix="siglin.")
    names = [info.name for info in walk if not info.name.endswith("__main__")]
    return ["siglin", *names]


# Version and files.


def test_version_is_the_one_of_the_metadata():
    assert siglin.__version__ == metadata.version("siglin")


def test_version_is_the_one_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{siglin.__version__}"\n' in text


def test_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert version is not None
    assert version[1] == siglin.__version__


@pytest.mark.parametrize("name", ["py.typed", "_core.pyi", "lecture/iris.csv"])
def test_file_is_installed(name):
    assert (PACKAGE / name).is_file()


def test_package_is_not_the_source_tree():
    assert not PACKAGE.is_relative_to(ROOT / "python")


def test_stub_names_what_the_core_has():
    stub = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
    declared = {
        n.name for n in stub.body if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }
    present = {name for name in dir(siglin._core) if not name.startswith("_")}
    assert declared == present


# Public names.


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_exists(name):
    assert name in siglin.__all__
    assert hasattr(siglin, name)


def test_all_names_exist_once():
    assert len(set(siglin.__all__)) == len(siglin.__all__)
    assert [name for name in siglin.__all__ if not hasattr(siglin, name)] == []


def test_reference_has_the_same_signatures():
    for name in FUNCTIONS:
        ours = inspect.signature(getattr(siglin, name))
        theirs = inspect.signature(getattr(siglin.reference, name))
        plain = [(p.name, p.kind, p.default) for p in ours.parameters.values()]
        assert plain == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ]


def test_import_loads_nothing_heavy():
    program = (
        f"import sys; import siglin; print([m for m in {HEAVY} if m in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


# Examples.

DOCTEST_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run_doctest(test, **options):
    """Return the report of a doctest's failures; "" if it has none."""
    report = []
    runner = doctest.DocTestRunner(optionflags=DOCTEST_FLAGS)
    runner.run(test, out=report.append, **options)
    return "".join(report)


@pytest.fixture
def scratch_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.usefixtures("scratch_folder")
@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings(name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(importlib.import_module(name), name)
    assert "".join(run_doctest(test) for test in tests) == ""


def test_a_wrong_example_is_reported():
    test = doctest.DocTestParser().get_doctest(
        ">>> 1 + 1\n3\n", {}, "planted", None, None
    )
    assert "Expected" in run_doctest(test)


def public_objects():
    objects = [(name, getattr(siglin, name)) for name in siglin.__all__]
    return [
        pytest.param(thing, id=name)
        for name, thing in objects
        if inspect.isroutine(thing)
        or (inspect.isclass(thing) and not issubclass(thing, Exception))
    ]


@pytest.mark.parametrize("thing", public_objects())
def test_public_docstring_has_an_example(thing):
    assert ">>> " in (inspect.getdoc(thing) or "")


def python_blocks(markdown):
    """Return (line number, text) of each fenced block of Python."""
    fence = re.compile(r"^```(?:python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        (markdown[: match.start(1)].count("\n"), match[1])
        for match in fence.finditer(markdown)
    ]


def run_block(line, text, namespace):
    """Run one block of README.md; return the report if it prints not what it shows."""
    if text.lstrip().startswith(">>>"):
        parser = doctest.DocTestParser()
        test = parser.get_doctest(text, namespace, "README", "README.md", line)
        report = run_doctest(test, clear_globs=False)
        namespace.update(test.globs)
        return report
    # The empty lines make a traceback point at README's own line.
    code = compile("\n" * line + text, "README.md", "exec")
    exec(code, namespace)  # noqa: S102 - the text is our own
    return ""


@pytest.mark.usefixtures("scratch_folder")
def test_examples_in_readme():
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert blocks
    namespace = {"__name__": "readme"}
    for line, text in blocks:
        # What others' users come from; nothing after it needs it.
        if not is_foreign(text) or importlib.util.find_spec("torch"):
            assert run_block(line, text, namespace) == ""


def is_foreign(text):
    """Tell whether a block runs another library that is not installed for the tests."""
    return text.startswith("import torch\n")


def test_only_the_guide_from_pytorch_needs_pytorch():
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    foreign = [text for _, text in blocks if "torch." in text]
    assert [is_foreign(text) for text in foreign] == [True]


def test_readme_blocks_share_names_and_are_checked():
    markdown = "```python\nx = 2\n```\n\n```pycon\n>>> x\n3\n```\n"
    (first, second), namespace = python_blocks(markdown), {}
    assert run_block(*first, namespace) == ""
    assert "Got:\n    2" in run_block(*second, namespace)


# What must not be there.


def ways_to_run_code(source):
    """Return the names in a Python source that load or run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [a.name for a in names if a.name.split(".")[0] in CODE_LOADERS]
            case ast.ImportFrom(module=str(module)):
                found += [module] * (module.split(".")[0] in CODE_LOADERS)
            case ast.Call(func=ast.Name(id=name)) if name in CODE_RUNNERS:
                found.append(name)
            case ast.keyword(arg="allow_pickle", value=value):
                harmless = isinstance(value, ast.Constant) and value.value is False
                found += ["allow_pickle"] * (not harmless)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, yaml as y",
        "def f():\n    from marshal import loads",
        "import joblib.numpy_pickle",
        "eval('1')",
        "x = [exec(s) for s in t]",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
    ],
)
def test_a_way_to_run_code_is_found(source):
    assert len(ways_to_run_code(source)) == 1


def test_package_has_no_way_to_run_code_from_data():
    sources = sorted(PACKAGE.rglob("*.py"))
    assert PACKAGE / "__init__.py" in sources
    found = {p.name: ways_to_run_code(p.read_text(encoding="utf-8")) for p in sources}
    assert {name: ways for name, ways in found.items() if ways} == {}


def forbidden_flags(text):
    """Return the forbidden compiler flags in a build file, comments aside."""
    lines = [line.split("#")[0] for line in text.splitlines()]
    return [flag for flag in FORBIDDEN_FLAGS if any(flag in line for line in lines)]


def test_a_forbidden_flag_is_found():
    text = "# never -Ofast\nadd_compile_options(-O3 -march=native)\n"
    assert forbidden_flags(text) == ["-march=native"]


def test_build_uses_no_forbidden_flag():
    files = [ROOT / "CMakeLists.txt", ROOT / "pyproject.toml"]
    files += sorted((ROOT / "csrc").rglob("*.cmake"))
    found = {p.name: forbidden_flags(p.read_text(encoding="utf-8")) for p in files}
    assert {name: flags for name, flags in found.items() if flags} == {}
