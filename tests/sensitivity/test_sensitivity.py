"""The sensitivity map: against closed forms, and against the plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark import networks
from benchmark.core.images import Images
from benchmark.core.rng import key
from benchmark.networks.classifiers import Classifier
from benchmark.sensitivity import fourier
from benchmark.sensitivity import map as sensitivity
from benchmark.sensitivity.map import measure, spectral_weights, summaries
from benchmark.sensitivity.wave_errors import (
    perturbed,
    sample_signs,
    wrong,
)
from tests.sensitivity.map_cases import flat_images, identity_conv, random_images, small_net, step_net


@pytest.mark.parametrize("std", [1.0, 0.25])
@pytest.mark.parametrize("stem", [identity_conv(), nn.Identity()], ids=["linear", "plain"])
@pytest.mark.parametrize("frequency", [(1, 2), (0, 3), (7, 1), (4, 4)])
def test_map_of_a_linear_classifier_is_exact(frequency: tuple[int, int], stem: nn.Module, std: float) -> None:
    size, brightness = 8, torch.linspace(0.05, 0.95, 10)
    net, images = step_net(frequency, size, std, stem), flat_images(brightness, size)
    expected = torch.zeros(size, size)
    for rho in (0.05, 0.15, 0.2, 0.25):
        # (7, 1) is the mirror image of (1, 7): its wave is the same cosine
        share = (rho * size > 1 + brightness).float().mean()
        expected[frequency] = expected[-frequency[0] % size, -frequency[1] % size] = share
        found = measure(net, images, seed=0, rho=rho)
        assert torch.equal(found.error, expected)
        assert found.clean_error == 0.0
        assert found.radius == rho * size


def test_waves_are_added_before_normalisation() -> None:
    """A wave added after it would be weaker by the factor std in pixels, and cross the step at 4 times the radius."""
    size = 8
    images = flat_images(torch.full((4,), 0.2), size)
    for std in (0.25, 1.0):
        net = step_net((1, 2), size, std, identity_conv())
        just_below, just_above = (measure(net, images, seed=0, rho=r / size).error[1, 2] for r in (1.19, 1.21))
        assert [float(just_below), float(just_above)] == [0.0, 1.0]
        after = net.head(net.trunk((images.x - 0.5) / std + 1.21 * fourier.waves(size, torch.tensor([[1, 2]]))))
        assert bool((after.argmax(dim=1) == 0).all()) == (std < 1), "the same wave, normalised, would cross no step"


def test_normalised_and_unusable_images_are_refused() -> None:
    net, images = small_net(), random_images(4, 8)
    for x in ((images.x - 0.5) / 0.5, images.x + 0.5, images.x * torch.nan):
        with pytest.raises(ValueError, match="before normalisation"):
            measure(net, Images(x, images.y), seed=0)
    for bad in (images[:0], Images(images.x[:, :, :4], images.y)):
        with pytest.raises(ValueError, match="square"):
            measure(net, bad, seed=0)
    with pytest.raises(ValueError, match="limit"):
        measure(net, images, seed=0, limit=0)


def test_clamping_cuts_image_plus_wave_to_the_unit_range() -> None:
    """On a black image only the positive half of a wave survives: half its projection, so twice the radius."""
    size = 8
    net = step_net((1, 2), size, 1.0, identity_conv())
    images = flat_images(torch.zeros(4), size)
    assert measure(net, images, seed=0, rho=1.5 / size).error[1, 2] == 1.0
    assert measure(net, images, seed=0, rho=1.5 / size, clamp=True).error[1, 2] == 0.0
    assert measure(net, images, seed=0, rho=2.5 / size, clamp=True).error[1, 2] == 1.0


def test_subtracted_clean_error() -> None:
    size = 8
    net, images = step_net((1, 2), size, 1.0, identity_conv()), flat_images(torch.zeros(4), size)
    half_wrong = Images(images.x, torch.tensor([0, 0, 1, 1]))
    plain = measure(net, half_wrong, seed=0)
    subtracted = measure(net, half_wrong, seed=0, subtract_clean=True)
    assert plain.clean_error == subtracted.clean_error == 0.5
    torch.testing.assert_close(subtracted.error, plain.error - 0.5)
    torch.testing.assert_close(subtracted.rate, plain.error)
    assert summaries(subtracted) == pytest.approx(summaries(plain))


def test_standard_errors_are_those_of_the_images() -> None:
    size = 8
    net, images = step_net((1, 2), size, 1.0, identity_conv()), flat_images(torch.linspace(0.05, 0.95, 10), size)
    found = measure(net, images, seed=0, rho=0.2)  # six of ten images are wrong, at two of the 64 frequencies
    by_image = torch.tensor([2 / 64] * 6 + [0.0] * 4)
    assert found.mean_standard_error == pytest.approx(float(by_image.std()) / 10**0.5)
    expected = torch.zeros(size, size)
    expected[1, 2] = expected[-1, -2] = (0.6 * 0.4 / 9) ** 0.5
    torch.testing.assert_close(found.standard_error, expected)
    assert math.isnan(measure(net, images[:1], seed=0).mean_standard_error)


def test_the_standard_error_of_the_mean_of_a_grid_is_that_of_the_images() -> None:
    """Six of ten images are wrong under every wave and four under none, so the means of images are 1 and 0."""
    wrong, size = torch.tensor([1.0] * 6 + [0.0] * 4), 24
    net, images = step_net((1, 2), size, 1.0, identity_conv()), flat_images(torch.linspace(0.05, 0.95, 10), size)
    found = measure(net, Images(images.x, wrong.long()), seed=0, rho=1e-6, grid=8)
    assert found.grid == 8
    assert found.clean_error == pytest.approx(0.6)
    assert found.mean_standard_error == pytest.approx(float(wrong.std()) / 10**0.5)


def test_standard_error_predicts_the_spread_of_sub_samples() -> None:
    net, images = small_net(), random_images(600, 8)
    found = [measure(net, images, seed=seed, limit=40) for seed in range(30)]
    spread = float(np.std([float(part.error.mean()) for part in found], ddof=1))
    claimed = float(np.mean([part.mean_standard_error for part in found]))
    assert 0.6 < spread / claimed < 1.6  # 30 draws: the ratio's own standard deviation is 0.13


@torch.inference_mode()
def plain_loop(net: nn.Module, images: Images, seed: int, rho: float) -> tuple[Tensor, Tensor]:
    """Per frequency class: how many images are wrong, and how many of them are ties up to rounding."""
    size, x = images.x.shape[-1], images.unit()
    wrong_counts, ties = [], []
    for v, u in fourier.classes(size).tolist():
        y, at = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        cosine = torch.cos(2 * torch.pi * (v * y + u * at).double() / size)
        wave = (rho * size * cosine / cosine.norm()).float()
        signs = sample_signs(len(x), torch.Generator().manual_seed(key(seed, v, u)))
        logits = net(x + signs[:, :, None, None] * wave)
        top = logits.topk(2).values
        wrong_counts.append((logits.argmax(dim=1) != images.y).sum())
        ties.append((top[:, 0] - top[:, 1] < 1e-4).sum())
    return torch.stack(wrong_counts), torch.stack(ties)


STEMS = {
    "valid": lambda: nn.Conv2d(3, 6, 5),
    "zero padding": lambda: nn.Conv2d(3, 6, 3, padding=1, bias=False),
    "reflection": lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
    "stride and dilation": lambda: nn.Conv2d(3, 6, 3, stride=2, padding=2, dilation=2),
    "groups": lambda: nn.Conv2d(3, 6, 3, groups=3),
}


@pytest.mark.parametrize("stem", STEMS)
def test_fast_path_equals_the_plain_loop(stem: str) -> None:
    torch.manual_seed(0)
    net, images = small_net(stem=STEMS[stem]()).eval(), random_images(50, 8)
    counts, ties = plain_loop(net, images, seed=5, rho=0.25)
    found = measure(net, images, seed=5)
    got = found.error[tuple(fourier.classes(8).unbind(1))] * 50
    assert ((got - counts).abs() <= ties + 1e-3).all()
    assert counts.unique().numel() > 3, "a map worth comparing"


@pytest.mark.parametrize("name", ["mini_convnet", "digits_convnet"])
def test_fast_path_logits_equal_the_plain_ones(name: str) -> None:
    net, images = networks.build(name, 5, 0).eval(), random_images(5, 32)
    waves = 8 * fourier.waves(32, fourier.classes(32)[[0, 1, 40, 300, 513]])
    signs = torch.stack([sample_signs(5, torch.Generator().manual_seed(k)) for k in range(5)]).float()
    with torch.inference_mode():
        fast = perturbed(net, images.x)(waves, signs)
        plain = net((images.x + signs[..., None, None] * waves[:, None, None]).flatten(0, 1))
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


class WithoutCut(nn.Module):
    """A network with no stem to cut after; the plain path serves it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def test_chunks_and_paths_change_nothing_but_ties() -> None:
    net, images = small_net().eval(), random_images(23, 8)
    counts, ties = plain_loop(net, images, seed=1, rho=0.25)
    classes = tuple(fourier.classes(8).unbind(1))
    assert (counts > 0).any()
    for other in (net, WithoutCut(net)):
        for batch in (1, 7, 23, 60, 1000):
            found = measure(other, images, seed=1, batch=batch).error[classes] * 23
            assert ((found - counts).abs() <= ties + 1e-3).all()


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 9), waves=st.integers(1, 6), batch=st.integers(1, 40))
def test_every_image_meets_every_wave_once(n: int, waves: int, batch: int) -> None:
    """A network that says class 1 exactly where the wave's sum over a one-hot pixel is positive."""
    stem = identity_conv()
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0]]))
        head.bias.zero_()
    net = Classifier(stem, nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), head, mean=0.0, std=1.0)
    generator = torch.Generator().manual_seed(n)
    signs = 2 * torch.randint(2, (waves, n, 3), generator=generator) - 1
    added = torch.ones(waves, 2, 2)
    images = Images(torch.full((n, 3, 2, 2), 0.25), torch.randint(2, (n,), generator=generator))
    said = torch.cat([torch.ones(1, n, dtype=torch.int64), (signs[..., 0] > 0).long()])
    assert torch.equal(wrong(net, images, added, signs, batch=batch), said != images.y)


