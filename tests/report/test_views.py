"""The picture of a method's views that lies beside a run's record."""

import io
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import torch
from PIL import Image

from benchmark import registry
from benchmark.core.record import Record
from benchmark.runs.args import Args
from benchmark.runs.engines.local import run_jobs
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from benchmark.training.artifacts import SHOWN
from benchmark.training.measurements import picture_sheet
from tests.conftest import own_warnings

PLUGIN = '''"""Cross-entropy, and views of its own."""
import torch
from benchmark import method
from torch.nn.functional import cross_entropy

@method.frozen()
class Method(method.Method):
    def views(self, net, x, y, rng, state):
        {views}

    def loss(self, net, x, y, rng, state):
        return cross_entropy(net(x), y)
'''


def opened(content: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_sheet_has_a_strip_for_each_tensor_and_cuts_off_what_is_out_of_range() -> None:
    x = torch.zeros(SHOWN, 3, 4, 4)
    x[1, 0] = 2.0  # the second image is red, brighter than there is
    x[2] = float("nan")
    pixels = opened(picture_sheet([x, 1 - x]))
    assert pixels.shape == (8, 4 * SHOWN, 3)
    assert (pixels[:4, 4:8] == [255, 0, 0]).all()
    assert (pixels[4:, 4:8] == [0, 255, 255]).all()
    assert (pixels[:4, 8:] == 0).all()


def test_large_images_are_made_small() -> None:
    assert opened(picture_sheet([torch.zeros(SHOWN, 3, 224, 224)])).shape == (96, 96 * SHOWN, 3)


def made(out: Path, method: str, *plugin: Path) -> Record:
    """The record of a short run."""
    registry.load_plugins(plugin)
    short = Args(
        methods=(method,), seeds=(0,), steps=4, evaluations=1, sensitivity_images=0, device="cpu", out=out,
        plugin=plugin,
    )  # fmt: skip
    store = Store(out)
    store.prepare()
    run_jobs(plan(short), 1, Mock())
    (record,) = store.read_all()
    return record


def test_a_run_keeps_its_views_and_none_of_them_changes_a_number(tmp_path: Path) -> None:
    plugins = {"good": "return [1 - x, x / 2, x, x]", "bad": "torch.rand(3); raise OSError('<broken> on purpose')"}
    found = {}
    for name, views in plugins.items():
        (tmp_path / name).mkdir()
        plugin = tmp_path / name / "custom.py"
        plugin.write_text(PLUGIN.format(views=views))
        found[name] = made(tmp_path / name / "out", "custom", plugin)
    good, bad = (Store(tmp_path / name / "out").views([record]) for name, record in found.items())
    assert found["good"].accuracy == found["bad"].accuracy
    assert own_warnings(found["good"]) == []
    assert own_warnings(found["bad"]) == ["no picture of the views: OSError: <broken> on purpose"]
    assert bad == {}
    source, inverse, half, same = np.split(opened(good[found["good"].run_id]).astype(int), 4)
    assert (inverse == 255 - source).all()
    assert (abs(half - source / 2) <= 0.5).all()
    assert (same == source).all()


def test_erm_shows_the_source_images_alone(tmp_path: Path) -> None:
    record = made(tmp_path, "erm")
    height, width, _ = opened(Store(tmp_path).views([record])[record.run_id]).shape
    assert width == SHOWN * height
