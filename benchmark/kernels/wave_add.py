"""Images under many Fourier waves at once, as the sensitivity map needs them: x_i + s_ki b_k, cut to [0,1] or not.

The result has K n images of 12 bytes a pixel, and is written once; the n images and the K waves stay in the cache.
"""

import torch
from torch import Tensor

from benchmark.kernels.dispatch import on_triton, suggested, triton_form


def wave_add(x: Tensor, waves: Tensor, signs: Tensor, clamp: bool = False) -> Tensor:
    """x [n,3,N,N], waves [K,N,N], signs [K,n,3]: [K n,3,N,N], wave after wave."""
    kind = wave_add_triton if on_triton(x) and x.dtype == torch.float32 else wave_add_torch
    return kind(x, waves, signs, clamp)


def wave_add_torch(x: Tensor, waves: Tensor, signs: Tensor, clamp: bool = False) -> Tensor:
    """The definition."""
    seen = (x + signs[..., None, None] * waves[:, None, None]).flatten(0, 1)
    return seen.clamp(0, 1) if clamp else seen


def wave_add_triton(x: Tensor, waves: Tensor, signs: Tensor, clamp: bool = False) -> Tensor:
    """One launch, with the bits of the definition, in x's memory format; no gradient flows through it."""
    layout = suggested(x)
    out = torch.empty((len(waves) * len(x), *x.shape[1:]), device=x.device, memory_format=layout)
    triton_form("wave_add_triton").launch(
        x.contiguous(memory_format=layout), waves.contiguous(), signs.contiguous(), out, clamp
    )
    return out


CASES = [(2, 3, 8, 3), (1, 1, 7, 2), (3, 2, 1, 1), (2, 0, 8, 1)]
"""Numbers of images, of waves, side and largest amplitude that the tests use."""
