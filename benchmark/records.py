"""The store of results; the only module that writes under OUT/runs.

A run works in runs/.partial-ID and is moved to runs/ID in one rename once its record is complete: a directory with a
run's name is a finished run, and there is no other sign. A lock that dies with its process keeps two runners apart.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from benchmark import sensitivity
from benchmark.errors import UsageError
from benchmark.sensitivity import SensitivityMap
from benchmark.spec import Record


class BusyError(Exception):
    """Another process is running this run right now."""


class Store:
    """Run records below one output folder. Raises UsageError where the folder cannot be made or written."""

    def __init__(self, out: Path):
        self.out = out
        self.runs = out / "runs"

    def prepare(self) -> None:
        """Makes the folder and proves that it can be written, before any work is done."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            probe = self.runs / f".probe-{os.getpid()}"
            probe.write_text("x", encoding="utf-8")
            probe.unlink()
        except OSError as problem:
            raise UsageError(
                f"--out {self.out}: cannot write there ({problem.strerror}); choose another folder"
            ) from problem

    def read(self, run_id: str) -> Record | None:
        """The record of a finished run, or None. Raises UsageError where the file is damaged or of another schema."""
        record = read_record(self.runs / run_id / "record.json")
        if record is not None and record.run_id != run_id:
            raise UsageError(f"{self.runs / run_id}: its contents belong to run {record.run_id}; it was moved")
        return record

    def maps(self, records: Iterable[Record]) -> dict[str, SensitivityMap]:
        """The sensitivity maps of all runs that have one, by run id."""
        found = {record.run_id: self.map_of(record) for record in records}
        return {run_id: error_map for run_id, error_map in found.items() if error_map is not None}

    def read_all(self) -> list[Record]:
        """All finished runs, ordered by run id."""
        folders = sorted(path.name for path in self.runs.glob("*") if path.is_dir() and not path.name.startswith("."))
        return [record for record in map(self.read, folders) if record is not None]

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The points of a finished run's learning curve, in order."""
        lines = (self.runs / run_id / "curve.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

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
        folder.mkdir(parents=True, exist_ok=True)
        with (self.runs / f".lock-{run_id}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(run_id) from None
            yield folder

    def curves(self, records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
        """The points of every run's curve, by run id. Raises UsageError where a file is damaged."""
        found = {}
        for record in records:
            path = self.runs / record.run_id / "curve.jsonl"
            try:
                found[record.run_id] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            except (OSError, ValueError) as problem:
                raise UsageError(f"{path}: {problem}; move the run's folder away to run it again") from problem
        return found

    def views(self, records: Iterable[Record]) -> dict[str, bytes]:
        """The pictures of augmented images (views.png) of all runs that have one, by run id."""
        paths = {record.run_id: self.runs / record.run_id / "views.png" for record in records}
        return {run_id: path.read_bytes() for run_id, path in paths.items() if path.is_file()}

    def finish(self, record: Record, curve: list[dict[str, Any]], files: Mapping[str, bytes] = {}) -> None:
        """Writes a run's files into its work folder and moves the folder into place in one rename.

        files: contents by name of what lies beside record.json and curve.jsonl.
        """
        folder, final = self.runs / f".partial-{record.run_id}", self.runs / record.run_id
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve), encoding="utf-8")
        write_atomically(folder / "record.json", record.model_dump_json(indent=1).encode() + b"\n")
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        old = self.runs / f".old-{record.run_id}"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        folder.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        (self.runs / f".lock-{record.run_id}").unlink(missing_ok=True)


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


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the file, to disk, then renames: a reader sees the old content or the new, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def save_checkpoint(folder: Path, code: str, state: dict[str, Any]) -> None:
    """Writes checkpoint.pt atomically. state: tensors and plain values only. code: hash of the code that made it."""
    beside = folder / f".checkpoint.pt.{os.getpid()}"
    torch.save({"code": code, "state": state}, beside)
    beside.replace(folder / "checkpoint.pt")


def load_checkpoint(folder: Path, code: str) -> dict[str, Any] | None:
    """The state of an interrupted run. None, so that the run starts anew, where there is no checkpoint, where it is
    damaged, or where other code made it."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises many types for a damaged file, and all mean the same: start anew
        return None
    return saved["state"] if saved.get("code") == code else None
