"""The sequence that trains and measures: with --nproc every process computes alike, and written data is noticed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.core import capture
from benchmark.core.images import Images
from benchmark.core.record import Asked
from benchmark.core.settings import frozen
from benchmark.method import Method, Rng, Source, State
from benchmark.networks import precision
from benchmark.ops import kernels
from benchmark.sensitivity import measure
from benchmark.training import measurements, pipeline, progress
from benchmark.training.artifacts import npy_bytes
from benchmark.training.pipeline import Measured, Options, train_along, train_and_measure
from benchmark.training.progress import Training, begin
from tests import test_layout, toy

CLASSES = ("a", "b", "c", "d")
told: list[Any] = []


@frozen()
class Telling(Method):
    """Notes what its steps are given and computed with."""

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        loss = nn.functional.cross_entropy(net(x), y)
        told.append((rng.step, loss.detach().item(), torch.are_deterministic_algorithms_enabled()))
        return loss


def measured(folder: Path, method: Method, options: Options, **changes: Any) -> Measured:
    found, asked = Measured(), toy.asked(**{"steps": 4} | changes)
    train_and_measure(
        asked, method, toy.loaded(), CLASSES, folder=folder, options=options, report=lambda *_: None, measured=found
    )
    return found


def test_a_process_that_trains_along_computes_as_the_one_that_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same steps, same switches of the libraries; and it leaves no checkpoint."""
    capturing = capture.capturing

    def wanted(device: torch.device, *, wanted: bool) -> Any:
        told.append(("captured", wanted))
        return capturing(device, wanted=wanted)

    monkeypatch.setattr(precision, "use", lambda *switches: told.append(switches))
    monkeypatch.setattr(kernels, "prepare", lambda device: told.append(("prepared", device)))
    monkeypatch.setattr(capture, "capturing", wanted)
    monkeypatch.setattr(pipeline, "throughput_of", lambda *_, **__: None)
    options, device = Options(deterministic=True, launch=True, checkpoint_seconds=0), torch.device("cpu")
    told.clear()
    train_along(toy.asked(steps=4), Telling(), toy.loaded(), folder=tmp_path, options=options)
    along = [*told]
    assert along[:3] == [("prepared", device), ("fp32", device), ("captured", False)]
    assert [(step, on) for step, _, on in along[3:]] == [(0, True), (1, True), (2, True), (3, True)]
    assert not list(tmp_path.iterdir())
    told.clear()
    measured(tmp_path, Telling(), options)
    assert [*along, ("captured", False)] == told  # once more for what the passes cost


def test_options_say_what_is_kept(tmp_path: Path) -> None:
    plain = measured(tmp_path / "plain", Telling(), Options())
    kept = measured(tmp_path / "kept", Telling(), Options(save_weights=True))
    assert (set(plain.files), plain.weights) == ({"views.png"}, None)
    assert set(kept.files) == {"views.png", "weights.safetensors"}
    assert kept.weights is not None
    assert kept.weights.classes == CLASSES
    assert kept.accuracy == plain.accuracy


def test_images_that_were_written_into_end_the_run_and_what_there_was_is_known(tmp_path: Path) -> None:
    found = Measured(notes=["before"])
    with pytest.raises(RuntimeError, match="wrote into the images"):
        train_and_measure(
            toy.asked(steps=4), Writing("val"), toy.loaded(), CLASSES,
            folder=tmp_path, options=Options(), report=lambda *_: None, measured=found,
        )  # fmt: skip
    assert found.run is not None
    assert found.run.step == 4
    assert found.warnings[0] == "before"


TRIAL = "benchmark.runs.trial"


def test_what_stands_above_holds_nothing_that_trains_or_measures() -> None:
    """The hash of the code (runs/code_hash.py) leaves runs/ out: whatever a number depends on is imported below it.

    A trial trains too, for an estimate of time; nothing of it goes into a record."""
    trains = {f"benchmark.training.{name}" for name in ("measurements", "determinism", "data_parallel", "steps")}
    trains |= {"benchmark.core.capture", "benchmark.ops.kernels", "benchmark.training.optimise"}
    graph = test_layout.imports(test_layout.project())
    found = {name: graph[name] & trains for name in graph if name.startswith("benchmark.runs.") and name != TRIAL}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert graph["benchmark.training.pipeline"] >= trains - {"benchmark.training.steps", "benchmark.training.optimise"}


