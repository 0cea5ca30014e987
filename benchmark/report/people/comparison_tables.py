"""Tables for people that compare rows: differences, ranks, cost, and published numbers."""

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmark.core.record import Record
from benchmark.report.people.cells import Cell, Line, Summary, ids, interval, p_text, several_devices, spread, why_empty
from benchmark.report.tidy.comparisons import (
    behind,
    best_of,
    cost_rows,
    length,
    network,
    pairs,
    rankings,
    seeds_of,
    setting,
)
from benchmark.report.tidy.groups import by_row, named_dataset
from benchmark.report.tidy.paper import paper_rows
from benchmark.report.tidy.stats import Pair


def differences(heading: str, rows: Mapping[str, Sequence[Record]], group: str) -> Summary:
    """Every row's mean over the shifted targets against ERM's and the best row's, and a variant's against its method's,
    seed by seed."""
    values, lines = seeds_of(rows, "mean"), []
    recipe = next(run for runs in rows.values() for run in runs).asked.recipe
    chosen = recipe.evaluations > 1 and recipe.selection != "last"
    for pair, under_last in pairs(values, seeds_of(rows, "mean", "last")):
        runs, texts = ids(behind(pair, values, rows)), told(pair)
        if chosen:
            texts["p, last step"] = "–" if under_last is None else p_text(under_last)
        lines.append(Line(pair.row, {name: Cell(text, runs) for name, text in texts.items()}, runs))
    return Summary(heading, lines, several_devices(rows), group)


def told(pair: Pair) -> dict[str, str]:
    """A pair in the columns of the table of differences."""
    found, p = pair.difference, pair.p_holm
    more = "unclear" if pair.more_seeds is None else str(pair.more_seeds)
    return {
        "versus": pair.versus,
        "difference": f"{found.mean:+.1f}",
        "95 %, all at once": interval(*(pair.interval or (None, None))),
        "p (Holm)": "–" if p is None else p_text(p),
        "n": str(found.n),
        "more seeds to settle": "–" if p is None else more,
    }


def ranks(records: Sequence[Record]) -> list[Summary]:
    """Average ranks, one table for each protocol, budget and device."""
    found = []
    for (protocol, budget, device), (ranked, runs, names) in rankings(records).items():
        lines = [
            Line(row, {"average rank": Cell(f"{rank:.2f}", ids(runs[row]))}, ids(runs[row]))
            for row, rank in sorted(ranked.mean.items(), key=lambda item: item[1])
        ]
        told = f"Ranks that differ by less than {ranked.critical_difference:.2f} are not told apart (Nemenyi, 5 %)."
        cells = f"{ranked.blocks} comparisons, ranked by their mean over the shifted targets: {', '.join(names)}."
        heading = f"protocol {protocol}, budget {budget}, device {device}"
        found.append(Summary(heading, lines, [told, cells], f"{protocol}-{budget}-{device}"))
    return found


def cost(records: Sequence[Record]) -> list[Summary]:
    """Passes, seconds and accuracy side by side for all budgets of one dataset, source, protocol and machine."""
    frame, found = cost_rows(records), []
    known = {r.run_id: r for r in records}
    for (dataset, source, protocol, key, machine), part in frame.groupby(
        ["dataset", "source", "protocol", "setting", "machine"], sort=True
    ):
        here = [known[run_id] for run_id in part["run_id"]]
        lengths = dict.fromkeys(length(r.asked) for r in sorted(here, key=_by_length))
        place = (dataset, source, protocol, key)
        without = [r for r in records if not r.accuracy and _place(r) == place]
        away = frame[~frame["run_id"].isin(part["run_id"])]["run_id"]
        elsewhere = [known[run_id] for run_id in away if _place(known[run_id]) == place]
        lines = [_cost_line(row, runs, [*lengths], part, without, elsewhere) for row, runs in by_row(here).items()]
        asked = here[0].asked
        what = network(here[0]) + best_of(here[0])
        heading = f"{named_dataset(here[0])}, source {source}, protocol {protocol}: {what}; data {asked.fingerprint}"
        found.append(Summary(f"{heading}; {machine}", lines, _dearest(part), str(key)))
    return found


