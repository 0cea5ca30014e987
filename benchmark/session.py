"""One call of benchmark.run: a comparison from its plan to its page, shown on the terminal as it goes."""

import functools

from rich.console import Console

from benchmark import registry
from benchmark.comparison import perform, prepare, render
from benchmark.report import terminal
from benchmark.runs.args import Args
from benchmark.runs.estimate import estimate


def conduct(args: Args, console: Console) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed. Raises what `benchmark.comparison` raises."""
    registry.load_plugins(args.plugin)
    comparison = prepare(args)
    jobs, todo = comparison.jobs, comparison.todo
    for flag, count in comparison.again.items():
        console.print(f"{count} finished runs were made without {flag} and are run again", highlight=False)
    if args.dry_run:
        terminal.show_plan(jobs, estimate(todo, comparison.store, try_out=True), console)
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
    with console:  # written in one piece, for readers that stop at the line they look for
        return terminal.show_results(jobs, records, index, console)
