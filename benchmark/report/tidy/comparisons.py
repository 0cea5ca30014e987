"""Run records -> tidy tables of comparisons: paired differences, ranks, and accuracy against cost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.core.devices import on_gpu
from benchmark.core.recipe import Selection
from benchmark.core.record import Asked, Record
from benchmark.report.tidy.groups import by_group, by_row, describe_group, group_of, name_of, shared, table
from benchmark.report.tidy.rows import own_seconds, where
from benchmark.report.tidy.stats import Pair, Ranks, Seeds, average_ranks, best, compare
from benchmark.report.tidy.targets import by_seed, columns, measures


def seeds_of(members: Mapping[str, Sequence[Record]], measure: str, rule: Selection | None = None) -> dict[str, Seeds]:
    """By row: the values of one measure (targets.measures) by seed; rows without any are left out."""
    found = {row: by_seed(runs, measure, rule) for row, runs in members.items()}
    return {row: values for row, values in found.items() if values}


def families(rows: Mapping[str, Seeds]) -> dict[str, list[str]]:
    """The Holm families: by `versus`, the rows that are compared with it. Every row with ERM; then with the best row
    where that is another, except for ERM, which has been judged with it; and each method's variants with the method.
    """
    if not rows:
        return {}
    found = {"erm": [*rows]} if "erm" in rows else {}
    found.setdefault(best(rows), [row for row in rows if row != "erm"])
    for method in dict.fromkeys(row.partition("[")[0] for row in rows if "[" in row):
        if method in rows:
            found.setdefault(method, [row for row in rows if row.partition("[")[0] == method])
    return found


def pairs(rows: Mapping[str, Seeds], last: Mapping[str, Seeds]) -> Iterator[tuple[Pair, float | None]]:
    """The pairs of all families, each with its p (Holm) where the network of the last step is judged instead of
    the one that the headline's rule selects. last: the values of that network."""
    for versus, family in families(rows).items():
        under_last = judged_again(last, family, versus)
        for pair in compare({row: rows[row] for row in family}, versus):
            again = under_last.get(pair.row)
            yield pair, again.p_holm if again else None


def judged_again(last: Mapping[str, Seeds], family: Iterable[str], versus: str) -> dict[str, Pair]:
    """A family by row, judged by the values of the networks of the last step; empty where `versus` has none."""
    there = {row: last[row] for row in family if row in last}
    return {pair.row: pair for pair in compare(there, versus)} if versus in there else {}


def behind(pair: Pair, values: Mapping[str, Seeds], rows: Mapping[str, Sequence[Record]]) -> list[Record]:
    """The runs behind a pair: those of the seeds for which both rows have a value."""
    common = values[pair.row].keys() & values[pair.versus].keys()
    return [run for row in (pair.row, pair.versus) for run in rows[row] if run.asked.seed in common]


DIFFERENCES = (
    "dataset protocol method source target versus difference sd low high p p_holm p_holm_last n more_seeds "
    "versus_is_best run_ids "
    "variant budget device group"
)


