"""RandConv: the layer against the original's numbers, the law of its draws, and what each setting does to a step."""

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from benchmark import registry
from benchmark.method import Rng
from benchmark.networks.classifiers import build
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.ops.random_conv import Clamp, Distribution, RandConvDraws, random_conv, sample_random_conv
from tests.conftest import Golden, golden_cases
from tests.making import generator, made

CLAMPS: dict[str, Clamp] = {"_clamp_true": "true", "_clamp_clamp": "clamp", "_clamp_norm": "norm"}
"""Released value of the clamp flag, as the golden cases name it."""

pytestmark = pytest.mark.usefixtures("seeded")
make = partial(made, "randconv")


def fixed(weight: Tensor, alpha: float = 1.0, bias: Tensor | None = None, identity: bool = False) -> RandConvDraws:
    """One convolution for the batch, weight [3,3,k,k]."""
    size = torch.tensor([weight.shape[-1]])
    return RandConvDraws(
        size, weight[None], torch.tensor([alpha]), torch.tensor([identity]), None if bias is None else bias[None]
    )


# The layer.


@pytest.mark.parametrize("case", golden_cases("randconv"))
def test_layer_parity(golden: Callable[[str], Golden], case: str) -> None:
    """In pixel space, and as a network that normalises with 0.5 and 0.5 sees it, the original's space."""
    arrays = golden("randconv")
    bias = torch.from_numpy(arrays[f"{case}/bias"]) if f"{case}/bias" in arrays else None
    draws = fixed(torch.from_numpy(arrays[f"{case}/weight"]), float(arrays.get(f"{case}/alpha", 1.0)), bias)
    assert int(draws.size) == arrays[f"{case}/kernel"]
    clamp: Clamp = next((value for part, value in CLAMPS.items() if part in case), "off")
    ours = (random_conv(torch.from_numpy(arrays["images"]).float() / 255, draws, clamp) - 0.5) / 0.5
    theirs = torch.from_numpy(arrays[f"{case}/out"])
    torch.testing.assert_close(ours[: len(theirs)], theirs, rtol=0, atol=1e-6)
    for name, value in {"out_mean": ours.mean((2, 3)), "out_sqmean": ours.square().mean((2, 3))}.items():
        torch.testing.assert_close(value, torch.from_numpy(arrays[f"{case}/{name}"]), rtol=0, atol=1e-6)


def test_draw_order_parity(golden: Callable[[str], Golden]) -> None:
    """With one size on offer, a seed gives the weights that it gives in the original."""
    arrays = golden("randconv")
    theirs = torch.from_numpy(arrays["draw_order/k3_weight"])
    draws = sample_random_conv(1, generator(int(arrays["draw_order/seed"])), kernel_sizes=[theirs.shape[-1]])
    torch.testing.assert_close(draws.weight[0], theirs, rtol=0, atol=1e-6)


def test_scale_of_weights_and_bias_parity(golden: Callable[[str], Golden]) -> None:
    """Theirs is an estimate from 400 draws of the layer; 5 % is four of its standard errors for the 1x1 kernel and
    more for the others. Ours is held to the theory more tightly below."""
    arrays = golden("randconv")
    for i, k in enumerate(arrays["sigma/kernel"].tolist()):
        assert 1 / math.sqrt(3 * k * k) == pytest.approx(float(arrays["sigma/theory"][i]), rel=1e-6)
        draws = sample_random_conv(10_000, generator(), kernel_sizes=[k], bias=True)
        assert draws.weight.std().item() == pytest.approx(float(arrays["sigma/empirical"][i]), rel=0.05)
        assert draws.bias is not None
        assert draws.bias.abs().max().item() == pytest.approx(float(arrays["sigma/bias_absmax"][i]), rel=0.05)


