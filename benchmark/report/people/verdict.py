"""The answer of one comparison in sentences: which augmentation to use, on what evidence, at what cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.core.record import Record
from benchmark.report.people.cells import p_text
from benchmark.report.people.price import Members, cheapest, price
from benchmark.report.tidy.campaigns import Campaign
from benchmark.report.tidy.comparisons import judged_again, seeds_of
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.stats import ENOUGH_SEEDS, LEAST_SEEDS, Pair, Seeds, best, compare, supported_best
from benchmark.report.tidy.targets import columns


@dataclass(frozen=True)
class Verdict:
    """answer: one sentence. reasons: what it rests on, what would decide it, what it costs; a sentence or two each."""

    answer: str
    reasons: list[str]


@dataclass(frozen=True)
class Wording:
    """What is said of values in the one source that most comparisons have, and otherwise of those over several."""

    over: str = "the shifted domains"
    nothing: str = "No run of this comparison has an accuracy in a shifted domain."
    there: str = "has an accuracy"
    absent: str = "has no accuracy"
    every: str = "every row"


AMONG = f"of the rows with {ENOUGH_SEEDS} seeds"
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
    rows = campaign.over("mean")
    found = judged(rows, by_row([r for runs in campaign.rows.values() for r in runs if r.accuracy]), SOURCES)
    return _with_unjudged(
        found, rows, {row: campaign.rows[row] for row in campaign.ordered}, "a seed from every source"
    )


def _with_unjudged(found: Verdict, rows: Mapping[str, Seeds], every: Members, without: str) -> Verdict:
    """The verdict, and last what it says nothing of: domains without data, failed runs of its rows, and rows without a
    value, which lack `without`."""
    tested = [run.accuracy.domains for runs in every.values() for run in runs if run.accuracy]
    untested = [name for name in (tested[0] if tested else ()) if all(name in t and t[name].missing for t in tested)]
    failed = {row: sum(run.status != "done" for run in runs) for row, runs in every.items() if row in rows}
    lost = ", ".join(f"{count} of {len(every[row])} of {_name(row)}" for row, count in failed.items() if count)
    absent = ", ".join(_name(row) for row in every if row not in rows)
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
            f"Only {_name(first)} {words.there}: there is nothing to compare it with.",
            [f"It reaches {_mean(rows, first)}, the mean over {words.over} (n = {len(rows[first])})."],
        )
    able = {row: values for row, values in rows.items() if len(values) >= ENOUGH_SEEDS}
    if len(able) < 2 or ("erm" in rows and "erm" not in able):
        able = dict(rows)
    first = best(able)
    reference = "erm" if "erm" in rows else first
    pairs = [pair for pair in compare(rows, reference) if pair.row in able]
    better = [pair.row for pair in pairs if pair.significant and pair.difference.mean > 0]
    lead = _lead(first, reference, pairs)
    evidence = _evidence(rows, first, reference, lead, words)
    hanging = _hanging([pair.row for pair in pairs if pair.significant], reference, rows, last)
    reasons = [evidence, *_worse(pairs, reference), *hanging, *_deciding(able, lead, words, members)]
    reasons += price(members, first, better)
    short = ", ".join(f"{_name(row)} ({len(values)})" for row, values in rows.items() if row not in able)
    if short:
        reasons.append(f"Not judged, with fewer than {ENOUGH_SEEDS} seeds: {short}.")
    others = _others(len(able) - 1) + f" with {ENOUGH_SEEDS} seeds" * bool(short)
    won = f"Use {_name(winner)}: it is better than {others}." if (winner := supported_best(rows, able)) else ""
    return Verdict(_answer(able, won, members, reference, lead, better, words), reasons)


def _lead(first: str, reference: str, pairs: Sequence[Pair]) -> Pair | None:
    """The pair that says how far the best row is ahead of ERM or, where it is ERM itself or ERM is absent, of the next
    row; None without a common seed."""
    if first == reference:
        return max(pairs, key=lambda pair: pair.difference.mean, default=None)
    return next((pair for pair in pairs if pair.row == first), None)


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
        answer = f"Undecided: {_led(lead)}, but {seeds} seeds are too few for a claim."
    elif won:
        answer = won
    elif reference != "erm":
        answer = f"Undecided: no row is shown to be better than all others, and ERM, the yardstick, {words.absent}."
    elif len(better) == 1:
        answer = f"Use {better[0]}: it alone is shown to be better than ERM, though not than every other row."
    elif better:
        answer = cheapest(better, rows, members)
    elif lead is not None and best(rows) == "erm" and lead.difference.n >= ENOUGH_SEEDS:
        answer = f"Stay with ERM: {AMONG} it has the highest mean, and none is shown to be better."
    else:
        few = "1 seed does" if seeds == 1 else f"{seeds} seeds do"
        answer = f"Undecided: {_led(lead)}" + f", but {few} not separate the two" * (lead is not None) + "."
    return answer


def _worse(pairs: Sequence[Pair], reference: str) -> list[str]:
    """The rows that are shown to be worse than ERM; empty where none is, or ERM is absent."""
    worse = [pair for pair in pairs if pair.significant and pair.difference.mean < 0 and reference == "erm"]
    told = ", ".join(f"{pair.row} by {-pair.difference.mean:.1f} points" for pair in worse)
    return [f"Shown to be worse than ERM: {told}."] if told else []


def _hanging(claimed: Sequence[str], reference: str, rows: Iterable[str], last: Mapping[str, Seeds]) -> list[str]:
    """Which of the rows that are shown to differ do so with the networks that the rule selects alone; empty where none
    does."""
    again = judged_again(last, rows, reference)
    lost = [again[row] for row in claimed if row in again and not again[row].significant]
    told = ", ".join(_name(pair.row) + (f" (p {p_text(p)})" if (p := pair.p_holm) is not None else "") for pair in lost)
    are = "is" if len(lost) == 1 else "are"
    return [f"At the last step {told} {are} not shown to differ from {_name(reference)}."] if told else []


def _others(count: int) -> str:
    return "the other row" if count == 1 else f"each of the other {count} rows"


def _led(lead: Pair | None) -> str:
    """Who is ahead, as part of a sentence."""
    if lead is None:
        return "the row with the highest mean has no seed in common with the one to compare it with"
    ahead, behind = (lead.row, lead.versus) if lead.difference.mean > 0 else (lead.versus, lead.row)
    if round(abs(lead.difference.mean), 1) == 0:
        return f"{_name(ahead)} and {_name(behind)} are level"
    return f"{_name(ahead)} is {abs(lead.difference.mean):.1f} points ahead of {_name(behind)}"


def _evidence(rows: Mapping[str, Seeds], first: str, reference: str, lead: Pair | None, words: Wording) -> str:
    """How far the best row is from ERM, or from the next where ERM is the best or absent."""
    among = "" if first == best(rows) else f", {AMONG},"
    text = f"{_name(first)} has{among} the highest mean over {words.over}, {_mean(rows, first)}"
    if lead is None:
        return f"{text}, with no seed in common to compare it by."
    found = lead.difference
    if first == reference:
        side = "below" if found.mean <= 0 else "above it over the seeds that both have"
        text += f"; {_name(lead.row)} comes next, {abs(found.mean):.1f} points {side}"
    else:
        shared = rows[first].keys() == rows[reference].keys()
        theirs = f"'s {_mean(rows, reference)}" if shared else " over the seeds that both have"
        where = "above" if found.mean > 0 else "below"
        level = round(abs(found.mean), 1) == 0
        text += f", {'level with' if level else f'{abs(found.mean):.1f} points {where}'} {_name(reference)}{theirs}"
    if lead.interval is None or lead.p_holm is None:
        why = "too few to judge it by" if found.n < LEAST_SEEDS else "without a spread to judge it by"
        return f"{text}, from {found.n} {'seed' if found.n == 1 else 'seeds'}, {why}."
    low, high = lead.interval
    p = f"p {'' if lead.p_holm < 0.001 else '= '}{p_text(lead.p_holm)}"
    return (
        f"{text} (95 % interval {low:.1f} to {high:.1f} for all rows at once, {found.n} paired seeds; {p} after Holm's "
        "correction)."
    )


def _deciding(rows: Mapping[str, Seeds], lead: Pair | None, words: Wording, members: Members) -> list[str]:
    """What would decide an open comparison; empty where the leading pair is decided. members: all runs that were
    seen."""
    fewest = min(len(values) for values in rows.values())
    if lead is not None and lead.significant and fewest >= ENOUGH_SEEDS:
        return []
    if fewest < ENOUGH_SEEDS:
        unseen = max(run.asked.seed for runs in members.values() for run in runs) + 1
        seeds = " ".join(map(str, range(unseen, unseen + ENOUGH_SEEDS)))
        text = (
            f"What would decide it: {ENOUGH_SEEDS} new seeds of {words.every}, in a folder of their own "
            f"(`--seeds {seeds} --out NEW`)"
        )
        total = lead.difference.n + lead.more_seeds if lead is not None and lead.more_seeds is not None else None
        if total is not None and total > ENOUGH_SEEDS:
            text += f"; with the mean and spread seen so far, {total} of them"
        return [f"{text}."]
    if lead is None or lead.difference.n < ENOUGH_SEEDS:
        return [f"What would decide it: the same seeds for both, {ENOUGH_SEEDS} at least."]
    stays = "if mean and spread stay as they are"
    if lead.interval is None:
        more = "nothing here; differences that are equal in all seeds give no spread to judge by"
    elif lead.more_seeds is None:
        more = f"more seeds than are worth running, {stays}"
    else:
        more = f"{lead.difference.n + lead.more_seeds} new seeds, in a folder of their own, {stays}"
    return [f"What would decide it: {more}."]


def _name(row: str) -> str:
    return "ERM" if row == "erm" else row


def _mean(rows: Mapping[str, Seeds], row: str) -> str:
    return f"{np.mean([*rows[row].values()]):.1f} %"
