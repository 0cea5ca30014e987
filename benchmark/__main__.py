"""dg-referee, or python -m benchmark: one name for all commands. Each is also a module, as python -m benchmark.run.

Only the command that was asked for is imported, and for `--help` not even that: its flags are known without it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Annotated, Any, NoReturn, Union

import tyro
from tyro.conf import OmitSubcommandPrefixes, subcommand

from benchmark import flags
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.runs.args import Args
from benchmark.runs.command_line import CONFIG, arguments, boxed, check_shell, program, versions
from benchmark.runs.ending import explained, leave


@dataclass(frozen=True)
class Command:
    """A module with a `main`, the dataclass of its flags or a union of several, and what it does in a line."""

    module: str
    flags: Any
    does: str


COMMANDS = {
    "run": Command("benchmark.run", Args, "Train and test methods; write tables, figures and a page."),
    "tables": Command("benchmark.tables", flags.Tables, "Rebuild or check tables; trace a number to its runs."),
    "data": Command("benchmark.data.__main__", flags.Data, flags.DATA),
    "reproduce": Command("benchmark.reproduce", flags.Reproduce, "Compare strict rows with the published figures."),
    "corruptions": Command("benchmark.corruptions.__main__", flags.Corruptions, "Show or check image corruptions."),
    "export": Command("benchmark.export", flags.Export, "Load a kept network: print its card, check or export it."),
    "scaling": Command("benchmark.scaling", flags.Scaling, "Print what a matrix of runs costs."),
    "compare-map": Command("benchmark.compare_map", flags.CompareMap, "Compare sensitivity maps with SADA's."),
}
HELP = """usage: {program} COMMAND [FLAGS]

Which augmentation helps an image classifier in domains that it has not seen?

commands:
{commands}

examples:
  {program} run --methods erm augmix --seeds 0 --steps 300
  {program} tables --trace accuracy:augmix:mean

{program} COMMAND --help   the flags of a command
{program} --version        the versions of dg-referee, Python, torch"""


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of the command; 2 where none of that name exists."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name, given = words[0], words[1:]
    if name in ("-h", "--help"):
        commands = "\n".join(f"  {name:<12} {command.does}" for name, command in COMMANDS.items())
        print(HELP.format(program=program("").rstrip(" ."), commands=commands))
        return 0
    if name == "--version":
        print(versions())
        return 0
    if name.startswith("--tyro-"):
        complete(words)
    if name.startswith("-"):
        raise UsageError(f"{name}: name a command first, as in {program('run')} {name}")
    if name not in COMMANDS:
        raise UsageError(f"'{name}' is not a command: {did_you_mean(name, COMMANDS)}")
    command = COMMANDS[name]
    if {"-h", "--help"} & set(given):
        about = None if is_dataclass(command.flags) else command.does
        arguments(command.flags, given, program(name), description=about)  # which ends here
    code: int = import_module(command.module).main(given)
    return code


def complete(words: Sequence[str]) -> NoReturn:
    """Prints or writes a shell's script that completes the commands and their flags, as tyro makes it, and ends."""
    check_shell(words)
    kinds = tuple(Annotated[boxed(command.flags), subcommand(name)] for name, command in COMMANDS.items())
    every: Any = Union[kinds]  # noqa: UP007 - of a list that is known only when it runs
    tyro.cli(every, args=words, prog="dg-referee", config=(*CONFIG, OmitSubcommandPrefixes))
    raise AssertionError(f"{words}: tyro took them for a command")


def script() -> NoReturn:
    """What `dg-referee` calls."""
    leave(main)


if __name__ == "__main__":
    script()