def test_distributions_parity(golden: Callable[[str], Golden]) -> None:
    """Standard deviation, and for the bounded laws the largest weight."""
    arrays = golden("randconv")
    laws: tuple[Distribution, ...] = ("kaiming_uniform", "kaiming_normal_clamp", "xavier_normal")
    for law in laws:
        deviation, largest = arrays[f"dist/{law}"].tolist()
        weight = sample_random_conv(2000, generator(), kernel_sizes=[3], distribution=law).weight
        assert weight.std().item() == pytest.approx(deviation, rel=0.02)
        if law != "xavier_normal":
            assert weight.abs().max().item() == pytest.approx(largest, rel=0.005)


def test_sizes_and_alphas_parity(golden: Callable[[str], Golden]) -> None:
    """The original's stream is Python's; what can agree is the support of what it drew."""
    arrays = golden("randconv")
    scales = tuple(arrays["multiscale/scales"].tolist())
    draws = sample_random_conv(len(arrays["multiscale/selected"]) * 8, generator(), kernel_sizes=scales)
    assert set(arrays["multiscale/selected"].tolist()) <= set(draws.size.tolist()) == set(scales)
    both = torch.cat([draws.alpha, torch.from_numpy(arrays["multiscale/alphas"])])
    assert bool(((both >= 0) & (both < 1)).all())


def test_consistency_loss_parity(golden: Callable[[str], Golden]) -> None:
    arrays = golden("randconv")
    cases = sorted({key.split("/")[1] for key in arrays if key.startswith("invloss/")})
    assert cases
    for case in cases:
        logits = torch.from_numpy(arrays[f"invloss/{case}/logits"]).requires_grad_()
        value = jensen_shannon(*logits)
        value.backward()
        torch.testing.assert_close(value.detach(), torch.tensor(arrays[f"invloss/{case}/value"]), rtol=0, atol=1e-6)
        torch.testing.assert_close(logits.grad, torch.from_numpy(arrays[f"invloss/{case}/grad"]), rtol=0, atol=1e-6)


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    k=st.sampled_from([1, 3, 5, 7]),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_layer_is_the_formula(batch: int, height: int, width: int, k: int, alpha: float, seed: int) -> None:
    """alpha * conv(z) + (1 - alpha) z in z = 2x - 1, on any image size, against a float64 sum over shifts."""
    x, weight = torch.rand(batch, 3, height, width, generator=generator(seed)), torch.randn(3, 3, k, k) / (3 * k)
    z, r = 2 * x.double() - 1, k // 2
    padded, summed = F.pad(z, [r] * 4), torch.zeros_like(z)
    for i in range(k):
        for j in range(k):
            window = padded[:, :, i : i + height, j : j + width]
            summed += torch.einsum("oc,bchw->bohw", weight[:, :, i, j].double(), window)
    expected = (alpha * summed + (1 - alpha) * z + 1) / 2
    torch.testing.assert_close(random_conv(x, fixed(weight, alpha)).double(), expected, rtol=0, atol=2e-6)


def test_zero_padding_is_mid_grey() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert torch.equal(random_conv(grey, fixed(torch.randn(3, 3, 7, 7))), grey)


def test_a_small_kernel_in_a_large_frame_is_the_small_kernel() -> None:
    """The frame that keeps shapes static is cut on a CPU; left whole, as on a GPU, it gives the same image."""
    x, weight = torch.rand(2, 3, 9, 9), torch.randn(3, 3, 3, 3)
    small = random_conv(x, fixed(weight))
    framed = fixed(F.pad(weight, [2] * 4))
    whole = random_conv(x, framed)
    cut = random_conv(x, RandConvDraws(torch.tensor([3]), framed.weight, framed.alpha, framed.identity))
    assert torch.equal(cut, small)
    torch.testing.assert_close(whole, small, rtol=0, atol=1e-6)


