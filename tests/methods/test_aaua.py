"""AAUA and AAD against the formulas written out; the fields, the cost, and what BatchNorm sees of the attack."""

import importlib
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import augmentation, networks
from benchmark.core.errors import UsageError
from benchmark.core.timing import Meter
from benchmark.method import Rng
from benchmark.ops.attacks import amplitude as amplitude_attacks
from benchmark.ops.attacks.amplitude import (
    StatisticDraws,
    attack_statistics,
    drop_amplitudes,
    low_square,
    mirrored,
    sample_statistics,
)
from benchmark.ops.attacks.spectrum import recon
from tests import toy
from tests.methods.sada_cases import batch_norm_net

aaua: Any = importlib.import_module("benchmark.methods.aaua")


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    x = torch.rand(n, 3, 32, 32, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 10, (n,), generator=generator)


def draws(n: int, side: float) -> StatisticDraws:
    d_mu, d_sd = torch.randn(2, n, 3, 1, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return StatisticDraws(torch.tensor(side, dtype=torch.float64), d_mu, d_sd)


def rebuilt(amplitude: Tensor, phase: Tensor) -> Tensor:
    """The sheet's recon, of spectra that are centred over all dimensions."""
    image = torch.fft.ifft2(torch.fft.ifftshift(amplitude * torch.exp(1j * phase))).abs()
    divided: Tensor = image / image.max()
    return divided


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    spectrum = torch.fft.fftshift(torch.fft.fft2(x))
    return spectrum.abs(), spectrum.angle()


def reference_aaua(net: nn.Module, x: Tensor, y: Tensor, given: StatisticDraws, method: Any) -> Tensor:
    """The formulas as they stand, image by image and channel by channel, shifted over all dimensions."""
    n, (amplitude, phase), side = len(x), centred(x), float(given.side)
    low, high = int((1 - side) * 32 / 2), int((1 + side) * 32 / 2)
    square = amplitude[:, :, low:high, low:high]
    mu = square.mean((2, 3), keepdim=True)
    spread = square.std((2, 3), keepdim=True) if method.statistic == "sd" else square.var((2, 3), keepdim=True)
    s_mu, s_sd = (each.std(0, keepdim=True) + 1e-4 for each in (mu, spread))
    # The shift over the batch and the channels moves where an image's own draws stand.
    d_mu, d_sd = (torch.fft.fftshift(d, dim=(0, 1)) for d in (given.d_mu, given.d_sd))

    def image(d_mu: Tensor, d_sd: Tensor) -> Tensor:
        new = (square - mu) / (spread + 1e-4) * (spread + d_sd * s_sd + 1e-4) + mu + d_mu * s_mu
        new = new.clamp(min=0) if method.clamp_amplitude else new
        changed = amplitude.clone()
        changed[:, :, low:high, low:high] = new
        return rebuilt(changed, phase)

    for _ in range(method.steps):
        d_mu, d_sd = (d.detach().requires_grad_() for d in (d_mu, d_sd))
        ce = -net(image(d_mu, d_sd)).log_softmax(1)[range(n), y].mean()
        ce.backward()
        assert d_mu.grad is not None
        assert d_sd.grad is not None
        d_mu, d_sd = d_mu + method.step_size * d_mu.grad.sign(), d_sd + method.step_size * d_sd.grad.sign()
    return image(d_mu, d_sd).detach()


def reference_aad(net: nn.Module, x: Tensor, y: Tensor, p: Tensor, magnitude: bool = False) -> Tensor:
    amplitude, phase = centred(x)
    amplitude.requires_grad_()
    (-net(rebuilt(amplitude, phase)).log_softmax(1)[range(len(x)), y].mean()).backward()
    assert amplitude.grad is not None
    s = amplitude.grad.abs() if magnitude else amplitude.grad.clone()
    for channel in s.flatten(0, 1).unbind():
        channel.sub_(channel.min()).div_(channel.max())
    return rebuilt(amplitude * (s <= torch.fft.fftshift(p)), phase).detach()


# --- the formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "settings"),
    [
        (0.1, {}), (0.5, {}), (0.3141, {"low_frequency": "drawn"}), (0.5, {"statistic": "variance", "steps": 2}),
        (0.5, {"clamp_amplitude": True}), (0.1, {"steps": 0}), (0.1, {"step_size": 0.25}),
    ],
)  # fmt: skip
def test_aaua_is_the_formulas(net: nn.Module, side: float, settings: dict[str, Any]) -> None:
    """Largest deviation: 1.3e-15 in float64."""
    (x, y), method = batch(), aaua.Method(**settings)
    ours = attack_statistics(net, x, y, draws(4, side), method)
    assert (ours - reference_aaua(net, x, y, draws(4, side), method)).abs().max() < 1e-12
    assert (ours - x).abs().max() > 0.05
    assert not ours.requires_grad


