"""Comparisons from Python: `compare` runs one in this process, `results` reads what a folder holds (docs/python.md)."""

import sys
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import torch.distributed as dist
from matplotlib.figure import Figure
from rich.console import Console

from benchmark import registry
from benchmark.comparison import perform, prepare, render, search
from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line, plain
from benchmark.core.record import Record
from benchmark.report import run_log
from benchmark.report.figures import all_figures, palette
from benchmark.report.people import summaries
from benchmark.report.tidy.calibration import calibration_rows
from benchmark.report.tidy.frames import run_rows, typed
from benchmark.report.tidy.groups import by_group, distinct, told_apart
from benchmark.report.tidy.rows import accuracy_rows, sensitivity_rows, throughput_rows
from benchmark.runs import plan_file, shared
from benchmark.runs.args import Args
from benchmark.runs.command_line import folder_of, home
from benchmark.runs.job import run_name, unmet
from benchmark.runs.keywords import checked
from benchmark.runs.records import last_line
from benchmark.runs.store import Store
from benchmark.runs.torch_state import as_in_a_new_process
from benchmark.training import signals

COMMAND_ONLY = {
    "list": "call `benchmark.registry.names`, or run `python -m benchmark.run --list`",
    "version": "see benchmark.__version__",
    "dry_run": "run `python -m benchmark.run --dry-run`",
    "quiet": "pass progress=False",
    "verbose": "set the level of logging.getLogger('benchmark')",
}
"""Fields of Args that make no sense here, and what to do instead."""


