"""Campaigns: groups of runs that differ in their source alone, and every row's numbers over all of their sources.

Each source is a comparison of its own. Papers print the mean over all of them. Here it is taken seed by seed, and only
where a row has a value from every source: a mean over other sources would be another number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.report.tidy.groups import by_group, by_row, campaign_of, describe_group, name_of, table
from benchmark.report.tidy.stats import Seeds
from benchmark.report.tidy.targets import measures


@dataclass(frozen=True)
class Campaign:
    """Runs of several sources that differ in source, method and seed alone."""

    key: str
    sources: dict[str, dict[str, list[Record]]]
    """By source, in the order of their names: the runs by row, ERM first."""
    left_out: list[Record]
    """Runs of a source on other data than its others."""
    alone: bool = True
    """Whether no other campaign has its settings; two folders of images do."""

    @cached_property
    def rows(self) -> dict[str, list[Record]]:
        """All runs by row, ERM first, then by name."""
        return by_row([run for rows in self.sources.values() for runs in rows.values() for run in runs])

    @property
    def pooled(self) -> int:
        """How many domains each of its sources pools; 1 where they are single ones."""
        return len(_pool(next(iter(self.sources))))

    @property
    def place(self) -> str:
        """What stands for a source in its titles: '4 sources', '4 pools of 3 domains', '2 sources (clay, ink)'."""
        n, k = len(self.sources), self.pooled
        told = f"{n} sources" if k == 1 else f"{n} pools of {k} domains"
        return told if self.alone else f"{told} ({', '.join(self.sources)})"

    @property
    def seeds(self) -> list[int]:
        """Those of any row."""
        return sorted({run.asked.seed for runs in self.rows.values() for run in runs})

    @cached_property
    def _scored(self) -> dict[tuple[str, int], dict[str, tuple[Record, dict[str, float]]]]:
        """By row and seed, then by source: a run and its measures, where it has any."""
        found: dict[tuple[str, int], dict[str, tuple[Record, dict[str, float]]]] = {}
        for row, runs in self.rows.items():
            for run in runs:
                if run.accuracy and (values := measures(run)):
                    found.setdefault((row, run.asked.seed), {})[run.asked.source] = run, values
        return found

    def complete(self, row: str) -> dict[int, list[Record]]:
        """The runs of each seed that has a value from every source."""
        found = {seed: self._scored.get((row, seed), {}) for seed in self.seeds}
        return {seed: [run for run, _ in by.values()] for seed, by in found.items() if len(by) == len(self.sources)}

    def lacks(self, row: str, seed: int) -> list[str]:
        """The sources from which a row has no value with this seed."""
        return [source for source in self.sources if source not in self._scored.get((row, seed), {})]

    def over(self, measure: str, rule: Selection | None = None) -> dict[str, Seeds]:
        """By row and complete seed: the plain mean over the sources of `mean` or `worst` of targets.measures, under the
        headline's rule where none is given. Rows without a complete seed are left out."""
        found = {
            row: {
                seed: sum(measures(run, rule)[measure] for run in runs) / len(self.sources)
                for seed, runs in self.complete(row).items()
            }
            for row in self.rows
        }
        return {row: values for row, values in found.items() if values}

    def reached(self, row: str, source: str) -> dict[str, float]:
        """From one source: the mean over the shifted targets of each run, by run id, complete or not."""
        found = (self._scored.get((row, seed), {}).get(source) for seed in self.seeds)
        return {run.run_id: values["mean"] for run, values in filter(None, found)}

    @cached_property
    def means(self) -> dict[str, float]:
        """By row: the mean of `over("mean")` over its seeds."""
        return {row: sum(values.values()) / len(values) for row, values in self.over("mean").items()}

    @property
    def ordered(self) -> list[str]:
        """The rows as tables have them: ERM, then the best mean first, then those without a mean."""
        return sorted(self.rows, key=lambda row: (row != "erm", -self.means.get(row, float("-inf")), row))


