"""The contract of a dataset: one new file in datasets/, one class `Dataset`, no edit elsewhere.

A dataset turns files into decoded arrays and nothing more: no augmentation, no normalisation. Two people's copies of
"the same" data may differ in subset, resize filter or label map. Each such choice is a field, so every record holds it.
Copy docs/templates/arrays.py to start.

What belongs to a dataset NAME of this project, and where:

- datasets/NAME.py: the class. Its recipe under common is its `terms` (benchmark.core.recipe.Terms). Without terms it
  gets the general recipe of benchmark/protocols.py: a network by image size, Adam 1e-4, 10,000 steps.
- docs/datasets/NAME.md: the card. It says which files lie where, where they come from, what the parts are, which faults
  are known, and gives licence and citation.
- tests/datasets/test_NAME.py: tests of its reader, on small files in the exact format, and of what it refuses. A
  function in tests/datasets/files.py writes such files for the common tests.

A dataset in an installed package or in a file elsewhere needs neither card nor tests.

The common tests check the contract, with the `toy` settings:

    python -m pytest tests/datasets/test_datasets.py                                 # datasets/, installed packages
    python -m pytest tests/datasets/test_datasets.py --plugin=FILE --data-dir=DIR    # the dataset in a file elsewhere

They ask for this:

- Classes, domains and sources have names, each its own. Licence and citation are there. A recipe under common is found.
- Pixels are uint8, all images have one size, and labels are classes. A part has the same bytes in every process.
- train, val and test of one domain share no image; with `test_is_all`, test is the other two. Two domains may share
  images: the test images of MNIST-M are those of MNIST, blended with photographs.
- Another value of a setting gives another fingerprint or another layout.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmark.core.errors import MissingDataError, UsageError, did_you_mean
from benchmark.core.images import Images
from benchmark.core.recipe import Terms
from benchmark.core.settings import frozen, settings_of
from benchmark.data import cache
from benchmark.data.checks import check_images, check_names, check_sizes
from benchmark.data.remote.remote_file import Remote

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Layout:
    """What a dataset consists of."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of their indices."""
    domains: tuple[str, ...]
    """Test domains in the field's order of columns. Domains 'A/1', 'A/2' are parts of column A, whose number is their
    mean."""
    sources: tuple[str, ...]
    """Source domains of a run that names none: one run for each."""


@frozen()
class Dataset:
    """Base of all datasets.

    A dataset defines the class variables below and `load`; one whose files say what its classes and domains are defines
    `layout` instead of the first three. Settings are its dataclass fields.
    """

    classes: ClassVar[tuple[str, ...]]
    domains: ClassVar[tuple[str, ...]]
    sources: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    citation: ClassVar[str]
    needs_files: ClassVar[bool] = True
    """Whether --data-dir is needed."""
    terms: ClassVar[Sequence[Terms]] = ()
    """What protocols fix for this dataset, above all its recipe under common; without one the general recipe is taken.
    benchmark/protocols.py holds those of the project's own datasets."""
    test_is_all: ClassVar[bool] = False
    """Whether a domain's test part is all of it, training images included, as a target in the field is. A source domain
    is then scored on its validation part."""

    toy: ClassVar[Mapping[str, Any]] = {}
    """Settings that make images small and few, and at which every setting matters; the common tests load it so."""

    def layout(self, root: Path | None) -> Layout:
        """Its classes, test domains and default sources. root: the data folder, or None. Raises UsageError."""
        return Layout(self.classes, self.domains, self.sources)

    def load(self, domain: str, split: Split, root: Path | None) -> Images:
        """Decoded uint8 images [N,3,H,W] and int64 labels [N] of one part of one domain, always in the same order.

        root: the data folder, or None. Raises MissingDataError where the files are absent, UsageError where they are
        damaged.
        """
        raise NotImplementedError

    def reads(self, domain: str, split: Split, root: Path | None) -> list[Path]:
        """All files and folders that `load` decodes this part from, which is then done once and kept in the cache; by
        default none: it is done every time. Raises as `load` does."""
        return []

    def remotes(self) -> tuple[Remote, ...]:
        """Where the files come from, for `python -m benchmark.data`."""
        return ()

    def warnings(self, root: Path | None) -> list[str]:
        """What is odd about the files and still allowed, counted: it goes into every run record."""
        return []

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
    warnings: list[str] = field(default_factory=list)


