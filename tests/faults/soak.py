"""make soak: every kind of fault, many times, with the counts."""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.faults.damage import damaged
from tests.faults.harness import Count
from tests.faults.inputs import inputs
from tests.faults.kills import kills
from tests.faults.oddities import odd_files
from tests.faults.outside import names, numbers, repeated, streams
from tests.faults.plugins import ODD, odd_methods


@dataclass(frozen=True)
class Args:
    """Tries faults and bad input and prints how often, and how often all was well."""

    kills: int = 50
    """SIGKILL at a random moment of a small grid."""
    damaged: int = 100
    """Files that are cut, emptied, garbled or have a flipped bit."""
    inputs: int = 1000
    """Generated command lines, settings, records, maps, image folders and plugin files."""
    outside: int = 40
    """Of each: names of folders, odd files among images, list flags given twice, numbers of all programs; and half as
    many streams."""
    seed: int = 0


def main() -> int:
    """Returns 0 where everything survived, else 1."""
    args, counts = tyro.cli(Args), []
    if min(args.kills, args.damaged, args.inputs, args.outside) < 0:
        sys.exit("error: counts must be 0 or more")
    faults: tuple[Callable[[Path], Count], ...] = (
        lambda folder: odd_methods(folder, [*ODD, "writes_data"], args.seed),
        lambda folder: damaged(folder, args.damaged, args.seed),
        lambda folder: kills(folder, args.kills, args.seed),
        lambda folder: inputs(folder, args.inputs, derandomize=False),
        lambda folder: streams(folder, args.outside // 2, args.seed),
        lambda folder: names(folder, args.outside, args.seed),
        lambda folder: odd_files(folder, args.outside, args.seed),
        lambda folder: repeated(folder, args.outside, args.seed),
        lambda folder: numbers(folder, args.outside, args.seed),
    )
    for make in faults:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            counts.append(make(Path(folder)))
            print(f"{counts[-1]}  [{time.monotonic() - began:.0f} s]", flush=True)  # noqa: T201
    tried, wrong = sum(count.tried for count in counts), sum(len(count.wrong) for count in counts)
    print(f"all: {tried} tried, {tried - wrong} survived")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
