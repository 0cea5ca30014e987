"""A comparison from its plan to its page, as the command and `benchmark.compare` do it. Nothing here prints; it logs.

prepare -> perform -> render; under --search, prepare -> search -> perform -> render. They raise UsageError for bad
input, OSError where results cannot be read or written, and StoppedError, a KeyboardInterrupt, at Ctrl-C and SIGTERM.
What was finished or saved by then is kept.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark import tables
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.networks import weights
from benchmark.runs import arithmetic, plan_file
from benchmark.runs.args import Args
from benchmark.runs.engines import local, ray
from benchmark.runs.job import Job, Listener, as_typed, take_hashes
from benchmark.runs.plan import data_dir, plan
from benchmark.runs.records import TRIED
from benchmark.runs.search import Row, rows, settled, untried
from benchmark.runs.shared import data_facts
from benchmark.runs.stale import finished, lacking
from benchmark.runs.store import Store
from benchmark.runs.trackers import Tracked, Tracker, trackers

LOGGER = logging.getLogger(__name__)
SLOW = 2
"""bf16 is warned of where it takes more than so many times as long; below, other work decides."""


@dataclass(frozen=True)
class Comparison:
    """The runs that were asked for, and where their records lie."""

    args: Args
    store: Store
    trackers: Mapping[str, Tracker]
    jobs: list[Job]
    """All of them."""
    todo: list[Job]
    """Those that no record settles."""
    rows: list[Row] = field(default_factory=list)
    """Under --search: the rows with their trials."""
    untried: list[Job] = field(default_factory=list)
    """The trials that are to be run first; until then `jobs` and `todo` have the settings that were asked for."""
    problems: list[str] = field(default_factory=list)
    """Why rows are not run: their search found nothing."""

    @property
    def tried(self) -> Store:
        """Where the records of the trials lie."""
        return Store(self.store.out / TRIED)


def prepare(args: Args) -> Comparison:
    """Plans all runs, writes their plan file if that is asked for, and looks up which are done. Unless it is a dry run,
    the output folder is made and pretrained weights are fetched.

    The plugins of `args` have to be loaded (registry.load_plugins).
    """
    store = Store(args.out.absolute())  # a method may go to another folder
    tracking = trackers(args.track, store.out)
    if not args.dry_run:
        store.prepare()
    try:
        jobs = plan(args)
    except UsageError as problem:
        raise plan_file.blamed(args, UsageError(as_typed(str(problem), data_dir(args), args.data_dir))) from problem
    take_hashes(job.asked for job in jobs)
    _warn_of_bf16(args, jobs)
    plan_file.require_same(args, jobs)
    if args.save_plan is not None:
        plan_file.write(args.save_plan, args, jobs)
    for name, (now, said) in plan_file.changed(args).items():
        LOGGER.info("%s = %s, not %s as %s says", name, plan_file.toml(now), plan_file.toml(said), args.plan)
    comparison = Comparison(args, store, tracking, jobs, jobs if args.search else [])
    if args.search:
        try:
            comparison = replace(comparison, rows=rows(jobs, args))
        except UsageError as problem:
            raise plan_file.blamed(args, problem) from problem
    found = _searched(comparison) if args.search else _looked_up(comparison)
    todo = found.untried or found.todo
    if not args.dry_run:
        for tag in {job.asked.recipe.weights for job in todo if job.asked.recipe.weights.startswith("timm:")}:
            try:
                weights.fetch(tag)
            except UsageError as problem:
                raise plan_file.blamed(args, problem) from problem
    _warn_of_missing(todo)
    return found


def _searched(asked: Comparison) -> Comparison:
    """With the trials that are still to be run; where none are, with the settings that they chose."""
    args = asked.args
    if not args.dry_run:
        asked.tried.prepare()
    asked = replace(asked, untried=_abreast(untried(asked.rows, asked.tried, args.stale)))
    if not args.dry_run:
        count = sum(len(row.trials) for row in asked.rows)
        LOGGER.info("search: %d of %d trials to do", len(asked.untried), count)
    return asked if asked.untried else _decided(asked)


def _warn_of_bf16(args: Args, jobs: Sequence[Job]) -> None:
    here = args.precision == "bf16" and args.engine == "local" and not all(on_gpu(job.asked.device) for job in jobs)
    if here and (times := arithmetic.bf16_slowness()) > SLOW:
        LOGGER.warning(
            "--precision bf16: this processor takes %.0f times as long for it as for fp32; fp32 is faster here", times
        )


def _warn_of_missing(todo: Sequence[Job]) -> None:
    """Says before the runs which columns will be empty."""
    places = {(a.dataset, str(a.dataset_settings), a.source): job for job in todo for a in [job.asked]}
    told: dict[str, None] = {}
    for job in places.values():
        facts = data_facts(job.asked.dataset, job.asked.dataset_settings, job.asked.source, job.data_dir)
        told |= dict.fromkeys(map(job.as_typed, facts.missing))
    for missing in told:
        LOGGER.warning("a column will be empty: %s", missing)


def search(comparison: Comparison, listener: Listener) -> Comparison:
    """Runs the trials that are to be run, in a store of their own and untracked; `listener` hears of each. Returns the
    comparison of the settings that are best on source validation."""
    args, todo = comparison.args, comparison.untried
    _run_here(todo, comparison.tried, listener, args.timeout)
    return _decided(replace(comparison, untried=[]))


def _decided(comparison: Comparison) -> Comparison:
    jobs, problems = settled(comparison.rows, comparison.tried, comparison.args)
    return _looked_up(replace(comparison, jobs=jobs, problems=problems))


def _looked_up(comparison: Comparison) -> Comparison:
    """With what is still to be done."""
    args, store, jobs = comparison.args, comparison.store, comparison.jobs
    todo = [job for job in jobs if not finished(job, store, args.stale)]
    for flag, count in Counter(flag for job in todo if (flag := lacking(job, store))).items():
        LOGGER.info("%d finished runs were made without %s and are run again", count, flag)
    if len(todo) < len(jobs) and not args.dry_run:
        LOGGER.info("%d of %d runs are done already", len(jobs) - len(todo), len(jobs))
    return replace(comparison, todo=_abreast(todo))


def _abreast(todo: Sequence[Job]) -> list[Job]:
    """Runs that are to be done: no more share the machine than are left."""
    return [replace(job, sharing=min(job.sharing, len(todo))) for job in todo]


def perform(comparison: Comparison, listener: Listener) -> None:
    """Does the runs that are to be done, and stores their records; `listener` hears of each."""
    args, todo = comparison.args, comparison.todo
    if not todo:
        return
    tracked = Tracked(listener, comparison.trackers)
    if args.engine == "ray":
        ray.run_jobs(todo, args.jobs or 1, tracked)
        return
    _run_here(todo, comparison.store, tracked, args.timeout)


class _Overheard:
    """A listener that tells another what it hears, and keeps which runs another process does, each with the record
    that there was of it."""

    def __init__(self, listener: Listener, store: Store):
        self.listener, self.store = listener, store
        self.started, self.progressed, self.noticed = listener.started, listener.progressed, listener.noticed
        self.elsewhere: list[tuple[Job, Record | None]] = []

    def ended(self, job: Job, record: Record | None) -> None:
        self.listener.ended(job, record)
        if record is None:
            self.elsewhere.append((job, self.store.read(job.asked.run_id)))


def _run_here(todo: Sequence[Job], store: Store, listener: Listener, timeout: float | None) -> None:
    """Does the runs on this machine; at the end also those that another process was doing and has left undone."""
    overheard = _Overheard(listener, store)
    local.run_jobs(todo, todo[0].sharing, overheard, timeout)
    left = [job for job, before in overheard.elsewhere if not store.is_busy(job.asked.run_id) and
            store.read(job.asked.run_id) == before]  # fmt: skip
    if left:
        LOGGER.info("%d runs that another process had begun, and has left, are done here", len(left))
        left = _abreast(left)
        local.run_jobs(left, left[0].sharing, listener, timeout)


def render(store: Store) -> tuple[list[Record], Path]:
    """Writes tables, figures and page of all records below the store; returns the records and the page's path."""
    with store.in_turn(LOGGER.info):  # whoever renders last has seen every run
        return tables.write_all(store)
