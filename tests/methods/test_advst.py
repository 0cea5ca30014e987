"""AdvST: the ascent and the loss against float64 formulas, and the bookkeeping of its ring."""

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks, protocols
from benchmark.core.images import Images
from benchmark.core.timing import Meter
from benchmark.method import Method, Rng, Source, State
from benchmark.ops.attacks.parameters import SemanticAttack, SemanticDraws, attack_images, attack_semantic
from benchmark.ops.contrastive import supervised_contrastive
from benchmark.ops.semantic import NAMES, OPERATIONS
from tests.making import generator, made

advst: Any = importlib.import_module("benchmark.methods.advst")
make = partial(made, "advst")


class Smooth(nn.Module):
    """Logits and features of the flattened image, in float64."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.randn(5, pixels, generator=generator(1), dtype=torch.float64) / 4)
        self.W = nn.Parameter(torch.randn(4, 5, generator=generator(2), dtype=torch.float64))

    def forward(self, x: Tensor, features: bool = False) -> Any:
        z = (x.flatten(1) @ self.U.T).tanh()
        return (z @ self.W.T, z) if features else z @ self.W.T


def draws(*names: str, batch: int = 4) -> SemanticDraws:
    places = [*map(NAMES.index, names), -1, -1][:3]
    start = torch.rand(batch, 17, generator=generator(5), dtype=torch.float64)
    return SemanticDraws(torch.tensor(places), start, torch.full((8, 2), 0.5))


@pytest.fixture
def batch() -> Images:
    return Images(torch.rand(4, 3, 6, 6, generator=generator()), torch.tensor([0, 1, 2, 3]))


# --- the ascent -------------------------------------------------------------------------------------------------------


def reference_ascent(x: Tensor, y: Tensor, given: SemanticDraws, by: SemanticAttack) -> tuple[Tensor, int]:
    """Contrast, then inversion, by their formulas; RMSprop with its moving mean of squares."""
    net = Smooth(x[0].numel())
    low, high = torch.tensor([[0.1, 0.5], [1.9, 1.0]], dtype=torch.float64)
    theta = low + given.start[:, [9, 6]] * (high - low)  # hsv 3, rotate 1, translate 2, invert 1, shear 2, contrast
    squares, before, taken = torch.zeros_like(theta), None, 0
    clean = net(x, features=True)[1].detach()

    def images(numbers: Tensor) -> Tensor:
        factor, top = numbers[:, 0].clamp(0.1, 1.9), numbers[:, 1].clamp(0.5, 1)
        return top[:, None, None, None] - (factor[:, None, None, None] * x).clamp(0, 1)

    for _ in range(by.adv_steps):
        theta = theta.detach().requires_grad_()
        logits, z = net(images(theta), features=True)
        p = logits.softmax(dim=1)
        now = -p[range(len(y)), y].log().mean() - by.lam * ((z - clean) ** 2).mean()
        now = now - by.eta * (p * p.log()).sum(dim=1).mean()
        if before is not None and abs(now.item() - before) <= by.tolerance:
            break
        before, taken = now.item(), taken + 1
        slope = torch.autograd.grad(now, theta)[0]
        squares = by.rms_decay * squares + (1 - by.rms_decay) * slope**2
        theta = theta + by.adv_lr * slope / (squares.sqrt() + 1e-8)
    return images(theta.detach()), taken


@pytest.mark.parametrize(
    "options",
    [
        {"adv_steps": 6, "tolerance": 0.0, "lam": 0.5, "adv_lr": 0.01},
        {"adv_steps": 6, "tolerance": 0.0, "eta": 3.0, "adv_lr": 0.05, "rms_decay": 0.5},
        {"adv_steps": 20, "tolerance": 0.02, "lam": 0.1, "adv_lr": 0.05},
    ],
)
def test_ascent_is_the_formula(batch: Images, options: dict[str, Any]) -> None:
    """Largest deviation seen: 3e-16, both in float64."""
    x, by, given = batch.x.double(), SemanticAttack(**options), draws("contrast", "invert")
    want, taken = reference_ascent(x, batch.y, given, by)
    found = attack_semantic(Smooth(108), x, batch.y, given, by)
    assert (found - want).abs().max() < 1e-12
    assert taken == by.adv_steps if not by.tolerance else 1 < taken < by.adv_steps


def test_ascent_raises_the_objective_and_leaves_the_network(batch: Images) -> None:
    x, y, net = batch.x.double(), batch.y, Smooth(108)
    before = [p.clone() for p in net.parameters()]
    kept = SemanticAttack(adv_steps=1, adv_lr=1e-12, lam=0.0, tolerance=0.0)
    moved = SemanticAttack(adv_steps=10, adv_lr=0.02, lam=0.0, tolerance=0.0)
    losses = [
        F.cross_entropy(net(attack_semantic(net, x, y, draws("rotate", "contrast"), by)), y) for by in (kept, moved)
    ]
    assert losses[1] > losses[0]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, net.parameters(), strict=True))


def test_what_has_no_theta_to_learn_needs_no_network(batch: Images) -> None:
    net = Smooth(108)
    with Meter(torch.device("cpu")).running(net) as meter:
        found = attack_semantic(net, batch.x.double(), batch.y, draws("equalize", "posterize"), SemanticAttack())
    assert meter.forwards == 0
    assert not torch.equal(found, batch.x.double())


def test_each_batch_has_its_own_draws_and_the_last_may_be_smaller() -> None:
    images = Images(torch.rand(1, 3, 32, 32, generator=generator()).repeat(7, 1, 1, 1), torch.arange(7) % 4)
    found = attack_images(networks.build("mini_convnet", 4, 0), images, Rng(0), SemanticAttack(batch=3, adv_steps=1))
    assert found.shape == images.x.shape
    assert len({tuple(image.flatten()[:200].tolist()) for image in found}) >= 6


def test_batch_norm_and_dropout_stay_still_while_images_are_made(batch: Images) -> None:
    net, modes = networks.build("timm:test_resnet", 4, 0).train(), []
    x = torch.rand(4, 3, 32, 32, generator=generator())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    attack_semantic(net, x, batch.y, draws("rotate", "contrast"), SemanticAttack(adv_steps=2, tolerance=0.0))
    assert set(modes) == {False}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training


@pytest.mark.parametrize(("share", "angle"), [(0.0, -0.3), (0.5, 0.0), (1.0, 0.3)])
def test_shear_starts_to_either_side(batch: Images, share: float, angle: float) -> None:
    x, given = batch.x.double(), draws("shear")
    start = replace(given, start=torch.full_like(given.start, share))
    found = attack_semantic(Smooth(108), x, batch.y, start, SemanticAttack(adv_steps=1, adv_lr=1e-14))
    want = OPERATIONS["shear"](x, torch.full((4, 2), angle, dtype=torch.float64), given.squares)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-10)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_contrastive_loss_is_its_formula() -> None:
    z = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    y, t = torch.tensor([0, 0, 1, 1, 1, 2]), 0.07  # the last has nobody of its class
    unit, total = z / z.norm(dim=1, keepdim=True), 0.0
    for i in range(6):
        alike = [p for p in range(6) if p != i and y[p] == y[i]]
        below = sum((unit[i] @ unit[a] / t).exp() for a in range(6) if a != i)
        total -= sum(float(((unit[i] @ unit[p] / t).exp() / below).log()) for p in alike) / max(1, len(alike))
    assert float(supervised_contrastive(z, y, t)) == pytest.approx(total / 6, abs=1e-12)


def wrapped(**options: Any) -> tuple[Method, Any]:
    method = make(**options)
    return method, method.wrap(networks.build("mini_convnet", 4, 0))


def test_loss_by_hand() -> None:
    method, net = wrapped(con=0.5, eta_min=3.0, temperature=0.2)
    x, y = torch.rand(8, 3, 32, 32, generator=generator()), torch.arange(8) % 4
    loss = method.loss(net, x, y, Rng(0), method.setup(net, source(x, y), Rng(0)))
    logits, z = net(x, features=True)
    p = logits.double().softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    want = -p[range(8), y].log().mean() + 0.5 * supervised_contrastive(net.projection(z), y, 0.2) - 3 * entropy
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)


def test_the_projection_is_trained_and_another_for_each_seed() -> None:
    method, net = wrapped()
    assert net.projection.weight.shape == (128, 64)
    x, y = torch.rand(8, 3, 32, 32, generator=generator()), torch.arange(8) % 2
    state = method.setup(net, source(x, y), Rng(0))
    method.loss(net, x, y, Rng(0), state).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    without: Any = make(con=0.0).wrap(networks.build("mini_convnet", 4, 0))
    assert torch.equal(without.projection.weight, net.projection.weight)
    make(con=0.0).loss(without, x, y, Rng(0), state).backward()
    assert without.projection.weight.grad is None
    other: Any = method.wrap(networks.build("mini_convnet", 4, 1))
    assert not torch.equal(other.projection.weight, net.projection.weight)


def test_the_projection_has_the_outputs_that_are_set_and_starts_as_torchs_linear_layers() -> None:
    """U(-1/sqrt(fan in), 1/sqrt(fan in)), 64 features being its inputs."""
    _, net = wrapped(projection=200)
    assert (net.projection.in_features, net.projection.out_features) == (64, 200)
    for weights in (net.projection.weight.detach(), net.projection.bias.detach()):
        assert weights.max().item() == pytest.approx(1 / 8, rel=0.05)
        assert weights.min().item() == pytest.approx(-1 / 8, rel=0.05)


# --- the ring ---------------------------------------------------------------------------------------------------------

N, B = 12, 4


def source(x: Tensor, y: Tensor) -> Source:
    return Source(Images(x, y), Images(x[:0], y[:0]), len(x), B, lambda net, rng: None)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Generations make images of the value 10 g, g = 1, 2, ...; the source is 0. Returns the steps of generations."""
    steps: list[int] = []

    def generate(net: Any, images: Images, rng: Rng, by: Any) -> Tensor:
        assert images.x.max() == 0, "a generation starts from the source"
        steps.append(rng.step)
        return torch.full((len(images), 3, 1, 1), 10.0 * len(steps))

    monkeypatch.setattr(advst, "attack_images", generate)
    return steps


