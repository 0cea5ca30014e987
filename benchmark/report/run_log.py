"""The log of a comparison: a line for each run that ends, and one every half minute for those that go on.

All lines go to the logger `benchmark` and those below it. Nothing is shown unless somebody listens: `shown` here, or
whoever sets a handler on it. The root logger is left as it is.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.console import Console

from benchmark.core.escaping import plain
from benchmark.core.record import Record
from benchmark.report.tidy import targets
from benchmark.runs import load
from benchmark.runs.job import Job, row_name, run_name
from benchmark.runs.records import last_line
from benchmark.runs.ticking import Ticking

LOGGER = logging.getLogger("benchmark")
LOGGER.addHandler(logging.NullHandler())
EVERY = 30.0
"""Seconds between two lines on the runs that go on."""
LOOK = 1.0
"""Seconds between two looks at the clock."""
KNOWN = 0.05
"""The share of a run that has to be done in this call before its own pace tells how long the whole takes."""
LATE = 2 / 3
"""A run taken up beyond this share tells nothing of whole ones: what does not grow with its steps, as loading and the
map, would count many times."""
LOADING = "loading"
"""What a run does before it says anything."""
MANY = 10
"""Domains beyond which only their mean and the worst are named."""


class RunLog(Ticking):
    """Listener that logs how runs go. Within its `with` block it also logs every half minute where they are.

    kinds: for each run's id, what it shares with runs that take as long; empty where nothing is known.
    clock: seconds, from any start.
    """

    def __init__(self, kinds: Mapping[str, str], clock: Callable[[], float] = monotonic):
        super().__init__(LOOK)
        self.kinds, self.clock = kinds, clock
        self.start = self.told = clock()
        self.going: dict[str, Job] = {}
        self.begun: dict[str, float] = {}
        """When the runs that go on began."""
        self.spent: dict[str, float | None] = {}
        """Seconds that those that ended take from their first step; None where another process does the run, or
        an earlier call had all its steps."""
        self.reached: dict[str, tuple[str, float]] = {}
        """What each run does and the share of its budget that is spent."""
        self.before: dict[str, float] = {}
        """The share that an earlier call had spent, of each run whose checkpoint was taken up; 0 for the others."""

    def started(self, job: Job) -> None:
        run_id = job.asked.run_id
        # In this order: the thread that watches takes a run that goes on to have begun, and to have reached something.
        self.spent.pop(run_id, None)  # another process had it, and left it
        self.before[run_id], self.reached[run_id] = 0.0, (LOADING, 0.0)
        self.begun[run_id] = self.clock()
        self.going[run_id] = job
        LOGGER.debug("%s: run %s begins on %s", name(job), run_id, job.asked.device)

    def progressed(self, job: Job, doing: str, share: float) -> None:
        run_id = job.asked.run_id
        if self.reached[run_id][0] == LOADING:  # its first word: where it begins
            self.before[run_id] = share
        self.reached[run_id] = doing, share

    def noticed(self, job: Job, what: str) -> None:
        LOGGER.warning("%s: %s", name(job), what)

    def ended(self, job: Job, record: Record | None) -> None:
        run_id = job.asked.run_id
        self.going.pop(run_id, None)
        taken, before = self.clock() - self.begun.pop(run_id), self.before[run_id]
        self.spent[run_id] = taken / (1 - before) if record is not None and before <= LATE else None
        good = record is None or record.accuracy is not None
        level = logging.INFO if good else logging.ERROR
        LOGGER.log(level, "[%d/%d] %s: %s", len(self.spent), len(self.kinds), name(job), outcome(record))

    def tick(self) -> None:
        """Logs one line if it is time to and runs go on."""
        going = [*self.going.values()]
        if self.clock() - self.told < EVERY or not going:
            return
        self.told = self.clock()
        left = self.rest()
        about = f", about {duration(left)} left" if left is not None else ""
        states = "; ".join(f"{name(job)}: {where(job, *self.reached[job.asked.run_id])}" for job in going)
        head = f"{len(self.spent)} of {len(self.kinds)} done, {duration(self.clock() - self.start)} gone{about}"
        LOGGER.info("%s | %s", head, states)

    def rest(self) -> float | None:
        """Seconds until all runs have ended, if as many go on at a time as now; None where a run is left whose like has
        not been seen in this call. What a run does after its last step, nothing but the like of it tells."""
        now, begun = self.clock(), {**self.begun}
        seen: dict[str, list[float]] = {}
        for run_id, seconds in {**self.spent}.items():
            if seconds is not None:
                seen.setdefault(self.kinds[run_id], []).append(seconds)
        own = {run_id: (now - start, self.reached[run_id][1] - self.before[run_id]) for run_id, start in begun.items()}
        trains = {run_id: done for run_id, done in own.items() if self.reached[run_id][1] < 1}
        paces = {run_id: gone / share for run_id, (gone, share) in trains.items() if share >= KNOWN}
        for run_id, whole in paces.items():
            seen.setdefault(self.kinds[run_id], [whole])
        left = 0.0
        for run_id in self.kinds.keys() - self.spent.keys():
            alike = seen.get(self.kinds[run_id])
            if alike is None:
                return None
            whole = paces.get(run_id, sum(alike) / len(alike))
            left += max(0.0, whole * (1 - self.before[run_id]) - own[run_id][0]) if run_id in own else whole
        return left / max(1, len(begun))


def kinds_of(jobs: Sequence[Job]) -> dict[str, str]:
    """For each run's id, what it shares with the runs that take as long: all but the seed."""
    return {job.asked.run_id: row_name(job.asked) for job in jobs}


