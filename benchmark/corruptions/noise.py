"""Noise: Gaussian, Poisson (shot), salt and pepper (impulse), and speckle (extra).

x: float64 [B,3,H,W] in [0,1]; every pixel and channel has its own noise. Constants: the standard deviation; the photons
at white; the share of hit values; the standard deviation relative to the value.
"""

from torch import Tensor

from benchmark.corruptions.counter_rng import Stream, poisson
from benchmark.corruptions.severities import Constants

Draws = dict[str, Tensor]


def normal_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {"normal": stream.normal("noise", 3, height, width)}


def gaussian_noise(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    return x + c[0] * draws["normal"]


def speckle_noise(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    return x + x * c[0] * draws["normal"]


def shot_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {"words": stream.words("noise", 3, height, width)}


def shot_noise(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    level = (255 * x).round().long()
    return poisson(draws["words"], level, c[0]).double() / c[0]


def impulse_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    hit = stream.uniform("hit", 0, 1, 3, height, width) <= c[0]
    return {"hit": hit, "salt": stream.integers("salt", 0, 2, 3, height, width)}


def impulse_noise(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    return draws["salt"].double().where(draws["hit"], x)