def _dearest(part: pd.DataFrame) -> list[str]:
    """How to give every row what the dearest one costs under equal steps."""
    steps = part[(part["budget"] == "steps") & part["seconds"].notna()]
    if steps["seconds"].nunique() < 2:
        return []
    costs = steps.groupby(["length", "method", "variant"], as_index=False)[["passes", "seconds"]].mean()
    top = max(costs.to_dict("records"), key=lambda entry: entry["seconds"])
    if sum(costs["length"] == top["length"]) < 2:
        return []
    name = f"{top['method']}[{top['variant']}]" if top["variant"] else top["method"]
    seconds = float(f"{top['seconds']:.3g}")
    return [
        f"With {top['length']}, {name} is the dearest: `--budget passes --steps {top['passes']:.0f}` or `--budget time "
        f"--seconds {seconds:g}` gives every row what it costs."
    ]


def _by_length(record: Record) -> tuple[int, float]:
    asked = record.asked
    return ["steps", "passes", "time"].index(asked.budget), asked.seconds or asked.recipe.steps


def _place(record: Record) -> tuple[str, str, str, str]:
    return record.asked.dataset, record.asked.source, record.asked.protocol, setting(record)


def _cost_line(
    row: str,
    runs: Sequence[Record],
    lengths: Sequence[str],
    part: pd.DataFrame,
    without: Sequence[Record],
    elsewhere: Sequence[Record],
) -> Line:
    """Of a seed with and without a sensitivity map, the run that ended last. without: runs that reached nothing.
    elsewhere: those of the tables of other machines."""
    cells = {}
    for text in lengths:
        why = why_empty([r for r in without if r.asked.row == row and length(r.asked) == text])
        if there := [r for r in elsewhere if r.asked.row == row and length(r.asked) == text]:
            why = Cell("on another machine", ids(there), empty=True)
        last = {r.asked.seed: r.run_id for r in sorted(runs, key=lambda r: r.ran.ended) if length(r.asked) == text}
        mine = part[part["run_id"].isin(last.values())].set_index("run_id")
        for column, digits in (("accuracy", 1), ("passes", 0), ("seconds", 1)):
            values = {str(run_id): float(v) for run_id, v in mine[column].dropna().items()}
            cells[f"{text}: {column}"] = spread(values, why if mine.empty else "–", digits)
    return Line(row, cells, ids(runs))


def papers(records: Sequence[Record]) -> list[Summary]:
    """Every published number that a row of ours can be set against; one table for each group."""
    found, known = [], {r.run_id: r for r in records}
    for group, part in paper_rows(records).groupby("group", sort=False):
        lines = []
        for entry in part.to_dict("records"):
            runs = tuple(str(entry["run_ids"]).split())
            errors = entry["standard_errors"]
            sd = "" if pd.isna(entry["sd"]) else f" ± {entry['sd']:.1f}"
            cells = {
                "target": Cell(str(entry["target"]), runs),
                "ours": Cell(f"{entry['accuracy']:.1f}{sd}", runs),
                "n": Cell(str(entry["n"]), runs),
                "paper": Cell(f"{entry['published']:.2f}", source=str(entry["paper"])),
                "difference": Cell(f"{entry['difference']:+.1f}", runs),
                "in SE": Cell("–" if pd.isna(errors) else f"{errors:+.1f}", runs),
                "evidence": Cell(str(entry["evidence"])),
                "network there": Cell(str(entry["backbone"]), source=str(entry["paper"])),
                "read in": Cell(f"{entry['paper']} {entry['where']}".strip(), source=str(entry["paper"])),
            }
            lines.append(Line(str(entry["method"]), cells, runs))
        record = known[lines[0].runs[0]]
        asked = record.asked
        of = f"protocol {asked.protocol}: {network(record)}, {length(asked)}"
        heading = f"{named_dataset(record)}, source {asked.source}, {of}"
        found.append(Summary(heading, lines, [], str(group)))
    return found
