"""The corruptions against imagecorruptions-imaug, another port of the released code (`pip install .[oracle]`).

It has ImageNet-C's constants only, and other choices in motion blur's edge, elastic transform, frost's photographs:
docs/corruptions.md. What is not random is compared pixel by pixel; the rest by how far it moves an image on average.
"""

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.corruptions import CORRUPTIONS, SEVERITIES, corrupt, counter_rng, weather
from tests.corruptions.pictures import photographs

oracle = pytest.importorskip("imagecorruptions", reason="the extra 'oracle' is not installed")
EXACT = {"defocus_blur": 0.1, "zoom_blur": 0.01, "brightness": 0.05, "contrast": 0.05, "pixelate": 1e-9}
EXACT |= {"gaussian_blur": 0.01, "saturate": 0.25, "jpeg_compression": 0.1}
"""Mean absolute difference allowed, in grey levels: cuts to bytes of float32 (theirs) and float64 (ours)."""
LIKE = {"gaussian_noise": 0.02, "shot_noise": 0.02, "impulse_noise": 0.03, "speckle_noise": 0.02}
LIKE |= {"glass_blur": 0.05, "motion_blur": 0.15, "snow": 0.1}
"""Relative difference allowed between the mean absolute changes that both make to the same images."""


def theirs(x: torch.Tensor, name: str, severity: int) -> torch.Tensor:
    np.random.seed(0)  # noqa: NPY002 - it draws from NumPy's global generator
    images = [image.permute(1, 2, 0).numpy() for image in x]
    found: list[np.ndarray[Any, Any]] = [oracle.corrupt(image, severity, name) for image in images]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x.double() - y.double()).abs().mean().item()


def test_every_corruption_is_compared_or_named_as_different() -> None:
    assert set(CORRUPTIONS) - set(EXACT) - set(LIKE) == {"elastic_transform", "fog", "frost", "spatter"}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", EXACT)
def test_what_is_not_random_is_equal_but_for_cuts(name: str, severity: int) -> None:
    x = photographs(6, 96, 96)
    ours, wanted = corrupt(x, name, severity, torch.arange(6)), theirs(x, name, severity)
    assert distance(ours, wanted) < EXACT[name]
    if name != "jpeg_compression":
        assert (ours.int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", LIKE)
def test_what_is_random_moves_images_as_far(name: str, severity: int) -> None:
    x = photographs(24, 72, 72)
    ours = distance(x, corrupt(x, name, severity, torch.arange(len(x))))
    assert ours == pytest.approx(distance(x, theirs(x, name, severity)), rel=LIKE[name])


@pytest.mark.parametrize("decay", [1.4, 3.0])
def test_clouds_are_of_the_same_kind(decay: float) -> None:
    """Fog: mean, spread within and between clouds, and roughness of 400 of them."""
    np.random.seed(0)  # noqa: NPY002
    wanted = torch.from_numpy(np.stack([oracle.corruptions.plasma_fractal(32, decay) for _ in range(400)]))
    uniform = counter_rng.stream(0, "fog", 1, torch.arange(400)).uniform("wibble", -1, 1, 32, 32)
    ours = weather.plasma(uniform, decay)
    assert measures(ours) == pytest.approx(measures(wanted), rel=0.08)


def measures(cloud: torch.Tensor) -> list[float]:
    means = cloud.mean((1, 2))
    found = means.mean(), cloud.std((1, 2)).mean(), means.std(), cloud.diff(dim=2).abs().mean()
    return [value.item() for value in found]
