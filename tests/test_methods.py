"""The common suite: every file in methods/ passes it, and a new one gets it free."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark import networks, registry
from benchmark.method import Method, Rng, Source
from benchmark.networks import Classifier
from benchmark.optimise import fit_erm
from benchmark.spec import Images
from benchmark.train import train
from benchmark.training import begin
from tests import toy
from tests.conftest import ROOT

NAMES = registry.names("method")
METHODS = pytest.mark.parametrize("name", NAMES)


def make(name: str, **settings: Any) -> Method:
    cls = registry.find("method", name)
    method: Method = registry.make("method", name, {**cls.toy, **settings})
    return method


def run(name: str, folder: Path, seed: int = 0, **changes: Any) -> Any:
    asked = toy.asked(name, seed, **changes)
    method, data = make(name), toy.loaded()
    trained = begin(asked, method, data)
    train(trained, asked, method, data, folder)
    return trained


def fitted() -> tuple[Classifier, Images]:
    """A network that solves the toy problem, and images of it."""
    net, pool = networks.build("mini_convnet", 4, 0), toy.images(64, 0)
    fit_erm(net, pool, toy.RECIPE, 30, Rng(0))
    return net, toy.images(16, 5)


def prepared(name: str, net: Classifier, **settings: Any) -> tuple[Method, dict[str, Any]]:
    method = make(name, **settings)
    pool = toy.images(64, 0)
    source = Source(
        pool, toy.images(32, 1), len(pool), 16, lambda helper, rng: fit_erm(helper, pool, toy.RECIPE, 4, rng)
    )
    return method, method.setup(net, source, Rng(0))


def weights(net: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@METHODS
def test_learns_the_toy_problem_with_finite_losses(name: str, tmp_path: Path) -> None:
    trained = run(name, tmp_path, steps=60, evaluations=6)
    losses = [point["loss"] for point in trained.curve]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert min(losses[1:]) < losses[0]
    assert trained.curve[-1]["val"] > 40  # chance is 25 %


@METHODS
def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(name: str, tmp_path: Path) -> None:
    first, again, other = (run(name, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    assert torch.equal(weights(first.net), weights(again.net))
    assert first.curve == again.curve
    assert not torch.equal(weights(first.net), weights(other.net))


@METHODS
@pytest.mark.parametrize("training", [True, False])
def test_leaves_mode_flags_and_inputs_as_found(name: str, training: bool) -> None:
    net, batch = fitted()
    method, state = prepared(name, net)
    net.train(training)
    x, y = batch.unit(), batch.y
    kept, flags, before = (x.clone(), y.clone()), [p.requires_grad for p in net.parameters()], weights(net)
    method.views(net, x, y, Rng(0, 3, 0.5), state)
    method.loss(net, x, y, Rng(0, 3, 0.5), state)
    method.expand(net, Source(batch, batch, len(batch), 16, lambda helper, rng: None), Rng(0, 99, 0.5), 99, state)
    assert all(module.training == training for module in net.modules())
    assert flags == [p.requires_grad for p in net.parameters()]
    assert torch.equal(weights(net), before)
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


@METHODS
def test_labels_follow_their_images(name: str) -> None:
    net, batch = fitted()
    method, state = prepared(name, net)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    x = batch.unit()[order]

    def mean_loss(y: Tensor) -> float:
        return sum(method.loss(net, x, y, Rng(0, step, 0.5), state).item() for step in range(5)) / 5

    assert mean_loss(batch.y[order]) < mean_loss((batch.y[order] + 1) % 4)


@METHODS
def test_a_view_depends_on_its_own_image_alone(name: str) -> None:
    net, batch = fitted()
    method, state = prepared(name, net, **registry.find("method", name).uncoupled)
    x = batch.unit()
    changed = x.clone()
    changed[1:] = toy.images(16, 9).unit()[1:] * 0.5
    views = method.views(net, x, batch.y, Rng(0, 3, 0.5), state)
    others = method.views(net, changed, batch.y, Rng(0, 3, 0.5), state)
    assert len(views) == len(others)
    for view, other in zip(views, others, strict=True):
        assert view.shape == x.shape
        torch.testing.assert_close(view[0], other[0], rtol=0, atol=1e-5)
        assert not torch.allclose(view[1:], other[1:])


@METHODS
def test_reduces_to_erm_at_its_degenerate_settings(name: str) -> None:
    net, batch = fitted()
    method, state = prepared(name, net, **registry.find("method", name).erm_at)
    x = batch.unit()
    for progress in (0.0, 0.5):
        loss = method.loss(net, x, batch.y, Rng(0, 3, progress), state)
        torch.testing.assert_close(loss, F.cross_entropy(net(x), batch.y), rtol=1e-6, atol=1e-7)


@METHODS
def test_state_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    net, batch = fitted()
    method, state = prepared(name, net)
    for step in range(12):
        source = Source(batch, batch, len(batch), 16, lambda helper, rng: None)
        method.expand(net, source, Rng(0, step), step, state)
    torch.save(state, tmp_path / "state.pt")
    again = torch.load(tmp_path / "state.pt", weights_only=True)
    x, rng = batch.unit(), Rng(0, 20, 0.5)
    first, second = (method.loss(net, x, batch.y, rng, s) for s in (state, again))
    assert torch.equal(first, second)


@METHODS
def test_file_is_short_documented_and_independent(name: str) -> None:
    path = registry.source_file("method", name)
    tree = ast.parse(path.read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} | {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    assert not [module for module in imported if module and "methods" in module]
    assert len(path.read_text().splitlines()) <= 120
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()
    assert len(registry.summary("method", name)) <= 120
