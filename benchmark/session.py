"""One call of benchmark.run: a comparison from its plan to its page, shown on the terminal as it goes."""

import logging

from rich.console import Console

from benchmark import registry
from benchmark.comparison import Comparison, perform, prepare, render
from benchmark.report import run_log, terminal
from benchmark.runs.args import Args
from benchmark.runs.estimate import estimate


def conduct(args: Args, console: Console) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed. Raises what `benchmark.comparison` raises."""
    level = logging.ERROR if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    with run_log.shown(console, level):
        registry.load_plugins(args.plugin)
        comparison = prepare(args)
        if args.dry_run:
            terminal.show_plan(comparison.jobs, estimate(comparison.todo, comparison.store, try_out=True), console)
            return 0
        with watching(comparison, console) as log:
            perform(comparison, log)
        records, index = render(comparison.store)
    with console:  # written in one piece, for readers that stop at the line they look for
        return terminal.show_results(comparison.jobs, records, index, console, quiet=args.quiet)


def watching(comparison: Comparison, console: Console) -> run_log.RunLog:
    """What shows the runs as they go: bars on a terminal, elsewhere lines."""
    if console.is_terminal and comparison.todo and not comparison.args.quiet:
        return terminal.Display(estimate(comparison.todo, comparison.store), console)
    return run_log.RunLog(run_log.kinds_of(comparison.todo))
