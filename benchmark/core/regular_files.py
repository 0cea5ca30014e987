"""Opens and deletes files under names that somebody else may have chosen: plain files only, never through a link."""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
LEFT_BEHIND = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "__macosx", "@eadir"),
    *("$recycle.bin", "system volume information", "icon\r"),
}
"""What systems and file managers leave about, beside hidden files; in small letters."""


def left_behind(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that systems leave about."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def kind(path: Path, *, follow: bool = True) -> str:
    """'' for a plain file, else what it is: 'a folder', 'a pipe', ... Raises OSError where there is nothing."""
    mode = path.stat(follow_symlinks=follow).st_mode
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a device")


def is_plain(path: Path) -> bool:
    """Whether it is a plain file, and no link to one."""
    try:
        return not kind(path, follow=False)
    except OSError:
        return False


def require(path: Path) -> None:
    """Raises ValueError for a folder, pipe, socket or device, which is not opened, and OSError where nothing is."""
    if found := kind(path):
        raise ValueError(f"it is {found}, not a plain file")


def opened(path: Path, limit: int, *, follow: bool = True) -> BinaryIO:
    """A plain file of at most `limit` bytes, to be read. Raises OSError or ValueError for all else; it never waits.

    follow: whether it may be a link to one.
    """
    if found := kind(path, follow=follow):
        raise ValueError(f"it is {found}, not a plain file")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        file.close()
        raise ValueError(f"it has {status.st_size:,} bytes; allowed are {limit:,}")
    return file


def content(path: Path, limit: int) -> bytes:
    """All of a plain file of at most `limit` bytes. Raises OSError or ValueError for all else."""
    with opened(path, limit) as file:
        return file.read(limit)


def remove(path: Path) -> None:
    """Deletes a file, a folder with all in it, or a link, but never what a link leads to. Nothing there is no error."""
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        if problem.errno not in (errno.EISDIR, errno.EPERM) or not path.is_dir() or path.is_symlink():
            raise
        shutil.rmtree(path)


def memory() -> int:
    """Bytes of memory that this machine has: what is larger cannot be read into it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
