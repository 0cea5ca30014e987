"""Standard output and error that never fail a program: text that cannot be written is dropped, and the reason is kept.

A reader that has gone (`| head`), a full disk, a closed terminal and a closed descriptor must cost no run and no table.
Characters that the encoding lacks, and names that are not UTF-8, are shown escaped.
"""

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Kept(io.RawIOBase):
    """Writes to a file descriptor until that fails. problem: why it failed; all that follows is dropped."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.problem: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, content: "ReadableBuffer", /) -> int:
        content = memoryview(content).cast("B")
        while self.problem is None:
            try:
                return os.write(self.descriptor, content)
            except BlockingIOError:  # set to return at once by whoever shares it
                select.select([], [self.descriptor], [])
            except OSError as problem:
                self.problem = problem
        return len(content)


def guard() -> Kept:
    """Replaces this process's standard output and error by such streams; returns that of the output."""
    for descriptor in range(3):  # one that is closed would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    out = Kept(1)
    sys.stdout, sys.stderr = _text(sys.stdout, out), _text(sys.stderr, Kept(2))
    return out


def _text(now: TextIO | None, kept: Kept) -> TextIO:
    """A text stream instead of the present one, which is None where the descriptor was closed from the start."""
    if now is None:  # whatever has that number now is another file
        kept.descriptor = os.open(os.devnull, os.O_WRONLY)
    else:
        with suppress(OSError, ValueError):
            now.flush()
    lines = kept.isatty() or now is not sys.stdout
    return io.TextIOWrapper(
        io.BufferedWriter(kept),
        encoding=getattr(now, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=lines,
        write_through=bool(getattr(now, "write_through", False)),
    )
