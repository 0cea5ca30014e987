"""Run records -> tables for people: one for every group of runs that may be compared, cells as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.rows import Maps, by_group, by_row, group_of, throughput_rows, where
from benchmark.sensitivity import summaries
from benchmark.spec import Record, Selection
from benchmark.timing import SHARES


@dataclass(frozen=True)
class Summary:
    """One table for people: a heading, cells as text, and why some are empty."""

    heading: str
    cells: pd.DataFrame
    footnotes: list[str]


def summarise(records: Sequence[Record], maps: Maps) -> dict[str, list[Summary]]:
    """The three tables for people, one of each for every group of runs that may be compared."""
    ordered = sorted(records, key=lambda r: (r.asked.dataset, r.asked.protocol, r.asked.source, group_of(r)))
    found: dict[str, list[Summary]] = {"accuracy": [], "sensitivity": [], "throughput": []}
    for members in by_group(ordered).values():
        heading, footnotes = _heading(members[0]), _footnotes(members)
        found["accuracy"].append(Summary(heading, _accuracy_cells(members), footnotes))
        if any(r.run_id in maps for r in members):
            found["sensitivity"].append(Summary(heading, _sensitivity_cells(members, maps), []))
        for place in sorted({where(r) for r in members if r.throughput}):
            here = [r for r in members if r.throughput and where(r) == place]
            found["throughput"].append(Summary(f"{heading}; {place}", _throughput_cells(here), []))
    return found


def _heading(record: Record) -> str:
    asked, recipe = record.asked, record.asked.recipe
    length = f"{asked.seconds:g} s" if asked.budget == "time" else f"{recipe.steps} {asked.budget}"
    return (
        f"{asked.dataset}, source {asked.source}, protocol {asked.protocol}: {recipe.network}, {recipe.optimizer} "
        f"{recipe.lr:g}, {length} of {recipe.batch_size} images, selection {recipe.selection}; data {asked.fingerprint}"
    )


def _footnotes(members: Sequence[Record]) -> list[str]:
    notes = {}
    for record in members:
        for name, domain in (record.accuracy.domains if record.accuracy else {}).items():
            if domain.missing:
                notes[name] = f"{name}: data missing. {domain.missing}"
        if record.status != "done":
            last = (record.error or "").strip().rpartition("\n")[2]
            notes[record.run_id] = (
                f"{record.asked.row}, seed {record.asked.seed}: {record.status} ({last}); run {record.run_id}"
            )
    return list(notes.values())


def _rows_of(members: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Runs by row name, ERM first, then by the mean over shifted domains, best first."""

    def rank(item: tuple[str, list[Record]]) -> tuple[bool, float, str]:
        means = [_mean_of(r, r.asked.recipe.selection) for r in item[1] if r.accuracy]
        return item[0] != "erm", -sum(means) / len(means) if means else 0.0, item[0]

    return sorted(by_row(members).items(), key=rank)


def _shifted(record: Record) -> dict[str, Any]:
    """Accuracies by rule of the domains that are there and are not the source; of all there are if none is left."""
    accuracy = record.accuracy
    assert accuracy is not None
    there = {name: domain.accuracy for name, domain in accuracy.domains.items() if domain.accuracy}
    return {name: values for name, values in there.items() if name not in accuracy.in_domain} or there


def _mean_of(record: Record, rule: Selection) -> float:
    values: list[float] = [accuracy[rule] for accuracy in _shifted(record).values()]
    return sum(values) / len(values)


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """mean ± sample standard deviation; one value has no spread."""
    if not values:
        return "–"
    series = pd.Series(values, dtype=float)
    return f"{series.mean():.{digits}f}" + (f" ± {series.std(ddof=1):.{digits}f}" if len(values) > 1 else "")


def _accuracy_cells(members: Sequence[Record]) -> pd.DataFrame:
    domains = list(dict.fromkeys(name for r in members if r.accuracy for name in r.accuracy.domains))
    in_domain = {name for r in members if r.accuracy for name in r.accuracy.in_domain}
    rule = members[0].asked.recipe.selection
    rows = []
    for row, runs in _rows_of(members):
        done = [r for r in runs if r.accuracy]
        cells = {"method": row}
        for name in [d for d in domains if d not in in_domain]:
            cells[name] = _spread([a[name][rule] for r in done if name in (a := _shifted(r))])
        cells["mean"] = _spread([_mean_of(r, r.asked.recipe.selection) for r in done])
        cells["worst"] = _spread([min(a[rule] for a in _shifted(r).values()) for r in done])
        for name in [d for d in domains if d in in_domain]:
            there = [r.accuracy.domains[name].accuracy for r in done if r.accuracy]
            cells[f"{name} (in-domain)"] = _spread([a[rule] for a in there if a])
        cells["source val"] = _spread([r.accuracy.source_val[rule] for r in done if r.accuracy])
        cells["mean (last)"] = _spread([_mean_of(r, "last") for r in done])
        cells["mean (oracle)"] = _spread([_mean_of(r, "oracle") for r in done])
        rows.append(cells | _count(runs, done))
    return pd.DataFrame(rows)


def _sensitivity_cells(members: Sequence[Record], maps: Maps) -> pd.DataFrame:
    rows = []
    for row, runs in _rows_of(members):
        mapped = [r for r in runs if r.run_id in maps]
        bands = pd.DataFrame([summaries(maps[r.run_id]) for r in mapped])
        cells = {"method": row} | {str(name).replace("_", " "): _spread(list(bands[name]), 3) for name in bands}
        rows.append(cells | _count(runs, mapped))
    return pd.DataFrame(rows)


def _throughput_cells(members: Sequence[Record]) -> pd.DataFrame:
    frame = throughput_rows(members)
    rows = []
    for row, runs in _rows_of(members):
        mine = frame[frame["run_id"].isin([r.run_id for r in runs])]
        relative = mine["relative_to_erm"].dropna().astype(float)
        middle = mine[["steady_images_per_second", "steady_q25", "steady_q75"]].astype(float).median()
        cells = {
            "method": row,
            "images/s": _spread(list(mine["train_images_per_second"]), 0),
            "relative to ERM": _spread(list(relative), 3),
            "steady images/s": "{:.0f} [{:.0f}, {:.0f}]".format(*middle),
        }
        for share in SHARES:
            cells[f"{share.replace('_', '-')} %"] = f"{100 * mine[f'{share}_share'].mean():.0f}"
        cells["passes/image"] = f"{mine['passes_per_image'].mean():.2f}"
        cells["set-up s"] = f"{mine['setup_seconds'].mean():.1f}"
        cells["peak MiB"] = f"{mine['peak_memory_mib'].max():.0f}"
        rows.append(cells | _count(runs, runs))
    return pd.DataFrame(rows)


def _count(runs: Sequence[Record], good: Sequence[Record]) -> dict[str, str]:
    n = str(len(good)) if len(good) == len(runs) else f"{len(good)} of {len(runs)}"
    return {"n": n, "runs": " ".join(r.run_id for r in runs)}
