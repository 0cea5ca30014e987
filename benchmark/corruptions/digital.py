"""Digital corruptions: contrast, elastic transform, pixelate, and saturate (extra). JPEG has a module of its own.

x: float64 [B,3,H,W] in [0,1]. Constants: the factor; (displacement, its blur, shift of the corners) in parts of the
shorter side; the share of pixels left along a side; (factor, addend) of the saturation.
"""

import torch
from torch import Tensor

from benchmark.corruptions.counter_rng import Stream
from benchmark.corruptions.filters import between, blur, box, separable
from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import Constants


def contrast(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * c[0] + mean


def saturate(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """The saturation of HSV times c[0] plus c[1]; hue and value stay. A grey pixel counts as red, as its hue is 0."""
    value = x.amax(1, keepdim=True)
    depth = value - x
    saturation = depth.amax(1, keepdim=True) / value.clamp(min=1e-9)
    wanted = (saturation * c[0] + c[1]).clamp(0, 1)
    red = torch.tensor([0.0, 1.0, 1.0], dtype=x.dtype, device=x.device)[:, None, None]
    return value - torch.where(saturation > 0, depth / saturation.clamp(min=1e-9), value * red) * wanted


def pixelate(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """Pillow's BOX filter down and up again; along the width, then the height, each rounded to bytes as Pillow does."""
    small = [max(int(n * c[0]), 1) for n in x.shape[2:]]
    for sizes in (small, list(x.shape[2:])):
        for axis in (1, 0):
            height, width = x.shape[2:]
            rows, columns = torch.eye(height, dtype=x.dtype), torch.eye(width, dtype=x.dtype)
            pair = (box(height, sizes[0]), columns) if axis == 0 else (rows, box(width, sizes[1]))
            x = (255 * separable(x, *pair) + 0.5 + 2**-20).floor() / 255
    return x


def elastic_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    reach = c[2] * min(height, width)
    draws = {"corners": stream.uniform("corners", -reach, reach, 3, 2)}
    return draws | {"field": stream.uniform("field", -1, 1, 2, height, width)} if c[0] else draws


def elastic_transform(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """An affine map that shifts three points, then a smooth random displacement; bilinear both times."""
    height, width = x.shape[2:]
    row, column = torch.meshgrid(
        *(torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width)), indexing="ij"
    )
    warped = between(x, *_affine(draws["corners"], row, column), "mirror")
    if not c[0]:
        return warped
    side = min(height, width)
    down, right = (c[0] * side * blur(draws["field"], c[1] * side, "symmetric", truncate=3.0)).unbind(1)
    return between(warped, row + down, column + right, "symmetric")


def _affine(shift: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel's value comes from, two [B,H,W], when three points move by `shift` [B,3,2] (across, down)."""
    height, width = row.shape
    middle = torch.tensor([width // 2, height // 2], dtype=row.dtype, device=row.device)
    reach = max(min(height, width) // 3, 1)
    corner = torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=row.dtype, device=row.device)
    old = middle + reach * corner
    new = old + shift
    (ax, ay), (bx, by) = ((new[:, n] - new[:, 2]).unbind(1) for n in (0, 1))
    dx, dy = column - new[:, 2, 0, None, None], row - new[:, 2, 1, None, None]
    area = (ax * by - ay * bx)[:, None, None]
    along = (dx * by[:, None, None] - dy * bx[:, None, None]) / area  # the pixel is new[2] + along * a + beside * b
    beside = (dy * ax[:, None, None] - dx * ay[:, None, None]) / area
    x, y = (old[2, n] + along * (old[0, n] - old[2, n]) + beside * (old[1, n] - old[2, n]) for n in (0, 1))
    return y, x
