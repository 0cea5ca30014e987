"""Which augmentation should one use, on what evidence, at what price? The answer of one comparison, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.comparisons import seeds_of
from benchmark.rows import by_row, throughput_rows
from benchmark.spec import Record
from benchmark.stats import ALPHA, Pair, Seeds, best, compare, supported_best

CLAIM = 5
"""Seeds below which a result is an indication and no claim."""


@dataclass(frozen=True)
class Verdict:
    """answer: one sentence. reasons: what it rests on and what it costs, a sentence or two each."""

    answer: str
    reasons: list[str]


def verdict(records: Sequence[Record]) -> Verdict:
    """The answer of one group of comparable runs. A difference counts where its paired t-test says so after Holm's
    correction, 5 %; where none does, the answer is that nothing separates the rows."""
    members = by_row([record for record in records if record.accuracy])
    rows = seeds_of(members, "mean")
    if not rows:
        return Verdict("No run of this comparison has reached an accuracy.", [])
    first = best(rows)
    if len(rows) == 1:
        return Verdict(
            f"Only {_name(first)} was run: there is nothing to compare it with.", [f"It reaches {_mean(rows, first)}."]
        )
    reference = "erm" if "erm" in rows else first
    pairs = compare(rows, reference)
    better = [p.row for p in pairs if _counts(p) and p.difference.mean > 0]
    winner = supported_best(rows)
    reasons = [_evidence(rows, first, reference, pairs), *_price(members, first, better)]
    seeds = min(len(values) for values in rows.values())
    if 1 < seeds < CLAIM:
        reasons.append(f"{seeds} seeds give an indication; a claim needs {CLAIM}.")
    return Verdict(_answer(rows, members, winner, reference, better), reasons)


def _answer(
    rows: Mapping[str, Seeds],
    members: Mapping[str, Sequence[Record]],
    winner: str | None,
    reference: str,
    better: Sequence[str],
) -> str:
    seeds = min(len(values) for values in rows.values())
    if winner is not None:
        return f"Use {_name(winner)}: it is better than each of the other {len(rows) - 1} rows."
    if reference != "erm":
        return "Undecided: no row is shown to be better than all others, and ERM, the yardstick, was not run."
    if seeds == 1:
        return "Undecided: one seed cannot tell the rows apart."
    if not better:
        return "Stay with ERM: no augmentation is shown to be better."
    cheapest = min(better, key=lambda row: (_passes(members[row]), row))
    if len(better) == 1:
        return f"Use {cheapest}: it alone is shown to be better than ERM, though not than every other row."
    return f"Use {cheapest}: it is the cheapest of those shown to be better than ERM ({', '.join(better)})."


def _evidence(rows: Mapping[str, Seeds], first: str, reference: str, pairs: Sequence[Pair]) -> str:
    """How far the best row is from ERM, or from the next where ERM is the best or absent."""
    text = f"{_name(first)} has the highest mean over the shifted domains, {_mean(rows, first)}"
    if first not in {reference, *(pair.row for pair in pairs)} or not pairs:
        return f"{text}, with no seed in common to compare it by."
    if first == reference:
        pair = max(pairs, key=lambda p: p.difference.mean)
        text += f"; {_name(pair.row)} comes next, {-pair.difference.mean:.1f} points below"
    else:
        pair = next(p for p in pairs if p.row == first)
        shared = rows[first].keys() == rows[reference].keys()
        theirs = f"'s {_mean(rows, reference)}" if shared else " over the seeds that both have"
        text += f", {pair.difference.mean:.1f} points above {_name(reference)}{theirs}"
    d = pair.difference
    if d.low is None or d.high is None or pair.p_holm is None:
        return f"{text}, from {d.n} {'seed' if d.n == 1 else 'seeds'} without a spread to judge it by."
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.3f}"
    text += f" (95 % interval {d.low:.1f} to {d.high:.1f}, {d.n} paired seeds; {p} after Holm's correction)."
    if not _counts(pair):
        text += " That does not separate the two."
        if pair.more_seeds:
            more = "1 more seed" if pair.more_seeds == 1 else f"{pair.more_seeds} more seeds"
            text += f" {more} would bring 0 outside that interval if mean and spread stayed as they are."
    return text


def _price(members: Mapping[str, Sequence[Record]], first: str, better: Sequence[str]) -> list[str]:
    """What the best row and those shown to be better than ERM cost, ERM being 1."""
    paid = [record for runs in members.values() for record in runs if record.throughput]
    speed = throughput_rows(paid)
    found = []
    for row in dict.fromkeys([first, *better]):
        runs = [record.run_id for record in members[row]]
        relative = speed[speed["run_id"].isin(runs)]["relative_to_erm"].dropna()
        if row != "erm" and len(relative):
            found.append(
                f"{row} {_passes(members[row]):.1f} passes per source image and {relative.mean():.2g} of ERM's speed"
            )
    return [f"Price: {'; '.join(found)}."] if found else []


def _passes(runs: Sequence[Record]) -> float:
    paid = [record.throughput.passes_per_image for record in runs if record.throughput]
    return float(np.mean(paid)) if paid else float("inf")


def _counts(pair: Pair) -> bool:
    return pair.p_holm is not None and pair.p_holm < ALPHA


def _name(row: str) -> str:
    return "ERM" if row == "erm" else row


def _mean(rows: Mapping[str, Seeds], row: str) -> str:
    return f"{np.mean([*rows[row].values()]):.1f} %"
