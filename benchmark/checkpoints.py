"""Checkpoints of a run in progress, in its work folder.

A file is what torch.save writes, followed by the SHA-256 of it: torch.load(weights_only=True) reads it as it is, and
a flipped bit, which torch does not notice, is. The pool of a method that makes images can be larger than all the rest
and changes a few times a run, so it lies in a file of its own, written once for each time it changes.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmark.durable import replacing, sync_folder

NAME = "checkpoint.pt"


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says which file and how."""


def save(folder: Path, code: str, state: dict[str, Any], pool: tuple[int, Any] | None = None) -> None:
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


def load(folder: Path, code: str) -> tuple[dict[str, Any], Any] | None:
    """State and pool of an interrupted run; None where there is no checkpoint or other code made it.

    Raises DamagedError where a file is damaged. Unless it gives a state, nothing is left of the checkpoint.
    """
    path, found = folder / NAME, None
    try:
        if path.is_file():
            saved = _read(path)
            if saved["code"] == code:
                name, digest = saved["pool"] or ("", "")
                found = saved["state"], _read(folder / name, digest) if name else None
    finally:
        if found is None:
            path.unlink(missing_ok=True)
            _delete_pools(folder)
    return found


def discard(folder: Path) -> None:
    """Deletes the checkpoint: the run has ended."""
    (folder / NAME).unlink(missing_ok=True)
    _delete_pools(folder)


def _delete_pools(folder: Path, keep: str = "") -> None:
    for path in folder.glob("pool-*.pt"):
        if path.name != keep:
            path.unlink()


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
    try:
        with path.open("rb") as file:
            digest, left = hashlib.sha256(), os.fstat(file.fileno()).st_size - 32
            while left > 0 and (part := file.read(min(left, 2**20))):
                digest.update(part)
                left -= len(part)
            stored = file.read()
        if digest.digest() != stored or (wanted and digest.hexdigest() != wanted):
            raise DamagedError(f"{path.name} is damaged: its bytes are not those that were written")
    except OSError as problem:
        raise DamagedError(f"{path.name} cannot be read: {problem.strerror}") from problem
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # its bytes are right, so what is in it is not what benchmark.method.State allows
        raise DamagedError(f"{path.name} holds more than tensors and plain values: {problem}") from problem
