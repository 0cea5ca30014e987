"""The batched operations: against Pillow byte for byte, against the released code's numbers, and their draws."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from benchmark import pillow_ops
from benchmark.errors import UsageError
from benchmark.image_ops import (
    NINE,
    OPS,
    MixDraws,
    apply_chains,
    apply_op,
    augmix_view,
    augmix_views,
    magnitudes,
    sample_mix,
)
from benchmark.kernels import augment_mix
from benchmark.kernels.augment_mix import mix, to_uint8
from tests.conftest import Golden

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True, scope="module", params=["torch", "compiled"])
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test below holds for the definition in torch and for the compiled operations."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert augment_mix._pillow_cpu() is not None
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment_mix, "_pillow_cpu", lambda: None)
        yield


def pillow(image: Image.Image, name: str, level: float, sign: int) -> Image.Image:
    """One operation as the released code calls Pillow, with the level and the sign it has drawn."""
    width, height = image.size
    factor = level * 1.8 / 10 + 0.1

    def affine(*coefficients: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR)

    functions: dict[str, Callable[[], Image.Image]] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
        "rotate": lambda: image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        "shear_x": lambda: affine(1, sign * (level * 0.3 / 10), 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, sign * (level * 0.3 / 10), 1, 0),
        "translate_x": lambda: affine(1, 0, sign * int(level * (width / 3) / 10), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, sign * int(level * (height / 3) / 10)),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }
    return functions[name]()


def to_pillow(x: Tensor) -> Image.Image:
    return Image.fromarray(x.permute(1, 2, 0).contiguous().numpy())


def from_pillow(image: Image.Image) -> Tensor:
    x: Tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return x


def pillow_view(x: Tensor, draws: MixDraws, row: int) -> Tensor:
    """The augment-and-mix view of one image, uint8 [3,H,W], with Pillow and in the released code's order."""
    mixture = torch.zeros(x.shape)
    for chain in range(draws.op.shape[1]):
        image = to_pillow(x)
        for step in range(int(draws.depth[row, chain])):
            slot = row, chain, step
            image = pillow(image, OPS[draws.op[slot]], float(draws.level[slot]), int(draws.sign[slot]))
        mixture += draws.w[row, chain] * (from_pillow(image).float() / 255)
    view: Tensor = (1 - draws.m[row]) * (x.float() / 255) + draws.m[row] * mixture
    return view


def apply_one(x: Tensor, name: str, level: float, sign: int) -> Tensor:
    """The same operation, level and sign for all images."""
    n = (len(x),)
    levels = torch.full(n, level, dtype=torch.float64)
    return apply_op(x, torch.full(n, OPS.index(name)), levels, torch.full(n, sign))


def make_image(kind: str, height: int, width: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    makers: dict[str, Callable[[], Array]] = {
        "colour": lambda: noise,
        "grey": lambda: np.repeat(noise[..., :1], 3, axis=2),
        "constant": lambda: np.broadcast_to(noise[:1, :1], noise.shape),
        "black": lambda: np.zeros_like(noise),
        "white": lambda: np.full_like(noise, 255),
        "checkerboard": lambda: np.broadcast_to((np.indices((height, width)).sum(0) % 2 * 255)[..., None], noise.shape),
        "hot pixel": lambda: np.where(np.arange(noise.size).reshape(noise.shape) // 3 == noise.size // 6, noise, 0),
        "two values": lambda: np.where(noise > 127, noise[0, 0], noise[-1, -1]),
        "smooth": lambda: np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + noise[0, 0] // 2,
        "dark": lambda: noise // 32,
        "digit": lambda: np.where(noise > 190, noise, 0),
    }
    return torch.from_numpy(makers[kind]().astype(np.uint8)).permute(2, 0, 1).contiguous()


KINDS = (
    "colour", "grey", "constant", "black", "white", "checkerboard",
    "hot pixel", "two values", "smooth", "dark", "digit",
)  # fmt: skip
LEVELS = st.one_of(
    st.floats(0.1, 10, exclude_max=True),
    st.integers(1, 99).map(lambda tenths: tenths / 10),  # where a magnitude is about to become the next whole number
    st.integers(103, 10_239).map(lambda n: n / 1024),
    st.sampled_from([np.nextafter(10.0, 0.0), 0.1, 2.5, 5.0, 7.5]).map(float),
)
SIZES = st.one_of(
    st.sampled_from([(32, 32), (1, 1), (7, 5), (2, 3), (3, 3), (48, 20), (31, 31)]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)


@pytest.mark.parametrize("name", OPS)
@settings(max_examples=40, deadline=None)
@given(
    images=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16)), min_size=1, max_size=3),
    size=SIZES, level=LEVELS, sign=st.sampled_from([-1, 1]),
)  # fmt: skip
def test_op_equals_pillow(
    name: str, images: list[tuple[str, int]], size: tuple[int, int], level: float, sign: int
) -> None:
    x = torch.stack([make_image(kind, *size, seed) for kind, seed in images])
    out = apply_one(x, name, level, sign)
    want = torch.stack([from_pillow(pillow(to_pillow(image), name, level, sign)) for image in x])
    assert torch.equal(out, want)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=SIZES)
