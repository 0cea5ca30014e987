"""Checkpoints of a run in progress, in its work folder.

A file is the output of torch.save, followed by its SHA-256. torch.load(weights_only=True) can read it unchanged. The
hash finds a flipped bit, which torch does not notice. The pool of a method that makes images can be larger than all the
rest and changes a few times a run. So it has a file of its own, written once for each change. `load_checkpoint` returns
None if there is no checkpoint or other code made it: the run then starts anew.
"""

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmark.core import regular_files
from benchmark.core.durable import replacing, sync_folder

NAME = "checkpoint.pt"
POOL = re.compile(r"pool-\d+\.pt")
"""Names of pools; a checkpoint may name no other file."""


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says which file and how."""


def save_checkpoint(folder: Path, code: str, state: dict[str, Any], pool: tuple[int, Any] | None = None) -> None:
    """Writes checkpoint.pt, whole and on the disk or not at all.

    state: tensors and plain values only. code: hash of the code that made it. pool: the step at which it last changed
    and its tensors. Raises OSError where the disk is full.
    """
    about: dict[str, Any] = {"code": code, "state": state, "pool": None}
    if pool is not None:
        step, tensors = pool
        path = folder / f"pool-{step}.pt"
        about["pool"] = [path.name, _stored_digest(path) if path.is_file() else _write(path, tensors)]
    _write(folder / NAME, about)
    _delete_pools(folder, keep=about["pool"][0] if about["pool"] else "")


def load_checkpoint(folder: Path, code: str) -> tuple[dict[str, Any], Any] | None:
    """State and pool of an interrupted run; None where there is no checkpoint or other code made it.

    Raises DamagedError where a file is damaged or is no checkpoint. Unless it gives a state, nothing is left of the
    checkpoint.
    """
    path, found = folder / NAME, None
    try:
        if os.path.lexists(path):
            made_by, state, pool = _checked(_read(path))
            if made_by == code:
                found = state, _read(folder / pool[0], pool[1]) if pool else None
    finally:
        if found is None:
            discard(folder)
    return found


def _checked(saved: Any) -> tuple[str, dict[str, Any], tuple[str, str] | None]:
    """Code, state, and name and digest of the pool. Raises DamagedError where a sealed file holds anything else."""
    match saved:
        case {"code": str(code), "state": dict(state), "pool": None}:
            return code, state, None
        case {"code": str(code), "state": dict(state), "pool": [str(name), str(digest)]} if POOL.fullmatch(name):
            return code, state, (name, digest)
    raise DamagedError(f"{NAME} is no checkpoint: it holds other things, or names a file other than a pool beside it")


def discard(folder: Path) -> None:
    """Deletes the checkpoint: the run has ended."""
    regular_files.remove(folder / NAME)
    _delete_pools(folder)


def _delete_pools(folder: Path, keep: str = "") -> None:
    for path in folder.glob("pool-*.pt"):
        if path.name != keep:
            regular_files.remove(path)


class _Hashed:
    """A file that takes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO):
        self.file, self.digest = file, hashlib.sha256()
        self.problem: OSError | None = None
        """Why it could not be written; torch.save raises an error of its own in its place."""

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        try:
            return self.file.write(content)
        except OSError as problem:
            self.problem = problem
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, value: Any) -> str:
    with replacing(path) as file:
        hashed = _Hashed(file)
        try:
            torch.save(value, hashed)  # type: ignore[arg-type]
        except RuntimeError:
            if hashed.problem is None:
                raise
            raise hashed.problem from None
        file.write(hashed.digest.digest())
    sync_folder(path.parent)
    return hashed.digest.hexdigest()


def _stored_digest(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-32, os.SEEK_END)
        return file.read().hex()


def _read(path: Path, wanted: str = "") -> Any:
    """What a sealed file holds. A link, a pipe, a device and what is larger than the memory are not read."""
    try:
        with regular_files.opened(path, regular_files.memory(), follow=False) as file:
            digest, left = hashlib.sha256(), os.fstat(file.fileno()).st_size - 32
            while left > 0 and (part := file.read(min(left, 2**20))):
                digest.update(part)
                left -= len(part)
            if digest.digest() != file.read(33) or (wanted and digest.hexdigest() != wanted):
                raise DamagedError(f"{path.name} is damaged: its bytes are not those that were written")
            _require_stored(path, file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except DamagedError:
        raise
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise DamagedError(f"{path.name} cannot be read: {reason}") from problem
    except Exception as problem:  # its bytes are right, so what is in it is not what benchmark.method.State allows
        raise DamagedError(f"{path.name} holds more than tensors and plain values: {problem}") from problem


def _require_stored(path: Path, file: BinaryIO) -> None:
    """Raises DamagedError for a file that would unpack to more bytes than it has; torch.save compresses nothing."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DamagedError(f"{path.name} holds compressed tensors, which no checkpoint does")