def load(dataset: Dataset, source: str, root: Path | None) -> Loaded:
    """Loads source (several domains joined by '+') and every test domain, checks them and takes their fingerprint.

    Raises UsageError where the source is unknown, missing or damaged, or where no test domain at all is there.
    """
    layout = dataset.layout(root)
    _check_layout(dataset, layout)
    sources = _pool(source)
    for name in sources:
        if name not in layout.domains and name not in layout.sources:
            known = dict.fromkeys([*layout.sources, *layout.domains])
            raise UsageError(f"unknown source domain '{name}': {did_you_mean(name, known)}")
    classes = len(layout.classes)

    def part(domain: str, split: Split) -> cache.Part:
        return decode(dataset, domain, split, root, classes)

    pooled: dict[Split, list[cache.Part]] = {s: [part(name, s) for name in sources] for s in ("train", "val")}
    test, missing = {}, {}
    for domain in layout.domains:
        try:
            test[domain] = part(domain, "val" if dataset.test_is_all and domain in sources else "test")
        except MissingDataError as problem:
            missing[domain] = str(problem)
    if not test:
        raise UsageError("no test domain is there:\n" + "\n".join(missing.values()))
    parts = {
        f"{split}/{name}": found.digest for split in pooled for name, found in zip(sources, pooled[split], strict=True)
    }
    sized = {f"{name}/{s}": part.images for s in pooled for name, part in zip(sources, pooled[s], strict=True)}
    check_sizes(_name(dataset), sized | {f"{name}/test": part.images for name, part in test.items()})
    identity = fingerprint_of(parts | {f"test/{domain}": found.digest for domain, found in test.items()})
    train, val = (sum((other.images for other in rest), first.images) for first, *rest in pooled.values())
    in_domain = [domain for domain in layout.domains if domain in sources]
    images = {domain: found.images for domain, found in test.items()}
    odd = dataset.warnings(root)
    return Loaded(train, val, images, missing, in_domain, layout.domains, identity, classes, odd)


def _pool(source: str) -> list[str]:
    """The domains of a source. Raises UsageError for one that is there twice, whose images would count twice."""
    names = source.split("+")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"source {source}: '{twice[0]}' is there twice; a pool takes each domain once")
    return names


def decode(
    dataset: Dataset, domain: str, split: Split, root: Path | None, classes: int, cached: bool = True
) -> cache.Part:
    """One part, checked, with its digest; from the cache where it has it. Raises MissingDataError and UsageError."""

    def fresh() -> Images:
        images: Any = dataset.load(domain, split, root)
        if not isinstance(images, Images):
            raise UsageError(
                f"{_name(dataset)}: load() gives {type(images).__name__}, not benchmark.core.images.Images"
            )
        return images

    place = cache.entry(dataset, domain, split, root, dataset.reads(domain, split, root)) if cached else None
    found = cache.load_part(place, fresh) if place else cache.Part.of(fresh())
    check_images(found.images, f"{_name(dataset)}/{domain}/{split}", classes)
    return found


def _check_layout(dataset: Dataset, layout: Any) -> None:
    """Raises UsageError where a dataset gives no layout, or names that nobody could tell apart or type."""
    if not isinstance(layout, Layout):
        raise UsageError(f"{_name(dataset)}: layout() gives {type(layout).__name__}, not a benchmark.data.Layout")
    check_names(_name(dataset), "class", layout.classes)
    check_names(_name(dataset), "domain", layout.domains)
    check_names(_name(dataset), "source", layout.sources)


def _name(dataset: Dataset) -> str:
    return type(dataset).__module__.rpartition(".")[2]


def fingerprint(parts: dict[str, Images]) -> str:
    """fingerprint_of decoded images."""
    return fingerprint_of({name: cache.digest(images) for name, images in parts.items()})


def fingerprint_of(digests: dict[str, str]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the names and digests of all parts.

    It changes with a byte, a split, the order within a part, a resize filter, a label map, or which domains are there.
    """
    lines = [f"{name}:{found}\n" for name, found in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
