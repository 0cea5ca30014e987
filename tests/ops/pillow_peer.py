"""AugMix by Pillow, as the released code has it, and images to try it on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from benchmark.ops.augmix import (
    OPS,
    MixDraws,
    apply_op,
)
from tests.conftest import Golden

Array = np.ndarray[Any, Any]


def by_pillow(image: Image.Image, name: str, level: float, sign: int) -> Image.Image:
    """One operation as the released code calls Pillow, with the level and the sign it has drawn."""
    width, height = image.size
    factor = level * 1.8 / 10 + 0.1

    def affine(*coefficients: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR)

    functions: dict[str, Callable[[], Image.Image]] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
        "rotate": lambda: image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        "shear_x": lambda: affine(1, sign * (level * 0.3 / 10), 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, sign * (level * 0.3 / 10), 1, 0),
        "translate_x": lambda: affine(1, 0, sign * int(level * (width / 3) / 10), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, sign * int(level * (height / 3) / 10)),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }
    return functions[name]()


def to_pillow(x: Tensor) -> Image.Image:
    return Image.fromarray(x.permute(1, 2, 0).contiguous().numpy())


def from_pillow(image: Image.Image) -> Tensor:
    x: Tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return x


def pillow_view(x: Tensor, draws: MixDraws, row: int) -> Tensor:
    """The augment-and-mix view of one image, uint8 [3,H,W], with Pillow and in the released code's order."""
    mixture = torch.zeros(x.shape)
    for chain in range(draws.op.shape[1]):
        image = to_pillow(x)
        for step in range(int(draws.depth[row, chain])):
            slot = row, chain, step
            image = by_pillow(image, OPS[draws.op[slot]], float(draws.level[slot]), int(draws.sign[slot]))
        mixture += draws.w[row, chain] * (from_pillow(image).float() / 255)
    view: Tensor = (1 - draws.m[row]) * (x.float() / 255) + draws.m[row] * mixture
    return view


def apply_one(x: Tensor, name: str, level: float, sign: int) -> Tensor:
    """The same operation, level and sign for all images."""
    n = (len(x),)
    levels = torch.full(n, level, dtype=torch.float64)
    return apply_op(x, torch.full(n, OPS.index(name)), levels, torch.full(n, sign))


def make_image(kind: str, height: int, width: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    makers: dict[str, Callable[[], Array]] = {
        "colour": lambda: noise,
        "grey": lambda: np.repeat(noise[..., :1], 3, axis=2),
        "constant": lambda: np.broadcast_to(noise[:1, :1], noise.shape),
        "black": lambda: np.zeros_like(noise),
        "white": lambda: np.full_like(noise, 255),
        "checkerboard": lambda: np.broadcast_to((np.indices((height, width)).sum(0) % 2 * 255)[..., None], noise.shape),
        "hot pixel": lambda: np.where(np.arange(noise.size).reshape(noise.shape) // 3 == noise.size // 6, noise, 0),
        "two values": lambda: np.where(noise > 127, noise[0, 0], noise[-1, -1]),
        "smooth": lambda: np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + noise[0, 0] // 2,
        "dark": lambda: noise // 32,
        "digit": lambda: np.where(noise > 190, noise, 0),
    }
    return torch.from_numpy(makers[kind]().astype(np.uint8)).permute(2, 0, 1).contiguous()


KINDS = (
    "colour", "grey", "constant", "black", "white", "checkerboard",
    "hot pixel", "two values", "smooth", "dark", "digit",
)  # fmt: skip
LEVELS = st.one_of(
    st.floats(0.1, 10, exclude_max=True),
    st.integers(1, 99).map(lambda tenths: tenths / 10),  # where a magnitude is about to become the next whole number
    st.integers(103, 10_239).map(lambda n: n / 1024),
    st.sampled_from([np.nextafter(10.0, 0.0), 0.1, 2.5, 5.0, 7.5]).map(float),
)
SIZES = st.one_of(
    st.sampled_from([(32, 32), (1, 1), (7, 5), (2, 3), (3, 3), (48, 20), (31, 31)]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)


def channels_first(images: Array) -> Tensor:
    return torch.from_numpy(images).movedim(-1, -3).contiguous()


def golden_draws(arrays: Golden, tag: str) -> MixDraws:
    """The recorded draws; where none was made (NaN, 0), any value does."""
    part = {name: torch.from_numpy(arrays[f"{tag}/{name}"]) for name in ("ws", "m", "depths", "op", "level", "sign")}
    level, sign = part["level"].double().nan_to_num(1.0), part["sign"].long()
    return MixDraws(part["ws"], part["m"], part["depths"].long(), part["op"].long(), level, sign.where(sign != 0, 1))
