"""One call of benchmark.run: a comparison from its plan to its page, shown on the terminal as it goes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from benchmark import registry
from benchmark.comparison import Comparison, perform, prepare, render, search
from benchmark.core.errors import UsageError
from benchmark.report import run_log, terminal
from benchmark.runs import plan_file
from benchmark.runs.args import Args
from benchmark.runs.estimate import estimate
from benchmark.runs.search import costs_of_trials

TRYING = "timing a few steps of each method, to estimate its runs"


def conduct(args: Args, console: Console) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed. Raises what `benchmark.comparison` raises."""
    level = logging.ERROR if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    with run_log.shown(console, level):
        try:
            registry.load_plugins(args.plugin)
        except UsageError as problem:
            raise plan_file.blamed(args, problem) from problem
        comparison = prepare(args)
        if args.dry_run:
            _show_plan(comparison, console)
            return 0
        if comparison.untried:
            with _watching(comparison, console) as log:
                comparison = search(comparison, log)
        with _watching(comparison, console) as log:
            perform(comparison, log)
        records, page = render(comparison.store)
        index = args.out / page.name  # as the user wrote it
    with console:  # written in one piece, for readers that stop at the line they look for
        return terminal.show_results(comparison.jobs, records, index, console, comparison.problems, quiet=args.quiet)


def _watching(comparison: Comparison, console: Console) -> run_log.RunLog:
    """What shows the trials that are to be run, or else the runs, as they go: bars on a terminal, elsewhere lines."""
    todo = comparison.untried or comparison.todo
    if not console.is_terminal or not todo or comparison.args.quiet:
        return run_log.RunLog(run_log.kinds_of(todo))
    if comparison.untried:
        costs = costs_of_trials(comparison.rows, todo, comparison.tried)
    else:
        costs = estimate(todo, comparison.store)
    return terminal.Display(costs, console)


@contextmanager
def _trying(console: Console, comparison: Comparison) -> Iterator[None]:
    """Says what takes so long: on a terminal as long as it takes, elsewhere in a line on standard error."""
    if comparison.todo and not console.is_terminal and not comparison.args.quiet:
        print(TRYING, file=sys.stderr, flush=True)
    with console.status(TRYING):
        yield


def _show_plan(comparison: Comparison, console: Console) -> None:
    """The runs; before them the trials, where the runs' settings depend on some that are to be run."""
    undecided = bool(comparison.untried)
    if undecided:
        trials = [job for row in comparison.rows for job in row.trials]
        with _trying(console, comparison):
            costs = costs_of_trials(comparison.rows, comparison.untried, comparison.tried, try_out=True)
        terminal.show_plan(trials, costs, console)
        console.print("then, each row with the settings of its best trial on source validation:", highlight=False)
    with _trying(console, comparison):
        costs = estimate(comparison.todo, comparison.store, try_out=True)
    terminal.show_plan(comparison.jobs, costs, console, undecided=undecided)
