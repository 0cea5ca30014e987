"""The loaders: SADA's jitter against Pillow through torchvision's own functions, its filter's odd facts, and crops."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F
from torchvision.transforms.functional import resized_crop

from benchmark.core.rng import Rng
from benchmark.ops.batch_transforms import (
    JitterLogDraws,
    jitter_log,
    laplacian_of_gaussian,
    sample_jitter_log,
    transform_batch,
)
from benchmark.ops.crops import PadCropFlipDraws, crop_flip, pad_crop_flip, sample_crop_flip, sample_pad_crop_flip


def digit() -> np.ndarray:
    """A bright bar with soft edges on black, uint8 [32,32]."""
    image = np.zeros((32, 32), np.uint8)
    image[6:26, 13:19] = 250
    image[6:26, [12, 19]] = 120
    return image


def draws(brightness: float, contrast: float, first: bool, filtered: bool) -> JitterLogDraws:
    return JitterLogDraws(
        torch.tensor([brightness]), torch.tensor([contrast]), torch.tensor([first]), torch.tensor([filtered])
    )


@pytest.mark.parametrize("brightness", [0.5, 0.83, 1.0, 1.49])
@pytest.mark.parametrize("contrast", [0.5, 1.17, 1.49])
@pytest.mark.parametrize("contrast_first", [True, False])
def test_jitter_gives_pillows_bytes(brightness: float, contrast: float, contrast_first: bool) -> None:
    image = Image.fromarray(digit())
    steps = [(ImageEnhance.Brightness, brightness), (ImageEnhance.Contrast, contrast)]
    for enhance, factor in reversed(steps) if contrast_first else steps:
        image = enhance(image).enhance(float(np.float32(factor)))
    x = torch.tensor(digit())[None, None].expand(1, 3, 32, 32) / 255
    found = jitter_log(x, draws(brightness, contrast, contrast_first, filtered=False))
    assert torch.equal((found[0, 0] * 255).round().byte(), torch.tensor(np.asarray(image)))
    assert torch.equal(found[:, 0], found[:, 2])


def test_the_filter_is_a_blur_with_its_sign_turned() -> None:
    x = torch.tensor(digit(), dtype=torch.float64)[None, None] / 255
    found = laplacian_of_gaussian(x)[0, 0]
    assert found[16, 16] == 0  # the digit is black
    assert 0.2 < found[2, 2] < 0.5  # the background is grey
    assert laplacian_of_gaussian(torch.full_like(x, 0.5))[0, 0, 16, 16] == 0  # inside a flat image nothing stands out


def test_the_filter_is_standardised_over_three_equal_channels() -> None:
    """The released filter sees three channels: the divisor of its variance is 3HW - 1."""
    x = torch.tensor(digit(), dtype=torch.float64)[None, None] / 255
    grid = range(-1, 2)
    kernel = torch.tensor(
        [[(u * u + v * v - 2) * math.exp(-(u * u + v * v) / 2) / (2 * math.pi) for v in grid] for u in grid]
    )
    three = F.conv2d(x.expand(1, 3, 32, 32), kernel.double().expand(3, 1, 3, 3), padding=1, groups=3)
    expected = (three - three.mean()) / ((three - three.mean()).square().sum() / 3071).sqrt()
    assert torch.allclose(laplacian_of_gaussian(x), expected[:, :1].clamp(0, 1), rtol=0, atol=1e-7)
    assert torch.allclose(
        jitter_log(x.float().expand(1, 3, 32, 32), draws(1.0, 1.0, True, filtered=True))[0, 2],
        (expected[0, 2].clamp(0, 1) * 255).floor().float() / 255,
    )


def test_the_filters_weights() -> None:
    """Response to a point, before standardising, is the kernel: centre -1/pi, edges -exp(-.5)/(2 pi), corners 0."""
    seen: list[torch.Tensor] = []
    real = F.conv2d

    def spy(x: torch.Tensor, weight: torch.Tensor, padding: int) -> torch.Tensor:
        seen.append(weight)
        return real(x, weight, padding=padding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "conv2d", spy)
        laplacian_of_gaussian(torch.rand(1, 1, 5, 5, dtype=torch.float64))
    kernel = seen[0][0, 0]
    assert kernel[1, 1].item() == pytest.approx(-0.318310, abs=1e-6)
    assert kernel[0, 1].item() == pytest.approx(-0.096532, abs=1e-6)
    assert kernel[0, 0].item() == 0
    assert kernel.sum().item() == pytest.approx(-0.7044, abs=1e-4)


def test_draws() -> None:
    found = sample_jitter_log(20_000, torch.Generator().manual_seed(0))
    for factor in (found.brightness, found.contrast):
        assert 0.5 <= factor.min() < 0.51
        assert 1.49 < factor.max() < 1.5
    assert found.contrast_first.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert found.filtered.float().mean().item() == pytest.approx(0.6, abs=0.02)


def test_draws_of_the_jitter_are_independent() -> None:
    found = sample_jitter_log(20_000, torch.Generator().manual_seed(0))
    parts = (found.brightness, found.contrast, found.contrast_first.float(), found.filtered.float())
    torch.testing.assert_close(torch.corrcoef(torch.stack(parts)), torch.eye(4), rtol=0, atol=0.03)


def test_images_do_not_depend_on_their_neighbours_and_plain_changes_nothing() -> None:
    grey = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).floor().div(255)
    x, rng = grey.expand(4, 3, 8, 8), Rng(0, 5)
    assert transform_batch(x, "plain", rng) is x
    whole = transform_batch(x, "jitter_log", rng)
    other = x.clone()
    other[1:] = 0
    assert torch.equal(transform_batch(other, "jitter_log", rng)[0], whole[0])
    assert whole.min() >= 0
    assert whole.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 32), (33, 57)])
def test_crops_are_those_of_torchvision(height: int, width: int) -> None:
    x = torch.rand(64, 3, height, width, generator=torch.Generator().manual_seed(1))
    drawn = sample_crop_flip(64, height, width, torch.Generator().manual_seed(0))
    found = crop_flip(x, drawn)
    boxes = zip(*(part.tolist() for part in (drawn.top, drawn.left, drawn.height, drawn.width)), strict=True)
    for i, box in enumerate(boxes):
        expected = resized_crop(x[i], *box, [height, width], antialias=True)
        expected = expected.flip(2) if drawn.flipped[i] else expected
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-5)


def test_draws_of_crops() -> None:
    n, side = 20_000, 224
    drawn = sample_crop_flip(n, side, side, torch.Generator().manual_seed(0))
    area, ratio = drawn.height * drawn.width / side**2, drawn.width / drawn.height
    assert 0.495 < area.min() < 0.505
    assert area.max() <= 1
    assert ((ratio > 0.74) & (ratio < 1.35)).all()
    assert ratio.log().mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.flipped.float().mean().item() == pytest.approx(0.5, abs=0.02)
    for first, length in ((drawn.top, drawn.height), (drawn.left, drawn.width)):
        assert first.min() == 0
        assert ((first >= 0) & (first + length <= side)).all()
        assert (first + length == side).any()
    tall = sample_crop_flip(1000, 200, 20, torch.Generator().manual_seed(0))  # no part of half the area fits
    assert (tall.height == 200).all()
    assert (tall.width == 20).all()


def test_corners_and_flips_of_crops_are_drawn_apart() -> None:
    """Where the room on both sides is 40 of 224 pixels or more."""
    drawn = sample_crop_flip(20_000, 224, 224, torch.Generator().manual_seed(0))
    rooms = 224 - drawn.height, 224 - drawn.width
    wide = (rooms[0] >= 40) & (rooms[1] >= 40)
    assert wide.sum() > 2000
    parts = (drawn.top / rooms[0], drawn.left / rooms[1], drawn.flipped.float())
    found = torch.corrcoef(torch.stack([part[wide] for part in parts]))
    torch.testing.assert_close(found, torch.eye(3), rtol=0, atol=0.06)


def test_a_crop_does_not_depend_on_its_neighbours() -> None:
    x, rng = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), Rng(0, 5)
    other = x.clone()
    other[1:] = 0
    assert torch.equal(transform_batch(other, "crop_flip", rng)[0], transform_batch(x, "crop_flip", rng)[0])
    assert not torch.equal(transform_batch(x, "crop_flip", rng), transform_batch(x, "crop_flip", Rng(0, 6)))


def test_pad_crop_flip_moves_and_mirrors() -> None:
    x = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    top, left = torch.tensor([4, 0, 6]), torch.tensor([4, 8, 3])
    found = pad_crop_flip(x, PadCropFlipDraws(top, left, torch.tensor([False, False, True])))
    assert torch.equal(found[0], x[0])  # the middle of the padded image is the image
    black = torch.zeros(3, 6, 5)
    black[:, 4:, :1] = x[1, :, :2, -1:]
    assert torch.equal(found[1], black)
    mirrored = torch.zeros(3, 6, 5)
    mirrored[:, :4, 1:] = x[2].flip(2)[:, 2:, :4]
    assert torch.equal(found[2], mirrored)


def test_crop_flip_draws_reach_every_place() -> None:
    found = sample_pad_crop_flip(5_000, torch.Generator().manual_seed(0))
    for places in (found.top, found.left):
        assert places.unique().tolist() == list(range(9))
    assert found.flipped.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert len(set(zip(found.top.tolist(), found.left.tolist(), found.flipped.tolist(), strict=True))) == 9 * 9 * 2


def test_a_batch_is_transformed_as_drawn() -> None:
    x, rng = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)), Rng(0, 5)
    drawn = rng.draw("loader", sample_pad_crop_flip, len(x))
    assert torch.equal(transform_batch(x, "pad_crop_flip", rng), pad_crop_flip(x, drawn))
