"""Each corruption is what its formula says."""

import hashlib
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from benchmark.corruptions import (
    GROUPS,
    SEVERITIES,
    blurs,
    corrupt,
    counter_rng,
    digital,
    filters,
    jpeg,
    severities,
    spatter,
    weather,
)
from tests.corruptions.pictures import change, flat, photographs

# Noise


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_moments_of_its_constants(severity: int) -> None:
    x, ids = flat(128, 20), torch.arange(20)
    value = 128 / 255
    spread, ratio, photons, share = (
        severities.constants(name, severity, 32, 32)[0]
        for name in ("gaussian_noise", "speckle_noise", "shot_noise", "impulse_noise")
    )
    noise = corrupt(x, "gaussian_noise", severity, ids).double() / 255 - value
    assert noise.std().item() == pytest.approx(spread, rel=0.02)
    assert noise.mean().item() == pytest.approx(-0.5 / 255, abs=0.002)  # bytes are cut, not rounded
    speckle = corrupt(x, "speckle_noise", severity, ids).double() / 255
    assert speckle.std().item() == pytest.approx(value * ratio, rel=0.02)
    shot = corrupt(x, "shot_noise", severity, ids).double() / 255
    assert shot.std().item() == pytest.approx((value / photons) ** 0.5, rel=0.03)
    impulse = corrupt(x, "impulse_noise", severity, ids)
    assert (impulse != 128).double().mean().item() == pytest.approx(share, rel=0.1)
    assert (impulse == 255).double().mean().item() == pytest.approx(share / 2, rel=0.15)
    assert set(impulse.unique().tolist()) == {0, 128, 255}


# Blurs


def test_flat_images_stay_under_every_blur() -> None:
    x = flat((10, 200, 77), 2, 30, 21)
    for name in (*GROUPS["blur"], "gaussian_blur", "elastic_transform", "pixelate", "contrast"):
        for severity in SEVERITIES:
            assert change(corrupt(x, name, severity, torch.arange(2)), x) == 0, name


