"""Run records -> tables for people: one for every group of runs that may be compared."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import pandas as pd

from benchmark.core.record import Record
from benchmark.core.timing import SHARES
from benchmark.report.people import accuracy_table, calibration_table, comparison_tables, search_tables, source_table
from benchmark.report.people.cells import Cell, Line, Summary, count, ids, spread, why_empty
from benchmark.report.tidy.comparisons import OF_COST, best_of, hardware, length, network, setting
from benchmark.report.tidy.groups import (
    PLACE,
    by_group,
    by_row,
    campaign_of,
    distinct,
    group_of,
    named_dataset,
    told_apart,
)
from benchmark.report.tidy.rows import Maps, shares_gpu, throughput_rows, where
from benchmark.report.tidy.targets import measures
from benchmark.runs import load
from benchmark.sensitivity.map import summaries

Rows = dict[str, list[Record]]
"""Runs by row, in the order of the table; a row that was not run has none."""

T = TypeVar("T")

DETAILS = ["source val", *(f"mean ({rule})" for rule in accuracy_table.RULES), "optimism", "mean, 95 %"]
"""Columns of the accuracy table that a short form leaves to the files."""


def summarise(records: Sequence[Record], maps: Maps, trials: Sequence[Record] = ()) -> dict[str, list[Summary]]:
    """All tables for people by name; most have one for every group of runs that may be compared. trials: the records of
    searches, which have a table of their own where there are any, and stand in no other."""
    apart = told_apart(records)
    ordered = sorted(apart, key=lambda r: (r.asked.dataset, r.asked.protocol, r.asked.source, group_of(r)))
    found: dict[str, list[Summary]] = {
        name: []
        for name in ("accuracy", "differences", "calibration", "ranks", "cost", "paper", "sensitivity", "throughput")
    }
    groups = by_group(ordered)
    speed = cache(lambda: throughput_rows(ordered).set_index("run_id", drop=False))
    for group, members in groups.items():
        for name, tables in _of_group(group, members, ordered, maps, speed).items():
            found[name] += [table for table in tables if table.lines or table.footnotes]
    found["ranks"] = _or_why(lambda: comparison_tables.ranks(ordered))
    found["sources"] = _or_why(lambda: source_table.summaries_of(ordered, _setting))
    found["cost"] = _or_why(lambda: comparison_tables.cost(ordered))
    found["paper"] = _or_why(lambda: comparison_tables.papers(ordered))
    if trials:
        found["search"] = _or_why(lambda: search_tables.searches(ordered, trials, _heading))
    runs = {key: r for r in reversed(ordered) for key in (group_of(r), setting(r))}
    known = {r.run_id: r for r in ordered}
    runs |= {table.group: known[table.lines[0].runs[0]] for table in found["sources"] if table.lines}
    return {name: _distinct(tables, runs, PLACE + OF_COST * (name == "cost")) for name, tables in found.items()}


def _distinct(tables: list[Summary], runs: Mapping[str, Record], free: Collection[str]) -> list[Summary]:
    """Tables, no two with one heading. runs: one of each group, campaign and setting. free: see `distinct`."""
    known = {str(i): runs[table.group] for i, table in enumerate(tables) if table.group in runs}
    headings = distinct({i: tables[int(i)].heading for i in known}, known, free)
    return [replace(table, heading=headings.get(str(i), table.heading)) for i, table in enumerate(tables)]


def _of_group(
    group: str, members: Sequence[Record], everything: Sequence[Record], maps: Maps, speed: Callable[[], pd.DataFrame]
) -> dict[str, list[Summary]]:
    """The tables of one group of comparable runs. speed: `throughput_rows` of all runs by run id; the ERM that a row is
    timed beside may stand in another group, if a search chose it before."""
    heading, rows = _heading(members[0]), _rows_of(members, everything)
    made = {row: runs for row, runs in rows.items() if runs}
    mapped = any(r.run_id in maps for r in members)
    makers: dict[str, Callable[[], list[Summary]]] = {
        "accuracy": lambda: [Summary(heading, accuracy_table.lines(rows), accuracy_table.notes(rows), group)],
        "differences": lambda: [comparison_tables.differences(heading, made, group)],
        "calibration": lambda: calibration_table.summaries_of(heading, made, group),
        "sensitivity": lambda: [Summary(heading, _sensitivity_lines(made, maps), [], group)] if mapped else [],
        "throughput": lambda: _throughput(heading, made, group, speed()),
    }
    return {name: _or_why(make, heading, group) for name, make in makers.items()}


def _or_why(make: Callable[[], list[Summary]], heading: str = "all runs", group: str = "") -> list[Summary]:
    """Tables, or, where they cannot be made, one without lines that says why."""
    return or_why(make, lambda why: [Summary(heading, [], [f"cannot be made: {why}"], group)])


def or_why(make: Callable[[], T], instead: Callable[[str], T]) -> T:
    """What is made, or, where it cannot be made, something instead that says why: nothing takes the rest with it."""
    try:
        return make()
    except Exception as problem:  # noqa: BLE001 - whatever a record from elsewhere may lead to
        return instead(why_not(problem))


def why_not(problem: Exception) -> str:
    """An error in one line, for the place of what could not be made."""
    return f"{type(problem).__name__}: {problem}".replace("\n", " ")


def _throughput(heading: str, made: Rows, group: str, speed: pd.DataFrame) -> list[Summary]:
    """One table for each machine."""
    found = []
    for place in sorted({where(r) for runs in made.values() for r in runs if r.throughput}):
        here = {row: [r for r in runs if r.throughput and where(r) == place] for row, runs in made.items()}
        here = {row: runs for row, runs in here.items() if runs}
        frame = speed.loc[[r.run_id for runs in here.values() for r in runs]]
        found.append(
            Summary(
                f"{heading}; {place}",
                _throughput_lines(here, frame),
                [*_without_erm(here, frame), *_loaded(here)],
                group,
            )
        )
    return found


def _without_erm(rows: Rows, frame: pd.DataFrame) -> list[str]:
    """A footnote that names the runs that `relative to ERM` leaves out; none where every run has an ERM beside it."""
    shared = {r.run_id for runs in rows.values() for r in runs if shares_gpu(r)}  # the caption speaks of those
    without = set(frame.index[frame["relative_to_erm"].isna()]) - shared
    alone = {row: [str(r.asked.seed) for r in runs if r.run_id in without] for row, runs in rows.items()}
    names = "; ".join(f"{row}, seed {', '.join(seeds)}" for row, seeds in alone.items() if seeds)
    text = "relative to ERM leaves out runs without an ERM run of the same seed in the same call of benchmark.run"
    return [f"{text}: {names}. – where none is left"] if names else []


def _loaded(rows: Rows) -> list[str]:
    """Which rows have runs whose machine was busy with something else; nothing where none has."""
    counts = {row: sum(bool(load.beyond(r.ran.machine)) for r in runs) for row, runs in rows.items()}
    told = ", ".join(f"{row} ({count} of {len(rows[row])} runs)" for row, count in counts.items() if count)
    return [f"the machine was loaded beyond its cores, and speeds are too low: {told}"] if told else []


def _heading(record: Record) -> str:
    return f"{_setting(record, f'source {record.asked.source}')}; data {record.asked.fingerprint}"


def _setting(record: Record, place: str) -> str:
    """What a table's runs share. place: which source or sources they have."""
    asked, recipe = record.asked, record.asked.recipe
    decay = f", decay {recipe.weight_decay:g}" if recipe.weight_decay else ""
    rates = "" if asked.trial else f" {recipe.lr:g}{decay}"
    chosen = f"selection {recipe.selection}" if recipe.evaluations > 1 else "tested once, at the end"
    return (
        f"{named_dataset(record)}, {place}, protocol {asked.protocol}: {network(record)}, {recipe.optimizer}"
        f"{rates}, {length(record.asked)} of {recipe.batch_size} images, {chosen}{best_of(record)}"
        f"{hardware(record)}"
    )


