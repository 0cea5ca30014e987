"""The files of digits, small, in the exact on-disk formats."""

import bz2
import importlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from PIL import Image
from torch import Tensor

from benchmark.data.remote import sources

digits: Any = importlib.import_module("benchmark.datasets.digits")
Dataset: Any = digits.Dataset

MNIST = [name for remote in sources.MNIST for name in remote.places]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST
SVHN, SYN, USPS, TAR, PICKLE = (
    "test_32x32.mat",
    "synth_test_32x32.mat",
    "usps.t.bz2",
    "mnist_m_test.tar",
    "keras_mnistm.pkl",
)
PNGS, PNG_LABELS = digits.PNG_FOLDER, digits.PNG_LABELS
random = np.random.Generator(np.random.PCG64(0))
COLOUR = random.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
QUARTERS = random.integers(0, 5, (5, 16, 16))
LABELS = [3, 0, 9, 1, 4, 7, 5, 8, 2, 6, 0, 1]


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The IDX format of unsigned bytes: 0, 0, 8, rank, big-endian sizes, values."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def tone(index: int) -> int:
    """The grey of MNIST image `index` of the fixture, a different one for its neighbours."""
    return index * 37 % 251


def flat_images(count: int) -> np.ndarray[Any, Any]:
    tones = (np.arange(count) * 37 % 251).astype(np.uint8)
    return np.broadcast_to(tones[:, None, None], (count, 28, 28))


def mat(images: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    file: Any = io.BytesIO()
    scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]})
    return bytes(file.getvalue())


def png(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def usps_text(images: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """The libsvm format of images with the levels 0..4, for -1, -0.5, 0, 0.5 and 1."""
    rows = [
        f"{label + 1} " + " ".join(f"{i}:{value / 2 - 1}" for i, value in enumerate(image.ravel(), start=1))
        for image, label in zip(images, labels, strict=True)
    ]
    return bz2.compress("\n".join(rows).encode() + b"\n")


def tar_of(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "target"
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def png_files() -> dict[str, bytes]:
    """MNIST-M's folder; the list's order is not that of the names."""
    names = [f"{index:08d}.png" for index in (2, 0, 1)]
    rows = "".join(f"{name} {label}\n" for name, label in zip(names, LABELS, strict=False))
    return {f"{PNGS}/{name}": png(COLOUR[i]) for i, name in enumerate(names)} | {PNG_LABELS: rows.encode()}


def put(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def channels_first(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