@pytest.mark.parametrize(("border", "mode"), [("nearest", "nearest"), ("symmetric", "reflect")])
@pytest.mark.parametrize("sigma", [0.05, 0.4, 2.0, 40.0])
def test_the_gaussian_filter_is_scipys(border: filters.Border, mode: Any, sigma: float) -> None:
    x = torch.rand(2, 1, 9, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = ndimage.gaussian_filter(x.numpy(), sigma, mode=mode, axes=(2, 3), truncate=3.0)
    torch.testing.assert_close(filters.blur(x, sigma, border, 3.0), torch.from_numpy(wanted))


def test_zoom_is_scipys() -> None:
    x = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for factor in (1.0, 1.05, 1.26, 1.75, 2.25):
        kept = int(np.ceil(32 / factor))
        start = (32 - kept) // 2
        large = ndimage.zoom(x[0, 0, start : start + kept, start : start + kept].numpy(), factor, order=1)
        trim = (len(large) - 32) // 2
        wanted = large[trim : trim + 32, trim : trim + 32]
        torch.testing.assert_close(filters.zoomed(x, factor)[0, 0], torch.from_numpy(wanted))


def test_the_disk() -> None:
    five = torch.zeros(3, 3, dtype=torch.float64)
    five[1], five[:, 1] = 0.2, 0.2
    side = np.exp(-1 / (2 * 0.2**2))
    kernel = blurs.disk(1, 0.2)
    assert kernel.sum().item() == pytest.approx(1)
    assert kernel[2, 2].item() == pytest.approx(0.2 * (1 + 4 * side) / (1 + 2 * side) ** 2)
    torch.testing.assert_close(kernel[1:4, 1:4], five, atol=1e-5, rtol=0)
    assert blurs.disk(10, 0.5).shape == (21, 21)


def test_motion_blur_along_a_row() -> None:
    """At 0 degrees the value is a one-sided Gaussian mean of the pixels to the right; at 90, below."""
    x = torch.zeros(2, 1, 20, 20, dtype=torch.float64)
    x[:, :, 10, 10] = 1
    found = filters.motion(x, 6, 2.0, torch.tensor([0.0, 90.0], dtype=torch.float64))
    weight = np.exp(-(np.arange(13) ** 2) / 8)
    wanted = np.round(255 * weight / weight.sum())[:11] / 255
    np.testing.assert_allclose(found[0, 0, 10, :11].flip(0), wanted)
    np.testing.assert_allclose(found[1, 0, :11, 10].flip(0), wanted)
    assert found[0, 0, 10, 11:].sum() == 0


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_blur_copies_pixels_in_the_released_order(reach: int) -> None:
    height, width = 17, 14
    stream = counter_rng.stream(0, "test", 1, torch.arange(3))
    down, right = stream.integers("s", -reach, reach, 2, height, width).unbind(1)
    found = blurs.glass_sources(down, right, reach)
    for image in range(3):
        content = torch.arange(height * width).reshape(height, width)
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                content[row, column] = content[row + down[image, row, column], column + right[image, row, column]]
        assert torch.equal(found[image], content.flatten())


# Weather


def test_brightness_adds_to_the_value_and_keeps_hue_and_saturation() -> None:
    found = corrupt(torch.cat([flat((100, 50, 25)), flat(0), flat((255, 10, 0))]), "brightness", 4, torch.arange(3))
    assert found[0, :, 0, 0].tolist() == [151, int(50 * 1.51 + 1e-6), int(25 * 1.51)]  # 100 + 0.2 * 255
    assert found[1, :, 0, 0].tolist() == [51, 51, 51]
    assert found[2, :, 0, 0].tolist() == [255, 10, 0]


def test_fog_goes_from_image_to_cloud() -> None:
    uniform = counter_rng.stream(0, "fog", 1, torch.arange(40)).uniform("wibble", -1, 1, 32, 32)
    cloud = weather.plasma(uniform, 3)
    assert (cloud.amin((1, 2)) == 0).all()
    assert (cloud.amax((1, 2)) == 1).all()
    assert torch.equal(weather.plasma(uniform[3:4], 3)[0], cloud[3])
    tiny = torch.tensor([[[0.0, 0.1], [0.2, 0.5]]], dtype=torch.float64)
    # By hand: corner 0; centre 5000; above (5000 + 5000) / 4 + 1000; beside (5000 + 5000) / 4 + 2000; largest 5000.
    torch.testing.assert_close(weather.plasma(tiny, 2)[0], torch.tensor([[0, 0.7], [0.9, 1]], dtype=torch.float64))
    assert change(corrupt(flat(0), "fog", 5, torch.arange(1)), flat(0)) == 0  # scaled by the brightest pixel


def test_snow_whitens_and_lies_the_same_way_up_and_down() -> None:
    y = corrupt(flat(100, 8), "snow", 3, torch.arange(8)).int()
    assert torch.equal(y, y.flip((2, 3)))
    assert y.min() >= 100
    assert torch.equal(y[:, 0], y[:, 2])


def test_frost_has_the_light_of_its_photographs() -> None:
    n = 400
    y = corrupt(flat(0, n), "frost", 5, torch.arange(n)).double()
    mean = np.mean([photograph[0] for photograph in weather.PHOTOGRAPHS], axis=0)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0.45 * mean, atol=2.5)
    assert 0.45 * 20 < y.std((2, 3)).mean() < 0.45 * 25


# Digital


def test_contrast_keeps_the_mean_and_scales_the_rest() -> None:
    x = torch.cat([flat(40, 1, 16), flat(200, 1, 16)], dim=2)
    y = corrupt(x, "contrast", 2, torch.arange(1))
    assert y[0, 0, 0, 0] == 80  # 120 - 0.5 * 80
    assert y[0, 0, -1, 0] == 160


