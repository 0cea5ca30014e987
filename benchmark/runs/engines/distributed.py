"""One run on several processes of this machine (`--nproc`), as torchrun would start them.

Each process has a GPU or a share of the cores. The first does all that a run does; the others only train with it.
"""

import logging
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist

from benchmark import registry
from benchmark.core import standard_streams
from benchmark.core.devices import on_gpu
from benchmark.core.rng import key
from benchmark.runs import gpus, machine
from benchmark.runs.begun import as_it_began
from benchmark.runs.engines import spawn
from benchmark.runs.job import Job, run_name, seldom
from benchmark.runs.perform import Outcome, inputs, perform, record_of, told
from benchmark.runs.torch_state import seed_global_generators
from benchmark.training import signals
from benchmark.training.loop import Report
from benchmark.training.pipeline import train_along

LOGGER = logging.getLogger("benchmark")
GRACE = 10.0
"""Seconds that the first process has to report, once another has failed."""
DIED = "died: "


def perform_split(job: Job, folder: Path, report: Report) -> Outcome:
    """`perform` on job.nproc processes. Where one of them dies, all begin once more from the checkpoint.

    Raises StoppedError, with a checkpoint.
    """
    began = monotonic()
    ended = _attempt(job, folder, report)
    if isinstance(ended, str) and ended.startswith(DIED):
        note = f"{ended}; all began once more, from the last checkpoint, if there was one"
        LOGGER.warning("%s: %s", run_name(job.asked), note)
        job = replace(job, notes=(*job.notes, note))
        ended = _attempt(job, folder, report)
    if isinstance(ended, Outcome):
        return ended
    failed = record_of(job, "failed", None, monotonic() - began, error=ended, warnings=[*job.notes])
    return Outcome(failed, [], {})


def _attempt(job: Job, folder: Path, report: Report) -> Outcome | str:
    """What the first process has to give, or why it has nothing."""
    with tempfile.TemporaryDirectory() as meeting:
        crew: list[tuple[Any, SpawnProcess]] = []
        try:
            for rank in range(job.nproc):
                pipe, theirs = spawn.CONTEXT.Pipe()
                process = spawn.start(_main, rank, job, folder, meeting, theirs)
                theirs.close()
                crew.append((pipe, process))
            return _hear(crew, report)
        except signals.StoppedError:
            for _, first in crew[:1]:
                spawn.stop(first)  # it ends its step and writes a checkpoint
                first.join(signals.GRACE)
            raise
        finally:
            for _, process in crew:
                process.kill()
                process.join()


def _hear(crew: Sequence[tuple[Any, SpawnProcess]], report: Report) -> Outcome | str:
    """Passes on the first process's progress until the first ends, or GRACE seconds after another failed. A failure
    that follows another's death is told as that death. Raises StoppedError."""
    failure, since, pipes = "", monotonic(), [pipe for pipe, _ in crew]
    while not failure or monotonic() < since + GRACE:
        heard = wait(pipes[:1] if failure else pipes, 0.2)
        if signals.asked():
            raise signals.StoppedError
        for rank in reversed([rank for rank, pipe in enumerate(pipes) if pipe in heard]):
            try:
                message = spawn.heard(pipes[rank])
            except EOFError:
                process = crew[rank][1]
                process.join()
                message = f"{DIED}process {rank} of {len(crew)} (exit code {process.exitcode})"
            if isinstance(message, Outcome):
                died = failure.startswith(DIED) and message.record.status != "done"
                return failure if died else message
            if isinstance(message, str):
                failure, since = failure or message, monotonic()
                if rank == 0:
                    return failure
            else:
                report(*message)
    return failure


def _main(rank: int, job: Job, folder: Path, meeting: str, pipe: "Connection[Any, Any]") -> None:
    """One of the processes. It sends its Outcome (the first), or why it failed."""
    standard_streams.guard()
    spawn.die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may reach all, and the first needs all others for its step
    try:
        _meet(rank, job, meeting)
        if rank == 0:
            with suppress(signals.StoppedError), spawn.stoppable():
                pipe.send(perform(job, folder, seldom(lambda *said: pipe.send(said))))
            return
        method = registry.make("method", job.asked.method, job.asked.settings)
        loaded, _ = inputs(job)
        # By the run's seed, as those of the first process, but on a CPU other dropout than there.
        seed_global_generators(key(job.asked.seed, "global", rank))
        with as_it_began(job, folder, write=False):  # as the process that performs the run
            train_along(job.asked, method, loaded, folder=folder, options=job.options)
    except BaseException as problem:  # noqa: BLE001 - whatever a method raises is this run's result
        pipe.send(told(problem, job.asked))
    wait([pipe])  # its end would be taken for a death


def _meet(rank: int, job: Job, meeting: str) -> None:
    """Takes this process's device or share of the cores, and connects it to the others."""
    cuda = on_gpu(job.asked.device)
    if cuda:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // job.nproc))
    registry.load_plugins(job.plugins)
    gpus.fit_attacks(machine.device_of(job.asked))
    dist.init_process_group(
        "nccl" if cuda else "gloo", init_method=f"file://{meeting}/here", rank=rank, world_size=job.nproc
    )