def rounds(method: Method, steps: int) -> tuple[list[list[float]], list[Tensor], State]:
    """What each step trains on: values and labels of its batch; and the state at the end."""
    given = source(torch.zeros(N, 3, 1, 1), torch.arange(N) % 4)
    state, seen, labels = method.setup(nn.Identity(), given, Rng(0)), [], []
    for step in range(steps):
        assert method.expand(nn.Identity(), given, Rng(0, step), step, state) is None
        if len(state["y"]):
            seen.append(state["x"][state["at"]].flatten(1)[:, 0].tolist())
            labels.append(state["y"][state["at"]])
    return seen, labels, state


def test_a_generation_ends_each_round_and_the_ring_grows_and_turns(marked: list[int]) -> None:
    seen, labels, state = rounds(make(k=2), 45)
    assert marked == [3, 9, 18, 27, 36, 45][:5]  # rounds of 3, 6, 9, 9, 9 batches
    assert [values[0] for values in seen[:6]] == [0, 0, 0, 10, 10, 10]
    assert [values[0] for values in seen[6:15]] == [0] * 3 + [10] * 3 + [20] * 3
    assert [values[0] for values in seen[15:24]] == [30] * 3 + [10] * 3 + [20] * 3  # the source has gone
    assert [values[0] for values in seen[24:33]] == [30] * 3 + [40] * 3 + [20] * 3
    assert all(torch.equal(found, torch.arange(4)) for found in labels)
    assert (len(state["x"]), state["made"]) == (3 * N, 5)


