"""Small files of the project's own datasets, in the exact on-disk formats, for the common suite: every part, every
setting's files, no image twice."""

import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmark.corruptions import COMMON, EXTRA
from benchmark.data import cifar
from tests.data import cifar_files
from tests.datasets import digits_files, pacs_files


def noise(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def digits(root: Path) -> None:
    """MNIST at full length, which its reader asks for, and a few images of each target."""
    for seed, (images, labels, n) in enumerate(
        [
            (digits_files.TRAIN_IMAGES, digits_files.TRAIN_LABELS, 60_000),
            (digits_files.TEST_IMAGES, digits_files.TEST_LABELS, 10_000),
        ]
    ):
        digits_files.put(root, images, digits_files.idx(noise(seed, n, 28, 28)))
        digits_files.put(root, labels, digits_files.idx((np.arange(n) % 10).astype(np.uint8)))
    digits_files.put(root, digits_files.USPS, digits_files.usps_text(digits_files.QUARTERS, digits_files.LABELS[:5]))
    for name in (digits_files.SVHN, digits_files.SYN):
        digits_files.put(root, name, digits_files.mat(digits_files.COLOUR, digits_files.LABELS))
    for name, content in digits_files.png_files().items():
        digits_files.put(root, name, content)
    digits_files.put(root, digits_files.PICKLE, pickle.dumps({b"test": noise(2, 10_000, 28, 28, 3)}))


def cifar10c(root: Path) -> None:
    for name, content in cifar_files.contents10().items():
        cifar_files.put(root / "cifar-10-batches-py" / name, content)
    _cifar_copies(root, "cifar10c", "cifar10-jpg", "CIFAR-10-C")


def cifar100c(root: Path) -> None:
    for name, n, seed in (("train", cifar_files.TRAIN, 0), ("test", cifar_files.TEST, 1)):
        stored = cifar_files.python2_pickle(cifar_files.pixels(n, seed), [k % 100 for k in range(n)], b"fine_labels")
        cifar_files.put(root / "cifar-100-python" / name, stored)
    _cifar_copies(root, "cifar100c", "cifar100-jpg", "CIFAR-100-C")


def _cifar_copies(root: Path, dataset: str, jpeg: str, arrays: str) -> None:
    """The copy in JPEG files, and the official arrays, which are one array under all names."""
    classes = cifar_files.make(dataset).classes
    for part, n, seed in (("train", cifar_files.TRAIN, 0), ("test", cifar_files.TEST, 1)):
        for k, image in enumerate(cifar_files.pixels(n, seed)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG")
            place = root / jpeg / part / classes[k % len(classes)] / f"{k // len(classes):04}.jpg"
            cifar_files.put(place, file.getvalue())
    (root / arrays).mkdir()
    first, *others = (root / arrays / f"{name}.npy" for name in (*COMMON, *EXTRA))
    np.save(first, noise(3, 5 * cifar_files.TEST, 32, 32, 3))
    for other in others:
        os.link(first, other)
    np.save(root / arrays / "labels.npy", np.tile(np.arange(cifar_files.TEST) % len(classes), 5))


def pacs(root: Path) -> None:
    def picture(*seed: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (17, 17, 3), dtype=np.uint8))

    pacs_files.lay_out(root, picture=picture)


def folder(root: Path) -> None:
    """Two domains and classes, twenty images of 12x10 each."""
    for seed in range(80):
        path = root / ("ink", "oil")[seed % 2] / ("cat", "dog")[seed // 2 % 2] / f"{seed:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(seed, 10, 12, 3)).save(path)


MAKERS: dict[str, Callable[[Path], None]] = {
    "digits": digits, "cifar10c": cifar10c, "cifar100c": cifar100c, "pacs": pacs, "folder": folder,
}  # fmt: skip
"""By dataset, what writes its files into a folder."""


@contextmanager
def small() -> Iterator[None]:
    """Within, CIFAR has as many images as are written here, and a subset of MNIST a hundredth of its images."""
    before, subsets = cifar.COUNT, digits_files.digits.SUBSETS
    cifar.COUNT = {"train": cifar_files.TRAIN, "test": cifar_files.TEST}
    cifar._clean.cache_clear()
    hundredths = {name: (first // 100, last // 100) for name, (first, last) in subsets.items()}
    try:
        with mock.patch.dict(subsets, hundredths):
            yield
    finally:
        cifar.COUNT = before
        cifar._clean.cache_clear()
