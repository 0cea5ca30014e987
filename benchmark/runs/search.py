"""A small search, equal for all methods: N settings of every row on every source, the best on source validation.

Trial 0 is what was asked for. The others are drawn at random: learning rate and weight decay, the same for all rows,
and the fields that a method declares (`Method.searched`), unless the row asks for another value than the protocol's.
Trials are runs with records like any, in a store of their own, OUT/search. docs/search.md, docs/adr/0009-search.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmark import protocols, registry
from benchmark.core.errors import UsageError
from benchmark.core.ranges import Choice, Range
from benchmark.core.record import Asked, Record, Trial
from benchmark.core.rng import key
from benchmark.runs.args import Args
from benchmark.runs.estimate import estimate
from benchmark.runs.job import Job, row_name
from benchmark.runs.plan import at_a_time
from benchmark.runs.records import TRIED, last_line
from benchmark.runs.repeat import command, spell
from benchmark.runs.stale import finished
from benchmark.runs.store import Store

SEED = 1_000_003
"""The seed of every trial and its draws. It is never reported, and does not depend on --seeds, so that more seeds need
no other search."""
RATES = 10**0.5
"""The learning rate is drawn from the recipe's divided by this to it times this, log-uniformly: a decade. DomainBed has
one and a half or two, for twenty trials; of a few, most would be lost in such a width."""
DECAYS = Range(1e-6, 1e-2, log=True)
"""Of the weight decay; DomainBed's for large images. The recipe's own, often 0, is that of trial 0."""


@dataclass(frozen=True)
class Row:
    """The runs of one row on one source, seed by seed, and the runs that try settings for them."""

    runs: list[Job]
    trials: list[Job]

    @property
    def name(self) -> str:
        return row_name(self.runs[0].asked)


def trials(asked: Asked, count: int) -> list[Asked]:
    """The settings that are tried for a row, drawn before any is run. `asked`: any of its runs.

    Equal on every machine; a longer list begins with the shorter one. Raises UsageError where a method's `searched` is
    no such table or leads out of what its fields take.
    """
    return [_trial(asked, number) for number in range(count)]


def _trial(asked: Asked, number: int) -> Asked:
    recipe, settings = asked.recipe.model_copy(update={"sensitivity_images": 0}), asked.settings
    where = asked.dataset, asked.source, number
    if number:
        lr = Range(recipe.lr / RATES, recipe.lr * RATES, log=True).at(_uniform(*where, "lr"))
        decay = DECAYS.at(_uniform(*where, "weight_decay"))
        recipe = recipe.model_copy(update={"lr": lr, "weight_decay": decay})
        own = {name: found.at(_uniform(*where, asked.row, name)) for name, found in searched(asked).items()}
        try:
            settings = registry.make("method", asked.method, settings | own).settings()
        except UsageError as problem:
            file = registry.source_file("method", asked.method)
            raise UsageError(f"{file}: what `searched` draws is no setting of the method: {problem}") from problem
    return asked.model_copy(
        update={"recipe": recipe, "settings": settings, "seed": SEED, "trial": Trial(number=number, of=None)}
    )


def _uniform(*parts: object) -> float:
    """From [0, 1), for one purpose."""
    return key(SEED, *parts) / 2**63


def searched(asked: Asked) -> dict[str, Range | Choice]:
    """The ranges of a row's own settings: those that its method declares, except for fields that the row has otherwise
    than the protocol. Raises UsageError where the declaration is no table of Range and Choice."""
    declared: Mapping[str, Any] = registry.find("method", asked.method).searched  # a plugin may have written anything
    file = registry.source_file("method", asked.method)
    if not isinstance(declared, Mapping):
        raise UsageError(f"{file}: searched is {declared!r}; write a dict of benchmark.method.Range and Choice")
    for name, found in declared.items():
        if not isinstance(found, Range | Choice):
            raise UsageError(f"{file}: searched['{name}'] is {found!r}; write benchmark.method.Range or Choice")
    _, fixed, _ = protocols.recipe_for(asked.protocol, asked.method, asked.dataset)
    plain = registry.make("method", asked.method, fixed).settings()
    return {name: found for name, found in declared.items() if asked.settings.get(name) == plain.get(name)}


def rows(jobs: Sequence[Job], args: Args) -> list[Row]:
    """The rows of a plan with their trials. Raises UsageError where the trials' seed is among those to be reported."""
    if SEED in args.seeds:
        raise UsageError(f"--seeds {SEED}: the search tries settings with that seed; report another")
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.asked.model_copy(update={"seed": 0}).run_id, []).append(job)
    sharing = at_a_time(args, torch.device(jobs[0].asked.device), args.search * len(found))
    return [
        Row(
            runs,
            [
                replace(
                    runs[0],
                    asked=asked,
                    command=command(asked, args),
                    out=runs[0].out / TRIED,
                    save_weights=False,
                    sharing=sharing,
                )
                for asked in trials(runs[0].asked, args.search)
            ],
        )
        for runs in found.values()
    ]