@pytest.mark.parametrize("clamp", ["off", "true", "clamp", "norm"])
@pytest.mark.parametrize("bias", [False, True])
def test_per_image_kernels_equal_row_by_row_application(clamp: Clamp, bias: bool) -> None:
    x = torch.rand(12, 3, 16, 16, generator=generator(1))
    draws = sample_random_conv(12, generator(2), identity_prob=0.3, bias=bias)
    assert 0 < int(draws.identity.sum()) < 12
    assert len(set(draws.size.tolist())) > 1
    together = random_conv(x, draws, clamp)
    for i in range(12):
        rows: dict[str, Any] = {key: part if part is None else part[i : i + 1] for key, part in vars(draws).items()}
        one = RandConvDraws(**rows)
        torch.testing.assert_close(together[i : i + 1], random_conv(x[i : i + 1], one, clamp), rtol=0, atol=1e-6)


def test_clamps_of_the_released_flag() -> None:
    """true clamps the mixture, clamp the convolution too; norm stretches each channel to the full range."""
    x, weight = torch.rand(2, 3, 16, 16, generator=generator()), torch.randn(3, 3, 5, 5, generator=generator())
    mixed = fixed(weight, 0.5)
    loose, convolved = random_conv(x, mixed), random_conv(x, fixed(weight))
    assert loose.min() < 0
    assert loose.max() > 1
    assert torch.equal(random_conv(x, mixed, "true"), loose.clamp(0, 1))
    torch.testing.assert_close(random_conv(x, mixed, "clamp"), (convolved.clamp(0, 1) + x) / 2, rtol=0, atol=1e-6)
    stretched = random_conv(x, fixed(weight), "norm")
    assert bool((stretched.amin((2, 3)).abs() < 1e-6).all())
    assert bool(((stretched.amax((2, 3)) - 1).abs() < 1e-6).all())
    flat = random_conv(torch.full((1, 3, 4, 4), 0.5), fixed(weight), "norm")
    assert bool(flat.isfinite().all())


# The law of the draws.


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_standard_deviation_of_weights(k: int) -> None:
    weight = sample_random_conv(10_000, generator(), kernel_sizes=[k]).weight
    assert weight.shape == (10_000, 3, 3, k, k)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * k * k), rel=0.02)
    per_tap = weight.std(0) * math.sqrt(3 * k * k)
    torch.testing.assert_close(per_tap, torch.ones_like(per_tap), rtol=0, atol=0.05)
    assert abs(weight.mean().item()) < 4 / math.sqrt(3 * k * k * weight.numel())


