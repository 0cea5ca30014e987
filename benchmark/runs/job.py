"""A run to be done, when a record settles it, and who is told of it.

An empty text from `outdated` means that the record is from today's code and packages.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from benchmark import registry
from benchmark.core.record import Asked, Record
from benchmark.plugin_files import own_file, require_unedited
from benchmark.runs import machine
from benchmark.runs.code_hash import code_hash, plugin_hash
from benchmark.training.loop import Report
from benchmark.training.pipeline import Options


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run and all that a worker process needs to do it."""

    asked: Asked
    command: str
    session: str
    out: Path
    data_dir: Path | None
    """Absolute: a method may go to another folder."""
    typed_data_dir: Path | None = None
    """As it was typed, and as the record names it."""
    plugins: tuple[Path, ...] = ()
    checkpoint_seconds: float = 30.0
    save_weights: bool = False
    weights: Path | None = None
    """The local file of the network's first weights, if the recipe's are those of one."""
    deterministic: bool = False
    launch: bool = False
    """Whether operations are launched one by one where a captured step could be replayed."""
    sharing: int = 1
    """Runs at a time, this one included, on the machine."""
    nproc: int = 1
    """Processes that the run's batches are split over."""
    keep: bool = False
    """Whether a finished record that other code made stays where the run fails."""
    notes: tuple[str, ...] = ()
    """What has happened to the run so far; goes into its record's warnings."""

    def as_typed(self, text: str) -> str:
        """A text in which the data folder is named as it was typed: a record says nothing of a machine's folders."""
        return as_typed(text, self.data_dir, self.typed_data_dir)

    @property
    def code(self) -> str:
        """Hash of the code that this run depends on."""
        return code_of(self.asked.method, self.asked.dataset, self.asked.recipe.network)

    @property
    def options(self) -> Options:
        """How its training is done."""
        return Options(
            code=f"{self.code}, {machine.numerical()}" + ", deterministic" * self.deterministic,
            checkpoint_seconds=self.checkpoint_seconds,
            weights=self.weights,
            save_weights=self.save_weights,
            deterministic=self.deterministic,
            launch=self.launch,
            sharing=self.sharing,
        )

    def lacks(self, record: Record) -> str:
        """What is asked for now and a finished run has not, so that it has to be run again; empty where it has all."""
        if self.save_weights and record.weights is None:
            return "--save-weights"
        flags = {"--deterministic": self.deterministic, "--launch": self.launch}
        return next((flag for flag, on in flags.items() if on and not record.ran.machine.get(flag[2:])), "")

    def settled(self, record: Record) -> bool:
        """Whether a record is that of the run done, as today's code does it and with all that is asked for."""
        return record.status == "done" and not self.outdated(record) and not self.lacks(record)

    def over(self, record: Record) -> bool:
        """Whether the run is done, or has diverged in another command since this one was planned: it would again. A run
        that failed may have lacked time or memory there."""
        diverged = record.status == "diverged" and record.ran.ended > self.session
        return self.settled(record) or (diverged and not self.outdated(record) and not self.lacks(record))

    def outdated(self, record: Record) -> str:
        """What made a record that would not make it today: other code or versions; empty where it is as today."""
        return outdated(record, self.code)


_HASHES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Of the files of methods, datasets and networks."""


def code_of(method: str, dataset: str, network: str) -> str:
    """Hash of the code that a run of this method on this dataset with this network depends on."""
    files = [_file_hash("method", method), _file_hash("dataset", dataset)]
    if registered := _registered(network):
        files.append(_hash_once(*registered))
    return code_hash(files)


def take_hashes(asked: Iterable[Asked]) -> None:
    """Hashes the files of these methods, datasets and networks now, as they were imported: they may be edited before
    they are run."""
    for names in {(each.method, each.dataset, each.recipe.network) for each in asked}:
        code_of(*names)


def _registered(network: str) -> tuple[Any, Path] | None:
    """What a user's own file has registered with timm by this name, and the file; None for a network of timm or of this
    project."""
    kind, _, name = network.partition(":")
    timm: Any = sys.modules.get("timm")  # before it is imported, nobody has registered anything there
    if kind != "timm" or timm is None or not timm.is_model(name):
        return None
    made = timm.model_entrypoint(name)
    path = own_file(made.__module__)
    return (made, path) if path else None


def _file_hash(kind: Literal["method", "dataset"], name: str) -> str:
    return _hash_once(registry.find(kind, name), registry.source_file(kind, name))


def _hash_once(made: Any, path: Path) -> str:
    """The hash of the file that defines a class or function, as it was when this was first asked for since its import:
    what is edited meanwhile does not run in this process. A reload makes another class."""
    if made not in _HASHES:
        require_unedited(path)
        _HASHES[made] = plugin_hash(path)
    return _HASHES[made]


def outdated(record: Record, code: str) -> str:
    """How today's code, of this hash, and packages differ from those that made a record; empty where they do not."""
    return "other code" if record.ran.code != code else machine.other_versions(record.ran.machine)


def unmet(jobs: Sequence[Job], records: Iterable[Record]) -> tuple[int, list[str]]:
    """Of a comparison that has ended here, what its records do not show: how many runs are left to another process,
    and, of each finished one that was to be run again and failed, the flag that it lacks."""
    known = {record.run_id: record for record in records}
    asked = {job.asked.run_id: job for job in jobs}
    done = {name: run for name in asked if (run := known.get(name)) and run.status == "done"}
    older = [name for name, run in done.items() if not asked[name].keep and asked[name].outdated(run)]
    elsewhere = len(asked) - len(asked.keys() & known.keys()) + len(older)  # what is run again here leaves none older
    return elsewhere, [flag for name, run in done.items() if (flag := asked[name].lacks(run))]


def row_name(asked: Asked) -> str:
    """A row as people know it, in its comparison."""
    return f"{asked.dataset}/{asked.source} {asked.row}"


def run_name(asked: Asked) -> str:
    """A run as people know it."""
    return f"{row_name(asked)} seed {asked.seed}"


def as_typed(text: str, data_dir: Path | None, typed: Path | None) -> str:
    """A text in which the data folder is named as it was typed, where one was."""
    return (
        re.sub(rf"(?<![\w.-]){re.escape(str(data_dir))}(?![\w-]|\.\w)", lambda _: str(typed), text) if typed else text
    )


class Listener(Protocol):
    """What is told of runs as they go; benchmark.report.terminal shows it to people."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, doing: str, share: float) -> None: ...
    def noticed(self, job: Job, what: str) -> None: ...
    def ended(self, job: Job, record: Record | None) -> None: ...


def seldom(tell: Report, seconds: float = 0.2) -> Report:
    """`tell`, which hears nothing more for so many seconds after each time, unless something else is being done."""
    told, before = 0.0, ""

    def report(doing: str, share: float) -> None:
        nonlocal told, before
        if doing != before or monotonic() - told > seconds:
            tell(doing, share)
            told, before = monotonic(), doing

    return report
