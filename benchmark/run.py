"""python -m benchmark.run: trains methods on source domains, tests them on others, writes the tables and the page.

parse -> plan -> run -> tables; the rest of the package is what these four words mean.
"""

import functools
import logging
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmark import registry
from benchmark.comparison import Comparison, perform, prepare, render
from benchmark.core.errors import UsageError, describe
from benchmark.report import run_log, terminal
from benchmark.runs import plan_file
from benchmark.runs.args import Args
from benchmark.runs.command_line import arguments, leave
from benchmark.runs.estimate import estimate

KEPT = "finished runs and checkpoints are kept; the same command goes on from here"


def parse(argv: Sequence[str] | None) -> Args:
    """The command line's words, over those of its plan file. Ends the process with code 2 where they do not fit."""
    read = functools.partial(arguments, Args, argv, "python -m benchmark.run", paths=("weights", "track"))
    args: Args = read()
    if args.plan is None:
        return args
    try:
        start = Args(**plan_file.read(args.plan))
    except UsageError as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    found: Args = read(default=start)
    return found


def watching(comparison: Comparison, console: Console) -> run_log.RunLog:
    """What shows the runs as they go: bars on a terminal, elsewhere lines."""
    if console.is_terminal and comparison.todo and not comparison.args.quiet:
        return terminal.Display(estimate(comparison.todo, comparison.store), console)
    return run_log.RunLog(run_log.kinds_of(comparison.todo))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed, 2 bad usage or results that cannot be written, 130 by
    Ctrl-C, 143 by SIGTERM."""
    args = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    level = logging.ERROR if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    try:
        with run_log.shown(console, level):
            registry.load_plugins(args.plugin)
            if args.list:
                terminal.show_list(console)
                return 0
            comparison = prepare(args)
            jobs = comparison.jobs
            if args.dry_run:
                terminal.show_plan(jobs, estimate(comparison.todo, comparison.store, try_out=True), console)
                return 0
            with watching(comparison, console) as log:
                perform(comparison, log)
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
        return terminal.show_results(jobs, records, index, console, quiet=args.quiet)


if __name__ == "__main__":
    leave(main)
