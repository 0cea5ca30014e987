"""`pytest -k parity --parity-log FILE`: which parity tests ran, and how far ours was from what it was held against."""

import ast
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

COMPARISONS = (
    (torch.testing, "assert_close"),
    (np.testing, "assert_allclose"),
    (torch, "allclose"),
    (torch, "equal"),
)
"""What parity tests compare numbers with; each is given ours and the other's first."""


class Log:
    """A plugin of pytest that keeps of each test function its outcomes and the largest difference that it met."""

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self.differences: dict[tuple[str, str], list[float]] = defaultdict(list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with ExitStack() as patched:
            for module, name in COMPARISONS:
                told = self._told(item, getattr(module, name))
                patched.enter_context(mock.patch.object(module, name, told))
            return (yield)

    def _told(self, item: pytest.Item, compare: Callable[..., Any]) -> Callable[..., Any]:
        def comparing(ours: Any, theirs: Any, *rest: Any, **more: Any) -> Any:
            equal = compare(ours, theirs, *rest, **more)
            if equal is not False:
                with suppress(Exception):  # whatever else is compared so: the test itself judges it
                    self.differences[_key(item.nodeid)].append(_largest(ours, theirs))
            return equal

        return comparing

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            recorded = not {"golden", "arrays"}.isdisjoint(getattr(item, "fixturenames", ()))
            self.found.setdefault(_key(item.nodeid), {"recorded": recorded, "passed": 0, "skipped": 0, "failed": 0})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.found[_key(report.nodeid)][report.outcome] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from benchmark.runs import machine  # imports kernels, which conftest.py has to prepare for

        ran = {_key(item.nodeid) for item in session.items}
        tests = [
            {"file": file, "test": test, "source": source(session.config.rootpath / file, test), **outcomes}
            | {"largest": max(self.differences[file, test], default=None)}
            for (file, test), outcomes in self.found.items()
            if (file, test) in ran
        ]
        about = machine.describe(torch.device("cpu"))
        commit, changed = machine.git_state()
        made = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_commit": commit,
            "git_dirty": changed,
            "processor": about["processor"],
            "packages": {name: about["packages"][name] for name in ("torch", "numpy")},
            "tests": tests,
        }
        self.path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def source(file: Path, test: str) -> str:
    """Hash of a test function's lines."""
    text = file.read_text(encoding="utf-8")
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    lines = next(ast.get_source_segment(text, node) for node in functions if node.name == test)
    return hashlib.sha256(str(lines).encode()).hexdigest()[:12]


def _key(nodeid: str) -> tuple[str, str]:
    """A test's file and function; all its parameters are one."""
    file, _, test = nodeid.partition("::")
    return file, re.sub(r"\[.*", "", test)


def _largest(ours: Any, theirs: Any) -> float:
    """The largest difference of two arrays or numbers, in units of the other's largest number, if that is above 1."""
    one, other = (np.asarray(each.detach() if isinstance(each, torch.Tensor) else each) for each in (ours, theirs))
    gap = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return float(gap.max() / max(1.0, np.abs(other).max())) if gap.size else 0.0
