"""One run, from its data to its stored record, whatever comes of it."""

import functools
import json
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import torch

from benchmark import data, kernels, machine, registry
from benchmark.card import card
from benchmark.errors import UsageError
from benchmark.measure import accuracy_of, sensitivity_of, throughput_of, views_of, weights_of
from benchmark.records import Store
from benchmark.spec import Asked, Ran, Record, Status
from benchmark.timing import reset_peak_memory
from benchmark.train import DivergedError, Training, begin, train


@dataclass(frozen=True)
class Job:
    """One run and all that a worker process needs to do it."""

    asked: Asked
    command: str
    session: str
    out: Path
    data_dir: Path | None
    plugins: tuple[Path, ...] = ()
    checkpoint_seconds: float = 30.0
    save_weights: bool = False
    weights: Path | None = None
    """The local file of the network's first weights, if the recipe's are those of one."""

    @property
    def code(self) -> str:
        """Hash of the code that this run depends on."""
        return code_of(self.asked.method, self.asked.dataset)

    def lacks_weights(self, record: Record) -> bool:
        """Whether weights are asked for and a finished run kept none: it has to be run again."""
        return self.save_weights and record.weights is None


def code_of(method: str, dataset: str) -> str:
    """Hash of the code that a run of this method on this dataset depends on."""
    return machine.code_hash([registry.source_file("method", method), registry.source_file("dataset", dataset)])


class Listener(Protocol):
    """What is told of runs as they go; benchmark.terminal shows it to people."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, doing: str, share: float) -> None: ...
    def ended(self, job: Job, record: Record | None) -> None: ...


@dataclass(frozen=True)
class Facts:
    """What a plan has to know of a run's data."""

    fingerprint: str
    height: int
    width: int


@functools.lru_cache(maxsize=1)  # runs on the same data follow each other, and one load may fill the memory
def _load(dataset: str, settings: str, source: str, root: Path | None) -> data.Loaded:
    return data.load(registry.make("dataset", dataset, json.loads(settings)), source, root)


@functools.cache
def _facts(dataset: str, settings: str, source: str, root: Path | None) -> Facts:
    loaded = _load(dataset, settings, source, root)
    return Facts(loaded.fingerprint, *loaded.train.x.shape[2:])


def load_data(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> data.Loaded:
    """data.load, remembered for the runs of this process that share the data and follow each other."""
    return _load(dataset, json.dumps(settings, sort_keys=True), source, root)


def data_facts(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> Facts:
    """Facts of what load_data would give."""
    return _facts(dataset, json.dumps(settings, sort_keys=True), source, root)


def execute(job: Job, listener: Listener) -> Record:
    """Does one run and stores its record, whatever comes of it. Raises BusyError where another process is doing it."""
    asked, store, code = job.asked, Store(job.out), job.code
    with store.working(asked.run_id) as folder:
        earlier = store.read(asked.run_id)
        if earlier and earlier.status == "done" and earlier.ran.code == code and not job.lacks_weights(earlier):
            return earlier
        clock = monotonic()
        device = torch.device(asked.device)
        reset_peak_memory(device)
        parts: dict[str, Any] = {}
        run: Training | None = None
        status: Status = "done"
        files: dict[str, bytes] = {}
        try:
            method = registry.make("method", asked.method, asked.settings)
            loaded = load_data(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
            if loaded.fingerprint != asked.fingerprint:
                raise UsageError(
                    f"the data changed while the benchmark ran: {asked.fingerprint} is {loaded.fingerprint}"
                )
            kernels.prepare(device)
            parts["warnings"] = loaded.warnings
            run = begin(asked, method, loaded, job.weights)
            report = functools.partial(listener.progressed, job)
            train(run, asked, method, loaded, folder, report, code=code, checkpoint_seconds=job.checkpoint_seconds)
            parts["accuracy"] = accuracy_of(run, loaded, asked.recipe.selection)
            parts["throughput"] = throughput_of(run, asked.recipe.batch_size, device)
            report("mapping sensitivity", 1.0)
            parts["sensitivity"], map_file = sensitivity_of(run, asked, loaded.val)
            files = {"sensitivity.npy": map_file} if map_file else {}
            if job.save_weights:
                dataset = registry.make("dataset", asked.dataset, asked.dataset_settings)
                classes = dataset.layout(job.data_dir).classes
                parts["weights"], files["weights.safetensors"] = weights_of(run, asked, classes)
            try:
                files["views.png"] = views_of(run, asked, method, loaded.train)
            except Exception as problem:  # noqa: BLE001 - a plugin may raise anything here, and a run needs no picture
                parts["warnings"] = [f"no picture of the views: {type(problem).__name__}: {problem}"]
        except Exception as problem:  # noqa: BLE001 - whatever a method raises is this run's result, not the benchmark's
            status = "diverged" if isinstance(problem, DivergedError) else "failed"
            error = "".join(traceback.format_exception(problem)[-6:])[-4000:]
            parts, files = {"warnings": parts.get("warnings", []), "error": error}, {}
        record = record_of(job, status, run, monotonic() - clock, **parts)
        if record.weights is not None:
            files["card.md"] = card(record).encode()
        store.finish(record, run.curve if run else [], files)
        return record


def record_of(job: Job, status: Status, run: Training | None, seconds: float, **parts: Any) -> Record:
    """The record of a run that has ended, well or not. parts: what was measured, or the error."""
    device = torch.device(job.asked.device)
    commit, dirty = machine.git_state()
    return Record(
        run_id=job.asked.run_id,
        status=status,
        asked=job.asked,
        steps=run.step if run else 0,
        ran=Ran(
            session=job.session,
            command=job.command,
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(run.seconds if run and status == "done" else seconds, 3),
            code=job.code,
            git_commit=commit,
            git_dirty=dirty,
            device_name=machine.device_name(device),
            machine=machine.describe(device),
            resumed=run.resumed if run else 0,
            normalisation=run.normalisation if run else None,
        ),
        **parts,
    )
