"""The house: imports point down and run in no circle, every package says what it promises, and no two files of one
name mean different things. docs/map.md draws it."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = (
    "imports", "core", "networks", "ops", "sensitivity", "corruptions", "data", "method", "training", "contracts",
    "plugin_files", "registry", "protocols", "runs", "report", "commands",
)  # fmt: skip
"""From the bottom to the top. A module imports from its own layer and from those below it."""
INNER = {"report": ("tidy", "people", "figures")}
"""Layers within a package, likewise; modules that stand in none of these are above them."""
PLUGINS = {"methods": "method", "datasets": "data"}
"""What a method or a dataset of this project may import at most."""

Files = Mapping[str, str]
"""Sources by path below the repository, as benchmark/core/rng.py."""


def project() -> dict[str, str]:
    paths = [path for top in ("benchmark", *PLUGINS) for path in sorted((ROOT / top).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def module(path: str) -> str:
    """benchmark/core/rng.py -> benchmark.core.rng; a package's __init__.py is the package."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def layer(name: str) -> int | None:
    """Where a module of benchmark stands; None for the package itself and for what keeps its older paths."""
    parts = name.split(".")
    if parts[0] in PLUGINS:
        return LAYERS.index(PLUGINS[parts[0]])
    if name in ("benchmark", "benchmark.moved"):
        return None
    return LAYERS.index("commands" if parts[-1] == "__main__" or parts[1] not in LAYERS else parts[1])


def inner(name: str) -> int:
    """Where a module stands within its package."""
    parts = name.split(".")
    order = INNER.get(parts[1] if len(parts) > 1 else "", ())
    return order.index(parts[2]) if len(parts) > 2 and parts[2] in order else len(order)


@cache
def statements(source: str) -> list[ast.Import | ast.ImportFrom]:
    """All imports in a source. Most tests here ask for those of the same files."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(files: Files) -> dict[str, set[str]]:
    """For each module, the modules that it imports anywhere, in functions and for type checkers too."""
    known = {module(path) for path in files}
    graph: dict[str, set[str]] = {}
    for path, source in files.items():
        found = graph.setdefault(module(path), set())
        for node in statements(source):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "benchmark":
                assert node.level == 0, f"{path}:{node.lineno}: a relative import"
                whole = (f"{node.module}.{name.name}" for name in node.names)
                found |= {name if name in known else node.module for name in whole}
            elif isinstance(node, ast.Import):
                found |= {name.name for name in node.names if name.name.split(".")[0] == "benchmark"}
    return graph


def upward(files: Files) -> list[str]:
    """Imports that point up, as 'module -> module'."""
    wrong = []
    for name, found in imports(files).items():
        for other in sorted(found):
            here, there = layer(name), layer(other)
            if here is None or there is None:
                continue
            within = name.split(".")[:2] == other.split(".")[:2] and inner(other) > inner(name)
            if there > here or (within and not name.endswith("__main__")):
                wrong.append(f"{name} -> {other}")
    return wrong


def circles(files: Files) -> list[list[str]]:
    """Modules that import each other, directly or by way of others: each circle once."""
    graph = {name: found & set(map(module, files)) - {"benchmark"} for name, found in imports(files).items()}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reached = {name: reach(name) for name in graph}
    found = {
        tuple(sorted({other for other in reached[name] if name in reached[other]} | {name}))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def packages() -> Iterator[Path]:
    return (path.parent for path in sorted((ROOT / "benchmark").rglob("*.py")) if path.name == "__init__.py")


def test_imports_point_down() -> None:
    assert upward(project()) == []


def test_imports_run_in_no_circle() -> None:
    assert circles(project()) == []


@pytest.mark.parametrize(
    ("path", "line", "said"),
    [
        ("benchmark/core/rng.py", "from benchmark.report.people import page", "benchmark.core.rng -> benchmark.report"),
        ("benchmark/ops/augmix.py", "from benchmark import run", "benchmark.ops.augmix -> benchmark.run"),
        ("benchmark/training/loop.py", "import benchmark.runs.store", "training.loop -> benchmark.runs.store"),
        (
            "benchmark/report/tidy/rows.py",
            "from benchmark.report.figures import palette",
            "rows -> benchmark.report.fig",
        ),
        ("methods/erm.py", "from benchmark.training.loop import train", "methods.erm -> benchmark.training.loop"),
    ],
)
def test_an_upward_import_that_is_planted_is_found(path: str, line: str, said: str) -> None:
    files = project()
    files[path] = f"{files[path]}\n\ndef planted():\n    {line}\n"
    (found,) = upward(files)
    assert said in found


def test_a_circle_that_is_planted_is_found() -> None:
    files = project()
    files["benchmark/core/escaping.py"] += "\nfrom benchmark.core import errors\n"
    assert circles(files) == [["benchmark.core.errors", "benchmark.core.escaping"]]


def test_every_folder_with_code_is_a_package_with_a_promise() -> None:
    folders = {path.parent for path in (ROOT / "benchmark").rglob("*.py")}
    assert folders == set(packages())
    for folder in packages():
        promise = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert promise, f"{folder}: no promise"
        assert promise.splitlines()[0].endswith("."), f"{folder}: its promise is no sentence of one line"


def test_no_two_modules_have_one_name() -> None:
    stems = Counter(path.stem for path in (ROOT / "benchmark").rglob("*.py"))
    assert [name for name, count in stems.items() if count > 1 and not name.startswith("__")] == []


def test_tests_stand_where_what_they_test_stands() -> None:
    known = {path.name for path in (ROOT / "benchmark").iterdir() if path.is_dir()} | set(PLUGINS)
    own = {"commands", "docs", "faults", "gpu", "perf", "expected"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= known | own
