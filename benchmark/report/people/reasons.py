"""What the answer of a comparison rests on, what weakens it, and what would decide it: a sentence or two each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.report.people.cells import p_text
from benchmark.report.people.price import Members
from benchmark.report.tidy.comparisons import judged_again
from benchmark.report.tidy.stats import ENOUGH_SEEDS, LEAST_SEEDS, Pair, Seeds, best


@dataclass(frozen=True)
class Wording:
    """What is said of values in the one source that most comparisons have, and otherwise of those over several."""

    over: str = "the shifted domains"
    nothing: str = "No run of this comparison has an accuracy in a shifted domain."
    there: str = "has an accuracy"
    absent: str = "has no accuracy"
    every: str = "every row"


AMONG = f"of the rows with {ENOUGH_SEEDS} seeds"


def worse(pairs: Sequence[Pair], reference: str) -> list[str]:
    """The rows that are shown to be worse than ERM; empty where none is, or ERM is absent."""
    worse = [pair for pair in pairs if pair.significant and pair.difference.mean < 0 and reference == "erm"]
    told = ", ".join(f"{pair.row} by {-pair.difference.mean:.1f} points" for pair in worse)
    return [f"Shown to be worse than ERM: {told}."] if told else []


def hanging(pairs: Sequence[Pair], versus: str, rows: Iterable[str], last: Mapping[str, Seeds]) -> list[str]:
    """Which of the rows that are shown to differ from one do so with the networks that the rule selects alone, or the
    other way with those of the last step; empty where none does."""
    again = judged_again(last, rows, versus)
    claimed = [(pair.difference.mean, again[pair.row]) for pair in pairs if pair.significant and pair.row in again]
    turned = [pair for before, pair in claimed if pair.significant and pair.difference.mean * before < 0]
    ends = {
        f"not shown to differ from {called(versus)}": [pair for _, pair in claimed if not pair.significant],
        f"shown to be worse than {called(versus)}": [pair for pair in turned if pair.difference.mean < 0],
        f"shown to be better than {called(versus)}": [pair for pair in turned if pair.difference.mean > 0],
    }
    return [
        f"At the last step {', '.join(map(_with_p, found))} {'is' if len(found) == 1 else 'are'} {end}."
        for end, found in ends.items()
        if found
    ]


def _with_p(pair: Pair) -> str:
    return called(pair.row) + (f" (p {p_text(pair.p_holm)})" if pair.p_holm is not None else "")


def led(lead: Pair | None) -> str:
    """Who is ahead, as part of a sentence."""
    if lead is None:
        return "the row with the highest mean has no seed in common with the one to compare it with"
    ahead, behind = (lead.row, lead.versus) if lead.difference.mean > 0 else (lead.versus, lead.row)
    if round(abs(lead.difference.mean), 1) == 0:
        return f"{called(ahead)} and {called(behind)} are level"
    return f"{called(ahead)} is {abs(lead.difference.mean):.1f} points ahead of {called(behind)}"


def evidence(rows: Mapping[str, Seeds], first: str, reference: str, lead: Pair | None, words: Wording) -> str:
    """How far the best row is from ERM, or from the next where ERM is the best or absent."""
    among = "" if first == best(rows) else f", {AMONG},"
    text = f"{called(first)} has{among} the highest mean over {words.over}, {mean_of(rows, first)}"
    if lead is None:
        return f"{text}, with no seed in common to compare it by."
    found = lead.difference
    if first == reference:
        side = "below" if found.mean <= 0 else "above it over the seeds that both have"
        text += f"; {called(lead.row)} comes next, {abs(found.mean):.1f} points {side}"
    else:
        shared = rows[first].keys() == rows[reference].keys()
        theirs = f"'s {mean_of(rows, reference)}" if shared else " over the seeds that both have"
        where = "above" if found.mean > 0 else "below"
        level = round(abs(found.mean), 1) == 0
        text += f", {'level with' if level else f'{abs(found.mean):.1f} points {where}'} {called(reference)}{theirs}"
    if lead.interval is None or lead.p_holm is None:
        why = "too few to judge it by" if found.n < LEAST_SEEDS else "without a spread to judge it by"
        return f"{text}, from {found.n} {'seed' if found.n == 1 else 'seeds'}, {why}."
    low, high = lead.interval
    p = f"p {'' if lead.p_holm < 0.001 else '= '}{p_text(lead.p_holm)}"
    return (
        f"{text} (95 % interval {low:.1f} to {high:.1f} for all rows at once, {found.n} paired seeds; {p} after Holm's "
        "correction)."
    )


def deciding(
    rows: Mapping[str, Seeds], lead: Pair | None, first: Pair | None, words: Wording, members: Members
) -> list[str]:
    """What would decide an open comparison; empty where the pair that leads it is decided. first: the pair that the
    evidence is of; where another one is open, it is named. members: all runs that were seen."""
    fewest = min(len(values) for values in rows.values())
    between = "" if lead is None or lead is first else f" between {called(lead.versus)} and {called(lead.row)}"
    if lead is not None and lead.significant and fewest >= ENOUGH_SEEDS:
        return []
    if fewest < ENOUGH_SEEDS:
        unseen = max(run.asked.seed for runs in members.values() for run in runs) + 1
        seeds = " ".join(map(str, range(unseen, unseen + ENOUGH_SEEDS)))
        text = (
            f"What would decide it{between}: {ENOUGH_SEEDS} new seeds of {words.every}, in a folder of their own "
            f"(`--seeds {seeds} --out NEW`)"
        )
        total = lead.difference.n + lead.more_seeds if lead is not None and lead.more_seeds is not None else None
        if total is not None and total > ENOUGH_SEEDS:
            text += f"; with the mean and spread seen so far, {total} of them"
        return [f"{text}."]
    if lead is None or lead.difference.n < ENOUGH_SEEDS:
        return [f"What would decide it{between}: the same seeds for both, {ENOUGH_SEEDS} at least."]
    stays = "if mean and spread stay as they are"
    if lead.interval is None:
        more = "nothing here; differences that are equal in all seeds give no spread to judge by"
    elif lead.more_seeds is None:
        more = f"more seeds than are worth running, {stays}"
    else:
        more = f"{lead.difference.n + lead.more_seeds} new seeds, in a folder of their own, {stays}"
    return [f"What would decide it{between}: {more}."]


def called(row: str) -> str:
    return "ERM" if row == "erm" else row


def mean_of(rows: Mapping[str, Seeds], row: str) -> str:
    return f"{np.mean([*rows[row].values()]):.1f} %"
