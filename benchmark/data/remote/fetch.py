"""Downloads: several addresses in turn, resumed where they broke off, checked before they are put in place.

A file is downloaded next to its place under the name `NAME.part`. It gets its own name in one rename, when its hash is
right. So a part is never mistaken for the whole. An archive is unpacked as a part: one with its own name was
put there by hand, and is kept.
"""

import errno
import glob
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import urllib3

from benchmark.core.durable import write_atomically
from benchmark.core.errors import UsageError, describe
from benchmark.core.escaping import one_line
from benchmark.core.regular_files import kind, remove
from benchmark.data import archives
from benchmark.data.remote.download import Download, Progress, have, locked
from benchmark.data.remote.remote_file import Remote, hash_of, record_path


class FetchError(Exception):
    """A file could not be had or unpacked; the message says what to do by hand."""


def fetch(remote: Remote, root: Path, progress: Progress) -> str:
    """Puts one file (or what is in it) in its place below the data folder, and its record beside it.

    Returns the address it came from, or the file's path where it had been put there by hand. Raises FetchError where no
    address gave it, it is damaged or its place is taken; UsageError for problems of the disk, or of another process.
    """
    try:
        return _fetch(remote, root, progress)
    except OSError as problem:
        raise UsageError(describe(problem)) from problem


def _fetch(remote: Remote, root: Path, progress: Progress) -> str:
    target = root / remote.path
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (target, record_path(remote, root)):
        if path.exists() and (found := kind(path)):
            raise UsageError(f"{path}: {found} is in the place of a file; move it away")
    part = target.with_name(f"{target.name}.part")
    with locked(part) as file:
        placed = bool(remote.unpacked) and target.is_file()
        if placed and remote.hash and hash_of(target, remote.hash.partition(":")[0]) != remote.hash:
            raise FetchError(f"{target} has another hash than {remote.hash}: delete it, or replace it by a whole copy")
        there = target.stat().st_size if placed else have(file)
        need, free = remote.size * (1 + bool(remote.unpacked)) - there, shutil.disk_usage(target.parent).free
        if need > free:
            raise UsageError(f"{root}: {remote.path} needs {need:,} bytes there, {free:,} are free; make room")
        came_from = str(target) if placed else _download(remote, root, file, part, progress)
        whole = target if placed else part
        found, size = hash_of(whole, "sha256"), whole.stat().st_size
        if remote.unpacked:
            _unpack(remote, root, whole)
            if not placed:
                part.unlink()
        else:
            part.replace(target)
    record = {
        "file": remote.path,
        "from": came_from,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hash": found,
        "published_hash": remote.hash,
        "size": size,
        "licence": remote.licence,
        "origin": remote.origin,
        "files": {place: hash_of(root / place, "sha256") for place in remote.places},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomically(record_path(remote, root), text.encode())
    return came_from


def by_hand(remote: Remote, root: Path) -> str:
    """What to do where no address works."""
    size = f", {remote.size:,} bytes" if remote.size else ""
    places = " and ".join(str(root / place) for place in remote.unpacked)
    unpack = f", then fetch again; or unpack it yourself to {places}" if remote.unpacked else ""
    return (
        f"Get it from {remote.origin} and put it here: {root / remote.path}{unpack}. "
        f"The hash of {Path(remote.path).name} must be {remote.hash or '(nobody published one)'}{size}"
    )


def _download(remote: Remote, root: Path, file: BinaryIO, part: Path, progress: Progress) -> str:
    """Fills the part with the whole file, whose hash is right; returns the address that gave its last bytes."""
    failures: list[str] = []
    for url in remote.urls:
        for resume in (bool(remote.hash), False):  # without a hash two halves could come from two files
            download = Download(file, remote.size, resume, progress, remote.size or remote.limit or archives.LIMIT)
            try:
                download(url)
                if remote.hash and (found := hash_of(part, remote.hash.partition(":")[0])) != remote.hash:
                    file.truncate(0)
                    raise ValueError(f"{found} does not match the known hash")
                return url
            except (OSError, ValueError, urllib3.exceptions.HTTPError) as problem:
                failures.append(f"  {url}: {_reason(problem)}")
            if not download.resumed or have(file):  # anew only where a whole file was not the published one
                break
    tried = "\n".join(["no address gave it:", *failures]) if failures else "no direct link with a known hash exists."
    raise FetchError(f"{remote.path}: {tried}\n{by_hand(remote, root)}")


def _reason(problem: Exception) -> str:
    """What went wrong, without the names of the classes that it went through, and with nothing of a server's that a
    terminal would act on."""
    inner = getattr(problem.args[0] if problem.args else None, "reason", None) or problem
    return one_line(" ".join(str(inner).rpartition("): ")[2].split()))[:500]


def _unpack(remote: Remote, root: Path, whole: Path) -> None:
    """Unpacks to a folder beside its place, checks every file, and moves them to their places one by one. whole: the
    archive, under whatever name; no other process has it."""
    packed = root / remote.path
    for left in packed.parent.glob(f".{glob.escape(packed.name)}.*"):  # by a process that was killed
        remove(left)
    with tempfile.TemporaryDirectory(dir=packed.parent, prefix=f".{packed.name}.") as name:
        base, fresh = packed.parent, Path(name) / "unpacked"
        fresh.mkdir()
        named = whole if whole == packed else Path(name) / packed.name  # the name says what it is
        if named != whole:
            try:
                os.link(whole, named)
            except OSError:  # a disk without links
                shutil.copyfile(whole, named)
        inner = {Path(place).relative_to(base.relative_to(root)).as_posix() + "/" * place.endswith("/"): place
                 for place in remote.unpacked}  # fmt: skip
        try:
            archives.unpack(named, inner, fresh)
        except Exception as problem:  # damaged bytes can make a decoder raise anything
            raise FetchError(f"{whole} cannot be unpacked: {one_line(problem)}. Delete it and fetch again") from problem
        for inside, place in inner.items():
            expected = remote.unpacked[place]
            if expected and hash_of(fresh / inside, expected.partition(":")[0]) != expected:
                raise FetchError(f"{whole}: '{inside}' in it has another hash than {expected}")
            if (root / place).exists() and (root / place).is_dir() != place.endswith("/"):
                raise FetchError(f"{root / place}: {kind(root / place) or 'a file'} is in its place; move it away")
        for inside, place in inner.items():
            _place(fresh / inside, root / place)


def _place(fresh: Path, place: Path) -> None:
    """Moves a file or folder to its place, which may be on another disk, and deletes what is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    near = place.with_name(f".{place.name}.new")
    remove(near)
    try:
        fresh.rename(near)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        shutil.copytree(fresh, near) if fresh.is_dir() else shutil.copyfile(fresh, near)
    remove(place)
    near.rename(place)
