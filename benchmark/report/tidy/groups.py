"""Groups and rows: which runs may be compared, and which are one row of a table."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.core.record import Record, canonical_json


def shared(record: Record) -> dict[str, Any]:
    """What rows of one table must share: everything asked but method and seed, and but what a search drew."""
    asked = record.asked.model_dump(mode="json")
    for free in ("method", "settings", "variant", "seed"):
        del asked[free]
    if record.asked.trial is not None:
        del asked["recipe"]["lr"], asked["recipe"]["weight_decay"], asked["trial"]["number"]
    return asked


def group_of(record: Record) -> str:
    """The hash of what rows of one table must share."""
    return name_of(shared(record))


def name_of(asked: Mapping[str, Any]) -> str:
    """A name for what runs share: its hash."""
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()[:8]


def describe_group(record: Record) -> dict[str, Any]:
    """What the rows of an aggregated table say of where they belong; from any one record of the row."""
    asked = record.asked
    return {
        "dataset": asked.dataset,
        "protocol": asked.protocol,
        "method": asked.method,
        "variant": asked.variant,
        "source": asked.source,
        "budget": asked.budget,
        "device": asked.device,
        "group": group_of(record),
    }


def by_group(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs that may be compared with each other, by group; a group stands where its first record does."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(group_of(record), []).append(record)
    return groups


def by_row(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs by row name, ERM first, then by name; within a row by seed."""
    rows: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.asked.row != "erm", r.asked.row, r.asked.seed)):
        rows.setdefault(record.asked.row, []).append(record)
    return rows
