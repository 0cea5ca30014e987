"""What the project's own methods owe beyond the contract: a page, a short file, and no other method."""

import ast

import pytest

from benchmark import registry
from tests.conftest import ROOT

OWN = pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "methods").glob("*.py")))


@OWN
def test_file_is_short_documented_and_independent(name: str) -> None:
    path = registry.source_file("method", name)
    tree = ast.parse(path.read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} | {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    assert not [module for module in imported if module and "methods" in module]
    assert len(path.read_text().splitlines()) <= 120
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()
    assert len(registry.summary("method", name)) <= 120
