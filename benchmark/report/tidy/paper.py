"""Published numbers next to ours: results/paper.json, facts with where each was read and how sure that is."""

import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from benchmark.core.recipe import FrozenModel
from benchmark.core.record import Record
from benchmark.corruptions.severities import GROUPS
from benchmark.report.tidy.groups import by_group, by_row, describe_group, table
from benchmark.report.tidy.stats import Estimate, estimate
from benchmark.report.tidy.targets import column, shifted

PACKAGE = Path(__file__).resolve().parents[2]
PLACES = (PACKAGE / "paper.json", PACKAGE.parent / "results" / "paper.json")
"""In an installed package, and in a checkout."""
Evidence = Literal["confirmed", "restated", "recalled"]
"""confirmed: read in the publication of those who ran it. restated: read in another one's table. recalled: not read."""


class Published(FrozenModel):
    """One printed row: accuracies in percent by target. A target is a column of our tables, `mean`, a group of
    corruptions or `four groups` (the mean of the groups' means), the last three perhaps with ', severity 5'."""

    dataset: str
    source: str
    method: str
    name: str
    """As printed."""
    backbone: str
    network: str
    """What our networks of this kind begin with; empty where we have none."""
    note: str
    paper: str
    where: str
    evidence: Evidence
    strict: bool
    """Whether it is what a row of the strict protocol is held against."""
    accuracy: dict[str, float]
    sd: dict[str, float]


class Papers(FrozenModel):
    """band: points by which a reproduced mean may differ where no deviation was printed. causes: by 'method@dataset',
    what is known to make ours and theirs differ. images: by dataset, the settings of ours with which it has the images
    that printed numbers are of; nothing of ours stands beside them with others."""

    band: float
    causes: dict[str, list[str]]
    images: dict[str, dict[str, Any]] = Field(default_factory=dict)
    published: list[Published]


@cache
def published_numbers() -> Papers:
    """The facts, checked against the schema above."""
    return Papers.model_validate_json(next(path for path in PLACES if path.is_file()).read_text(encoding="utf-8"))


def value(record: Record, target: str) -> float | None:
    """What a run reached in a published target, under its own selection rule; None where a part is missing."""
    assert record.accuracy is not None
    rule = record.asked.recipe.selection
    name, _, severity = target.partition(", severity ")
    there = shifted(record, rule)
    wanted = {column(d) for d in record.accuracy.domains} - {column(d) for d in record.accuracy.in_domain}
    if severity:
        at = {d.rpartition("/"): a for d, a in record.accuracy.domains.items()}
        there = {c: a.accuracy[rule] for (c, _, s), a in at.items() if s == severity and a.accuracy}
    if name == "mean":
        return statistics.fmean(there.values()) if wanted and there.keys() == wanted else None
    if name in GROUPS:
        return statistics.fmean(there[c] for c in GROUPS[name]) if there.keys() >= set(GROUPS[name]) else None
    if name == "four groups":
        parts = [value(record, target.replace(name, group)) for group in GROUPS]
        return statistics.fmean(p for p in parts if p is not None) if None not in parts else None
    return there.get(name)


def beside(ours: Estimate, low: float, high: float) -> tuple[float, float | None]:
    """Points by which ours is off the published range [low, high], 0 inside; the same in standard errors of ours."""
    off = ours.mean - min(max(ours.mean, low), high)
    return off, off / ours.standard_error if ours.standard_error else None


def facts(record: Record) -> list[Published]:
    """The published rows of a run's method, dataset and source that are of its images; none for a variant."""
    asked = record.asked
    if asked.variant:
        return []
    papers, key = published_numbers(), (asked.dataset, asked.source, asked.method)
    if not papers.images.get(asked.dataset, {}).items() <= asked.dataset_settings.items():
        return []
    return [p for p in papers.published if (p.dataset, p.source, p.method) == key]


def ours(runs: Sequence[Record], target: str) -> tuple[Estimate, list[str]] | None:
    """Our estimate of a published target and the runs it is made of, or None."""
    found = {r.run_id: v for r in runs if r.accuracy and (v := value(r, target)) is not None}
    return (estimate([*found.values()]), [*found]) if found else None


def like_ours(runs: Sequence[Record], target: str) -> list[float]:
    """Printed values of a target on the network that these runs use, recalled ones left out."""
    network = runs[0].asked.recipe.network
    same = [p for p in facts(runs[0]) if _is_like(network, p.network) and p.evidence != "recalled"]
    return [p.accuracy[target] for p in same if target in p.accuracy]


def _is_like(ours: str, theirs: str) -> bool:
    """Whether our network is of that kind. A tag of timm names weights, another suffix another network."""
    return ours.partition(".")[0] == theirs if theirs.startswith("timm:") else bool(theirs) and ours.startswith(theirs)


COLUMNS = (
    "dataset protocol method source target accuracy sd n published published_sd difference standard_errors evidence "
    "strict backbone name note paper where run_ids group"
)


def paper_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: one row for each published number that one of our rows can be set against."""
    rows: list[dict[str, Any]] = []
    for key, members in by_group(records).items():
        for runs in by_row(members).values():
            for published in facts(runs[0]):
                for target, theirs in published.accuracy.items():
                    found = ours(runs, target)
                    if found is None:
                        continue
                    difference, errors = beside(found[0], theirs, theirs)
                    rows.append(
                        describe_group(runs[0])
                        | published.model_dump(include=set(COLUMNS.split()) - {"accuracy", "sd"})
                        | {"target": target, "accuracy": found[0].mean, "sd": found[0].sd, "n": found[0].n}
                        | {"published": theirs, "published_sd": published.sd.get(target), "difference": difference}
                        | {"standard_errors": errors, "run_ids": " ".join(found[1]), "group": key}
                    )
    return table(rows, COLUMNS, "dataset protocol group source method target published paper")
