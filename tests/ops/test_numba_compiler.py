"""Numba's cache: whatever has become of its files, the images are the same and no run fails."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("numba")
PROGRAM = """
import numpy, sys, warnings
warnings.simplefilter("always")
from benchmark.ops.kernels import pillow_cpu_pixels as p
src, dst = numpy.arange(4, dtype=numpy.uint32), numpy.zeros(4, numpy.uint32)
p.posterize(src, dst, 4, -4)
print(dst.tolist(), sum(p.posterize.stats.cache_hits.values()))
"""


def ended(cache: Path, project: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Compiles one function of a project in a process of its own, with this folder for the cache."""
    given = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=given, cwd=project, capture_output=True, text=True, check=True
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache as it should be."""
    cache = tmp_path_factory.mktemp("numba")
    assert ended(cache).stdout == "[0, 1, 2, 3] 0\n"
    assert ended(cache).stdout == "[0, 1, 2, 3] 1\n"
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
    assert ended(cache).stdout == "[0, 1, 2, 3] 0\n"
    if damage == "cut":
        assert ended(cache).stdout == "[0, 1, 2, 3] 1\n"  # made anew


def test_a_change_in_another_file_is_compiled(tmp_path: Path) -> None:
    """Numba itself looks only at the file of the function."""
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark", ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "numba"
    assert ended(cache, tmp_path).stdout == "[0, 1, 2, 3] 0\n"
    assert ended(cache, tmp_path).stdout == "[0, 1, 2, 3] 1\n"
    with (tmp_path / "benchmark" / "ops" / "operations.py").open("a") as file:
        file.write("ANOTHER = 13\n")
    assert ended(cache, tmp_path).stdout == "[0, 1, 2, 3] 0\n"


def test_without_a_place_for_the_cache_the_fix_is_named(tmp_path: Path) -> None:
    """No locator finds a folder, as where both the package and the home folder are read-only."""
    program = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n" + PROGRAM
    given = os.environ | {"NUMBA_CACHE_DIR": ""}
    found = subprocess.run(
        [sys.executable, "-c", program], env=given, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[0, 1, 2, 3] 0\n"
    assert found.stderr.count("NUMBA_CACHE_DIR=FOLDER in the environment names one") == 1