class Results:
    """What the records of a folder say, as numbers. It is read once; ask again for later runs.

    Frames have the columns of docs/python.md whatever is finished; a number that is missing is NaN.
    """

    def __init__(self, out: Path, run_ids: Collection[str] | None = None):
        """run_ids: the runs to be shown; None shows all. Raises UsageError where the folder holds no runs, or a record
        is damaged."""
        self._store = Store(out.absolute())  # maps and curves are read later, and the folder may be another then
        if not self._store.runs.is_dir():
            raise UsageError(f"{out}: no runs there; benchmark.compare(out={str(out)!r}) makes some")
        self._all = told_apart(self._store.read_all())
        self._mine = [each for each in self._all if run_ids is None or each.run_id in run_ids]

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """A row for each run, target domain and selection rule. Accuracies are percent."""
        return typed(accuracy_rows(self._mine))

    @cached_property
    def sensitivity(self) -> pd.DataFrame:
        """A row for each run and frequency band. Errors under single Fourier waves are rates in [0,1]."""
        return typed(sensitivity_rows(self._mine, self._store.maps(self._mine)))

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Calibration: a row for each run and part (source validation, or a test domain), with expected calibration
        error in percent and negative log likelihood in nats."""
        return typed(calibration_rows(self._mine))

    @cached_property
    def throughput(self) -> pd.DataFrame:
        """A row for each run that was timed: images per second, shares in [0,1], seconds, MiB."""
        rows = throughput_rows(self._all)  # an ERM that was not asked for is still what another run is compared with
        return typed(rows[rows["run_id"].isin([each.run_id for each in self._mine])].reset_index(drop=True))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run: how it ended, its error, what was asked and how to repeat it."""
        return typed(run_rows(self._mine))

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `runs` that did not end well."""
        return self.runs[self.runs["status"] != "done"].reset_index(drop=True)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """Each figure by its file's place below OUT/figures, without the ending; drawn when this is first asked for.
        No figure is known to pyplot, so none is shown twice and none is kept longer than this object."""
        with palette.collecting(self._store.out / "figures") as found:
            all_figures.draw(self._store, self._mine)
        return found

    def __repr__(self) -> str:
        bad, n = len(self.failed), len(self._mine)
        lines = [f"Results in {self._store.out}: {n} run{'s' * (n != 1)}" + f", {bad} of them failed" * bool(bad)]
        tables = self._tables()
        first = {group: members[0] for group, members in by_group(self._mine).items()}
        titles = distinct({shown.group: shown.heading.partition(":")[0] for shown in tables}, first)
        for shown in tables:
            means = ", ".join(f"{line.label} {line.cells['mean'].text}" for line in shown.lines if "mean" in line.cells)
            lines.append(f"  {titles[shown.group]}; mean accuracy in %: {means}")
        return plain("\n".join(lines))

    def _repr_html_(self) -> str:
        """The accuracy tables, for a notebook."""
        parts = []
        for shown in self._tables():
            cells = shown.cells.drop(columns=["runs", *summaries.DETAILS], errors="ignore").map(plain)
            table = cells.to_html(index=False, border=0)
            notes = "".join(f"<br>{escape(plain(note))}" for note in shown.footnotes)
            parts.append(f"<p>{escape(plain(shown.heading))}</p>{table}<p>percent, mean ± sd over n seeds{notes}</p>")
        return "".join(parts) or f"<p>{escape(repr(self))}</p>"

    def _tables(self) -> list[Any]:
        return summaries.summarise(self._mine, {})["accuracy"]


def results(out: Path | str = "results") -> Results:
    """What an output folder of `compare` or of the command holds. Raises UsageError where it holds no runs, or a
    damaged record."""
    return Results(folder_of(out, "out"))


def compare(*, plan: Path | str | None = None, progress: bool = True, **asked: Any) -> Results:
    """Trains methods on source domains, tests them on others, and writes records, tables, figures and the page.

    asked: the fields of benchmark.runs.args.Args, which are the flags of `python -m benchmark.run`, with its defaults:
    methods, datasets, seeds, steps, out, ... A single value stands for a list of one. plan: a plan file, over which
    `asked` wins. progress: whether to print how the runs go.

    Returns the results of the runs that were asked for, finished before or now. A run that fails stops no other: it
    is warned of, and `.runs` has its error. With jobs=1, the default on a CPU, runs are done in this process, and
    global settings of torch are as before afterwards. An interruption keeps finished runs and checkpoints; the same
    call goes on from there.

    Raises UsageError for bad input, where another call is under way in this process, and where the process is in a
    group of torch.distributed; OSError where results cannot be written; KeyboardInterrupt when interrupted.
    """
    if not (plan is None or (isinstance(plan, str | Path) and str(plan))):
        raise UsageError(f"benchmark.compare: plan = {one_line(repr(plan))}: it has to be the path of a plan file")
    said = plan_file.read(path := home(Path(plan))) | {"plan": path} if plan is not None else {}
    args = plan_file.beside(replace(Args(), **said | checked(asked, COMMAND_ONLY, "benchmark.compare")), said)
    if dist.is_available() and dist.is_initialized():
        raise UsageError(
            "benchmark.compare: this process is in a group of torch.distributed, and its runs would be trained "
            "together with those of the others. Call it in a process that is in none; nproc=N splits a run over N"
        )
    console = Console(file=sys.stdout, force_jupyter=False, width=120)
    with _alone(), as_in_a_new_process(), _plugins(args), signals.as_guest():
        shared.forget()
        with run_log.shown(console) if progress else nullcontext():
            comparison = prepare(args)
            if comparison.untried:
                with run_log.RunLog(run_log.kinds_of(comparison.untried)) as log:
                    comparison = search(comparison, log)
            with run_log.RunLog(run_log.kinds_of(comparison.todo)) as log:
                perform(comparison, log)
        render(comparison.store)
        found = Results(comparison.store.out, {job.asked.run_id for job in comparison.jobs})
        left = unmet(comparison.jobs, found._mine)  # asks for the code of plugins
    for problem in comparison.problems:
        warnings.warn(plain(problem), stacklevel=2)
    _warn(found._mine, len(comparison.jobs), *left)
    return found


def _warn(records: Collection[Record], asked: int, elsewhere: int, short: Sequence[str]) -> None:
    """Warns of runs that did not end well, of those that another process is doing, and of earlier records that are kept
    as their runs were done again and failed."""
    for record in records:
        if record.status != "done":
            reason = last_line(record.error)
            warnings.warn(
                plain(f"run {record.run_id} ({run_name(record.asked)}) {record.status}: {reason}"), stacklevel=3
            )
    if elsewhere:
        warnings.warn(f"{elsewhere} of {asked} runs are left to the process that runs them", stacklevel=3)
    if short:
        warnings.warn(
            f"{len(short)} of {asked} runs were to be run again for {short[0]} and failed; their earlier records "
            "are kept",
            stacklevel=3,
        )


_ONE = threading.Lock()


@contextmanager
def _plugins(args: Args) -> Iterator[None]:
    """Within, the plugins of a comparison are loaded. Raises UsageError, which names the plan file if they are its."""
    with ExitStack() as loaded:
        try:
            loaded.enter_context(registry.plugins(args.plugin))
        except UsageError as problem:
            raise plan_file.blamed(args, problem) from problem
        yield


@contextmanager
def _alone() -> Iterator[None]:
    """Raises UsageError where another comparison is under way in this process: clocks and torch's settings are those of
    the process, and so both would record numbers of the other."""
    if not _ONE.acquire(blocking=False):
        raise UsageError(
            "benchmark.compare is under way in this process; wait for it, or use another process. In a file that is "
            "its own plugin, put the call below `if __name__ == '__main__':`"
        )
    try:
        yield
    finally:
        _ONE.release()
