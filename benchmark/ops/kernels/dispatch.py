"""Which form of an operation runs: Triton's for CUDA tensors if Triton can be imported, else torch's or Numba's."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu


def on_triton(x: Tensor) -> bool:
    return torch.version.cuda is not None and _importable() and on_gpu(x)


@cache
def _importable() -> bool:
    return find_spec("triton") is not None


def triton_form(name: str) -> ModuleType:
    """The module of this package with an operation's Triton form; imported when it is used, because it needs Triton."""
    return import_module(f"benchmark.ops.kernels.{name}")


def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 1 for a CPU, where Triton's kernels run in its interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if on_gpu(device) else 1


def power(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << max(0, size - 1).bit_length()


def tile(size: int, limit: int) -> int:
    """The power of two, 16 at least and `limit` at most, that covers `size` where it can."""
    return max(16, min(limit, power(size)))


def suggested(x: Tensor) -> torch.memory_format:
    """The memory format in which a kernel takes x, [B,C,H,W], and writes its result: channels-last where x has it."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
