"""Weather: snow, frost, fog, brightness.

x: float64 [B,3,H,W] in [0,1]. Constants: (mean, standard deviation, zoom, threshold, radius, sigma, share of the image)
of the flakes; (weight of the image, of the frost); (strength, how fast detail fades); what is added to the value.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.corruptions.counter_rng import Stream
from benchmark.corruptions.filters import motion, zoomed
from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import Constants

LUMA = 0.299, 0.587, 0.114
PHOTOGRAPHS = (
    ((78, 149, 165), (17, 9, 8), (22, 13, 13)),
    ((198, 202, 212), (8, 9, 9), (18, 18, 19)),
    ((198, 202, 212), (8, 9, 10), (18, 18, 19)),
    ((143, 158, 171), (10, 10, 11), (26, 26, 27)),
    ((103, 114, 126), (17, 16, 15), (35, 34, 34)),
)
"""Of the five photographs that the released generator uses, at its scale for 32x32: mean of each channel, standard
deviation of that mean between crops, and standard deviation within a crop, in grey levels. Our textures have the same.
"""


def snow_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {"normal": stream.normal("flakes", 1, height, width), "angle": stream.uniform("angle", -135, -45)}


def snow(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """Flakes drawn out by the wind, the same turned by 180 degrees, and the image bleached."""
    mean, spread, zoom, threshold, radius, sigma, share = c
    layer = zoomed(mean + spread * draws["normal"], zoom)
    layer = (255 * layer.where(layer >= threshold, 0.0).clamp(0, 1)).floor() / 255
    layer = motion(layer, int(radius), sigma, draws["angle"])
    grey = (torch.tensor(LUMA, dtype=x.dtype, device=x.device)[:, None, None] * x).sum(1, keepdim=True)
    bleached = share * x + (1 - share) * torch.maximum(x, 1.5 * grey + 0.5)
    return bleached + layer + layer.flip((2, 3))


def frost_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    """A texture of ridges: normal numbers on ever finer lattices, one for each octave down to one or two pixels."""
    draws = {"kind": stream.integers("kind", 0, len(PHOTOGRAPHS)), "light": stream.normal("light")}
    octaves = range(2, max(height, width, 8).bit_length())
    return draws | {f"octave{n}": stream.normal(f"octave{n}", 1, 2**n, 2**n) for n in octaves}


def frost(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """The image under a drawn texture; the released generator uses crops of photographs, which we cannot ship."""
    mean, between, within = torch.tensor(PHOTOGRAPHS, dtype=torch.float64, device=x.device)[draws["kind"]].unbind(1)
    field = torch.zeros_like(x[:, :1])
    for name in sorted(draws.keys() - {"kind", "light"}):
        rough = F.interpolate(draws[name], tuple(x.shape[2:]), mode="bilinear", align_corners=True)
        field += 1 - 1.6 * rough.abs()  # a ridge wherever the field passes through zero
    field = field - field.mean((2, 3), keepdim=True)
    field = field / field.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    tint = mean + between * draws["light"][:, None]
    texture = (tint[:, :, None, None] + within[:, :, None, None] * field).clamp(0, 255).round() / 255
    return c[0] * x + c[1] * texture


def fog_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    side = 1 << (max(height, width) - 1).bit_length()
    return {"uniform": stream.uniform("wibble", -1, 1, side, side)}


def fog(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    strength, decay = c
    top = x.amax((1, 2, 3), keepdim=True)
    cloud = plasma(draws["uniform"], decay)[:, None, : x.shape[2], : x.shape[3]]
    return (x + strength * cloud) * top / (top + strength)


def plasma(uniform: Tensor, decay: float) -> Tensor:
    """A cloud in [0,1] by the diamond-square algorithm on a torus. uniform: in (-1,1), [B,side,side], a power of two.

    As released, a point is the mean of its four neighbours plus a number of amplitude wibble^2, and wibble falls from
    100 by `decay` from scale to scale.
    """
    cloud, step, wibble = torch.zeros_like(uniform), uniform.shape[1], 100.0
    while step >= 2:
        half, noise = step // 2, wibble**2 * uniform
        corner = cloud[:, ::step, ::step]
        pairs = corner + corner.roll(-1, 1)
        centre = (pairs + pairs.roll(-1, 2)) / 4 + noise[:, half::step, half::step]
        cloud[:, half::step, half::step] = centre
        above = (centre + centre.roll(1, 1) + corner + corner.roll(-1, 2)) / 4
        cloud[:, ::step, half::step] = above + noise[:, ::step, half::step]
        beside = (centre + centre.roll(1, 2) + corner + corner.roll(-1, 1)) / 4
        cloud[:, half::step, ::step] = beside + noise[:, half::step, ::step]
        step, wibble = half, wibble / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    return cloud / cloud.amax((1, 2), keepdim=True).clamp(min=1e-300)


def brightness(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """The value of HSV raised by c[0]; hue and saturation stay, so each channel keeps its ratio to the value."""
    value = x.amax(1, keepdim=True)
    raised = (value + c[0]).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1e-9)), raised)