@pytest.mark.parametrize("saliency", ["signed", "magnitude"])
def test_aad_is_the_formulas_with_a_mask_for_each_image(net: nn.Module, saliency: str) -> None:
    """Largest deviation: none."""
    (x, y), method = batch(), aaua.Method(saliency=saliency)
    p = torch.rand(2, *x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ours = drop_amplitudes(net, x, y, p, method)
    for view, each in zip(ours, p, strict=True):
        assert (view - reference_aad(net, x, y, each, saliency == "magnitude")).abs().max() < 1e-12
    assert (ours[0] - ours[1]).abs().max() > 0.05


def test_both_losses_are_the_formulas(net: nn.Module) -> None:
    x, y, rng = *batch(), Rng(0, 3)
    released, paper = aaua.Method(), aaua.Method(loss="paper", lam=2.5)
    (v1,), views = released.views(net, x, y, rng, {}), paper.views(net, x, y, rng, {})
    assert torch.equal(v1, views[0])
    assert len(views) == 3
    assert torch.equal(released.loss(net, x, y, rng, {}), F.cross_entropy(net(v1), y))
    p = torch.stack([net(image).softmax(1) for image in (x, *views)])
    mean = p.mean(0)
    js = (p * (p / mean).log()).sum(2).mean()
    expected = -p[0].log()[range(4), y].mean() + 2.5 * js
    assert (paper.loss(net, x, y, rng, {}) - expected).abs() < 1e-12


# --- identities -------------------------------------------------------------------------------------------------------


def test_without_a_start_or_a_step_an_image_is_itself(net: nn.Module) -> None:
    """Divided by the largest value of the batch, or not."""
    x, y = batch()
    still = StatisticDraws(torch.tensor(0.5), torch.zeros(4, 3, 1, 1), torch.zeros(4, 3, 1, 1))
    for norm, divisor in (("batch_max", x.max()), ("none", 1), ("image_max", x.amax((1, 2, 3), keepdim=True))):
        method = aaua.Method(steps=0, recon_norm=norm)
        assert torch.allclose(attack_statistics(net, x, y, still, method), x / divisor, rtol=0, atol=1e-12)
        nothing_dropped = drop_amplitudes(net, x, y, torch.ones(1, *x.shape), method)[0]
        assert torch.allclose(nothing_dropped, x / divisor, rtol=0, atol=1e-12)


def test_the_attack_makes_the_images_harder(net: nn.Module) -> None:
    x, y = batch(16)
    attacked, start = (attack_statistics(net, x, y, draws(16, 0.1), aaua.Method(steps=n)) for n in (5, 0))
    assert F.cross_entropy(net(attacked), y) > F.cross_entropy(net(start), y)


@pytest.mark.parametrize(("size", "side", "rows"), [(32, 0.1, 3), (32, 0.5, 16), (32, 0.01, 1), (224, 0.1, 23)])
def test_the_square_has_the_released_rows(size: int, side: float, rows: int) -> None:
    """At 32 and 0.1 it holds the frequencies -2, -1 and 0, so it is not its own mirror."""
    square = low_square(size, size, torch.tensor(side, dtype=torch.float64))
    centre = torch.fft.fftshift(square)
    low = int((1 - side) * size / 2)
    assert centre[low : low + rows, low : low + rows].all()
    assert square.sum() == rows * rows
    if (size, side) == (32, 0.1):
        assert square[0].nonzero().flatten().tolist() == [0, 30, 31]


@pytest.mark.parametrize(("n", "side"), [(1, 0.1), (4, 0.01), (4, 0.0)])
def test_one_image_or_one_frequency_or_none_gives_numbers(net: nn.Module, n: int, side: float) -> None:
    """Deviations over a single value are NaN in the released formula; here they are 0."""
    x, y = batch(n)
    assert attack_statistics(net, x, y, draws(n, side), aaua.Method()).isfinite().all()
    black = torch.zeros_like(x)
    assert attack_statistics(net, black, y, draws(n, side), aaua.Method()).isfinite().all()
    assert drop_amplitudes(net, black, y, torch.rand(1, *x.shape), aaua.Method()).isfinite().all()


def test_a_symmetric_mask_keeps_images_real(net: nn.Module) -> None:
    x, y = batch()
    p = torch.rand(1, *x.shape, generator=torch.Generator().manual_seed(3))
    k = torch.arange(32 * 32).view(32, 32)
    assert mirrored(k)[3, 5] == k[-3, -5]
    assert mirrored(k)[0, 16] == k[0, 16]

    def folded_is_signed(symmetric: bool) -> float:
        views = [
            drop_amplitudes(net, x, y, p, aaua.Method(symmetric=symmetric, magnitude=how, recon_norm="none"))
            for how in ("abs", "real")
        ]
        return float((views[0] - views[1])[views[1] > 0].abs().max())

    assert folded_is_signed(True) < 1e-12
    assert folded_is_signed(False) > 1e-3


def test_a_symmetric_mask_drops_no_more_than_another(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each pair of mirror frequencies one decides for both."""
    x, y = batch()
    p = torch.rand(1, *x.shape, generator=torch.Generator().manual_seed(3))
    kept: list[Tensor] = []

    def spy(amplitude: Tensor, *others: Any) -> Tensor:
        kept.append(amplitude.detach() != 0)
        return recon(amplitude, *others)

    monkeypatch.setattr(amplitude_attacks, "recon", spy)
    for symmetric in (False, True):
        drop_amplitudes(net, x, y, p, aaua.Method(symmetric=symmetric))
    one, both = kept[1], kept[3]
    assert torch.equal(both, mirrored(both))
    assert ((both == one) | (both == mirrored(one))).all()
    assert 0.2 < one.double().mean() < 0.8
    assert both.double().mean() == pytest.approx(float(one.double().mean()), abs=0.02)


@pytest.mark.parametrize(("norm", "divisor"), [("none", 1.0), ("batch_max", 0.5)])
def test_amplitudes_are_judged_by_the_image_that_the_norm_gives(net: nn.Module, norm: str, divisor: float) -> None:
    x, y = batch()
    x = 0.5 * x / x.max()
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    drop_amplitudes(
        net, x, y, torch.rand(1, *x.shape, generator=torch.Generator().manual_seed(3)), aaua.Method(recon_norm=norm)
    )
    torch.testing.assert_close(seen[0], x / divisor, rtol=0, atol=1e-12)


def test_an_attacked_image_may_be_the_real_part(net: nn.Module) -> None:
    """The square is not its own mirror, so that the transform is complex: its magnitude exceeds its real part."""
    x, y = batch()
    folded, real = (
        attack_statistics(net, x, y, draws(4, 0.1), aaua.Method(steps=0, recon_norm="none", magnitude=how))
        for how in ("abs", "real")
    )
    assert (real <= folded + 1e-12).all()
    assert (folded - real).max() > 1e-3


# --- draws, cost, BatchNorm -------------------------------------------------------------------------------------------


def test_the_side_is_fixed_or_drawn_from_below_a_half() -> None:
    shape = torch.Size((2, 3, 8, 8))

    def sides(given: Any) -> list[float]:
        method = aaua.Method(low_frequency=given)
        return [float(Rng(0, step).draw("a", sample_statistics, shape, config=method).side) for step in range(200)]

    assert set(sides(0.1)) == {0.1}
    drawn = sides("drawn")
    assert 0 <= min(drawn) < 0.02
    assert 0.48 < max(drawn) < 0.5
    start = Rng(0, 1).draw("a", sample_statistics, torch.Size((999, 3, 8, 8)), config=aaua.Method())
    for d in (start.d_mu, start.d_sd):
        assert d.shape == (999, 3, 1, 1)
        assert abs(float(d.mean())) < 0.1
        assert abs(float(d.std()) - 1) < 0.05
    assert not torch.equal(start.d_mu, start.d_sd)


@pytest.mark.parametrize(("loss", "forwards", "backwards"), [("released", 1 + 5, 1 + 5), ("paper", 4 + 6, 4 + 6)])
def test_cost(loss: str, forwards: int, backwards: int) -> None:
    net, images = networks.build("mini_convnet", 4, 0), toy.images(8, 0)
    with Meter(torch.device("cpu")).running(net) as meter:
        aaua.Method(loss=loss).loss(net, images.unit(), images.y, Rng(0), {}).backward()
    assert (meter.forwards, meter.backwards) == (8 * forwards, 8 * backwards)
    if loss == "released":
        assert aaua.Method.passes == forwards


@pytest.mark.parametrize(("loss", "attack_in", "moves"), [
    ("released", "train", 5), ("released", "eval", 0), ("paper", "train", 6), ("paper", "eval", 0),
])  # fmt: skip
def test_batch_norm_moves_in_each_pass_of_a_train_mode_attack(loss: str, attack_in: str, moves: int) -> None:
    net, images = networks.build("timm:test_resnet", 4, 0).train(), toy.images(8, 0)
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    aaua.Method(loss=loss, attack_in=attack_in).views(net, images.unit(), images.y, Rng(0), {})
    assert int(norm.num_batches_tracked or 0) == moves
    assert norm.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize(("bn_batching", "sizes"), [("separate", [4, 4, 4, 4]), ("joint", [16])])
def test_forward_passes_with_batch_norm(bn_batching: str, sizes: list[int]) -> None:
    """Of the loss: the attack's own are in eval mode here."""
    (x, y), trained, seen = batch(), batch_norm_net(), []
    trained.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])) if module.training else None)
    aaua.Method(loss="paper", steps=1, attack_in="eval", bn_batching=bn_batching).loss(trained, x, y, Rng(0), {})
    assert seen == sizes


