"""What the project's own datasets owe beyond the contract: a card."""

import pytest

from benchmark import registry
from tests.conftest import ROOT


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "datasets").glob("*.py")))
def test_there_is_a_card(name: str) -> None:
    assert (ROOT / "docs" / "datasets" / f"{name}.md").is_file()
    assert len(registry.summary("dataset", name)) <= 120