def test_same_seed_same_map_and_uint8_is_the_same_as_its_floats() -> None:
    net, images = small_net(), random_images(20, 8)
    stored = Images((images.x * 255).round().byte(), images.y)
    first, again = (measure(net, stored, seed=2) for _ in range(2))
    assert torch.equal(first.error, again.error)
    assert torch.equal(first.error, measure(net, Images(stored.unit(), stored.y), seed=2).error)
    assert not torch.equal(first.error, measure(net, stored, seed=3).error)


def test_signs_are_keyed_by_seed_and_frequency_alone() -> None:
    one = sample_signs(1000, torch.Generator().manual_seed(key(0, 3, 4)))
    assert set(one.flatten().tolist()) == {-1, 1}
    assert abs(one.float().mean()) < 0.1
    assert (one[:, 0] != one[:, 1]).any()
    shared = sample_signs(1000, torch.Generator().manual_seed(key(0, 3, 4)), "shared")
    assert shared.shape == (1000, 3)
    assert (shared == shared[:, :1]).all()


def test_shared_signs_make_grey_waves() -> None:
    """A network that sees the difference of two channels cannot see a wave with one sign for all."""
    size = 8
    net, images = step_net((1, 2), size, 1.0, identity_conv()), flat_images(torch.zeros(6), size)
    with torch.no_grad():
        weight = net.head.weight.view(3, 3, -1)
        weight[1:, 2] = -weight[1:, 0]
    assert measure(net, images, seed=0, signs="shared").error[1, 2] == 0.0
    assert measure(net, images, seed=0, signs="per_channel").error[1, 2] > 0.0


