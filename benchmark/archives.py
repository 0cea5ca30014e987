"""Archives from strangers: no name leads out of the folder, no links, no more bytes than agreed."""

import gzip
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

LIMIT = 2**33
"""Bytes that one archive may unpack to, unless told otherwise."""
MEMORY_LIMIT = 2**30
"""Bytes of an archive that is read in memory."""

Member = tuple[str, int, Callable[[], IO[bytes]] | None]
"""Name, size and how to open it; None for what is no plain file."""


@contextmanager
def members(path: Path, limit: int) -> Iterator[Iterator[Member]]:
    """All entries of a tar (compressed or not) or zip archive but its folders, checked as they come.

    Raises ValueError for a name that leads out of the archive, or more than `limit` bytes in all.
    """

    def checked(entries: Iterator[Member]) -> Iterator[Member]:
        total = 0
        for name, size, opened in entries:
            total += size
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts or ":" in name.partition("/")[0]:
                raise ValueError(f"'{name}' leads out of the archive")
            if total > limit:
                raise ValueError(f"it unpacks to more than {limit} bytes")
            yield name.removeprefix("./"), size, opened

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield checked(_zip_members(archive))
    else:
        with tarfile.open(path) as tar:
            yield checked(_tar_members(tar))


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
    """Contents by name of the files of a folder or archive that are, or lie under, one of `names`, but hidden ones.

    An archive is read in memory, nothing is unpacked. Raises ValueError for a name that leads out of the archive, a
    link, or more than MEMORY_LIMIT bytes.
    """

    def wanted(name: str) -> bool:
        return name.startswith(tuple(names)) and not PurePosixPath(name).name.startswith(".")

    if path.is_dir():
        files = [file for name in names for file in [path / name, *(path / name).rglob("*")] if file.is_file()]
        return {name: file.read_bytes() for file in files if wanted(name := file.relative_to(path).as_posix())}
    contents = {}
    with members(path, MEMORY_LIMIT) as entries:
        for name, _, opened in entries:
            if wanted(name):
                with _plain(name, opened) as content:
                    contents[name] = content.read()
    return contents


def unpack(path: Path, wanted: Collection[str], into: Path, limit: int = LIMIT) -> None:
    """Writes the wanted files, and all under wanted folders (which end in '/'), below the folder `into`.

    A .gz file that is no tar becomes the one wanted file. Raises ValueError for all that `members` raises it for, for a
    wanted link or device, and where something wanted is not in the archive.
    """
    if path.suffix == ".gz" and not path.name.endswith(".tar.gz"):
        (name,) = wanted
        with gzip.open(path) as packed:
            _write(packed, into / name, limit)
        return
    folders, missing = tuple(name for name in wanted if name.endswith("/")), set(wanted)
    with members(path, limit) as entries:
        for name, _, opened in entries:
            if name in wanted or name.startswith(folders):
                with _plain(name, opened) as content:
                    _write(content, into / name, limit)
                missing -= {name, *(folder for folder in folders if name.startswith(folder))}
    if missing:
        raise ValueError(f"it does not hold {', '.join(sorted(missing))}")


def _plain(name: str, opened: Callable[[], IO[bytes]] | None) -> IO[bytes]:
    if opened is None:
        raise ValueError(f"'{name}' is not a plain file")
    return opened()


def _write(source: IO[bytes] | gzip.GzipFile, target: Path, limit: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while block := source.read(2**20):
            if file.tell() + len(block) > limit:
                raise ValueError(f"it unpacks to more than {limit} bytes")
            file.write(block)
