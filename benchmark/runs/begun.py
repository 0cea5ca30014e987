"""On what a run began, in begun.json beside its checkpoint: a line of JSON and its SHA-256.

A run that is taken up has as many threads as it had then: another number sums in another order. An empty text from
`Account.warning` means that one kind of machine does all of the run.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.core import regular_files
from benchmark.core.durable import write_atomically
from benchmark.runs import machine
from benchmark.runs.job import Job
from benchmark.runs.records import BEGUN
from benchmark.training import checkpoints

MIXED = "perhaps no machine repeats it to the last digit"
"""How the warning of a record begins that was taken up on another kind of machine."""
UNKNOWN = f"one that nobody knows, because {BEGUN} was missing or damaged"
LIMIT = 2**16
"""Bytes of such a file, and more threads than there are."""


@dataclass
class Account:
    """What a run was on. machines: their kinds, from the first to this one."""

    path: Path
    code: str
    threads: int
    machines: list[str]

    @property
    def warning(self) -> str:
        return f"{MIXED}: it was on {'; then on '.join(self.machines)}" if len(self.machines) > 1 else ""

    def anew(self) -> None:
        """The run has begun here, whatever lay in its folder."""
        if len(self.machines) > 1:
            self.machines = self.machines[-1:]
            self.write()

    def write(self) -> None:
        line = json.dumps({"code": self.code, "threads": self.threads, "machines": self.machines}).encode()
        with suppress(OSError):  # a full disk: the checkpoint will say so
            write_atomically(self.path, line + b"\n" + hashlib.sha256(line).hexdigest().encode())


@contextmanager
def as_it_began(job: Job, folder: Path, *, write: bool = True) -> Iterator[Account]:
    """Within, torch has as many threads as the run in `folder` began with, or as a new one takes. write: whether this
    is the process that keeps its account."""
    found = _read(folder / BEGUN) if (folder / checkpoints.NAME).exists() else ("", 0, [])
    code, threads, kinds = found or (job.options.code, 0, [UNKNOWN])
    if code != job.options.code:  # nor is the checkpoint taken up
        threads, kinds = 0, []
    with machine.threads(job.asked.recipe):
        torch.set_num_threads(threads or torch.get_num_threads())
        now = _kind(job)
        own = [*(kind for kind in kinds if kind != now), now]
        account = Account(folder / BEGUN, job.options.code, torch.get_num_threads(), own)
        if write:
            account.write()
        yield account


def _kind(job: Job) -> str:
    """What two runs must share to reach the same bits, but for a GPU's driver, which is asked of another program."""
    described = machine.describe(torch.device("cpu")) | {"deterministic": job.deterministic}
    return machine.comparable(described, machine.device_name(machine.device_of(job.asked)))


def _read(path: Path) -> tuple[str, int, list[str]] | None:
    """Code, threads and kinds of machine; None where the file is missing or damaged."""
    try:
        line, _, digest = regular_files.content(path, LIMIT).partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() == digest:
            match json.loads(line):
                case {"code": str(code), "threads": int(threads), "machines": [*kinds]} if 0 < threads <= LIMIT:
                    return code, threads, [str(kind) for kind in kinds]
    except (OSError, ValueError):
        pass
    return None