def _rows_of(members: Sequence[Record], everything: Sequence[Record]) -> Rows:
    """Runs by row name, ERM first, then by the mean over shifted targets, best first; at the end, without runs, the
    rows that the same comparison has from other sources."""

    def rank(item: tuple[str, list[Record]]) -> tuple[bool, float, str]:
        means = [m["mean"] for r in item[1] if r.accuracy and (m := measures(r))]
        return item[0] != "erm", -sum(means) / len(means) if means else 0.0, item[0]

    campaign = campaign_of(members[0])
    elsewhere = by_row([r for r in everything if campaign_of(r) == campaign])
    return dict(sorted(by_row(members).items(), key=rank)) | {
        row: [] for row in elsewhere if row not in {r.asked.row for r in members}
    }


SENSITIVITY = {
    "area_above_clean_error": "area above clean error",
    "half_maximum_radius": "half-maximum radius (cycles per image)",
}
"""Columns of the sensitivity table that are called otherwise than `sensitivity.map.summaries` calls them."""


def _sensitivity_lines(rows: Rows, maps: Maps) -> list[Line]:
    mapped = {row: [r for r in runs if r.run_id in maps] for row, runs in rows.items()}
    bands = {r.run_id: summaries(maps[r.run_id]) for runs in mapped.values() for r in runs}
    names = list(next(iter(bands.values())))
    lines = []
    for row, runs in rows.items():
        cells = {
            SENSITIVITY.get(name, name.replace("_", " ")): spread(
                {r.run_id: bands[r.run_id][name] for r in mapped[row]},
                "–" if any(r.accuracy for r in runs) else why_empty(runs),
                3,
            )
            for name in names
        }
        lines.append(Line(row, cells | {"n": count(runs, mapped[row])}, ids(runs)))
    return lines


