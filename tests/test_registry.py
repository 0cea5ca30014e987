"""The registry: one file, no edit elsewhere; clashes and damage are errors with names in them."""

import importlib
import os
import re
import shlex
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from benchmark import plugin_files, registry
from benchmark.core import regular_files
from benchmark.core.errors import UsageError
from benchmark.runs.plan import expand_all, parse_settings
from tests.conftest import ROOT

PLUGIN = '''"""A plugin: cross-entropy, twice."""
from benchmark import method

@method.frozen()
class Method(method.Method):
    weight: float = 2.0
    sizes: tuple[int, ...] = (1, 3)

    def loss(self, net, x, y, rng, state):
        from torch.nn.functional import cross_entropy
        return self.weight * cross_entropy(net(x), y)
'''


DATASET = '''"""A plugin: no images."""
from benchmark import data

@data.frozen()
class Dataset(data.Dataset):
    classes = domains = sources = ("a",)
'''


@pytest.fixture(autouse=True)
def _forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_files, "loaded", {})


def plugin(folder: Path, name: str, text: str = PLUGIN) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_the_folders_are_the_registry() -> None:
    assert set(registry.names("method")) == {path.stem for path in (ROOT / "methods").glob("*.py")}
    assert set(registry.names("dataset")) == {path.stem for path in (ROOT / "datasets").glob("*.py")}
    for folder in ("methods", "datasets"):
        assert not (ROOT / folder / "__init__.py").exists()
        assert not (ROOT / "benchmark" / folder).exists()


def test_a_plugin_file_is_a_method(tmp_path: Path) -> None:
    registry.load_plugins([plugin(tmp_path, "twice")])
    assert "twice" in registry.names("method")
    assert registry.summary("method", "twice") == "A plugin: cross-entropy, twice"
    assert registry.make("method", "twice", {"weight": "3", "sizes": "5,7"}).settings() == {
        "weight": 3.0,
        "sizes": (5, 7),
    }


