"""On what a run began. One that is taken up has as many threads as it had then: another number sums in another order.

An empty text from `as_it_began` means that one kind of machine does all of the run.
"""

import hashlib
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
"""Lies beside a checkpoint, and nowhere else: a line of JSON, and its SHA-256."""
MIXED = "no machine may repeat it to the last digit"
"""How the warning of a record begins that was taken up on another kind of machine."""
LIMIT = 2**16
"""Bytes of such a file, and more threads than there are."""


@contextmanager
def as_it_began(asked: Asked, folder: Path) -> Iterator[str]:
    """Within, torch has as many threads as the run in `folder` began with, or as a new one takes. Gives the warning of
    a run that is taken up and was on another kind of machine before, or nobody knows on which."""
    goes_on = (folder / checkpoints.NAME).exists()
    threads, kinds = _read(folder / NAME) if goes_on else (0, [])
    with machine.threads(asked.recipe):
        torch.set_num_threads(threads or torch.get_num_threads())
        device = machine.device_of(asked)
        now = machine.comparable(machine.describe(device), machine.device_name(device))
        known = [*(kind for kind in kinds if kind != now), now]
        with suppress(OSError):  # a full disk: the checkpoint will say so
            _write(folder / NAME, {"threads": torch.get_num_threads(), "machines": known})
        if goes_on and not threads:
            yield f"{MIXED}: {NAME}, which says what it began on, is missing or damaged"
        else:
            yield f"{MIXED}: it was on {'; then on '.join(known)}" if len(known) > 1 else ""


def _write(path: Path, about: dict[str, object]) -> None:
    line = json.dumps(about).encode()
    write_atomically(path, line + b"\n" + hashlib.sha256(line).hexdigest().encode())


def _read(path: Path) -> tuple[int, list[str]]:
    """Threads and kinds of machine; 0 threads where the file is missing or damaged."""
    try:
        line, _, digest = regular_files.content(path, LIMIT).partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() == digest:
            match json.loads(line):
                case {"threads": int(threads), "machines": [*kinds]} if 0 < threads <= LIMIT:
                    return threads, [str(kind) for kind in kinds]
    except (OSError, ValueError):
        pass
    return 0, []
