"""What AugMix draws: ranges, laws, and the generator alone."""

from dataclasses import fields

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.ops.augmix import (
    NINE,
    OPS,
    MixDraws,
    magnitudes,
    sample_mix,
)

DRAWN: dict[
    str, list[tuple[float, float]]
] = {  # smallest and largest magnitude at severity 1, 2 and 3; whole numbers are reached, others come close
    "posterize": [(0, 0), (0, 0), (0, 1)],
    "rotate": [(-2, 2), (-5, 5), (-8, 8)],
    "solarize": [(2, 25), (2, 51), (2, 76)],
    "shear_x": [(-0.03, 0.03), (-0.06, 0.06), (-0.09, 0.09)],
    "shear_y": [(-0.03, 0.03), (-0.06, 0.06), (-0.09, 0.09)],
    "color": [(0.018, 0.18), (0.018, 0.36), (0.018, 0.54)],  # and 0.1 to make the factor, for these four
    "contrast": [(0.018, 0.18), (0.018, 0.36), (0.018, 0.54)],
    "brightness": [(0.018, 0.18), (0.018, 0.36), (0.018, 0.54)],
    "sharpness": [(0.018, 0.18), (0.018, 0.36), (0.018, 0.54)],
}
TRANSLATED = {32: [1, 2, 3], 64: [2, 4, 6], 224: [7, 14, 22]}


def magnitude_range(name: str, severity: float, height: int = 32, width: int = 32) -> tuple[float, float]:
    draws = sample_mix(10_000, torch.Generator().manual_seed(0), ops=[name], severity=severity, width=1, depth=1)
    values = magnitudes(draws.op.flatten(), draws.level.flatten(), draws.sign.flatten(), height, width)
    return float(values.min()), float(values.max())


@pytest.mark.parametrize("name", DRAWN)
def test_magnitude_ranges(name: str) -> None:
    for severity, want in zip((1.0, 2.0, 3.0), DRAWN[name], strict=True):
        whole = name in {"posterize", "rotate", "solarize"}
        assert magnitude_range(name, severity) == (want if whole else pytest.approx(want, abs=2e-3 * want[1]))


def test_translation_ranges_follow_the_width_and_the_height() -> None:
    for size, furthest in TRANSLATED.items():
        for severity, pixels in zip((1.0, 2.0, 3.0), furthest, strict=True):
            assert magnitude_range("translate_x", severity, height=7, width=size) == (-pixels, pixels)
            assert magnitude_range("translate_y", severity, height=size, width=7) == (-pixels, pixels)


@pytest.mark.parametrize("ops", [NINE, OPS, ("rotate", "color")])
def test_operations_depths_and_signs_are_uniform(ops: tuple[str, ...]) -> None:
    draws = sample_mix(30_000, torch.Generator().manual_seed(0), ops=ops)
    used = torch.arange(3) < draws.depth[..., None]
    assert torch.equal(draws.op >= 0, used)
    chosen = draws.op[used].bincount(minlength=len(OPS)).double() / used.sum()
    for index, name in enumerate(OPS):
        assert chosen[index] == pytest.approx(1 / len(ops) if name in ops else 0, abs=0.004)
    depths = draws.depth.flatten().bincount(minlength=4).double() / draws.depth.numel()
    assert depths.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.006)
    assert sorted(set(draws.sign.flatten().tolist())) == [-1, 1]
    assert draws.sign.double().mean().item() == pytest.approx(0, abs=0.01)


def test_levels_are_uniform() -> None:
    for severity in (0.1, 1.0, 3.0, 10.0):
        level = sample_mix(20_000, torch.Generator().manual_seed(0), severity=severity).level
        assert level.dtype == torch.float64
        assert 0.1 <= float(level.min()) <= float(level.max()) <= severity
        assert level.mean().item() == pytest.approx((0.1 + severity) / 2, rel=0.01)
        assert level.std().item() == pytest.approx((severity - 0.1) / 12**0.5, rel=0.01)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("width", [1, 3, 5])
def test_weights_are_dirichlet_and_beta(alpha: float, width: int) -> None:
    draws = sample_mix(40_000, torch.Generator().manual_seed(0), alpha=alpha, width=width)
    assert draws.w.dtype == draws.m.dtype == torch.float32
    torch.testing.assert_close(draws.w.sum(dim=1), torch.ones(40_000))
    assert float(draws.w.min()) >= 0
    assert draws.w.mean(dim=0).tolist() == pytest.approx([1 / width] * width, rel=0.03)
    variance = (1 / width) * (1 - 1 / width) / (width * alpha + 1)
    assert draws.w.var(dim=0).tolist() == pytest.approx([variance] * width, rel=0.05, abs=1e-9)
    assert 0 <= float(draws.m.min()) <= float(draws.m.max()) <= 1
    assert draws.m.mean().item() == pytest.approx(0.5, rel=0.02)
    assert draws.m.var().item() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.05)


def test_tiny_alpha_gives_finite_weights() -> None:
    draws = sample_mix(1000, torch.Generator().manual_seed(0), alpha=1e-4)
    assert torch.isfinite(draws.w).all()
    assert torch.isfinite(draws.m).all()


def test_fixed_depth_and_width() -> None:
    draws = sample_mix(4, torch.Generator().manual_seed(0), width=2, depth=5)
    assert draws.op.shape == draws.level.shape == draws.sign.shape == (4, 2, 5)
    assert int(draws.op.min()) >= 0
    assert torch.equal(draws.depth, torch.full((4, 2), 5))


def test_draws_come_from_the_generator_alone() -> None:
    first, again, other = (sample_mix(3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for field in fields(MixDraws):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    assert not torch.equal(first.level, other.level)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'rotate'"):
        sample_mix(1, torch.Generator(), ops=["rotat"])


def test_every_operation_and_every_chain_is_drawn_by_itself() -> None:
    draws = sample_mix(20_000, torch.Generator().manual_seed(0), ops=OPS, width=2, depth=2)
    each = torch.cat([part.double().flatten(1) for part in (draws.op, draws.level, draws.sign)], dim=1)
    depth = sample_mix(20_000, torch.Generator().manual_seed(0)).depth.double()
    for parts in (each, depth):
        torch.testing.assert_close(torch.corrcoef(parts.T), torch.eye(parts.shape[1]).double(), rtol=0, atol=0.04)