def test_mixed_batch_equals_pillow_and_each_image_alone(seed: int, size: tuple[int, int]) -> None:
    """Every image has its own operation, level and sign, and does not feel its neighbours."""
    rng = np.random.default_rng(seed)
    n = 2 * len(OPS) + 2
    x = torch.stack([make_image(KINDS[i % len(KINDS)], *size, seed + i) for i in range(n)])
    op = torch.from_numpy(rng.permutation(n) % (len(OPS) + 1) - 1)
    level = torch.from_numpy(rng.uniform(0.1, 10, n))
    sign = torch.from_numpy(rng.choice([-1, 1], n))
    before = x.clone()
    out = apply_op(x, op, level, sign)
    assert torch.equal(x, before)
    for i in range(n):
        one = slice(i, i + 1)
        assert torch.equal(out[one], apply_op(x[one], op[one], level[one], sign[one]))
        drawn = (float(level[i]), int(sign[i]))
        want = x[i] if op[i] < 0 else from_pillow(pillow(to_pillow(x[i]), OPS[op[i]], *drawn))
        assert torch.equal(out[i], want)


@pytest.mark.parametrize("name", OPS)
def test_op_equals_pillow_on_large_images(name: str) -> None:
    """At 224 x 224 an image fills a block of the interpolation, and a histogram has bins of thousands."""
    x = torch.stack([make_image(kind, 224, 224, 1) for kind in ("colour", "smooth", "digit")])
    level = torch.tensor([0.7, 2.9, 9.3], dtype=torch.float64)
    sign = torch.tensor([1, -1, 1])
    out = apply_op(x, torch.full((3,), OPS.index(name)), level, sign)
    for i in range(3):
        assert torch.equal(out[i], from_pillow(pillow(to_pillow(x[i]), name, float(level[i]), int(sign[i]))))


def test_blend_equals_pillow_for_all_pairs_of_bytes() -> None:
    """Single precision it must be: in double precision the product lands on the other side of a whole number."""
    degenerate, image = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    first, second = (Image.fromarray(x.to(torch.uint8).numpy()) for x in (degenerate, image))
    for level in [*torch.arange(0.1, 10, 0.1).tolist(), *(n / 1024 for n in range(103, 10_240, 509))]:
        factor = level * 1.8 / 10 + 0.1
        out = pillow_ops._blend(degenerate, image, torch.tensor(factor, dtype=torch.float64))
        assert torch.equal(out, torch.from_numpy(np.array(Image.blend(first, second, factor))))


@pytest.mark.parametrize("angle", range(-180, 181, 7))
def test_rotate_equals_pillow_beyond_the_drawn_range(angle: int) -> None:
    x = torch.stack([make_image(kind, 15, 24, 3) for kind in ("colour", "white")])
    want = torch.stack([from_pillow(to_pillow(i).rotate(angle, resample=Image.Resampling.BILINEAR)) for i in x])
    assert torch.equal(pillow_ops.rotate(x, torch.full((2,), angle)), want)


def test_shear_equals_pillow_where_centres_fall_on_the_edge() -> None:
    """Slopes that move a pixel's centre exactly to 0 or to the width, the first inside and the second outside."""
    slopes = torch.cat(
        [torch.arange(-16, 17, dtype=torch.float64) / 16, torch.arange(-9, 10, dtype=torch.float64) / 10]
    )
    x = make_image("white", 8, 8, 0).expand(len(slopes), -1, -1, -1)
    out = pillow_ops.shear(x, slopes)
    for i, slope in enumerate(slopes.tolist()):
        want = to_pillow(x[i]).transform(
            (8, 8), Image.Transform.AFFINE, (1, slope, 0, 0, 1, 0), resample=Image.Resampling.BILINEAR
        )
        assert torch.equal(out[i], from_pillow(want))


def test_every_rotation_of_the_centre_pixel_equals_pillow() -> None:
    """In an image of odd size the middle pixel lies on itself but for the last bits of the coordinates."""
    x = make_image("colour", 9, 9, 4).expand(59, -1, -1, -1)
    degrees = torch.arange(-29, 30)
    out = pillow_ops.rotate(x, degrees)
    for i, angle in enumerate(degrees.tolist()):
        assert torch.equal(out[i], from_pillow(to_pillow(x[i]).rotate(angle, resample=Image.Resampling.BILINEAR)))


