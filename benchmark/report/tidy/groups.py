"""Groups and rows: which runs may be compared, and which are one row of a table."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from benchmark.core.record import Asked, Record, canonical_json
from benchmark.runs.repeat import spell

PLACE = ("source", "fingerprint")
"""What groups of one campaign may differ in."""
EARLIER = "once chosen: "
"""Begins the variant of runs that have what a search chose before. They are compared with each other and with nothing
else: their seeds have newer runs, and nobody can add to them."""
LONGEST = 24
"""Characters of a setting's value in the name of a row; a longer one is cut."""
K = TypeVar("K")
T = TypeVar("T")


def shared(record: Record) -> dict[str, Any]:
    """What rows of one table must share: everything asked but method and seed, and but what a search drew; and whether
    a search chose it before it chose otherwise (told_apart)."""
    asked = record.asked.model_dump(mode="json")
    if EARLIER in record.asked.variant:
        asked["chosen"] = "before"
    for free in ("method", "settings", "variant", "seed"):
        del asked[free]
    if record.asked.trial is not None:
        del asked["recipe"]["lr"], asked["recipe"]["weight_decay"], asked["trial"]["number"]
    return asked


def named_dataset(record: Record) -> str:
    """The dataset with its settings: `pacs (size=112, task=single)`."""
    asked = record.asked
    told = ", ".join(f"{name}={_short(spell(value))}" for name, value in asked.dataset_settings.items())
    return f"{asked.dataset} ({told})" if told else asked.dataset


def group_of(record: Record) -> str:
    """The hash of what rows of one table must share."""
    return name_of(shared(record))


def campaign_of(record: Record) -> str:
    """The hash of what groups share that differ in their source alone."""
    return name_of({name: value for name, value in shared(record).items() if name not in PLACE})


def name_of(asked: object) -> str:
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


def table(rows: Sequence[Mapping[str, Any]], columns: str, keys: str) -> pd.DataFrame:
    """These columns of the rows, sorted by some of them, so that equal records give equal tables. Both are names with
    blanks between."""
    return pd.DataFrame(rows, columns=columns.split()).sort_values(keys.split(), kind="stable", ignore_index=True)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by their key; a key stands where its first item does."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def by_group(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs that may be compared with each other, by group; a group stands where its first record does."""
    return grouped(records, group_of)


def distinct(titles: Mapping[str, str], runs: Mapping[str, Record], free: Collection[str] = PLACE) -> dict[str, str]:
    """Titles by group, no two alike where the settings of the groups differ: to those that are, what differs is added.
    runs: one of each group. free: what of the settings is not told."""
    found = dict(titles)
    for title, often in Counter(titles.values()).items():
        asked = {group: _flat(shared(runs[group])) for group, mine in titles.items() if mine == title and often > 1}
        fields = dict.fromkeys(name for each in asked.values() for name in each if name not in free)
        differ = [name for name in fields if len({spell(each.get(name)) for each in asked.values()}) > 1]
        for group, each in asked.items():
            told = ", ".join(f"{name} {_short(spell(each[name]))}" for name in differ if name in each)
            found[group] = f"{title}; {told}" if told else title
    return found


def _flat(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, those of the recipe, the dataset and the search among the others."""
    return {
        name: value
        for outer, inner in asked.items()
        for name, value in (inner.items() if isinstance(inner, Mapping) else [(outer, inner)])
    }


def told_apart(records: Sequence[Record]) -> list[Record]:
    """The records, with rows told apart whose settings differ though their names do not. Where a default changed
    between runs of one campaign, the variant of each says which it had, as `default k=1`. Where a search chose
    otherwise since, the variant of the earlier runs says so, as `once chosen: trial 1`, and they are a group of their
    own; what it chose last is left as it is. Told apart again, they stay as they are."""
    records = _by_choice(records)
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    names = {r.run_id: (campaign_of(r), r.asked.row) for r in records if r.asked.trial is None}
    for record in records:
        if name := names.get(record.run_id):
            found.setdefault(name, {})[canonical_json(record.asked.settings)] = record.asked.settings
    several = {name: [*kinds.values()] for name, kinds in found.items() if len(kinds) > 1}
    return [
        record.model_copy(update={"asked": _with_defaults(record.asked, several[names[record.run_id]])})
        if names.get(record.run_id) in several
        else record
        for record in records
    ]


def _by_choice(records: Sequence[Record]) -> list[Record]:
    """The records, those named that have what a search chose before it chose what its last run has."""
    found = (r for r in records if r.asked.trial is not None and r.asked.trial.of and EARLIER not in r.asked.variant)
    rows = grouped(found, lambda record: (group_of(record), record.asked.row))
    last = {row: _choice(max(runs, key=lambda run: (run.ran.ended, run.run_id))) for row, runs in rows.items()}
    earlier: dict[str, str] = {}
    for row, runs in rows.items():
        before = {_choice(run): run for run in runs if _choice(run) != last[row]}
        often = Counter(run.asked.trial and run.asked.trial.number for run in before.values())
        for run in runs:
            if (choice := _choice(run)) != last[row]:
                number = run.asked.trial and run.asked.trial.number
                earlier[run.run_id] = f"trial {number}" + f" ({name_of(choice)[:5]})" * (often[number] > 1)
    return [_once_chosen(run, earlier[run.run_id]) if run.run_id in earlier else run for run in records]


def _choice(record: Record) -> str:
    recipe, trial = record.asked.recipe, record.asked.trial
    return canonical_json([trial and trial.number, recipe.lr, recipe.weight_decay, record.asked.settings])


def _once_chosen(record: Record, which: str) -> Record:
    asked = record.asked
    parts = [asked.variant] * bool(asked.variant) + [EARLIER + which]
    return record.model_copy(update={"asked": asked.model_copy(update={"variant": ",".join(parts)})})


def _with_defaults(asked: Asked, kinds: Sequence[Mapping[str, Any]]) -> Asked:
    """kinds: the settings that runs of this name have."""
    fields = sorted({name for kind in kinds for name in kind})
    differ = [f for f in fields if len({canonical_json(kind[f]) if f in kind else None for kind in kinds}) > 1]
    parts = [f"default {f}={_short(spell(asked.settings[f]))}" if f in asked.settings else f"no {f}" for f in differ]
    return asked.model_copy(update={"variant": ",".join([*filter(None, [asked.variant]), *parts])})


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 7]}..{hashlib.sha256(text.encode()).hexdigest()[:5]}"


def by_row(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs by row name, ERM first, then by name; within a row by seed."""
    ordered = sorted(records, key=lambda r: (r.asked.row != "erm", r.asked.row, r.asked.seed))
    return grouped(ordered, lambda record: record.asked.row)
