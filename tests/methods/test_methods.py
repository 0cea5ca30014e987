"""The common suite of methods: what benchmark/method.py asks of each, and nothing else.

It runs on all of methods/ and of installed packages, or, with --plugin=FILE, on the method in that file.
"""

import random
import re
from collections.abc import Hashable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks, registry
from benchmark.core.images import Images
from benchmark.core.timing import Meter
from benchmark.method import Choice, Method, Range, Rng, Source, State
from benchmark.training.loop import train
from benchmark.training.optimise import fit_erm
from benchmark.training.progress import begin
from tests import toy
from tests.conftest import under_test
from tests.core.replaying import DEVICES, replaying, same, trained
from tests.recorders import Double

METHODS = pytest.mark.parametrize("name", under_test("method"))
NETWORKS = pytest.mark.parametrize("network", ["mini_convnet", "timm:test_resnet"])
LENGTH, HALF = 24, 12
"""Steps of a run that is not trained, and the one that the methods are looked at in."""
READS_A_DRAW_ON_A_CPU = ("aba", "alt", "prime", "randconv")
"""There the host looks at what was drawn, which is noticed, so its steps are launched."""

SEES_THE_SOURCE = [
    name
    for name in registry.names("method")
    if name != "sada"  # its map is of held-out images
    and any(getattr(registry.find("method", name), hook) is not getattr(Method, hook) for hook in ("setup", "expand"))
]
"""Methods with a hook that is given the source's images. A plugin's may read the held-out ones; these do not."""
SOONER: dict[str, dict[str, Any]] = {"advst": {"interval": 3}}
"""Settings with which the short runs come to what a method's toy settings begin later: AdvST's own images. Not for all:
once AdvST trains on those, its loss is not of the batch."""


def make(name: str, **settings: Any) -> Method:
    cls = registry.find("method", name)
    return registry.make("method", name, {**cls.toy, **settings})


def run(name: str, folder: Path, seed: int = 0, method: Method | None = None, **changes: Any) -> Any:
    asked = toy.asked(name, seed, **changes)
    method, data = method or make(name), toy.loaded()
    trained = begin(asked, method, data)
    train(trained, asked, method, data, folder)
    return trained


@dataclass
class Ready:
    """A method in a run as the referee leads it, with a network that solves the toy problem and is not trained on."""

    method: Method
    net: nn.Module
    source: Source
    state: State
    expanded: int = 0
    """Steps before which `expand` has been called."""

    def advance(self, to: int) -> Rng:
        """Goes on to this step, by way of those before it. Returns what it draws from."""
        for step in range(self.expanded, to + 1):
            extra = self.method.expand(self.net, self.source, rng_at(step), step, self.state)
            if extra is not None:
                self.source = self.source.with_pool(self.source.images + extra)
        self.expanded = to + 1
        return rng_at(to)

    def views(self, batch: Images, rng: Rng) -> list[Tensor]:
        return self.method.views(self.net, batch.unit(), batch.y, rng, self.state)

    def loss(self, batch: Images, rng: Rng) -> Tensor:
        return self.method.loss(self.net, batch.unit(), batch.y, rng, self.state)


def rng_at(step: int) -> Rng:
    return Rng(0, step, step / LENGTH)


SOLVING: dict[Hashable, dict[str, Tensor]] = {}
"""Weights that solve the toy problem, by the network and how it was wrapped: nine tests of each method begin there."""


def solving(method: Method, network: str = "mini_convnet") -> nn.Module:
    net, wrap = method.wrap(networks.build(network, 4, 0)), type(method).wrap
    key = network, None if wrap is Method.wrap else (wrap, repr(method.settings()))
    if key not in SOLVING:
        fit_erm(net, toy.images(64, 0), toy.RECIPE, 30, Rng(0))
        SOLVING[key] = deepcopy(net.state_dict())
    net.zero_grad()  # as where nothing was fitted
    net.load_state_dict(SOLVING[key])
    return net.train()


