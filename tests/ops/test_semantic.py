"""The operations of AdvST against Pillow, colorsys and formulas pixel by pixel, and their gradients."""

import colorsys
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from benchmark.ops import semantic
from benchmark.ops.attacks.parameters import sample_semantic
from benchmark.ops.semantic import NAMES, OPERATIONS, SEQUENCES
from tests.making import generator

HEIGHT, WIDTH = 9, 12
SQUARES = torch.tensor([[0.0, 0.0], [0.999, 0.5]] + [[0.0, 0.0]] * 6)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, HEIGHT, WIDTH, generator=generator(), dtype=torch.float64)


def theta(*values: float) -> Tensor:
    """The same numbers for both images."""
    return torch.tensor([values, values], dtype=torch.float64)


def run(name: str, x: Tensor, *values: float) -> Tensor:
    return OPERATIONS[name](x, theta(*values), SQUARES)


def looked_up(image: Any, where: Callable[[float, float], tuple[float, float]]) -> Any:
    """Bilinear, black outside; `where` gives (right, down) from the centre for (right, down) from the centre."""
    height, width = image.shape[1:]
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            right, down = where(column - (width - 1) / 2, row - (height - 1) / 2)
            c, r = right + (width - 1) / 2, down + (height - 1) / 2
            for i in (math.floor(r), math.floor(r) + 1):
                for j in (math.floor(c), math.floor(c) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        out[:, row, column] += (1 - abs(r - i)) * (1 - abs(c - j)) * image[:, i, j]
    return out


def turned(angle: float, right: float, down: float) -> tuple[float, float]:
    """What lies there after a counter-clockwise turn was at the place turned clockwise; rows grow downwards."""
    place = complex(right, -down) * complex(math.cos(angle), -math.sin(angle))
    return place.real, -place.imag


@pytest.mark.parametrize(
    ("name", "values", "where"),
    [
        ("rotate", (0.07,), lambda c, r: turned(2 * math.pi * 0.07, c, r)),
        ("rotate", (0.6,), lambda c, r: turned(2 * math.pi * 0.6, c, r)),
        ("translate", (0.7, -0.4), lambda c, r: (c - 0.7 * WIDTH / 10, r + 0.4 * WIDTH / 10)),
        ("shear", (0.2, -0.1), lambda c, r: (c + 0.2 * r, r - 0.1 * c)),
        ("shear", (0.9, 0.0), lambda c, r: (c + 0.9 * r, r)),
        ("scale", (1.7,), lambda c, r: (c / 1.7, r / 1.7)),
        ("scale", (0.6,), lambda c, r: (c / 0.6, r / 0.6)),
    ],
)
def test_warps_look_up_the_right_place(x: Tensor, name: str, values: tuple[float, ...], where: Any) -> None:
    want = np.stack([looked_up(image, where) for image in x.numpy()])
    assert np.abs(run(name, x, *values).numpy() - want).max() < 1e-12


def test_a_quarter_turn_is_counter_clockwise() -> None:
    square = torch.rand(2, 3, 8, 8, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(run("rotate", square, 0.25), square.rot90(1, (2, 3)), rtol=0, atol=1e-12)


def test_hsv_is_that_of_colorsys(x: Tensor) -> None:
    x[:, :, 0] = 0.3  # grey, which has no hue
    x[:, :, 1, 0] = 0.0
    shift = (0.9, -0.3, 0.4)
    for image, found in zip(x, run("hsv", x, *shift), strict=True):
        for pixel, got in zip(image.flatten(1).T.tolist(), found.flatten(1).T.tolist(), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*pixel)
            want = colorsys.hsv_to_rgb((h + shift[0] / (2 * math.pi)) % 1, s + shift[1], v + shift[2])
            if s + shift[1] == 0:
                want = (v + shift[2],) * 3
            assert got == pytest.approx(want, abs=1e-12)


def test_hsv_is_cut_at_ten(x: Tensor) -> None:
    assert run("hsv", 30 * x, 0.0, 1.0, 1.0).abs().max() == 10


@pytest.mark.parametrize(
    ("name", "values", "formula"),
    [
        ("invert", (0.7,), lambda x: 0.7 - x),
        ("contrast", (1.6,), lambda x: (1.6 * x).clip(0, 1)),
        ("solarize", (0.2,), lambda x: np.where(x + 0.2 < 0.5, x + 0.2, 1 - (x + 0.2).clip(0, 1))),
        ("solarize", (-0.4,), lambda x: np.where(x < 0.4, 0, np.where(x - 0.4 < 0.5, x - 0.4, 1.4 - x))),
    ],
)
def test_values_follow_their_formula(x: Tensor, name: str, values: tuple[float, ...], formula: Any) -> None:
    assert np.abs(run(name, x, *values).numpy() - formula(x.numpy())).max() < 1e-12


@pytest.mark.parametrize(
    ("name", "value", "of_pillow", "tolerance"),
    [
        ("sharpness", 0.0, lambda image: ImageEnhance.Sharpness(image).enhance(0.0), 1),
        ("sharpness", 0.4, lambda image: ImageEnhance.Sharpness(image).enhance(0.4), 2),
        ("equalize", None, ImageOps.equalize, 0),
        ("posterize", 1.5, lambda image: ImageOps.posterize(image, 1), 0),
        ("posterize", 5.0, lambda image: ImageOps.posterize(image, 5), 0),
        ("posterize", 8.9, lambda image: image, 0),
        ("posterize", 0.9, lambda image: Image.new("RGB", image.size), 0),
    ],
)
def test_as_pillow_but_for_rounding(name: str, value: float | None, of_pillow: Any, tolerance: int) -> None:
    levels = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), generator=generator(), dtype=torch.uint8)
    found = run(name, levels.double() / 255, *([] if value is None else [value])) * 255
    for image, got in zip(levels, found, strict=True):
        want = np.asarray(of_pillow(Image.fromarray(image.permute(1, 2, 0).numpy())))
        assert np.abs(got.permute(1, 2, 0).numpy() - want).max() <= tolerance + 1e-6


