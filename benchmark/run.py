"""python -m benchmark.run: trains methods on source domains, tests them on others, writes the tables and the page.

parse -> plan -> run -> tables; the rest of the package is what these four words mean.
"""

import functools
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmark import registry
from benchmark.comparison import Comparison, perform, prepare, render, search
from benchmark.core.errors import UsageError, describe
from benchmark.report import terminal
from benchmark.runs.args import Args
from benchmark.runs.command_line import arguments, leave
from benchmark.runs.estimate import estimate
from benchmark.runs.search import costs_of_trials
from benchmark.runs.store import Store

KEPT = "finished runs and checkpoints are kept; the same command goes on from here"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed, 2 bad usage or results that cannot be written, 130 by
    Ctrl-C, 143 by SIGTERM."""
    args: Args = arguments(Args, argv, "python -m benchmark.run", paths=("weights", "track"))
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        registry.load_plugins(args.plugin)
        if args.list:
            terminal.show_list(console)
            return 0
        comparison = prepare(args)
        if comparison.rows and not args.dry_run:
            comparison = _searched(comparison, console)
        jobs, todo = comparison.jobs, comparison.todo
        for flag, count in comparison.again.items():
            console.print(f"{count} finished runs were made without {flag} and are run again", highlight=False)
        if args.dry_run:
            _show_plan(comparison, console)
            return 0
        if len(todo) < len(jobs):
            console.print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are done already", highlight=False)
        if todo:
            ids = [job.asked.run_id for job in todo]
            live = console.is_terminal  # only bars show the costs
            costs = estimate(todo, comparison.store) if live else dict.fromkeys(ids, 1.0)
            with terminal.Display(costs, console) as display:
                perform(comparison, display, functools.partial(console.print, highlight=False, markup=False))
        records, index = render(comparison.store)
    except UsageError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:  # a full disk, a folder that may not be read
        print(f"error: {describe(problem)}; {KEPT}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as problem:
        print(f"interrupted: {KEPT}", file=sys.stderr)
        return getattr(problem, "code", 130)
    with console:  # written in one piece, for readers that stop at the line they look for
        return terminal.show_results(jobs, records, index, console, comparison.problems)


def _show_plan(comparison: Comparison, console: Console) -> None:
    """The runs; before them the trials, where the runs' settings depend on some that are to be run."""
    undecided = bool(comparison.untried)
    if undecided:
        tried, trials = Store(comparison.args.out / "search"), [job for row in comparison.rows for job in row.trials]
        terminal.show_plan(trials, costs_of_trials(comparison.rows, comparison.untried, tried, try_out=True), console)
        console.print("then, each row with the settings of its best trial on source validation:", highlight=False)
    costs = estimate(comparison.todo, comparison.store, try_out=True)
    terminal.show_plan(comparison.jobs, costs, console, undecided=undecided)


def _searched(comparison: Comparison, console: Console) -> Comparison:
    """Runs the trials, and shows them as they go."""
    todo, count = comparison.untried, sum(len(row.trials) for row in comparison.rows)
    console.print(f"search: {len(todo)} of {count} trials to do", highlight=False)
    costs = dict.fromkeys((job.asked.run_id for job in todo), 1.0)
    if todo and console.is_terminal:
        costs = costs_of_trials(comparison.rows, todo, Store(comparison.args.out / "search"))
    with terminal.Display(costs, console) as display:
        return search(comparison, display)


if __name__ == "__main__":
    leave(main)