def test_both_images_of_dropout_have_a_mask_of_their_own(net: nn.Module) -> None:
    x, y = batch()
    _, second, third = aaua.Method(loss="paper", steps=1).views(net, x, y, Rng(0), {})
    assert ((second - third).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_dropout_draws_for_every_amplitude(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each image, channel and frequency; one mask for all channels would drop colours together."""
    drop, (x, y) = Mock(return_value=[]), batch()
    monkeypatch.setattr(aaua, "drop_amplitudes", drop)
    aaua.Method(loss="paper", steps=1).views(net, x, y, Rng(0), {})
    p = drop.call_args.args[3]
    assert p.shape == (2, *x.shape)
    assert p.unique().numel() > 0.99 * p.numel()
    assert stats.kstest(p.flatten().numpy(), stats.uniform.cdf).pvalue > 1e-4
    flat = p.transpose(1, 2).reshape(6, -1)  # two images of three channels
    assert (torch.corrcoef(flat) - torch.eye(6)).abs().max() < 5 / flat.shape[1] ** 0.5


def test_it_learns_by_the_released_loss_alone() -> None:
    net, images = networks.build("mini_convnet", 4, 0), toy.images(64, 0)
    optimizer, method = torch.optim.Adam(net.parameters(), 1e-3), aaua.Method()
    for step in range(40):
        at = torch.arange(16) + 16 * (step % 4)
        optimizer.zero_grad()
        method.loss(net, images.unit()[at], images.y[at], Rng(0, step), {}).backward()
        optimizer.step()
    test = toy.images(32, 1)
    assert (net(test.unit()).argmax(1) == test.y).double().mean() > 0.4  # chance is 0.25


def test_it_is_no_augmentation_of_single_images() -> None:
    with pytest.raises(UsageError, match="aaua"):
        augmentation("aaua", net=networks.build("mini_convnet", 4, 0))
