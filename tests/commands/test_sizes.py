"""Every method at sizes other than 32x32, through the dataset `folder`, and whole runs of the command line on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import data, networks, registry, run
from benchmark.core.errors import UsageError
from benchmark.runs.store import Store
from benchmark.training.loop import train
from benchmark.training.progress import begin
from tests import toy
from tests.conftest import own_warnings
from tests.faults.harness import light


def folder(root: Path, height: int, width: int) -> Path:
    """Two domains of two classes, twelve noisy images of each."""
    draws = np.random.default_rng(0)
    for domain in ("clay", "ink"):
        for kind in ("cat", "dog"):
            (root / domain / kind).mkdir(parents=True)
            for i in range(12):
                pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / domain / kind / f"{i}.png")
    return root


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 32)])
@pytest.mark.parametrize("name", registry.names("method"))
def test_every_method_trains_at_other_sizes(tmp_path: Path, name: str, height: int, width: int) -> None:
    loaded = data.load(
        registry.make("dataset", "folder", {"val_share": 0.3}), "clay", folder(tmp_path / "own", height, width)
    )
    settings = dict(registry.find("method", name).toy)
    settings |= {"batch": 2, "interval": 1} if name in ("gud", "mada", "me_ada", "advst") else {}  # images of their own
    settings |= {"pre_rounds": 0} if name in ("aba", "alt") else {}  # no round without the learned views
    settings |= {"weight_map": "none"} if name == "sada" and height != width else {}
    method = registry.make("method", name, settings)
    asked = toy.asked(name, steps=2, evaluations=1, network="timm:test_resnet", loader="crop_flip", batch_size=4)
    trained = begin(asked, method, loaded)
    train(trained, asked, method, loaded, tmp_path)
    assert trained.step == 2
    assert set(trained.curve[-1]["test"]) == {"clay", "ink"}


def call(tmp_path: Path, *words: str) -> int:
    base = ["--datasets", "folder", "--methods", "erm", "--seeds", "0", "--steps", "2", "--evaluations", "1"]
    base += ["--set", "folder.val_share=0.3", "--device", "cpu", "--out", str(tmp_path / "out")]
    with light():
        return run.main([*base, "--data-dir", str(tmp_path / "own"), *words])


def test_a_folder_runs_from_start_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder(tmp_path / "own", 40, 40)
    for path in (own / "ink" / "dog").iterdir():
        path.unlink()
    toy.change_recipe(monkeypatch, "folder", network="timm:test_resnet")
    assert call(tmp_path, "--sensitivity-images", "0", "--sources", "clay") == 0
    (record,) = Store(tmp_path / "out").read_all()
    assert own_warnings(record) == ["ink: no image of 1 classes: dog"]
    assert record.asked.recipe.weights == "scratch"
    assert record.accuracy is not None
    assert record.accuracy.domains["ink"].n == 12
    assert str(tmp_path) not in record.asked.model_dump_json()


@pytest.mark.parametrize(
    ("size", "words", "says"),
    [
        ((48, 32), [], "needs square ones"),
        ((64, 64), ["--weights", "nothing.pt"], "nor a .safetensors file"),
        ((64, 64), ["--sources", "clay+inc"], "did you mean 'ink'"),
        ((64, 64), ["--set", "folder.fit=stretch"], "folder.fit=stretch"),
        ((64, 64), ["--set", "folder.val_share=1.5"], "folder.val_share=1.5"),
        ((64, 64), ["--set", "folder.size=-3"], "folder.size=-3"),
    ],
)
def test_bad_usage_is_one_message_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: tuple[int, int], words: list[str], says: str
) -> None:
    folder(tmp_path / "own", *size)
    assert call(tmp_path, *words) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("error:") == 1


def test_a_network_that_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "own", 64, 64)
    toy.change_recipe(monkeypatch, "folder", network="digits_convnet")
    assert call(tmp_path) == 2
    assert "network 'digits_convnet' does not take images of 64x64" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "runs").glob("[0-9a-f]*"))


@pytest.mark.parametrize(
    ("name", "side", "batch", "says"),
    [
        ("resnet18_cifar", 8, 1, "does not train on batches of 1 images of 8x8"),
        ("timm:resnet18", 32, 1, "give a larger --batch-size, larger images or another --network"),
        ("resnet18_cifar", 8, 2, ""),
        ("timm:resnet18", 32, 2, ""),
        ("resnet18_cifar", 32, 1, ""),
        ("digits_convnet", 32, 1, ""),
    ],
)
def test_a_batch_that_a_network_cannot_train_on_is_refused_before_training(
    name: str, side: int, batch: int, says: str
) -> None:
    if not says:
        return networks.check_size(name, side, side, batch)
    with pytest.raises(UsageError, match=says):
        networks.check_size(name, side, side, batch)
    return None
