"""Pro-RandConv: the block against its formulas in float64, the law of its draws, and what each setting changes."""

import importlib
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from benchmark import protocols
from benchmark.core.errors import UsageError
from benchmark.method import Rng
from benchmark.networks.classifiers import build
from benchmark.ops.progressive_conv import BlockDraws, progressive_conv, sample_block, sample_offsets
from tests.making import generator, made

TOLERANCE = 1e-5
"""Of three repetitions in float32 against float64."""
make = partial(made, "pro_randconv")


def images(n: int = 2, height: int = 7, width: int = 9) -> Tensor:
    return torch.rand(n, 3, height, width, generator=generator(5))


def drawn(groups: int = 1, k: int = 3, offset: float = 0.7) -> BlockDraws:
    return sample_block(groups, generator(1), k=k, smooth=(0.01, 1.0), offset=(offset, offset), style=0.5)


def pixel(plane: np.ndarray, row: int, column: int) -> float:
    inside = 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]
    return float(plane[row, column]) if inside else 0.0


def reading(plane: np.ndarray, row: float, column: float) -> float:
    """The bilinear mean of the four pixels around a position; 0 outside."""
    top, left = math.floor(row), math.floor(column)
    return sum(
        (1 - abs(row - i)) * (1 - abs(column - j)) * pixel(plane, i, j)
        for i in (top, top + 1)
        for j in (left, left + 1)
    )


def reference(x: Tensor, draws: BlockDraws, dp: Tensor, repetitions: int) -> np.ndarray:
    """Algorithm 1 in float64, number by number."""
    z, k = 2 * x.double().numpy() - 1, draws.weight.shape[-1]
    weight, offsets = draws.weight.double().numpy(), dp.double().numpy()
    n, _, height, width = z.shape
    for _ in range(repetitions):
        out = np.empty_like(z)
        for b in range(n):
            g, own = min(b, len(weight) - 1), min(b, len(offsets) - 1)
            sigma = float(draws.sigma_offset[min(g, len(draws.sigma_offset) - 1)])
            y = np.zeros((3, height, width))
            for row, column, i, j in np.ndindex(height, width, k, k):
                down, right = sigma * offsets[own, i * k + j, :, row, column]
                at = row + i - k // 2 + down, column + j - k // 2 + right
                y[:, row, column] += weight[g, :, :, i, j] @ [reading(z[b, c], *at) for c in range(3)]
            mean, var = y.mean((1, 2), keepdims=True), y.var((1, 2), keepdims=True)
            gamma, beta = (part[g].double().numpy()[:, None, None] for part in (draws.gamma, draws.beta))
            out[b] = np.tanh(gamma * (y - mean) / np.sqrt(var + 1e-5) + beta)
        z = out
    return np.asarray((z + 1) / 2)


# The block.


@pytest.mark.parametrize(("groups", "own"), [(1, 1), (1, 2), (2, 2)])
def test_three_repetitions_are_the_formulas(groups: int, own: int) -> None:
    x, draws, dp = images(), drawn(groups), sample_offsets(own, 3, 7, 9, generator(2))
    found = progressive_conv(x, draws, dp, 3).numpy()
    deviation = float(np.abs(found - reference(x, draws, dp, 3)).max())
    assert deviation < TOLERANCE, f"largest deviation: {deviation}"


def test_without_offsets_smoothing_and_style_it_is_a_normalised_convolution() -> None:
    """The identity of the source: L = 1, dp = 0, sigma_g infinite, gamma = 1, beta = 0."""
    wide = sample_block(1, generator(), k=3, smooth=(1e6, 1e6), offset=(0.0, 0.0), style=0.0)
    draws = BlockDraws(wide.weight, torch.ones(1, 3), torch.zeros(1, 3), wide.sigma_offset)
    x = images()
    plain = F.instance_norm(F.conv2d(2 * x - 1, wide.weight[0], padding=1))
    found = progressive_conv(x, draws, sample_offsets(2, 3, 7, 9, generator(1)), 1)
    torch.testing.assert_close(found, (torch.tanh(plain) + 1) / 2, rtol=0, atol=TOLERANCE)
    assert wide.weight.std().item() == pytest.approx(1 / math.sqrt(27), rel=0.25)  # 81 weights: three deviations


