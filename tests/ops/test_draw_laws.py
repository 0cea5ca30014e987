"""The laws of draws whose ends alone other tests look at: how they are distributed, and what is independent of what."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from benchmark.ops.attacks.amplitude import AmplitudeSettings, sample_statistics
from benchmark.ops.batch_transforms import sample_jitter_log
from benchmark.ops.crops import sample_crop_flip
from benchmark.ops.prime import sample_prime
from benchmark.ops.progressive_conv import sample_block
from benchmark.ops.semantic import OPERATIONS

SURE = 1e-4
"""A p that a right draw falls below once in ten thousand seeds; these have one seed."""


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uncorrelated(columns: Tensor) -> bool:
    """Whether all columns [N,K] of independent draws are uncorrelated, within five standard errors."""
    found = np.corrcoef(columns.double().T.numpy())
    return bool((abs(found - np.eye(len(found))) < 5 / len(columns) ** 0.5).all())


def test_primes_displacements_have_the_strength_of_its_paper() -> None:
    """T between T1 and T2 of the cut by Beta(1/2, 1/2), and two fields that have nothing to do with each other."""
    size, most = 32, 12
    draws = sample_prime(300, gen(0), size=size, frequencies=1, cut_max=most, per_image=True)
    i = torch.arange(1, most + 1).float()
    length = (i[:, None].square() + i.square()).sqrt()
    cut = torch.where(draws.wave[..., 0, :, :] != 0, length, 0).amax((-2, -1)).floor()
    lowest = 1 / (math.pi * size**2 * cut.log())
    highest = torch.maximum(lowest, 4 / (math.pi**3 * cut**2 * cut.log()))
    inside = highest > 1.01 * lowest
    place = ((draws.strength.square() - lowest) / (highest - lowest))[inside]
    assert stats.kstest(place.flatten().numpy(), stats.beta(0.5, 0.5).cdf).pvalue > SURE
    assert uncorrelated(draws.wave[..., 0, 0].flatten(0, -2))


def test_primes_colours_and_filters_are_drawn_for_each_image_and_channel() -> None:
    draws = sample_prime(400, gen(1), size=32, frequencies=2)
    assert uncorrelated(draws.curve.flatten(0, -3).flatten(1))
    assert draws.curve.std().item() == pytest.approx(0.1, rel=0.05)  # sqrt of T = 0.01
    filters = draws.noise.flatten(0, -3).flatten(1)
    assert uncorrelated(filters)
    assert len(filters.unique(dim=0)) == len(filters)


def test_pro_randconvs_blocks_have_a_style_for_each_channel() -> None:
    draws = sample_block(20_000, gen(2), k=3, smooth=(0.01, 1.0), offset=(0.001, 0.2), style=0.5)
    style = torch.cat([draws.gamma, draws.beta], dim=1)
    assert style.shape == (20_000, 6)
    assert uncorrelated(style)
    assert stats.kstest(style.flatten().numpy(), stats.norm(0, 0.5).cdf).pvalue > SURE
    assert stats.kstest(draws.sigma_offset.numpy(), stats.uniform(0.001, 0.199).cdf).pvalue > SURE
    corner = draws.weight[..., 0, 0].square().mean() / draws.weight[..., 1, 1].square().mean()
    sigma = np.linspace(0.01, 1.0, 100_001)  # E exp(-2 / sigma^2), uniform: the corner is exp(-1 / sigma^2)
    assert corner.item() == pytest.approx(np.exp(-2 / sigma**2).mean(), rel=0.05)


def test_aauas_start_is_drawn_for_each_image_and_channel() -> None:
    draws = sample_statistics(torch.Size([20_000, 3, 8, 8]), gen(3), AmplitudeSettings())
    start = torch.cat([draws.d_mu, draws.d_sd], dim=1).flatten(1)
    assert start.shape == (20_000, 6)
    assert uncorrelated(start)
    drawn = AmplitudeSettings(low_frequency="drawn")
    sides = [sample_statistics(torch.Size([1, 1, 8, 8]), gen(seed), drawn).side.item() for seed in range(2000)]
    assert stats.kstest(sides, stats.uniform(0, 0.5).cdf).pvalue > SURE


def test_crops_are_as_large_as_torchvisions() -> None:
    ours = sample_crop_flip(4000, 224, 224, gen(4))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        blank = torch.empty(3, 224, 224)
        theirs = [RandomResizedCrop.get_params(blank, [0.5, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(4000)]
    for mine, other in ((ours.height, 0), (ours.width, 1)):
        assert stats.ks_2samp(mine.numpy(), [sides[other] for sides in theirs]).pvalue > SURE
    areas = [height * width for height, width in theirs]
    assert stats.ks_2samp((ours.height * ours.width).numpy(), areas).pvalue > SURE


def test_the_jitter_of_sadas_loader_is_uniform() -> None:
    draws = sample_jitter_log(20_000, gen(5))
    for factors in (draws.brightness, draws.contrast):
        assert stats.kstest(factors.numpy(), stats.uniform(0.5, 1).cdf).pvalue > SURE


RANGES = {
    "hsv": (-1, 1), "rotate": (0.01, 1), "translate": (-1, 1), "invert": (0.5, 1), "shear": (-0.3, 0.3),
    "contrast": (0.1, 1.9), "sharpness": (0, 1), "solarize": (-0.5, 0.5), "scale": (0.5, 2), "equalize": (0, 1),
    "posterize": (0, 9), "cutout": (0, 1),
}  # fmt: skip
"""AdvST's operations and the ends that their parameters are drawn between."""


def test_the_ranges_of_advsts_operations_are_the_released_ones() -> None:
    assert {name: (each.low, each.high) for name, each in OPERATIONS.items()} == RANGES
