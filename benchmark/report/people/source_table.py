"""For people: what a row reaches over all sources of a campaign, which is the number that papers print."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmark.core.record import Record
from benchmark.report.people.cells import Cell, Line, Summary, ids, interval, several_devices, spread, why_empty
from benchmark.report.people.comparison_tables import told
from benchmark.report.tidy.campaigns import Campaign, campaigns
from benchmark.report.tidy.stats import Pair, compare, estimate, supported_best
from benchmark.report.tidy.targets import by_seed, column, columns, reached

FROM = "from "
"""What the columns of single sources begin with."""
AGAINST_ERM = {"minus ERM": "difference", "95 %, all at once": "95 %, all at once", "p (Holm)": "p (Holm)"}
"""Columns, and which of those of the table of differences they are."""


def summaries_of(records: Sequence[Record], heading: Callable[[Record, str], str]) -> list[Summary]:
    """One for each campaign. heading: from any of its runs, and what stands for the source."""
    found = []
    for campaign in campaigns(records):
        title = heading(next(iter(campaign.rows.values()))[0], campaign.place)
        found.append(Summary(title, _lines(campaign), _notes(campaign), campaign.key))
    return found


def _lines(campaign: Campaign) -> list[Line]:
    """Columns: the mean of each source, mean and worst over them, the difference to ERM, interval of the mean, n."""
    means, worsts = campaign.over("mean"), campaign.over("worst")
    pairs = {pair.row: pair for pair in compare(means, "erm")} if "erm" in means else None
    winners = {
        name: supported_best(values) if values else None for name, values in (("mean", means), ("worst", worsts))
    }
    for source, rows in campaign.sources.items():
        values = {row: v for row, runs in rows.items() if (v := by_seed(runs, "mean"))}
        winners[FROM + source] = supported_best(values) if values else None
    lines = []
    for row in campaign.ordered:
        runs, complete = campaign.rows[row], campaign.complete(row)
        used = ids([run for seed in complete.values() for run in seed])
        cells = {
            FROM + source: spread(
                campaign.reached(row, source), why_empty(rows.get(row, [])), bold=winners[FROM + source] == row
            )
            for source, rows in campaign.sources.items()
        }
        for name, found in (("mean", means), ("worst", worsts)):
            by_seeds = {str(seed): value for seed, value in found.get(row, {}).items()}
            shown = spread(by_seeds, "–", bold=winners[name] == row)
            cells[name] = replace(shown, runs=used)
        if not complete:
            cells["mean"] = _gap(campaign, row)
        if pairs is not None:
            cells |= _against_erm(campaign, pairs.get(row))
        around = estimate([*means[row].values()]) if complete else None
        cells["mean, 95 %"] = Cell(interval(around.low, around.high) if around else "–", used)
        made = len({run.asked.seed for run in runs})
        cells["n"] = Cell(str(made) if len(complete) == made else f"{len(complete)} of {made}", ids(runs))
        lines.append(Line(row, cells, ids(runs)))
    return lines


def _against_erm(campaign: Campaign, pair: Pair | None) -> dict[str, Cell]:
    """Row minus ERM, as the table of differences has it; dashes for ERM itself and without a seed in common."""
    texts, runs = told(pair) if pair is not None else {}, tuple[str, ...]()
    if pair is not None:
        mine, theirs = campaign.complete(pair.row), campaign.complete("erm")
        common = mine.keys() & theirs.keys()
        runs = ids([run for seeds in (mine, theirs) for seed, of in seeds.items() if seed in common for run in of])
    return {name: Cell(texts.get(theirs, "–"), runs) for name, theirs in AGAINST_ERM.items()}


def _gap(campaign: Campaign, row: str) -> Cell:
    """Why a row has no complete seed, by the sources from which it has no value at all."""
    without = [source for source in campaign.sources if not campaign.reached(row, source)]
    return Cell(_why(campaign, row, without) or "no seed from every source", ids(campaign.rows[row]), empty=True)


def _why(campaign: Campaign, row: str, without: Sequence[str], seed: int | None = None) -> str:
    """'not run from A, B; failed from C', for one seed or for all seeds."""
    found: dict[str, list[str]] = {}
    for source in without:
        runs = [r for r in campaign.sources[source].get(row, []) if seed is None or r.asked.seed == seed]
        found.setdefault(why_empty(runs).text, []).append(source)
    if len(without) == len(campaign.sources) and len(found) == 1:
        (why,) = found
        return f"{why} from {'any' if why == 'not run' else 'every'} source"
    return "; ".join(f"{why} from {', '.join(names)}" for why, names in found.items())


def _notes(campaign: Campaign) -> list[str]:
    """Footnotes: the seeds that a row's mean leaves out and why, missing data, sources without a shifted target,
    runs on other data, and several devices."""
    notes = []
    for row in campaign.ordered:
        gaps: dict[str, list[str]] = {}
        for seed in campaign.seeds:
            if without := campaign.lacks(row, seed):
                gaps.setdefault(_why(campaign, row, without, seed), []).append(str(seed))
        told = "; ".join(f"seed {', '.join(seeds)} ({why})" for why, seeds in gaps.items())
        notes += [f"{row}: mean and worst over the sources leave out {told}"] if told else []
    means = campaign.over("mean")
    for row, mine in means.items():
        theirs = {seed: value for seed, value in means.get("erm", {}).items() if seed in mine}
        if theirs and theirs != means["erm"]:
            notes.append(f"{row}: over its seeds erm has {sum(theirs.values()) / len(theirs):.1f}")
    for source, rows in campaign.sources.items():
        runs = [run for mine in rows.values() for run in mine if run.accuracy]
        outside, inside = columns(runs)
        missing = {name for run in runs for name in _missing(run)}
        names = ", ".join(name for name in outside if name in missing)
        notes += [f"{FROM}{source}: without {names}, whose data is missing"] if names else []
        if inside and not outside:
            notes.append(f"{FROM}{source}: no target but the source's own domains, so its mean is over those")
    for source in dict.fromkeys(run.asked.source for run in campaign.left_out):
        others = dict.fromkeys(r.asked.fingerprint for r in campaign.left_out if r.asked.source == source)
        notes.append(f"{FROM}{source}: runs on other data are left out (data {', '.join(others)})")
    return notes + several_devices(campaign.rows)


def _missing(run: Record) -> set[str]:
    """The columns of which a run has no whole number."""
    every = {column(name) for name in run.accuracy.domains} if run.accuracy else set()
    return every - reached(run, run.asked.recipe.selection).keys()