def ready(name: str, network: str = "mini_convnet", **settings: Any) -> Ready:
    method, pool = make(name, **settings), toy.images(64, 0)
    net = solving(method, network)
    source = Source(
        pool, toy.images(32, 1), len(pool), 16, lambda helper, rng: fit_erm(helper, pool, toy.RECIPE, 4, rng)
    )
    return Ready(method, net, source, method.setup(net, source, Rng(0)))


def batch() -> Images:
    return toy.images(16, 5)


def weights(net: nn.Module) -> Tensor:
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
    method = make(name, **SOONER.get(name, {}))
    first, again, other = (run(name, tmp_path / str(i), seed, method) for i, seed in enumerate((0, 0, 1)))
    assert torch.equal(weights(first.net), weights(again.net))
    assert first.curve == again.curve
    assert not torch.equal(weights(first.net), weights(other.net))


@pytest.mark.parametrize("name", SEES_THE_SOURCE)
def test_held_out_images_train_nothing(name: str, tmp_path: Path) -> None:
    """They select the checkpoint. A method that trained on them would select itself."""
    method, found = make(name, **SOONER.get(name, {})), []
    for seed in (1, 77):
        asked = toy.asked(name, steps=12, selection="last")
        held = replace(toy.loaded(), val=toy.images(32, seed))
        trained = begin(asked, method, held)
        train(trained, asked, method, held, tmp_path / str(seed))
        found.append(weights(trained.net))
    assert torch.equal(*found)


@METHODS
@NETWORKS
def test_the_loss_is_a_finite_scalar_with_a_gradient(name: str, network: str) -> None:
    at = ready(name, network)
    for step in (0, HALF):
        loss = at.loss(batch(), at.advance(step))
        assert loss.shape == ()
        assert torch.isfinite(loss)
        found = torch.autograd.grad(loss, [p for p in at.net.parameters() if p.requires_grad], allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in found), "no weight has a gradient"


@METHODS
@pytest.mark.parametrize("training", [True, False])
def test_leaves_everything_as_found(name: str, training: bool) -> None:
    method, pool, val, images = make(name, **SOONER.get(name, {})), toy.images(64, 0), toy.images(32, 1), batch()
    net = solving(method).train(training)
    x, y = images.unit(), images.y

    def found() -> dict[str, Any]:
        modules, parameters = [*net.modules()], [*net.parameters()]
        return {
            "the network's mode": [module.training for module in modules],
            "its hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules],
            "requires_grad": [p.requires_grad for p in parameters],
            "its weights": [p.tolist() for p in parameters],
            "the batch": (x.tolist(), y.tolist()),
            "the source": [part.tolist() for part in (pool.x, pool.y, val.x, val.y)],
        }

    before = found()
    source = Source(pool, val, len(pool), 16, lambda helper, rng: fit_erm(helper, pool, toy.RECIPE, 4, rng))
    at = Ready(method, net, source, method.setup(net, source, Rng(0)))
    for step in range(HALF + 1):
        rng = at.advance(step)
        if training or step in (0, HALF):
            method.views(net, x, y, rng, at.state)
            method.loss(net, x, y, rng, at.state)
    after = found()
    assert [what for what in before if before[what] != after[what]] == []


@METHODS
def test_draws_from_rng_alone(name: str) -> None:
    def everybodys() -> tuple[Any, ...]:
        numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - whoever uses it is to be found out
        return torch.get_rng_state().tolist(), random.getstate(), numpy["state"]["pos"], numpy["state"]["key"].tolist()

    at, before = ready(name, **SOONER.get(name, {})), everybodys()
    at.state = at.method.setup(at.net, at.source, Rng(0))
    rng = at.advance(HALF)
    first, again = (at.loss(batch(), rng).item() for _ in range(2))
    at.views(batch(), rng)
    assert first == again, "two losses of one step differ: it draws otherwise, or changes `state`"
    assert everybodys() == before, "it draws from a generator that everybody shares"