def test_blocks_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.stack([make_image("colour", 8, 6, i) for i in range(10)])
    slope, degrees = torch.linspace(-0.3, 0.3, 10, dtype=torch.float64), torch.arange(-15, 15, 3)
    whole = pillow_ops.shear(x, slope), pillow_ops.rotate(x, degrees)
    monkeypatch.setattr(pillow_ops, "BLOCK", 3 * 48)
    for a, b in zip(whole, (pillow_ops.shear(x, slope), pillow_ops.rotate(x, degrees)), strict=True):
        assert torch.equal(a, b)


def test_memory_layout_does_not_matter() -> None:
    x = torch.stack([make_image("colour", 12, 10, i) for i in range(2 * len(OPS))])
    op, level, sign = torch.arange(len(x)) % len(OPS), torch.full((len(x),), 4.2), torch.ones(len(x), dtype=torch.int64)
    want = apply_op(x, op, level, sign)
    assert torch.equal(apply_op(x.contiguous(memory_format=torch.channels_last), op, level, sign), want)
    assert torch.equal(apply_op(x.mT.contiguous().mT, op, level, sign), want)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    severity=st.sampled_from([1.0, 2.0, 3.0, 10.0]),
    depth=st.sampled_from([-1, 1, 2, 4]),
)
def test_view_equals_pillow_given_the_same_draws(seed: int, severity: float, depth: int) -> None:
    """Chains and mixture: every float32, not only every byte of the chains."""
    x = torch.stack([make_image(kind, 16, 16, seed + i) for i, kind in enumerate(KINDS)])
    generator = torch.Generator().manual_seed(seed)
    draws = sample_mix(len(x), generator, ops=OPS, severity=severity, depth=depth)
    view = augmix_view(x.float() / 255, draws)
    for i in range(len(x)):
        assert torch.equal(view[i], pillow_view(x[i], draws, i))


def test_views_in_one_batch_equal_views_one_by_one() -> None:
    x = torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    draws = [sample_mix(5, torch.Generator().manual_seed(seed), ops=OPS) for seed in (1, 2, 3)]
    views = augmix_views(x, draws)
    assert len(views) == 3
    for view, drawn in zip(views, draws, strict=True):
        assert torch.equal(view, augmix_view(x, drawn))
        for i in range(5):
            alone = MixDraws(*(getattr(drawn, field.name)[i : i + 1] for field in fields(drawn)))
            assert torch.equal(view[i : i + 1], augmix_view(x[i : i + 1], alone))


def test_m_0_gives_the_image_and_an_empty_chain_too() -> None:
    x = torch.arange(256).repeat(3, 1, 1)[None] / 255
    draws = sample_mix(1, torch.Generator().manual_seed(0))
    assert torch.equal(augmix_view(x, replace(draws, m=torch.zeros(1))), x)
    unchanged = replace(draws, op=torch.full_like(draws.op, -1))
    assert torch.equal(apply_chains(to_uint8(x), unchanged), to_uint8(x)[:, None].expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(augmix_view(x, unchanged), x, rtol=0, atol=1e-6)


def test_mix_is_its_formula_and_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 2, 2), (2, 4, 3, 2, 2), (2, 4), (2,))
    x, chains, w, m = (torch.rand(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)
    want = torch.stack([(1 - m[b]) * x[b] + m[b] * sum(w[b, i] * chains[b, i] for i in range(4)) for b in range(2)])
    torch.testing.assert_close(mix(x, chains, w, m), want)
    assert torch.autograd.gradcheck(mix, (x, chains, w, m))


def test_to_uint8_cuts_as_torchvision_does() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)
    assert torch.equal(to_uint8(levels.float() * torch.tensor(1 / 255)), levels)  # as a GPU divides
    assert to_uint8(torch.tensor([0.5, 0.999, -0.2, 1.7])).tolist() == [127, 254, 0, 255]
    x = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_uint8(x), from_pillow(to_pil_image(x)))


# Draws


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


# Numbers of the released code


def channels_first(images: Array) -> Tensor:
    return torch.from_numpy(images).movedim(-1, -3).contiguous()


def golden_draws(arrays: Golden, tag: str) -> MixDraws:
    """The recorded draws; where none was made (NaN, 0), any value does."""
    part = {name: torch.from_numpy(arrays[f"{tag}/{name}"]) for name in ("ws", "m", "depths", "op", "level", "sign")}
    level, sign = part["level"].double().nan_to_num(1.0), part["sign"].long()
    return MixDraws(part["ws"], part["m"], part["depths"].long(), part["op"].long(), level, sign.where(sign != 0, 1))


