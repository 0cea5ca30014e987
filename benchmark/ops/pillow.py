"""Pillow's operations on batches of uint8 images, byte for byte, on a CPU or a GPU.

Every function takes uint8 [N,3,H,W] and returns the same; each image has its own number, [N], on the images' device.

Geometry: the centre (x + 1/2, y + 1/2) of an output pixel is mapped into the input. A centre that falls outside the
image gives black. Otherwise the four pixels around it, the nearest ones at the border, are interpolated, first along x,
then along y, in double precision and in this order of operations. The result is cut to a byte, not rounded. Operations
along y are those along x on transposed images, transposed back.
"""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu

BLOCK = 2**15
"""Pixels that a CPU interpolates at a time, so that what is in use stays in its cache."""


def autocontrast(x: Tensor) -> Tensor:
    """Stretches each channel to 0..255; a channel of one value stays as it is."""
    low, high = (extreme(x.flatten(2), 2, keepdim=True).double() for extreme in (torch.amin, torch.amax))
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would be 255 times a rounded inverse
    table = (_values(x) * scale - low * scale).clamp_(0, 255)
    return _look_up(x, table.where(high > low, _values(x).double()))


def equalize(x: Tensor) -> Tensor:
    """Flattens each channel's histogram; a channel with fewer than 255 pixels below its maximum stays as it is."""
    flat = x.flatten(2)
    pixels = flat.long()
    histogram = pixels.new_zeros(len(x), 3, 256).scatter_add_(2, pixels, pixels.new_ones(1).expand_as(pixels))
    step = (flat.shape[2] - histogram.gather(2, flat.amax(2, keepdim=True).long())) // 255
    below = histogram.cumsum(2) - histogram
    table = ((below + step // 2).double() / step).clamp_(max=255)
    return _look_up(x, table.where(step > 0, _values(x).double()))


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keeps the highest bits of each byte; bits: int64 in 0..8."""
    return _look_up(x, _values(x) & -(2 ** (8 - bits))[:, None, None])


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Inverts all values from the threshold up."""
    values = _values(x)
    return _look_up(x, values.where(values < threshold[:, None, None], 255 - values))


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with black; for this and the other blends factor is >= 0, and 1 gives the image itself."""
    return _look_up(x, _blend(0, _values(x), factor[:, None, None]))


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with the mean grey value, rounded half up."""
    grey = _grey(x).flatten(1)
    mean = (2 * grey.sum(1) + grey.shape[1]) // (2 * grey.shape[1])
    return _look_up(x, _blend(mean[:, None, None], _values(x), factor[:, None, None]))


def color(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with the grey image."""
    return _blend(_grey(x), x, factor[:, None, None, None])


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, rounded half up; its border is not smoothed."""
    smooth = x.float()
    rows = smooth[..., :-2, :] + smooth[..., 1:-1, :] + smooth[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * smooth[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = ((total + 6.5) / 13).floor()  # 1/26 or more from a whole number: exact in any precision
    return _blend(smooth, x, factor[:, None, None, None])


def _values(x: Tensor) -> Tensor:
    """All values of a byte, int64 [256]."""
    return torch.arange(256, device=x.device)


def _look_up(x: Tensor, table: Tensor) -> Tensor:
    """Replaces each byte by its entry in a table [N,1,256] or [N,3,256] with entries in [0,256), cut to bytes."""
    return table.to(torch.uint8).expand(len(x), 3, 256).gather(2, x.flatten(2).long()).view(x.shape)


def _grey(x: Tensor) -> Tensor:
    """Luminance, int32 [N,1,H,W]."""
    red, green, blue = x.int().split(1, dim=1)
    grey: Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey


def _blend(degenerate: Tensor | int, image: Tensor, factor: Tensor) -> Tensor:
    """degenerate + factor (image - degenerate) in single precision, cut to bytes."""
    blended: Tensor = (image.float() - degenerate) * factor.float() + degenerate
    return blended.clamp_(0, 255).to(torch.uint8)


def translate(x: Tensor, pixels: Tensor) -> Tensor:
    """Moves to the left by whole pixels, int64: output (x, y) is input (x + pixels, y), with nothing to interpolate."""
    n, _, height, width = x.shape
    source = torch.arange(width, device=x.device) + pixels[:, None]
    inside = (source >= 0) & (source < width)
    index = source.clamp_(0, width - 1)[:, None, None].expand(n, 3, height, width)
    return x.gather(3, index).mul_(inside[:, None, None])


def _in_blocks(resample: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    @wraps(resample)
    def in_blocks(x: Tensor, values: Tensor) -> Tensor:
        images = max(1, BLOCK // (x.shape[2] * x.shape[3])) if not on_gpu(x) else len(x)
        return torch.cat([resample(*block) for block in zip(x.split(images), values.split(images), strict=True)])

    return in_blocks


@_in_blocks
def shear(x: Tensor, slope: Tensor) -> Tensor:
    """Output (x, y) is input (x + slope * y, y), slope float64: the top left corner stays."""
    column, row = _centres(x)
    across = column + slope[:, None, None] * row
    return _interpolate(x, (across >= 0) & (across < x.shape[3]), across, None)


@_in_blocks
def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turns counter-clockwise about the centre of the image; degrees: int64 in -180..180."""
    height, width = x.shape[2:]
    cos, sin = TURNS.to(x.device, non_blocking=True)[degrees + 180, :, None, None].unbind(1)
    column, row = _centres(x)
    across = (cos * column + sin * row).add_(cos * (-width / 2) + sin * (-height / 2) + width / 2)
    down = (cos * row - sin * column).add_(cos * (-height / 2) - sin * (-width / 2) + height / 2)
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    return _interpolate(x, inside, across, down)


def _turn(degrees: int) -> tuple[float, float]:
    """cos and sin as Pillow takes them: of an angle brought into [0, 360) and negated, rounded to 15 decimals."""
    angle = -math.radians(degrees % 360)
    return round(math.cos(angle), 15), round(math.sin(angle), 15)


TURNS = torch.tensor([_turn(degrees) for degrees in range(-180, 181)], dtype=torch.float64)


def _centres(x: Tensor) -> tuple[Tensor, Tensor]:
    """x of the pixels' centres, [W], and their y, [H,1], float64."""
    column, row = (torch.arange(size, device=x.device, dtype=torch.float64) + 0.5 for size in (x.shape[3], x.shape[2]))
    return column, row[:, None]


def _interpolate(x: Tensor, inside: Tensor, across: Tensor, down: Tensor | None) -> Tensor:
    """Reads x at positions [N,H,W], which are overwritten; `down` None stands for the rows as they are."""
    n, _, height, width = x.shape
    stride = width + 2
    # The image with its border repeated, below two black rows: at index 0 the four neighbours are black.
    padded = x.new_zeros(n, 3, height + 4, stride)
    padded[..., 3:-1, 1:-1] = x
    padded[..., 2, 1:-1], padded[..., -1, 1:-1] = x[..., 0, :], x[..., -1, :]
    padded[..., 2:, 0], padded[..., 2:, -1] = padded[..., 2:, 1], padded[..., 2:, -2]

    left = across.sub_(0.5).floor()
    top = torch.arange(height, device=x.device)[:, None] if down is None else down.sub_(0.5).floor()
    index = ((top + 3) * stride + left).add_(1).long().mul_(inside).view(n, 1, -1).expand(-1, 3, -1)

    def read(offset: int) -> Tensor:
        return padded.flatten(2)[..., offset:].gather(2, index).view(x.shape).double()

    upper = _between(read(0), read(1), across.sub_(left))
    if down is None:
        return upper.to(torch.uint8)
    lower = _between(read(stride), read(stride + 1), across)
    return _between(upper, lower, down.sub_(top)).to(torch.uint8)


def _between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a + (b - a) t, rounded after each operation; b is overwritten."""
    return b.sub_(a).mul_(t[:, None]).add_(a)
