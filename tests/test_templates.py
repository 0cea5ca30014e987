"""README's example and the other template, copied out of the project: they pass the common suites, and run."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmark.run import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEMPLATES = ROOT / "docs" / "templates"


def readmes_example() -> str:
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return str(example)


@pytest.fixture
def copies(tmp_path: Path) -> dict[str, Path]:
    """The method of README and the dataset template, under names of their own."""
    texts = {"erase": readmes_example(), "twoplaces": (TEMPLATES / "arrays.py").read_text(encoding="utf-8")}
    paths = {name: tmp_path / f"{name}.py" for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name], encoding="utf-8")
    return paths


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What the dataset template reads."""
    (tmp_path / "data" / "arrays").mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name, n in (("day_train", 60), ("day_test", 30), ("night_test", 30)):
        x = draws.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / "data" / "arrays" / f"{name}.npz", x=x, y=np.arange(n) % 3)
    return tmp_path / "data"


def tool(*words: str | Path) -> str:
    """The output of a Python module that is run in the project; it has to end well."""
    line = [sys.executable, "-m", *map(str, words)]
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_readmes_example_is_the_template() -> None:
    assert readmes_example() == (TEMPLATES / "cutout.py").read_text(encoding="utf-8")


def test_both_pass_their_common_suites(copies: dict[str, Path], files: Path, tmp_path: Path) -> None:
    suites = ("methods/test_methods", "datasets/test_datasets")
    plugins = [f"--plugin={path}" for path in copies.values()]
    made = tmp_path / "made.xml"
    tool("pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{suite}.py" for suite in suites), *plugins,
         f"--data-dir={files}", f"--junitxml={made}")  # fmt: skip
    cases = [case for case in ElementTree.parse(made).iter("testcase") if not len(case)]  # of those that pass
    passed = Counter(str(case.get("classname")).replace(".", "/") for case in cases)
    assert passed[f"tests/{suites[0]}"] >= 13
    assert passed[f"tests/{suites[1]}"] == 6


@pytest.mark.usefixtures("without_pictures")
def test_the_templates_run(copies: dict[str, Path], files: Path, tmp_path: Path) -> None:
    words = ["--plugin", *map(str, copies.values()), "--methods", "erm", "erase", "--datasets", "twoplaces"]
    words += ["--data-dir", str(files), "--seeds", "0", "--steps", "3", "--sensitivity-images", "0"]
    assert main([*words, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    table = (tmp_path / "out" / "tables" / "accuracy.md").read_text(encoding="utf-8")
    assert re.search(r"^\| erase +\| \d", table, flags=re.MULTILINE)


def test_the_networks_template_is_a_plugin_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "own_network.py"
    path.write_text((TEMPLATES / "network.py").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["--methods", "erm", "--steps", "3", "--evaluations", "1", "--sensitivity-images", "2", "--device", "cpu"]
    words += ["--plugin", str(path), "--network", "timm:small_net", "--seeds", "0", "--save-weights"]
    tool("benchmark.run", *words, "--out", tmp_path / "out")
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert "timm:small_net" in tool("benchmark.export", run, "--plugin", path)