@frozen()
class Writing(Method):
    """Writes into what it is given."""

    part: str = "images"
    tensor: str = "x"

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        getattr(getattr(source, self.part), self.tensor).zero_()
        return {}

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return nn.functional.cross_entropy(net(x), y)


@pytest.mark.parametrize("part", ["images", "val"])
@pytest.mark.parametrize("tensor", ["x", "y"])
def test_images_and_labels_that_were_written_into_end_the_run(part: str, tensor: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="wrote into the images"):
        measured(tmp_path, Writing(part, tensor), Options())


def constant(net: nn.Module, label: int) -> dict[str, Tensor]:
    """Weights with which the network says the same of every image."""
    made = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    made["head.bias"][label] = 1
    return made


def test_the_map_and_the_views_are_of_the_network_that_was_chosen() -> None:
    said: list[list[int]] = []

    @frozen()
    class Saying(Method):
        def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
            said.append(net(x).argmax(dim=1).tolist())
            return []

    asked, method = toy.asked(sensitivity_images=8), Saying()
    for shown in (False, True):
        run = begin(asked, method, toy.loaded())
        run.best = constant(run.net, 1)
        run.net.load_state_dict(constant(run.net, 2))
        if shown:
            measurements.views_of(run, asked, method, toy.loaded().train)
        else:
            val = Images(toy.images(8, 1).x, torch.ones(8, dtype=torch.int64))
            found, _ = measurements.sensitivity_of(run, asked, val)
            assert found is not None
            assert found.clean_error == 0
    assert said == [[1] * 8]


def test_the_map_is_of_validation_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Images] = []

    def noted(run: Training, asked: Asked, images: Images) -> tuple[None, None]:
        given.append(images)
        return None, None

    monkeypatch.setattr(pipeline, "sensitivity_of", noted)
    measured(tmp_path, Telling(), Options())
    assert [torch.equal(images.x, toy.loaded().val.x) for images in given] == [True]


def test_the_map_has_the_draws_of_the_runs_seed() -> None:
    asked, loaded = toy.asked(seed=7, sensitivity_images=8), toy.loaded()
    run = begin(asked, Telling(), loaded)
    run.best = run.net.state_dict()
    _, found = measurements.sensitivity_of(run, asked, loaded.val)
    by_seed = {seed: npy_bytes(measure(run.net, loaded.val, seed=seed, limit=8).error.numpy()) for seed in (0, 7)}
    assert found == by_seed[7] != by_seed[0]


def test_the_views_are_shown_as_late_in_the_training_as_can_be() -> None:
    shares: list[float] = []

    @frozen()
    class Scheduled(Method):
        def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
            shares.append(rng.progress)
            return [x]

    asked, method = toy.asked(), Scheduled()
    run = begin(asked, method, toy.loaded())
    run.best = run.net.state_dict()
    measurements.views_of(run, asked, method, toy.loaded().train)
    assert 1 - 1e-9 < shares[0] < 1


@pytest.mark.parametrize(("side", "grid"), [(32, None), (40, 32)])
def test_a_map_records_its_error_and_whether_it_was_interpolated(side: int, grid: int | None) -> None:
    asked, loaded = toy.asked(sensitivity_images=6, network="timm:test_resnet"), toy.loaded()
    run = begin(asked, Telling(), loaded)
    run.best = run.net.state_dict()
    images = Images(torch.nn.functional.pad(loaded.val.x, (0, side - 32, 0, side - 32)), loaded.val.y)
    found, content = measurements.sensitivity_of(run, asked, images)
    assert found is not None
    assert content is not None
    assert (found.grid, found.n_images, found.radius) == (grid, 6, side / 4)
    assert found.mean_standard_error is not None
    assert 0 < found.mean_standard_error < 0.5


def test_a_run_normalises_as_its_weights_were_trained_and_says_how() -> None:
    """timm's weights of this network were trained with 0.5; from scratch it takes ImageNet's numbers."""
    for network, weights, wanted in (
        ("timm:tf_efficientnet_lite0", "scratch", ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ("timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k", ([0.5] * 3, [0.5] * 3)),
        ("digits_convnet_01", "scratch", ([0.0] * 3, [1.0] * 3)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress, "load_weights", lambda *about: None)
            run = begin(toy.asked(network=network, weights=weights), Telling(), toy.loaded())
        mean, std = run.normalisation
        assert mean == pytest.approx(wanted[0]), network
        assert std == pytest.approx(wanted[1]), network
