"""CIFAR as a source and its corrupted test images as targets: what cifar10c and cifar100c share.

Clean images come from the authors' pickled batches or from a JPEG copy. Corrupted ones are made by
benchmark.corruptions or read from the arrays of CIFAR-10-C and CIFAR-100-C. Cards: docs/datasets/cifar10c.md,
cifar100c.md.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from benchmark import data
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.corruptions import COMMON, EXTRA, SEVERITIES, corrupt
from benchmark.data import archives, cifar_official, image_files, readers
from benchmark.data.readers import Array
from benchmark.data.remote.remote_file import Remote, hash_of
from benchmark.data.safe_pickle import unpickle

Part = Literal["train", "test"]
COUNT: dict[Part, int] = {"train": 50_000, "test": 10_000}
"""Images of each part, in CIFAR-10 and CIFAR-100 alike, equally many of each class."""
PIXELS = (3, 32, 32)
COPY = "any copy with a file an image in folders train|test/CLASS"


@dataclass(frozen=True)
class Files:
    """Where a CIFAR's files lie below the data folder, and where they come from."""

    domain: str
    """The clean domain, the only source."""
    folder: str
    """Of the pickled batches."""
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    jpeg: tuple[str, str]
    """Folder and archive of a copy in pictures."""
    corrupted: str
    """Folder of the official arrays."""
    archive: str
    origin: str
    corrupted_origin: str


@frozen()
class Cifar(data.Dataset):
    """Base of cifar10c and cifar100c."""

    files: ClassVar[Files]
    original: ClassVar[Remote]
    """The archive of the pickled batches."""
    arrays: ClassVar[Remote]
    """The archive of the official corrupted arrays."""
    needs_files = True
    toy: ClassVar[Mapping[str, Any]] = {"val": 100, "limit": 20}

    copy: Literal["official", "jpeg"] = "official"
    """The clean images. official: the authors' pickled batches. jpeg: a lossy copy, a JPEG (or PNG) file an image, in
    folders train|test/CLASS; it costs a network 2 to 3 points, so its rows stand apart from all others."""
    corrupted: Literal["generated", "official"] = "generated"
    """The corrupted images. generated: by benchmark.corruptions from the clean test images in use. official: the arrays
    of CIFAR-10-C or CIFAR-100-C, made of the original images."""
    corruptions: Literal["common", "extra"] = "common"
    """Targets: the fifteen corruptions that every published mean is over, or the four extra ones in their place."""
    val: int = Field(5_000, ge=1)
    """Training images held out for selection: the last ones; in the JPEG copy equally many of each class."""
    limit: int = Field(0, ge=0)
    """Test images of each target, clean ones too: the first so many; 0 for all 10,000."""

    def layout(self, root: Path | None) -> data.Layout:
        names = COMMON if self.corruptions == "common" else EXTRA
        corrupted = tuple(f"{name}/{severity}" for name in names for severity in SEVERITIES)
        return data.Layout(self.classes, (*corrupted, self.files.domain), (self.files.domain,))

    def remotes(self) -> tuple[Remote, ...]:
        copy = Remote(self.files.jpeg[1], licence=self.original.licence, origin=COPY)
        clean = copy if self.copy == "jpeg" else self.original
        return (clean, self.arrays) if self.corrupted == "official" else (clean,)

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        domains, source = self.layout(root).domains, self.files.domain
        if domain not in domains:
            raise UsageError(f"unknown domain '{domain}' of {source}: {did_you_mean(domain, domains)}")
        if split != "test" and domain != source:
            raise UsageError(f"{domain} has no {split} part; the only source domain is {source}")
        folder = readers.data_folder(root, f"{source}c")
        if domain != source and self.corrupted == "official":
            clean = _clean_files(self.files, "official", "test", folder) if self._has_order(folder) else []
            return [*_official_files(self.files, domain.partition("/")[0], folder), *clean]
        return _clean_files(self.files, self.copy, "test" if split == "test" else "train", folder)

    def load(self, domain: str, split: data.Split, root: Path | None = None) -> Images:
        self.reads(domain, split, root)
        name, _, severity = domain.partition("/")
        folder = readers.data_folder(root, f"{self.files.domain}c")
        if domain == self.files.domain:
            clean = _clean(self.files, self.classes, self.copy, "test" if split == "test" else "train", folder)
            return clean[self._cut(split, len(clean))]
        if self.corrupted == "official":
            return self._official(name, int(severity), folder)[self._cut("test", COUNT["test"])]
        clean = _clean(self.files, self.classes, self.copy, "test", folder)
        clean = clean[self._cut("test", len(clean))]
        return Images(corrupt(clean.x, name, int(severity), torch.arange(len(clean))), clean.y)

    def warnings(self, root: Path | None) -> list[str]:
        if self.corrupted == "generated" or root is None or self._has_order(root):
            return []
        labels = root / self.files.corrupted / "labels.npy"
        published = self.arrays.unpacked[f"{self.files.corrupted}/labels.npy"]
        if not labels.is_file() or hash_of(labels, "md5") == published:
            return []
        return [
            f"{labels.name} is not the published file, and its order cannot be checked without the official batches"
        ]

    def _has_order(self, root: Path) -> bool:
        """Whether the clean test labels are there in the official order."""
        try:
            return bool(_clean_files(self.files, "official", "test", root))
        except data.MissingDataError:
            return False

    def _official(self, name: str, severity: int, root: Path) -> Images:
        places, origin, n = _official_files(self.files, name, root), self.files.corrupted_origin, COUNT["test"]
        clean = _clean(self.files, self.classes, "official", "test", root).y.numpy() if self._has_order(root) else None
        with readers.decoding(places[0], origin):
            x = cifar_official.images(places[0], n)[n * (severity - 1) : n * severity]
        with readers.decoding(places[1], origin):
            y = cifar_official.labels(places[1], n, len(self.classes), clean)
        return Images(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y))

    def _cut(self, split: data.Split, n: int) -> slice:
        if split == "test":
            return slice(0, self.limit or n)
        if self.val >= n:
            raise UsageError(f"val={self.val}: there are {n} training images, and some must be left to train on")
        return slice(0, n - self.val) if split == "train" else slice(n - self.val, n)


