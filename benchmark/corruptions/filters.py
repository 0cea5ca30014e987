"""Linear maps that several corruptions share: borders, Gaussian and box filters, motion blur, sampling between pixels.

Everything is float64: sums in another order then differ by 1e-13 of a grey level, so machines and devices agree on
bytes.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Border = Literal["nearest", "symmetric", "mirror"]
"""How an image goes on beyond its edge. nearest: aa|abc|cc. symmetric: ba|abc|cb. mirror: cb|abc|ba."""


def reflected(index: Tensor, n: int, border: Border) -> Tensor:
    """The pixel in 0..n - 1 that stands at a place outside, for any distance. index: int64."""
    if border == "nearest":
        return index.clamp(0, n - 1)
    period = 2 * n if border == "symmetric" else max(2 * n - 2, 1)
    place = index.remainder(period)
    return torch.minimum(place, (period - 1 if border == "symmetric" else period) - place)


@lru_cache(maxsize=64)
def gaussian(n: int, sigma: float, border: Border, truncate: float = 4.0) -> Tensor:
    """A Gaussian filter along an axis of n pixels as a matrix [n,n], cut at `truncate` standard deviations as SciPy
    does."""
    radius = int(truncate * sigma + 0.5)
    taps = torch.arange(-radius, radius + 1)
    weight = torch.exp(-0.5 * (taps.double() / sigma) ** 2) if radius else torch.ones(1, dtype=torch.float64)
    source = reflected(torch.arange(n)[:, None] + taps, n, border)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, (weight / weight.sum()).expand(n, -1))


@lru_cache(maxsize=64)
def box(n: int, size: int) -> Tensor:
    """Pillow's BOX filter from n to `size` pixels as a matrix [size,n]."""
    scale = n / size
    place, centre = torch.arange(n).double(), (torch.arange(size).double()[:, None] + 0.5) * scale
    reach = 0.5 * max(scale, 1.0)
    first, last = (centre - reach + 0.5).floor().clamp(min=0), (centre + reach + 0.5).floor().clamp(max=n)
    offset = (place + 0.5 - centre) / max(scale, 1.0)
    weight = ((place >= first) & (place < last) & (offset > -0.5) & (offset <= 0.5)).double()
    out: Tensor = weight / weight.sum(dim=1, keepdim=True)
    return out


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """One linear map along the height and one along the width. x: [...,H,W]; rows: [H',H]; columns: [W',W]."""
    out: Tensor = rows.to(x.device) @ x @ columns.to(x.device).T
    return out


def blur(x: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """Gaussian blur of [...,H,W]; sigma in pixels."""
    height, width = x.shape[-2:]
    return separable(x, gaussian(height, sigma, border, truncate), gaussian(width, sigma, border, truncate))


def pick(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Pixels by their places. x: [B,C,H,W]; row, column: int64 [B,h,w] within the image, or [B,h,1] and [B,1,w].
    Returns [B,C,h,w]."""
    place: Tensor = row * x.shape[3] + column
    found = x.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    out: Tensor = found.unflatten(2, tuple(place.shape[1:]))
    return out


def between(x: Tensor, row: Tensor, column: Tensor, border: Border) -> Tensor:
    """Bilinear interpolation. x: [B,C,H,W]; row, column: places in pixels, float64 [B,h,w]. Returns [B,C,h,w]."""
    top, left = row.floor(), column.floor()
    down, right = (row - top)[:, None], (column - left)[:, None]
    rows = [reflected(top.long() + step, x.shape[2], border) for step in (0, 1)]
    columns = [reflected(left.long() + step, x.shape[3], border) for step in (0, 1)]
    upper, lower = (torch.lerp(pick(x, r, columns[0]), pick(x, r, columns[1]), right) for r in rows)
    return torch.lerp(upper, lower, down)


def motion(x: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """ImageMagick's motion blur: a one-sided Gaussian of 2 * radius + 1 taps along a ray, nearest pixels, edges held.

    x: [B,C,H,W] in [0,1]; angle: degrees, [B]. Returns the same, rounded to bytes as the PNG file in between is.
    """
    tap = torch.arange(2 * radius + 1, device=x.device, dtype=torch.float64)
    weight = torch.exp(-(tap**2) / (2 * sigma**2))
    weight = weight / weight.sum()
    turn = torch.deg2rad(angle)[:, None]
    across, down = ((tap * part - 0.5).ceil().long() for part in (turn.cos(), turn.sin()))  # [B,taps]
    row, column = (torch.arange(n, device=x.device) for n in x.shape[2:])
    out = torch.zeros_like(x)
    for n in range(len(tap)):
        rows = reflected(row[:, None] + down[:, n, None, None], x.shape[2], "nearest")
        columns = reflected(column + across[:, n, None, None], x.shape[3], "nearest")
        out += weight[n] * pick(x, rows, columns)
    return (255 * out).round() / 255


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of the image, enlarged by linear interpolation between its corner pixels. x: [B,C,H,W], same shape."""
    sides, large = [], []
    for n in x.shape[2:]:
        kept = -(-n // factor)
        sides.append(slice((n - int(kept)) // 2, (n - int(kept)) // 2 + int(kept)))
        large.append(max(round(kept * factor), n))
    out = torch.nn.functional.interpolate(
        x[:, :, sides[0], sides[1]], tuple(large), mode="bilinear", align_corners=True
    )
    top, left = ((big - n) // 2 for big, n in zip(large, x.shape[2:], strict=True))
    return out[:, :, top : top + x.shape[2], left : left + x.shape[3]]
