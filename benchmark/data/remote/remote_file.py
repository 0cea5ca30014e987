"""Where a dataset's file comes from and how it is known to be the right one: values for `benchmark.data` to act on."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line
from benchmark.core.regular_files import content, require

HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")


@dataclass(frozen=True)
class Remote:
    """One file to fetch, or to put in place by hand where it has no url.

    Hashes are written 'sha256:…' or 'md5:…' and are those that somebody published; '' where nobody did.
    """

    path: str
    """Where it lies under the data folder, e.g. 'MNIST/raw/t10k-labels-idx1-ubyte.gz'."""
    licence: str
    origin: str
    """The page or address a person would go to."""
    urls: tuple[str, ...] = ()
    """Addresses of the same bytes, tried in this order."""
    hash: str = ""
    size: int = 0
    """Bytes; 0 where unknown."""
    unpacked: Mapping[str, str] = field(default_factory=dict)
    """For an archive or .gz file: what it becomes, path under the data folder -> hash. A path with '/' at its end is a
    folder. Names in an archive are relative to the folder that the archive lies in. A downloaded archive is then
    deleted; empty: the file is read as it is."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Other files that circulate under the same name: hash -> what is different about them."""
    instead_of: str = ""
    """The path of the Remote that is not needed where this one is there."""
    limit: int = 0
    """Bytes that a download may have where its size is unknown; 0: archives.LIMIT."""

    @property
    def places(self) -> Mapping[str, str]:
        """The files (or folders) that readers open: path under the data folder -> published hash."""
        return self.unpacked or {self.path: self.hash}

    def there(self, root: Path) -> bool:
        """Whether all that readers open exists; not whether it is right."""
        return all((root / place).exists() for place in self.places)


@dataclass(frozen=True)
class FileState:
    """What re-hashing said of one file or folder. right: as published. recorded: as when it was fetched, with no
    published hash to compare with. unknown: nothing to compare with. copy: a known other copy."""

    path: str
    status: Literal["right", "recorded", "unknown", "copy", "wrong", "missing"]
    found: str = ""
    """Its hash, '' where it is missing."""
    detail: str = ""


def states(remote: Remote, root: Path) -> Iterator[FileState]:
    """Re-hashes what is there of one remote. root: the data folder. Raises UsageError where its record is damaged."""
    recorded = _recorded(record_path(remote, root))
    for place, published in remote.places.items():
        expected, path = published or recorded.get(place, ""), root / place
        if not path.exists():
            yield FileState(place, "missing", detail=published and f"its hash must be {published}")
            continue
        found = hash_of(path, expected.partition(":")[0] or "sha256")
        if not expected:
            yield FileState(place, "unknown", found, "nobody published a hash")
        elif found == expected:
            yield FileState(place, "right" if published else "recorded", found)
        else:
            other = remote.copies.get(hash_of(path, "sha256"), "")
            detail = other or f"its hash must be {expected}{'' if published else ', as when it was fetched'}"
            yield FileState(place, "copy" if other else "wrong", found, detail)


def _recorded(path: Path) -> dict[str, str]:
    """The hashes that fetch noted down, by place; none where it did not. Raises UsageError for anything else there."""
    if not os.path.lexists(path):
        return {}
    try:
        found = json.loads(content(path, 2**20))["files"]
        if not all(HASH.fullmatch(value) for value in found.values()):
            raise ValueError("no hash")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        what = one_line(problem) if isinstance(problem, (OSError, ValueError)) else "it is no record"
        raise UsageError(f"{path} is damaged; delete it ({what})") from problem
    return dict(found)


def record_path(remote: Remote, root: Path) -> Path:
    """Where fetch notes down url, hash, licence and date, beside the file."""
    return root / f"{remote.path}.source.json"


def hash_of(path: Path, algorithm: str) -> str:
    """'algorithm:digest' of a file; of a folder, that over the sorted lines 'name algorithm:digest' of all its files.

    Raises UsageError for what is neither, or cannot be read.
    """
    if path.is_dir():
        files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{name} {hash_of(path / name, algorithm)}\n" for name in files)
        return f"{algorithm}:{hashlib.new(algorithm, os.fsencode(lines)).hexdigest()}"
    try:
        require(path)
        with path.open("rb") as file:
            digest: Any = hashlib.file_digest(file, algorithm)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise UsageError(f"{one_line(path)}: cannot be read ({reason})") from problem
    return f"{algorithm}:{digest.hexdigest()}"
