"""Runs on a Ray cluster: each is a Ray task on some node, and this process stores what comes back.

The nodes need this package in this version and no shared folder. Images, plugins and files of weights travel through
Ray's object store, once to each node. A run whose worker or node is lost is done once more: from its checkpoint if the
nodes see the output folder, otherwise from scratch. Only this module imports Ray.
"""

import json
import logging
import os
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch

from benchmark.core.devices import on_gpu, whole
from benchmark.core.errors import UsageError
from benchmark.core.locks import BusyError
from benchmark.runs.engines.ray_task import Parcel, pack, work
from benchmark.runs.execute import noted, settle
from benchmark.runs.job import Job, Listener
from benchmark.runs.perform import Outcome, inputs, record_of
from benchmark.runs.store import Store

_ours = ""
"""Ray's name of the connection that this module made; empty where its caller made the present one, or none is there."""
SUBMITTED = 256
"""Runs that are handed to Ray at a time; each holds its lock, an open file, until it is stored."""


def choose_device(name: Literal["auto", "cpu", "cuda"], address: str | None) -> torch.device:
    """Connects to the cluster and says what its runs compute on: auto is CUDA where a node has a GPU.

    address: of the cluster's head, as `ray start` prints it; None: RAY_ADDRESS, or the cluster of this machine, or else
    a new one on this machine alone. Raises UsageError where Ray, the cluster or its GPUs are missing.
    """
    global _ours  # noqa: PLW0603 - a process has one connection
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; without it, it warns
    try:
        import ray  # noqa: PLC0415 - an extra, which most people lack
    except ImportError as problem:
        raise UsageError(
            "--engine ray: Ray is not installed; pip install 'ray>=2.44', or in a checkout pip install '.[ray]'"
        ) from problem
    try:
        if address and ":" in address:  # Ray would try for minutes
            host, _, port = address.rpartition("/")[2].rpartition(":")
            host = ray.util.get_node_ip_address() if host in ("localhost", "127.0.0.1") else host  # as Ray reads them
            socket.create_connection((host, int(port)), timeout=10).close()
        first = not ray.is_initialized()
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False, ignore_reinit_error=True)
        connection = ray.get_runtime_context().get_job_id()
        _ours = connection if first or _ours == connection else ""
    except (OSError, ValueError, RuntimeError) as problem:
        where = f"--ray-address {address}" if address else "--engine ray"
        hint = "`ray status` shows what is up, and RAY_AUTH_MODE must be the same here as on its nodes"
        raise UsageError(f"{where}: no cluster to work on: {problem}; {hint}") from problem
    gpus = ray.cluster_resources().get("GPU", 0)
    if name == "cuda" and not gpus:
        raise UsageError("--device cuda: no node of the Ray cluster has a GPU; use --device cpu")
    return whole("cuda" if name != "cpu" and gpus else "cpu")


def run_jobs(jobs: Iterable[Job], sharing: int, listener: Listener) -> None:
    """Does all runs on the cluster that choose_device has connected to, and disconnects, unless the caller had
    connected before.

    sharing: how many runs share a GPU, or a core where they compute on the CPU. `listener` hears of each.
    """
    driver, waiting = _Driver(sharing, listener), deque(jobs)
    try:
        while waiting or driver.flights:
            while waiting and len(driver.flights) < SUBMITTED:
                driver.take(waiting.popleft())
            if driver.flights:
                driver.listen()
    finally:
        driver.close()


@dataclass
class _Flight:
    """A run that was handed to Ray."""

    job: Job
    folder: Path
    lock: ExitStack
    since: float | None = None
    """When it began, by monotonic(); for the first time, where its worker was lost."""
    lost: str = ""
    """How its first worker was lost."""


