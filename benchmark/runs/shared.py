"""Decoded data that the runs of one process share."""

import functools
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark import data, registry
from benchmark.core.errors import UsageError
from benchmark.core.settings import names_of
from benchmark.training.pipeline import versions

READERS = ("benchmark.data.", "benchmark.datasets.", "benchmark.networks.weights")
"""Modules that remember what they read of files."""
CODE = "benchmark.data.cache"
"""The one that remembers the code that reads them: what this process imported, whatever was edited since."""
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What a plan has to know of a run's data."""

    fingerprint: str
    height: int
    width: int
    images: int
    """In the training part."""
    val: int
    test: int
    """In all test domains together."""
    missing: tuple[str, ...] = ()
    """For each test domain that is not there: what to put where."""


@contextmanager
def blaming(dataset: str) -> Iterator[None]:
    """Raises UsageError for what a dataset, maybe a plugin, raises within, but OSError and KeyboardInterrupt. A
    plugin has its own name there, not that of its module."""
    try:
        yield
    except UsageError as problem:
        named = re.sub(r"^dg_referee_plugin_\w+(?=[/:])", dataset, str(problem))
        raise type(problem)(named) from problem
    except (OSError, KeyboardInterrupt):
        raise
    except BaseException as problem:
        LOGGER.debug("dataset %s", dataset, exc_info=True)
        where = f"{registry.source_file('dataset', dataset)}: dataset '{dataset}'"
        if isinstance(problem, MemoryError) or "can't allocate memory" in str(problem):
            size = (
                f", or make them smaller with --set {dataset}.size=N"
                if "size" in names_of(registry.find("dataset", dataset))
                else ""
            )
            raise UsageError(f"{where}: its images do not fit into memory ({problem}); take fewer{size}") from problem
        raise UsageError(f"{where} raised {type(problem).__name__}: {problem}") from problem


@functools.lru_cache(maxsize=1)  # runs on the same data follow each other, and one load may fill the memory
def _load(dataset: str, settings: str, source: str, root: Path | None) -> tuple[data.Loaded, list[int]]:
    made = registry.make("dataset", dataset, json.loads(settings))
    with blaming(dataset):
        loaded = data.load(made, source, root)
    train, val = loaded.train, loaded.val
    if len(train) == len(val) and torch.equal(train.x, val.x) and torch.equal(train.y, val.y):
        loaded.warnings.append("training and validation images are the same: `load` has to give other ones by `split`")
    tests = [f"{domain} {len(images)}" for domain, images in loaded.test.items()]
    tests += [f"{domain} missing" for domain in loaded.missing]
    sizes = f"{len(loaded.train)} training and {len(loaded.val)} validation images; test: {', '.join(tests)}"
    LOGGER.debug("loaded %s, source %s, from %s: %s", dataset, source, root or "the installation", sizes)
    return loaded, versions(loaded)


def _unwritten(*asked: Any) -> data.Loaded:
    """The data, loaded anew where a method wrote into what an earlier run had."""
    loaded, before = _load(*asked)
    if versions(loaded) != before:
        _load.cache_clear()
        loaded, _ = _load(*asked)
    return loaded


@functools.cache
def _facts(dataset: str, settings: str, source: str, root: Path | None) -> Facts:
    loaded = _unwritten(dataset, settings, source, root)
    for warning in loaded.warnings:
        LOGGER.warning("%s, source %s: %s", dataset, source, warning)
    if loaded.classes < 2:
        raise UsageError(f"dataset '{dataset}': it has one class; training needs two or more")
    tested = sum(len(part) for part in loaded.test.values())
    height, width = loaded.train.x.shape[2:]
    missing = tuple(loaded.missing.values())
    return Facts(loaded.fingerprint, height, width, len(loaded.train), len(loaded.val), tested, missing)


def forget() -> None:
    """Drops what this process has read of data and of weights: the files may be others now."""
    for name in [name for name in sys.modules if name.startswith((__name__, *READERS)) and name != CODE]:
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, functools._lru_cache_wrapper):
                value.cache_clear()


def load_data(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> data.Loaded:
    """data.load, remembered for the runs of this process that share the data and follow each other."""
    return _unwritten(dataset, json.dumps(settings, sort_keys=True), source, root)


def data_facts(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> Facts:
    """Facts of what load_data would give."""
    return _facts(dataset, json.dumps(settings, sort_keys=True), source, root)
