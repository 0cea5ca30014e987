"""One run, from its data to its stored record, whatever comes of it."""

import functools
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import torch

from benchmark import kernels, machine, precision, registry
from benchmark.card import card
from benchmark.determinism import determinism
from benchmark.errors import UsageError
from benchmark.locks import BusyError
from benchmark.measure import accuracy_of, sensitivity_of, throughput_of, views_of, weights_of
from benchmark.records import Store
from benchmark.shared import load_data, untouched
from benchmark.spec import Asked, Ran, Record, Status
from benchmark.timing import peak_memory_mib, reset_peak_memory
from benchmark.train import DivergedError, Report, Training, begin, train


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
    deterministic: bool = False
    notes: tuple[str, ...] = ()
    """What has happened to the run so far; goes into its record's warnings."""

    @property
    def code(self) -> str:
        """Hash of the code that this run depends on."""
        return code_of(self.asked.method, self.asked.dataset)

    def lacks(self, record: Record) -> str:
        """What is asked for now and a finished run has not, so that it has to be run again; empty where it has all."""
        if self.save_weights and record.weights is None:
            return "--save-weights"
        return "--deterministic" if self.deterministic and not record.ran.machine.get("deterministic") else ""

    def outdated(self, record: Record) -> str:
        """What made a record that would not make it today: other code or versions; empty where it is as today."""
        return outdated(record, self.code)


def code_of(method: str, dataset: str) -> str:
    """Hash of the code that a run of this method on this dataset depends on."""
    return machine.code_hash([registry.source_file("method", method), registry.source_file("dataset", dataset)])


def outdated(record: Record, code: str) -> str:
    """How today's code, of this hash, and packages differ from those that made a record; empty where they do not."""
    return "other code" if record.ran.code != code else machine.other_versions(record.ran.machine)


class Listener(Protocol):
    """What is told of runs as they go; benchmark.terminal shows it to people."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, doing: str, share: float) -> None: ...
    def noticed(self, job: Job, what: str) -> None: ...
    def ended(self, job: Job, record: Record | None) -> None: ...


def execute_or_leave(job: Job, listener: Listener) -> Record | None:
    """`execute`, or None where another process is doing the run and will store it."""
    try:
        return execute(job, listener)
    except BusyError:
        return None


def execute(job: Job, listener: Listener) -> Record:
    """Does one run and stores its record, whatever comes of it.

    Raises BusyError where another process is doing it, OSError where the store cannot be written, and StoppedError.
    """
    asked, store = job.asked, Store(job.out)
    with store.working(asked.run_id) as folder, determinism(job.deterministic) as unrepeatable:
        earlier = store.read(asked.run_id)
        if earlier and earlier.status == "done" and not job.outdated(earlier) and not job.lacks(earlier):
            return earlier
        clock = monotonic()
        outcome = _Outcome(notes=[*job.notes])
        try:
            _train_and_measure(job, folder, functools.partial(listener.progressed, job), outcome)
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever a plugin raises is its run's result
            outcome.failed(problem, asked)
        parts, run = outcome.parts, outcome.run
        warnings = [*outcome.notes, *(run.notes if run else []), *unrepeatable]
        record = record_of(job, outcome.status, run, monotonic() - clock, warnings=warnings, **parts)
        if earlier and _contradicts(earlier, record):
            said = f"not repeatable: the same code reached other accuracies on {earlier.ran.ended}"
            record = record.model_copy(update={"warnings": [*warnings, said]})
        if record.weights is not None:
            outcome.files["card.md"] = card(record).encode()
        store.finish(record, run.curve if run else [], outcome.files)
        return record


@dataclass
class _Outcome:
    """What has come of a run so far."""

    status: Status = "done"
    run: Training | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def failed(self, problem: BaseException, asked: Asked) -> None:
        """Keeps nothing but the error, in characters that every file can hold."""
        self.status = "diverged" if isinstance(problem, DivergedError) else "failed"
        error = "".join(traceback.format_exception(problem)[-6:])[-4000:]
        if isinstance(problem, torch.OutOfMemoryError):
            error += out_of_memory(asked.recipe.batch_size, torch.device(asked.device))
        self.parts, self.files = {"error": error.encode(errors="backslashreplace").decode()}, {}


def _train_and_measure(job: Job, folder: Path, report: Report, outcome: _Outcome) -> None:
    """Fills `outcome` step by step. Raises what the method raises, DivergedError and UsageError."""
    asked, parts = job.asked, outcome.parts
    device = torch.device(asked.device)
    reset_peak_memory(device)
    method = registry.make("method", asked.method, asked.settings)
    loaded = load_data(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
    if loaded.fingerprint != asked.fingerprint:
        raise UsageError(f"the data changed while the benchmark ran: {asked.fingerprint} is {loaded.fingerprint}")
    outcome.notes += loaded.warnings
    kernels.prepare(device)
    precision.use(asked.recipe.precision, device)
    with untouched(loaded):
        run = outcome.run = begin(asked, method, loaded, job.weights)
        train(run, asked, method, loaded, folder, report, code=job.code, checkpoint_seconds=job.checkpoint_seconds)
        parts["accuracy"] = accuracy_of(run, loaded, asked.recipe.selection)
        parts["throughput"] = throughput_of(run, asked.recipe.batch_size, device, asked.recipe.precision)
        report("mapping sensitivity", 1.0)
        parts["sensitivity"], map_file = sensitivity_of(run, asked, loaded.val)
        outcome.files |= {"sensitivity.npy": map_file} if map_file else {}
        if job.save_weights:
            dataset = registry.make("dataset", asked.dataset, asked.dataset_settings)
            classes = dataset.layout(job.data_dir).classes
            parts["weights"], outcome.files["weights.safetensors"] = weights_of(run, asked, classes)
        try:
            outcome.files["views.png"] = views_of(run, asked, method, loaded.train)
        except Exception as problem:  # noqa: BLE001 - a plugin may raise anything here, and a run needs no picture
            outcome.notes.append(f"no picture of the views: {traceback.format_exception_only(problem)[-1].strip()}")


def out_of_memory(batch_size: int, device: torch.device) -> str:
    """What to do about it, for an error that a person reads. The batch is never made smaller without being asked."""
    smaller = f"try --batch-size {batch_size // 2}" if batch_size > 1 else "no smaller batch is possible"
    return (
        f"out of memory: the peak was {peak_memory_mib(device):.0f} MiB with batches of {batch_size}; {smaller}, or, "
        "where runs share the device, fewer --jobs"
    )


def _contradicts(earlier: Record, now: Record) -> bool:
    """Whether two finished runs that should agree do not. A budget in seconds promises nothing."""
    made = [(each.ran.code, machine.comparable(each.ran.machine, each.ran.device_name)) for each in (earlier, now)]
    finished = earlier.status == now.status == "done" and now.asked.budget != "time"
    return finished and made[0] == made[1] and earlier.accuracy != now.accuracy


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
