"""How the house is built: no import circle, no file that needs a table of contents."""

import ast
from pathlib import Path

import pytest

import siglin

PACKAGE = Path(siglin.__file__).parent
ROOT = Path(__file__).resolve().parents[1]

LONGEST = 600  # lines

# Files that are longer still. One that is not any more has to leave this list.
LONGER: set[str] = set()

# Imports that go round in a circle, as sorted groups. One that is cut has to leave too.
CIRCLES: set[tuple[str, ...]] = set()


def module_name(path, package=PACKAGE):
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(name, source, known, *, is_package=False):
    """Return the package's modules that a source imports, in functions too.

    An import for type checkers alone counts: to a reader it is an arrow like any other.
    That of the package itself (``import siglin``) is left out: it is how a user comes in.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + is_package]
                start = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inside = f"{start}.{alias.name}"
                if inside in known:
                    found.add(inside)
                elif start in known:
                    found.add(start)
    return found - {name, "siglin"}


def circles(graph):
    """Return the groups of modules that import each other, directly or not, sorted."""
    order, low, stack, groups = {}, {}, [], set()

    def visit(name):
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1 or name in graph.get(name, ()):
                groups.add(tuple(sorted(group)))

    for name in graph:
        if name not in order:
            visit(name)
    return groups


def import_graph():
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    return {
        name: imports_of(
            name,
            path.read_text(encoding="utf-8"),
            set(paths),
            is_package=path.name == "__init__.py",
        )
        for name, path in paths.items()
        if name != "siglin"  # it imports what it offers
    }


def test_no_import_goes_round_in_a_circle():
    graph = import_graph()
    assert "siglin._training.engine" in graph["siglin._network"]
    assert circles(graph) == CIRCLES


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"a"}}, {("a", "b")}),
        ({"d": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a"}}, {("a", "b", "c")}),
        (
            {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}},
            {("a", "b"), ("c", "d")},
        ),
    ],
)
def test_a_circle_is_found(graph, expected):
    assert circles(graph) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import siglin.b", {"siglin.b"}),
        ("from siglin import b", {"siglin.b"}),
        ("from siglin.b import f", {"siglin.b"}),
        ("from . import b", {"siglin.b"}),
        ("def f():\n    from siglin.b import g", {"siglin.b"}),
        ("if TYPE_CHECKING:\n    from siglin.b import g", {"siglin.b"}),
        ("import siglin\nimport numpy\nfrom siglin import f", set()),
    ],
)
def test_an_import_is_seen(source, expected):
    known = {"siglin", "siglin.a", "siglin.b"}
    assert imports_of("siglin.a", source, known) == expected


def test_no_file_is_too_long():
    files = [*ROOT.glob("python/siglin/**/*.py*"), *ROOT.glob("csrc/**/*.*")]
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_bytes().splitlines())
        for path in files
        if path.suffix in {".py", ".pyi", ".h", ".cpp", ".inc"}
    }
    assert len(lines) > 100
    assert {name for name, count in lines.items() if count > LONGEST} == LONGER