@pytest.mark.parametrize("k", [1, 3, 5])
def test_taps_and_offsets_are_those_of_deformable_convolution(k: int) -> None:
    """torchvision's convention: a row offset and a column offset for every tap, taps row by row, 0 outside."""
    x, draws = images(), drawn(k=k, offset=2.0)
    dp = sample_offsets(2, k, 7, 9, generator(3))
    theirs = deform_conv2d(2 * x - 1, 2 * dp.flatten(1, 2), draws.weight[0], padding=k // 2)
    normal = F.instance_norm(theirs)
    expected = torch.tanh(draws.gamma[..., None, None] * normal + draws.beta[..., None, None])
    torch.testing.assert_close(progressive_conv(x, draws, dp, 1), (expected + 1) / 2, rtol=0, atol=TOLERANCE)


def test_repetitions_share_one_block() -> None:
    x, draws, dp = images(), drawn(), sample_offsets(2, 3, 7, 9, generator(2))
    once = progressive_conv(x, draws, dp, 1)
    torch.testing.assert_close(progressive_conv(x, draws, dp, 2), progressive_conv(once, draws, dp, 1))
    assert torch.allclose(progressive_conv(x, draws, dp, 0), x, atol=1e-6)


def test_law_of_the_draws() -> None:
    draws = sample_block(20_000, generator(), k=3, smooth=(0.5, 0.5), offset=(0.1, 0.3), style=0.5)
    deviations = draws.weight.std((0, 1, 2)) * math.sqrt(27)
    expected = [[math.exp(-(i * i + j * j) / (2 * 0.5**2)) for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    torch.testing.assert_close(deviations, torch.tensor(expected), rtol=0.02, atol=0)
    for part in (draws.gamma, draws.beta):
        assert part.std().item() == pytest.approx(0.5, rel=0.02)
        assert abs(part.mean().item()) < 0.01
    assert 0.1 <= draws.sigma_offset.min() < 0.101
    assert 0.299 < draws.sigma_offset.max() <= 0.3
    offsets = sample_offsets(4, 3, 32, 32, generator())
    assert offsets.shape == (4, 9, 2, 32, 32)
    assert offsets.std().item() == pytest.approx(1, rel=0.01)


def test_smoothing_and_offsets_are_drawn_apart() -> None:
    """sigma_g shows in the corners of a kernel, which it scales by exp(-1 / sigma_g^2): 0.02 to 0.37 of them."""
    draws = sample_block(4000, generator(), k=3, smooth=(0.5, 1.0), offset=(0.0, 1.0), style=0.5)
    corners = draws.weight[..., ::2, ::2].flatten(1).square().mean(dim=1)
    wide = draws.sigma_offset > draws.sigma_offset.median()
    assert (corners[wide].mean() / corners[~wide].mean()).item() == pytest.approx(1, abs=0.15)


# The method.


def test_every_number_of_repetitions_has_the_same_chance() -> None:
    method = make()
    kinds = [method.kind(Rng(0, step)) for step in range(3000)]
    assert set(kinds) == set(range(1, 11))
    assert max(abs(kinds.count(one) - 300) for one in range(1, 11)) < 70  # four standard deviations
    assert {make(lam=0.0).kind(Rng(0, step)) for step in range(9)} == {0}


@pytest.mark.parametrize("setting", [{}, {"sigma_style": 0.2}, {"eps_g": 0.5}, {"k": 5}, {"L_max": 3}])
def test_the_view_is_the_block_applied_as_often_as_the_step_says(setting: dict[str, Any]) -> None:
    given, method = {"k": 3, "eps_g": 0.01, "sigma_style": 0.5, **setting}, make(**setting)
    x, net, kinds, k = images(), build("mini_convnet", 4, 0), set(), given["k"]
    for step in range(6):
        rng = Rng(0, step)
        smooth, style = (given["eps_g"], 1.0), given["sigma_style"]
        draws = rng.draw("block", sample_block, 1, k=k, smooth=smooth, offset=(1e-3, 0.2), style=style)
        times = method.kind(rng)
        assert isinstance(times, int)
        (view,) = method.views(net, x, torch.tensor([0, 1]), rng, {})
        dp = sample_offsets(2, k, 7, 9, rng.generator("offsets"))
        torch.testing.assert_close(view, progressive_conv(x, draws, dp, times))
        kinds.add(times)
    assert len(kinds) > 1


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("bn_batching", ["separate", "joint"])
def test_loss_is_cross_entropy_on_both_images(clean: bool, bn_batching: str) -> None:
    x, y = images(4, 32, 32), torch.tensor([0, 1, 2, 3])
    method = make(lam=0.3, clean=clean, bn_batching=bn_batching)
    net, other = build("wrn_16_4", 4, 0), build("wrn_16_4", 4, 0)
    (view,) = method.views(net, x, y, Rng(3), {})
    if not clean:
        expected = 0.3 * F.cross_entropy(other(view), y)
    elif bn_batching == "separate":
        expected = F.cross_entropy(other(x), y) + 0.3 * F.cross_entropy(other(view), y)
    else:
        first, second = other(torch.cat([x, view])).chunk(2)
        expected = F.cross_entropy(first, y) + 0.3 * F.cross_entropy(second, y)
    torch.testing.assert_close(method.loss(net, x, y, Rng(3), {}), expected, rtol=1e-5, atol=1e-6)
    counts = {int(value) for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    assert counts == {2 if clean and bn_batching == "separate" else 1}


@pytest.mark.parametrize(("options", "same"), [({}, False), ({"offsets": "batch"}, True), ({"per_image": True}, False)])
def test_what_is_drawn_for_each_image(options: dict[str, Any], same: bool) -> None:
    """Two equal images stay equal where nothing is drawn for each of them."""
    x = images(1, 16, 16).expand(2, 3, 16, 16)
    (view,) = make(b_delta=2.0, eps_delta=2.0, **options).views(
        build("mini_convnet", 4, 0), x, torch.tensor([0, 1]), Rng(0), {}
    )
    assert torch.allclose(view[0], view[1], atol=1e-6) == same


def test_per_image_draws_a_style_for_each_image() -> None:
    x = images(1, 16, 16).expand(2, 3, 16, 16)
    shared, own = (
        make(b_delta=0.0, per_image=flag).views(build("mini_convnet", 4, 0), x, torch.tensor([0, 1]), Rng(0), {})[0]
        for flag in (False, True)
    )
    assert torch.allclose(shared[0], shared[1], atol=1e-5)
    assert not torch.allclose(own[0], own[1], atol=0.05)


@pytest.mark.parametrize(("side", "given", "bounds"), [
    (32, "by_size", (1e-3, 0.2)), (127, "by_size", (1e-3, 0.2)), (128, "by_size", (1e-3, 0.5)),
    (224, "by_size", (1e-3, 0.5)), (32, 0.7, (1e-3, 0.7)), (32, 0.0, (0.0, 0.0)),
])  # fmt: skip
def test_offsets_go_by_the_size_of_images(
    monkeypatch: pytest.MonkeyPatch, side: int, given: Any, bounds: tuple[float, float]
) -> None:
    seen: list[dict[str, Any]] = []

    def spy(groups: int, generator: torch.Generator, **named: Any) -> BlockDraws:
        seen.append(named)
        return sample_block(groups, generator, **named)

    monkeypatch.setattr(importlib.import_module("benchmark.methods.pro_randconv"), "sample_block", spy)
    make(b_delta=given, L_max=1).views(
        build("mini_convnet", 4, 0), images(1, side, side), torch.tensor([0]), Rng(0), {}
    )
    assert [named["offset"] for named in seen] == [bounds]


def test_its_own_recipe_is_for_digits_alone() -> None:
    recipe, _, _ = protocols.recipe_for("strict", "pro_randconv", "digits")
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.schedule) == ("sgd", 0.01, 64, "cosine")
    with pytest.raises(UsageError, match="no recipe for pro_randconv on pacs"):
        protocols.recipe_for("strict", "pro_randconv", "pacs")