@METHODS
def test_labels_follow_their_images(name: str) -> None:
    at = ready(name)
    images = batch()[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    wrong, right, shifted = Images(images.x, (images.y + 1) % 4), 0.0, 0.0
    for step in range(HALF, HALF + 5):
        rng = at.advance(step)
        right += at.loss(images, rng).item()
        shifted += at.loss(wrong, rng).item()
    assert right < shifted, "wrong labels cost no more than right ones"


@METHODS
def test_a_view_depends_on_its_own_image_alone(name: str) -> None:
    settings = registry.find("method", name).uncoupled
    if settings is None:
        pytest.skip("no setting keeps the images of a batch apart (uncoupled = None)")
    at, images = ready(name, **settings), batch()
    rng = at.advance(HALF)
    changed = images.unit().clone()
    changed[1:] = toy.images(16, 9).unit()[1:] * 0.5
    views, others = at.views(images, rng), at.views(Images(changed, images.y), rng)
    if not views:
        pytest.skip("it makes no views")
    for view, other in zip(views, others, strict=True):
        assert view.shape == images.x.shape
        torch.testing.assert_close(view[0], other[0], rtol=0, atol=1e-5, msg="the view of an image is made of others")
        assert not torch.allclose(view[1:], other[1:]), "the view of an image is not made of it"


@METHODS
def test_the_making_of_views_is_not_charged_to_the_network(name: str) -> None:
    at = ready(name)
    rng = at.advance(HALF)
    with Meter(torch.device("cpu")).running(at.net) as meter:
        if not at.views(batch(), rng):
            pytest.skip("it makes no views")
    assert meter.read().keys() & {"augment", "attack"}, "make views within span('augment') or span('attack')"


@METHODS
def test_reduces_to_erm_at_its_degenerate_settings(name: str) -> None:
    settings = registry.find("method", name).erm_at
    if settings is None:
        pytest.skip("no setting makes it ERM (erm_at = None)")
    at, images = ready(name, **settings), Images(batch().x, batch().y.flip(0))  # labels that the network gets wrong
    for step in (0, HALF):
        loss = at.loss(images, at.advance(step))
        torch.testing.assert_close(loss, F.cross_entropy(at.net(images.unit()), images.y), rtol=1e-6, atol=1e-7)


@METHODS
def test_a_search_draws_from_ranges_that_the_method_takes(name: str) -> None:
    cls = registry.find("method", name)
    plain = registry.make("method", name, {}).settings()
    assert len(cls.searched) <= 3, "a small search: one to three fields"
    for field, found in cls.searched.items():
        assert isinstance(found, Range | Choice), f"searched['{field}'] is {found!r}; write Range or Choice"
        assert field in plain, f"searched names '{field}', which is no field"
        assert plain[field] in found, f"the default {field}={plain[field]} is outside of what is searched: {found}"
        for value in found.ends:
            made = registry.make("method", name, {field: value}).settings()[field]
            assert made == value, f"{field}={value} becomes {made}"


@METHODS
def test_state_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    at = ready(name, **SOONER.get(name, {}))
    at.advance(HALF)
    torch.save(at.state, tmp_path / "state.pt")
    again = Ready(at.method, at.net, at.source, torch.load(tmp_path / "state.pt", weights_only=True), HALF + 1)
    for step in range(HALF + 1, HALF + 5):
        first, second = (one.loss(batch(), one.advance(step)) for one in (at, again))
        assert torch.equal(first, second)


@DEVICES
@METHODS
def test_a_replayed_run_is_the_launched_one_bit_for_bit(name: str, device: str, tmp_path: Path) -> None:
    method, double = make(name), Double()
    if not method.replayable:
        pytest.skip("it does not say that its steps can be replayed (replayable = False)")
    launched = trained(method, device, tmp_path / "a", nullcontext())
    replayed = trained(method, device, tmp_path / "b", replaying(device, double))
    if device == "cpu" and name in READS_A_DRAW_ON_A_CPU:
        assert re.search("from one step to the next|its step has", replayed.notes[0])
    else:
        assert replayed.notes == []
        assert replayed.meter.replays > 0 or replayed.grown is not None  # a pool that grows is captured anew
    if device == "cpu":
        assert double.replayed >= replayed.meter.replays
        if method.attacks:  # a CPU leaves attacks early, so passes differ from step to step
            replayed.meter.counted = launched.meter.counted
    same(launched, replayed)