class _Driver:
    """This process's end of the runs."""

    def __init__(self, sharing: int, listener: Listener):
        import ray  # noqa: PLC0415 - an extra
        from ray.util.queue import Queue  # noqa: PLC0415
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        self.ray, self.listener = ray, listener
        self.share = 10_000 // sharing / 10_000  # Ray counts in ten-thousandths
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.news = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.data: dict[tuple[str, str, str], Any] = {}
        self.files: dict[Path, bytes] = {}
        """As they were when a run needed them first: what is edited meanwhile is not what was planned."""
        self.flights: dict[Any, _Flight] = {}

    def take(self, job: Job) -> None:
        """Hands a run to Ray, unless it is done or another process is doing it."""
        store = Store(job.out)
        with ExitStack() as lock:
            try:
                folder = lock.enter_context(store.working(job.asked.run_id)).resolve()
                earlier = store.read(job.asked.run_id)
                earlier = earlier if earlier and job.over(earlier) else None
            except BusyError:  # its own process will store it
                folder, earlier = None, None
            if folder and not earlier:
                self.submit(_Flight(job, folder, lock.pop_all()))
                return
        self.listener.started(job)
        self.listener.ended(job, earlier)

    def submit(self, flight: _Flight) -> None:
        """Hands a run to Ray; where that cannot be done, the run is not held any longer."""
        try:
            self.flights[self.task(flight)] = flight
        except BaseException:
            flight.lock.close()
            raise

    def task(self, flight: _Flight) -> Any:
        """The reference of a run that was handed to Ray."""
        asked, plugins = flight.job.asked, tuple(_whole(path) for path in flight.job.plugins)
        job = replace(flight.job, plugins=plugins, weights=_whole(flight.job.weights) if flight.job.weights else None)
        key = asked.dataset, json.dumps(asked.dataset_settings, sort_keys=True), asked.source
        if key not in self.data:
            self.data[key] = self.ray.put(pack(inputs(job)))
        files = [path for path in (*job.plugins, job.weights) if path]
        self.files |= {path: path.read_bytes() for path in files if path not in self.files}
        parcel = Parcel(job.code, flight.folder, {path: self.files[path] for path in files})
        gpus = self.share if on_gpu(asked.device) else 0
        task = self.ray.remote(work).options(num_cpus=self.share, num_gpus=gpus, max_retries=0)
        return task.remote(job, parcel, self.data[key], self.news.actor)

    def listen(self) -> None:
        """Passes on what the runs say, and stores those that have ended."""
        done, _ = self.ray.wait(list(self.flights), num_returns=len(self.flights), timeout=0.5)
        flying = {flight.job.asked.run_id: flight for flight in self.flights.values()}
        for run_id, doing, share in self.news.get_nowait_batch(self.news.size()):
            if run_id in flying:
                self.start(flying[run_id])
                self.listener.progressed(flying[run_id].job, doing, share)
        for reference in done:
            self.land(reference)

    def land(self, reference: Any) -> None:
        """Stores the run behind a reference, or hands it to Ray again where its worker was lost for the first time."""
        flight = self.flights.pop(reference)
        job = flight.job
        self.start(flight)
        try:
            outcome: Outcome = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as problem:
            error = f"{type(problem.cause).__name__}: {problem.cause}"
            outcome = self.failed(flight, error)
        except self.ray.exceptions.RayError as problem:
            how = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
            if not flight.lost:
                flight.lost = f"its worker or node was lost, and it was done again ({how})"
                self.listener.noticed(job, flight.lost)
                self.submit(flight)
                return
            error = f"the worker or its node was lost twice; the second time: {how}"
            outcome = self.failed(flight, error)
        if flight.lost:
            outcome = noted(outcome, flight.lost)
        with flight.lock:
            store = Store(job.out)
            record = settle(store, flight.folder, job, store.read(job.asked.run_id), outcome)
        self.listener.ended(job, record)

    def failed(self, flight: _Flight, error: str) -> Outcome:
        taken = monotonic() - flight.since if flight.since else 0.0
        return Outcome(record_of(flight.job, "failed", None, taken, error=error), [], {})

    def start(self, flight: _Flight) -> None:
        if flight.since is None:
            flight.since = monotonic()
            self.listener.started(flight.job)

    def close(self) -> None:
        """Ends what still runs; checkpoints are kept."""
        global _ours  # noqa: PLW0603 - as above
        if _ours:
            self.ray.shutdown()
            _ours = ""
        else:
            for reference in self.flights:
                self.ray.cancel(reference, force=True)
            self.news.shutdown(force=True)
        for flight in self.flights.values():
            flight.lock.close()


def _whole(path: Path) -> Path:
    """A path whose folder has its name: a plugin that is a package is called by it."""
    return path.parent.resolve() / path.name
