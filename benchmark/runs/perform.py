"""One run, from its data to the parts of its record, even if it fails. execute.py stores it."""

import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

import torch

from benchmark import data, registry
from benchmark.core.devices import on_gpu, whole
from benchmark.core.errors import UsageError
from benchmark.core.escaping import plain
from benchmark.core.outcome import Ran
from benchmark.core.peak_memory import peak_memory_mib
from benchmark.core.record import Asked, Record, Status
from benchmark.method import Method
from benchmark.runs import gpus, load, machine
from benchmark.runs.begun import as_it_began
from benchmark.runs.card import card
from benchmark.runs.job import Job
from benchmark.runs.load import Load
from benchmark.runs.shared import load_data
from benchmark.runs.torch_state import as_in_a_new_process, global_generators, seed_global_generators
from benchmark.training.loop import DivergedError, Report
from benchmark.training.pipeline import Measured, train_and_measure
from benchmark.training.progress import Training

DRAWN = (
    "it was resumed, and something in it, such as dropout, draws from a global generator of torch, NumPy or Python, "
    "which no checkpoint keeps: undisturbed it would have drawn other numbers"
)
NO_MEMORY = re.compile("out of memory|ALLOC_FAILED")
"""How CUDA, Triton and cuBLAS say it; torch's allocator has an error of its own."""
NO_COMPILER = re.compile(r"Failed to find C compiler|Command '\['[^']*(cc|clang)'")
"""How Triton says that there is none, and that it failed, as without Python.h."""
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


def perform(job: Job, folder: Path, report: Report, read: Callable[[Job], Inputs] = inputs) -> Outcome:
    """Does one run, whatever comes of it, and stores nothing but its checkpoints, in `folder`. read: gives its data.

    Raises StoppedError.
    """
    machine.find_peak_memory()
    gpus.fit_attacks(machine.device_of(job.asked))
    clock, measured = monotonic(), Measured(notes=[*job.notes])
    status: Status = "done"
    with Load() as watched, as_in_a_new_process(), as_it_began(job, folder) as began:  # the record says: what threads
        try:
            parts = _train_and_measure(job, folder, read, report, watched, measured)
        except KeyboardInterrupt:
            if measured.run and not measured.run.resumed:
                began.anew()
            raise
        except BaseException as problem:  # noqa: BLE001 - whatever a plugin raises is its run's result
            status = "diverged" if isinstance(problem, DivergedError) else "failed"
            parts = {"error": told(problem, job.asked)}
            measured.files.clear()
        run = measured.run
        if run and run.resumed and began.warning:
            measured.notes.append(began.warning)
        record = record_of(
            job, status, run, monotonic() - clock, watched.ended(), warnings=[*map(plain, measured.warnings)], **parts
        )
    if beyond := load.beyond(record.ran.machine):
        record.warnings.append(f"{load.WARNING}: {beyond}; speeds are too low")
    if watched.still:
        record.warnings.append(f"{load.STOOD} for {watched.still:.0f} seconds; speeds are too low")
    if told_over := over_budget(record):
        record.warnings.append(told_over)
    if record.weights is not None:
        measured.files["card.md"] = card(record).encode()
    return Outcome(record, run.curve if run and run.step else [], measured.files)


def _train_and_measure(
    job: Job, folder: Path, read: Callable[[Job], Inputs], report: Report, watched: Load, measured: Measured
) -> dict[str, Any]:
    """The parts of the record of a run that ends well; raises what ends it otherwise."""
    asked = job.asked
    method = registry.make("method", asked.method, asked.settings)
    operations = tuple(plain(str(name)) for name in method.operations())
    loaded, classes = read(job)
    if loaded.fingerprint != asked.fingerprint:
        raise UsageError(
            f"the data changed while the benchmark ran: {asked.fingerprint} is {loaded.fingerprint}. Either its files "
            "did, or `load` gives other images each time, as with random transforms"
        )
    loaded = replace(loaded, missing={domain: job.as_typed(why) for domain, why in loaded.missing.items()})
    measured.notes += map(job.as_typed, loaded.warnings)

    device, drew = machine.device_of(asked), False
    seed_global_generators(asked.seed)  # for what asks no keyed one, as dropout; a GPU's is seeded with the network
    first = global_generators(device)

    def look_and_report(doing: str, share: float) -> None:
        nonlocal drew
        watched.look()
        drew = drew or (doing == "evaluating" and first != global_generators(device))
        report(doing, share)

    train_and_measure(
        asked, method, loaded, classes, folder=folder, options=job.options, report=look_and_report, measured=measured
    )
    if measured.run and measured.run.resumed and drew:
        measured.notes.append(DRAWN)
    if measured.run and not measured.run.step:
        more = "--steps" if asked.seconds is None else f"--seconds than {asked.seconds:g}"
        raise UsageError(f"its set-up spent the whole budget of {asked.budget}, so it made no step; give more {more}")
    return {"operations": operations} | measured.parts


def told(problem: BaseException, asked: Asked) -> str:
    """What ended a run, for people, in characters that every file can hold."""
    error = "".join(traceback.format_exception(problem)[-6:])[-4000:]
    if isinstance(problem, torch.OutOfMemoryError) or (on_gpu(asked.device) and NO_MEMORY.search(str(problem))):
        error += out_of_memory(asked.recipe.batch_size, whole(asked.device))
    elif on_gpu(asked.device) and NO_COMPILER.search(error):
        error += "Triton compiles here: install a C compiler and Python's headers (gcc, python3-dev)"
    return error.encode(errors="backslashreplace").decode()


def out_of_memory(batch_size: int, device: torch.device) -> str:
    """What to do about it, for an error that a person reads. The batch is never made smaller without being asked."""
    smaller = f"try --batch-size {batch_size // 2}" if batch_size > 1 else "no smaller batch is possible"
    return (
        f"out of memory: the peak was {peak_memory_mib(device):.0f} MiB with batches of {batch_size}; {smaller}, or, "
        "where runs share the device, fewer --jobs"
    )


def over_budget(record: Record) -> str:
    """Says that a budget in passes or seconds was exceeded by more than a tenth; empty where it was not. A phase (of
    GUD, M-ADA, ME-ADA) that begins within the budget is done to its end."""
    asked, cost = record.asked, record.throughput
    if asked.budget == "steps" or cost is None:
        return ""
    has_phases = registry.find("method", asked.method).expand is not Method.expand
    phases = " (a phase that begins is ended)" if has_phases else ""
    if asked.seconds is not None:
        spent, given, unit = cost.setup_seconds + cost.train_seconds, asked.seconds, "seconds"
    else:
        spent, given, unit = record.steps * cost.passes_per_image, float(asked.recipe.steps), "passes"
    over = spent / given
    return f"it took {over:.1f} times the {unit} of its budget{phases}" if over > 1.1 else ""


def record_of(
    job: Job, status: Status, run: Training | None, seconds: float, loads: Mapping[str, float] = {}, **parts: Any
) -> Record:
    """The record of a run that has ended, well or not, on this machine. loads: of the machine meanwhile (load.py).
    parts: what was measured, or the error."""
    device = machine.device_of(job.asked)
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
            | dict(loads)
            | {"deterministic": job.deterministic}
            | ({"launch": True} if job.launch else {})
            | ({"sharing": job.sharing} if job.sharing > 1 else {}),
            resumed=run.resumed if run else 0,
            normalisation=run.normalisation if run else None,
        ),
        **parts,
    )
