"""Worker processes: each is sent runs, reports how they go, and may die without harm to any but its own run."""

import logging
import logging.handlers
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from benchmark import registry
from benchmark.core import standard_streams
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs.ending import leave_at_once
from benchmark.runs.engines import spawn
from benchmark.runs.execute import execute, stored
from benchmark.runs.job import Job, Listener, seldom
from benchmark.runs.perform import Outcome, record_of
from benchmark.training import signals

LOGGER = logging.getLogger("benchmark")
"""What workers log is sent to the parent, which hands it to its own logger of that name."""


class Worker:
    """A spawned process and the run it is doing."""

    def __init__(self, plugins: tuple[Path, ...], threads: int):
        self.pipe, theirs = spawn.CONTEXT.Pipe()
        try:
            self.process = spawn.start(_work, theirs, plugins, threads, LOGGER.getEffectiveLevel(), daemon=True)
        finally:
            theirs.close()
        self.job: Job | None = None
        self.since: float | None = None
        """When it told that it had begun; starting a process is no part of a run."""

    def give(self, job: Job) -> None:
        self.job, self.since = job, None
        with suppress(OSError):  # it is dead, which reading from it will show
            self.pipe.send(job)

    @property
    def seconds(self) -> float:
        """How long its run has taken."""
        return monotonic() - self.since if self.since else 0.0

    def heard(self) -> Any:
        """Its next message. Raises EOFError where the process died."""
        message = spawn.heard(self.pipe)
        self.since = self.since or monotonic()
        return message


class Crew:
    """The workers of one call, and what becomes of their runs."""

    def __init__(self, waiting: deque[Job], workers: int, listener: Listener, timeout: float | None):
        self.waiting, self.listener, self.timeout = waiting, listener, timeout
        self.threads = max(1, torch.get_num_threads() // workers)
        self.retried: dict[str, float] = {}
        """Runs whose worker died, and how many seconds they had taken."""
        self.workers = [self.hire(waiting[0]) for _ in range(min(workers, len(waiting)))]

    def hire(self, job: Job) -> Worker:
        return Worker(job.plugins, self.threads)

    def replace(self, worker: Worker, job: Job) -> None:
        self.workers[self.workers.index(worker)] = self.hire(job)

    def busy(self) -> dict[Any, Worker]:
        """The workers at work, by pipe, once those without a run have been given one."""
        for worker in self.workers:
            if worker.job is None and self.waiting:
                job = self.waiting.popleft()
                worker.give(job)
                self.listener.started(job)
        return {worker.pipe: worker for worker in self.workers if worker.job is not None}

    def ended(self, worker: Worker, record: Record | None) -> None:
        """Frees a worker for the next run; one whose run failed goes, with the memory that the run may still hold."""
        worker.job = None
        if record is not None and record.status == "failed" and self.waiting and worker in self.workers:
            worker.pipe.close()
            self.replace(worker, self.waiting[0])

    def died(self, worker: Worker, job: Job) -> tuple[bool, Record | None]:
        """Gives the run of a worker that died back to those that wait, once; then stores that it failed. Returns
        whether the run waits again, and what is stored of it otherwise."""
        worker.process.join()
        self.replace(worker, job)
        code = worker.process.exitcode
        if job.asked.run_id in self.retried:
            before = self.retried[job.asked.run_id]
            return False, _failed(job, worker, f"the worker process died twice (exit code {code})", before)
        self.retried[job.asked.run_id] = worker.seconds
        note = f"its worker process died (exit code {code}); it was taken up from its last checkpoint, if it had one"
        self.listener.noticed(job, note)
        self.waiting.appendleft(replace(job, notes=(*job.notes, note)))
        return True, None

    def overdue(self, worker: Worker, job: Job) -> Record | None:
        """Ends a run that has taken longer than it may."""
        worker.process.kill()
        worker.process.join()
        self.replace(worker, job)
        return _failed(job, worker, f"it took longer than --timeout {self.timeout:g} seconds and was ended")

    def stop(self) -> None:
        """Ends all workers: idle ones at once, others after their checkpoint, and any by force after a while."""
        for worker in self.workers:
            if worker.job is None:
                worker.pipe.close()
            else:
                spawn.stop(worker.process)
        end = monotonic() + signals.GRACE + 0.5
        try:
            for worker in self.workers:
                worker.process.join(max(0.0, end - monotonic()))
        finally:  # interrupted once more
            for worker in self.workers:
                worker.process.kill()
                worker.process.join()


def _failed(job: Job, worker: Worker, error: str, before: float = 0.0) -> Record | None:
    """Stores that a run failed whose process is gone, unless it was done by then; None where another process has taken
    it up. before: seconds that it took in another worker."""
    return stored(job, lambda _: Outcome(record_of(job, "failed", None, before + worker.seconds, error=error), [], {}))


class _Sent(logging.handlers.QueueHandler):
    """Sends the parent what is logged here."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the parent is gone
            self.queue.send(record)  # type: ignore[attr-defined]


def _work(pipe: "Connection[Any, Any]", plugins: tuple[Path, ...], threads: int, level: int) -> None:
    """Main function of a worker: does the runs it is sent until its pipe closes. level: from which on it logs."""
    standard_streams.guard()
    LOGGER.addHandler(_Sent(pipe))  # type: ignore[arg-type]
    LOGGER.setLevel(level)
    spawn.die_with_parent()
    torch.set_num_threads(threads)

    def send(doing: str, share: float) -> None:
        try:
            pipe.send((doing, share))
        except OSError:  # the parent is gone: that is no fault of the run
            raise KeyboardInterrupt from None

    try:
        with spawn.stoppable():
            try:
                registry.load_plugins(plugins)
                while True:
                    job = pipe.recv()
                    pipe.send(("beginning", 0.0))
                    pipe.send(execute(job, seldom(send)))
            except (UsageError, OSError) as problem:  # the store cannot be read or written, or the parent is gone
                pipe.send(problem)
    except (EOFError, OSError, KeyboardInterrupt):
        leave_at_once(0)  # all is stored, and the parent waits
