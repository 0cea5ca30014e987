"""Archives from strangers: no name leads out of the folder or occurs twice, no links, and a limit on bytes."""

import gzip
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from benchmark.core import regular_files
from benchmark.core.escaping import one_line

LIMIT = 2**33
"""Bytes that one archive may unpack to, unless told otherwise."""
MEMORY_LIMIT = 2**30
"""Bytes of an archive, or of the files of a folder, that are read in memory."""
ENTRIES = 2**20
"""Entries that an archive may have."""
HEADER = 2**20
"""Bytes of a long name, or of more about an entry, in a tar archive."""

Member = tuple[str, int, Callable[[], IO[bytes]] | None]
"""Name, size and how to open it; None for what is no plain file."""


@contextmanager
def members(path: Path, limit: int) -> Iterator[Iterator[Member]]:
    """All entries of a tar (compressed or not) or zip archive but its folders, checked as they come.

    Raises ValueError for a name that leads out of the archive, or more than `limit` bytes or ENTRIES entries in all.
    """

    def checked(entries: Iterator[Member]) -> Iterator[Member]:
        total = 0
        for count, (name, size, opened) in enumerate(entries, start=1):
            total += size
            parts = re.split(r"[/\\]", name)
            if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
                raise ValueError(f"'{one_line(name)}' leads out of the archive")
            if size < 0 or total > limit or count > ENTRIES:
                raise ValueError(f"it unpacks to more than {limit} bytes or {ENTRIES} files")
            yield PurePosixPath(name).as_posix(), size, opened

    regular_files.require(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield checked(_zip_members(archive))
    else:
        with tarfile.open(path, tarinfo=_Entry) as tar:
            yield checked(_tar_members(tar))


class _Entry(tarfile.TarInfo):
    """An entry of a tar archive, whose sizes are looked at before tarfile reads or skips so many bytes."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.size < 0 or (self.size > HEADER and self.type in b"xgXLK"):
            raise ValueError(f"an entry of it has a header of {self.size} bytes")
        found = super()._proc_member(archive)  # type: ignore[misc]
        if found.size < 0:
            raise ValueError(f"'{one_line(found.name)}' has {found.size} bytes")
        return found


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for member in tar:
        if not member.isdir():
            yield member.name, member.size, partial(_extract, tar, member) if member.isreg() else None


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = info.external_attr >> 28  # the file type of a Unix mode; 0 where another system made the archive
        if not info.is_dir():
            yield info.filename, info.file_size, partial(archive.open, info) if kind in (0, 8) else None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # it is a plain file
    return content


def read_files(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents by name of files, but hidden ones: of a folder those that are, or lie under, one of `names`, of an
    archive those whose names begin with one.

    An archive is read in memory, nothing is unpacked. Raises ValueError for a name that leads out of the archive or is
    in it twice, a link in it, or more than MEMORY_LIMIT bytes.
    """

    def wanted(name: str) -> bool:
        return name.startswith(tuple(names)) and not PurePosixPath(name).name.startswith(".")

    if path.is_dir():
        files = [file for name in names for file in [path / name, *(path / name).rglob("*")] if file.is_file()]
        chosen = {name: file for file in files if wanted(name := file.relative_to(path).as_posix())}
        if sum(file.stat().st_size for file in chosen.values()) > MEMORY_LIMIT:
            raise ValueError(f"its files have more than {MEMORY_LIMIT} bytes in all")
        return {name: file.read_bytes() for name, file in chosen.items()}
    contents, seen = {}, _Seen()
    with members(path, MEMORY_LIMIT) as entries:
        for name, _, opened in entries:
            if wanted(name):
                seen.add(name)
                with _plain(name, opened) as content:
                    contents[name] = content.read()
    return contents


def unpack(path: Path, wanted: Collection[str], into: Path, limit: int = LIMIT) -> None:
    """Writes the wanted files, and all under wanted folders (which end in '/'), below the folder `into`.

    A .gz file that is no tar becomes the one wanted file. Raises ValueError for all that `members` raises it for, for a
    wanted link or device, for a wanted name that is there twice, and where something wanted is not in the archive.
    """
    if path.suffix == ".gz" and not path.name.endswith(".tar.gz"):
        (name,) = wanted
        regular_files.require(path)
        with gzip.open(path) as packed:
            _write(packed, into / name, limit)
        return
    folders, missing, seen = tuple(name for name in wanted if name.endswith("/")), set(wanted), _Seen()
    with members(path, limit) as entries:
        for name, _, opened in entries:
            if name in wanted or name.startswith(folders):
                seen.add(name)
                with _plain(name, opened) as content:
                    _write(content, into / name, limit)
                missing -= {name, *(folder for folder in folders if name.startswith(folder))}
    if missing:
        raise ValueError(f"it does not hold {', '.join(sorted(missing))}")


class _Seen:
    """Names so far. Some systems tell neither small from capital letters nor accents from letters with them."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Raises ValueError where the name, or one that some systems take for it, was there before."""
        key = unicodedata.normalize("NFC", name).casefold()
        if (other := self.names.get(key)) is not None:
            same = "is in it twice" if other == name else f"and '{one_line(other)}' are one name on some systems"
            raise ValueError(f"'{one_line(name)}' {same}")
        self.names[key] = name


def _plain(name: str, opened: Callable[[], IO[bytes]] | None) -> IO[bytes]:
    if opened is None:
        raise ValueError(f"'{one_line(name)}' is not a plain file")
    return opened()


def _write(source: IO[bytes] | gzip.GzipFile, target: Path, limit: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while block := source.read(2**20):
            if file.tell() + len(block) > limit:
                raise ValueError(f"it unpacks to more than {limit} bytes")
            file.write(block)
