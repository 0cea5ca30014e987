"""Augment-and-mix: whole AugMix views (Hendrycks et al., ICLR 2020, algorithm 1), given everything that is random.

    chain_i(x) = op_D( ... op_1(bytes of x))        views(x) = (1 - m) x + m sum_i w_i chain_i(x) / 255

Every image has its own operations and magnitudes. Bytes stay bytes along a chain, as in Pillow. An image is read once
and its view written once: 2 x 12 bytes a pixel for float32; the chains in between stay in the processor's cache. A GPU
holds a small image in registers from the first operation to the mixing. For a large image it keeps the results between
two operations in memory: 4 bytes a pixel of each chain to write, and as many to read.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu
from benchmark.ops import pillow
from benchmark.ops.kernels.dispatch import on_triton, suggested, triton_form
from benchmark.ops.operations import OPS

FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": lambda x, _: pillow.autocontrast(x),
    "equalize": lambda x, _: pillow.equalize(x),
    "posterize": lambda x, value: pillow.posterize(x, 4 - value.long()),
    "rotate": lambda x, value: pillow.rotate(x, value.long()),
    "solarize": lambda x, value: pillow.solarize(x, 256 - value),
    "shear_x": pillow.shear,
    "shear_y": lambda x, value: pillow.shear(x.mT, value).mT,
    "translate_x": lambda x, value: pillow.translate(x, value.long()),
    "translate_y": lambda x, value: pillow.translate(x.mT, value.long()).mT,
    "color": lambda x, value: pillow.color(x, value + 0.1),
    "contrast": lambda x, value: pillow.contrast(x, value + 0.1),
    "brightness": lambda x, value: pillow.brightness(x, value + 0.1),
    "sharpness": lambda x, value: pillow.sharpness(x, value + 0.1),
}
"""One for each of OPS. It takes uint8 [N,3,H,W] and magnitudes [N]."""


def chains(x: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """Every image's chains, unmixed: uint8 [B,3,H,W] to uint8 [B,W,3,H,W].

    op: int64 [B,W,D], indices into OPS, -1 for none; magnitude: float64 [B,W,D], augmix.magnitudes.
    """
    if on_triton(x) and _countable(x):
        return chains_triton(x, op, magnitude)
    return chains_cpu(x, op, magnitude) if _compiled(x) else chains_torch(x, op, magnitude)


def views(x: Tensor, op: Tensor, magnitude: Tensor, w: Tensor, m: Tensor) -> Tensor:
    """Views of x, float [B,3,H,W] in [0,1]: w [V*B,W] weights of the chains, m [V*B] share of their mixture, and so on;
    V views of each image, float [V*B,3,H,W], view after view."""
    whole = x.dtype == w.dtype == m.dtype == torch.float32
    if whole and on_triton(x) and _countable(x) and not x.requires_grad:
        return views_triton(x, op, magnitude, w, m)
    x = x.repeat(len(m) // max(1, len(x)), 1, 1, 1)
    return (views_cpu if whole and _compiled(x) else views_torch)(x, op, magnitude, w, m)


def chains_torch(x: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """The definition. Images are grouped by operation and none is handled alone. The groups are formed on the host:
    draws made there cost no synchronisation with a GPU, draws made on a GPU cost one for each step of the chains."""
    width, deepest = op.shape[1:]
    found = x.repeat_interleave(width, dim=0)
    for step in range(deepest):
        found = _grouped(found, op[:, :, step].flatten().cpu(), magnitude[:, :, step].flatten())
    return found.view(len(x), width, *x.shape[1:])


def _grouped(x: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    order = op.argsort()
    here, back = (index.to(x.device, non_blocking=True) for index in (order, order.argsort()))
    x, magnitude = x.index_select(0, here), magnitude[order].to(x.device, non_blocking=True)
    unchanged, *counts = (op + 1).bincount(minlength=len(OPS) + 1).tolist()
    groups = zip(OPS, x[unchanged:].split(counts), magnitude[unchanged:].split(counts), strict=True)
    for name, images, values in groups:
        if len(images):
            images.copy_(FUNCTIONS[name](images, values))
    return x.index_select(0, back)


def views_torch(x: Tensor, op: Tensor, magnitude: Tensor, w: Tensor, m: Tensor) -> Tensor:
    """The definition."""
    return mix(x, chains(to_uint8(x), op, magnitude).to(x.dtype).div_(255), w.to(x), m.to(x))


def to_uint8(x: Tensor) -> Tensor:
    """[0,1] to 0..255, cut and not rounded, as torchvision's ToPILImage does; a byte divided by 255 comes back."""
    return x.detach().clamp(0, 1).mul_(255).to(torch.uint8)