def _throughput_lines(rows: Rows, frame: pd.DataFrame) -> list[Line]:
    """frame: throughput_rows of these runs by run id."""
    crowded = any(shares_gpu(r) for runs in rows.values() for r in runs)
    lines = []
    for row, runs in rows.items():
        mine, used = frame.loc[list(ids(runs))], ids(runs)
        relative = mine["relative_to_erm"].dropna().astype(float)
        middle = mine[["steady_images_per_second", "steady_q25", "steady_q75"]].astype(float).median()
        texts = {"steady images/s": "–" if middle.isna().any() else "{:.0f} [{:.0f}, {:.0f}]".format(*middle)}
        texts |= {f"{share.replace('_', '-')} share": f"{mine[f'{share}_share'].mean():.2f}" for share in SHARES}
        texts["passes/image"] = f"{mine['passes_per_image'].mean():.2f}"
        for share, title in (("of_floor", "share of bare passes"), ("of_matrix_rate", "share of matrix rate")):
            known = mine[share].dropna().astype(float)
            texts[title] = f"{known.mean():.2f}" if len(known) else "–"
        if crowded:
            texts["sharing"] = " or ".join(map(str, sorted(mine["sharing"].unique())))
        texts["set-up s"] = f"{mine['setup_seconds'].mean():.1f}"
        texts["peak MiB"] = f"{mine['peak_memory_mib'].max():.0f}"
        cells = {
            "images/s": spread(_by_run(mine["train_images_per_second"]), "–", 0),
            "relative to ERM": spread(_by_run(relative), "–", 3),
        }
        cells |= {name: Cell(text, used) for name, text in texts.items()}
        lines.append(Line(row, cells | {"n": count(runs, runs)}, used))
    return lines


def _by_run(values: "pd.Series[float]") -> dict[str, float]:
    return {str(run_id): float(value) for run_id, value in values.items()}
