"""The model sensitivity map: the error of a trained network when one Fourier wave is added to its input, wave by wave.

Source: SADA (Zhang et al., AAAI 2023), after the Fourier heat map of Yin et al. (NeurIPS 2019). `measure` is our own
definition, `reference` is what SADA's released code computes; docs/sensitivity.md compares them.
"""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from benchmark.core.images import Images
from benchmark.core.rng import key
from benchmark.sensitivity import fourier
from benchmark.sensitivity.fourier import from_centered, resample, spread, view31
from benchmark.sensitivity.wave_errors import Released, Signs, reference, sample_signs, wrong

__all__ = [
    "Released", "SensitivityMap", "band_target_correlation", "from_centered", "load_map", "measure", "reference",
    "save_map", "spectral_weights", "summaries", "view31",
]  # fmt: skip


@dataclass(frozen=True)
class SensitivityMap:
    """A map and how it was made."""

    error: Tensor
    """Error rate for each frequency in [0,1]: float32 [N,N] in the layout of `torch.fft.fft2`, exactly symmetric."""
    clean_error: float
    """Error rate on the same images without a wave."""
    n_images: int
    radius: float
    """L2 norm of the added wave in each channel, for pixels in [0,1]; its root mean square is radius / N."""
    seed: int
    mean_standard_error: float = nan
    """Standard error of the map's mean. All waves share the images, so it is taken over each image's own mean."""
    grid: int | None = None
    """None: every frequency was measured. G: the G x G normalised frequencies k / G were; the map interpolates them."""
    signs: Signs = "per_channel"
    clamp: bool = False
    subtract_clean: bool = False
    """Whether `error` is the increase over the clean error, in [-1,1]."""

    @property
    def rate(self) -> Tensor:
        """The error rates themselves, whether or not `error` has the clean error subtracted."""
        return self.error + self.clean_error if self.subtract_clean else self.error

    @property
    def standard_error(self) -> Tensor:
        """Standard error for each frequency, [N,N]: binomial, over the draw of images and signs. Zero where no image or
        every image was wrong."""
        rate = self.rate.clamp(0, 1)
        return (rate * (1 - rate) / max(1, self.n_images - 1)).sqrt()


def measure(
    net: nn.Module,
    images: Images,
    *,
    seed: int,
    limit: int | None = None,
    rho: float = 0.25,
    signs: Signs = "per_channel",
    clamp: bool = False,
    subtract_clean: bool = False,
    grid: int = 32,
    batch: int | None = None,
) -> SensitivityMap:
    """The sensitivity map of `net` on square images [n,3,N,N] with pixels in [0,1]; the net itself normalises them.

    For each pair of frequencies {(v, u), (-v, -u)}: the error rate of `net`, in evaluation mode, on x + s r b, where b
    is the unit-L2 cosine, r = rho N, and s is +1 or -1 for each image and channel ("shared": each image), drawn from a
    generator keyed by (seed, v, u). clamp: cut the sum to [0,1]. Images larger than `grid` are measured at grid x grid
    normalised frequencies, and the map is interpolated. limit: measure so many images, a random part of them that
    depends on `seed` alone. batch: images of one forward pass, by default what suits the device; it changes nothing
    beyond float rounding. The net's modes are left as found.

    Raises ValueError where images are not square, none is left, or a pixel lies outside [0,1]: a wave added after
    normalisation is weaker by a factor of std, and its map that of another question.
    """
    size = images.x.shape[-1]
    if images.x.shape[-2] != size or not len(images) or (limit is not None and limit < 1):
        raise ValueError(f"a map (not sada:weight_map=none) needs square images: {list(images.x.shape)}, limit {limit}")
    if images.x.is_floating_point() and not ((images.x >= 0) & (images.x <= 1)).all():
        raise ValueError("pixels outside [0,1]: waves are added before normalisation, so give the images as they are")
    if limit is not None and limit < len(images):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(key(seed, "images")))
        images = images[order[:limit].sort().values.to(images.y.device)]
    n, period = len(images), min(size, grid)
    frequencies = fourier.classes(period)
    generators = (torch.Generator().manual_seed(key(seed, v, u)) for v, u in frequencies.tolist())
    drawn = torch.stack([sample_signs(n, generator, signs) for generator in generators])
    missed = wrong(
        net, images, rho * size * fourier.waves(size, frequencies, period), drawn, clamp=clamp, batch=batch
    ).double()
    clean, *rates = missed.mean(dim=1)
    error = spread(torch.stack(rates), period)
    multiplicity = spread(torch.arange(len(frequencies)), period).flatten().bincount().double()
    by_image = multiplicity @ missed[1:] / period**2
    full = resample(error, size) - (clean if subtract_clean else 0)
    return SensitivityMap(
        error=full.float(),
        clean_error=float(clean),
        n_images=n,
        radius=rho * size,
        seed=seed,
        mean_standard_error=float(by_image.std()) / n**0.5 if n > 1 else nan,
        grid=None if period == size else period,
        signs=signs,
        clamp=clamp,
        subtract_clean=subtract_clean,
    )