def test_parity_of_each_operation(golden: Callable[[str], Golden]) -> None:
    arrays = golden("augmix_ops")
    x, names = channels_first(arrays["images"]), [str(name) for name in arrays["op_names"]]
    assert tuple(names) == OPS
    for o, name in enumerate(names):
        for i, (level, sign) in enumerate(zip(arrays["levels"], arrays["signs"], strict=True)):
            if name in {"autocontrast", "equalize"} and i > 0:
                continue  # they use no level: only the first is stored
            out = apply_one(x, name, float(level), int(sign))
            assert torch.equal(out, channels_first(arrays["op_out"][o, i])), (name, level, sign)


def test_parity_at_another_size(golden: Callable[[str], Golden]) -> None:
    arrays = golden("augmix_ops")
    x = channels_first(arrays["size48/image"])[None]
    level = float(arrays["levels"][1])
    for name, want in zip(arrays["size48/ops"], arrays["size48/out"], strict=True):
        assert torch.equal(apply_one(x, str(name), level, -1)[0], channels_first(want)), name


def test_parity_of_whole_views(golden: Callable[[str], Golden]) -> None:
    """Mixed after normalisation, as there: every bit of float32. Mixed before it, as ours: within the round-off of w,
    whose sum is 1 to within 1e-7, and of the mixture, both divided by std."""
    arrays = golden("augmix_ops")
    x = channels_first(arrays["images"])
    tags = sorted(key.removesuffix("/ws") for key in arrays if key.endswith("/ws"))
    assert tags
    for tag in tags:
        demo = tag.startswith("aam")  # the numpy demonstration: float64, CIFAR-10's mean and std, channels last
        mean, std = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)) if demo else ((0.5,) * 3, (0.5,) * 3)
        dtype = torch.float64 if demo else torch.float32
        centre, scale = (torch.tensor(v, dtype=dtype)[:, None, None] for v in (mean, std))

        def normalise(image: Tensor, centre: Tensor = centre, scale: Tensor = scale) -> Tensor:
            return (image.to(centre.dtype) / 255 - centre) / scale

        draws = golden_draws(arrays, tag)
        there = mix(normalise(x), normalise(apply_chains(x, draws)), draws.w.to(dtype), draws.m.to(dtype))
        ours = (augmix_view(x.to(dtype) / 255, draws) - centre) / scale
        torch.testing.assert_close(ours, there, rtol=0, atol=2e-6)
        mean_of_each = torch.from_numpy(arrays[f"{tag}/out_mean"])
        torch.testing.assert_close(there.double().mean(dim=(1, 2, 3)), mean_of_each.double(), rtol=0, atol=1e-6)
        stored = arrays[f"{tag}/out"]
        kept = there[arrays["mix_out_image_index"][-len(stored) :].tolist()]
        want = channels_first(stored) if demo else torch.from_numpy(stored)
        if demo:
            torch.testing.assert_close(kept.float(), want, rtol=0, atol=1e-6)
        else:
            assert torch.equal(kept, want), tag


def test_functions_stand_in_the_order_of_the_draws() -> None:
    assert tuple(augment_mix.FUNCTIONS) == OPS


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", augment_mix.CASES)
def test_compiled_views_have_the_bits_of_the_definition(shape: tuple[int, ...], threads: int) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x.flatten()[::7] = 1.0
    draws = sample_mix(len(x), torch.Generator().manual_seed(1), ops=OPS, severity=10.0)
    given = draws.op, magnitudes(draws.op, draws.level, draws.sign, *shape[2:])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for layout in (torch.contiguous_format, torch.channels_last):
            seen = x.contiguous(memory_format=layout)
            assert torch.equal(
                augment_mix.views(seen, *given, draws.w, draws.m), augment_mix.views_torch(x, *given, draws.w, draws.m)
            )
        small = to_uint8(x)
        assert torch.equal(augment_mix.chains(small, *given), augment_mix.chains_torch(small, *given))
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_the_same_bytes() -> None:
    x = torch.stack([make_image(KINDS[i % len(KINDS)], 31, 32, i) for i in range(64)])
    draws = sample_mix(64, torch.Generator().manual_seed(0), ops=OPS, severity=10.0)
    chains = apply_chains(x, draws)
    assert torch.equal(apply_chains(x.cuda(), draws).cpu(), chains)
    there = MixDraws(*(getattr(draws, field.name).cuda() for field in fields(draws)))
    assert torch.equal(apply_chains(x.cuda(), there).cpu(), chains)
    view = augmix_view(x.cuda().float() / 255, there).cpu()
    torch.testing.assert_close(view, augmix_view(x.float() / 255, draws), rtol=0, atol=1e-6)
    assert sample_mix(4, torch.Generator("cuda").manual_seed(0)).op.is_cuda
