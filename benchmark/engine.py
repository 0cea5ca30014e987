"""Where runs execute: in this process, or in spawned workers. A worker that dies costs its own run one retry."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from benchmark import registry
from benchmark.execute import Job, Listener, execute, record_of
from benchmark.records import BusyError, Store
from benchmark.spec import Record


def run_jobs(jobs: Iterable[Job], workers: int, listener: Listener) -> list[Record]:
    """Does all runs and returns their records, in the order in which they end; `listener` hears of each.

    workers: 1 runs them here, more in as many spawned processes that share the cores.
    """
    if workers > 1:
        return _in_workers(deque(jobs), workers, listener)
    ended = []
    for job in jobs:
        listener.started(job)
        record = _execute_or_yield(job, listener)
        listener.ended(job, record)
        if record is not None:
            ended.append(record)
    return ended


def _execute_or_yield(job: Job, listener: Listener) -> Record | None:
    try:
        return execute(job, listener)
    except BusyError:
        return None  # its own process will store it


class _Worker:
    """A spawned process and the run it is doing."""

    def __init__(self, plugins: tuple[Path, ...], threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, plugins, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None

    def give(self, job: Job) -> None:
        self.job = job
        self.pipe.send(job)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(5)


def _in_workers(waiting: deque[Job], workers: int, listener: Listener) -> list[Record]:
    ended: list[Record] = []
    retried: set[str] = set()
    threads = max(1, (os.cpu_count() or 1) // workers)
    crew = [_Worker(waiting[0].plugins, threads) for _ in range(min(workers, len(waiting)))]
    try:
        while True:
            for worker in crew:
                if worker.job is None and waiting:
                    worker.give(waiting.popleft())
                    listener.started(_job_of(worker))
            busy = {worker.pipe: worker for worker in crew if worker.job is not None}
            if not busy:
                return ended
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                job = _job_of(worker)
                try:
                    message = worker.pipe.recv()
                except EOFError:  # the process died: killed, out of memory, segmentation fault
                    worker.process.join()
                    crew[crew.index(worker)] = _Worker(job.plugins, threads)
                    if job.asked.run_id not in retried:
                        retried.add(job.asked.run_id)
                        waiting.appendleft(job)
                        continue
                    message = _died(job, worker.process.exitcode)
                if isinstance(message, tuple):
                    listener.progressed(job, *message)
                    continue
                worker.job = None
                listener.ended(job, message)
                if message is not None:
                    ended.append(message)
    finally:
        for worker in crew:
            worker.stop()


def _job_of(worker: _Worker) -> Job:
    assert worker.job is not None
    return worker.job


def _died(job: Job, exitcode: int | None) -> Record:
    """Stores the record of a run whose process died twice."""
    with Store(job.out).working(job.asked.run_id):
        record = record_of(job, "failed", None, 0.0, error=f"the worker process died twice (exit code {exitcode})")
        Store(job.out).finish(record, [])
    return record


class _Pipe:
    """Listener in a worker: sends what it hears, a few times a second."""

    def __init__(self, pipe: "Connection[Any, Any]"):
        self.pipe, self.sent = pipe, 0.0

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, doing: str, share: float) -> None:
        if monotonic() - self.sent > 0.2:
            self.pipe.send((doing, share))
            self.sent = monotonic()

    def ended(self, job: Job, record: Record | None) -> None: ...


def _work(pipe: "Connection[Any, Any]", plugins: tuple[Path, ...], threads: int) -> None:
    """Main function of a worker: does the runs it is sent until its pipe closes."""
    torch.set_num_threads(threads)
    registry.load_plugins(plugins)
    try:
        while True:
            pipe.send(_execute_or_yield(pipe.recv(), _Pipe(pipe)))
    except (EOFError, KeyboardInterrupt):
        return
