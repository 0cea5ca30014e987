"""GUD: the pixel-space ascent against closed forms and the released formula, and the bookkeeping of its phases."""

import importlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.timing import Meter
from benchmark.method import Rng, Source
from benchmark.ops.attacks import pixel

erm: Any = importlib.import_module("benchmark.methods.erm")
gud: Any = importlib.import_module("benchmark.methods.gud")
Item = tuple[int, int]
"""An image by its position in the source and how many times it was attacked."""


class Linear(nn.Module):
    """Logits W x and features U x of the flattened image, so that the gradient of the objective has a closed form."""

    def __init__(self, pixels: int, classes: int = 4, features: int = 5):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.W = nn.Parameter(torch.randn(classes, pixels, generator=generator, dtype=torch.float64) / 4)
        self.U = nn.Parameter(torch.randn(features, pixels, generator=generator, dtype=torch.float64) / 4)

    def forward(self, x: Tensor, features: bool = False) -> Any:
        flat = x.flatten(1)
        return (flat @ self.W.T, flat @ self.U.T) if features else flat @ self.W.T


def toy_images(n: int, size: int = 32, classes: int = 10) -> Images:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return Images(x, torch.randint(0, classes, (n,), generator=generator))


def source_of(images: Images, original: int | None = None) -> Source:
    return Source(images, images[:0], len(images) if original is None else original, 32, lambda net, rng: None)


def toy_net(seed: int = 0) -> networks.Classifier:
    return networks.build("mini_convnet", 10, seed)


def released_ascent(net: nn.Module, x: Tensor, y: Tensor, steps: int, eta: float, gamma: float) -> Tensor:
    """The released formula as it stands: plain gradient ascent on batch means, over one batch."""
    clean = net(x, features=True)[1].detach()
    for _ in range(steps):
        x = x.detach().requires_grad_()
        logits, features = net(x, features=True)
        objective = F.cross_entropy(logits, y) - gamma * F.mse_loss(features, clean)
        x = x + eta * torch.autograd.grad(objective, x)[0]
    return x.detach()


