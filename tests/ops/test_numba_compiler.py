"""Numba's cache: whatever has become of its files, the images are the same and no run fails."""

import shutil
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.elsewhere import elsewhere

numba = pytest.importorskip("numba")
caching = pytest.importorskip("numba.core.caching")


def ended(cache: Path, project: Path = ROOT) -> tuple[list[int], int]:
    """What a function of a project gives, and how often it came from the cache in this folder, in a process of its own
    that has imported nothing of the project."""
    pixels, hits, _ = elsewhere(posterize, cache, project)
    return pixels, hits


def posterize(cache: Path | None, project: Path = ROOT) -> tuple[list[int], int, list[str]]:
    """That, and the warnings. Without a cache no locator finds a folder for one."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmark"]:
        del sys.modules[name]
    sys.path.insert(0, str(project))
    numba.config.CACHE_DIR = str(cache or "")
    if cache is None:
        caching.CacheImpl._locator_classes = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pixels = import_module("benchmark.ops.kernels.pillow_cpu_pixels")
        assert Path(str(pixels.__file__)).is_relative_to(project)
        src, dst = np.arange(4, dtype=np.uint32), np.zeros(4, np.uint32)
        pixels.posterize(src, dst, 4, -4)
    return dst.tolist(), sum(pixels.posterize.stats.cache_hits.values()), [str(each.message) for each in said]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache as it should be."""
    cache = tmp_path_factory.mktemp("numba")
    assert ended(cache) == ([0, 1, 2, 3], 0)
    assert ended(cache) == ([0, 1, 2, 3], 1)
    return cache


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "a bit": lambda content: content[:-900] + bytes([content[-900] ^ 1]) + content[-899:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(tmp_path: Path, written: Path, damage: str) -> None:
    cache = tmp_path / "numba"
    shutil.copytree(written, cache)
    for path in cache.rglob("*.nbc" if damage == "a bit" else "*.nb?"):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert ended(cache) == ([0, 1, 2, 3], 0)
    if damage == "cut":
        assert ended(cache) == ([0, 1, 2, 3], 1)  # made anew


def test_a_change_in_another_file_is_compiled(tmp_path: Path) -> None:
    """Numba itself looks only at the file of the function."""
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark", ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "numba"
    assert ended(cache, tmp_path) == ([0, 1, 2, 3], 0)
    assert ended(cache, tmp_path) == ([0, 1, 2, 3], 1)
    with (tmp_path / "benchmark" / "ops" / "operations.py").open("a") as file:
        file.write("ANOTHER = 13\n")
    assert ended(cache, tmp_path) == ([0, 1, 2, 3], 0)


def test_without_a_place_for_the_cache_the_fix_is_named() -> None:
    """As where both the package and the home folder are read-only. It is said once for all functions."""
    pixels, hits, said = elsewhere(posterize, None)
    assert (pixels, hits) == ([0, 1, 2, 3], 0)
    assert sum("NUMBA_CACHE_DIR=FOLDER in the environment names one" in text for text in said) == 1
