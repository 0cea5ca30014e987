"""The waves of a map, its views and its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.sensitivity import fourier
from benchmark.sensitivity.map import from_centered, spectral_weights, view31


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
