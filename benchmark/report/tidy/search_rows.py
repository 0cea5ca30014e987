"""What searches tried and what came of it: trials beside the runs that have the settings chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.core.record import Record, canonical_json
from benchmark.report.tidy.groups import describe_group, grouped, table
from benchmark.runs.repeat import spell
from benchmark.runs.search import score

COLUMNS = (
    "dataset protocol method source trial trials source_val chosen lr weight_decay settings seconds run_id status "
    "variant budget device group"
)


@dataclass(frozen=True)
class Searched:
    """A row on one source: what was tried for it, by number, and the runs with the settings chosen. A search that
    chose nothing, or has not ended, has no runs."""

    trials: list[Record]
    runs: list[Record]

    @property
    def first(self) -> Record:
        """A run or, without runs, a trial: what the row was asked to be."""
        return (self.runs or self.trials)[0]

    @property
    def row(self) -> str:
        """The name of the row, as tables have it."""
        return self.first.asked.model_copy(update={"trial": None}).row

    def chosen(self, trial: Record) -> bool:
        """Whether runs have the settings of this trial."""
        mine = _drawn(trial)
        return any(_drawn(run) == mine and _number(run) == _number(trial) for run in self.runs)

    def settings(self, trial: Record) -> str:
        """A trial's own values of the method's fields in which the row's trials differ, as 'a=1, b=2'."""
        every = [each.asked.settings for each in self.trials]
        names = [name for name in every[0] if any(other.get(name) != every[0][name] for other in every)]
        return ", ".join(f"{name}={spell(trial.asked.settings.get(name))}" for name in names)


def searches(records: Sequence[Record], trials: Sequence[Record]) -> list[Searched]:
    """Each row's trials with its runs, once for every size of search of which there are runs; sorted."""
    tried = grouped(sorted(trials, key=_order), _row)
    done: dict[str, dict[int, list[Record]]] = {}
    for run in records:
        if run.asked.trial is not None and run.asked.trial.of:
            done.setdefault(_row(run), {}).setdefault(run.asked.trial.of, []).append(run)
    found = []
    for row, mine in tried.items():
        for size, runs in sorted(done.get(row, {}).items()):
            found.append(Searched(_last([trial for trial in mine if _number(trial) < size], runs), runs))
        if row not in done:
            found.append(Searched(_last(mine, []), []))
    return [each for each in found if each.trials]


def _last(trials: Sequence[Record], runs: Sequence[Record]) -> list[Record]:
    """Of each number the trial that the runs have, or else the one that ended last: there is another one where the
    recipe or what is drawn from where was another."""
    used = {_drawn(run) for run in runs}
    ordered = sorted(trials, key=lambda trial: (_drawn(trial) in used, trial.ran.ended))
    return sorted({_number(trial): trial for trial in ordered}.values(), key=_order)


def search_rows(records: Sequence[Record], trials: Sequence[Record]) -> pd.DataFrame:
    """Tidy: one row for each trial of each search. source_val in percent; seconds: see `seconds`."""
    out = [
        describe_group((search.runs or [trial])[0])
        | {"trial": _number(trial), "trials": len(search.trials), "source_val": score(trial)}
        | {"chosen": search.chosen(trial), "settings": search.settings(trial), "seconds": seconds(trial)}
        | {"lr": trial.asked.recipe.lr, "weight_decay": trial.asked.recipe.weight_decay}
        | {"run_id": trial.run_id, "status": trial.status}
        for search in searches(records, trials)
        for trial in search.trials
    ]
    return table(out, COLUMNS, "dataset protocol group source method variant trial")


def seconds(record: Record) -> float:
    """Set-up and training; where these were not measured, because the run did not end well, all that it took."""
    cost = record.throughput
    return cost.setup_seconds + cost.train_seconds if cost else record.ran.seconds


def _number(record: Record) -> int:
    return record.asked.trial.number if record.asked.trial else 0


def _order(record: Record) -> tuple[object, ...]:
    asked = record.asked
    row = asked.method != "erm", asked.method, asked.variant
    return asked.dataset, asked.source, *row, _number(record), record.run_id


def _drawn(record: Record) -> str:
    recipe = record.asked.recipe
    return canonical_json([recipe.lr, recipe.weight_decay, record.asked.settings])


def _row(record: Record) -> str:
    """What a row's trials and its runs share: all but the seed, what was drawn, and the sensitivity map."""
    asked = record.asked.model_dump(mode="json", exclude={"seed", "settings", "trial"})
    for free in ("lr", "weight_decay", "sensitivity_images"):
        del asked["recipe"][free]
    return canonical_json(asked)