def test_an_installed_package_adds_methods_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, "installed_method")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("installed", "installed_method", "dg_referee.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    assert registry.find("method", "installed").__name__ == "Method"


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "raise SystemExit(3)", "def broken(:"])
def test_a_broken_package_is_named_and_costs_no_other_method(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path, "broken_method", text)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("fancy", "broken_method", "dg_referee.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    assert expand_all(["erm"]) == ["erm"]
    with pytest.raises(UsageError, match=r"importing its entry point broken_method raised .*mend or uninstall it"):
        expand_all(["all"])


def test_a_method_and_a_dataset_may_have_one_file_name(tmp_path: Path) -> None:
    """Each is then hashed by its own file."""
    files = []
    for kind, text in (("method", PLUGIN), ("dataset", DATASET)):
        (tmp_path / kind).mkdir()
        files.append(plugin(tmp_path / kind, "same", text))
    registry.load_plugins(files)
    assert [registry.source_file(kind, "same") for kind in ("method", "dataset")] == files


@pytest.mark.parametrize("name", ["my-cutout", "v1.5", "c++", "plain"])
def test_every_name_that_is_allowed_can_be_set(name: str, tmp_path: Path) -> None:
    registry.load_plugins([plugin(tmp_path, name)])
    given = parse_settings([f"{name}.weight=0.5", f"{name}.sizes=1,2"])
    assert registry.make("method", name, given[name]).settings() == {"weight": 0.5, "sizes": (1, 2)}


def test_the_installed_packages_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a file of entry points: to read them all for every look-up made 38 s of planning 145 runs, now 2."""
    monkeypatch.syspath_prepend(tmp_path)
    asked_for: list[str] = []

    def counted(group: str) -> list[EntryPoint]:
        asked_for.append(group)
        return []

    monkeypatch.setattr(registry, "entry_points", counted)
    for _ in range(3):
        registry.find("method", "erm")
    assert asked_for == ["dg_referee.methods"]


def test_a_name_found_twice_is_an_error(tmp_path: Path) -> None:
    registry.load_plugins([plugin(tmp_path, "erm")])
    with pytest.raises(UsageError, match=r"two methods are called 'erm'.*rename one"):
        registry.names("method")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "has no Method, Dataset or network"),
        ("class Method: pass", "has no Method, Dataset or network"),
    ],
)
def test_a_plugin_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        registry.load_plugins([plugin(tmp_path, "bad", text)])


def test_a_module_beside_a_plugin_that_python_does_not_find_is_told_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "beside_of_a_test.py").write_text("")
    file = plugin(tmp_path, "own", "import beside_of_a_test\n")
    fix = f"; it lies beside the plugin, so set PYTHONPATH={shlex.quote(str(tmp_path))}"
    with pytest.raises(UsageError, match=f"ModuleNotFoundError: .*{re.escape(fix)}$"):
        registry.load_plugins([file])


@pytest.mark.parametrize(
    ("name", "meant"), [("wrapp", "wrap"), ("expnd", "expand"), ("pases", "passes"), ("set_up", "setup")]
)
def test_a_part_of_the_contract_that_is_misspelt_is_told(name: str, meant: str, tmp_path: Path) -> None:
    """Nothing would call it, and the run would be of another method."""
    own = f"    {name} = 2.0\n    helper = view = 3.0\n"
    text = "from benchmark import method\n\n@method.frozen()\nclass Method(method.Method):\n"
    loss = "    def loss2(self):\n        return 2\n\n"
    loss += "    def loss(self, net, x, y, rng, state):\n        return x.sum() * self.loss2()\n"
    with (
        registry.plugins([plugin(tmp_path, "own", text + own + loss)]),
        pytest.raises(UsageError, match=f"{name}: did you mean '{meant}'"),
    ):
        registry.make("method", "own", {})
    with registry.plugins([plugin(tmp_path, "own", text + own.replace(name, f"_{name}") + loss)]):
        registry.make("method", "own", {})


def test_a_package_is_called_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "twofold").mkdir()
    with registry.plugins([plugin(tmp_path / "twofold", "__init__")]):
        assert "twofold" in registry.names("method")


@pytest.mark.parametrize("name", ["all", "everything"])
def test_a_method_has_no_name_that_stands_for_many(name: str, tmp_path: Path) -> None:
    text = "from benchmark import method\n@method.frozen()\nclass Method(method.Method):\n    loss = None\n"
    with registry.plugins([plugin(tmp_path, name, text)]):
        with pytest.raises(UsageError, match=rf"{name}\.py: '{name}' stands for many methods"):
            registry.names("method")
        assert "minidigits" in registry.names("dataset")


def test_a_plugin_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        registry.load_plugins([tmp_path / "absent.py"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weigth": "1"}, "no setting 'weigth': did you mean 'weight'"),
        ({"weight": "heavy"}, "twice.weight=heavy"),
        ({"sizes": "a,b"}, "twice.sizes=a,b"),
        ({"weight": None}, "twice.weight=None"),
        ({"weight": "1e400"}, "twice.weight=inf: Input should be a finite number"),
        ({"weight": float("nan")}, "twice.weight=nan: Input should be a finite number"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    registry.load_plugins([plugin(tmp_path, "twice")])
    with pytest.raises(UsageError, match=says):
        registry.make("method", "twice", settings)


def test_a_file_is_loaded_as_it_is_and_its_folder_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's bytecode is that of a file of this size and second, whatever is in it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for weight in (2.0, 3.0):
        path = plugin(tmp_path, "twice", PLUGIN.replace("2.0", str(weight)))
        os.utime(path, (1e9, 1e9))
        registry.load_plugins([path])
        assert registry.make("method", "twice", {}).settings()["weight"] == weight
    assert [found.name for found in tmp_path.iterdir()] == ["twice.py"]


def test_a_plugin_loads_whatever_the_caller_has_set_in_torch(tmp_path: Path) -> None:
    products = torch.backends.cuda.matmul
    products.fp32_precision = "tf32"
    try:
        registry.load_plugins([plugin(tmp_path, "twice")])
        assert products.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert registry.make("method", "twice", {}).settings()["weight"] == 2.0


def test_a_module_beside_a_plugin_is_loaded_anew_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is in the hash of the plugin's code. What a plugin was not the first to import stays as it is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = plugin(tmp_path, "twice", "from aside_of_twice import WEIGHT\n" + PLUGIN.replace("2.0", "WEIGHT"))
    for weight in ("2.0", "31.0"):
        (tmp_path / "aside_of_twice.py").write_text(f"WEIGHT = {weight}\n")
        registry.load_plugins([path])
        assert registry.make("method", "twice", {}).settings()["weight"] == float(weight)
    registry.load_plugins([])
    assert "aside_of_twice" not in sys.modules
    assert {"json", "torch", "benchmark.method"} <= sys.modules.keys()


@pytest.mark.parametrize(
    ("above", "field", "says"),
    [
        ("", "strength: float", r"odd\.strength has no default; every setting needs one"),
        (
            "if typing.TYPE_CHECKING:\n    from pathlib import Path\n",
            "file: 'Path | None' = None",
            r"odd: the type of a setting cannot be found \(.*`Path`.*; import it at the top of the file",
        ),
    ],
)
def test_a_setting_without_a_default_or_a_type_is_named(tmp_path: Path, above: str, field: str, says: str) -> None:
    head = f"import typing\n{above}from benchmark import method\n\n\n@method.frozen()\n"
    registry.load_plugins([plugin(tmp_path, "odd", f"{head}class Method(method.Method):\n    {field}\n")])
    with pytest.raises(UsageError, match=says):
        registry.make("method", "odd", {})


@pytest.mark.parametrize("passes", ["'three'", "0", "float('nan')", "None", "property(lambda self: 3.0)"])
def test_passes_that_are_no_number_are_named(tmp_path: Path, passes: str) -> None:
    text = f"from benchmark import method\n\n\n@method.frozen()\nclass Method(method.Method):\n    passes = {passes}\n"
    registry.load_plugins([plugin(tmp_path, "odd", text)])
    with pytest.raises(UsageError, match=r"odd\.py: passes = .*: write a number above 0"):
        registry.make("method", "odd", {})


@pytest.mark.parametrize(
    ("body", "says"),
    [("def settings(self): return 1 / 0", "ZeroDivisionError"), ("weight: object = print", "TypeError")],
)
def test_settings_that_no_record_can_hold_are_named(tmp_path: Path, body: str, says: str) -> None:
    text = f"from benchmark import method\n\n\n@method.frozen()\nclass Method(method.Method):\n    {body}\n"
    registry.load_plugins([plugin(tmp_path, "odd", text)])
    with pytest.raises(UsageError, match=f"odd.py: the settings of method 'odd' cannot go into a record .{says}"):
        registry.make("method", "odd", {})


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown method 'randomconv': did you mean 'randconv'"):
        registry.find("method", "randomconv")
    with pytest.raises(UsageError, match="unknown dataset 'minidigit': did you mean 'minidigits'"):
        registry.find("dataset", "minidigit")


def test_an_outline_is_what_the_class_says() -> None:
    kinds: tuple[registry.Kind, ...] = ("method", "dataset")
    for kind in kinds:
        for name in registry.names(kind):
            found = registry.find(kind, name)
            marks = getattr(found, "experimental", False), getattr(found, "in_all", True)
            assert registry.outline(kind, name) == (registry.summary(kind, name), *marks)


def test_an_outline_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = "    experimental: ClassVar[bool] = True\n    in_all: ClassVar[bool] = False\n"
    text = f'"""A trial.\n\nMore."""\nclass Method:\n{marks}raise RuntimeError\n'
    (tmp_path / "trial.py").write_text(text)
    folder = importlib.import_module("benchmark.methods")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert "trial" in registry.names("method")
    assert registry.outline("method", "trial") == ("A trial", True, False)


def test_a_plugin_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.py"
    path.touch()
    monkeypatch.setattr(regular_files, "content", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(UsageError, match=r"locked\.py: cannot be read \(Permission denied\)"):
        registry.load_plugins([path])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import torch\ntorch.set_default_dtype(torch.float64)\n", "importing it set torch's default type, which"),
        ("import torch\ntorch.set_grad_enabled(False)\n", "importing it set torch's gradient mode, which"),
        (
            "import torch\ntorch.backends.cudnn.benchmark = True\n",
            "importing it set torch.backends.cudnn.benchmark, which",
        ),
        (
            "import torch\ntorch.backends.mkldnn.enabled = False\n",
            "importing it set torch.backends.mkldnn.enabled, which",
        ),
        (
            "import torch\ntorch.set_float32_matmul_precision('medium')\n",
            "importing it set torch's precision of products",
        ),
    ],
)
def test_a_plugin_leaves_torch_as_it_is(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"odd\.py: {says}"):
        registry.load_plugins([plugin(tmp_path, "odd", text + PLUGIN)])
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert [torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark] == [True, False]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@method.frozen()\nclass Method(method.Method):\n    def los(self): ...", "class Method has to define `loss`"),
        (
            "class Method(method.Method):\n    side: float = 0.5",
            r"side: no setting without `@method\.frozen\(\)` above",
        ),
    ],
)
def test_what_a_class_lacks_is_named(tmp_path: Path, text: str, says: str) -> None:
    registry.load_plugins([plugin(tmp_path, "odd", f"from benchmark import method\n\n{text}\n")])
    with pytest.raises(UsageError, match=rf"odd\.py: {says}"):
        registry.make("method", "odd", {})


def test_what_a_dataset_lacks_is_named(tmp_path: Path) -> None:
    text = "from benchmark import data\n\n\n@data.frozen()\nclass Dataset(data.Dataset):\n    classes = ('a', 'b')\n"
    registry.load_plugins([str(plugin(tmp_path, "odd", text))])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"odd\.py: class Dataset has to define `load`"):
        registry.make("dataset", "odd", {})


def test_minus_zero_is_zero() -> None:
    """Or one setting would be two runs, and two rows of a table."""
    assert str(registry.make("method", "randconv", {"lam": "-0.0"}).settings()["lam"]) == "0.0"


def test_every_form_of_a_wrong_value_is_told() -> None:
    """A list's wrong member, beside the names that stand for a list."""
    with pytest.raises(UsageError, match=r"augmix\.ops=nope: .*'nine' or 'all'; or .*'autocontrast'"):
        registry.make("method", "augmix", {"ops": ("rotate", "nope")})
