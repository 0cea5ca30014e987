"""Runs on this machine: in this process, or in spawned workers. A worker that dies costs only its own run one retry."""

import logging
import signal
from collections import deque
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import torch

from benchmark.core.devices import on_gpu
from benchmark.core.record import Record
from benchmark.runs.engines.workers import Crew
from benchmark.runs.execute import execute
from benchmark.runs.job import Job, Listener, seldom
from benchmark.training import signals

LOGGER = logging.getLogger("benchmark")


def run_jobs(jobs: Iterable[Job], workers: int, listener: Listener, timeout: float | None = None) -> None:
    """Does all runs; `listener` hears of each.

    workers: 1 runs them here, more in as many spawned processes that share the cores. timeout: seconds that one run may
    take; it needs a process that can be killed, so even one worker is spawned. Where a run costs this process its GPU,
    those after it are spawned too.

    Raises StoppedError at Ctrl-C and SIGTERM, within five seconds and with checkpoints kept; UsageError and OSError
    where results cannot be read or written.
    """
    waiting = deque(jobs)
    if workers == 1 and timeout is None:
        with signals.listening((signal.SIGINT, signal.SIGTERM)):
            _here(waiting, listener)
            if signals.asked():
                return
    if waiting:
        with signals.listening((signal.SIGINT, signal.SIGTERM), grace=None):
            _in_workers(waiting, workers, listener, timeout)


def _here(waiting: deque[Job], listener: Listener) -> None:
    """Does the runs in this process until they are done, it is asked to stop, or its GPU answers no more."""
    while waiting and not signals.asked():
        job = waiting.popleft()
        listener.started(job)
        record = execute(job, seldom(partial(listener.progressed, job)))
        listener.ended(job, record)
        if record and _gpu_is_lost(record):
            LOGGER.warning("after that error this process cannot use its GPU: the other runs have another process")
            return


def _gpu_is_lost(record: Record) -> bool:
    """Whether a run has left this process with a GPU that answers each call with its error, as CUDA has it."""
    if not (on_gpu(record.asked.device) and torch.cuda.is_initialized()):
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _passed_on(message: Any, job: Job, listener: Listener) -> bool:
    """Whether a worker's message is one of a run that goes on; then whoever it is for has it."""
    if isinstance(message, logging.LogRecord):
        logging.getLogger(message.name).handle(message)
    elif isinstance(message, tuple):
        listener.progressed(job, *message)
    else:
        return False
    return True


def _in_workers(waiting: deque[Job], workers: int, listener: Listener, timeout: float | None) -> None:
    crew = Crew(waiting, workers, listener, timeout)
    try:
        while (busy := crew.busy()) and not signals.asked():
            said = set(wait(list(busy), timeout=0.2))
            for pipe, worker in busy.items():
                job = worker.job
                assert job is not None
                goes_on, message = True, None
                if pipe in said:
                    try:
                        message = worker.heard()
                        goes_on = _passed_on(message, job, listener)
                    except EOFError:
                        goes_on, message = crew.died(worker, job)
                        if goes_on:
                            continue
                if goes_on and timeout is not None and worker.seconds > timeout:  # however much it has to say
                    goes_on, message = False, crew.overdue(worker, job)
                if goes_on:
                    continue
                if isinstance(message, Exception):
                    raise message
                crew.ended(worker, message)
                listener.ended(job, message)
    finally:
        crew.stop()
