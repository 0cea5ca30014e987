"""What was asked for reaches the run: rate and progress, loader, optimiser, seeds, helper, rule, precision, code."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import registry
from benchmark.core.images import Images
from benchmark.core.outcome import Calibration
from benchmark.core.recipe import Recipe
from benchmark.core.settings import frozen
from benchmark.method import Method, Rng, Source, State
from benchmark.training import loop, pipeline
from benchmark.training.budget import Budget
from benchmark.training.loop import source_of, train
from benchmark.training.optimise import Sampler, make_optimizer, set_rate
from benchmark.training.pipeline import Options
from benchmark.training.progress import Training, begin
from tests import toy
from tests.training.test_pipeline import measured

CPU = torch.device("cpu")


@frozen()
class Noting(Method):
    """Notes what it is given; each loss takes so many passes."""

    taken: int = 1
    stop_at: int = -1

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        return {"seeds": [rng.seed], "progress": [], "images": []}

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if rng.step == self.stop_at:
            raise KeyboardInterrupt
        state["progress"].append(rng.progress)
        state["images"].append(x)
        return sum((F.cross_entropy(net(x), y) for _ in range(self.taken)), torch.zeros(()))


def run(folder: Path, method: Method | None = None, **changes: Any) -> Training:
    asked, method = toy.asked(**changes), method or Noting()
    trained = begin(asked, method, toy.loaded())
    train(trained, asked, method, toy.loaded(), folder, code="c", checkpoint_seconds=changes.get("every", 1e9))
    return trained


@pytest.mark.parametrize(
    ("budget", "taken", "shares"),
    [("steps", 1, [0, 0.25, 0.5, 0.75]), ("passes", 1, [0, 0.25, 0.5, 0.75]), ("passes", 2, [0, 0.5])],
)
def test_the_rate_and_the_methods_progress_follow_the_budget(
    budget: str, taken: int, shares: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def noted(optimizer: torch.optim.Optimizer, recipe: Recipe, share: float) -> None:
        set_rate(optimizer, recipe, share)
        rates.append(float(optimizer.param_groups[0]["lr"]))

    monkeypatch.setattr(loop, "set_rate", noted)
    trained = run(tmp_path, Noting(taken), budget=budget, steps=4, schedule="cosine", lr=0.5)
    assert trained.state["progress"] == pytest.approx(shares)
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * share)) for share in shares])


@pytest.mark.parametrize("loader", ["jitter_log", "crop_flip", "pad_crop_flip"])
def test_a_method_sees_what_the_loader_makes(loader: str, tmp_path: Path) -> None:
    plain, changed = (run(tmp_path, steps=1, loader=name).state["images"][0] for name in ("plain", loader))
    assert plain.shape == changed.shape
    assert not torch.allclose(plain, changed)


def test_the_optimiser_has_what_the_recipe_says() -> None:
    net = nn.Linear(1, 1)
    sgd = {"lr": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    for kind, wanted in {"sgd": sgd, "adam": {"lr": 0.5, "weight_decay": 0.01}}.items():
        made = make_optimizer(net, Recipe(network="mini_convnet", optimizer=kind, **sgd))
        (group,) = made.param_groups
        assert {name: group[name] for name in wanted} == pytest.approx(wanted)
        assert type(made) is {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]  # AdamW is a kind of Adam
        if kind == "adam":
            assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.9, 0.999), 1e-8, False)
        else:
            assert (group["dampening"], group["maximize"]) == (0, False)


def test_each_seed_has_weights_and_draws_of_its_own(tmp_path: Path) -> None:
    first = [begin(toy.asked(seed=seed), Noting(), toy.loaded()).net.get_parameter("head.weight") for seed in (0, 0, 1)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert [run(tmp_path, seed=seed, steps=1).state["seeds"] for seed in (0, 7)] == [[0], [7]]


@pytest.mark.parametrize(("budget", "steps"), [("steps", 8), ("passes", 2)])
def test_a_helper_learns_the_training_images_for_its_share(
    budget: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, loaded, method = toy.asked(budget=budget), toy.loaded(), registry.make("method", "augmix", {})
    assert method.passes == 3
    given: list[Any] = []
    monkeypatch.setattr(loop, "fit_erm", lambda *about: given.append(about))
    source = source_of(begin(asked, method, loaded), method, Budget(asked), loaded.val)
    source.fit_erm(nn.Linear(1, 1), Rng(0))
    ((_, images, recipe, count, _),) = given
    assert torch.equal(images.x, loaded.train.x)
    assert (recipe, count) == (asked.recipe, steps)
    assert torch.equal(source.val.x, loaded.val.x)
    assert torch.equal(source.images.x, loaded.train.x)


@pytest.mark.parametrize("rule", ["last", "last-within-5", "source-val-views"])
def test_the_rule_that_was_asked_for_is_that_of_accuracy_and_calibration(rule: str, tmp_path: Path) -> None:
    @frozen()
    class Seen(Noting):
        def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
            return [x]

    found = measured(tmp_path, Seen(), Options(), selection=rule, steps=6, evaluations=6)
    assert found.accuracy is not None
    assert found.calibration is not None
    assert found.run is not None
    step = found.accuracy.selected_step[rule]  # type: ignore[index]
    (point,) = [point for point in found.run.curve if point["step"] == step]
    assert found.accuracy.source_val[rule] == point["val"]  # type: ignore[index]
    assert found.calibration == Calibration.model_validate(point["calibration"])
    assert rule != "last" or step == 6


def test_calibration_is_of_the_last_point_under_the_rule_last(tmp_path: Path) -> None:
    @frozen()
    class Forgetting(Noting):
        """Learns something else at the end: the last point is worse than the best."""

        def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
            return F.cross_entropy(net(x), y if rng.step < 30 else (y + 1) % 4)

    last, best = (
        measured(tmp_path / rule, Forgetting(), Options(), selection=rule, steps=40, evaluations=4, lr=0.01).calibration
        for rule in ("last", "source-val")
    )
    assert last is not None
    assert best is not None
    assert last.source_val != best.source_val


def test_what_a_run_could_have_cost_is_measured_in_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(pipeline, "throughput_of", lambda *about, **named: given.append((about[1:], named)))
    monkeypatch.setattr(pipeline, "reset_peak_memory", given.append)
    measured(tmp_path, Noting(), Options(), precision="bf16", steps=1, evaluations=1)
    assert given == [CPU, ((16, CPU, "bf16"), {"sharing": 1})]  # the peak of memory is the run's own


def test_a_timed_run_ends_at_one_and_is_scored_even_if_nothing_fits(tmp_path: Path) -> None:
    (*_, last) = run(tmp_path / "some", budget="time", seconds=0.2).curve
    assert last["progress"] == 1
    (only,) = run(tmp_path / "none", budget="time", seconds=1e-9).curve
    assert (only["step"], only["progress"]) == (0, 1)


def test_an_epoch_ends_with_the_pool_where_it_is_to_be_longer() -> None:
    sampler = Sampler(0, Recipe(network="mini_convnet", batch_size=4, epoch_steps=250))
    assert [len(sampler.index(step, 10)) for step in range(7)] == [4] * 7


def test_clock_and_notes_go_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    asked, method = toy.asked(), Noting(stop_at=5)
    first = begin(asked, method, toy.loaded())
    first.notes.append("something before")
    first.seconds = 1000.0
    with pytest.raises(KeyboardInterrupt):
        train(first, asked, method, toy.loaded(), tmp_path, code="c", checkpoint_seconds=0)
    again = run(tmp_path)
    assert again.resumed == 1
    assert again.notes == ["something before"]
    assert 1000 < again.seconds < 1100


def test_images_of_the_pool_are_those_of_the_training_part() -> None:
    trained = begin(toy.asked(), Noting(), toy.loaded())
    assert torch.equal(trained.pool.x, toy.loaded().train.x)
    assert isinstance(trained.pool, Images)


def test_a_seed_gives_every_method_the_same_network_and_the_same_batches(tmp_path: Path) -> None:
    found: list[tuple[list[Tensor], list[Tensor]]] = []
    for name in ("erm", "augmix"):
        asked, method, data = toy.asked(name, steps=6, loader="crop_flip"), Noting(), toy.loaded()
        trained = begin(asked, method, data)
        first = [weight.detach().clone() for weight in trained.net.parameters()]
        train(trained, asked, method, data, tmp_path / name)
        found.append((first, trained.state["images"]))
    for one, other in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
