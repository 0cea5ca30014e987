"""Runs on this machine: in this process, or in spawned workers. A worker that dies costs only its own run one retry."""

import logging
import signal
from collections import deque
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import wait
from time import monotonic

from benchmark.runs.engines.workers import Crew
from benchmark.runs.execute import execute
from benchmark.runs.job import Job, Listener
from benchmark.training import signals


def run_jobs(jobs: Iterable[Job], workers: int, listener: Listener, timeout: float | None = None) -> None:
    """Does all runs; `listener` hears of each.

    workers: 1 runs them here, more in as many spawned processes that share the cores. timeout: seconds that one run may
    take; it needs a process that can be killed, so even one worker is spawned.

    Raises StoppedError at Ctrl-C and SIGTERM, within five seconds and with checkpoints kept; UsageError and OSError
    where results cannot be read or written.
    """
    if workers > 1 or timeout is not None:
        with signals.listening((signal.SIGINT, signal.SIGTERM), grace=None):
            _in_workers(deque(jobs), workers, listener, timeout)
        return
    with signals.listening((signal.SIGINT, signal.SIGTERM)):
        for job in jobs:
            listener.started(job)
            listener.ended(job, execute(job, partial(listener.progressed, job)))
            if signals.asked():
                break


def _in_workers(waiting: deque[Job], workers: int, listener: Listener, timeout: float | None) -> None:
    crew = Crew(waiting, workers, listener, timeout)
    try:
        while (busy := crew.busy()) and not signals.asked():
            said = set(wait(list(busy), timeout=0.2))
            for pipe, worker in busy.items():
                job = worker.job
                assert job is not None
                if pipe in said:
                    try:
                        message = worker.heard()
                    except EOFError:
                        again, message = crew.died(worker, job)
                        if again:
                            continue
                elif timeout is not None and worker.since and monotonic() - worker.since > timeout:
                    message = crew.overdue(worker, job)
                else:
                    continue
                if isinstance(message, logging.LogRecord):
                    logging.getLogger(message.name).handle(message)
                    continue
                if isinstance(message, tuple):
                    listener.progressed(job, *message)
                    continue
                if isinstance(message, Exception):
                    raise message
                crew.ended(worker, message)
                listener.ended(job, message)
    finally:
        crew.stop()
