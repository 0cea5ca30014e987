"""Does one run and stores its record, even if the run fails, unless it is done already."""

import logging
from collections.abc import Callable
from pathlib import Path

from benchmark.core.locks import BusyError
from benchmark.core.record import Record
from benchmark.runs import machine
from benchmark.runs.begun import MIXED
from benchmark.runs.engines.distributed import perform_split
from benchmark.runs.job import Job, run_name
from benchmark.runs.perform import Outcome, perform
from benchmark.runs.records import last_line
from benchmark.runs.store import Store
from benchmark.training import checkpoints
from benchmark.training.loop import Report

LOGGER = logging.getLogger("benchmark")


def execute(job: Job, report: Report) -> Record | None:
    """Does one run and stores its record, whatever comes of it; None where another process is doing it.

    Raises OSError where the store cannot be written, and StoppedError.
    """
    return stored(job, lambda folder: (perform_split if job.nproc > 1 else perform)(job, folder, report))


def stored(job: Job, outcome: Callable[[Path], Outcome]) -> Record | None:
    """Stores the outcome of a run, which is asked for with the folder of its checkpoint, unless the run is over by now;
    None where another process is doing it. Raises OSError where the store cannot be written."""
    store = Store(job.out)
    try:
        with store.working(job.asked.run_id) as folder:
            earlier = store.read(job.asked.run_id)
            if earlier and job.over(earlier):
                return earlier
            return settle(store, folder, job, earlier, outcome(folder))
    except BusyError:
        return None


def settle(store: Store, folder: Path, job: Job, earlier: Record | None, outcome: Outcome) -> Record:
    """Stores what came of a run that works in `folder`, and returns it. Where this run failed, a finished earlier
    record stays and is returned, if today's code made it or `job.keep` is set. A record that disagrees with an earlier
    one says so."""
    if earlier and _contradicts(earlier, outcome.record):
        outcome = noted(outcome, f"not repeatable: the same code reached other accuracies on {earlier.ran.ended}")
    now, replaced = outcome.record, earlier is not None and job.outdated(earlier) and not job.keep
    if earlier is None or earlier.status != "done" or now.status == "done" or replaced:
        store.finish(*outcome)
        return now
    checkpoints.discard(folder)
    last = last_line(now.error or now.status)
    said = "%s: run again for %s, it %s: %s; its earlier record is kept"
    LOGGER.error(said, run_name(job.asked), job.lacks(earlier), now.status, last)
    return earlier


def noted(outcome: Outcome, what: str) -> Outcome:
    """With one more warning in the record."""
    record = outcome.record
    return outcome._replace(record=record.model_copy(update={"warnings": [*record.warnings, what]}))


def _contradicts(earlier: Record, now: Record) -> bool:
    """Whether two finished runs that should agree do not. A budget in seconds promises nothing."""
    made = [(each.ran.code, machine.comparable(each.ran.machine, each.ran.device_name)) for each in (earlier, now)]
    finished = earlier.status == now.status == "done" and now.asked.budget != "time"
    mixed = any(warning.startswith(MIXED) for record in (earlier, now) for warning in record.warnings)
    return finished and not mixed and made[0] == made[1] and earlier.accuracy != now.accuracy