def difference_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: one row for each of `pairs` and each measure; a Holm family is one reference and measure within a group."""
    out: list[dict[str, Any]] = []
    for members in by_group(records).values():
        rows = by_row(members)
        for measure in ["mean", "worst", *columns(members)[0]]:
            values = seeds_of(rows, measure)
            for pair, under_last in pairs(values, seeds_of(rows, measure, "last")):
                found = pair.difference
                out.append(
                    describe_group(rows[pair.row][0])
                    | {"target": measure, "versus": pair.versus, "versus_is_best": pair.versus == best(values)}
                    | {"difference": found.mean, "sd": found.sd}
                    | dict(zip(("low", "high"), pair.interval or (None, None), strict=True))
                    | {"p": pair.p, "p_holm": pair.p_holm, "p_holm_last": under_last}
                    | {"n": found.n, "more_seeds": pair.more_seeds}
                    | {"run_ids": " ".join(run.run_id for run in behind(pair, values, rows))}
                )
    return table(out, DIFFERENCES, "dataset protocol group source").astype({"more_seeds": "Int64"})


def _place(record: Record) -> str:
    return f"{record.asked.dataset}/{record.asked.source}"


def _breadth(members: Sequence[Record]) -> tuple[int, float, str, str]:
    """How many methods a group compares, and over how long a budget; then when it ended, so that none is equal."""
    asked, ended = members[0].asked, max(record.ran.ended for record in members)
    methods = len({record.asked.method for record in members})
    return methods, asked.seconds or asked.recipe.steps, ended, group_of(members[0])


Ranking = tuple[str, str, str]
"""Protocol, budget (with the size of a search, where there was one) and device: what blocks must share to be ranked
together."""


def rankings(records: Sequence[Record]) -> dict[Ranking, tuple[Ranks, dict[str, list[Record]], list[str]]]:
    """Average ranks over comparisons (dataset, source): the ranks, the runs of each row, and the comparisons, each
    with its number of seeds.

    A comparison has one vote, its means over the shifted targets: targets are tested with the same networks, so a rank
    for each would count one training many times. Where a source was run with several networks or lengths, that with the
    most methods is taken, of equal ones the longest, of these that which ended last. Only rows that stand in every
    comparison are ranked, by the seeds of a comparison that all of them have; one without such a seed has no vote.
    Empty where that leaves fewer than two rows or two comparisons."""
    parts: dict[Ranking, dict[str, list[Record]]] = {}
    for members in sorted(by_group([r for r in records if r.accuracy and measures(r)]).values(), key=_breadth):
        asked = members[0].asked
        budget = asked.budget + best_of(members[0])
        parts.setdefault((asked.protocol, budget, asked.device), {})[_place(members[0])] = members
    found = {}
    for key, groups in sorted(parts.items()):
        places = {place: by_row(members) for place, members in sorted(groups.items())}
        means = {place: seeds_of(rows, "mean") for place, rows in places.items()}
        ranked = set.intersection(*(set(values) for values in means.values()))
        blocks: dict[str, dict[str, float]] = {}
        told: list[str] = []
        runs: dict[str, list[Record]] = {}
        for place, values in means.items():
            common = set.intersection(*(set(values[row]) for row in ranked)) if ranked else set()
            if not common:
                continue
            told.append(f"{place} (n = {len(common)})")
            blocks[place] = {row: sum(values[row][seed] for seed in common) / len(common) for row in ranked}
            for row in ranked:
                runs.setdefault(row, []).extend(run for run in places[place][row] if run.asked.seed in common)
        ranks = average_ranks([*blocks.values()])
        if ranks is not None:
            found[key] = ranks, runs, told
    return found


RANKS = "protocol budget device method variant average_rank comparisons rows critical_difference run_ids"


def rank_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: one row for each ranked row, best first."""
    out = []
    for (protocol, budget, device), (ranks, runs, _) in rankings(records).items():
        for row, rank in sorted(ranks.mean.items(), key=lambda item: item[1]):
            asked = runs[row][0].asked
            used = " ".join(r.run_id for r in runs[row])
            size = (rank, ranks.blocks, len(ranks.mean), ranks.critical_difference)
            out.append([protocol, budget, device, asked.method, asked.variant, *size, used])
    return pd.DataFrame(out, columns=RANKS.split())


def length(asked: Asked) -> str:
    """How long a run is to be: '150 steps', '400 passes', '60 s'."""
    return f"{asked.seconds:g} s" if asked.budget == "time" else f"{asked.recipe.steps} {asked.budget}"


def best_of(record: Record) -> str:
    """What a search did for a run's comparison, for the end of a heading; empty where there was none."""
    trial = record.asked.trial
    if trial is None:
        return ""
    return f", each method's best of {trial.of} settings on source validation" if trial.of else ", trials of a search"


def hardware(record: Record) -> str:
    """For the end of a heading: on what a run was made; empty for a processor."""
    return ", on a GPU" if on_gpu(record.asked.device) else ""


def network(record: Record) -> str:
    """The network, with the precision of its arithmetic where that is other than float32."""
    recipe = record.asked.recipe
    return recipe.network if recipe.precision == "fp32" else f"{recipe.network} in {recipe.precision}"


OF_COST = ("budget", "seconds", "steps", "sensitivity_images")
"""Settings in which runs of one table of costs may differ: how long they are, and their sensitivity map."""


def setting(record: Record) -> str:
    """What runs under several budgets must share to stand in one table, as a hash: all but method, seed and OF_COST."""
    asked = shared(record)
    recipe = {name: value for name, value in asked["recipe"].items() if name not in OF_COST}
    return name_of({name: value for name, value in asked.items() if name not in OF_COST} | {"recipe": recipe})


COST = (
    "dataset protocol method source seed budget length passes seconds accuracy steps run_id variant device machine "
    "setting group"
)


def cost_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: what each run cost and reached. passes: forward-backward passes over a batch; seconds: set-up and training,
    none of runs that shared a GPU; accuracy: mean over the shifted domains, in percent."""
    out = [
        describe_group(r)
        | {
            "seed": r.asked.seed,
            "length": length(r.asked),
            "steps": r.steps,
            "run_id": r.run_id,
            "machine": where(r),
            "setting": setting(r),
        }
        | {"passes": r.throughput.passes_per_image * r.steps, "accuracy": measures(r).get("mean")}
        | {"seconds": own_seconds(r)}
        for r in records
        if r.throughput and r.accuracy
    ]
    return table(out, COST, "dataset protocol source method variant budget group seed")
