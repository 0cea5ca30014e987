"""python -m benchmark.run: trains methods on source domains, tests them on others, writes the tables and the page.

parse -> plan -> run -> tables; the rest of the package is what these four words mean. What needs torch is imported
after the first, so that --help, --list and a slip of the finger are answered at once.
"""

import functools
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

from benchmark import registry
from benchmark.report.listing import show_list
from benchmark.runs.args import PATHS, Args, check_numbers
from benchmark.runs.command_line import arguments, program, versions
from benchmark.runs.ending import explained, leave

KEPT = "finished runs and checkpoints are kept; the same command goes on from here"


@contextmanager
def importing() -> Iterator[None]:
    """Around the first import of torch: Python's cycle collector rests, and leaves alone for ever what is there then.

    That is half a million objects which live as long as the process; to look through them again and again takes a
    second. Where torch is there already, as in a notebook, nothing is done: the objects are somebody else's.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def parse(argv: Sequence[str] | None) -> Args:
    """The command line's words, over those of its plan file. Ends the process with code 2 where they do not fit.

    Raises UsageError for a plan file that cannot be read.
    """
    read = functools.partial(arguments, Args, argv, program("run"), paths=PATHS)
    args: Args = read()
    if args.plan is None:
        return args
    with importing():
        from benchmark.runs import plan_file  # noqa: PLC0415 - imports torch

    said = plan_file.read(args.plan)
    # No flag turns off what the file turns on, so the parser is not told of it.
    on: dict[str, Any] = {name: True for name, value in said.items() if value is True}
    found: Args = read(default=Args(**{name: value for name, value in said.items() if name not in on}))
    return plan_file.beside(replace(found, **on), said)


@explained(KEPT)
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all runs done, 1 some run failed, 2 bad usage or results that cannot be written, 130 by
    Ctrl-C, 143 by SIGTERM."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    args = parse(argv)
    if args.version:
        print(versions())
        return 0
    if args.list:
        registry.load_plugins(args.plugin)
        show_list(console)
        return 0
    if args.plan is None:  # else the plan says which file is wrong
        check_numbers(args)
    with importing():
        from benchmark.session import conduct  # noqa: PLC0415 - imports torch

    return conduct(args, console)


if __name__ == "__main__":
    leave(main)
