"""The files of CIFAR, small, in the exact on-disk formats."""

import io
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark import registry

TRAIN, TEST = 500, 200
"""Images of each part; CIFAR-100 then has 5 and 2 of each class."""


def make(dataset: str = "cifar10c", **settings: Any) -> Any:
    return registry.make("dataset", dataset, {"val": 100, **settings})


@cache
def pixels(n: int, seed: int) -> np.ndarray[Any, Any]:
    """Smooth images [n,32,32,3], so that a JPEG file keeps them nearly."""
    coarse = np.random.default_rng(seed).integers(40, 216, (n, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(tile).resize((32, 32), Image.Resampling.BILINEAR)) for tile in coarse])


def python2_pickle(x: np.ndarray[Any, Any], labels: list[int], key: bytes = b"labels") -> bytes:
    """A dictionary as Python 2's cPickle writes it under protocol 2, opcode by opcode, like the authors' files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    out = b"\x80\x02}(" + text(b"batch_label") + text(b"a batch") + text(key) + b"]("
    out += b"".join(b"K" + bytes([label]) for label in labels) + b"e" + text(b"data")
    out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    out += b"(K\x01M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(np.ascontiguousarray(rows).tobytes()) + b"tb"
    out += text(b"filenames") + b"](" + b"".join(text(b"%d.png" % n) for n in range(len(x))) + b"e"
    return out + b"u."


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents10() -> dict[str, bytes]:
    x, labels = pixels(TRAIN, 0), [n % 10 for n in range(TRAIN)]
    fifth = TRAIN // 5
    files = {
        f"data_batch_{n + 1}": python2_pickle(x[n * fifth : (n + 1) * fifth], labels[n * fifth : (n + 1) * fifth])
        for n in range(5)
    }
    return files | {"test_batch": python2_pickle(pixels(TEST, 1), [n % 10 for n in range(TEST)])}


def with_official(folder: Path, names: tuple[str, ...] = ("fog",)) -> Path:
    """Official arrays: of each severity the clean images with that much added."""
    clean = pixels(TEST, 1)
    stacked = np.concatenate([clean + severity for severity in range(1, 6)]).astype(np.uint8)
    (folder / "CIFAR-10-C").mkdir(exist_ok=True)
    for name in names:
        np.save(folder / "CIFAR-10-C" / f"{name}.npy", stacked)
    np.save(folder / "CIFAR-10-C/labels.npy", np.tile(np.arange(TEST) % 10, 5).astype(np.uint8))
    return folder


@cache
def pictures(part: str) -> dict[str, bytes]:
    """The files of a copy of one file an image, class by class."""
    names, images = make().classes, pixels(*{"train": (TRAIN, 0), "test": (TEST, 1)}[part])
    return {f"{part}/{names[n % 10]}/{n // 10:04}.png": picture(image) for n, image in enumerate(images)}


def picture(x: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG", compress_level=0)
    return file.getvalue()


def tree(folder: Path, *parts: str) -> Path:
    for part in parts:
        for name, content in pictures(part).items():
            put(folder / "cifar10-jpg" / name, content)
    return folder
