"""The decoded cache: each part of a dataset is decoded once into one file, and memory-mapped afterwards.

A cache file is a safetensors file of x and y with the part's digest in its header. It lies under
platformdirs.user_cache_dir("dg-referee"), or in the folder that the environment variable DG_REFEREE_CACHE names. It is
a copy that you may delete at any time. It is used only while its key matches the present files and code; `read` returns
None otherwise.
"""

import ast
import hashlib
import json
import logging
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from benchmark import moved
from benchmark.core.images import Images
from benchmark.core.regular_files import left_behind

DECODERS = ("numpy", "pillow", "scipy", "torchvision")
"""Packages whose versions may change a pixel."""
LOGGER = logging.getLogger(__name__)
OURS = re.compile(r".*-[0-9a-f]{16}\.safetensors|\.\w+\.partial", re.DOTALL)
"""Names of the cache's files."""


@dataclass(frozen=True)
class Part:
    """Decoded images and their digest."""

    images: Images
    digest: str

    @classmethod
    def of(cls, images: Images) -> "Part":
        return cls(images, digest(images))


@dataclass(frozen=True)
class Entry:
    """One part's place in the cache."""

    path: Path
    key: str
    """SHA-256 over all that the decoded images depend on."""


def digest(images: Images) -> str:
    """SHA-256 of decoded images: shape, type, pixels and labels."""
    found = hashlib.sha256(f"{images.x.dtype}:{list(images.x.shape)}".encode())
    found.update(images.x.reshape(-1).numpy().data)
    found.update(np.ascontiguousarray(images.y.numpy()).data)
    return found.hexdigest()


def folder() -> Path:
    """Where the cache lies."""
    return Path(os.environ.get("DG_REFEREE_CACHE") or platformdirs.user_cache_dir("dg-referee"))


def entry(dataset: Any, domain: str, split: str, root: Path | None, files: Sequence[Path]) -> Entry | None:
    """The place and key of one part; None where there are no files, or one is absent.

    files: all files and folders that it is decoded from.
    """
    if not files:
        return None
    module = type(dataset).__module__
    name = module.rpartition(".")[2]
    part = [name, dataset.settings(), domain, split]
    base = root or Path()
    try:
        seen: set[tuple[int, int]] = set()
        states = sorted(state for file in files for state in _states(os.fspath(file), f"{base}{os.sep}", seen))
    except OSError:  # what reads the file says what is wrong with it
        return None
    depends = [*part, _source_hash(module), _versions(), states]
    place = _hash([*part, str(base.resolve())])[:16]
    readable = re.sub(r"[^\w.-]", "_", f"{name}-{domain}-{split}")
    return Entry(folder() / f"{readable}-{place}.safetensors", _hash(depends))


def load_part(place: Entry, decode: Callable[[], Images]) -> Part:
    """The part from the cache, or decoded and written there for the next time; a cache that cannot be written costs a
    warning. The images are a private mapping of the file: what is written into them never reaches it."""
    found = read(place)
    if found is not None:
        LOGGER.debug("read from the cache: %s", place.path)
        return found
    part = Part.of(decode())
    LOGGER.debug("decoded, for the cache: %s", place.path)
    return (read(place) if _write(place, part) else None) or part


def read(place: Entry) -> Part | None:
    """The part, where the cache has it under this key; labels are checked, pixels are not hashed again."""
    try:
        with safe_open(place.path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("key") != place.key:
                return None
            images = Images(file.get_tensor("x"), file.get_tensor("y"))
    except (OSError, SafetensorError, ValueError):  # absent or damaged: it is made again
        return None
    return Part(images, header["digest"]) if header.get("labels") == _labels_hash(images) else None


def _write(place: Entry, part: Part) -> bool:
    name = ""
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.path.parent, prefix=".", suffix=".partial")
        os.close(handle)
        header = {"key": place.key, "digest": part.digest, "labels": _labels_hash(part.images)}
        save_file({"x": part.images.x.contiguous(), "y": part.images.y.contiguous()}, name, header)
        Path(name).replace(place.path)
    except (OSError, SafetensorError) as problem:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        warnings.warn(
            f"the cache {place.path.parent} cannot be written, so every start decodes the images again: {problem}. "
            "Set DG_REFEREE_CACHE to a folder with room",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def clear() -> tuple[int, int]:
    """Deletes every file of the cache, left-over partial ones too, and no other file that lies there. Returns how many,
    and their bytes."""
    sizes = []
    for file in folder().iterdir() if folder().is_dir() else ():
        if OURS.fullmatch(file.name) and not file.is_dir():
            sizes.append(file.lstat().st_size)
            file.unlink(missing_ok=True)
    return len(sizes), sum(sizes)


def _states(path: str, base: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """Path below the data folder, bytes and time of change of a file, or of all files in a folder but those that no
    reader reads. seen: the folders so far; one that a link leads to again is not entered again."""
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        yield path.removeprefix(base), status.st_size, status.st_mtime_ns
    elif (place := (status.st_dev, status.st_ino)) in seen:
        yield path.removeprefix(base), -1, status.st_ino
    else:
        seen.add(place)
        for inside in sorted(os.scandir(path), key=lambda each: each.name):
            if not left_behind(inside.name):
                yield from _states(inside.path, base, seen)


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in DECODERS}


def _labels_hash(images: Images) -> str:
    return hashlib.sha256(np.ascontiguousarray(images.y.numpy()).data).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _source_hash(module: str) -> str:
    """Over the source of a dataset's module and of every module of this package that it imports at its top, directly or
    through others."""
    found: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        origin = getattr(sys.modules.get(name), "__file__", None)
        if name in found or origin is None:
            continue
        found[name] = Path(origin).read_bytes()
        for node in ast.parse(found[name]).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
        todo = [each for name in todo if name.startswith("benchmark.") for each in (name, *moved.homes(name))]
    return _hash({name: hashlib.sha256(source).hexdigest() for name, source in found.items()})
