"""The sensitivity map: against the released code's numbers, against closed forms, and against the plain loop."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from benchmark import compare_map, fourier, networks, sensitivity, sensitivity_figures
from benchmark.networks import Classifier
from benchmark.rng import key
from benchmark.sensitivity import SensitivityMap, from_centered, measure, spectral_weights, summaries, view31
from benchmark.spec import Images
from benchmark.wave_errors import perturbed, reference, released_r_factor, released_waves, sample_signs, wrong
from tests.conftest import Golden, golden_net


@pytest.fixture(scope="module")
def arrays(golden: Callable[[str], Golden]) -> Golden:
    return golden("sensitivity_map")


def golden_images(arrays: Golden) -> Images:
    return Images(torch.tensor(arrays["images"]), torch.tensor(arrays["labels"]).long())


def golden_signs(arrays: Golden, case: str) -> Tensor:
    shape = len(arrays["basis_norms"]), len(arrays["labels"]), 3
    bits = np.unpackbits(arrays[f"{case}/signs_packed"], count=math.prod(shape)).reshape(shape)
    return torch.tensor(2 * bits.astype(np.int8) - 1)


# --- the released code's numbers


def test_basis_parity(arrays: Golden) -> None:
    basis = fourier.released_basis(arrays["basis_images"].shape[-1])
    assert len(basis) == len(arrays["basis_norms"])
    np.testing.assert_allclose(basis[arrays["basis_index"]], arrays["basis_images"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(basis.flatten(1).norm(dim=1), arrays["basis_norms"], rtol=0, atol=1e-8)


def test_basis_with_dif_map_parity(arrays: Golden) -> None:
    dif_map = torch.tensor(arrays["basis8_difmap/dif_map"])
    np.testing.assert_allclose(fourier.released_basis(len(dif_map)), arrays["basis8"], rtol=0, atol=1e-8)
    expected = arrays["basis8_difmap/basis"]
    np.testing.assert_allclose(fourier.released_basis(len(dif_map), dif_map), expected, rtol=0, atol=1e-7)


def test_perturbation_parity(arrays: Golden) -> None:
    size, signs = arrays["images"].shape[-1], torch.tensor(arrays["perturb/signs"])
    x = golden_images(arrays)[: signs.shape[1]].unit()
    for i, (k, epsilon) in enumerate(zip(arrays["perturb/basis_index"], arrays["perturb/epsilon"], strict=True)):
        wave = released_waves(size, float(epsilon))[k]
        out = x + signs[i, :, :, None, None] * wave
        np.testing.assert_allclose((out - x)[:1], arrays["perturb/delta"][i], rtol=0, atol=2e-7)
        np.testing.assert_allclose(out[1].mean(dim=(1, 2)), arrays["perturb/out_image1_mean"][i], rtol=0, atol=1e-6)
        np.testing.assert_allclose((out[1] ** 2).mean(dim=(1, 2)), arrays["perturb/out_image1_sqmean"][i], rtol=1e-6)


@pytest.mark.parametrize("case", ["map", "map_r"])
def test_map_parity(arrays: Golden, case: str) -> None:
    images, net = golden_images(arrays), golden_net(arrays)
    r_factor = torch.tensor(arrays[f"{case}/r_factor"]) if f"{case}/r_factor" in arrays else None
    radii = float(arrays[f"{case}/perturb_radii"])
    found = reference(
        net, images, perturb_radii=radii, r_factor=r_factor, signs=golden_signs(arrays, case), batch_size=len(images)
    )
    flips = (found.errors - torch.tensor(arrays[f"{case}/error_percent_by_basis"])).abs() * len(images) / 100
    near = torch.tensor(arrays[f"{case}/min_abs_margin_by_basis"] < 1e-4)  # a tie up to rounding may fall either way
    assert (flips <= near + 1e-3).all()
    if not near.any():
        np.testing.assert_allclose(found.heatmap, arrays[f"{case}/heatmap"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["map", "map_r"])
def test_logits_under_a_wave_parity(arrays: Golden, case: str) -> None:
    expected = arrays[f"{case}/logits_basis_sel"]
    chosen = torch.tensor(arrays["basis_index"][: len(expected)]).long()
    r_factor = torch.tensor(arrays[f"{case}/r_factor"]) if f"{case}/r_factor" in arrays else torch.ones(1)
    waves = released_waves(arrays["images"].shape[-1], float(arrays[f"{case}/perturb_radii"]) * r_factor)
    with torch.inference_mode():
        logits = perturbed(golden_net(arrays), golden_images(arrays).unit())
        found = logits(waves[chosen], golden_signs(arrays, case)[chosen].float()).view(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_mean_amplitude_parity(arrays: Golden) -> None:
    shifted = arrays["meanamp/weight_map_32"]  # of the first 32 images, frequency zero in the middle
    size = len(shifted)
    found = released_r_factor(golden_images(arrays)[:32].unit()).view(size, size // 2 + 1)
    right = np.concatenate([shifted[:, size // 2 :], shifted[:, :1]], axis=1)  # frequencies 0..N/2, N/2 being -N/2
    np.testing.assert_allclose(found, right, rtol=1e-5)


@pytest.mark.parametrize("case", ["known", "known8"])
def test_mirrored_map_parity(arrays: Golden, case: str) -> None:
    errors = torch.tensor(arrays[f"{case}/error_matrix"])
    assert torch.equal(fourier.released_map(errors.flatten(), len(errors)), torch.tensor(arrays[f"{case}/heatmap"]))


def test_released_heatmap_parity_from_its_own_errors(arrays: Golden) -> None:
    for case in ("map", "map_r"):
        errors = torch.tensor(arrays[f"{case}/error_percent_by_basis"])
        size = arrays["images"].shape[-1]
        assert torch.equal(fourier.released_map(errors, size), torch.tensor(arrays[f"{case}/heatmap"]))


# --- the released code's quirks, and what ours does instead


def test_released_radius_is_a_floor_of_8_per_channel() -> None:
    norms = fourier.released_basis(32).flatten(1).norm(dim=1)
    for epsilon in (30.0, 180.0):
        torch.testing.assert_close(released_waves(32, epsilon).flatten(1).norm(dim=1), torch.full((544,), 8.0))
    torch.testing.assert_close(released_waves(32, 400.0).flatten(1).norm(dim=1), (400 * norms).clamp(min=8))


def test_released_map_measures_mirror_images_twice_and_keeps_both_in_its_centre_column() -> None:
    size = 8
    v, u = torch.meshgrid(torch.arange(-4, 4), torch.arange(5), indexing="ij")
    heat = fourier.released_map((100.0 * v + u).flatten(), size)
    centre = heat[:, size // 2 - 1]
    assert torch.equal(centre, 100.0 * torch.arange(-3, 4)), "the centre column is as measured"
    off_centre = torch.arange(size - 1) != size // 2 - 1
    assert torch.equal(heat[:, off_centre], heat.flip(0, 1)[:, off_centre])
    assert not torch.equal(heat, heat.flip(0, 1))


def test_reference_drops_the_incomplete_batch_or_keeps_it() -> None:
    net, images = small_net(), random_images(10, 8)
    signs = torch.ones(40, 10, 3)
    dropped = reference(net, images, signs=signs, batch_size=4)
    assert torch.equal(dropped.errors, reference(net, images[:8], signs=signs[:, :8], batch_size=4).errors)
    kept = reference(net, images, signs=signs, batch_size=4, drop_last=False)
    missed = wrong(net, images, released_waves(8), signs)[1:]
    assert torch.equal(kept.errors, 100 * missed.double().mean(dim=1).float())
    with pytest.raises(ValueError, match="fewer than one batch"):
        reference(net, images, batch_size=11)


def test_reference_draws_per_channel_signs_from_its_seed() -> None:
    net, images = small_net(), random_images(32, 8)
    first, again, other = (reference(net, images, seed=seed, batch_size=32) for seed in (3, 3, 4))
    assert torch.equal(first.heatmap, again.heatmap)
    assert not torch.equal(first.heatmap, other.heatmap)


# --- waves and layouts


@given(n=st.integers(1, 40))
def test_every_frequency_class_once(n: int) -> None:
    classes = fourier.classes(n)
    assert len(classes) == (n * n + (4 if n % 2 == 0 else 1)) // 2
    members = {tuple(c) for c in classes.tolist()} | {tuple(c) for c in (-classes % n).tolist()}
    assert len(members) == n * n
    full = fourier.spread(torch.rand(len(classes)), n)
    assert fourier.is_symmetric(full)
    assert torch.equal(fourier.spread(full[tuple(classes.unbind(1))], n), full)


@pytest.mark.parametrize("n", [7, 8, 32])
def test_waves_are_orthonormal_cosines_of_their_frequency(n: int) -> None:
    classes = fourier.classes(n)
    waves = fourier.waves(n, classes).double()
    gram = waves.flatten(1) @ waves.flatten(1).T
    torch.testing.assert_close(gram, torch.eye(len(waves), dtype=torch.float64), rtol=0, atol=1e-6)
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    for k in range(0, len(classes), max(1, len(classes) // 50)):
        v, u = classes[k].tolist()
        cosine = torch.cos(2 * torch.pi * (v * y + u * x).double() / n)
        torch.testing.assert_close(waves[k], cosine / cosine.norm(), rtol=0, atol=1e-6)
        spectrum = torch.fft.fft2(waves[k]).abs()
        spectrum[v, u] = spectrum[-v % n, -u % n] = 0
        assert spectrum.max() < 1e-5, "no other frequency"


def test_every_wave_has_the_same_rms_at_every_size() -> None:
    for size in (32, 48, 224):
        rms = (0.25 * size * fourier.waves(size, fourier.classes(32)[::37], 32)).square().mean(dim=(1, 2)).sqrt()
        torch.testing.assert_close(rms, torch.full_like(rms, 0.25))


@settings(deadline=None)
@given(size=st.integers(1, 12), n=st.integers(1, 30), seed=st.integers(0, 9))
def test_resampling_keeps_symmetry_range_and_constants(size: int, n: int, seed: int) -> None:
    values = torch.rand(len(fourier.classes(size)), generator=torch.Generator().manual_seed(seed))
    error = fourier.spread(values, size)
    out = fourier.resample(error, n)
    assert fourier.is_symmetric(out)
    assert out.min() >= error.min() - 1e-6
    assert out.max() <= error.max() + 1e-6
    torch.testing.assert_close(fourier.resample(torch.full((size, size), 0.3), n), torch.full((n, n), 0.3))
    torch.testing.assert_close(fourier.resample(error, size), error, rtol=0, atol=0)


def test_resampling_reads_by_normalised_frequency() -> None:
    error = fourier.spread(torch.rand(len(fourier.classes(8)), generator=torch.Generator().manual_seed(0)), 8)
    fine = fourier.resample(error, 32)
    torch.testing.assert_close(fine[::4, ::4], error)
    torch.testing.assert_close(fine[2, 0], (error[0, 0] + error[1, 0]) / 2)
    torch.testing.assert_close(fine[-2, -2], (error[0, 0] + error[-1, 0] + error[0, -1] + error[-1, -1]) / 4)


@given(half=st.integers(1, 12), seed=st.integers(0, 9))
def test_centred_views_and_back(half: int, seed: int) -> None:
    n = 2 * half
    error = fourier.spread(torch.rand(len(fourier.classes(n)), generator=torch.Generator().manual_seed(seed)), n)
    shown = fourier.centred(error)
    assert torch.equal(shown, shown.flip(0, 1))
    assert shown.shape == (n + 1, n + 1)
    assert shown[half, half] == error[0, 0]
    inner = view31(error)
    assert torch.equal(inner, inner.flip(0, 1))
    assert inner[half - 1, half - 1] == error[0, 0]
    if half > 1:
        assert inner[half, half - 1] == error[1, 0], "rows are vertical frequencies"
    back = from_centered(inner, n)
    assert fourier.is_symmetric(back)
    assert torch.equal(view31(back), inner)


def test_from_centered_fills_the_missing_frequency_with_its_neighbour() -> None:
    at = torch.arange(-3, 4)
    map7 = 10.0 * at[:, None].abs() + at.abs()
    full = from_centered(map7, 8)
    assert full[4].tolist() == full[3].tolist() == [30, 31, 32, 33, 33, 33, 32, 31]
    assert torch.equal(full[:, 4], full[:, 3])


def test_from_centered_averages_with_the_point_reflection() -> None:
    map7 = torch.zeros(7, 7)
    map7[3 + 1, 3 + 2] = 1.0
    full = from_centered(map7, 8)
    assert full[1, 2] == full[-1, -2] == 0.5
    assert full.sum() == 1.0


def test_from_centered_refuses_what_is_not_a_centred_map() -> None:
    for shape in ((32, 32), (31, 32)):
        with pytest.raises(ValueError, match="odd side"):
            from_centered(torch.zeros(shape), 32)


def test_published_map_is_read_right_way_round(data_dir: Path) -> None:
    stored = torch.from_numpy(np.load(data_dir / "sada_sample_map.npy", allow_pickle=False))
    assert round(float(stored.min()), 4) == 0.0056
    assert [round(float(value), 3) for value in (stored.max(), stored.mean(), stored[15, 15])] == [0.911, 0.179, 0.842]
    asymmetry = float((stored - stored.flip(0, 1)).abs().max())
    assert round(asymmetry, 4) == 0.0075
    error = from_centered(stored, 32)
    assert error.dtype == torch.float32
    assert error[0, 0] == stored[15, 15]
    assert fourier.is_symmetric(error)
    assert (view31(error) - stored).abs().max() <= asymmetry / 2 + 1e-6
    profile = fourier.radial_profile(error)
    assert (profile[:7] >= 0.8).all()
    assert [round(float(profile[r]), 2) for r in (7, 9)] == [0.62, 0.11]
    assert (profile[12:] < 0.01).all()
    weights = spectral_weights(error)
    assert 1 <= weights.min() < weights.max() <= 2


def test_symmetric_weights_keep_images_real_and_others_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    error = fourier.spread(torch.rand(len(fourier.classes(8)), generator=generator), 8)
    weighted = torch.fft.ifft2(torch.fft.fft2(x) * spectral_weights(error))
    assert weighted.imag.abs().max() < 1e-12
    with pytest.raises(ValueError, match="from_centered"):
        spectral_weights(torch.fft.fftshift(error[:-1, :-1]))


# --- a classifier whose map is known


def step_net(frequency: tuple[int, int], size: int, std: float, stem: nn.Module) -> Classifier:
    """A linear classifier of three classes that reacts to one wave b in channel 0, and to nothing else but brightness:
    logits (1 + mean of channel 1, <w, channel 0>, -<w, channel 0>) with w = b in pixel space, whatever mean and std.

    An image without any of wave b, of class 0, is misclassified under s r b, for either sign, exactly when
    r > 1 + mean of channel 1.
    """
    head = nn.Linear(3 * size * size, 3)
    wave = fourier.waves(size, torch.tensor([frequency]))[0].flatten()
    with torch.no_grad():
        head.weight.zero_().view(3, 3, -1)[0, 1] = std / size**2
        head.weight.view(3, 3, -1)[1:, 0] = torch.stack([std * wave, -std * wave])
        head.bias.copy_(torch.tensor([1.0 + 0.5, 0.0, 0.0]))
    return Classifier(stem, nn.Flatten(), head, mean=0.5, std=std)


def identity_conv() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
        conv.bias.zero_()  # type: ignore[union-attr]
    return conv


def flat_images(brightness: Tensor, size: int) -> Images:
    """Class 0, one value an image in channel 1, zero elsewhere."""
    x = torch.zeros(len(brightness), 3, size, size)
    x[:, 1] = brightness[:, None, None]
    return Images(x, torch.zeros(len(brightness), dtype=torch.int64))


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


def test_standard_error_predicts_the_spread_of_sub_samples() -> None:
    net, images = small_net(), random_images(600, 8)
    found = [measure(net, images, seed=seed, limit=40) for seed in range(30)]
    spread = float(np.std([float(part.error.mean()) for part in found], ddof=1))
    claimed = float(np.mean([part.mean_standard_error for part in found]))
    assert 0.6 < spread / claimed < 1.6  # 30 draws: the ratio's own standard deviation is 0.13


# --- the fast path against the plain loop


def small_net(seed: int = 0, size: int = 8, stem: nn.Conv2d | None = None) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = stem or nn.Conv2d(3, 6, 3)
        trunk = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 6, 24), nn.ReLU())
        return Classifier(stem, trunk, nn.Linear(24, 5), mean=0.4, std=0.25)


def random_images(n: int, size: int, seed: int = 0) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.rand(n, 3, size, size, generator=generator), torch.randint(5, (n,), generator=generator))


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
    sensitivity.save(found, tmp_path / "sensitivity.npy")
    assert np.load(tmp_path / "sensitivity.npy", allow_pickle=False).dtype == np.float32
    about = {"clean_error": found.clean_error, "n_images": 6, "radius": found.radius, "seed": 0}
    back = sensitivity.load(tmp_path / "sensitivity.npy", **about)
    assert torch.equal(back.error, found.error)
    assert summaries(back) == summaries(found)


# --- summaries


def disc(n: int, edge: float, inside: float, clean: float) -> SensitivityMap:
    error = torch.where(fourier.radius(n) <= edge, inside, clean)
    return SensitivityMap(error, clean, 100, n / 4, 0)


def test_summaries_of_a_low_pass_disc() -> None:
    found = summaries(disc(32, 16 / 3, 0.9, 0.1))
    inside = float((fourier.radius(32) <= 16 / 3).sum()) / 32**2
    assert found["clean_error"] == 0.1
    assert found["low"] == pytest.approx(0.9)
    assert found["mid"] == pytest.approx(0.1)
    assert found["high"] == pytest.approx(0.1)
    assert found["mean"] == pytest.approx(0.1 + 0.8 * inside)
    assert found["area_above_clean_error"] == pytest.approx(0.8 * inside)
    assert 4.5 < found["half_maximum_radius"] < 6


def test_bands_split_the_plane_at_thirds_of_nyquist_and_their_areas_add_up() -> None:
    r = fourier.radius(24)
    band = torch.where(r <= 4, 0.2, torch.where(r <= 8, 0.4, 0.6))
    found = summaries(SensitivityMap(band, 0.3, 10, 6.0, 0))
    assert [found[name] for name in ("low", "mid", "high")] == pytest.approx([0.2, 0.4, 0.6])
    assert found["mean"] == pytest.approx(float(band.mean()))
    above = (0.1 * (band == 0.4)).sum() + (0.3 * (band == 0.6)).sum()
    assert found["area_above_clean_error"] == pytest.approx(float(above) / 24**2)


@pytest.mark.parametrize(
    ("profile", "clean", "expected"),
    [
        ([0.9, 0.9, 0.5, 0.1, 0.1], 0.1, 2.0),  # half is 0.5, reached at 2
        ([0.9, 0.7, 0.3, 0.1], 0.1, 1.5),  # crossed between 1 and 2
        ([0.1, 0.5, 0.9, 0.4, 0.1], 0.1, 2.8),  # beyond the maximum, not before it
        ([0.2, 0.2, 0.2], 0.2, 0.0),  # nothing above the clean error
        ([0.5, 0.6, 0.7], 0.1, 2.0),  # never falls: the last ring
    ],
)
def test_half_maximum_radius(profile: list[float], clean: float, expected: float) -> None:
    n = 2 * (len(profile) - 1)
    rings = torch.tensor([*profile, *[profile[-1]] * n])
    error = rings[fourier.radius(n).round().long()]
    torch.testing.assert_close(fourier.radial_profile(error), torch.tensor(profile, dtype=torch.float64))
    found = summaries(SensitivityMap(error, clean, 10, 1.0, 0))
    assert found["half_maximum_radius"] == pytest.approx(expected, abs=1e-6)


# --- band against target


def tidy(slope: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four methods, two seeds: target error rises with the low band by `slope`, and the high band never varies."""
    seen, reached = [], []
    for m, method in enumerate("abcd"):
        for seed in (0, 1):
            run = f"{method}{seed}"
            low = 0.1 * m + 0.001 * seed
            seen += [
                {"run_id": run, "band": "low", "error_rate": low},
                {"run_id": run, "band": "high", "error_rate": 0.5},
            ]
            where = {"dataset": "d", "protocol": "common", "source": "s", "target": "t"}
            reached.append({"run_id": run, **where, "method": method, "accuracy": 90 - slope * low})
    return pd.DataFrame(seen), pd.DataFrame(reached)


