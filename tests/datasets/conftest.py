"""The folders of small files that the tests of digits read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data import readers
from tests.datasets.digits_files import (
    COLOUR,
    LABELS,
    QUARTERS,
    SVHN,
    SYN,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    USPS,
    flat_images,
    idx,
    mat,
    png_files,
    put,
    usps_text,
)  # fmt: skip


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the dataset, MNIST at full length and of flat images, the others small."""
    root = tmp_path_factory.mktemp("digits")
    put(root, TRAIN_IMAGES, idx(flat_images(60_000)))
    put(root, TRAIN_LABELS, idx((np.arange(60_000) % 10).astype(np.uint8)))
    put(root, TEST_IMAGES, idx(flat_images(10_000)))
    put(root, TEST_LABELS, idx((np.arange(10_000) % 7).astype(np.uint8)))
    put(root, USPS, usps_text(QUARTERS, LABELS[:5]))
    put(root, SVHN, mat(COLOUR, [label or 10 for label in LABELS]))
    put(root, SYN, mat(COLOUR, LABELS))
    for name, content in png_files().items():
        put(root, name, content)
    return root


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A copy of `stored`, made of links, in which a test may replace files."""
    for file in stored.rglob("*"):
        if file.is_file():
            link = tmp_path / file.relative_to(stored)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resizes many images by repeating a corner: for MNIST's flat ones the same, without the seconds it takes."""
    real = readers.resize

    def resize(images: Any, how: Any) -> Any:
        return np.broadcast_to(images[:, :1, :1], (len(images), 32, 32)) if len(images) > 9_000 else real(images, how)

    monkeypatch.setattr(readers, "resize", resize)
