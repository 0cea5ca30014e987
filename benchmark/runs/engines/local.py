"""Runs on this machine: in this process, or in spawned workers. A worker that dies costs only its own run one retry."""

import logging
import signal
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import wait
from time import monotonic

from benchmark.core.record import Record
from benchmark.runs.engines.workers import Crew
from benchmark.runs.execute import execute_or_leave
from benchmark.runs.job import Job, Listener
from benchmark.training import signals


def run_jobs(jobs: Iterable[Job], workers: int, listener: Listener, timeout: float | None = None) -> list[Record]:
    """Does all runs and returns their records, in the order in which they end; `listener` hears of each.

    workers: 1 runs them here, more in as many spawned processes that share the cores. timeout: seconds that one run may
    take; it needs a process that can be killed, so even one worker is spawned.

    Raises StoppedError at Ctrl-C and SIGTERM, within five seconds and with checkpoints kept; UsageError and OSError
    where results cannot be read or written.
    """
    if workers > 1 or timeout is not None:
        with signals.listening((signal.SIGINT, signal.SIGTERM), grace=None):
            return _in_workers(deque(jobs), workers, listener, timeout)
    ended = []
    with signals.listening((signal.SIGINT, signal.SIGTERM)):
        for job in jobs:
            listener.started(job)
            record = execute_or_leave(job, listener)
            listener.ended(job, record)
            if record is not None:
                ended.append(record)
            if signals.asked():
                break
    return ended


def _in_workers(waiting: deque[Job], workers: int, listener: Listener, timeout: float | None) -> list[Record]:
    ended: list[Record] = []
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
                        message = crew.died(worker, job)
                        if message is None:
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
                if message is not None:
                    ended.append(message)
        return ended
    finally:
        crew.stop()