def mix(x: Tensor, chains: Tensor, w: Tensor, m: Tensor) -> Tensor:
    """(1 - m) x + m sum_i w_i chains_i, differentiable in all: x [B,3,H,W], chains [B,W,3,H,W], w [B,W], m [B]."""
    w, m = w[:, :, None, None, None], m[:, None, None, None]
    mixture: Tensor = w[:, 0] * chains[:, 0]
    for i in range(1, chains.shape[1]):  # one after another, in the released code's order of rounding
        mixture = mixture.add_(w[:, i] * chains[:, i])
    clean: Tensor = (1 - m) * x
    return clean.add_(m * mixture)


def chains_cpu(x: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """Compiled, with the bytes of the definition."""
    out = x.new_empty(len(x), op.shape[1], *x.shape[1:])
    _in_threads("chains", [x, op, magnitude], [out])
    return out


def views_cpu(x: Tensor, op: Tensor, magnitude: Tensor, w: Tensor, m: Tensor) -> Tensor:
    """Compiled, with the bits of the definition; no gradient flows through it."""
    x = x.detach().contiguous()
    out = torch.empty_like(x)
    _in_threads("views", [x, op, magnitude, w, m], [out])
    return out


def _in_threads(name: str, given: list[Tensor], out: list[Tensor]) -> None:
    """Runs a compiled function on slices of the batch, one for each of torch's threads."""
    arrays = [tensor.contiguous().numpy() for tensor in given] + [tensor.numpy() for tensor in out]
    function: Any = getattr(_pillow_cpu(), name)
    threads, batch = min(torch.get_num_threads(), len(given[0])), len(given[0])
    bounds = [batch * i // max(1, threads) for i in range(threads + 1)]

    def part(first: int, last: int) -> None:
        function(*(array[first:last] for array in arrays), _TURNS)

    if threads == 1:
        part(0, batch)
    elif threads:
        list(_pool(threads, os.getpid()).map(part, bounds, bounds[1:]))


_TURNS = pillow.TURNS.numpy()


def chains_triton(x: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """With the bytes of the definition; no synchronisation where the draws are on the device."""
    out = x.new_empty(len(op), op.shape[1], *x.shape[1:])
    triton_form("augment_triton").launch(x.contiguous(), op, magnitude, None, None, out)
    return out


def views_triton(x: Tensor, op: Tensor, magnitude: Tensor, w: Tensor, m: Tensor) -> Tensor:
    """With the bits of the definition, in x's memory format; each image is read where it lies."""
    layout = suggested(x)
    out = torch.empty((len(m), *x.shape[1:]), device=x.device, memory_format=layout)
    triton_form("augment_triton").launch(x.detach().contiguous(memory_format=layout), op, magnitude, w, m, out)
    return out


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Each process has its own: after a fork, the threads of the parent's are not there."""
    return ThreadPoolExecutor(threads)


@cache
def _pillow_cpu() -> ModuleType | None:
    try:
        from benchmark.ops.kernels import pillow_cpu  # noqa: PLC0415 - slow to import, and few commands need it
    except ImportError:  # a Python that Numba does not know yet
        return None
    return pillow_cpu


def _countable(x: Tensor) -> bool:
    """Whether Triton's form can count the pixels of an image: the counts of three channels share 63 bits."""
    return x.shape[2] * x.shape[3] < 2**21


def _compiled(x: Tensor) -> bool:
    return not on_gpu(x) and not x.requires_grad and _pillow_cpu() is not None


def prepare() -> None:
    """Compiles; some 20 seconds the first time, then from a cache beside the source."""
    op = torch.zeros(1, 1, 1, dtype=torch.int64)
    x = torch.zeros(1, 3, 2, 2)
    views(x, op, op.double(), torch.ones(1, 1), torch.ones(1))
    chains(to_uint8(x), op, op.double())


CASES = [(2, 3, 32, 32), (1, 3, 224, 224), (5, 3, 17, 23), (0, 3, 8, 8), (3, 3, 1, 1)]
"""Shapes of x that the tests use, each with chains over all operations at the highest level."""
