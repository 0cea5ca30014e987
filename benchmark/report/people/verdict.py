"""The answer of one comparison in sentences: which augmentation to use, on what evidence, at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.core.record import Record
from benchmark.report.people.price import Members, cheapest, price
from benchmark.report.people.reasons import AMONG, Wording, called, deciding, evidence, hanging, led, mean_of, worse
from benchmark.report.tidy.campaigns import Campaign
from benchmark.report.tidy.comparisons import seeds_of
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.stats import ENOUGH_SEEDS, Pair, Seeds, best, compare, supported_best
from benchmark.report.tidy.targets import columns


@dataclass(frozen=True)
class Verdict:
    """answer: one sentence. reasons: what it rests on, what would decide it, what it costs; a sentence or two each."""

    answer: str
    reasons: list[str]


INSIDE = Wording(over="the source's own domains", nothing="No run of this comparison has an accuracy.")
SOURCES = Wording(
    over="all pairs of source and target",
    nothing="No method has been tested from every source with one seed yet.",
    there="has a seed from every source",
    absent="has no seed from every source",
    every="every row from every source",
)


def verdict(records: Sequence[Record]) -> Verdict:
    """The answer of one group of comparable runs."""
    members = by_row([record for record in records if record.accuracy])
    rows, last = seeds_of(members, "mean"), seeds_of(members, "mean", "last")
    outside, inside = columns(records)
    words = INSIDE if inside and not outside else Wording()
    return _with_unjudged(judged(rows, members, words, last), rows, by_row(records), "an accuracy")


def over_sources(campaign: Campaign) -> Verdict:
    """The answer of a campaign: by the means over all of its sources, of the seeds that have them all."""
    rows, last = campaign.over("mean"), campaign.over("mean", "last")
    found = judged(rows, by_row([r for runs in campaign.rows.values() for r in runs if r.accuracy]), SOURCES, last)
    return _with_unjudged(
        found, rows, {row: campaign.rows[row] for row in campaign.ordered}, "a seed from every source"
    )


def _with_unjudged(found: Verdict, rows: Mapping[str, Seeds], every: Members, without: str) -> Verdict:
    """The verdict, and last what it says nothing of: domains without data, failed runs of its rows, and rows without a
    value, which lack `without`."""
    tested = [run.accuracy.domains for runs in every.values() for run in runs if run.accuracy]
    untested = [name for name in (tested[0] if tested else ()) if all(name in t and t[name].missing for t in tested)]
    failed = {row: sum(run.status != "done" for run in runs) for row, runs in every.items() if row in rows}
    lost = ", ".join(f"{count} of {len(every[row])} of {called(row)}" for row, count in failed.items() if count)
    absent = ", ".join(called(row) for row in every if row not in rows)
    more = [f"Without {', '.join(untested)}: data missing."] * bool(untested)
    more += [f"Runs that failed, and are not in these numbers: {lost}."] * bool(lost)
    more += [f"Not judged, without {without}: {absent}."] * bool(rows and absent)
    return Verdict(found.answer, [*found.reasons, *more])


def judged(rows: Mapping[str, Seeds], members: Members, words: Wording, last: Mapping[str, Seeds] = {}) -> Verdict:
    """The answer that values by row and seed give. members: the runs of the rows, for what they cost. last: the values
    of the networks of the last step.

    A difference counts where the paired t-test finds it after Holm's correction, 5 %, on ENOUGH_SEEDS. Rows with fewer
    are not judged but named, unless that leaves no two, or ERM is one of them: then the answer is that it is undecided,
    and what would decide it.
    """
    if not rows:
        return Verdict(words.nothing, [])
    if len(rows) == 1:
        (first,) = rows
        return Verdict(
            f"Only {called(first)} {words.there}: there is nothing to compare it with.",
            [f"It reaches {mean_of(rows, first)}, the mean over {words.over} (n = {len(rows[first])})."],
        )
    able = {row: values for row, values in rows.items() if len(values) >= ENOUGH_SEEDS}
    if len(able) < 2 or ("erm" in rows and "erm" not in able):
        able = dict(rows)
    first = best(able)
    reference = "erm" if "erm" in rows else first
    pairs = [pair for pair in compare(rows, reference) if pair.row in able]
    better = [pair.row for pair in pairs if pair.significant and pair.difference.mean > 0]
    lead, winner = _lead(first, reference, pairs), supported_best(rows, able)
    reasons = [evidence(rows, first, reference, lead, words), *worse(pairs, reference)]
    reasons += hanging(pairs, reference, rows, last)
    if winner not in (None, reference):  # ERM has been judged above
        beaten = [pair for pair in compare(rows, first) if pair.row in able and pair.row != reference]
        reasons += hanging(beaten, first, rows, last)
    reasons += deciding(able, _open(pairs, lead, winner), lead, words, members)
    reasons += price(members, first, better)
    short = ", ".join(f"{called(row)} ({len(values)})" for row, values in rows.items() if row not in able)
    if short:
        reasons.append(f"Not judged, with fewer than {ENOUGH_SEEDS} seeds: {short}.")
    others = _others(len(able) - 1) + f" with {ENOUGH_SEEDS} seeds" * bool(short)
    won = f"Use {called(winner)}: it is better than {others}." if winner else ""
    return Verdict(_answer(able, won, members, reference, lead, better, words), reasons)


def _lead(first: str, reference: str, pairs: Sequence[Pair]) -> Pair | None:
    """The pair that says how far the best row is ahead of ERM or, where it is ERM itself or ERM is absent, of the next
    row; None without a common seed."""
    if first == reference:
        return max(pairs, key=lambda pair: pair.difference.mean, default=None)
    return next((pair for pair in pairs if pair.row == first), None)


def _open(pairs: Sequence[Pair], lead: Pair | None, winner: str | None) -> Pair | None:
    """The pair that has to be decided: the leading one, or without ERM, where that one is decided and the best row is
    not shown to be better than every other, the one with the largest p."""
    undecided = [pair for pair in pairs if not pair.significant]
    if winner or lead is None or not lead.significant or lead.versus == "erm" or not undecided:
        return lead
    return max(undecided, key=lambda pair: 1.0 if pair.p_holm is None else pair.p_holm)


def _answer(
    rows: Mapping[str, Seeds],
    won: str,
    members: Members,
    reference: str,
    lead: Pair | None,
    better: Sequence[str],
    words: Wording,
) -> str:
    fewest = min(len(values) for values in rows.values())
    seeds = lead.difference.n if lead is not None else fewest
    if fewest < ENOUGH_SEEDS and seeds == 1:
        answer = "Undecided: one seed cannot tell the rows apart."
    elif fewest < ENOUGH_SEEDS:
        answer = f"Undecided: {led(lead)}, but {seeds} seeds are too few for a claim."
    elif won:
        answer = won
    elif reference != "erm":
        answer = f"Undecided: no row is shown to be better than all others, and ERM, the yardstick, {words.absent}."
    elif len(better) == 1:
        beyond = "it alone is shown to be better than ERM, though not than every other row"
        beyond = beyond if len(rows) > 2 else "over the seeds that both have it is shown to be better than ERM"
        answer = f"Use {better[0]}: {beyond}."
    elif better:
        answer = cheapest(better, rows, members)
    elif lead is not None and best(rows) == "erm" and lead.difference.n >= ENOUGH_SEEDS:
        answer = f"Stay with ERM: {AMONG} it has the highest mean, and none is shown to be better."
    elif lead is not None and lead.significant:
        most = f"{called(lead.row)} has the highest mean"
        answer = f"Undecided: {most}, but over the seeds that both have {led(lead)}."
    else:
        few = "1 seed does" if seeds == 1 else f"{seeds} seeds do"
        answer = f"Undecided: {led(lead)}" + f", but {few} not separate the two" * (lead is not None) + "."
    return answer


def _others(count: int) -> str:
    return "the other row" if count == 1 else f"each of the other {count} rows"
