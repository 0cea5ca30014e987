"""The store of results, the only module that puts finished runs under OUT/runs.

A run works in runs/.partial-ID. Once its record is complete, one rename moves it to runs/ID: a folder runs/ID, or a
file runs/ID.zip, is a finished run. A lock that dies with its process keeps two runners apart.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmark.core.durable import sync_folder, write_atomically
from benchmark.core.errors import UsageError, describe
from benchmark.core.locks import BusyError, held, in_turn
from benchmark.core.record import Record
from benchmark.core.regular_files import content, is_plain, remove
from benchmark.runs import places
from benchmark.runs.places import Folder, Place, packed, smaller
from benchmark.runs.records import BEGUN, CURVE, FILES, RECORD, SUMS, VIEWS, WEIGHTS, Records
from benchmark.training import checkpoints

OURS = ("lock", "partial", "old")
"""What a name in the folder of runs begins with, after a dot, that is of a run which goes on or was cut off."""


def _is_held(lock: Path) -> bool:
    """Whether a process holds it right now. Asked once, where `held` waits a second for each run that is under way."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # an exclusive one NFS gives to who may write alone
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def prove_writable(folder: Path) -> None:
    """Makes a folder, and writes a file there and deletes it, before any work is done. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
        probe.write(b"x")
        probe.flush()
        os.fsync(probe.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Writes a whole file, or none. Raises OSError that names the file, as a full disk's own does not."""
    try:
        write_atomically(path, content)
    except OSError as problem:
        raise type(problem)(problem.errno, problem.strerror, problem.filename or str(path)) from problem


