"""The corruptions: closed forms, Pillow, independence of the batch, any size, and the drawn numbers themselves."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor

from benchmark import corruptions, rng
from benchmark.corruptions import (
    COMMON,
    CORRUPTIONS,
    EXTRA,
    GROUPS,
    SEVERITIES,
    apply,
    blurs,
    corrupt,
    digital,
    filters,
    jpeg,
    sample,
    severities,
    sheet,
    spatter,
    streams,
    weather,
)
from benchmark.errors import UsageError
from benchmark.readers import package_file


def photographs(n: int, height: int, width: int) -> Tensor:
    """Crops of a photograph, uint8 [n,3,height,width]."""
    whole = np.asarray(Image.open(package_file("sklearn", "datasets/images/china.jpg")))
    draws = np.random.default_rng(0)
    tops, lefts = (draws.integers(0, whole.shape[axis] - side, n) for axis, side in ((0, height), (1, width)))
    crops = [whole[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def flat(value: int | tuple[int, int, int], n: int = 1, height: int = 32, width: int = 32) -> Tensor:
    colour = torch.tensor(value, dtype=torch.uint8).expand(3)
    return colour[:, None, None].repeat(n, 1, height, width)


def change(x: Tensor, y: Tensor) -> float:
    return (x.double() - y.double()).abs().mean().item()


def test_names_and_groups() -> None:
    assert len(COMMON) == 15
    assert len(EXTRA) == 4
    assert set(COMMON) | set(EXTRA) == set(CORRUPTIONS) == set(severities.CIFAR) == set(severities.IMAGENET)
    assert [len(names) for names in GROUPS.values()] == [3, 4, 4, 4]
    for table in (severities.CIFAR, severities.IMAGENET):
        assert {len(values) for values in table.values()} == {5}


def test_constants_go_by_the_longer_side() -> None:
    assert severities.constants("jpeg_compression", 1, 64, 64) == (80,)
    assert severities.constants("jpeg_compression", 1, 64, 65) == (25,)
    # The ranges are NumPy's: by rounding they hold their ends.
    assert [len(severities.constants("zoom_blur", severity, 32, 32)) for severity in SEVERITIES] == [7, 12, 16, 21, 26]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_its_batch_and_repeats(name: str) -> None:
    x, ids = photographs(5, 32, 32), torch.tensor([7, 0, 3, 2**40, 1])
    whole = corrupt(x, name, 5, ids)
    assert torch.equal(whole, corrupt(x, name, 5, ids))
    assert torch.equal(whole[3:4], corrupt(x[3:4], name, 5, ids[3:4]))
    order = torch.tensor([4, 2, 0])
    assert torch.equal(whole[order], corrupt(x[order], name, 5, ids[order]))
    drawn = sample(name, 5, ids, 32, 32)
    again = sample(name, 5, ids[order], 32, 32)
    assert all(torch.equal(values[order], again[key]) for key, values in drawn.items())
    assert torch.equal(whole, apply(x, name, 5, drawn))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_ids_seeds_and_severities_draw_apart(name: str) -> None:
    ids = torch.tensor([0, 1])
    one = sample(name, 4, ids, 32, 32)
    assert bool(one) == (CORRUPTIONS[name].draw is not corruptions._nothing)
    for key, values in one.items():
        if values.numel() > 10:  # a single drawn kind may well be the same
            assert not torch.equal(values[0], values[1])
            assert not torch.equal(values, sample(name, 4, ids, 32, 32, seed=1)[key])
            other = sample(name, 5, ids, 32, 32)[key]
            assert values.shape != other.shape or not torch.equal(values, other)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_work_in_chunks_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, ids = photographs(5, 24, 33), torch.arange(5)
    whole = corrupt(x, name, 3, ids)
    monkeypatch.setattr(corruptions, "CHUNK", 24 * 33 * 2)
    assert torch.equal(whole, corrupt(x, name, 3, ids))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (33, 17), (20, 97)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_and_extreme_images(name: str, size: tuple[int, int]) -> None:
    ramp = torch.arange(size[0] * size[1], dtype=torch.uint8).reshape(1, 1, *size).expand(1, 3, *size)
    x = torch.cat([flat(0, 1, *size), flat(255, 1, *size), flat((0, 255, 3), 1, *size), ramp])
    for severity in (1, 5):
        y = corrupt(x, name, severity, torch.arange(4))
        assert y.shape == x.shape
        assert y.dtype == torch.uint8


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("side", [32, 96])
def test_a_higher_severity_moves_the_image_further(name: str, side: int) -> None:
    x, ids = photographs(24, side, side), torch.arange(24)
    moved = [change(x, corrupt(x, name, severity, ids)) for severity in SEVERITIES]
    assert moved[0] > 0.5
    if (
        name == "elastic_transform"
    ):  # its severities trade a wide shift for a rough displacement: less moves, more breaks
        assert min(moved) > 5
    elif name in {"frost", "glass_blur", "motion_blur", "snow", "fog"}:  # differently drawn, or two constants at odds
        assert moved[4] > moved[0]
    else:
        assert moved == sorted(moved)


def test_bad_input_is_refused() -> None:
    x, ids = photographs(2, 8, 8), torch.arange(2)
    with pytest.raises(UsageError, match="did you mean 'fog'"):
        corrupt(x, "fogg", 1, ids)
    with pytest.raises(UsageError, match="severity 6 of fog: allowed are 1 to 5"):
        corrupt(x, "fog", 6, ids)
    with pytest.raises(ValueError, match="uint8"):
        corrupt(x.float(), "fog", 1, ids)
    with pytest.raises(ValueError, match=r"int64 \[2\]"):
        corrupt(x, "fog", 1, ids[:1])


# Numbers


def test_splitmix_is_the_published_one() -> None:
    """Against the algorithm in Python's own integers, and the first outputs known for seed 1234567."""

    def reference(z: int) -> int:
        word = 2**64 - 1
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    states = [(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(1, 6)]
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [reference(state) for state in states] == known
    signed = torch.tensor(np.array(states, dtype=np.uint64).astype(np.int64))
    assert streams.mix(signed).numpy().astype(np.uint64).tolist() == known


def test_drawn_numbers_have_their_distributions() -> None:
    stream = streams.stream(0, "test", 1, torch.arange(50))
    uniform = stream.uniform("u", -2, 3, 101, 11).flatten()
    assert stats.kstest(uniform.numpy(), stats.uniform(-2, 5).cdf).pvalue > 0.01
    normal = stream.normal("n", 101, 11).flatten()
    assert stats.kstest(normal.numpy(), stats.norm.cdf).pvalue > 0.01
    whole = stream.integers("i", -3, 4, 1001).flatten()
    assert whole.unique().tolist() == list(range(-3, 4))
    assert stats.chisquare(torch.bincount(whole + 3).numpy()).pvalue > 0.01
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 0.02
    first, second = (stream.normal("n", 40, 40)[k].flatten().numpy() for k in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


@pytest.mark.parametrize(("rate", "level"), [(3, 255), (50, 10), (500, 255), (60, 1), (500, 0)])
def test_poisson_numbers(rate: int, level: int) -> None:
    words = streams.stream(0, "test", 1, torch.arange(1)).words("p", 20_000)[0]
    found = streams.poisson(words, torch.full_like(words, level), rate).numpy()
    mean = rate * level / 255
    assert found.mean() == pytest.approx(mean, abs=4 * (mean / 20_000) ** 0.5 + 1e-9)
    assert found.var() == pytest.approx(mean, rel=0.05)
    edge = torch.tensor([0, streams.WORD - 1])
    low, high = streams.poisson(edge, torch.full_like(edge, level), rate).tolist()
    assert low == stats.poisson.ppf(2**-33, mean) or mean == 0
    assert high <= stats.poisson.isf(2**-33, mean) + 1


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
    stream = streams.stream(0, "test", 1, torch.arange(3))
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
    uniform = streams.stream(0, "fog", 1, torch.arange(40)).uniform("wibble", -1, 1, 32, 32)
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


def test_the_sheet() -> None:
    picture = sheet.draw(None, 16)
    step = 96 + sheet.GAP
    assert picture.size == (sheet.LABEL + 6 * step, 19 * step)


def on_a_cut(x: Tensor, name: str, severity: int, drawn: dict[str, Tensor]) -> float:
    """The share of bytes whose value is a whole number where it is cut to one: rounding decides which byte it gives."""
    constants = severities.constants(name, severity, *x.shape[2:])
    value = CORRUPTIONS[name].apply(x.double() / 255, constants, drawn) * 255 + 2**-10
    return ((value - value.round()).abs() < 1e-9).double().mean().item()


def test_zoom_blur_alone_has_values_on_a_cut() -> None:
    """Enlarged from 96 to 97 pixels, a value is a sum of bytes by multiples of 1/96 times 1/96, and a mean of twelve
    such can lie at a whole number less 2^-10, which is where bytes are cut. That 7 of 221,184 do was found in exact
    fractions as well."""
    x = photographs(8, 96, 96)
    assert on_a_cut(x, "zoom_blur", 5, {}) == 7 / x.numel()
    assert on_a_cut(x, "gaussian_blur", 5, {}) == on_a_cut(x, "defocus_blur", 5, {}) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_gpu_draws_the_same_and_gives_the_same_bytes(name: str) -> None:
    """Draws are equal bit for bit. Bytes may differ where float64 sums of another order fall on two sides of a cut."""
    for side in (32, 96):
        x, ids = photographs(8, side, side), torch.arange(8)
        for severity in SEVERITIES:
            here, there = (sample(name, severity, i, side, side) for i in (ids, ids.cuda()))
            assert all(torch.equal(values, there[key].cpu()) for key, values in here.items())
            ours, theirs = corrupt(x, name, severity, ids), corrupt(x.cuda(), name, severity, ids).cpu()
            # zoom_blur's values on a cut (the test above) may each fall to either side, by one level.
            bound = max(1e-5, on_a_cut(x, name, severity, here)) if name == "zoom_blur" else 1e-5
            assert (ours != theirs).double().mean() <= bound
            assert change(ours, theirs) <= bound


def test_keys_are_the_projects_own() -> None:
    """The stream of a corruption hangs on rng.key, so a change there would show here."""
    ids = torch.tensor([0, 5])
    wanted = streams.mix(streams.mix(ids * streams.GOLDEN) ^ rng.key(3, "fog", 2))
    assert torch.equal(streams.stream(3, "fog", 2, ids).key, wanted)
