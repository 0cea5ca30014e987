"""The README's numbers are those of the committed run records, and its commands are those of the Makefile."""

import re

import pytest

from benchmark.records import Store
from benchmark.summary import DETAILS, summarise
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"


def front_table(dataset: str) -> str:
    """Accuracy beside cost on one dataset, from the records below results/published."""
    shown = summarise([record for record in Store(PUBLISHED).read_all() if record.asked.dataset == dataset], {})
    (accuracy,), (cost,) = shown["accuracy"], shown["throughput"]
    cells = accuracy.cells.drop(columns=["worst", *DETAILS, "runs"])
    speed = cost.cells.set_index("method")["relative to ERM"]
    cells.insert(len(cells.columns) - 1, "images/s, ERM = 1", [speed[method] for method in cells["method"]])
    return str(cells.to_markdown(index=False, disable_numparse=True))


def test_the_front_table_is_made_from_the_records() -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("an installation without the published results")
    assert front_table("minidigits") in README


@pytest.mark.parametrize("dataset", ["digits", "cifar10c"])
def test_the_tables_of_real_data_are_made_from_the_records(dataset: str) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("an installation without the published results")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert front_table(dataset) in results


def test_pictures_and_files_named_in_the_readme_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file(), path
    for folder in ("methods", "datasets", "docs/methods", "docs/datasets", "docs/adr"):
        assert (ROOT / folder).is_dir()


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"bench", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
