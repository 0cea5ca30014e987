"""Spatter (extra): drops of water, or mud at the two highest severities.

x: float64 [B,3,H,W] in [0,1]. Constants: (mean, standard deviation, blur, threshold, strength or mud's blur, mud?).
Water catches light next to its edges. The released code finds that light by OpenCV's Canny edges, an approximate
distance transform and histogram equalisation. The steps here are the same; the distance is exact.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.corruptions.counter_rng import Stream
from benchmark.corruptions.filters import blur, reflected
from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import Constants

WATER, MUD = (175, 238, 238), (63, 42, 20)
WEAK, STRONG = 50, 150
"""Canny's thresholds on the sum of the absolute derivatives."""
SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
LIGHT = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
FAR = 20


def spatter_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {"normal": stream.normal("liquid", 1, height, width)}


def spatter(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    mean, spread, sigma, threshold, strength, mud = c
    liquid = blur(mean + spread * draws["normal"], sigma)
    liquid = liquid.where(liquid >= threshold, 0.0)
    colour = torch.tensor(MUD if mud else WATER, dtype=x.dtype, device=x.device)[:, None, None] / 255
    if mud:
        cover = blur((liquid > threshold).to(x.dtype), strength)
        cover = cover.where(cover >= 0.8, 0.0)
        return x * (1 - cover) + colour * cover
    liquid = (255 * liquid.clamp(0, 1)).floor()
    shine = liquid * smooth(filtered(equalised(smooth(distance(edges(liquid))).floor()), LIGHT).clamp(0, 255))
    return x + colour * strength * shine / shine.amax((1, 2, 3), keepdim=True).clamp(min=1e-9)


def filtered(x: Tensor, weights: tuple[tuple[float, ...], ...]) -> Tensor:
    """A 3x3 filter with OpenCV's mirrored border. x: [B,1,H,W]."""
    rows, columns = (reflected(torch.arange(-1, n + 1, device=x.device), n, "mirror") for n in x.shape[2:])
    return F.conv2d(x[:, :, rows][..., columns], torch.tensor([[weights]], dtype=x.dtype, device=x.device))


def smooth(x: Tensor) -> Tensor:
    return filtered(x, ((1 / 9,) * 3,) * 3)


def edges(x: Tensor) -> Tensor:
    """Canny's edges, bool [B,1,H,W]: ridges of the gradient above WEAK that touch, over others, one above STRONG."""
    right, down = filtered(x, SOBEL), filtered(x, tuple(zip(*SOBEL, strict=True)))
    size = right.abs() + down.abs()
    wide = F.pad(size, (1, 1, 1, 1))

    def at(dy: int, dx: int) -> Tensor:
        return wide[:, :, 1 + dy : 1 + dy + size.shape[2], 1 + dx : 1 + dx + size.shape[3]]

    flat, steep = down.abs() < 0.41421356 * right.abs(), down.abs() > 2.41421356 * right.abs()
    falling = right * down >= 0
    ridge = torch.where(flat, (size > at(0, -1)) & (size >= at(0, 1)), (size > at(-1, -1)) & (size > at(1, 1)))
    ridge = torch.where(~flat & ~falling & ~steep, (size > at(-1, 1)) & (size > at(1, -1)), ridge)
    ridge = torch.where(steep, (size > at(-1, 0)) & (size >= at(1, 0)), ridge)
    possible, found = ridge & (size > WEAK), ridge & (size > STRONG)
    while not torch.equal(grown := possible & (F.max_pool2d(found.double(), 3, 1, 1) > 0), found):
        found = grown
    return found


def distance(edge: Tensor) -> Tensor:
    """Euclidean distance to the nearest edge in pixels, at most FAR. edge: bool [B,1,H,W]."""
    squared = torch.where(edge, 0.0, float(FAR**2)).double()
    for axis in (2, 3):
        n = squared.shape[axis]
        place = torch.arange(n, device=edge.device)
        away = ((place[:, None] - place) ** 2).double()
        lines = squared.transpose(axis, 3)
        squared = torch.stack([(lines + away[k]).amin(3) for k in range(n)], dim=3).transpose(axis, 3)
    return squared.sqrt().clamp(max=FAR)


def equalised(x: Tensor) -> Tensor:
    """Histogram equalisation as OpenCV's: the lowest level present becomes 0, the highest 255; a flat image stays."""
    level = x.flatten(1).long()
    count = torch.zeros(len(x), 256, dtype=torch.int64, device=x.device)
    below = count.scatter_add_(1, level, torch.ones_like(level)).cumsum(1).double()
    first, total = below.gather(1, level.amin(1, keepdim=True)), level.shape[1]
    table = ((below - first) * 255 / (total - first).clamp(min=1)).round()
    return torch.where(first < total, table.gather(1, level), level.double()).reshape(x.shape)