def where(job: Job, doing: str, share: float) -> str:
    """What a run is doing, and how much of its budget is spent."""
    asked = job.asked
    if asked.budget == "time":
        done = f"{share * (asked.seconds or 0):.0f} of {asked.seconds:g} s"
    else:
        unit = "step" if asked.budget == "steps" else "pass"
        done = f"{unit} {round(share * asked.recipe.steps)} of {asked.recipe.steps}"
    return f"{doing}, {done} ({100 * share:.0f} %)"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def name(job: Job) -> str:
    """A run as people know it."""
    trial = job.asked.trial
    return plain(run_name(job.asked) if trial is None or trial.of else row_name(job.asked))  # all trials have one seed


def outcome(record: Record | None) -> str:
    """One line on how a run ended; None stands for a run that another process is doing."""
    if record is None:
        return "left to the process that is running it now"
    if record.accuracy is None:
        return f"{record.status.upper()}: {last_line(record.error)}"
    rule, trial = record.asked.recipe.selection, record.asked.trial
    if trial is not None and not trial.of:  # chosen by this alone
        return f"source validation {record.accuracy.source_val[rule]:.1f} %; {record.ran.seconds:.0f} s"
    there = targets.reached(record, rule)
    if len(there) > MANY:
        summed = {name: targets.measures(record)[name] for name in ("mean", "worst")}
        there = summed | {name: there[name] for name in record.accuracy.in_domain if name in there}
    reached = [f"{column} {accuracy:.1f}" for column, accuracy in there.items()]
    rate = f"{record.throughput.images_per_second:.0f} images/s, " if record.throughput else ""
    busy = f"; {load.WARNING}: {beyond}" if (beyond := load.beyond(record.ran.machine)) else ""
    return f"{', '.join(reached)} %; {rate}{record.ran.seconds:.0f} s{busy}"


class _Printed(logging.Handler):
    """Prints on a console, above its bars where it has some."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = plain(self.format(record))
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown(console: Console, level: int = logging.INFO) -> Iterator[None]:
    """Within, the log is printed on the console, from this level on."""
    handler, before = _Printed(console), LOGGER.level
    handler.setLevel(level)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(level, before) if before else level)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
