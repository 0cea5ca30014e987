"""Decoded data that the runs of one process share."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import data, registry


@dataclass(frozen=True)
class Facts:
    """What a plan has to know of a run's data."""

    fingerprint: str
    height: int
    width: int


@functools.lru_cache(maxsize=1)  # runs on the same data follow each other, and one load may fill the memory
def _load(dataset: str, settings: str, source: str, root: Path | None) -> data.Loaded:
    return data.load(registry.make("dataset", dataset, json.loads(settings)), source, root)


@functools.cache
def _facts(dataset: str, settings: str, source: str, root: Path | None) -> Facts:
    loaded = _load(dataset, settings, source, root)
    return Facts(loaded.fingerprint, *loaded.train.x.shape[2:])


def load_data(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> data.Loaded:
    """data.load, remembered for the runs of this process that share the data and follow each other."""
    return _load(dataset, json.dumps(settings, sort_keys=True), source, root)


def data_facts(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> Facts:
    """Facts of what load_data would give."""
    return _facts(dataset, json.dumps(settings, sort_keys=True), source, root)


@contextmanager
def untouched(loaded: data.Loaded) -> Iterator[None]:
    """Raises RuntimeError where the loaded images were written into: the runs after this one share them."""
    tensors = [each for images in (loaded.train, loaded.val, *loaded.test.values()) for each in (images.x, images.y)]
    before = [tensor._version for tensor in tensors]
    try:
        yield
    finally:
        if before != [tensor._version for tensor in tensors]:
            _load.cache_clear()
            raise RuntimeError("the method wrote into the images that it was given; it has to copy them first")
