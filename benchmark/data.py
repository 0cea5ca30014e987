"""The contract of a dataset: one new file in datasets/, one class `Dataset`, no edit elsewhere.

A dataset turns files into decoded arrays and nothing more: no augmentation, no normalisation. Its fields are what may
differ between two people's copies of "the same" data (subset, resize filter, label map), so every record holds them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from benchmark.errors import UsageError, did_you_mean
from benchmark.method import frozen, settings_of
from benchmark.spec import Images

Split = Literal["train", "val", "test"]


class MissingDataError(UsageError):
    """A domain's files are not there; the message says where to put which file. Other domains can go on without it."""


@frozen()
class Dataset:
    """Base of all datasets.

    A dataset defines the class variables below and `load`. Settings are its dataclass fields.
    """

    classes: ClassVar[tuple[str, ...]]
    domains: ClassVar[tuple[str, ...]]
    """Test domains in the field's order of columns."""
    sources: ClassVar[tuple[str, ...]]
    """Source domains of a run that names none: one run for each."""
    licence: ClassVar[str]
    citation: ClassVar[str]
    needs_files: ClassVar[bool] = True
    """Whether --data-dir is needed."""

    def load(self, domain: str, split: Split, root: Path | None) -> Images:
        """Decoded uint8 images [N,3,H,W] and int64 labels [N] of one part of one domain, always in the same order.

        root: the data folder, or None. Raises MissingDataError where the files are absent, UsageError where they are
        damaged.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """All fields with their values, as stored in the run record."""
        return settings_of(self)


@dataclass(frozen=True)
class Loaded:
    """All that one run may touch. test: by domain, absent ones left out; missing: why a domain is absent."""

    train: Images
    val: Images
    test: dict[str, Images]
    missing: dict[str, str]
    in_domain: list[str]
    order: tuple[str, ...]
    """All test domains, absent ones included, in the field's order."""
    fingerprint: str
    classes: int


def load(dataset: Dataset, source: str, root: Path | None) -> Loaded:
    """Loads source (several domains joined by '+') and every test domain, checks them and takes their fingerprint.

    Raises UsageError where the source is unknown, missing or damaged, or where no test domain at all is there.
    """
    sources = source.split("+")
    for name in sources:
        if name not in dataset.domains and name not in dataset.sources:
            known = dict.fromkeys([*dataset.sources, *dataset.domains])
            raise UsageError(f"unknown source domain '{name}': {did_you_mean(name, known)}")
    train, val = (_pooled(dataset, sources, split, root) for split in ("train", "val"))
    test, missing = {}, {}
    for domain in dataset.domains:
        try:
            test[domain] = _checked(dataset, domain, "test", root)
        except MissingDataError as problem:
            missing[domain] = str(problem)
    if not test:
        raise UsageError("no test domain is there:\n" + "\n".join(missing.values()))
    parts = {"train": train, "val": val, **{f"test/{domain}": images for domain, images in test.items()}}
    in_domain = [domain for domain in dataset.domains if domain in sources]
    return Loaded(train, val, test, missing, in_domain, dataset.domains, fingerprint(parts), len(dataset.classes))


def _pooled(dataset: Dataset, sources: Sequence[str], split: Split, root: Path | None) -> Images:
    first, *rest = (_checked(dataset, source, split, root) for source in sources)
    return sum(rest, first)


def _checked(dataset: Dataset, domain: str, split: Split, root: Path | None) -> Images:
    images = dataset.load(domain, split, root)
    where = f"{type(dataset).__module__.rpartition('.')[2]}/{domain}/{split}"
    if not len(images):
        raise UsageError(f"{where}: no images")
    if images.x.is_floating_point():
        outside = ~((images.x >= 0) & (images.x <= 1)).flatten(1).all(dim=1)  # not a number is outside too
        if outside.any():
            raise UsageError(f"{where}: image {int(outside.nonzero()[0])} has pixels that are not in [0,1]")
    bad = (images.y < 0) | (images.y >= len(dataset.classes))
    if bad.any():
        index = int(bad.nonzero()[0])
        raise UsageError(
            f"{where}: image {index} has label {int(images.y[index])}; allowed: 0..{len(dataset.classes) - 1}"
        )
    return images


def fingerprint(parts: dict[str, Images]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the names, shapes, pixels and labels of all parts.

    It is taken from the decoded arrays: it changes with a byte, a split, an order, a resize filter or a label map, and
    with nothing else.
    """
    digest = hashlib.sha256()
    for name, images in sorted(parts.items()):
        digest.update(f"{name}:{images.x.dtype}:{list(images.x.shape)}".encode())
        digest.update(images.x.contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(images.y.numpy().tobytes())
    return digest.hexdigest()[:16]
