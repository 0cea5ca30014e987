"""Locks between processes. A lock dies with the process that holds it, so none is ever stale."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from benchmark.core.regular_files import is_plain, remove

TRIES, PAUSE = 20, 0.05
"""A process that clears up holds a lock for a moment; one that runs holds it for long."""


class BusyError(Exception):
    """Another process is running this run right now."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Makes and holds a lock file, and deletes it in the end. Raises BusyError where another process holds it.

    Whatever else has its name (a link, a pipe) is deleted, and a link is never followed.
    """
    for _ in range(TRIES):
        if os.path.lexists(path) and not is_plain(path):
            remove(path)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(path.lstat(), os.fstat(lock.fileno())):
                    raise BlockingIOError
            except (BlockingIOError, FileNotFoundError):  # held, or deleted by its last holder while it was opened here
                sleep(PAUSE)
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
    raise BusyError(path.name)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Waits until no other process is at this folder, and keeps others waiting."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