@pytest.mark.parametrize(("over", "n"), [("methods", 4), ("runs", 8)])
def test_correlation_of_bands_with_target_error(over: Any, n: int) -> None:
    for slope in (50.0, -50.0):
        found = sensitivity.band_target_correlation(*tidy(slope), over=over)
        low, high = (found[found["band"] == band].iloc[0] for band in ("low", "high"))
        assert low["n"] == high["n"] == n
        assert low["pearson"] == pytest.approx(np.sign(slope))
        assert low["spearman"] == pytest.approx(np.sign(slope))
        assert low["pearson_p"] < 1e-6
        assert high[["pearson", "pearson_p", "spearman", "spearman_p"]].isna().all()


def test_correlation_needs_three_points() -> None:
    seen, reached = tidy(50.0)
    few = sensitivity.band_target_correlation(seen, reached[reached["method"].isin(["a", "b"])])
    assert (few["n"] == 2).all()
    assert few["pearson"].isna().all()


# --- pictures


def pictured(seed: int, cut: float = 6.0) -> SensitivityMap:
    clean, radius = 0.05, fourier.radius(16)
    return SensitivityMap(clean + 0.8 * torch.sigmoid(cut - radius + 0.1 * seed), clean, 64, 4.0, seed)


ROWS = {
    "erm": [pictured(0)],
    "sada[num_steps=3,early_stop=per_sample]": [pictured(s, cut=4.0) for s in range(3)],
}  # fmt: skip


