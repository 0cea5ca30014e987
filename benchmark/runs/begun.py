"""On what a run began. One that is taken up has as many threads as it had then: another number sums in another order.

An empty text from `mixed` means that one kind of machine did all of the run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from benchmark.core import regular_files
from benchmark.core.durable import write_atomically
from benchmark.core.record import Asked
from benchmark.runs import machine
from benchmark.training import checkpoints

NAME = "begun.json"
"""Lies beside a checkpoint, and nowhere else."""
MIXED = "more than one kind of machine trained it"
"""How the warning of a record begins that no single machine repeats to the last digit."""
LIMIT = 2**16


@contextmanager
def as_it_began(asked: Asked, folder: Path) -> Iterator[list[str]]:
    """Within, torch has as many threads as the run in `folder` began with, or as a new one takes. Gives the kinds of
    machine that the run has been on, this one last."""
    threads, kinds = _read(folder / NAME) if (folder / checkpoints.NAME).exists() else (0, [])
    with machine.threads(asked.recipe):
        torch.set_num_threads(threads or torch.get_num_threads())
        device = machine.device_of(asked)
        now = machine.comparable(machine.describe(device), machine.device_name(device))
        kinds = [*(kind for kind in kinds if kind != now), now]
        with suppress(OSError):  # a full disk: the checkpoint will say so
            write_atomically(
                folder / NAME, json.dumps({"threads": torch.get_num_threads(), "machines": kinds}).encode()
            )
        yield kinds


def _read(path: Path) -> tuple[int, list[str]]:
    """Threads and kinds of machine; none where the file is missing or damaged."""
    try:
        match json.loads(regular_files.content(path, LIMIT)):
            case {"threads": int(threads), "machines": [*kinds]} if 0 < threads <= LIMIT:
                return threads, [str(kind) for kind in kinds]
    except (OSError, ValueError):
        pass
    return 0, []


def mixed(kinds: list[str]) -> str:
    """The warning of a run that was taken up on another kind of machine."""
    return f"{MIXED}: {'; then '.join(kinds)}" if len(kinds) > 1 else ""