def test_limit_takes_a_keyed_part_of_the_images() -> None:
    images = flat_images(torch.linspace(0.01, 0.99, 99), 8)
    net = step_net((1, 2), 8, 1.0, identity_conv())
    part, again = (measure(net, images, seed=0, limit=30, rho=0.2) for _ in range(2))
    assert part.n_images == 30
    assert torch.equal(part.error, again.error)
    share = float(part.error[1, 2])
    assert 0.3 < share < 0.9, "a random part of images sorted by brightness, not the first of them"
    assert measure(net, images, seed=0, limit=99).n_images == measure(net, images, seed=0, limit=500).n_images == 99


def test_network_is_left_as_found_and_the_map_is_an_ordinary_tensor() -> None:
    net, images = small_net(), random_images(6, 8)
    net.train()
    net.trunk.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = measure(net, images, seed=0)
    assert net.training
    assert not net.trunk.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not found.error.is_inference()
    amplitude = torch.ones(8, 8, requires_grad=True)
    (amplitude * spectral_weights(found.error)).sum().backward()
    assert amplitude.grad is not None
    assert torch.equal(amplitude.grad, 1 + found.error)


def test_large_images_are_measured_on_a_grid_and_say_so() -> None:
    net, images = small_net(), random_images(12, 16)
    coarse = measure(net, images, seed=0, grid=8)
    assert coarse.error.shape == (16, 16)
    assert coarse.grid == 8
    assert coarse.radius == 0.25 * 16
    assert fourier.is_symmetric(coarse.error)
    signs = torch.stack(
        [sample_signs(12, torch.Generator().manual_seed(key(0, v, u))) for v, u in fourier.classes(8).tolist()]
    )
    waves = 4.0 * fourier.waves(16, fourier.classes(8), 8)
    rates = fourier.spread(wrong(net, images, waves, signs)[1:].float().mean(dim=1), 8)
    torch.testing.assert_close(coarse.error[::2, ::2], rates)
    torch.testing.assert_close(coarse.error[1, 0], (rates[0, 0] + rates[1, 0]) / 2)
    assert measure(net, random_images(2, 8), seed=0, grid=8).grid is None


