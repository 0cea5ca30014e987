"""What a run reached in each column of a table. Domains 'A/1', 'A/2' (a corruption's severities) form column A.

People choose the names of domains. If a domain has the name of a table's own heading, its column is called 'NAME
(domain)', from here on everywhere. So no domain ever takes the place of a measure.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

from benchmark.core.recipe import Selection
from benchmark.core.record import Record

MEASURES = ("mean", "worst", "overlap-free mean", "source val", "optimism", "mean, 95 %", "paper", "off by SE")
HEADINGS = frozenset({*MEASURES, "method", "accuracy", "runs", *(f"mean ({rule})" for rule in get_args(Selection))})
"""What the columns of an accuracy table that are no domain are called; `n` makes room for a domain (accuracy_table)."""


def column(domain: str) -> str:
    """The column that a test domain is part of: never one of HEADINGS, and no two names before the '/' share one."""
    name = domain.partition("/")[0]
    taken = name in HEADINGS or name.endswith((" (domain)", " (in-domain)"))
    return f"{name} (domain)" if taken else name


def columns(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Columns in the field's order: those of shifted domains, then those that are the source itself."""
    every = dict.fromkeys(column(d) for r in records if r.accuracy for d in r.accuracy.domains)
    inside = {column(d) for r in records if r.accuracy for d in r.accuracy.in_domain}
    return [name for name in every if name not in inside], [name for name in every if name in inside]


def reached(record: Record, rule: Selection) -> dict[str, float]:
    """Percent by column under a selection rule."""
    assert record.accuracy is not None
    domains = record.accuracy.domains.items()
    return by_column({name: domain.accuracy[rule] if domain.accuracy else None for name, domain in domains})


def by_column(values: Mapping[str, float | None]) -> dict[str, float]:
    """Values by domain -> values by column: a column is the plain mean of its parts, and absent where one is missing,
    so that its number always means the same."""
    parts: dict[str, list[float | None]] = {}
    for name, value in values.items():
        parts.setdefault(column(name), []).append(value)
    whole = {name: [v for v in values if v is not None] for name, values in parts.items()}
    return {name: sum(v) / len(v) for name, v in whole.items() if len(v) == len(parts[name])}


def shifted(record: Record, rule: Selection) -> dict[str, float]:
    """As `reached`, without the columns that are the source itself; they alone count where no other was asked for."""
    assert record.accuracy is not None
    outside, inside = columns([record])
    there = reached(record, rule)
    return {name: there[name] for name in outside or inside if name in there}


def measures(record: Record, rule: Selection | None = None) -> dict[str, float]:
    """What a comparison looks at: mean and worst over the shifted columns, and each of them; empty where no column is
    whole. rule: the headline's where none is given."""
    there = shifted(record, rule or record.asked.recipe.selection)
    return {"mean": sum(there.values()) / len(there), "worst": min(there.values())} | there if there else {}


def by_seed(runs: Sequence[Record], measure: str, rule: Selection | None = None) -> dict[int, float]:
    """A row's values of one measure by seed, under the headline's rule where none is given; seeds without one are left
    out."""
    found = {r.asked.seed: measures(r, rule).get(measure) for r in runs if r.accuracy}
    return {seed: value for seed, value in found.items() if value is not None}