def test_sizes_alphas_and_identities() -> None:
    draws = sample_random_conv(10_000, generator(), kernel_sizes=(1, 3, 5, 7), identity_prob=0.3)
    for k in (1, 3, 5, 7):
        chosen = draws.size == k
        assert chosen.float().mean().item() == pytest.approx(0.25, abs=0.02)
        rim = F.pad(torch.ones(k, k), [(7 - k) // 2] * 4) == 0
        assert bool((draws.weight[chosen][..., rim] == 0).all())
        assert draws.weight[chosen][..., ~rim].std().item() == pytest.approx(1 / math.sqrt(3 * k * k), rel=0.02)
    histogram = torch.histc(draws.alpha, 10, 0, 1) / 10_000
    torch.testing.assert_close(histogram, torch.full((10,), 0.1), rtol=0, atol=0.02)
    assert draws.identity.float().mean().item() == pytest.approx(0.3, abs=0.02)
    # independent of one another
    numbers = torch.stack([draws.size.float(), draws.alpha, draws.identity.float(), draws.weight[:, 0, 0, 3, 3].abs()])
    correlation = torch.corrcoef(numbers)
    assert correlation[1, [0, 2, 3]].abs().max() < 0.04
    assert correlation[2, [0, 3]].abs().max() < 0.04


def test_image_mode_does_not_mix() -> None:
    assert bool((sample_random_conv(50, generator(), mixing=False).alpha == 1).all())


# The method.


def spy(monkeypatch: pytest.MonkeyPatch, draws: list[RandConvDraws]) -> None:
    """Injects the draws, in order."""
    supply = iter(draws)
    module = importlib.import_module("benchmark.methods.randconv")
    monkeypatch.setattr(module, "sample_random_conv", lambda *args, **kwargs: next(supply))


@pytest.mark.parametrize("views", ["reference", "independent", "clean"])
def test_composition_of_the_views(monkeypatch: pytest.MonkeyPatch, views: str) -> None:
    """reference: R1(R0(x)), R2(R0(x)), because the released loop overwrites its input. independent: R1(x), R2(x)."""
    x, y = torch.rand(4, 3, 12, 12), torch.zeros(4, dtype=torch.int64)
    draws = [
        fixed(torch.randn(3, 3, k, k, generator=generator(k)), alpha) for k, alpha in ((5, 0.7), (3, 0.2), (1, 1.0))
    ]
    spy(monkeypatch, draws if views != "clean" else draws[1:])
    seen = make(views=views).views(build("mini_convnet", 4, 0), x, y, Rng(0), {})
    u = x if views == "clean" else random_conv(x, draws[0])
    base = u if views == "reference" else x
    for view, expected in zip(seen, [u, random_conv(base, draws[1]), random_conv(base, draws[2])], strict=True):
        assert torch.equal(view, expected)


def test_the_released_composition_is_the_default_and_differs() -> None:
    x, y = torch.rand(4, 3, 12, 12), torch.zeros(4, dtype=torch.int64)
    net = build("mini_convnet", 4, 0)
    default, reference, independent = (
        make(**options).views(net, x, y, Rng(0), {})
        for options in ({}, {"views": "reference"}, {"views": "independent"})
    )
    assert all(torch.equal(a, b) for a, b in zip(default, reference, strict=True))
    assert torch.equal(default[0], independent[0])
    assert not torch.allclose(default[1], independent[1])


@pytest.mark.parametrize("name", ["mini_convnet", "wrn_16_4"])
@pytest.mark.parametrize("bn_batching", ["separate", "joint"])
def test_loss_is_ce_on_the_first_view_plus_consistency(name: str, bn_batching: str) -> None:
    x, y = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    method, net, other = make(bn_batching=bn_batching), build(name, 4, 0), build(name, 4, 0)
    views = method.views(net, x, y, Rng(3), {})
    apart = bn_batching == "separate"
    logits = [other(view) for view in views] if apart else list(other(torch.cat(views)).chunk(3))
    expected = F.cross_entropy(logits[0], y) + 10 * jensen_shannon(*logits)
    torch.testing.assert_close(method.loss(net, x, y, Rng(3), {}), expected, rtol=1e-5, atol=1e-5)
    counts = [int(value) for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")]
    assert set(counts) <= {3 if bn_batching == "separate" else 1}
    assert bool(counts) == (name != "mini_convnet")


def test_without_consistency_there_is_one_view() -> None:
    x, y = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    method, net = make(lam=0.0), build("mini_convnet", 4, 0)
    (view,) = method.views(net, x, y, Rng(3), {})
    torch.testing.assert_close(method.loss(net, x, y, Rng(3), {}), F.cross_entropy(net(view), y))


def test_identity_without_consistency_is_erm() -> None:
    x, y, net = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]), build("mini_convnet", 4, 0)
    loss = make(identity_prob=1.0, lam=0.0).loss(net, x, y, Rng(0), {})
    assert torch.equal(loss, F.cross_entropy(net(x), y))


def test_one_kernel_for_the_batch_is_the_default_and_per_image_is_not() -> None:
    """Equal images stay equal under one kernel, and part under their own."""
    x, y = torch.rand(1, 3, 12, 12).repeat(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64)
    net = build("mini_convnet", 4, 0)
    for per_image in (False, True):
        (view, *_) = make(per_image=per_image).views(net, x, y, Rng(0), {})
        same = [torch.allclose(view[0], view[i], atol=1e-6) for i in range(1, 4)]
        assert same == [not per_image] * 3


def test_identity_coin_is_tossed_once_a_view_for_the_batch() -> None:
    x, y = torch.rand(4, 3, 12, 12), torch.zeros(4, dtype=torch.int64)
    method = make(mixing=False, identity_prob=0.5, lam=5.0)  # RC_img1-7, p = 0.5
    net, kept = build("mini_convnet", 4, 0), []
    for step in range(60):
        views = method.views(net, x, y, Rng(0, step), {})
        rows = (views[0] == x).flatten(1).all(dim=1)
        assert len(set(rows.tolist())) == 1
        kept.append((bool(rows[0]), torch.equal(views[1], views[0])))
    first, second = (sum(column) for column in zip(*kept, strict=True))
    assert 18 < first < 42  # 60 coins: three standard deviations
    assert 18 < second < 42
    assert len(set(kept)) == 4


def test_the_loss_follows_images_and_labels_together() -> None:
    x, y, net = torch.rand(6, 3, 32, 32), torch.arange(6) % 4, build("mini_convnet", 4, 0)
    order, method = torch.tensor([3, 1, 5, 0, 4, 2]), make()
    loss = method.loss(net, x, y, Rng(1), {})
    torch.testing.assert_close(method.loss(net, x[order], y[order], Rng(1), {}), loss, rtol=1e-5, atol=1e-6)
    assert not torch.isclose(method.loss(net, x[order], y, Rng(1), {}), loss, rtol=1e-4)


def test_steps_and_views_have_their_own_draws() -> None:
    x, y, net = torch.rand(2, 3, 12, 12), torch.zeros(2, dtype=torch.int64), build("mini_convnet", 4, 0)
    method = make(views="independent")
    views = [*method.views(net, x, y, Rng(0, 0), {}), *method.views(net, x, y, Rng(0, 1), {})]
    assert not any(torch.allclose(a, b) for i, a in enumerate(views) for b in views[:i])
    again = method.views(net, x, y, Rng(0, 1), {})
    assert all(torch.equal(a, b) for a, b in zip(again, views[3:], strict=True))


@pytest.mark.parametrize(
    "setting",
    [
        {"mixing": False}, {"kernel_sizes": (5,)}, {"clamp_output": "true"}, {"clamp_output": "norm"},
        {"distribution": "kaiming_uniform"}, {"identity_prob": 1.0}, {"per_image": True},
    ],
)  # fmt: skip
def test_each_setting_changes_the_views(setting: dict[str, Any]) -> None:
    x, y, net = torch.rand(4, 3, 12, 12), torch.zeros(4, dtype=torch.int64), build("mini_convnet", 4, 0)
    first, other = (make(**options).views(net, x, y, Rng(0), {}) for options in ({}, setting))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_bias_changes_the_views() -> None:
    x, y, net = torch.rand(2, 3, 12, 12), torch.zeros(2, dtype=torch.int64), build("mini_convnet", 4, 0)
    plain, biased = (make(bias=bias).views(net, x, y, Rng(0), {})[0] for bias in (False, True))
    assert not torch.allclose(plain, biased)


@pytest.mark.parametrize(("text", "sizes"), [("3,5", (3, 5)), ("[1, 7]", (1, 7)), ("3", (3,))])
def test_settings_from_the_command_line(text: str, sizes: tuple[int, ...]) -> None:
    given = {"kernel_sizes": text, "views": "independent", "mixing": "false"}
    read = registry.make("method", "randconv", given).settings()
    assert (read["kernel_sizes"], read["views"], read["mixing"]) == (sizes, "independent", False)


def test_a_single_kernel_size_works() -> None:
    """The released code fails on it."""
    x, y = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    assert make(kernel_sizes=(3,)).loss(build("mini_convnet", 4, 0), x, y, Rng(0), {}).isfinite()
