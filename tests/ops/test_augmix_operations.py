"""The batched operations: against Pillow byte for byte, and against the released code's numbers."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from benchmark.ops import pillow
from benchmark.ops.augmix import (
    OPS,
    MixDraws,
    apply_chains,
    apply_op,
    augmix_view,
    augmix_views,
    magnitudes,
    sample_mix,
)
from benchmark.ops.kernels import augment_mix
from benchmark.ops.kernels.augment_mix import mix, to_uint8
from tests.conftest import Golden
from tests.ops.pillow_peer import (
    KINDS,
    LEVELS,
    SIZES,
    apply_one,
    by_pillow,
    channels_first,
    from_pillow,
    golden_draws,
    make_image,
    pillow_view,
    to_pillow,
)

pytestmark = pytest.mark.usefixtures("implementation")


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
    want = torch.stack([from_pillow(by_pillow(to_pillow(image), name, level, sign)) for image in x])
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
        want = x[i] if op[i] < 0 else from_pillow(by_pillow(to_pillow(x[i]), OPS[op[i]], *drawn))
        assert torch.equal(out[i], want)


@pytest.mark.parametrize("name", OPS)
def test_op_equals_pillow_on_large_images(name: str) -> None:
    """At 224 x 224 an image fills a block of the interpolation, and a histogram has bins of thousands."""
    x = torch.stack([make_image(kind, 224, 224, 1) for kind in ("colour", "smooth", "digit")])
    level = torch.tensor([0.7, 2.9, 9.3], dtype=torch.float64)
    sign = torch.tensor([1, -1, 1])
    out = apply_op(x, torch.full((3,), OPS.index(name)), level, sign)
    for i in range(3):
        assert torch.equal(out[i], from_pillow(by_pillow(to_pillow(x[i]), name, float(level[i]), int(sign[i]))))


def test_blend_equals_pillow_for_all_pairs_of_bytes() -> None:
    """Single precision it must be: in double precision the product lands on the other side of a whole number."""
    degenerate, image = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    first, second = (Image.fromarray(x.to(torch.uint8).numpy()) for x in (degenerate, image))
    for level in [*torch.arange(0.1, 10, 0.1).tolist(), *(n / 1024 for n in range(103, 10_240, 509))]:
        factor = level * 1.8 / 10 + 0.1
        out = pillow._blend(degenerate, image, torch.tensor(factor, dtype=torch.float64))
        assert torch.equal(out, torch.from_numpy(np.array(Image.blend(first, second, factor))))


@pytest.mark.parametrize("angle", range(-180, 181, 7))
def test_rotate_equals_pillow_beyond_the_drawn_range(angle: int) -> None:
    x = torch.stack([make_image(kind, 15, 24, 3) for kind in ("colour", "white")])
    want = torch.stack([from_pillow(to_pillow(i).rotate(angle, resample=Image.Resampling.BILINEAR)) for i in x])
    assert torch.equal(pillow.rotate(x, torch.full((2,), angle)), want)


def test_shear_equals_pillow_where_centres_fall_on_the_edge() -> None:
    """Slopes that move a pixel's centre exactly to 0 or to the width, the first inside and the second outside."""
    slopes = torch.cat(
        [torch.arange(-16, 17, dtype=torch.float64) / 16, torch.arange(-9, 10, dtype=torch.float64) / 10]
    )
    x = make_image("white", 8, 8, 0).expand(len(slopes), -1, -1, -1)
    out = pillow.shear(x, slopes)
    for i, slope in enumerate(slopes.tolist()):
        want = to_pillow(x[i]).transform(
            (8, 8), Image.Transform.AFFINE, (1, slope, 0, 0, 1, 0), resample=Image.Resampling.BILINEAR
        )
        assert torch.equal(out[i], from_pillow(want))


def test_every_rotation_of_the_centre_pixel_equals_pillow() -> None:
    """In an image of odd size the middle pixel lies on itself except for the last bits of the coordinates."""
    x = make_image("colour", 9, 9, 4).expand(59, -1, -1, -1)
    degrees = torch.arange(-29, 30)
    out = pillow.rotate(x, degrees)
    for i, angle in enumerate(degrees.tolist()):
        assert torch.equal(out[i], from_pillow(to_pillow(x[i]).rotate(angle, resample=Image.Resampling.BILINEAR)))


def test_blocks_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.stack([make_image("colour", 8, 6, i) for i in range(10)])
    slope, degrees = torch.linspace(-0.3, 0.3, 10, dtype=torch.float64), torch.arange(-15, 15, 3)
    whole = pillow.shear(x, slope), pillow.rotate(x, degrees)
    monkeypatch.setattr(pillow, "BLOCK", 3 * 48)
    for a, b in zip(whole, (pillow.shear(x, slope), pillow.rotate(x, degrees)), strict=True):
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


def test_the_definition_has_every_operation() -> None:
    assert sorted(augment_mix.FUNCTIONS) == sorted(OPS)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", augment_mix.CASES)
def test_compiled_views_have_the_bits_of_the_definition(shape: tuple[int, ...], threads: int) -> None:
    if augment_mix._pillow_cpu() is None:
        pytest.skip("views are the definition")
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
