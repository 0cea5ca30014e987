"""Which code made a record: what changes the hash, and what does not."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmark import plugin_files, registry
from benchmark.runs import code_hash
from benchmark.runs.code_hash import file_hash, plugin_hash, referee_files
from benchmark.runs.job import code_of
from tests.conftest import ROOT

SOURCE = '''"""A module."""

import math

LIMIT = 3
"""At most."""


def area(radius: float) -> float:
    """Of a circle."""
    return math.pi * radius**2  # exactly
'''


def hash_of(tmp_path: Path, source: str) -> str:
    path = tmp_path / "one.py"
    path.write_text(source)
    return file_hash(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Said otherwise."""'),
        ('"""A module."""\n', ""),
        ('"""At most."""\n', ""),
        ('    """Of a circle."""\n', '    """Of a disc.\n\n    In square units."""\n'),
        ("  # exactly", ""),
        ("math.pi * radius**2", "(\n        math.pi\n        * radius ** 2\n    )"),
        ("\n\n\ndef", "\n\ndef"),
    ],
)
def test_what_changes_no_number_changes_no_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert hash_of(tmp_path, SOURCE.replace(old, new)) == hash_of(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("= 3", "= 4"), ("= 3", "= 3.0"), ("radius**2", "radius**3"), ("math.pi *", "math.pi +"), ("radius", "r"),
     ("import math", "import math as m"), ("    return", "    radius += 0\n    return"), (") -> float:", "):"),
     ("def area", "async def area"), ("radius: float", "radius: float = 1"), ("LIMIT = 3", "LIMIT: int = 3")],
)  # fmt: skip
def test_what_may_change_a_number_changes_the_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert hash_of(tmp_path, SOURCE.replace(old, new)) != hash_of(tmp_path, SOURCE)


def test_trees_of_other_shape_have_other_hashes(tmp_path: Path) -> None:
    pairs = [("f(a, b)", "f((a, b))"), ("a - (b - c)", "a - b - c"), ("if a:\n    b\nc", "if a:\n    b\n    c"),
             ("x = 'a' 'b'", "x = 'a', 'b'"), ("x = [1, [2]]", "x = [1, 2]"), ("x[1:]", "x[:1]"),
             ("f(*a)", "f(a)"), ("def f(a, /, b): b", "def f(a, b): b"), ("x = b'a'", "x = 'a'"),
             ("x = 1", "x = True"), ("x = {**a, b: c}", "x = {b: a, **c}"), ("x = f'{a}'", "x = f'{a!r}'")]  # fmt: skip
    for one, two in pairs:
        assert hash_of(tmp_path, one) != hash_of(tmp_path, two), (one, two)


def test_a_file_that_is_no_python_counts_by_its_bytes(tmp_path: Path) -> None:
    assert hash_of(tmp_path, "def (") != hash_of(tmp_path, "def ( ")


def test_the_hash_is_equal_under_every_python(tmp_path: Path) -> None:
    """The same under Python 3.11, 3.12 and 3.13, whose trees differ in fields that hold nothing."""
    assert hash_of(tmp_path, SOURCE)[:12] == "a502a0909777"


