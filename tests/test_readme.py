"""The README's numbers are those of the committed run records, and its commands are those of the Makefile."""

import json
import re
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest

from benchmark.core.record import Record
from benchmark.report.people.summaries import DETAILS, summarise
from benchmark.report.tidy import comparisons
from benchmark.runs.store import Store
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"
NEEDS = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="an installation without the published results")


@cache
def everything() -> list[Record]:
    return Store(PUBLISHED).read_all()


def published(dataset: str, *lengths: str) -> list[Record]:
    """The records below results/published of one dataset and some lengths."""
    return [r for r in everything() if r.asked.dataset == dataset and comparisons.length(r) in lengths]


def front_table(dataset: str, length: str) -> str:
    """Accuracy beside cost."""
    shown = summarise(published(dataset, length), {})
    (accuracy,), (cost,) = shown["accuracy"], shown["throughput"]
    cells = accuracy.cells.drop(columns=["worst", *DETAILS, "runs"])
    speed = cost.cells.set_index("method")["relative to ERM"]
    cells.insert(len(cells.columns) - 1, "images/s, ERM = 1", [speed[method] for method in cells["method"]])
    return str(cells.to_markdown(index=False, disable_numparse=True))


def variants_table(dataset: str, length: str) -> str:
    """Variants of a method against the method itself."""
    (shown,) = summarise(published(dataset, length), {})["differences"]
    lines = [line for line in shown.lines if line.label.startswith(f"{line.cells['versus'].text}[")]
    cells = replace(shown, lines=lines).cells.drop(columns=["more seeds to settle", "runs"])
    return str(cells.to_markdown(index=False, disable_numparse=True))


def budgets_table(dataset: str, *lengths: str) -> str:
    """Accuracy, passes and seconds of the rows that were run at every length."""
    (shown,) = summarise(published(dataset, *lengths), {})["cost"]
    lines = [line for line in shown.lines if all(cell.text != "not run" for cell in line.cells.values())]
    return str(replace(shown, lines=lines).cells.drop(columns="runs").to_markdown(index=False, disable_numparse=True))


@NEEDS
def test_the_table_of_the_readme_is_made_from_the_records() -> None:
    assert front_table("digits", "1500 steps") in README


@NEEDS
@pytest.mark.parametrize(
    ("dataset", "length"),
    [
        ("digits", "1500 steps"),
        ("digits", "10000 steps"),
        ("cifar10c", "2000 steps"),
        ("minidigits", "150 steps"),
        ("minidigits", "200 steps"),
    ],
)
def test_the_tables_of_results_are_made_from_the_records(dataset: str, length: str) -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert front_table(dataset, length) in results


@NEEDS
def test_the_tables_of_quirks_and_budgets_are_made_from_the_records() -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert variants_table("minidigits", "200 steps") in results
    assert budgets_table("minidigits", "200 steps", "20 s") in results


def spell(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def speed_table() -> str:
    """The newest file of `make perf` below results/published: ours beside its peers."""
    newest = max((PUBLISHED / "perf").glob("[0-9]*.json"))
    rows = []
    for info in (timed["extra_info"] for timed in json.loads(newest.read_text(encoding="utf-8"))["benchmarks"]):
        (_, ours), *peers = info["rates"].items()
        for peer, rate in peers:
            least = info["targets"].get(peer)
            cells = [spell(ours), peer, spell(rate), f"{ours / rate:.2f}", f"{least:g}" if least else ""]
            rows.append([info["title"], *cells])
    columns = ["what", "ours, per second", "peer", "peer, per second", "ratio", "asked for"]
    return pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=True)


@NEEDS
def test_the_speed_table_is_made_from_the_newest_file_of_make_perf() -> None:
    assert speed_table() in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@NEEDS
def test_the_reference_maps_are_those_of_their_record() -> None:
    found = json.loads((PUBLISHED / "reference_map" / "record.json").read_text(encoding="utf-8"))["statistics"]
    text = (ROOT / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    radii = [f"radius {r}" for r in (3, 6, 7, 9, 11, 15)]
    for title, name in [("mean of the map", "mean"), ("centre", "centre"), *((radius, radius) for radius in radii)]:
        cells = (f"{found[of][name]:.3f}" for of in ("published", "as called", "enhanced"))
        assert f"| {title} | {' | '.join(cells)} |" in text
    for title, name in (("mean \\|difference\\| to", "mean |difference|"), ("correlation with", "correlation")):
        cells = (f"{found[of][name]:.3f}" for of in ("as called", "enhanced"))
        assert f"| {title} the published map | | {' | '.join(cells)} |" in text


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
