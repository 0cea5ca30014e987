"""AFA: waves and step against a reference in NumPy and float64 from the formulas, the law of the draws, the routes."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.method import Rng
from benchmark.networks.classifiers import Classifier
from benchmark.networks.dual_norm import DualBatchNorm2d, DuBIN, route
from benchmark.ops.augmix import NINE
from benchmark.ops.waves import WaveDraws, add_waves, planar_waves, sample_waves
from benchmark.sensitivity.fourier import cosines
from tests import toy
from tests.making import Given, generator, made

B, N = 4, 32
Y = torch.arange(B) % 4
make = partial(made, "afa")


def images(seed: int = 0, side: int = N) -> Tensor:
    return torch.rand(B, 3, side, side, generator=generator(seed), dtype=torch.float64)


def reference(x: Tensor, draws: WaveDraws, mean: float, minimum: float = 0, highest: int = N) -> Tensor:
    """a(x) for square images, one wave at a time."""
    out = x.numpy().copy()
    side = x.shape[-1]
    axis = np.linspace(-side / 2, side / 2, side)
    angles = np.linspace(-np.pi, 0, 448)
    for i, c in np.ndindex(*x.shape[:2]):
        f = (1 + math.floor(highest * draws.frequency[i, c].item())) / side
        t = angles[math.floor(448 * draws.angle[i, c].item())]
        wave = np.empty((side, side))
        for row in range(side):
            wave[row] = np.sin(2 * np.pi * f * (axis * np.cos(t) + axis[row] * np.sin(t)) - np.pi / 4)
        sigma = minimum + mean * draws.strength[i, c].item()
        out[i, c] += side / 32 * sigma * wave / np.sqrt((wave**2).sum())
    return torch.tensor(out.clip(0, 1))


def probabilities(net: nn.Module, x: Tensor) -> Any:
    z = net(x).detach().numpy()
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def cross_entropy(p: Any) -> float:
    return float(-np.log(p[np.arange(B), Y.numpy()]).mean())


# The waves.


@pytest.mark.parametrize("settings", [{}, {"highest": "nyquist"}, {"minimum": 2.0}, {"mean": 10.0}])
def test_the_waved_images_are_the_reference(settings: dict[str, Any]) -> None:
    draws = sample_waves(B, generator())
    given = {"mean": 5.0, **settings, "highest": N // 2 if "highest" in settings else N}
    x = images()
    wanted = reference(x, draws, **given)
    (found,) = make(**settings).views(nn.Identity(), x, Y, Given(draws={"waves 0": draws}), {})
    deviation = (found - wanted).abs().max().item()
    assert deviation < 1e-12
    (single,) = make(**settings).views(nn.Identity(), x.float(), Y, Given(draws={"waves 0": draws}), {})
    assert (single - wanted).abs().max() < 1e-4
    plain = reference(x, draws, 5.0)
    assert torch.equal(plain, wanted) == (not settings)


def test_the_gain_follows_the_size() -> None:
    """sigma is the L2 norm of what is added to a channel of 32x32, and N/32 times that for one of N x N."""
    draws = WaveDraws(torch.rand(1, 3).double(), torch.rand(1, 3).double(), torch.full((1, 3), 0.2).double())
    for height, width, gain in [(32, 32, 1.0), (64, 64, 2.0), (17, 17, 17 / 32), (16, 64, 1.0)]:
        grey = torch.full((1, 3, height, width), 0.5, dtype=torch.float64)
        added = add_waves(grey, draws, mean=2.0) - grey
        torch.testing.assert_close(added.flatten(2).norm(dim=2), torch.full((1, 3), gain * 0.4).double())
    strong = add_waves(images(), sample_waves(B, generator()), mean=100)
    assert (strong.min().item(), strong.max().item()) == (0, 1)


@pytest.mark.parametrize(("height", "width"), [(16, 64), (64, 16)])
@pytest.mark.parametrize(("highest", "most"), [("reference", 64), ("nyquist", 32)])
def test_frequencies_go_up_to_the_longer_side(height: int, width: int, highest: Any, most: int) -> None:
    last, strength = torch.full((1, 3), 0.9999).double(), torch.full((1, 3), 0.1).double()
    grey = torch.full((1, 3, height, width), 0.5, dtype=torch.float64)
    added = add_waves(grey, WaveDraws(last, torch.full_like(last, 0.3), strength), mean=1.0, highest=highest) - 0.5
    angle = torch.full_like(last, (448 * 3 // 10 / 447 - 1) * math.pi)
    torch.testing.assert_close(added, 0.1 * planar_waves(height, width, torch.full_like(last, most), angle))


def test_frequencies_and_angles_are_a_grid_with_both_ends() -> None:
    places, thetas = (torch.arange(k).double() / k + 0.5 / k for k in (N, 448))
    half = torch.full_like(places, 0.5)
    one = torch.full((N, 3, N, N), 0.5, dtype=torch.float64)

    def added(frequency: Tensor, angle: Tensor, **options: Any) -> Tensor:
        draws = (part[:, None].expand(-1, 3) for part in (frequency, angle, torch.ones_like(frequency)))
        return (add_waves(one[: len(frequency)], WaveDraws(*draws), mean=0.1, **options) - 0.5)[:, 0] * 10

    middle = torch.full_like(places, (448 // 2) / 447 * math.pi - math.pi)
    torch.testing.assert_close(added(places, half), planar_waves(N, N, torch.arange(1.0, N + 1).double(), middle))
    low = added(places, half, highest="nyquist")
    torch.testing.assert_close(low[::2], planar_waves(N, N, torch.arange(1.0, N // 2 + 1).double(), middle[::2]))
    ends = added(torch.zeros(2).double(), thetas[[0, -1]])
    torch.testing.assert_close(
        ends,
        planar_waves(N, N, torch.ones(2).double(), torch.tensor([-math.pi, 0], dtype=torch.float64)),
        rtol=0,
        atol=1e-12,
    )


def test_above_half_of_n_a_frequency_is_a_lower_one() -> None:
    k, zero = torch.arange(1.0, N + 1).double(), torch.zeros(N, dtype=torch.float64)
    wave = planar_waves(N, N, k, zero)
    torch.testing.assert_close(wave[N - 1], -wave[0], rtol=0, atol=1e-12)  # N periods look like one
    spectrum = torch.fft.rfft(wave[:, 0, : N - 1]).abs()  # N - 1 pixels hold whole periods
    folded = torch.minimum(k % (N - 1), -k % (N - 1)).long()
    assert torch.equal(spectrum.argmax(dim=1), folded)
    assert k[folded.double() < k].min() == N // 2


def test_the_even_part_of_a_wave_is_a_wave_of_the_sensitivity_map() -> None:
    """Of k periods over N - 1 pixels: sin(a - pi/4) + sin(-a - pi/4) = -sqrt(2) cos a."""
    k = torch.arange(1, N)
    wave = planar_waves(N, N, k.double(), torch.zeros(N - 1, dtype=torch.float64))
    even = wave + wave.flip(2)
    ours = cosines(N, torch.stack([0 * k, k], dim=1), N - 1) * (-1.0) ** k[:, None, None]
    cosine = (even * ours).flatten(1).sum(1) / even.flatten(1).norm(dim=1) / ours.flatten(1).norm(dim=1)
    torch.testing.assert_close(cosine, -torch.ones(N - 1).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 32), (17, 40), (1, 1), (1, 8)])
def test_every_wave_has_unit_norm(shape: tuple[int, int]) -> None:
    k = torch.arange(1.0, max(shape) + 1).double()
    wave = planar_waves(*shape, k, -3 * torch.rand(len(k), generator=generator()).double())
    torch.testing.assert_close(wave.flatten(1).norm(dim=1), torch.ones(len(k)).double())


def test_the_law_of_the_draws() -> None:
    draws = sample_waves(20_000, generator())
    for part in (draws.frequency, draws.angle):
        counts = (part * 8).long().flatten().bincount(minlength=8) / part.numel()
        assert (counts - 1 / 8).abs().max() < 0.01
        assert part.min() >= 0
        assert part.max() < 1
    strength = draws.strength
    assert strength.mean().item() == pytest.approx(1, abs=0.02)
    assert (strength > 2).double().mean().item() == pytest.approx(math.exp(-2), abs=0.01)  # exponential
    every = torch.cat([draws.frequency, draws.angle, strength], dim=1)
    assert (torch.corrcoef(every.T) - torch.eye(9)).abs().max() < 0.03  # each channel its own, and nothing shared
    again = sample_waves(20_000, generator())
    assert torch.equal(again.strength, strength)


# The step.


def test_ace_is_the_mean_of_two_cross_entropies(net: nn.Module) -> None:
    x, draws = images(), sample_waves(B, generator())
    loss = make().loss(net, x, Y, Given(draws={"waves 0": draws}), {}).item()
    parts = [cross_entropy(probabilities(net, z)) for z in (x, reference(x, draws, 5.0))]
    assert abs(loss - sum(parts) / 2) < 1e-12


def test_js_is_the_divergence_of_an_image_and_two_waved_ones(net: nn.Module) -> None:
    x, one, two = images(), sample_waves(B, generator(1)), sample_waves(B, generator(2))
    p = [probabilities(net, z) for z in (x, reference(x, one, 5.0), reference(x, two, 5.0))]
    mean = sum(p) / 3
    js = sum((q * np.log(q / mean)).sum(axis=1).mean() for q in p) / 3
    for lam in (10.0, 1.0):
        loss = make(objective="js", lam=lam).loss(net, x, Y, Given(draws={"waves 0": one, "waves 1": two}), {}).item()
        assert abs(loss - cross_entropy(p[0]) - lam * js) < 1e-12


def test_an_augmix_view_takes_the_place_of_the_image_but_not_under_the_wave(net: nn.Module) -> None:
    x = toy.images(B, 0).unit().double()
    view, waved = make(base="augmix").views(net, x, Y, Rng(0), {})
    assert torch.equal(waved, make().views(net, x, Y, Rng(0), {})[0])
    assert not torch.equal(view, x)
    assert not torch.equal(view, make(base="augmix", severity=1).views(net, x, Y, Rng(0), {})[0])
    loss = make(base="augmix").loss(net, x, Y, Rng(0), {}).item()
    assert abs(loss - sum(cross_entropy(probabilities(net, z)) for z in (view, waved)) / 2) < 1e-12
    assert len(make(base="augmix", objective="js").views(net, x, Y, Rng(0), {})) == 3
    assert (make().operations(), make(base="augmix").operations()) == ((), NINE)


def with_norm() -> Classifier:
    trunk = nn.Sequential(nn.BatchNorm2d(4, momentum=1.0), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(nn.Conv2d(3, 4, 3), trunk, nn.Linear(4, 4), 0.5, 0.5).double()


@pytest.mark.parametrize(("objective", "waved"), [("ace", 1), ("js", 2)])
def test_waved_images_go_along_the_auxiliary_route_alone(objective: str, waved: int) -> None:
    method, x = make(objective=objective), images()
    net = method.wrap(with_norm())
    norm = net.trunk[0]  # type: ignore[index]
    assert isinstance(norm, DualBatchNorm2d)
    method.loss(net, x, Y, Rng(0), {}).backward()
    assert norm.main.num_batches_tracked == 1
    assert norm.adversarial.num_batches_tracked == waved
    last = method.views(net, x, Y, Rng(0), {})[-1]
    for part, seen in ((norm.main, x), (norm.adversarial, last)):  # momentum 1: the statistics of the last batch
        torch.testing.assert_close(part.running_mean, net.embed(seen).mean((0, 2, 3)))  # type: ignore[operator]
        assert part.weight.grad is not None
    net.eval()
    before = net(x)
    with route(net, "A"):
        assert not torch.allclose(net(x), before)


def test_the_norms_are_those_asked_for() -> None:
    plain = make(dual_norm="plain").wrap(with_norm())
    assert not any(isinstance(module, DualBatchNorm2d) for module in plain.modules())
    block = nn.Sequential()
    for name in ("layer1", "layer2"):
        block.add_module(name, nn.Sequential(nn.Sequential()))
        block.get_submodule(f"{name}.0").add_module("bn1", nn.BatchNorm2d(4))
    assert isinstance(make(dual_norm="dubin").wrap(block).get_submodule("layer1.0.bn1"), DuBIN)
