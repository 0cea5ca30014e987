"""The twelve standard augmentations of AdvST (Zheng et al., AAAI 2024), f(x; theta) with a gradient in both.

x: float [B,3,H,W], in [0,1] where an operation expects bytes. theta: [B,n], an image's own numbers, drawn from the
range and cut to it within the operation. What is outside of the image is black. The original takes its operations from
kornia, whose conventions our description of it leaves open. So ours are our choice, except for the ranges and what
is marked (s):

    hsv         3  -1..1     added to hue (radians), saturation and value; nothing is cut but the result, to -10..10 (s)
    rotate      1  .01..1    of 360 degrees (s), counter-clockwise about the centre
    translate   2  -1..1     of 10 % of the width (s), rightwards and downwards
    invert      1  .5..1     theta - x (s)
    shear       2  -.3...3   row and column move by theta times the other, about the centre; not cut to the range (s)
    contrast    1  .1..1.9   theta x (s), the result cut to 0..1
    sharpness   1  0..1      theta x + (1 - theta) smooth(x): 1 is the image itself; Pillow's 3x3 filter, border kept
    solarize    1  -.5...5   theta is added (s), the sum cut to 0..1; what is .5 or brighter is inverted
    scale       1  .5..2     about the centre; 2 shows the middle half at twice its size
    equalize    0            Pillow's, each channel on bytes; the gradient passes straight through (s)
    posterize   1  0..9      keeps floor(theta) bits, so 0 to 8 with equal chance (s); straight through to x (s), and
                             no gradient to theta
    cutout      3  0..1      the colour of 8 squares of 16 pixels (s), their centres shared by the batch (s)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.ops import pillow

SQUARES, SIDE = 8, 16
"""Of cutout: how many squares, and pixels of their side (20 % of 84)."""


@dataclass(frozen=True)
class Semantic:
    """One operation: f(x, theta, squares), squares [8,2] being the centres (row, column) of cutout in units of the
    image; numbers of theta and their range; whether theta is cut to it; whether theta has a gradient."""

    apply: Callable[[Tensor, Tensor, Tensor], Tensor]
    count: int
    low: float = 0.0
    high: float = 1.0
    cut: bool = True
    learns: bool = True

    def __call__(self, x: Tensor, theta: Tensor, squares: Tensor) -> Tensor:
        return self.apply(x, theta.clamp(self.low, self.high) if self.cut else theta, squares)


def hsv(x: Tensor, theta: Tensor) -> Tensor:
    """Hue, saturation and value moved by theta [B,3]; hue goes round."""
    value, channel = x.max(dim=1)
    span = value - x.amin(dim=1)
    red, green, blue = x.unbind(dim=1)
    safe = span.where(span > 0, 1)
    sixths = torch.stack([(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4], dim=1)
    h = sixths.gather(1, channel[:, None])[:, 0].where(span > 0, 0) + theta[:, 0, None, None] * (3 / math.pi)
    s = span / value.where(value > 0, 1) + theta[:, 1, None, None]
    v = value + theta[:, 2, None, None]
    around = [(n + h) % 6 for n in (5, 3, 1)]
    rgb = [v - v * s * torch.minimum(k, 4 - k).clamp(0, 1) for k in around]
    return torch.stack(rgb, dim=1).clamp(-10, 10)


def warp(x: Tensor, matrix: Tensor, shift: Tensor | None = None) -> Tensor:
    """The image whose pixel p shows x at matrix (p - shift): matrix [B,2,2] and shift [B,2] act on (column, row) in
    pixels from the centre. Bilinear, black outside."""
    height, width = x.shape[2:]
    middle = x.new_tensor([(width - 1) / 2, (height - 1) / 2])
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) for n in (height, width))
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=2) - middle
    place = place if shift is None else place - shift[:, None, None]
    grid = (matrix[:, None, None] @ place[..., None])[..., 0] / middle.clamp(min=0.5)
    return F.grid_sample(x, grid.expand(len(x), -1, -1, -1), mode="bilinear", padding_mode="zeros", align_corners=True)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], dim=1), torch.stack([c, d], dim=1)], dim=1)


def rotate(x: Tensor, theta: Tensor) -> Tensor:
    """Counter-clockwise by 360 theta degrees, theta [B,1]."""
    cos, sin = (2 * math.pi * theta[:, 0]).cos(), (2 * math.pi * theta[:, 0]).sin()
    return warp(x, _matrix(cos, -sin, sin, cos))


def translate(x: Tensor, theta: Tensor) -> Tensor:
    """By a tenth of the width times theta [B,2], rightwards and downwards."""
    one, zero = torch.ones_like(theta[:, 0]), torch.zeros_like(theta[:, 0])
    return warp(x, _matrix(one, zero, zero, one), theta * (x.shape[3] / 10))


def shear(x: Tensor, theta: Tensor) -> Tensor:
    """Shows x at (column + theta_0 row, row + theta_1 column), theta [B,2]."""
    one = torch.ones_like(theta[:, 0])
    return warp(x, _matrix(one, theta[:, 0], theta[:, 1], one))


def scale(x: Tensor, theta: Tensor) -> Tensor:
    """Enlarged theta times, theta [B,1]."""
    inverse, zero = 1 / theta[:, 0], torch.zeros_like(theta[:, 0])
    return warp(x, _matrix(inverse, zero, zero, inverse))


def sharpness(x: Tensor, theta: Tensor) -> Tensor:
    """theta x + (1 - theta) smooth(x), theta [B,1]; the outermost pixels are those of x."""
    kernel = x.new_ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    inner = F.conv2d(x, kernel / 13, groups=3)
    return x + (1 - theta[..., None, None]) * F.pad(inner - x[:, :, 1:-1, 1:-1], (1, 1, 1, 1))


def solarize(x: Tensor, theta: Tensor) -> Tensor:
    """theta [B,1] added, then what is .5 or brighter inverted."""
    lifted = (x + theta[..., None, None]).clamp(0, 1)
    return lifted.where(lifted < 0.5, 1 - lifted)


def equalize(x: Tensor) -> Tensor:
    """Equal numbers of pixels at each level of each channel; the identity for the gradient."""
    levels = pillow.equalize((x.detach().clamp(0, 1) * 255).round().to(torch.uint8))
    return x + (levels.to(x.dtype) / 255 - x).detach()


def posterize(x: Tensor, theta: Tensor) -> Tensor:
    """The highest floor(theta) bits of each byte, theta [B,1]; the identity for the gradient in x."""
    step = 2 ** (8 - theta.detach().floor().clamp(0, 8))[..., None, None]
    levels = (x.detach().clamp(0, 1) * 255).round().div(step).floor() * step
    return x + (levels / 255 - x).detach()


def cutout(x: Tensor, theta: Tensor, squares: Tensor) -> Tensor:
    """Squares of the colour theta [B,3]; they may reach beyond the border, where they are cut off."""
    row, column = (torch.arange(n, device=x.device) for n in x.shape[2:])
    size = torch.tensor(x.shape[2:], device=x.device)
    top, left = ((squares * size).long() - SIDE // 2).unbind(dim=1)
    in_rows, in_columns = ((p >= q[:, None]) & (p < q[:, None] + SIDE) for p, q in ((row, top), (column, left)))
    inside = (in_rows[:, :, None] & in_columns[:, None]).any(dim=0)
    return theta[..., None, None].where(inside, x)


OPERATIONS: dict[str, Semantic] = {
    "hsv": Semantic(lambda x, theta, _: hsv(x, theta), 3, -1, 1),
    "rotate": Semantic(lambda x, theta, _: rotate(x, theta), 1, 0.01, 1),
    "translate": Semantic(lambda x, theta, _: translate(x, theta), 2, -1, 1),
    "invert": Semantic(lambda x, theta, _: theta[..., None, None] - x, 1, 0.5, 1),
    "shear": Semantic(lambda x, theta, _: shear(x, theta), 2, -0.3, 0.3, cut=False),
    "contrast": Semantic(lambda x, theta, _: (theta[..., None, None] * x).clamp(0, 1), 1, 0.1, 1.9),
    "sharpness": Semantic(lambda x, theta, _: sharpness(x, theta), 1),
    "solarize": Semantic(lambda x, theta, _: solarize(x, theta), 1, -0.5, 0.5),
    "scale": Semantic(lambda x, theta, _: scale(x, theta), 1, 0.5, 2),
    "equalize": Semantic(lambda x, theta, _: equalize(x), 0, learns=False),
    "posterize": Semantic(lambda x, theta, _: posterize(x, theta), 1, 0, 9, learns=False),
    "cutout": Semantic(cutout, 3),
}
"""All twelve, by name; draws know them by their place."""
NAMES = tuple(OPERATIONS)
SEQUENCES = {
    length: [chosen for chosen in permutations(range(len(NAMES)), length) if NAMES.index("hsv") not in chosen[1:]]
    for length in (1, 2, 3)
}
"""All orders of so many different operations; hsv may stand first only."""
