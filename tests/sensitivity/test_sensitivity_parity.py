"""The map against the numbers of the released code, and what of that code is a quirk."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.core.images import Images
from benchmark.sensitivity import fourier
from benchmark.sensitivity.wave_errors import (
    perturbed,
    reference,
    released_r_factor,
    released_waves,
    wrong,
)
from tests.conftest import Golden, golden_net
from tests.sensitivity.map_cases import random_images, small_net


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
    off = np.abs(np.asarray(found.heatmap) - arrays[f"{case}/heatmap"]) > 1e-4
    assert off.sum() <= 2 * near.sum()  # a basis stands at two places


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
