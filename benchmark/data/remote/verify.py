"""Hashes every file of a dataset again and decodes every part anew, past the cache, then compares the cache."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark import data
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.data import cache
from benchmark.data.remote.remote_file import FileState, states


@dataclass(frozen=True)
class PartState:
    """What decoding one part of one domain gave."""

    domain: str
    split: data.Split
    status: Literal["decoded", "missing", "wrong"]
    counts: list[int] = field(default_factory=list)
    """Images of each class."""
    shape: tuple[int, ...] = ()
    digest: str = ""
    cache: Literal["none", "agrees", "disagrees"] = "none"
    """none: no file of the cache is in use for this part."""
    problem: str = ""


def files(dataset: data.Dataset, root: Path) -> Iterator[FileState]:
    """Every file's state; one that is missing, and not needed because of another one, is left out."""
    remotes = dataset.remotes()
    for remote in remotes:
        alternatives = {other.instead_of for other in remotes if other.there(root)}
        if remote.there(root) or not (remote.instead_of or remote.path in alternatives):
            yield from states(remote, root)


def parts(dataset: data.Dataset, root: Path | None) -> Iterator[PartState]:
    """Every part that a run with the default sources would touch, decoded from the files. Raises UsageError where the
    dataset's files do not even say what its domains are."""
    layout = dataset.layout(root)
    sources = dict.fromkeys(name for source in layout.sources for name in source.split("+"))
    empty = root is not None and root.is_dir() and not any(root.iterdir())
    wanted: list[tuple[str, data.Split]] = [(name, split) for name in sources for split in ("train", "val")]
    for domain, split in [*wanted, *((domain, "test") for domain in layout.domains)]:
        try:
            part = data.decode(dataset, domain, split, root, len(layout.classes), cached=False)
        except data.MissingDataError as problem:
            yield PartState(domain, split, "missing", problem=str(problem))
        except UsageError as problem:
            yield PartState(domain, split, "missing" if empty else "wrong", problem=str(problem))
        else:
            counts = part.images.y.bincount(minlength=len(layout.classes)).tolist()
            cache = _cache(dataset, domain, split, root, part.digest)
            yield PartState(domain, split, "decoded", counts, tuple(part.images.x.shape), part.digest, cache)


def _cache(
    dataset: data.Dataset, domain: str, split: data.Split, root: Path | None, digest: str
) -> Literal["none", "agrees", "disagrees"]:
    place = cache.entry(dataset, domain, split, root, dataset.reads(domain, split, root))
    kept = cache.read(place) if place else None
    if kept is None:
        return "none"
    return "agrees" if kept.digest == digest == cache.digest(Images(kept.images.x, kept.images.y)) else "disagrees"


def fingerprints(dataset: data.Dataset, root: Path | None, found: list[PartState]) -> Mapping[str, str]:
    """The fingerprint that a run's record would have, by default source; a source that lacks a part is left out."""
    digests = {f"{part.split}/{part.domain}": part.digest for part in found if part.status == "decoded"}
    tests = {name: digest for name, digest in digests.items() if name.startswith("test/")}
    result = {}
    for source in dataset.layout(root).sources:
        own = [f"{split}/{name}" for name in source.split("+") for split in ("train", "val")]
        if tests and all(name in digests for name in own):
            held = {f"test/{name}": digests[f"val/{name}"] for name in source.split("+") if f"test/{name}" in tests}
            used = tests | held if dataset.test_is_all else tests  # as data.load takes them
            result[source] = data.fingerprint_of(used | {name: digests[name] for name in own})
    return result