def test_saturate() -> None:
    x = torch.cat([flat((200, 100, 50)), flat(80)])
    half = corrupt(x, "saturate", 1, torch.arange(2))  # 0.3 of the saturation
    assert half[0, :, 0, 0].tolist() == [200, 170, 155]
    assert half[1, :, 0, 0].tolist() == [80, 80, 80]
    red = corrupt(x, "saturate", 4, torch.arange(2))[1, :, 0, 0].tolist()
    assert red == [80, 72, 72]  # grey has hue 0, and saturation 0.1 is added


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 100)])
@pytest.mark.parametrize("share", [0.95, 0.65, 0.25])
def test_pixelate_is_pillows(size: tuple[int, int], share: float) -> None:
    x = photographs(3, *size)
    found = digital.pixelate(x.double() / 255, (share,), {}) * 255
    small = int(size[1] * share), int(size[0] * share)
    for image, ours in zip(x, found, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        wanted = np.asarray(picture.resize(small, Image.Resampling.BOX).resize(size[::-1], Image.Resampling.BOX))
        np.testing.assert_allclose(ours.permute(1, 2, 0), wanted, atol=1e-9)


@pytest.mark.parametrize("quality", [80, 65, 58, 50, 40, 25, 7])
@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_jpeg_is_pillows_within_a_bound(quality: int, size: tuple[int, int]) -> None:
    x = photographs(40, *size)
    found = jpeg.jpeg_compression(x.double() / 255, (quality,), {}) * 255
    wanted = []
    for image in x:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        wanted.append(np.asarray(Image.open(file)))
    off = (found.permute(0, 2, 3, 1) - torch.from_numpy(np.stack(wanted))).abs()
    assert off.mean() < 0.2
    assert (off < 0.5).double().mean() > 0.9


def test_jpeg_quantises_in_the_steps_of_its_table() -> None:
    assert jpeg.table(jpeg.LUMINANCE, 50)[0, 0] == 16
    assert jpeg.table(jpeg.LUMINANCE, 80)[0, 0] == 6
    assert jpeg.table(jpeg.CHROMINANCE, 7).max() == 255
    block = jpeg.coded(torch.full((1, 1, 8, 8), 130.0, dtype=torch.float64), jpeg.table(jpeg.LUMINANCE, 50))
    assert (block == 130).all()  # (130 - 128) * 8 is one step of 16
    block = jpeg.coded(torch.full((1, 1, 8, 8), 129.0, dtype=torch.float64), jpeg.table(jpeg.LUMINANCE, 50))
    assert (block == 130).all()  # half a step goes up


def test_elastic_transform_without_displacement_moves_three_points() -> None:
    """A shift of all three points by whole pixels moves the whole image."""
    x = photographs(1, 32, 32).double() / 255
    shift = torch.tensor([3.0, -2.0], dtype=torch.float64).expand(1, 3, 2)
    moved = digital.elastic_transform(x, (0, 0, 0.08), {"corners": shift})
    torch.testing.assert_close(moved[..., :-2, 3:], x[..., 2:, :-3])


def test_elastic_transform_moves_the_corners_of_a_triangle_to_theirs() -> None:
    shift = torch.tensor([[[2.0, -1.0], [0.0, 3.0], [-1.0, 1.0]]], dtype=torch.float64)  # across, down
    row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (30, 40)), indexing="ij")
    down, across = digital._affine(shift, row, column)
    for corner, by in zip([(30, 25), (30, 5), (10, 5)], shift[0].int().tolist(), strict=True):
        x, y = corner[0] + by[0], corner[1] + by[1]
        assert (across[0, y, x].item(), down[0, y, x].item()) == pytest.approx(corner)


def test_elastic_displacement_is_scipys() -> None:
    x = photographs(1, 32, 48).double() / 255
    field = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 2, 32, 48)))
    strength, width = 0.5, 0.06
    corners = torch.zeros(1, 3, 2, dtype=torch.float64)
    found = digital.elastic_transform(x, (strength, width, 0.1), {"corners": corners, "field": field})
    moved = [ndimage.gaussian_filter(part, width * 32, mode="reflect", truncate=3) * strength * 32 for part in field[0]]
    assert max(np.abs(part).max() for part in moved) > 1  # pixels
    places = np.stack(np.meshgrid(np.arange(32.0), np.arange(48.0), indexing="ij")) + np.stack(moved)
    wanted = [ndimage.map_coordinates(part, places, order=1, mode="reflect") for part in x[0].numpy()]
    torch.testing.assert_close(found[0], torch.from_numpy(np.stack(wanted)), rtol=0, atol=1e-9)


