"""Atomic file writes: after a crash or a power cut a file is whole: the new one, or as it was before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path`, brought to the disk and renamed to it at the end; deleted where anything is raised.

    A reader sees the old content or the new, never a part. Neither `path` nor the file beside it is followed where it
    is a link.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)  # of a process that was killed and had this number, or a link
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            beside.replace(path)
        except OSError as problem:  # a folder in its place, say
            raise type(problem)(problem.errno, problem.strerror, str(path)) from problem
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file, or none."""
    with replacing(path) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Brings a folder's names to the disk: what was renamed into it stays there after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
