"""The Triton form of random_convolution: a program makes a tile of pixels of one image, all three channels at once."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.ops.kernels.dispatch import tile


def launch(x, size, weight, alpha, identity, bias, clamp, out):
    """Writes `out`, in the memory format of x; clamp: off, true or clamp."""
    batch, _, height, width = x.shape
    last, block = not out.is_contiguous(), tile(height * width, 256)
    if out.numel():
        convolve[(batch, triton.cdiv(height * width, block))](
            x, size, weight, alpha, identity, bias, out, height, width,
            1 if last else height * width, 3 if last else 1,
            ONE=len(weight) == 1, FRAME=weight.shape[-1], BIAS=bias is not None, CLAMP=clamp, BLOCK=block,
            enable_fp_fusion=True,
        )  # fmt: skip


@triton.jit
def convolve(
    x, size, weight, alpha, identity, bias, out, height, width, per_channel, per_pixel,
    ONE: tl.constexpr, FRAME: tl.constexpr, BIAS: tl.constexpr, CLAMP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0)
    group = 0 if ONE else image
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, column, there = i // width, i % width, i < height * width
    x += image.to(tl.int64) * 3 * height * width
    red, green, blue = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        red += tl.load(bias + group * 3) / 2
        green += tl.load(bias + group * 3 + 1) / 2
        blue += tl.load(bias + group * 3 + 2) / 2
    taps = FRAME * FRAME
    middle = weight + group * 9 * taps + taps // 2
    half = tl.load(size + group).to(tl.int32) // 2
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            y, across = row + dy, column + dx
            inside = there & (y >= 0) & (y < height) & (across >= 0) & (across < width)
            at = x + (y * width + across) * per_pixel
            tap = middle + dy * FRAME + dx
            for channel in tl.static_range(3):
                value = tl.load(at + channel * per_channel, mask=inside, other=0.5) - 0.5
                red += tl.load(tap + channel * taps) * value
                green += tl.load(tap + (3 + channel) * taps) * value
                blue += tl.load(tap + (6 + channel) * taps) * value
    at, to = x + i * per_pixel, out + image.to(tl.int64) * 3 * height * width + i * per_pixel
    share, untouched = tl.load(alpha + group), tl.load(identity + group) != 0
    mixed(at, to, red, share, untouched, there, CLAMP)
    mixed(at + per_channel, to + per_channel, green, share, untouched, there, CLAMP)
    mixed(at + 2 * per_channel, to + 2 * per_channel, blue, share, untouched, there, CLAMP)


@triton.jit
def mixed(at, to, convolved, alpha, untouched, there, CLAMP: tl.constexpr):
    x = tl.load(at, mask=there, other=0)
    deviation = x - 0.5
    if CLAMP == "clamp":
        convolved = tl.minimum(tl.maximum(convolved, -0.5), 0.5)
    change = convolved - deviation
    found = tl.where(alpha < 0.5, deviation + alpha * change, convolved - change * (1 - alpha))
    if CLAMP != "off":
        found = tl.minimum(tl.maximum(found, -0.5), 0.5)
    tl.store(to, tl.where(untouched, x, found + 0.5), mask=there)