def untried(found: Sequence[Row], store: Store, stale: str) -> list[Job]:
    """The trials that are still to be run. One that diverged has ended: today's code would diverge again."""
    return [job for row in found for job in row.trials if not (finished(job, store, stale) or _diverged(job, store))]


def _diverged(job: Job, store: Store) -> bool:
    record = store.read(job.asked.run_id)
    return record is not None and record.status == "diverged" and (job.keep or not job.outdated(record))


def costs_of_trials(
    found: Sequence[Row], todo: Sequence[Job], store: Store, *, try_out: bool = False
) -> dict[str, float]:
    """Seconds of these trials by run id: each is priced as its row's trial 0. try_out: as in `estimate`."""
    first = estimate([row.trials[0] for row in found], store, try_out=try_out)
    seconds = {job.asked.run_id: first[row.trials[0].asked.run_id] for row in found for job in row.trials}
    return {job.asked.run_id: seconds[job.asked.run_id] for job in todo}


def score(record: Record | None) -> float | None:
    """What a trial is chosen by: its accuracy on source validation under the recipe's rule, in percent. None where it
    did not end well."""
    if record is None or record.accuracy is None:
        return None
    return record.accuracy.source_val[record.asked.recipe.selection]


def choose(scores: Sequence[float | None]) -> int | None:
    """The first of the best; None where there is none."""
    there = [value for value in scores if value is not None]
    return scores.index(max(there)) if there else None


def settled(found: Sequence[Row], store: Store, args: Args) -> tuple[list[Job], list[str]]:
    """The runs of all rows with the settings chosen, seed by seed as they were planned; and, of rows for which none can
    be, why."""
    jobs: list[tuple[int, Job]] = []
    problems = []
    for row in found:
        records = [store.read(job.asked.run_id) for job in row.trials]
        number = choose([score(record) for record in records])
        if any(_awaited(*each, store) for each in zip(row.trials, records, strict=True)):
            problems.append(f"{row.name}: another process runs a trial of it; afterwards the same command goes on")
        elif number is None:
            problems.append(
                f"{row.name}: none of its {len(records)} trials ended well, so it is not run. {_last(records)}"
            )
        else:
            jobs += [(seed, with_settings_of(row.trials[number], job, args)) for seed, job in enumerate(row.runs)]
    return [job for _, job in sorted(jobs, key=lambda each: each[0])], problems


def _awaited(job: Job, record: Record | None, store: Store) -> bool:
    """Whether another process is to say how a trial ends, as it is not what this one would have left."""
    if record is None or (job.outdated(record) and not job.keep):
        return True
    return record.status == "failed" and store.is_busy(record.run_id)


def _last(records: Sequence[Record | None]) -> str:
    """What ended the last one, in a line."""
    errors = [last_line(record.error) for record in records if record]
    return errors[-1] if errors else ""


def with_settings_of(trial: Job, job: Job, args: Args) -> Job:
    """A run of the comparison, with the settings of a trial, and that they are the best of so many."""
    chosen, number = trial.asked, trial.asked.trial
    assert number is not None
    rates = {"lr": chosen.recipe.lr, "weight_decay": chosen.recipe.weight_decay}
    changes: dict[str, Any] = {"settings": chosen.settings, "recipe": job.asked.recipe.model_copy(update=rates)}
    changes["trial"] = Trial(number=number.number, of=args.search)
    asked = job.asked.model_copy(update=changes)
    return replace(job, asked=asked, command=command(asked, args))


def drawn(asked: Asked) -> str:
    """What may differ between the trials of a row, for a line: 'lr=0.001, decay=0, lam=3'."""
    names = registry.find("method", asked.method).searched
    own = [f"{name}={spell(asked.settings[name])}" for name in names]
    return ", ".join([f"lr={asked.recipe.lr:g}", f"decay={asked.recipe.weight_decay:g}", *own])
