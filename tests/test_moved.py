"""Plugins written against the paths and names of version 0.1: they load, get the same objects, and run to the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmark import moved, plugin_files, registry
from benchmark.core import images, rng, timing
from benchmark.data import image_files
from benchmark.ops import augmix, operations
from benchmark.ops.attacks import mix as mixing
from benchmark.ops.attacks import pixel, spectrum
from benchmark.ops.kernels import augment_mix, jensen_shannon
from benchmark.runs.store import Store
from tests.conftest import ROOT

METHOD = '''"""A method as one was written for version 0.1."""
from typing import ClassVar

from benchmark import image_files, method, readers, spectrum
from benchmark.consistency import jensen_shannon
from benchmark.image_ops import NINE, OPS, OpName, augmix_views, sample_mix
from benchmark.kernels.augment_mix import mix, to_uint8
from benchmark.method import Rng, State, frozen
from benchmark.mix_ascent import attack as attack_mixing
from benchmark.pixel_ascent import Ascent, attack
from benchmark.spec import Asked, Images
from benchmark.timing import span
from torch.nn.functional import cross_entropy


@frozen()
class Method(method.Method):
    attacks: ClassVar[bool] = True
    eta: float = 1.0

    def loss(self, net, x, y, rng, state):
        with span("attack"):
            hard = attack(net, Images(x, y), Ascent(1, self.eta, 1.0, 0.0, 1, clip=True)).x
        draws = rng.draw("augmix", sample_mix, len(x), ops=NINE)
        logits = [net(each) for each in (x, hard, *augmix_views(x, [draws]))]
        return cross_entropy(logits[0], y) + jensen_shannon(*logits)
'''
DATASET = '''"""A dataset as one was written for version 0.1."""
from benchmark import data, image_files, readers, rng
from benchmark.errors import UsageError
from benchmark.recipe import Recipe
from benchmark.spec import Images
import torch


@data.frozen()
class Dataset(data.Dataset):
    classes = ("dark", "light")
    domains = ("plain", "noisy")
    sources = ("plain",)
    licence = "none"
    citation = "none"
    needs_files = False

    def load(self, domain, split, root):
        generator = torch.Generator().manual_seed(rng.key("old", domain, split))
        y = torch.arange(24) % 2
        x = torch.randint(0, 100, (24, 3, 32, 32), generator=generator) + 100 * y[:, None, None, None]
        return Images(x.to(torch.uint8), y)
'''
SMALL = ["--seeds", "0", "--steps", "3", "--evaluations", "1", "--sensitivity-images", "0", "--device", "cpu"]


def forget() -> None:
    package = import_module("benchmark")
    for old in sorted(moved.MOVED, reverse=True):
        sys.modules.pop(f"benchmark.{old}", None)
        vars(package).pop(old, None)


@pytest.fixture(autouse=True)
def _no_older_path_is_imported_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugin_files, "loaded", {})
    forget()
    yield
    forget()


def plugin(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("old", moved.MOVED)
def test_what_has_moved_is_where_the_table_says(old: str) -> None:
    places = [import_module(home) for home in moved.homes(f"benchmark.{old}")]
    assert not (ROOT / "benchmark" / f"{old.replace('.', '/')}.py").exists()
    with pytest.warns(moved.MovedWarning) as heard:
        older = import_module(f"benchmark.{old}")
    assert str(heard[-1].message).startswith(f"benchmark.{old} has moved: import {places[0].__name__}")
    for name, now in moved.RENAMED.get(old, {}).items():
        found = [getattr(place, now) for place in places]
        with pytest.warns(moved.MovedWarning, match=f"{name} is .*{now} now"):
            assert [getattr(older, name)] == found


def test_what_is_set_in_a_module_under_its_older_path_is_set_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(moved.MovedWarning):
        older = import_module("benchmark.archives")
    monkeypatch.setattr(older, "LIMIT", 17)
    assert import_module("benchmark.data.archives").LIMIT == 17


def test_nothing_is_renamed_that_has_not_moved() -> None:
    assert moved.RENAMED.keys() <= moved.MOVED.keys()


def test_a_method_written_against_the_older_paths_gets_the_same_objects(tmp_path: Path) -> None:
    path = plugin(tmp_path, "older", METHOD)
    assert issubclass(moved.MovedWarning, DeprecationWarning)
    with pytest.warns(moved.MovedWarning) as heard:
        registry.load_plugins([path])
    found = vars(plugin_files.loaded[path])
    same = {
        "Asked": import_module("benchmark.core.record").Asked, "Ascent": pixel.PixelAttack, "Images": images.Images,
        "NINE": operations.NINE, "OPS": operations.OPS, "OpName": operations.OpName, "attack": pixel.attack_pixels,
        "attack_mixing": mixing.attack_mixing, "augmix_views": augmix.augmix_views,
        "jensen_shannon": jensen_shannon.jensen_shannon, "mix": augment_mix.mix, "sample_mix": augmix.sample_mix,
        "span": timing.span, "to_uint8": augment_mix.to_uint8,
    }  # fmt: skip
    assert {name: found[name] for name in same} == same
    assert found["image_files"].open_image is image_files.open_image
    assert found["readers"].Array is import_module("benchmark.data.readers").Array
    assert found["spectrum"].AmplitudeAttack is spectrum.AmplitudeAttack
    with pytest.warns(moved.MovedWarning, match="attack is benchmark.ops.attacks.spectrum.attack_spectrum now"):
        assert found["spectrum"].attack is spectrum.attack_spectrum
    said = [str(warning.message) for warning in heard]
    assert len(said) == len(set(said))
    assert "benchmark.timing has moved: import benchmark.core.timing" in said
    assert {warning.filename for warning in heard} == {str(path)}  # which line to edit


def test_a_dataset_written_against_the_older_paths_is_read(tmp_path: Path) -> None:
    with pytest.warns(moved.MovedWarning):
        registry.load_plugins([plugin(tmp_path, "older", DATASET)])
    part = registry.make("dataset", "older", {}).load("plain", "train", None)
    assert isinstance(part, images.Images)
    assert rng.key is vars(plugin_files.loaded[tmp_path / "older.py"])["rng"].key


def test_a_name_that_never_was_is_none(tmp_path: Path) -> None:
    with pytest.warns(moved.MovedWarning), pytest.raises(ImportError, match="nothing"):
        exec("from benchmark.spec import nothing")


def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    given = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    command = [sys.executable, "-m", "benchmark.run", *words, *SMALL]
    return subprocess.run(
        command, cwd=ROOT, env=given | environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_an_installed_package_written_against_the_older_paths_runs_to_the_end(tmp_path: Path) -> None:
    site, out = tmp_path / "site", tmp_path / "out"
    info = site / "older-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: older\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dg_referee.methods]\noldermethod = older_method\n[dg_referee.datasets]\nolderset = older_dataset\n"
    )
    plugin(site, "older_method", METHOD)
    plugin(site, "older_dataset", DATASET)
    words = ["--methods", "oldermethod", "--datasets", "olderset", "--network", "mini_convnet", "--timeout", "300"]
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(*words, "--out", str(out), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (record,) = Store(out).read_all()
    assert (record.asked.method, record.status) == ("oldermethod", "done")
    # each said once, though a worker imports it too
    for old in ("timing", "spec", "consistency", "kernels.augment_mix", "errors"):
        assert done.stderr.count(f"benchmark.{old} has moved") == 1, done.stderr
    assert done.stderr.count("attack is benchmark.ops.attacks.pixel.attack_pixels now") == 1
    assert "Traceback" not in done.stderr