class Store(Records):
    """Run records below one output folder, and the runs that are to have one."""

    def prepare(self) -> None:
        """Makes the folder, proves that it can be written, before any work is done, and clears up after processes that
        were killed: a run that was whole is put into its place, a checkpoint is kept, and nothing else.

        Raises UsageError where the folder cannot be made or written, or holds files of others that would be replaced.
        """
        self.require_own()
        try:
            prove_writable(self.runs)
            left = {path.name.partition("-")[2] for kind in OURS for path in self._hidden(kind)}
            left |= {path.name[1:].partition(".")[0] for path in self.runs.glob(".*.zip.*")}  # a packing cut off
            for run_id in left:
                if not self.is_busy(run_id):
                    with suppress(BusyError), self.working(run_id):
                        pass
        except OSError as problem:
            raise UsageError(
                f"--out {self.out}: cannot write there ({describe(problem)}); choose another folder"
            ) from problem

    def require_own(self) -> None:
        """Raises UsageError where there are no runs, and a page, tables or figures that nobody knows to be ours."""
        there = [name for name in ("index.html", "tables", "figures") if os.path.lexists(self.out / name)]
        if not there or self.ids() or any(True for kind in OURS for _ in self._hidden(kind)):
            return
        with suppress(OSError, ValueError):
            if b"<title>dg-referee" in content(self.out / "index.html", places.LIMIT):
                return
        raise UsageError(
            f"--out {self.out}: it has no runs, but {' and '.join(there)}, which would be replaced; choose another "
            "folder, or delete them"
        )

    def is_busy(self, run_id: str) -> bool:
        """Whether another process does this run right now."""
        return _is_held(self.runs / f".lock-{run_id}")

    @contextmanager
    def in_turn(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Within, no other process is at the tables of these runs. tell: hears of it where one has to be waited for.

        The folder's lock is for the processes of this machine, as NFS tells no other one of it; the file's is for all,
        where this user may write beside the runs."""
        lock = self.runs / ".tables"
        if _is_held(self.runs) or _is_held(lock):
            tell(f"{self.out}: another command writes the tables there; waiting for it to end")
        with in_turn(self.runs), ExitStack() as turn:
            while True:
                try:
                    turn.enter_context(held(lock))
                except BusyError:
                    continue
                except OSError:
                    pass
                break
            yield

    def _hidden(self, kind: str) -> Iterable[Path]:
        return self.runs.glob(f".{kind}-[0-9A-Za-z]*")  # `.old-` and `.old-..` are no run's

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
                    _forget_what_began(folder)
                    folder.rmdir()  # unless there is a checkpoint in it

    def _clear_up(self, run_id: str) -> None:
        """What a killed process left of a run: a finished record goes to its place, all but checkpoints goes away.

        A link is deleted and never followed: what it leads to is nobody's here.
        """
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        for path in (folder, old, *self.runs.glob(f".{run_id}.zip.*")):
            if path.is_symlink() or not path.is_dir():
                remove(path)
        for path in folder.iterdir() if folder.exists() else ():
            if not is_plain(path):
                remove(path)
        if (folder / RECORD).exists():
            self._place(run_id)
        elif old.exists() and not os.path.lexists(final) and not os.path.lexists(self.runs / f"{run_id}.zip"):
            old.rename(final)
        for path in folder.iterdir() if folder.exists() else ():
            if not path.match("checkpoint.pt") and not path.match("pool-*.pt") and path.name != BEGUN:
                path.unlink()
        with suppress(OSError):
            remove(old)

    def finish(self, record: Record, curve: list[dict[str, Any]], files: Mapping[str, bytes] = {}) -> None:
        """Writes a run's files into its work folder and moves the folder into place in one rename.

        files: contents by name of what lies beside record.json and curve.jsonl.
        """
        Record.model_validate(record.model_dump())  # a copy with changes was not looked at yet
        folder = self.runs / f".partial-{record.run_id}"
        points = "".join(json.dumps(point) + "\n" for point in curve)
        told = record.model_dump_json(indent=1) + "\n"
        files = {**files, CURVE: points.encode(), RECORD: told.encode()}
        for name, written in _with_sums(files).items():  # the record last: with it the run is whole
            write_whole(folder / name, written)
        self._place(record.run_id)

    def pack(self, run_id: str, views: bool = True) -> bool:
        """Puts a finished run into one file, with a smaller picture of its views or, without `views`, with none. False
        where nothing is left to do, and for a folder that keeps its network, which is large, or has other files in it,
        which are somebody's. Raises UsageError where the run is damaged, BusyError."""
        folder = self.runs / run_id
        if not _can_shrink(self.place(run_id), views):
            return False
        with held(self.runs / f".lock-{run_id}"):  # until then another process may take the folder away
            place = self.place(run_id)
            loose = isinstance(place, Folder)
            if not _can_shrink(place, views):
                return False
            if loose and ({*os.listdir(folder)} - {*FILES, SUMS} or place.has(WEIGHTS)):
                return False
            self.read(run_id)
            files = {name: self._content(place, name) for name in FILES if place.has(name) and (views or name != VIEWS)}
            if VIEWS in files:
                files[VIEWS] = smaller(files[VIEWS])
            write_whole(self.runs / f"{run_id}.zip", packed(_with_sums(files)))
            sync_folder(self.runs)
            if loose:
                old = self.runs / f".old-{run_id}"
                with suppress(OSError):
                    remove(old)
                folder.rename(old)  # half a folder would hide the file
                remove(old)
        return True

    def _place(self, run_id: str) -> None:
        """Moves a whole run from its work folder to its place."""
        folder, final, old = (self.runs / f"{name}{run_id}" for name in (".partial-", "", ".old-"))
        checkpoints.discard(folder)
        _forget_what_began(folder)
        sync_folder(folder)
        with suppress(OSError):
            remove(old)
        if os.path.lexists(final):
            final.rename(old)
        folder.rename(final)
        sync_folder(self.runs)
        for before in (old, self.runs / f"{run_id}.zip"):
            with suppress(OSError):
                remove(before)


def _can_shrink(place: Place, views: bool) -> bool:
    """Whether packing changes a run: it is a folder, or has a picture of its views that is not to be kept."""
    return isinstance(place, Folder) or (not views and place.has(VIEWS))


def _forget_what_began(folder: Path) -> None:
    """Deletes what is told of a run that has no checkpoint."""
    if not (folder / checkpoints.NAME).exists():
        remove(folder / BEGUN)


def _with_sums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files, and before them SHA256SUMS of them all."""
    sums = "".join(f"{hashlib.sha256(written).hexdigest()}  {name}\n" for name, written in files.items())
    return {SUMS: sums.encode(), **files}