def spectral_weights(error: Tensor) -> Tensor:
    """SADA's weights w = 1 + E for a map [N,N], in the layout of `fft2`; they broadcast over batch and channels.

    Raises ValueError for a map that is not point-symmetric: amplitudes so weighted are no longer those of a real image.
    """
    if not fourier.is_symmetric(error):
        raise ValueError(
            "no symmetry under (v, u) -> (-v, -u) mod N; a map with zero in the centre needs from_centered"
        )
    return 1 + error


def summaries(found: SensitivityMap) -> dict[str, float]:
    """Numbers read off a map, from its error rates and clean error alone; error rates in [0,1] except for the last.

    mean: over all frequencies. low, mid, high: over those of radius up to 1/3, up to 2/3 and above 2/3 of the Nyquist
    frequency N/2, the corners included in high. area_above_clean_error: mean of max(E - clean error, 0) over the map.
    half_maximum_radius: in cycles per image, where the radial profile, beyond its maximum, first falls below the
    middle between maximum and clean error; N // 2 where it never does, 0 where no ring exceeds the clean error.
    """
    rate, clean = found.rate.double(), found.clean_error
    at = 2 * fourier.radius(len(rate)) / len(rate)
    bands = {"low": at <= 1 / 3, "mid": (at > 1 / 3) & (at <= 2 / 3), "high": at > 2 / 3}
    return {
        "clean_error": clean,
        "mean": float(rate.mean()),
        **{name: float(rate[band].mean()) for name, band in bands.items()},
        "area_above_clean_error": float((rate - clean).clamp(min=0).mean()),
        "half_maximum_radius": _half_maximum(fourier.radial_profile(rate).tolist(), clean),
    }


def _half_maximum(profile: list[float], clean: float) -> float:
    peak = max(profile)
    if peak <= clean + 1e-7:  # the map is float32
        return 0.0
    half = (peak + clean) / 2
    for r in range(profile.index(peak), len(profile) - 1):
        if profile[r + 1] < half:
            return r + (profile[r] - half) / (profile[r] - profile[r + 1])
    return float(len(profile) - 1)


def band_target_correlation(
    sensitivity: pd.DataFrame, accuracy: pd.DataFrame, *, over: Literal["methods", "runs"] = "methods"
) -> pd.DataFrame:
    """SADA's claim, tested: do methods that are less sensitive in a band make fewer errors on the target?

    sensitivity: tidy, with columns run_id, band and error_rate. accuracy: tidy, one row a run and target, with columns
    run_id, dataset, protocol, source, target, method and accuracy in percent; keep one selection rule, and one variant
    of each method. over "methods": a point is a method's mean over its seeds; over "runs": a point is a run, and as
    runs of one method are no independent evidence, its p-values are too small.

    Returns, for each dataset, protocol, source, target and band: n points, Pearson's r and Spearman's rho with target
    error, and their two-sided p-values; NaN below three points and where either side is constant.
    """
    group = ["dataset", "protocol", "source", "target", "band"]
    points = accuracy.merge(sensitivity[["run_id", "band", "error_rate"]], on="run_id", validate="many_to_many")
    points = points.assign(target_error=100 - points["accuracy"])
    if over == "methods":
        points = points.groupby([*group, "method"], as_index=False)[["error_rate", "target_error"]].mean()
    rows = []
    for name, part in points.groupby(group):
        x, y = part["error_rate"], part["target_error"]
        # What differs by rounding alone is constant: seven digits of an error rate are more than images can show.
        defined = len(part) >= 3 and min(x.round(7).nunique(), y.round(7).nunique()) > 1
        pearson, spearman = (stats.pearsonr(x, y), stats.spearmanr(x, y)) if defined else ((nan, nan), (nan, nan))
        rows.append([*name, over, len(part), *pearson, *spearman])
    return pd.DataFrame(rows, columns=[*group, "over", "n", "pearson", "pearson_p", "spearman", "spearman_p"])


def save_map(found: SensitivityMap, path: Path) -> None:
    """Writes the raw map, float32 [N,N], as an .npy file; everything else about it is for the run record to keep."""
    np.save(path, found.error.numpy(), allow_pickle=False)


def load_map(path: Path, **about: Any) -> SensitivityMap:
    """The map at `path`. about: the other fields of SensitivityMap, from the run record."""
    return SensitivityMap(torch.from_numpy(np.load(path, allow_pickle=False)), **about)