def test_the_source_may_be_kept(marked: list[int]) -> None:
    seen, _, _ = rounds(make(k=2, keep_source=True), 36)
    assert [values[0] for values in seen[15:24]] == [0] * 3 + [30] * 3 + [20] * 3
    assert [values[0] for values in seen[24:33]] == [0] * 3 + [30] * 3 + [40] * 3
    assert marked == [3, 9, 18, 27]


def test_released_order_is_the_rings_own_and_shuffled_rounds_take_each_image_once(marked: list[int]) -> None:
    seen, _, _ = rounds(make(k=1, shuffle=True), 15)
    assert len(marked) == 2
    for first in (0, 6):
        one = [value for values in seen[first : first + 6] for value in values]
        values = sorted(set(one))
        assert [one.count(value) for value in values] == [N, N]
        assert one != sorted(one)


def test_each_shuffled_round_has_an_order_of_its_own(marked: list[int]) -> None:
    _, labels, _ = rounds(make(k=1, shuffle=True), 21)
    assert marked == [3, 9, 15]
    first, second, third = (torch.cat(labels[at : at + 6]).tolist() for at in (0, 6, 12))
    assert first != second != third != first


def test_an_interval_of_its_own_goes_round_and_round(marked: list[int]) -> None:
    seen, _, _ = rounds(make(k=1, interval=7), 14)
    assert marked == [7]
    assert [values[0] for values in seen] == [0, 0, 0, 10, 10, 10, 0]
    rounds(make(k=0, interval=7), 14)
    assert marked == [7]


