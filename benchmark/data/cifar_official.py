"""The official arrays of CIFAR-10-C and CIFAR-100-C, and what their labels must be."""

from pathlib import Path

import numpy as np

from benchmark.core.regular_files import require
from benchmark.data.readers import Array


def images(path: Path, n: int) -> Array:
    """All severities of one corruption, memory-mapped: uint8 [5n,32,32,3]. Else raises ValueError."""
    found = _array(path)
    if found.dtype != np.uint8 or found.shape != (5 * n, 32, 32, 3):
        raise ValueError(f"it holds {found.dtype} {found.shape}, not five severities of {n} images of 32x32 as uint8")
    return found


def labels(path: Path, n: int, classes: int, clean: Array | None) -> Array:
    """The labels of each severity, int64 [n]. Raises ValueError where they are not those of the clean test images, five
    times.

    clean: those labels; None where they are not there in the official order. The stored ones are then held against
    themselves: five times the same, and equally many of each class.
    """
    found, what = _array(path), "the official labels are not those of the clean test images, five times"
    if found.dtype.kind not in "iu" or found.shape != (5 * n,):
        raise ValueError(f"{what}: it holds {found.dtype} {found.shape}, not {5 * n} whole numbers")
    outside = np.flatnonzero((found < 0) | (found >= classes))
    if len(outside):
        raise ValueError(f"{what}: row {outside[0]} is {found[outside[0]]}; allowed: 0..{classes - 1}")
    found = found.astype(np.int64)
    wanted = np.tile(found[:n] if clean is None else clean, 5)
    other = np.flatnonzero(found != wanted)
    if len(other):
        raise ValueError(f"{what}: row {other[0]} is {found[other[0]]}, not {wanted[other[0]]}")
    counts = np.bincount(found[:n], minlength=classes)
    if (counts != n // classes).any():
        k = int(np.flatnonzero(counts != n // classes)[0])
        raise ValueError(f"{what}: {counts[k]} of {n} are {k}, not {n // classes}")
    return found[:n]


def _array(path: Path) -> Array:
    require(path)
    found = np.load(path, mmap_mode="c", allow_pickle=False)  # torch wants to be able to write
    if not isinstance(found, np.ndarray):
        raise ValueError("it is an archive of arrays, not one array")
    return found