def campaigns(records: Sequence[Record]) -> list[Campaign]:
    """Those of two sources or more, sorted. Sources that pool as many domains stand together, if the same domains were
    there. Where a source was run on several states of its data, the one with the most rows counts; of equal ones that
    with the most targets tested, then that with the most runs, then that which ended last."""
    found: dict[tuple[str, str, str], dict[str, list[list[Record]]]] = {}
    for members in by_group(sorted(records, key=lambda r: (r.asked.source, r.run_id))).values():
        asked, pooled = members[0].asked, len(_pool(members[0].asked.source))
        key = campaign_of(members[0]) + (f"-{pooled}" if pooled > 1 else "")
        found.setdefault((asked.dataset, asked.protocol, key), {}).setdefault(asked.source, []).append(members)
    made = []
    for (_, _, key), every in sorted(found.items()):
        parts = [(end, sources) for end, sources in _by_domains(every).items() if len(sources) > 1]
        placed = {id(members) for _, sources in parts for groups in sources.values() for members in groups}
        for end, sources in parts:
            kept = {source: max(groups, key=_size) for source, groups in sources.items()}
            unkept = [g for source, groups in sources.items() for g in groups if g is not kept[source]]
            unkept += [g for source in sources for g in every[source] if id(g) not in placed]
            others = [run for members in unkept for run in members]
            rows = {source: by_row(members) for source, members in kept.items()}
            made.append(Campaign(key + end, rows, others, len(parts) == 1))
    return made


def _by_domains(sources: Mapping[str, list[list[Record]]]) -> dict[str, dict[str, list[list[Record]]]]:
    """The groups of each source, apart where other domains were there: two folders of images are two datasets. By an
    end of the campaign's key, which is empty where all have the same. A group that was tested nowhere but in its source
    stands with those that its source is a domain of."""
    placed = [(source, group, _domains(group)) for source, groups in sources.items() for group in groups]
    kinds = sorted({kind for *_, kind in placed if kind})
    if len(kinds) < 2:
        return {"": dict(sources)}
    found: dict[str, dict[str, list[list[Record]]]] = {f"-{name_of(kind)}": {} for kind in kinds}
    for source, group, own in placed:
        for kind in [own] if own else [kind for kind in kinds if {*_pool(source)} <= {*kind}]:
            found[f"-{name_of(kind)}"].setdefault(source, []).append(group)
    return found


def _pool(source: str) -> list[str]:
    """The domains of a source, which may be several joined by '+'."""
    return source.split("+")


def _domains(members: Sequence[Record]) -> tuple[str, ...]:
    """The domains that the runs were to be tested on, sorted; none where that is their source alone, or all failed."""
    found = {name for run in members if run.accuracy for name in run.accuracy.domains}
    return tuple(sorted(found)) if found - {*_pool(members[0].asked.source)} else ()


def _size(members: Sequence[Record]) -> tuple[int, int, int, str]:
    scored = [run for run in members if run.accuracy]
    tested = max((len(measures(run)) for run in scored), default=0)
    return len({run.asked.row for run in scored}), tested, len(members), max(run.ran.ended for run in members)


COLUMNS = "dataset protocol method seed mean worst sources lacks run_ids variant budget device group"


def source_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: one row for each row and seed of a campaign. mean and worst: percent, over the `sources`; empty where the
    seed `lacks` some. group: the campaign's, of which no single comparison is."""
    out: list[dict[str, Any]] = []
    for campaign in campaigns(records):
        mean, worst = campaign.over("mean"), campaign.over("worst")
        out += [
            describe_group(runs[0])
            | {"seed": seed, "mean": mean.get(row, {}).get(seed), "worst": worst.get(row, {}).get(seed)}
            | {"sources": ", ".join(campaign.sources), "lacks": ", ".join(campaign.lacks(row, seed))}
            | {"run_ids": " ".join(run.run_id for run in runs if run.asked.seed == seed), "group": campaign.key}
            for row, runs in campaign.rows.items()
            for seed in sorted({run.asked.seed for run in runs})
        ]
    return table(out, COLUMNS, "dataset protocol group method variant seed")