def test_cutout_paints_squares_that_the_batch_shares() -> None:
    x = torch.zeros(2, 3, 32, 40)
    colours = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    found = OPERATIONS["cutout"](x, colours, SQUARES)
    painted = torch.zeros(32, 40, dtype=torch.bool)
    painted[:8, :8] = True  # around the first corner
    painted[31 - 8 :, 20 - 8 : 20 + 8] = True
    for image, colour in zip(found, colours, strict=True):
        assert torch.equal(image, colour[:, None, None] * painted)


@pytest.mark.parametrize("name", [name for name in NAMES if OPERATIONS[name].count and name != "posterize"])
def test_theta_is_cut_to_its_range_but_for_shear(name: str, x: Tensor) -> None:
    op = OPERATIONS[name]
    for end, more in ((op.low, -0.5), (op.high, 0.5)):
        beyond, edge = (run(name, x, *[value] * op.count) for value in (end + more, end))
        assert torch.equal(beyond, edge) == (name != "shear")


@pytest.mark.parametrize("name", [name for name in NAMES if OPERATIONS[name].learns])
def test_gradients_are_those_of_finite_differences(name: str, x: Tensor) -> None:
    op = OPERATIONS[name]
    shares = torch.rand(2, op.count, generator=generator(3), dtype=torch.float64)
    numbers = (op.low + (0.2 + 0.6 * shares) * (op.high - op.low)).requires_grad_()
    x = x[:, :, :5, :5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda images, t: op(images, t, SQUARES[:, :] * 0 + 2.0), (x, numbers), atol=1e-4)


@pytest.mark.parametrize("name", ["equalize", "posterize"])
def test_rounding_lets_the_gradient_of_the_image_through_and_has_none_itself(name: str, x: Tensor) -> None:
    numbers = theta(*[3.3] * OPERATIONS[name].count).requires_grad_()
    out = OPERATIONS[name](x.requires_grad_(), numbers, SQUARES)
    weight = torch.rand(out.shape, generator=generator(1), dtype=torch.float64)
    of_x, of_theta = torch.autograd.grad((out * weight).sum(), (x, numbers), allow_unused=True)
    assert torch.equal(of_x, weight)
    assert of_theta is None


def test_sequences_are_all_orders_with_hsv_in_front_only() -> None:
    assert {length: len(found) for length, found in SEQUENCES.items()} == {1: 12, 2: 12 * 11 - 11, 3: 1320 - 220}
    for found in SEQUENCES.values():
        assert all(NAMES.index("hsv") not in one[1:] and len(set(one)) == len(one) for one in found)


def test_lengths_are_equally_likely_and_so_are_sequences_of_a_length() -> None:
    drawn = [sample_semantic(1, generator(seed)).sequence for seed in range(3000)]
    lengths = Counter(int((one >= 0).sum()) for one in drawn)
    assert all(count == pytest.approx(1000, abs=100) for count in lengths.values())
    single = Counter(int(one[0]) for one in drawn if one[1] < 0)
    assert len(single) == 12
    assert all(count == pytest.approx(1000 / 12, abs=35) for count in single.values())
    two = [one for one in drawn if one[2] < 0 <= one[1]]
    assert sum(int(one[0]) == NAMES.index("hsv") for one in two) / len(two) == pytest.approx(11 / 121, abs=0.03)


def test_starts_cover_their_ranges() -> None:
    start = sample_semantic(4000, generator()).start
    assert start.shape == (4000, 17)
    assert 0 <= start.min() < 0.001
    assert 0.999 < start.max() < 1
    assert int(0.2 * 84) == semantic.SIDE


def test_centres_of_squares_lie_all_over_the_image() -> None:
    centres = torch.cat([sample_semantic(1, generator(seed)).squares for seed in range(250)])
    assert centres.shape == (2000, 2)
    counts = Counter(tuple(place) for place in (3 * centres).long().tolist())  # of the nine ninths of an image
    assert len(counts) == 9
    assert all(count == pytest.approx(2000 / 9, abs=60) for count in counts.values())