def test_pictures_are_written_and_the_same_when_drawn_again(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        drawn = sensitivity_figures.heat_maps(ROWS, folder)
        drawn.append(sensitivity_figures.small_multiples(ROWS, folder / "all"))
        drawn.append(sensitivity_figures.radial_profiles(ROWS, folder / "tau=0.5"))
        assert [path.name for path in drawn] == [
            "sensitivity_erm.png", "sensitivity_sada_num_steps=3_early_stop=per_sample.png", "all.png", "tau=0.5.png",
        ]  # fmt: skip
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8
    assert all(len(content) > 5000 for content in contents[0].values())


@pytest.mark.parametrize("count", [1, 2, 7])
def test_nothing_of_many_maps_is_cut_off(tmp_path: Path, count: int) -> None:
    rows = {f"method_{i}[early_stop=per_sample]": [pictured(0)] for i in range(count)}
    shown = np.asarray(Image.open(sensitivity_figures.small_multiples(rows, tmp_path / "all")).convert("L"))
    assert min(edge.min() for edge in (shown[:3], shown[-3:], shown[:, :3], shown[:, -3:])) == 255


def test_pictures_share_one_scale_and_refuse_maps_of_different_kinds() -> None:
    assert sensitivity_figures._scale(ROWS) == 90
    assert sensitivity_figures._scale({"flat": [replace(pictured(0), error=torch.zeros(16, 16))]}) == 10
    bads: list[sensitivity_figures.Rows] = [{}, {"erm": []}, {"erm": [pictured(0), replace(pictured(0), radius=8.0)]}]
    for bad in bads:
        with pytest.raises(ValueError, match="one size and radius"):
            sensitivity_figures._scale(bad)


# --- the comparison with the published map


def test_comparison_of_maps_states_their_differences() -> None:
    published = view31(disc(32, 6, 0.9, 0.01).error)
    table = compare_map.compare(published, {"same": published, "darker": published - 0.005})
    assert [*table.columns] == ["published", "same", "same - published", "darker", "darker - published"]
    assert [*table.index] == [
        "mean", "min", "max", "centre", *(f"radius {r}" for r in range(16)),
        "mean |difference|", "max |difference|", "correlation",
    ]  # fmt: skip
    assert table["same"].equals(table["published"])
    assert table.loc["radius 0":"radius 3", "published"].tolist() == pytest.approx([0.9] * 4)
    assert table["darker - published"][:20].tolist() == pytest.approx([-0.005] * 20, abs=1e-6)
    assert table["darker"][20:].tolist() == pytest.approx([0.005, 0.005, 1.0], abs=1e-6)


def test_comparison_noise_is_within_a_few_grey_levels() -> None:
    x = torch.full((200, 1, 32, 32), 100, dtype=torch.uint8)
    out = compare_map.noisy(x, torch.Generator().manual_seed(0))
    assert out.dtype == torch.uint8
    spread = out.float().flatten(1).std(dim=1)
    assert spread.max() < 2.75
    assert 1.0 < spread.mean() < 1.6, "uniform over [0, 2.55], and rounded"
    black = compare_map.noisy(torch.zeros_like(x), torch.Generator().manual_seed(0))
    assert black.max() < 20, "cut at zero, not wrapped around"


def test_comparison_reads_and_resizes_mnist(data_dir: Path) -> None:
    x, y = compare_map.grey(data_dir, train=False)
    assert (x.shape, y.dtype) == ((10_000, 28, 28), torch.int64)
    assert y[:4].tolist() == [7, 2, 1, 0]
    large = compare_map.resized(x[:3])
    assert large.shape == (3, 1, 32, 32)
    torch.testing.assert_close(large.float().mean(), x[:3].float().mean(), rtol=0.02, atol=0)


def test_comparison_names_the_file_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    assert f"{tmp_path / 'sada_sample_map.npy'} is missing" in capsys.readouterr().err
    np.save(tmp_path / "sada_sample_map.npy", np.zeros((31, 31)))
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    assert "fetch digits" in capsys.readouterr().err