def test_what_is_hashed_is_what_a_number_can_depend_on() -> None:
    names = {path.relative_to(code_hash.PACKAGE).as_posix() for path in referee_files()}
    assert {"method.py", "training/loop.py", "core/rng.py", "ops/attacks/spectrum.py", "data/cache.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"core", "networks", "ops", "sensitivity", "corruptions", "data", "training", "method.py"}
    assert not [name for name in names if name.startswith("data/remote") or name.endswith("__main__.py")]


def test_a_run_depends_on_its_method_and_on_its_dataset() -> None:
    found = {
        code_of(method, dataset, "mini_convnet") for method in ("erm", "augmix") for dataset in ("minidigits", "digits")
    }
    assert len(found) == 4


def test_code_that_lies_in_another_file_has_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    for second in ("two", "three", "two"):
        package = tmp_path / str(len(found))
        (package / "core").mkdir(parents=True)
        (package / "core" / "one.py").write_text("x = 1")
        (package / "core" / f"{second}.py").write_text("y = 2")
        monkeypatch.setattr(code_hash, "PACKAGE", package)
        found.append(code_hash._referee_hash.__wrapped__())
    assert found[0] == found[2] != found[1]


def test_what_a_plugin_imports_from_beside_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of this project, of Python and of installed packages do not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "own_method.py"
    path.write_text("import math\n\nimport numpy as np\n\nfrom benchmark import method\n")
    assert plugin_hash(path) == file_hash(path)
    (tmp_path / "deep_helper.py").write_text("STRENGTH = 0\n")
    (tmp_path / "own_helper.py").write_text("from deep_helper import STRENGTH\n")
    path.write_text("import own_helper\n")
    monkeypatch.setitem(sys.modules, "own_helper", importlib.import_module("own_helper"))
    monkeypatch.setitem(sys.modules, "deep_helper", importlib.import_module("deep_helper"))
    found = [plugin_hash(path)]
    (tmp_path / "deep_helper.py").write_text("STRENGTH = 0  # as before\n")
    assert plugin_hash(path) == found[0] != file_hash(path)
    (tmp_path / "deep_helper.py").write_text("STRENGTH = 1\n")
    found.append(plugin_hash(path))
    (tmp_path / "own_helper.py").write_text("from deep_helper import STRENGTH\nSTRENGTH += 1\n")
    found.append(plugin_hash(path))
    assert len(set(found)) == 3


def test_what_a_package_imports_from_within_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = tmp_path / "relpkg" / "inner"
    inner.mkdir(parents=True)
    for package in (inner.parent, inner):
        (package / "__init__.py").write_text("")
    for file in (inner.parent / "above.py", inner / "ops.py"):
        file.write_text("STRENGTH = 0\n")
    path = inner / "own.py"
    path.write_text("from . import ops\nfrom .ops import STRENGTH\nfrom ..above import STRENGTH as MORE\n")
    importlib.import_module("relpkg.inner.own")
    try:
        found = [plugin_hash(path)]
        for file in (inner.parent / "above.py", inner / "ops.py"):
            file.write_text("STRENGTH = 1\n")
            found.append(plugin_hash(path))
    finally:
        for name in [name for name in sys.modules if name.startswith("relpkg")]:
            del sys.modules[name]
    assert len(set(found)) == 3


def test_a_method_of_the_project_that_a_plugin_builds_on_counts(tmp_path: Path) -> None:
    path = tmp_path / "own_method.py"
    path.write_text("from benchmark.methods.randconv import Method as RandConv\n")
    randconv = registry.source_file("method", "randconv")
    importlib.import_module("benchmark.methods.randconv")
    assert code_hash._with_imports(path, []) == [path, randconv]


def test_packages_do_not_count_wherever_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `pip --target FOLDER`, with FOLDER on PYTHONPATH."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site" / "far_package").mkdir(parents=True)
    for name in ("__init__", "inner"):
        (tmp_path / "site" / "far_package" / f"{name}.py").write_text("STRENGTH = 1\n")
    (tmp_path / "site" / "far_module.py").write_text("STRENGTH = 1\n")
    path = tmp_path / "own_method.py"
    path.write_text("import far_module\nimport far_package.inner\nfrom far_package import STRENGTH, inner\n")
    for name in ("far_module", "far_package", "far_package.inner"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    plugin_files._holds_packages.cache_clear()
    assert plugin_hash(path) != file_hash(path)
    (tmp_path / "site" / "far_package-1.0.dist-info").mkdir()
    plugin_files._holds_packages.cache_clear()
    assert plugin_hash(path) == file_hash(path)


def test_files_of_this_project_count_alone() -> None:
    """What they import is hashed as the referee's. The plugins beside the findings have records, too."""
    kinds: tuple[registry.Kind, ...] = ("method", "dataset")
    files = [registry.source_file(kind, name) for kind in kinds for name in registry.names(kind)]
    assert len(files) > 20
    for path in [*files, *(ROOT / "docs" / "findings").glob("*.py")]:
        assert plugin_hash(path) == file_hash(path), path


def test_the_hash_does_not_depend_on_where_the_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for own, beside in (("a", "b"), ("b", "a")):
        folder = tmp_path / f"{own}_first"
        for name, text in ((f"{own}/own.py", "import aside\n"), (f"{beside}/aside.py", "STRENGTH = 1\n")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        module = ModuleType("aside")
        module.__file__ = str(folder / beside / "aside.py")
        monkeypatch.setitem(sys.modules, "aside", module)
        found.add(plugin_hash(folder / own / "own.py"))
    assert len(found) == 1