def test_spatter_parts() -> None:
    edge = torch.zeros(1, 1, 6, 30, dtype=torch.bool)
    edge[0, 0, 2, 3] = True
    away = spatter.distance(edge)[0, 0]
    assert away[2, 3] == 0
    assert away[5, 7] == 5
    assert away[2, 29] == spatter.FAR
    step = flat(0, 1, 12, 12)[:, :1].double()
    step[..., 6:] = 200
    assert spatter.edges(step)[0, 0].sum(1).tolist() == [1] * 12  # one line of edge, one pixel thick
    assert not spatter.edges(step / 20).any()
    level = torch.tensor([[[[3.0, 3.0], [9.0, 200.0]]]], dtype=torch.float64)
    assert spatter.equalised(level).flatten().tolist() == [0, 0, 128, 255]


def test_fog_over_a_coloured_image_is_grey_and_scaled_by_its_brightest_value() -> None:
    x = torch.tensor([0.2, 0.4, 0.8], dtype=torch.float64)[None, :, None, None].expand(1, 3, 8, 8)
    draws = {"uniform": counter_rng.stream(0, "fog", 1, torch.arange(1)).uniform("wibble", -1, 1, 8, 8)}
    cloud = weather.plasma(draws["uniform"], 2.5)[:, None]
    torch.testing.assert_close(weather.fog(x, (0.75, 2.5), draws), (x + 0.75 * cloud) * 0.8 / (0.8 + 0.75))


def test_frost_lies_over_the_image_as_published() -> None:
    """0.75 of the image and 0.45 of the frost: together more than one."""
    white, black = (corrupt(flat(v), "frost", 5, torch.arange(1)).double() for v in (100, 0))
    assert (white - black).mean().item() == pytest.approx(75, abs=1)


def test_snow_bleaches_colours_by_their_luminance_and_falls_downwards() -> None:
    x = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(3, 3, 4, 4) / 5  # red, green and blue
    draws = {"normal": torch.full((3, 1, 4, 4), -9.0, dtype=torch.float64), "angle": torch.full((3,), -90.0)}
    c = (0.1, 0.2, 1, 0.6, 8, 3, 0.5)  # no flake reaches 0.6
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None, None] / 5
    torch.testing.assert_close(weather.snow(x, c, draws), 0.5 * x + 0.5 * torch.maximum(x, 1.5 * grey + 0.5))
    angle = weather.snow_draws(counter_rng.stream(0, "snow", 1, torch.arange(500)), 4, 4, c)["angle"]
    assert -135 <= angle.min() < -130
    assert -50 < angle.max() <= -45


@pytest.mark.parametrize(("severity", "colour"), [(1, (175, 238, 238)), (5, (63, 42, 20))])
def test_spatter_is_of_water_or_mud(severity: int, colour: tuple[int, int, int]) -> None:
    y = corrupt(flat(0, 20), "spatter", severity, torch.arange(20)).double()
    most = y.amax((0, 2, 3))
    assert most[0] > 0
    np.testing.assert_allclose(most / most[1], np.array(colour) / colour[1], atol=0.05)


def test_no_constant_changes_by_mistake() -> None:
    """All of them by one digest: a number that changes by mistake makes another dataset."""
    tables = {"cifar": severities.CIFAR, "imagenet": severities.IMAGENET}
    text = json.dumps(tables, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "891b7ba0e1ab89e8"


def test_another_seed_gives_other_images() -> None:
    x, ids = photographs(4, 32, 32), torch.arange(4)
    for name in ("gaussian_noise", "fog", "elastic_transform"):
        first, again, other = (corrupt(x, name, 3, ids, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(first, again), name
        assert not torch.equal(first, other), name
