"""python -m benchmark.run: trains methods on source domains, tests them on others, writes the tables and the page.

parse -> plan -> run -> tables; the rest of the package is what these four words mean.
"""

import functools
import sys
from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from benchmark import registry, tables
from benchmark.core import locks
from benchmark.core.errors import UsageError, describe
from benchmark.report import page, terminal
from benchmark.runs.args import Args
from benchmark.runs.command_line import arguments, leave
from benchmark.runs.engines import local, ray
from benchmark.runs.estimate import estimate
from benchmark.runs.plan import plan
from benchmark.runs.stale import finished, lacking
from benchmark.runs.store import Store
from benchmark.runs.trackers import Tracked, trackers

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
        tracking = trackers(args.track, args.out)
        store = Store(args.out)
        if not args.dry_run:
            store.prepare()
        jobs = plan(args)
        todo = [job for job in jobs if not finished(job, store, args.stale)]
        again = Counter(lacking(job, store) for job in todo)
        for flag, count in again.items():
            if flag:
                console.print(f"{count} finished runs were made without {flag} and are run again", highlight=False)
        if args.dry_run:
            terminal.show_plan(jobs, estimate(todo, store, try_out=True), console)
            return 0
        if len(todo) < len(jobs):
            console.print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are done already", highlight=False)
        if todo:
            ids = [job.asked.run_id for job in todo]
            costs = estimate(todo, store) if console.is_terminal else dict.fromkeys(ids, 1.0)  # only bars show them
            with terminal.Display(costs, console) as display:
                warn = functools.partial(console.print, highlight=False, markup=False)
                listener = Tracked(display, tracking, warn)
                if args.engine == "ray":
                    ray.run_jobs(todo, args.jobs or 1, listener)
                else:
                    local.run_jobs(todo, min(jobs[0].sharing, len(todo)), listener, args.timeout)
        with locks.in_turn(store.runs):  # whoever renders last has seen every run
            records = tables.write(store)
            index = page.write(store, records)
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
        return terminal.show_results(jobs, records, index, console)


if __name__ == "__main__":
    leave(main)