def test_the_loss_is_that_of_the_rings_batch() -> None:
    method, net = wrapped(interval=1, adv_steps=1)
    x, y = torch.rand(8, 3, 32, 32, generator=generator()), torch.arange(8) % 4
    state = method.setup(net, source(x, y), Rng(0))
    plain = method.setup(net, source(x, y), Rng(0))
    for step in range(2):
        method.expand(net, source(x, y), Rng(0, step), step, state)
    assert len(state["y"]) == 16
    other = torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)
    want = method.loss(net, state["x"][state["at"]], state["y"][state["at"]], Rng(0), plain)
    assert torch.equal(method.loss(net, *other, Rng(0), state), want)


@pytest.mark.parametrize(("options", "steps"), [({}, 400), ({"interval": 50}, 260), ({"k": 0}, 400)])
def test_work_counts_the_generations(options: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def generate(net: Any, images: Images, rng: Rng, by: Any) -> Tensor:
        made.append(1)
        return images.x

    monkeypatch.setattr(advst, "attack_images", generate)
    method, x, y = make(**options), torch.zeros(320, 3, 1, 1), torch.zeros(320, dtype=torch.int64)
    given = Source(Images(x, y), Images(x[:0], y[:0]), 320, 32, lambda net, rng: None)
    state = method.setup(nn.Identity(), given, Rng(0))
    for step in range(steps):
        method.expand(nn.Identity(), given, Rng(0, step), step, state)
    assert method.work(steps, 320).attacked == pytest.approx(len(made) * 320 * (20 + 1 / 3))


# --- settings ---------------------------------------------------------------------------------------------------------


def test_strict_is_fifty_epochs_of_a_growing_ring_and_pacs_has_its_own_settings() -> None:
    recipe, settings, _ = protocols.recipe_for("strict", "advst", "digits")
    assert recipe.steps == sum(min(epoch, 6) * (10_000 // 32) for epoch in range(1, 51))
    assert settings == {}
    released = {"k": 3, "lam": 10, "eta": 10, "eta_min": 0.01, "adv_lr": 5, "adv_steps": 50}
    assert protocols.recipe_for("common", "advst", "pacs")[1] == released


def test_the_first_step_of_rmsprop_is_ten_times_the_rate(batch: Images) -> None:
    """At the released rate of 0.2 that is 2, so that it ends at an end of every range but posterize's."""
    by = SemanticAttack(adv_steps=1, lam=0.0)
    found = attack_semantic(Smooth(108), batch.x.double(), batch.y, draws("invert"), by)
    top = (found + batch.x.double()).flatten(1)
    assert all(value in (pytest.approx(0.5), pytest.approx(1.0)) for value in top[:, 0].tolist())
