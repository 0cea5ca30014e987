"""The records of finished runs and what lies beside them, read with doubt. places.py says where they lie.

SHA256SUMS beside a record says what its files were when they were written (`sha256sum -c` reads it); records from
before it have none.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs.places import Folder, Packed, Place
from benchmark.sensitivity.map import SensitivityMap
from benchmark.training import artifacts

RECORD, CURVE, MAP, VIEWS, SUMS = "record.json", "curve.jsonl", "sensitivity.npy", "views.png", "SHA256SUMS"
BEGUN = "begun.json"
"""Beside a checkpoint, and nowhere else: what the run began on (begun.py)."""
WEIGHTS = "weights.safetensors"
"""Too large to be hashed whenever a record is read: export.load_model holds them against the record's own hash."""
FILES = (RECORD, CURVE, MAP, VIEWS, WEIGHTS, "card.md")
"""Files of a run that SHA256SUMS lists where they are there."""
TRIED = "search"
"""Folder of a results folder that is one itself, with the trials of searches."""
RUN_ID = re.compile(r"[0-9a-f]{12}")
AGAIN = "; move the run away to run it again"


class Records:
    """Run records below one output folder."""

    def __init__(self, out: Path):
        self.out = out
        self.runs = out / "runs"

    def place(self, run_id: str) -> Place:
        """Where a run's files are. A folder comes before a packed run: it is younger, or the packing was cut off."""
        folder, file = self.runs / run_id, self.runs / f"{run_id}.zip"
        return Packed(file) if os.path.lexists(file) and not os.path.lexists(folder) else Folder(folder)

    def read(self, run_id: str) -> Record | None:
        """The record of a finished run, or None. Raises UsageError where the file is damaged or of another schema."""
        while True:
            before = self._stamp(run_id)
            try:
                record = self._read(run_id)
            except UsageError:
                if self._stamp(run_id) == before:  # else a process put another in its place meanwhile
                    raise
            else:
                if record is not None or self._stamp(run_id) == before:  # else it was being packed
                    return record

    def _stamp(self, run_id: str) -> tuple[int, int] | None:
        """What changes with a run's place; None where there is nothing."""
        try:
            found = self.place(run_id).path.lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read(self, run_id: str) -> Record | None:
        place = self.place(run_id)
        record = read_record(place)
        if record is None and os.path.lexists(place.path):
            raise UsageError(f"{place.path / RECORD}: it is missing{AGAIN}")
        if record is not None and record.run_id != run_id:
            raise UsageError(f"{place.path}: its contents belong to run {record.run_id}; it was moved")
        if record is not None:
            if record.sealed and not place.has(SUMS):
                raise UsageError(f"{place.path / SUMS}: it is missing, and the record says that it was written{AGAIN}")
            listed = [Path(line.partition("  ")[2]).name for line in self._sums(place).splitlines()]
            unlisted = [name for name in FILES if place.is_plain(name) and name not in listed]
            if unlisted and place.has(SUMS):
                raise UsageError(
                    f"{place.path / SUMS}: it lacks {', '.join(unlisted)}: it was damaged or edited{AGAIN}"
                )
            for name in {RECORD, *listed} - {WEIGHTS}:
                self._content(place, name)
        return record

    def _sums(self, place: Place) -> str:
        """What is in SHA256SUMS; nothing where a record is older than that."""
        with _named(place.path / SUMS):
            return place.read(SUMS).decode() if place.has(SUMS) else ""

    def _content(self, place: Place, name: str) -> bytes:
        """A file of a finished run. Raises UsageError where it is not what was written."""
        sums = self._sums(place)
        with _named(place.path / name):
            found = place.read(name)
            if sums and f"{hashlib.sha256(found).hexdigest()}  {name}\n" not in sums:
                raise ValueError("it is not what was written: it was damaged or edited")
            return found

    def ids(self) -> list[str]:
        """The ids of all finished runs, sorted; also of what bears a run's name and is none, which reading it says."""
        folders, packed = set[str](), set[str]()
        for path in self._there():
            if path.suffix.lower() == ".zip":
                if RUN_ID.match(path.name):
                    packed.add(path.stem if path.suffix == ".zip" else path.name)
            elif RUN_ID.fullmatch(path.name) or (
                path.is_dir() and not path.name.startswith(".") and os.path.lexists(path / RECORD)
            ):  # what systems leave about is none
                folders.add(path.name)
        return sorted(folders | packed)

    def _there(self) -> list[Path]:
        """What is in the folder of runs; nothing where there is none. Raises UsageError where it may not be read."""
        try:
            return [self.runs / name for name in os.listdir(self.runs)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as problem:
            raise UsageError(f"{self.runs}: {problem.strerror or problem}") from problem

    def read_all(self) -> list[Record]:
        """All finished runs, ordered by run id."""
        return [record for record in map(self.read, self.ids()) if record is not None]

    def trials(self) -> list[Record]:
        """The trials of searches for these runs, which lie in a store of their own."""
        return Records(self.out / TRIED).read_all()

    def curve(self, record: Record) -> list[dict[str, Any]]:
        """The points of a run's learning curve, in order. Raises UsageError where the file is damaged."""
        place = self.place(record.run_id)
        found = self._content(place, CURVE)
        with _named(place.path / CURVE):
            return artifacts.curve(found, record)

    def curves(self, records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
        """The points of every run's curve, by run id. Raises UsageError where a file is damaged."""
        return {record.run_id: self.curve(record) for record in records}

    def map_of(self, record: Record) -> SensitivityMap | None:
        """The sensitivity map of a run, or None. Raises UsageError where the file is not the one recorded."""
        place = self.place(record.run_id)
        with _named(place.path / MAP):
            return read_map(place, record)

    def maps(self, records: Iterable[Record]) -> dict[str, SensitivityMap]:
        """The sensitivity maps of all runs that have one, by run id. Raises UsageError where one is damaged or not of
        the size of others on the same images."""
        found, sizes = {}, dict[str, SensitivityMap]()
        for record in records:
            one = self.map_of(record)
            if one is not None:
                found[record.run_id] = one
                with _named(self.place(record.run_id).path / MAP):
                    artifacts.same_size([sizes.setdefault(record.asked.fingerprint, one), one])
        return found

    def views(self, records: Iterable[Record]) -> dict[str, bytes]:
        """The pictures of augmented images (views.png) of all runs that have one, by run id. Raises UsageError where a
        file is damaged or no such picture."""
        found = {}
        for run_id in (record.run_id for record in records):
            place = self.place(run_id)
            if place.has(VIEWS):
                found[run_id] = self._content(place, VIEWS)
                with _named(place.path / VIEWS):
                    artifacts.strips(found[run_id])
        return found


def read_record(place: Place) -> Record | None:
    """The record of a run, or None where there is none. Raises UsageError where it is damaged or edited."""
    path = place.path / RECORD
    try:
        text = place.read(RECORD).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: cannot be read ({problem}){AGAIN}") from problem
    try:
        record = Record.model_validate_json(text)
    except ValidationError as problem:
        found = problem.errors()[0]
        where = ".".join(str(part) for part in found["loc"]) or "file"
        raise UsageError(f"{path}: not a valid record ({where}: {found['msg']}){AGAIN}") from problem
    if record.run_id != record.asked.run_id:
        raise UsageError(
            f"{path}: its contents belong to run {record.asked.run_id}, not {record.run_id}; it was edited"
        )
    return record


def read_map(place: Place, record: Record) -> SensitivityMap | None:
    """The sensitivity map of a run, or None. Raises OSError or ValueError where the file is not the one recorded."""
    if record.sensitivity is None:
        return None
    found = place.read(MAP)
    if hashlib.sha256(found).hexdigest() != record.sensitivity.sha256:
        raise ValueError("its hash is not the recorded one")
    return artifacts.error_map(found, record)


def last_line(error: str | None) -> str:
    """What went wrong in a run, without where it did; empty where there is no error."""
    return (error or "").strip().rpartition("\n")[2]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file becomes a UsageError that names it."""
    try:
        yield
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror or problem}{AGAIN}") from problem
    except ValueError as problem:
        raise UsageError(f"{path}: {problem}{AGAIN}") from problem
