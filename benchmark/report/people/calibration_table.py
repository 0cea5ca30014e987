"""Calibration for people: a table of expected calibration errors and one of negative log likelihoods, columns and
order as in the accuracy table."""

from collections.abc import Mapping, Sequence

from benchmark.core.record import Record
from benchmark.report.people.accuracy_table import MANY, Rows
from benchmark.report.people.cells import Cell, Line, Summary, count, ids, spread, why_empty
from benchmark.report.tidy.calibration import Quantity, calibrated
from benchmark.report.tidy.stats import supported_best
from benchmark.report.tidy.targets import columns, measures, reached

QUANTITIES: dict[Quantity, tuple[str, int, str]] = {
    "ece": ("ECE %", 1, "expected calibration error (ECE) in percent"),
    "nll": ("NLL nats", 3, "negative log likelihood (NLL) in nats"),
}
"""What the columns end in, digits after the point, and what the heading ends in."""


def summaries_of(heading: str, rows: Rows, group: str) -> list[Summary]:
    """Nothing where no run of the comparison has it."""
    if not any(r.calibration for runs in rows.values() for r in runs):
        return []
    return [
        Summary(f"{heading}; {title}", _lines(rows, quantity, unit, digits), _gaps(rows), group)
        for quantity, (unit, digits, title) in QUANTITIES.items()
    ]


def _lines(rows: Rows, quantity: Quantity, unit: str, digits: int) -> list[Line]:
    outside, inside = columns([r for runs in rows.values() for r in runs])
    found = {r.run_id: calibrated(r, quantity) for runs in rows.values() for r in runs}
    names = ["mean", *outside] if len(outside) > MANY else [*outside, "mean"]
    titles = {name: name for name in names} | {name: f"{name} (in-domain)" for name in inside}
    titles["source val"] = "source val"
    best = {name: _best(rows, found, name) for name in names}
    lines = []
    for row, runs in rows.items():
        cells = {}
        for name, title in titles.items():
            values = {r.run_id: found[r.run_id][name] for r in runs if name in found[r.run_id]}
            why = _why(runs, name)
            cells[f"{title} {unit}"] = spread(values, why, digits, bold=best.get(name) == row)
        cells["n"] = count(runs, [r for r in runs if r.calibration])
        lines.append(Line(row, cells, ids(runs)))
    return lines


def _best(rows: Rows, found: Mapping[str, Mapping[str, float]], name: str) -> str | None:
    """The row that may be bold: the rule of the accuracy table, with the lowest instead of the highest; none where
    a row that has an accuracy has no value."""
    scored = {row: runs for row, runs in rows.items() if any(r.accuracy for r in runs)}
    values = {
        row: {r.asked.seed: -found[r.run_id][name] for r in runs if name in found[r.run_id]}
        for row, runs in scored.items()
    }
    return supported_best(values) if values and all(values.values()) else None


def _why(runs: Sequence[Record], name: str) -> Cell | str:
    """The cell for no value: a dash, or what the accuracy table says where that has none either."""
    scored = {"source val"}
    for r in (r for r in runs if r.accuracy):
        scored |= measures(r).keys() | reached(r, r.asked.recipe.selection).keys()
    return "–" if name in scored and any(r.accuracy for r in runs) else why_empty(runs)


def _gaps(rows: Rows) -> list[str]:
    """Footnotes: why a run has no number where it has an accuracy."""
    gaps: dict[str, dict[str, list[str]]] = {}
    for row, runs in rows.items():
        for r in (r for r in runs if r.accuracy):
            if why := _gap(r):
                gaps.setdefault(why, {}).setdefault(row, []).append(str(r.asked.seed))
    named = {
        why: "; ".join(f"{row}, seed {', '.join(seeds)}" for row, seeds in found.items()) for why, found in gaps.items()
    }
    return [f"{why}: {names}. – where no other run is left" for why, names in named.items()]


def _gap(record: Record) -> str:
    found = record.calibration
    if found is None:
        return "made before it was measured; run again"
    odd = [name for name, one in {"source val": found.source_val, **found.domains}.items() if one.ece is None]
    return f"the network's outputs in {', '.join(odd)} are not all finite" if odd else ""