def test_saved_maps_are_plain_float32_arrays(tmp_path: Path) -> None:
    found = measure(small_net(), random_images(6, 8), seed=0)
    sensitivity.save_map(found, tmp_path / "sensitivity.npy")
    assert np.load(tmp_path / "sensitivity.npy", allow_pickle=False).dtype == np.float32
    about = {"clean_error": found.clean_error, "n_images": 6, "radius": found.radius, "seed": 0}
    back = sensitivity.load_map(tmp_path / "sensitivity.npy", **about)
    assert torch.equal(back.error, found.error)
    assert summaries(back) == summaries(found)


def test_a_network_with_batch_norm_is_mapped_in_evaluation_mode() -> None:
    """By its own statistics: with those of each batch it would say otherwise, and learn them."""
    images = random_images(6, 8)
    trunk = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(nn.Conv2d(3, 4, 3), trunk, nn.Linear(4 * 36, 5), mean=0.5, std=0.5)
        for _ in range(3):
            net(3 * torch.rand(8, 3, 8, 8))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = measure(net.train(), images, seed=0)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(found.error, measure(net.eval(), images, seed=0).error)
    wrong = (net(images.unit()).argmax(dim=1) != images.y).double().mean().item()
    assert found.clean_error == pytest.approx(wrong)


def test_the_standard_error_of_an_increase_is_that_of_the_rate() -> None:
    plain, increase = (measure(small_net(), random_images(9, 8), seed=0, subtract_clean=s) for s in (False, True))
    assert increase.clean_error > 0
    torch.testing.assert_close(increase.standard_error, plain.standard_error)
