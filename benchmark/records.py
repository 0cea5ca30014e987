"""The store of results; the only module that writes under OUT/runs.

A run works in runs/.partial-ID and is moved to runs/ID in one rename once its record is complete: a directory with a
run's name is a finished run, and there is no other sign. A lock that dies with its process keeps two runners apart.
SHA256SUMS beside a record says what its files were when they were written (`sha256sum -c` reads it); records from
before it have none.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from benchmark import checkpoints, sensitivity
from benchmark.durable import sync_folder, write_atomically
from benchmark.errors import UsageError
from benchmark.locks import BusyError, held
from benchmark.sensitivity import SensitivityMap
from benchmark.spec import Record

SUMS = "SHA256SUMS"
WEIGHTS = "weights.safetensors"
"""Too large to be hashed whenever a record is read: export.load_model holds them against the record's own hash."""


class Store:
    """Run records below one output folder. Raises UsageError where the folder cannot be made or written."""

    def __init__(self, out: Path):
        self.out = out
        self.runs = out / "runs"

    def prepare(self) -> None:
        """Makes the folder, proves that it can be written, before any work is done, and clears up after processes that
        were killed: a run that was whole is put into its place, a checkpoint is kept, and nothing else."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            probe = self.runs / f".probe-{os.getpid()}"
            write_atomically(probe, b"x")
            probe.unlink()
            left = {path.name.partition("-")[2] for kind in ("lock", "partial", "old") for path in self._hidden(kind)}
            for run_id in left:
                with suppress(BusyError), self.working(run_id):
                    pass
        except OSError as problem:
            raise UsageError(
                f"--out {self.out}: cannot write there ({problem.strerror}); choose another folder"
            ) from problem

    def _hidden(self, kind: str) -> Iterable[Path]:
        return self.runs.glob(f".{kind}-*")

    def read(self, run_id: str) -> Record | None:
        """The record of a finished run, or None. Raises UsageError where the file is damaged or of another schema."""
        record = read_record(self.runs / run_id / "record.json")
        if record is not None and record.run_id != run_id:
            raise UsageError(f"{self.runs / run_id}: its contents belong to run {record.run_id}; it was moved")
        if record is not None:
            for name in {"record.json", *self._listed(run_id)} - {WEIGHTS}:
                self._content(run_id, name)
        return record

    def _listed(self, run_id: str) -> list[str]:
        """The names in SHA256SUMS; none where a record is older than that."""
        sums = self.runs / run_id / SUMS
        try:
            lines = sums.read_text("utf-8").splitlines() if sums.is_file() else []
        except (OSError, ValueError) as problem:
            raise UsageError(f"{sums}: {problem}; move the run's folder away to run it again") from problem
        return [Path(line.partition("  ")[2]).name for line in lines]

    def _content(self, run_id: str, name: str) -> bytes:
        """A file of a finished run. Raises UsageError where it is not what was written."""
        folder = self.runs / run_id
        try:
            content, sums = (folder / name).read_bytes(), folder / SUMS
            if sums.is_file() and f"{hashlib.sha256(content).hexdigest()}  {name}\n" not in sums.read_text("utf-8"):
                raise ValueError("it is not what was written: it was damaged or edited")
        except (OSError, ValueError) as problem:
            raise UsageError(f"{folder / name}: {problem}; move the run's folder away to run it again") from problem
        return content

    def maps(self, records: Iterable[Record]) -> dict[str, SensitivityMap]:
        """The sensitivity maps of all runs that have one, by run id."""
        found = {record.run_id: self.map_of(record) for record in records}
        return {run_id: error_map for run_id, error_map in found.items() if error_map is not None}

    def read_all(self) -> list[Record]:
        """All finished runs, ordered by run id."""
        folders = sorted(path.name for path in self.runs.glob("*") if path.is_dir() and not path.name.startswith("."))
        return [record for record in map(self.read, folders) if record is not None]

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The points of a finished run's learning curve, in order. Raises UsageError where the file is damaged."""
        try:
            return [json.loads(line) for line in self._content(run_id, "curve.jsonl").splitlines()]
        except ValueError as problem:
            path = self.runs / run_id / "curve.jsonl"
            raise UsageError(f"{path}: {problem}; move the run's folder away to run it again") from problem

    def map_of(self, record: Record) -> SensitivityMap | None:
        """The sensitivity map of a run, or None. Raises UsageError where the file is not the one recorded."""
        if record.sensitivity is None:
            return None
        path = self.runs / record.run_id / "sensitivity.npy"
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != record.sensitivity.sha256:
                raise ValueError("its hash is not the recorded one")
            about = record.sensitivity.model_dump(exclude={"sha256", "mean_standard_error"})
            return sensitivity.load(path, seed=record.asked.seed, **about)
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path}: {problem}; move the run's folder away to run it again") from problem

    @contextmanager
    def working(self, run_id: str) -> Iterator[Path]:
        """The work folder of a run, locked against other processes. Raises BusyError where one holds it."""
        folder = self.runs / f".partial-{run_id}"
        with held(self.runs / f".lock-{run_id}"):
            self._clear_up(run_id)
            folder.mkdir(exist_ok=True)
            try:
                yield folder
            finally:
                with suppress(OSError):
                    folder.rmdir()  # unless there is a checkpoint in it

    def _clear_up(self, run_id: str) -> None:
        """What a killed process left of a run: a finished record goes to its place, all but checkpoints goes away."""
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        if (folder / "record.json").exists():
            self._place(run_id)
        elif old.exists() and not final.exists():
            old.rename(final)
        for path in folder.glob("*"):
            if not path.match("checkpoint.pt") and not path.match("pool-*.pt"):
                path.unlink()
        shutil.rmtree(old, ignore_errors=True)

    def curves(self, records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
        """The points of every run's curve, by run id. Raises UsageError where a file is damaged."""
        return {record.run_id: self.curve(record.run_id) for record in records}

    def views(self, records: Iterable[Record]) -> dict[str, bytes]:
        """The pictures of augmented images (views.png) of all runs that have one, by run id."""
        run_ids = [record.run_id for record in records]
        there = [run_id for run_id in run_ids if (self.runs / run_id / "views.png").is_file()]
        return {run_id: self._content(run_id, "views.png") for run_id in there}

    def finish(self, record: Record, curve: list[dict[str, Any]], files: Mapping[str, bytes] = {}) -> None:
        """Writes a run's files into its work folder and moves the folder into place in one rename.

        files: contents by name of what lies beside record.json and curve.jsonl.
        """
        folder = self.runs / f".partial-{record.run_id}"
        points = "".join(json.dumps(point) + "\n" for point in curve)
        told = record.model_dump_json(indent=1) + "\n"
        files = {**files, "curve.jsonl": points.encode(), "record.json": told.encode()}
        sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
        for name, content in ({SUMS: sums.encode()} | files).items():  # the record last: with it the run is whole
            write_atomically(folder / name, content)
        self._place(record.run_id)

    def _place(self, run_id: str) -> None:
        """Moves a whole run from its work folder to its place."""
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        checkpoints.discard(folder)
        sync_folder(folder)
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        folder.rename(final)
        sync_folder(self.runs)
        shutil.rmtree(old, ignore_errors=True)


def read_record(path: Path) -> Record | None:
    """The record in a file, or None where there is no file. Raises UsageError where it is damaged or edited."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: cannot be read ({problem}); move the folder away to run it again") from problem
    try:
        record = Record.model_validate_json(text)
    except ValidationError as problem:
        found = problem.errors()[0]
        where = ".".join(str(part) for part in found["loc"]) or "file"
        raise UsageError(
            f"{path}: not a valid record ({where}: {found['msg']}); move the folder away to run it again"
        ) from problem
    if record.run_id != record.asked.run_id:
        raise UsageError(
            f"{path}: its contents belong to run {record.asked.run_id}, not {record.run_id}; it was edited"
        )
    return record


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as the contents of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