@lru_cache(maxsize=4)  # files are taken to stay as they are while the process runs
def _clean(files: Files, classes: tuple[str, ...], copy: str, part: Part, root: Path) -> Images:
    path = _clean_files(files, copy, part, root)[0]
    if copy == "jpeg":
        origin, path = COPY, path.parent if path.name == part else path
        x, y = pictures(path, part, classes)
    else:
        origin, path = files.origin, path if path.name == files.archive else root
        x, y = batches(path, part, files)
    with readers.decoding(path, origin):
        images = readers.labelled(x, y, len(classes))
        count = torch.bincount(images.y, minlength=len(classes))
        wanted = COUNT[part] // len(classes)
        if (count != wanted).any():
            k = int((count != wanted).nonzero()[0])
            raise ValueError(f"its {part} part has {count[k]} images of class '{classes[k]}', not {wanted}")
    return images


def _clean_files(files: Files, copy: str, part: Part, root: Path) -> list[Path]:
    where = f"{files.domain}c/{files.domain}/{part}"
    if copy == "jpeg":
        return readers.find(root, where, [[f"{files.jpeg[0]}/{part}"], [files.jpeg[1]]], COPY)
    choices = [[f"{files.folder}/{name}" for name in getattr(files, part)], [files.archive]]
    return readers.find(root, where, choices, files.origin)


def _official_files(files: Files, name: str, root: Path) -> list[Path]:
    places = [f"{files.corrupted}/{file}.npy" for file in (name, "labels")]
    return readers.find(root, f"{files.domain}c/{name}", [places], f"{files.corrupted_origin} (unpacked)")


def batches(path: Path, part: Part, files: Files) -> tuple[Array, Array]:
    """Images uint8 [N,32,32,3] and labels of the pickled batches, from the data folder or the archive."""
    names = [f"{files.folder}/{name}" for name in getattr(files, part)]
    with readers.decoding(path, files.origin):
        contents = archives.read_files(path, names)
    found = []
    for name in names:
        with readers.decoding(path / name, files.origin):
            stored = unpickle(contents[name])
            rows, labels = np.asarray(stored[b"data"]), np.asarray(stored[files.label_key.encode()])
            if rows.dtype != np.uint8 or rows.shape != (len(labels), 3072) or labels.dtype.kind != "i":
                raise ValueError(f"it holds {rows.dtype} {rows.shape} for {len(labels)} {labels.dtype} labels")
            found.append((rows.reshape(-1, *PIXELS).transpose(0, 2, 3, 1), labels))
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def pictures(path: Path, part: Part, classes: tuple[str, ...]) -> tuple[Array, Array]:
    """Images uint8 [N,32,32,3] and labels of train|test/CLASS/FILE, from a folder or tar archive.

    The first file of each class, in the order of the classes, then the second of each: so any first n are balanced.
    """
    with readers.decoding(path, COPY):
        contents = archives.read_files(path, [f"{part}/{name}/" for name in classes])
    names: dict[str, list[str]] = {name: [] for name in classes}
    for file in sorted(contents):
        names[file.split("/")[1]].append(file)
    ranked = sorted((rank, k, file) for k, name in enumerate(classes) for rank, file in enumerate(names[name]))
    x = np.empty((len(ranked), 32, 32, 3), np.uint8)
    for n, (_, _, file) in enumerate(ranked):
        with (
            readers.decoding(path / file, COPY),
            image_files.open_image(io.BytesIO(contents[file]), formats=("JPEG", "PNG")) as image,
        ):
            if image.size != (32, 32):
                raise ValueError(f"it is {image.width}x{image.height}, not 32x32")
            x[n] = np.asarray(image.convert("RGB"))
    return x, np.array([k for _, k, _ in ranked], np.int64)
