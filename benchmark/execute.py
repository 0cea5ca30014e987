"""One run, from its data to its stored record, whatever comes of it."""

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

import torch

from benchmark import capture, data, kernels, machine, parallel, precision, registry
from benchmark.card import card
from benchmark.determinism import determinism
from benchmark.devices import whole
from benchmark.errors import UsageError
from benchmark.job import Job, Listener
from benchmark.locks import BusyError
from benchmark.measure import accuracy_of, sensitivity_of, throughput_of, views_of, weights_of
from benchmark.records import Store
from benchmark.shared import load_data, untouched
from benchmark.spec import Asked, Ran, Record, Status
from benchmark.timing import peak_memory_mib, reset_peak_memory
from benchmark.train import DivergedError, Report, train
from benchmark.training import Training, begin


def execute_or_leave(job: Job, listener: Listener) -> Record | None:
    """`execute`, or None where another process is doing the run and will store it."""
    try:
        return execute(job, listener)
    except BusyError:
        return None


Inputs: TypeAlias = tuple[data.Loaded, tuple[str, ...]]
"""A run's data, and the names of its classes."""


class Outcome(NamedTuple):
    """All that a run leaves behind: its record, its curve, and the contents by name of its other files."""

    record: Record
    curve: list[dict[str, Any]]
    files: dict[str, bytes]


def inputs(job: Job) -> Inputs:
    """What a run works on. Raises UsageError where it is missing or damaged."""
    asked = job.asked
    loaded = load_data(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
    return loaded, registry.make("dataset", asked.dataset, asked.dataset_settings).layout(job.data_dir).classes


def execute(job: Job, listener: Listener) -> Record:
    """Does one run and stores its record, whatever comes of it.

    Raises BusyError where another process is doing it, OSError where the store cannot be written, and StoppedError.
    """
    from benchmark.processes import perform_split  # noqa: PLC0415 - it imports this module

    store = Store(job.out)
    with store.working(job.asked.run_id) as folder:
        earlier = store.read(job.asked.run_id)
        if earlier and job.settled(earlier):
            return earlier
        outcome = (perform_split if job.nproc > 1 else perform)(job, folder, listener)
        if earlier and _contradicts(earlier, outcome.record):
            said = f"not repeatable: the same code reached other accuracies on {earlier.ran.ended}"
            outcome = noted(outcome, said)
        store.finish(*outcome)
        return outcome.record


def noted(outcome: Outcome, what: str) -> Outcome:
    """With one more warning in the record."""
    record = outcome.record
    return outcome._replace(record=record.model_copy(update={"warnings": [*record.warnings, what]}))


def perform(job: Job, folder: Path, listener: Listener, read: Callable[[Job], Inputs] = inputs) -> Outcome:
    """Does one run, whatever comes of it, and stores nothing but its checkpoints, in `folder`. read: gives its data.

    Raises StoppedError.
    """
    clock, so_far = monotonic(), _SoFar(notes=[*job.notes])
    with determinism(job.deterministic) as unrepeatable:
        try:
            _train_and_measure(job, folder, read, functools.partial(listener.progressed, job), so_far)
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever a plugin raises is its run's result
            so_far.failed(problem, job.asked)
        run = so_far.run
        warnings = [*so_far.notes, *(run.notes if run else []), *unrepeatable]
        record = record_of(job, so_far.status, run, monotonic() - clock, warnings=warnings, **so_far.parts)
    if record.weights is not None:
        so_far.files["card.md"] = card(record).encode()
    return Outcome(record, run.curve if run else [], so_far.files)


@dataclass
class _SoFar:
    """What has come of a run so far."""

    status: Status = "done"
    run: Training | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def surviving(self, lacks: str) -> Iterator[None]:
        """What fails inside is noted, as what the record lacks, and the run goes on: it is trained and scored."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - a plugin's network or view may raise anything
            self.notes.append(f"{lacks}: {traceback.format_exception_only(problem)[-1].strip()}")

    def failed(self, problem: BaseException, asked: Asked) -> None:
        """Keeps nothing but the error, in characters that every file can hold."""
        self.status = "diverged" if isinstance(problem, DivergedError) else "failed"
        error = "".join(traceback.format_exception(problem)[-6:])[-4000:]
        if isinstance(problem, torch.OutOfMemoryError):
            error += out_of_memory(asked.recipe.batch_size, whole(asked.device))
        self.parts, self.files = {"error": error.encode(errors="backslashreplace").decode()}, {}


def _train_and_measure(job: Job, folder: Path, read: Callable[[Job], Inputs], report: Report, so_far: _SoFar) -> None:
    """Fills `so_far` step by step. Raises what the method raises, DivergedError and UsageError."""
    asked, parts = job.asked, so_far.parts
    device = whole(asked.device)
    reset_peak_memory(device)
    method = registry.make("method", asked.method, asked.settings)
    parts["operations"] = tuple(str(name) for name in method.operations())
    loaded, classes = read(job)
    if loaded.fingerprint != asked.fingerprint:
        raise UsageError(f"the data changed while the benchmark ran: {asked.fingerprint} is {loaded.fingerprint}")
    so_far.notes += loaded.warnings
    kernels.prepare(device)
    precision.use(asked.recipe.precision, device)
    with untouched(loaded):
        run = so_far.run = begin(asked, method, loaded, job.weights)
        with parallel.split(run.net), capture.capturing(device, wanted=not job.launch):
            train(run, asked, method, loaded, folder, report, code=job.code, checkpoint_seconds=job.checkpoint_seconds)
        parts["accuracy"] = accuracy_of(run, loaded, asked.recipe.selection)
        batch_size, in_precision = asked.recipe.batch_size, asked.recipe.precision
        # Captured anew: the steps' pool of memory is gone with them.
        with so_far.surviving("no cost"), capture.capturing(device, wanted=not job.launch):
            parts["throughput"] = throughput_of(run, batch_size, device, in_precision, sharing=job.sharing)
        report("mapping sensitivity", 1.0)
        with so_far.surviving("no sensitivity map"):
            parts["sensitivity"], map_file = sensitivity_of(run, asked, loaded.val)
            so_far.files |= {"sensitivity.npy": map_file} if map_file else {}
        if job.save_weights:
            parts["weights"], so_far.files["weights.safetensors"] = weights_of(run, asked, classes)
        with so_far.surviving("no picture of the views"):
            so_far.files["views.png"] = views_of(run, asked, method, loaded.train)


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
    """The record of a run that has ended, well or not, on this machine. parts: what was measured, or the error."""
    device = whole(job.asked.device if torch.cuda.is_available() else "cpu")  # a lost run's GPU was elsewhere
    commit, dirty = machine.git_state()
    return Record(
        run_id=job.asked.run_id,
        status=status,
        asked=job.asked,
        sealed=True,
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
            machine=machine.describe(device)
            | ({"launch": True} if job.launch else {})
            | ({"sharing": job.sharing} if job.sharing > 1 else {}),
            resumed=run.resumed if run else 0,
            normalisation=run.normalisation if run else None,
        ),
        **parts,
    )
