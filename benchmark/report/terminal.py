"""Terminal output: plans, results, and live bars with the time left."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from benchmark.core.devices import on_gpu
from benchmark.core.escaping import plain
from benchmark.core.record import Record
from benchmark.report.people import source_table, summaries
from benchmark.report.people.cells import Summary
from benchmark.report.run_log import LOADING, MANY, RunLog, duration, name
from benchmark.report.tidy.comparisons import length
from benchmark.runs.command_line import quoted
from benchmark.runs.estimate import at_a_time
from benchmark.runs.job import Job, unmet
from benchmark.runs.machine import cores, threads_of
from benchmark.runs.search import drawn

BELIEF = 0.05
"""How much of a plan has to be done before what was seen of it weighs as much as what was expected."""

TRAINED = 0.95
"""The share of a run that is done when it has spent its budget; the map remains."""


class Display(RunLog):
    """The log, with live bars below it on a terminal.

    costs: seconds that each run is expected to take, by run id. The time left is theirs, times how much longer than
    expected the runs have taken so far; the costs weigh as much as BELIEF of the plan against what was seen.
    """

    def __init__(self, costs: dict[str, float], console: Console, clock: Callable[[], float] = monotonic):
        super().__init__(dict.fromkeys(costs, ""), clock)
        self.costs = costs
        self.shares = dict.fromkeys(costs, 0.0)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all = self.bars.add_task("all runs", total=sum(costs.values()), doing="", left="")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def started(self, job: Job) -> None:
        run_id = job.asked.run_id
        if run_id in self.spent:  # another process had it, and left it
            self.shares[run_id] = 0.0
        super().started(job)
        if run_id in self.tasks:  # a worker died, and the run is begun again
            self.bars.remove_task(self.tasks[run_id])
        self.tasks[run_id] = self.bars.add_task(name(job), total=1.0, doing=LOADING, left="")

    def progressed(self, job: Job, doing: str, share: float) -> None:
        super().progressed(job, doing, share)
        run_id = job.asked.run_id
        self.shares[run_id] = max(self.shares[run_id], TRAINED * share)
        left = self.costs[run_id] * (1 - self.shares[run_id]) * self.slower()
        self.bars.update(self.tasks[run_id], completed=share, doing=doing, left=duration(left))
        self._total()

    def ended(self, job: Job, record: Record | None) -> None:
        run_id = job.asked.run_id
        self.shares[run_id] = 1.0
        super().ended(job, record)
        self.bars.remove_task(self.tasks.pop(run_id))
        self._total()

    def _total(self) -> None:
        done = sum(self.costs[run_id] * share for run_id, share in self.shares.items())
        doing = f"{len(self.spent)} of {len(self.costs)} done"
        self.bars.update(self.all, completed=done, doing=doing, left=duration(self.left()))

    def slower(self) -> float:
        """How many times as long as expected the runs take, by what has been done of them."""
        belief = BELIEF * sum(self.costs.values())
        elsewhere = {run_id for run_id, seconds in self.spent.items() if seconds is None}
        here = {run_id: share for run_id, share in self.shares.items() if run_id not in elsewhere}
        before = {run_id: TRAINED * self.before[run_id] for run_id in self.begun}
        expected = sum(self.costs[run_id] * (share - before.get(run_id, 0.0)) for run_id, share in here.items())
        taken = sum(filter(None, self.spent.values())) + sum(self.clock() - begun for begun in self.begun.values())
        return (belief + taken) / (belief + expected) if belief else 1.0

    def left(self) -> float:
        """Seconds until all runs have ended, if as many go on at a time as now."""
        rest = sum(self.costs[run_id] * (1 - share) for run_id, share in self.shares.items())
        return rest * self.slower() / max(1, len(self.begun))


def show_plan(jobs: Sequence[Job], estimates: dict[str, float], console: Console, *, undecided: bool = False) -> None:
    """Prints every run with its id and length, and for those that are not done an estimate in seconds; of a search's,
    what it drew. undecided: a search has yet to choose the settings, which the ids are hashes of."""
    searched = any(job.asked.trial for job in jobs)
    names = ["run id", "dataset", "source", "method" if searched else "protocol", "settings" if searched else "method"]
    table = Table(*names, "seed", "length", "state", "estimate", box=None)
    for job in jobs:
        asked = job.asked
        open_ = asked.run_id in estimates
        state, seconds = ("to do", f"{estimates[asked.run_id]:.0f} s") if open_ else ("done", "")
        where = ("not yet" if undecided else asked.run_id, asked.dataset, asked.source)
        what = (asked.row, drawn(asked)) if searched else (asked.protocol, asked.row)  # one protocol has searches
        cells = (*where, *what, str(asked.seed), length(asked), state, seconds)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(table)
    abreast = max(1, min(jobs[0].sharing, len(estimates))) if jobs else 1
    total = 0.0
    if jobs:
        most = cores() // max(threads_of(job.asked.recipe) for job in jobs)
        total = at_a_time([*estimates.values()], abreast, most, on_gpu(jobs[0].asked.device))
    console.print(
        f"{len(estimates)} of {len(jobs)} runs to do; roughly {total / 60:.1f} minutes, "
        f"{'one' if abreast == 1 else abreast} at a time on this machine"
    )


def show_results(
    jobs: Sequence[Job],
    records: Sequence[Record],
    index: Path,
    console: Console,
    problems: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> int:
    """Prints the accuracy tables of the runs asked for, and what several sources give together, unless `quiet`, and
    where everything lies; returns the exit code. problems: why rows were not run."""
    asked = {job.asked.run_id for job in jobs}
    mine = [record for record in records if record.run_id in asked]
    found = {} if quiet else summaries.summarise(mine, {})
    for shown in found.get("accuracy", []):
        _show(shown, console, summaries.DETAILS)
    for shown in found.get("sources", []):  # each source's own numbers stand above
        single = [name for name in shown.headings.values() if name.startswith(source_table.FROM)]
        _show(shown, console, [*summaries.DETAILS, *single])
    console.print(
        plain(f"everything on one page: {index}   beside it: tables, figures, runs"),
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    elsewhere, short = unmet(jobs, mine)
    bad = [record.run_id for record in mine if record.status != "done"]
    if bad:
        console.print(f"{len(bad)} of {len(asked)} runs did not end well; what the first ended with:",
                      style="bold red", highlight=False, soft_wrap=True)  # fmt: skip
        out = quoted(plain(str(index.parent)))
        console.print(f"    python -m benchmark.tables --out {out} --trace {bad[0]}",
                      highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    if elsewhere:
        console.print(f"{elsewhere} of {len(asked)} runs are left to the process that is running them", style="bold")
    if short:
        console.print(
            f"{len(short)} of {len(asked)} runs were to be run again for {short[0]} and failed; their earlier records "
            "are kept",
            style="bold red", highlight=False,
        )  # fmt: skip
    for problem in problems:
        console.print(plain(problem), style="bold red", highlight=False, markup=False)
    return 1 if bad or elsewhere or short or problems else 0


def _show(shown: Summary, console: Console, left_out: Sequence[str]) -> None:
    """Prints a table without these columns."""
    cells = shown.cells.drop(columns=["runs", *left_out], errors="ignore")
    console.print(plain(shown.heading), highlight=False, markup=False, soft_wrap=True)
    lines = [[*cells.columns], *cells.values.tolist()]
    if len(cells.columns) > MANY:  # too wide for a terminal: on its side
        lines = [["accuracy", *lines[0][1:]], *lines[1:]]
        lines = [[*column] for column in zip(*lines, strict=True)]
    table = Table(*(Column(Text(heading)) for heading in lines[0]), box=box.SIMPLE_HEAD)
    for line in lines[1:]:
        table.add_row(*(Text(str(cell)) for cell in line))
    console.print(table)
    for note in shown.footnotes:
        console.print(f"  {plain(note)}", highlight=False, markup=False)
