"""The accuracy table for people: one line for each row, targets in the field's order, and what the numbers support."""

from collections.abc import Callable, Mapping, Sequence

from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.report.people.cells import Cell, Line, count, ids, interval, several_devices, spread, why_empty
from benchmark.report.tidy import paper
from benchmark.report.tidy.comparisons import seeds_of
from benchmark.report.tidy.overlap import overlaps
from benchmark.report.tidy.stats import estimate, supported_best
from benchmark.report.tidy.targets import column, columns, measures, reached
from benchmark.runs.records import last_line

RULES: tuple[Selection, ...] = ("source-val", "last", "oracle")
MANY = 8
Rows = Mapping[str, Sequence[Record]]
"""Runs by row, in the order of the table; a row that was not run has none."""


def lines(rows: Rows) -> list[Line]:
    """Columns: shifted targets, mean, overlap-free mean and paper where there are any, worst, in-domain targets, source
    validation, the mean under each selection rule, selection optimism, interval of the mean, n. More than MANY targets
    come after mean and worst, which would be out of sight behind them."""
    members = [r for runs in rows.values() for r in runs]
    outside, inside = columns(members)
    measured = [r for r in members if r.accuracy]
    kept = _overlap_free(measured, outside)
    printed = any(_printed([r]) for r in measured)
    winners = {m: supported_best(v) if (v := seeds_of(rows, m)) else None for m in ["mean", "worst", *outside]}
    return [_line(row, runs, outside, inside, kept, printed, winners) for row, runs in rows.items()]


def _line(
    row: str,
    runs: Sequence[Record],
    outside: Sequence[str],
    inside: Sequence[str],
    kept: Sequence[str],
    printed: bool,
    winners: Mapping[str, str | None],
) -> Line:
    done, why = [r for r in runs if r.accuracy], why_empty(runs)

    def over(measure: Callable[[Record], float | None], name: str = "") -> Cell:
        found = {r.run_id: v for r in done if (v := measure(r)) is not None}
        return spread(found, why, bold=winners.get(name) == row)

    def under(rule: Selection) -> Callable[[Record], float | None]:
        return lambda r: measures(r, rule).get("mean")

    each = {name: over(lambda r, name=name: measures(r).get(name), name) for name in outside}  # type: ignore[misc]
    cells = {} if len(outside) > MANY else dict(each)
    cells["mean"] = over(lambda r: measures(r).get("mean"), "mean")
    if kept:
        cells["overlap-free mean"] = over(lambda r: _mean_over(measures(r), kept))
    if printed:
        cells |= _paper(done)
    cells["worst"] = over(lambda r: measures(r).get("worst"), "worst")
    cells |= each
    for name in inside:
        cells[f"{name} (in-domain)"] = over(lambda r, name=name: reached(r, r.asked.recipe.selection).get(name))  # type: ignore[misc]
    cells["source val"] = over(lambda r: r.accuracy.source_val[r.asked.recipe.selection] if r.accuracy else None)
    cells |= {f"mean ({rule})": over(under(rule)) for rule in RULES}
    once = bool(done) and all(r.asked.recipe.evaluations < 2 for r in done)
    cells["optimism"] = Cell("–") if once else over(_optimism)
    means = {r.run_id: v for r in done if (v := measures(r).get("mean")) is not None}
    found = estimate([*means.values()]) if means else None
    cells["mean, 95 %"] = Cell(interval(found.low, found.high), tuple(means)) if found else why
    seeds = "n"
    while seeds in each:  # a domain of that name
        seeds += " (seeds)"
    cells[seeds] = count(runs, done)
    return Line(row, cells, ids(runs))


def _optimism(record: Record) -> float | None:
    """What looking at the targets would add: oracle minus source-val."""
    oracle, honest = (measures(record, rule).get("mean") for rule in ("oracle", "source-val"))
    return None if oracle is None or honest is None else oracle - honest


def _mean_over(found: Mapping[str, float], kept: Sequence[str]) -> float | None:
    there = [found[name] for name in kept if name in found]
    return sum(there) / len(there) if there else None


def _overlap_free(measured: Sequence[Record], outside: Sequence[str]) -> list[str]:
    """The columns that no row trains on, where some row trains on one: the same for all rows, so that they compare."""
    found = overlaps(measured, _corruptions(measured, outside))
    touched = {c for ops in found.values() for hit in ops.values() for c in hit}
    return [name for name in outside if name not in touched] if touched else []


def _corruptions(members: Sequence[Record], names: Sequence[str]) -> list[str]:
    """The columns that have severities: a domain that somebody called `contrast` is none."""
    parts = {column(d) for r in members if r.accuracy for d in r.accuracy.domains if "/" in d}
    return [name for name in names if name in parts]


def _paper(done: Sequence[Record]) -> dict[str, Cell]:
    """The published mean, a range where papers disagree, and how far ours is off it."""
    theirs, found = _printed(done), paper.ours(done, "mean")
    if not theirs or found is None:
        return {"paper": Cell("none"), "off by SE": Cell("–")}
    low, high = min(theirs), max(theirs)
    text = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
    errors = paper.beside(found[0], low, high)[1]
    off = Cell("–") if errors is None else Cell(f"{errors:+.1f}", tuple(found[1]))
    return {"paper": Cell(text, source="results/paper.json"), "off by SE": off}


def _printed(runs: Sequence[Record]) -> list[float]:
    """Published means for a network like ours; none where data is missing, because ours is then over fewer targets."""
    return paper.like_ours(runs, "mean") if paper.ours(runs, "mean") else []


def notes(rows: Rows) -> list[str]:
    """Footnotes: missing data, runs that ended badly or were never made, several versions of the code, overlaps, and
    several devices."""
    found: dict[str, str] = {}
    members = [r for runs in rows.values() for r in runs]
    for record in members:
        for name, domain in (record.accuracy.domains if record.accuracy else {}).items():
            if domain.missing:
                found[name] = f"{name}: data missing. {domain.missing}"
        if record.status != "done":
            ended = f"{record.status} ({last_line(record.error)})"
            text = f"{record.asked.row}, seed {record.asked.seed}: {ended}; run {record.run_id}"
            found[record.run_id] = text
    seeds = {r.asked.seed for r in members}
    for row, runs in rows.items():
        absent = sorted(seeds - {r.asked.seed for r in runs})
        if runs and absent:
            found[f"seeds {row}"] = f"{row}: not run with seed {', '.join(map(str, absent))}"
    codes: dict[str, dict[str, None]] = {}
    for record in members:
        codes.setdefault(record.asked.method, {})[record.ran.code] = None
    for method, versions in codes.items():
        if len(versions) > 1:
            found[f"code {method}"] = f"{method}: runs of {len(versions)} versions of the code ({', '.join(versions)})"
    outside, inside = columns(members)
    if inside and not outside:
        found["inside"] = "no target but the source's own domains: mean and worst are over those"
    for row, ops in overlaps(members, _corruptions(members, outside)).items():
        hits = "; ".join(f"{op} ({', '.join(corruptions)})" for op, corruptions in ops.items())
        found[f"overlap {row}"] = f"{row} trains with operations that coincide with test corruptions: {hits}"
    return [*found.values(), *several_devices(rows)]
