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
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from benchmark import checkpoints, contents
from benchmark.durable import sync_folder, write_atomically
from benchmark.errors import UsageError, describe
from benchmark.locks import BusyError, held
from benchmark.plain import content, is_plain, remove
from benchmark.sensitivity import SensitivityMap
from benchmark.spec import Record

SUMS = "SHA256SUMS"
FILES = ("record.json", "curve.jsonl", "sensitivity.npy", "views.png", "weights.safetensors", "card.md")
"""Files of a run that SHA256SUMS lists where they are there."""
CURVE, MAP, VIEWS = "curve.jsonl", "sensitivity.npy", "views.png"
LIMIT = 2**28
"""Bytes of a file that is read whole; the largest that a run writes, a record apart, has a few hundred thousand."""
AGAIN = "; move the run's folder away to run it again"
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
                f"--out {self.out}: cannot write there ({describe(problem)}); choose another folder"
            ) from problem

    def _hidden(self, kind: str) -> Iterable[Path]:
        return self.runs.glob(f".{kind}-[0-9A-Za-z]*")  # `.old-` and `.old-..` are no run's

    def read(self, run_id: str) -> Record | None:
        """The record of a finished run, or None. Raises UsageError where the file is damaged or of another schema."""
        folder = self.runs / run_id
        record = read_record(folder / "record.json")
        if record is None and os.path.lexists(folder):
            raise UsageError(f"{folder / 'record.json'}: it is missing{AGAIN}")
        if record is not None and record.run_id != run_id:
            raise UsageError(f"{folder}: its contents belong to run {record.run_id}; it was moved")
        if record is not None:
            if record.sealed and not os.path.lexists(folder / SUMS):
                raise UsageError(f"{folder / SUMS}: it is missing, and the record says that it was written{AGAIN}")
            listed = [Path(line.partition("  ")[2]).name for line in self._sums(run_id).splitlines()]
            unlisted = [name for name in FILES if is_plain(folder / name) and name not in listed]
            if unlisted and os.path.lexists(folder / SUMS):
                raise UsageError(f"{folder / SUMS}: it lacks {', '.join(unlisted)}: it was damaged or edited{AGAIN}")
            for name in {"record.json", *listed} - {WEIGHTS}:
                self._content(run_id, name)
        return record

    def _sums(self, run_id: str) -> str:
        """What is in SHA256SUMS; nothing where a record is older than that."""
        path = self.runs / run_id / SUMS
        with _named(path):
            return content(path, LIMIT).decode() if os.path.lexists(path) else ""

    def _content(self, run_id: str, name: str) -> bytes:
        """A file of a finished run. Raises UsageError where it is not what was written."""
        path, sums = self.runs / run_id / name, self._sums(run_id)
        with _named(path):
            found = content(path, LIMIT)
            if sums and f"{hashlib.sha256(found).hexdigest()}  {name}\n" not in sums:
                raise ValueError("it is not what was written: it was damaged or edited")
            return found

    def maps(self, records: Iterable[Record]) -> dict[str, SensitivityMap]:
        """The sensitivity maps of all runs that have one, by run id. Raises UsageError where one is damaged or not of
        the size of others on the same images."""
        found, sizes = {}, dict[str, SensitivityMap]()
        for record in records:
            one = self.map_of(record)
            if one is not None:
                found[record.run_id] = one
                with _named(self.runs / record.run_id / MAP):
                    contents.same_size([sizes.setdefault(record.asked.fingerprint, one), one])
        return found

    def read_all(self) -> list[Record]:
        """All finished runs, ordered by run id."""
        folders = sorted(path.name for path in self.runs.glob("*") if path.is_dir() and _holds_a_run(path))
        return [record for record in map(self.read, folders) if record is not None]

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The points of a finished run's learning curve, in order. Raises UsageError where the file is damaged."""
        record = self.read(run_id)
        if record is None:
            raise UsageError(f"{self.runs / run_id}: no such run")
        return self._curve(record)

    def _curve(self, record: Record) -> list[dict[str, Any]]:
        found = self._content(record.run_id, CURVE)
        with _named(self.runs / record.run_id / CURVE):
            return contents.curve(found, record)

    def map_of(self, record: Record) -> SensitivityMap | None:
        """The sensitivity map of a run, or None. Raises UsageError where the file is not the one recorded."""
        if record.sensitivity is None:
            return None
        path = self.runs / record.run_id / MAP
        with _named(path):
            found = content(path, LIMIT)
            if hashlib.sha256(found).hexdigest() != record.sensitivity.sha256:
                raise ValueError("its hash is not the recorded one")
            return contents.error_map(found, record)

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
        """What a killed process left of a run: a finished record goes to its place, all but checkpoints goes away.

        A link is deleted and never followed: what it leads to is nobody's here.
        """
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        for path in (folder, old):
            if path.is_symlink() or not path.is_dir():
                remove(path)
        for path in folder.iterdir() if folder.exists() else ():
            if not is_plain(path):
                remove(path)
        if (folder / "record.json").exists():
            self._place(run_id)
        elif old.exists() and not os.path.lexists(final):
            old.rename(final)
        for path in folder.iterdir() if folder.exists() else ():
            if not path.match("checkpoint.pt") and not path.match("pool-*.pt"):
                path.unlink()
        with suppress(OSError):
            remove(old)

    def curves(self, records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
        """The points of every run's curve, by run id. Raises UsageError where a file is damaged."""
        return {record.run_id: self._curve(record) for record in records}

    def views(self, records: Iterable[Record]) -> dict[str, bytes]:
        """The pictures of augmented images (views.png) of all runs that have one, by run id. Raises UsageError where a
        file is damaged or no such picture."""
        found = {}
        for run_id in (record.run_id for record in records):
            if os.path.lexists(path := self.runs / run_id / VIEWS):
                found[run_id] = self._content(run_id, VIEWS)
                with _named(path):
                    contents.strips(found[run_id])
        return found

    def finish(self, record: Record, curve: list[dict[str, Any]], files: Mapping[str, bytes] = {}) -> None:
        """Writes a run's files into its work folder and moves the folder into place in one rename.

        files: contents by name of what lies beside record.json and curve.jsonl.
        """
        Record.model_validate(record.model_dump())  # a copy with changes was not looked at yet
        folder = self.runs / f".partial-{record.run_id}"
        points = "".join(json.dumps(point) + "\n" for point in curve)
        told = record.model_dump_json(indent=1) + "\n"
        files = {**files, "curve.jsonl": points.encode(), "record.json": told.encode()}
        sums = "".join(f"{hashlib.sha256(written).hexdigest()}  {name}\n" for name, written in files.items())
        for name, written in ({SUMS: sums.encode()} | files).items():  # the record last: with it the run is whole
            write_atomically(folder / name, written)
        self._place(record.run_id)

    def _place(self, run_id: str) -> None:
        """Moves a whole run from its work folder to its place."""
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        checkpoints.discard(folder)
        sync_folder(folder)
        with suppress(OSError):
            remove(old)
        if os.path.lexists(final):
            final.rename(old)
        folder.rename(final)
        sync_folder(self.runs)
        with suppress(OSError):
            remove(old)


def read_record(path: Path) -> Record | None:
    """The record in a file, or None where there is no file. Raises UsageError where it is damaged or edited."""
    try:
        text = content(path, LIMIT).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
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


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file becomes a UsageError that names it."""
    try:
        yield
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror or problem}{AGAIN}") from problem
    except ValueError as problem:
        raise UsageError(f"{path}: {problem}{AGAIN}") from problem


def _holds_a_run(folder: Path) -> bool:
    """Whether a folder under runs is one of a run, whole or not; what systems leave about is none."""
    named = re.fullmatch(r"[0-9a-f]{12}", folder.name) is not None
    return named or (not folder.name.startswith(".") and os.path.lexists(folder / "record.json"))


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as the contents of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
