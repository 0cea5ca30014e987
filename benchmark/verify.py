"""Re-hashes every file of a dataset and decodes every part anew, past the cache, which is then compared with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark import data, decoded
from benchmark.errors import UsageError
from benchmark.remote import FileState, states
from benchmark.spec import Images


@dataclass(frozen=True)
class PartState:
    """What decoding one part of one domain gave."""

    domain: str
    split: data.Split
    status: Literal["right", "missing", "wrong"]
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
    wanted: list[tuple[str, data.Split]] = [(name, split) for name in sources for split in ("train", "val")]
    for domain, split in [*wanted, *((domain, "test") for domain in layout.domains)]:
        try:
            part = data.decode(dataset, domain, split, root, len(layout.classes), cached=False)
        except data.MissingDataError as problem:
            yield PartState(domain, split, "missing", problem=str(problem))
        except UsageError as problem:
            yield PartState(domain, split, "wrong", problem=str(problem))
        else:
            counts = part.images.y.bincount(minlength=len(layout.classes)).tolist()
            cache = _cache(dataset, domain, split, root, part.digest)
            yield PartState(domain, split, "right", counts, tuple(part.images.x.shape), part.digest, cache)


def _cache(
    dataset: data.Dataset, domain: str, split: data.Split, root: Path | None, digest: str
) -> Literal["none", "agrees", "disagrees"]:
    place = decoded.entry(dataset, domain, split, root, dataset.reads(domain, split, root))
    kept = decoded.read(place) if place else None
    if kept is None:
        return "none"
    return "agrees" if kept.digest == digest == decoded.digest(Images(kept.images.x, kept.images.y)) else "disagrees"


def fingerprints(dataset: data.Dataset, root: Path | None, found: list[PartState]) -> Mapping[str, str]:
    """The fingerprint that a run's record would have, by default source; a source that lacks a part is left out."""
    digests = {f"{part.split}/{part.domain}": part.digest for part in found if part.status == "right"}
    tests = {name: digest for name, digest in digests.items() if name.startswith("test/")}
    result = {}
    for source in dataset.layout(root).sources:
        own = [f"{split}/{name}" for name in source.split("+") for split in ("train", "val")]
        if tests and all(name in digests for name in own):
            result[source] = data.fingerprint_of(tests | {name: digests[name] for name in own})
    return result


def show(name: str, dataset: data.Dataset, root: Path | None) -> int:
    """Prints what is found, as it is found; returns how many things are wrong, or 1 where nothing is there."""
    if root is not None and not root.is_dir():
        raise UsageError(f"--data-dir {root}: no such folder; check the path")
    print(name if root is None else f"{name} in {root}")
    wrong = 0
    for file in files(dataset, root) if root else ():
        wrong += file.status == "wrong"
        print(f"  {file.status:8}  {'  '.join(filter(None, (file.path, file.found, file.detail)))}")
    found = []
    for part in parts(dataset, root):
        found.append(part)
        wrong += part.status == "wrong" or part.cache == "disagrees"
        where = f"  {part.status:8}  {part.domain}/{part.split}"
        if part.status != "right":
            print(f"{where}: {part.problem}")
            continue
        size, counts = "x".join(map(str, part.shape[2:])), " ".join(map(str, part.counts))
        print(f"{where}: {part.shape[0]} images of {size}, by class {counts}")
        print(f"            digest {part.digest}" + (f"; the cache {part.cache}" if part.cache != "none" else ""))
    there = sum(part.status == "right" for part in found)
    for source, fingerprint in fingerprints(dataset, root, found).items():
        print(f"  fingerprint with source {source}: {fingerprint}")
    missing = sum(part.status == "missing" for part in found)
    print(f"  {there} of {len(found)} parts are there and decode, {missing} missing, {wrong} faults")
    return wrong or int(not there)