# --- the ascent -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 6), eta=st.floats(0.1, 5), gamma=st.floats(0, 5), data=st.integers(0, 2**31))
def test_ascent_matches_the_closed_form_of_a_linear_network(batch: int, eta: float, gamma: float, data: int) -> None:
    """Two steps: the first has no feature term, the second has -2 gamma/D U^T U (x' - x). Tolerance: float64 sums."""
    net, generator = Linear(27), torch.Generator().manual_seed(data)
    x = torch.rand(batch, 3, 3, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (batch,), generator=generator)

    def slope(flat: Tensor) -> Tensor:
        of_ce = ((flat @ net.W.T).softmax(dim=1) - F.one_hot(y, 4)) @ net.W
        moved = flat - x.flatten(1)
        return of_ce - gamma * 2 / len(net.U) * moved @ net.U.T @ net.U

    expected = x.flatten(1)
    anchor = pixel.Anchor.at(net, x, y)
    for steps in (1, 2):
        expected = (expected + eta / batch * slope(expected)).detach()
        ours = pixel.ascend_pixels(anchor, x, pixel.PixelAttack(steps, eta, gamma, 0.0, batch, clip=False))
        assert torch.allclose(ours.flatten(1), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_parity_reference_step_is_the_released_batch_mean(batch: int) -> None:
    """The released 15 steps on batch means; in float64, so that only the order of the sums is left to differ."""
    net, images = toy_net().double().eval(), toy_images(batch)
    x, y, method = images.unit().double(), images.y, gud.Method(batch=batch, eta=20.0, gamma=0.5)
    ours = pixel.ascend_pixels(pixel.Anchor.at(net, x, y), x, method.ascent)
    expected = released_ascent(net, x, y, 15, 20.0, 0.5)
    assert (expected - x).abs().max() > 0.01
    assert torch.allclose(ours, expected, rtol=0, atol=1e-11)


def test_parity_a_batch_of_twins_halves_the_step() -> None:
    """Released batch-mean coupling: the same image moves half as far in a batch of 64 as in a batch of 32."""
    net, images = toy_net(), toy_images(32)
    x, y = images.unit(), images.y
    moved = gud.Method(adv_steps=1).views(net, x, y, Rng(0), {})[0] - x
    twins = gud.Method(adv_steps=1, batch=64).views(net, torch.cat([x, x]), torch.cat([y, y]), Rng(0), {})[0][:32] - x
    assert moved.abs().max() > 1e-4
    assert torch.allclose(twins, moved / 2, rtol=0, atol=1e-7)


def test_per_image_step_does_not_depend_on_the_batch() -> None:
    net, images = toy_net(), toy_images(8)
    x, y, by_image = images.unit(), images.y, {"batch_mean": "per_image", "adv_steps": 3, "eta": 0.1}
    together = gud.Method(batch=8, **by_image).views(net, x, y, Rng(0), {})[0]
    for batch in (1, 8, 32):
        alone = gud.Method(batch=batch, **by_image).views(net, x[:1], y[:1], Rng(0), {})[0]
        assert torch.allclose(alone, together[:1], rtol=0, atol=1e-6)
    expected = released_ascent(net.eval(), x[:1], y[:1], 3, 0.1, 1.0)  # a batch of one is its own mean
    assert torch.allclose(together[:1], expected, rtol=0, atol=1e-6)


def test_the_number_of_images_attacked_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images = toy_net(), toy_images(70)
    by = pixel.PixelAttack(3, 30.0, 1.0, 0.0, 32, clip=False)
    at_once = pixel.attack_pixels(net, images, by)
    monkeypatch.setattr(pixel, "CHUNK_PIXELS", 1)
    sizes: list[int] = []
    hook = net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    in_parts = pixel.attack_pixels(net, images, by)
    hook.remove()
    assert set(sizes) == {32, 6}
    assert torch.allclose(at_once.x, in_parts.x, rtol=0, atol=1e-6)


def test_images_leave_the_unit_range_unless_clipped() -> None:
    net, images = toy_net(), toy_images(32)
    x, y = images.unit(), images.y
    free = gud.Method(eta=300.0, gamma=0.0).views(net, x, y, Rng(0), {})[0]
    kept = gud.Method(eta=300.0, gamma=0.0, clip=True).views(net, x, y, Rng(0), {})[0]
    assert free.min() < 0
    assert free.max() > 1
    assert kept.min() >= 0
    assert kept.max() <= 1
    # The cut follows every step, so later gradients are taken inside the range: cutting at the end is something else.
    assert not torch.allclose(kept, free.clamp(0, 1), rtol=0, atol=1e-3)
    one = {"eta": 300.0, "gamma": 0.0, "adv_steps": 1}
    first, cut = (gud.Method(clip=clip, **one).views(net, x, y, Rng(0), {})[0] for clip in (False, True))
    assert torch.equal(cut, first.clamp(0, 1))


def test_the_ascent_raises_the_loss_and_gamma_holds_the_features() -> None:
    net, images = toy_net(), toy_images(32)
    x, y = images.unit(), images.y

    def measured(gamma: float) -> tuple[float, float]:
        anchor = pixel.Anchor.at(net, x, y)
        with torch.no_grad():
            terms = anchor.terms(gud.Method(gamma=gamma, eta=50.0).views(net, x, y, Rng(0), {})[0])
        return float(terms.ce.mean()), float(terms.constraint.mean())

    with torch.no_grad():
        clean = float(F.cross_entropy(net(x), y))
    (free_loss, free_moved), (held_loss, held_moved) = measured(0.0), measured(1000.0)
    assert clean < held_loss < free_loss
    assert held_moved < free_moved / 2


def test_network_and_inputs_are_left_as_they_were() -> None:
    net, images = toy_net().train(), toy_images(32)
    net.trunk.add_module("dropout", nn.Dropout(0.5))
    net.trunk.add_module("norm", nn.BatchNorm1d(net.head.in_features))
    net.stem.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, untouched = images.unit(), images.unit().clone()
    first, second = (gud.Method().views(net, x, images.y, Rng(0), {})[0] for _ in range(2))
    assert torch.equal(first, second)  # eval mode: no dropout
    assert torch.equal(x, untouched)
    assert not first.requires_grad
    assert all(module.training for module in net.modules())
    assert [p.requires_grad for p in net.stem.parameters()] == [False, False]
    assert all(p.requires_grad and p.grad is None for part in (net.trunk, net.head) for p in part.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_cost_and_time_are_charged_to_the_attack() -> None:
    """T_adv + 1 forward passes (the clean features once) and T_adv backward passes for each image."""
    net, images, meter = toy_net(), toy_images(40), Meter(torch.device("cpu"))
    with meter.running(net):
        gud.Method(adv_steps=4, interval=1).expand(net, source_of(images), Rng(0), 0, {})
    assert (meter.forwards, meter.backwards) == (32 * 5, 32 * 4)
    assert set(meter.read()) == {"attack"}


# --- the bookkeeping --------------------------------------------------------------------------------------------------


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> list[list[Item]]:
    """Replaces the ascent by x + 1, so that an image's value tells its origin and its generation; lists each phase."""
    phases: list[list[Item]] = []

    def mark(net: nn.Module, images: Images, by: pixel.PixelAttack) -> Images:
        phases.append(named(images))
        return Images(images.unit() + 1, images.y)

    monkeypatch.setattr(gud, "attack_pixels", mark)
    return phases


def named(images: Images) -> list[Item]:
    return [(int(y), int(x)) for x, y in zip(images.unit()[:, 0, 0, 0], images.y, strict=True)]


def blank(n: int) -> Images:
    """Black images whose label is their position."""
    return Images(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), torch.arange(n))


def test_parity_bookkeeping_of_two_phases(attacked: list[list[Item]]) -> None:
    """k = 2, n = 100, B = 32, the referee imitated: which images are attacked, in what order, and the pool after it."""
    net, method, source, pool = toy_net(), gud.Method(phases=2, interval=10), source_of(blank(100)), blank(100)
    expected, sizes = [(i, 0) for i in range(100)], [100]
    for step in range(50):
        extra = method.expand(net, source.with_pool(pool), Rng(0, step), step, {})
        if extra is None:
            assert (step + 1) % 10 or step > 19
            continue
        assert step in {9, 19}
        assert attacked[-1] == expected[:96]  # the first N0 positions of the present order, the last N0 mod B left out
        order = torch.randperm(len(pool) + len(extra), generator=torch.Generator().manual_seed(step))
        pool = (pool + extra)[order]
        grown = expected + [(i, generation + 1) for i, generation in expected[:96]]
        expected = [grown[i] for i in order]
        sizes.append(len(pool))
        assert named(pool) == expected
    assert sizes == [100, 196, 292]
    assert len(attacked) == 2
    assert {generation for _, generation in attacked[1]} == {0, 1}  # adversarial images are attacked again
    assert any(generation == 2 for _, generation in expected)


def test_parity_released_sizes_and_steps(attacked: list[list[Item]]) -> None:
    """10,000 images and the defaults: phases before steps 99, 199, ..., 599, 9,984 images each, 69,904 at the end."""
    net, method, source, pool, steps = toy_net(), gud.Method(), source_of(blank(10_000)), blank(10_000), []
    for step in range(1001):
        extra = method.expand(net, source.with_pool(pool), Rng(0, step), step, {})
        if extra is not None:
            steps.append(step)
            pool = pool + extra
    assert steps == [99, 199, 299, 399, 499, 599]
    assert [len(phase) for phase in attacked] == [9984] * 6
    assert len(pool) == 69_904
    assert all(phase == [(i, 0) for i in range(9984)] for phase in attacked)  # the last 16 never, if nothing shuffles


def test_the_last_full_batch_is_left_out_where_batches_come_out_even(attacked: list[list[Item]]) -> None:
    """As released; 96 images are three batches of 32, of which two are attacked."""
    for skip, expected in ((True, 64), (False, 96)):
        gud.Method(interval=10, skip_last=skip).expand(toy_net(), source_of(blank(96)), Rng(0, 9), 9, {})
        assert [y for y, _ in attacked[-1]] == list(range(expected))
    assert "skip_last" not in gud.Method().settings()  # records from before the field keep their ids
    assert gud.Method(skip_last=False).settings()["skip_last"] is False


def test_expand_returns_the_ascended_images_with_their_labels() -> None:
    net, images, method = toy_net(), toy_images(40), gud.Method(adv_steps=2, interval=1)
    extra = method.expand(net, source_of(images), Rng(0), 0, {})
    assert extra is not None
    assert extra.x.dtype == torch.float32
    assert torch.equal(extra.y, images.y[:32])
    assert torch.equal(extra.x, method.views(net, images.unit()[:32], images.y[:32], Rng(0), {})[0])


def test_without_a_phase_it_is_erm() -> None:
    """Before the first phase, or with none, loss and gradients are ERM's own bits."""
    images = toy_images(32)

    def trained(method: Any) -> tuple[Tensor, list[Tensor | None]]:
        net = toy_net()
        for step in range(99):
            assert method.expand(net, source_of(images), Rng(0, step), step, {}) is None
        loss = method.loss(net, images.unit(), images.y, Rng(0), {})
        loss.backward()
        return loss.detach(), [p.grad for p in net.parameters()]

    (plain, slopes) = trained(erm.Method())
    for method in (gud.Method(), gud.Method(phases=0, interval=1)):
        loss, ours = trained(method)
        assert torch.equal(loss, plain)
        assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(ours, slopes, strict=True))


def test_a_source_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="full batches of 32, and the source has 31"):
        gud.Method().setup(toy_net(), source_of(toy_images(31)), Rng(0))
    with pytest.raises(UsageError, match=r"of 32, less the last \(skip_last\), and the source has 32"):
        gud.Method().setup(toy_net(), source_of(toy_images(32)), Rng(0))
    for fits in (gud.Method(skip_last=False), gud.Method(batch=31)):
        assert fits.setup(toy_net(), source_of(toy_images(32)), Rng(0)) == {}
