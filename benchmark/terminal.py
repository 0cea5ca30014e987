"""What people see on the terminal: lists, plans, live bars with time left (elsewhere a line for each run), results."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from benchmark import protocols, registry, summary, targets
from benchmark.job import Job
from benchmark.spec import Record
from benchmark.texts import plain

MANY = 10
"""Columns beyond which a table does not fit a terminal."""


class Display:
    """Shows the runs of one plan. costs: expected cost of each run by run id, in any one unit, for the time left."""

    def __init__(self, costs: dict[str, float], console: Console):
        self.costs, self.console = costs, console
        self.shares = dict.fromkeys(costs, 0.0)
        self.count = 0
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all = self.bars.add_task("all runs", total=sum(costs.values()), doing="")
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
        if run_id in self.tasks:  # a worker died, and the run is begun again
            self.bars.remove_task(self.tasks[run_id])
        self.tasks[run_id] = self.bars.add_task(name(job), total=1.0, doing="loading")

    def progressed(self, job: Job, doing: str, share: float) -> None:
        run_id = job.asked.run_id
        self.shares[run_id] = max(self.shares[run_id], 0.95 * share)
        self.bars.update(self.tasks[run_id], completed=share, doing=doing)
        self._total()

    def noticed(self, job: Job, what: str) -> None:
        self.console.print(plain(f"{name(job)}: {what}"), markup=False, highlight=False, soft_wrap=True)

    def ended(self, job: Job, record: Record | None) -> None:
        run_id = job.asked.run_id
        self.shares[run_id] = 1.0
        self.bars.remove_task(self.tasks.pop(run_id))
        self._total()
        self.count += 1
        self.console.print(
            plain(f"[{self.count}/{len(self.costs)}] {name(job)}: {outcome(record)}"), markup=False, highlight=False
        )

    def _total(self) -> None:
        done = sum(self.costs[run_id] * share for run_id, share in self.shares.items())
        self.bars.update(self.all, completed=done, doing=f"{self.count} of {len(self.costs)} done")


def name(job: Job) -> str:
    """A run as people know it."""
    asked = job.asked
    return plain(f"{asked.dataset}/{asked.source} {asked.row} seed {asked.seed}")


def outcome(record: Record | None) -> str:
    """One line on how a run ended; None stands for a run that another process is doing."""
    if record is None:
        return "left to the process that is running it now"
    if record.accuracy is None:
        return f"{record.status.upper()}: {(record.error or '').strip().rpartition(chr(10))[2]}"
    there = targets.reached(record, record.asked.recipe.selection)
    if len(there) > MANY:
        summed = {name: targets.measures(record)[name] for name in ("mean", "worst")}
        there = summed | {name: there[name] for name in record.accuracy.in_domain if name in there}
    reached = [f"{column} {accuracy:.1f}" for column, accuracy in there.items()]
    rate = f"{record.throughput.images_per_second:.0f} images/s, " if record.throughput else ""
    return f"{', '.join(reached)} %; {rate}{record.ran.seconds:.0f} s"


def show_list(console: Console) -> None:
    """Prints methods, datasets and protocols with one line each."""
    kinds: tuple[registry.Kind, ...] = ("method", "dataset")
    for kind in kinds:
        console.print(f"{kind}s", style="bold")
        for name in registry.names(kind):
            note = " (experimental; not in `all`)" if getattr(registry.find(kind, name), "experimental", False) else ""
            console.print(
                f"  {name:<12} {registry.summary(kind, name)}{note}", highlight=False, markup=False, soft_wrap=True
            )
    console.print("protocols", style="bold")
    for name, protocol in protocols.PROTOCOLS.items():
        console.print(f"  {name:<12} {protocol.summary}", highlight=False, markup=False, soft_wrap=True)


def show_plan(jobs: Sequence[Job], estimates: dict[str, float], console: Console) -> None:
    """Prints every run with its id and length, and for those that are not done an estimate in seconds."""
    table = Table("run id", "dataset", "source", "protocol", "method", "seed", "length", "state", "estimate", box=None)
    for job in jobs:
        asked = job.asked
        length = f"{asked.seconds:g} s" if asked.budget == "time" else f"{asked.recipe.steps} {asked.budget}"
        open_ = asked.run_id in estimates
        state, seconds = ("to do", f"{estimates[asked.run_id]:.0f} s") if open_ else ("done", "")
        where = (asked.run_id, asked.dataset, asked.source, asked.protocol, asked.row)
        cells = (*where, str(asked.seed), length, state, seconds)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(table)
    total = sum(estimates.values())
    console.print(
        f"{len(estimates)} of {len(jobs)} runs to do; roughly {total / 60:.1f} minutes one at a time on this machine"
    )


def show_results(jobs: Sequence[Job], records: Sequence[Record], index: Path, console: Console) -> int:
    """Prints the accuracy tables of the runs asked for and where everything lies; returns the exit code."""
    asked = {job.asked.run_id for job in jobs}
    mine = [record for record in records if record.run_id in asked]
    for shown in summary.summarise(mine, {})["accuracy"]:
        cells = shown.cells.drop(columns=["runs", *summary.DETAILS], errors="ignore")
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
    console.print(
        plain(f"everything on one page: {index}   beside it: tables, figures, runs"),
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    unfinished, elsewhere = len(asked) - sum(record.status == "done" for record in mine), len(asked) - len(mine)
    if unfinished - elsewhere:
        console.print(f"{unfinished - elsewhere} of {len(asked)} runs did not end well", style="bold red")
    if elsewhere:
        console.print(f"{elsewhere} of {len(asked)} runs are left to the process that is running them", style="bold")
    return 1 if unfinished else 0
