"""The kept log of the parity tests is of today's tests, and what writes it tells passed from skipped."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from docs.site.published import PUBLISHED
from tests import parity
from tests.conftest import ROOT

FOLDERS = ("methods", "ops", "networks", "sensitivity")


def parity_tests() -> set[tuple[str, str, str]]:
    """File, name and hash of all tests that `-k parity` takes."""
    found = set()
    for path in (path for folder in FOLDERS for path in (ROOT / "tests" / folder).glob("test_*.py")):
        names = [node.name for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)]
        file = path.relative_to(ROOT).as_posix()
        taken = [name for name in names if name.startswith("test_") and "parity" in f"{path.stem} {name}"]
        found |= {(file, name, parity.source(path, name)) for name in taken}
    return found


def test_the_kept_log_is_of_all_parity_tests_and_all_passed() -> None:
    log = json.loads((PUBLISHED / "parity.json").read_text(encoding="utf-8"))
    assert {(test["file"], test["test"], test["source"]) for test in log["tests"]} == parity_tests()
    assert [test["test"] for test in log["tests"] if test["failed"] or test["skipped"] or not test["passed"]] == []
    assert log["git_dirty"] is False


def test_a_log_tells_what_passed_from_what_was_skipped(tmp_path: Path) -> None:
    files = ["tests/methods/test_gud.py", "tests/methods/test_randconv.py"]
    call = [sys.executable, "-m", "pytest", "-q", "-k", "batch_mean or draw_order", "-p", "no:cacheprovider", *files]
    away = os.environ | {"GOLDENS_DIR": str(tmp_path / "nowhere")}
    subprocess.run([*call, "--parity-log", str(tmp_path / "log")], cwd=ROOT, env=away, check=True, capture_output=True)
    mean, order = json.loads((tmp_path / "log").read_text(encoding="utf-8"))["tests"]
    assert (mean["passed"], mean["skipped"], mean["failed"], mean["recorded"]) == (3, 0, 0, False)
    assert 0 <= mean["largest"] < 1e-12
    assert (order["passed"], order["skipped"], order["failed"], order["recorded"]) == (0, 1, 0, True)
    assert order["largest"] is None
