"""Sends the random draws of a training step to a device: all tensors in one buffer, with one copy."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu

T = TypeVar("T")
ALIGNED = 16
"""Bytes at whose multiples tensors begin."""


def tensors_of(drawn: Any) -> list[Tensor]:
    """The tensors of some draws: a tensor, or a dataclass some of whose fields are tensors."""
    if isinstance(drawn, Tensor):
        return [drawn]
    if not is_dataclass(drawn):
        raise TypeError(f"draws are a tensor or a dataclass of tensors, not {type(drawn).__name__}")
    return [value for field in fields(drawn) if isinstance(value := getattr(drawn, field.name), Tensor)]


def with_tensors(drawn: T, tensors: Sequence[Tensor]) -> T:
    """The same draws with these tensors instead of their own."""
    if isinstance(drawn, Tensor):
        return tensors[0]  # type: ignore[return-value]
    held: Any = drawn
    names = [field.name for field in fields(held) if isinstance(getattr(held, field.name), Tensor)]
    found: T = replace(held, **dict(zip(names, tensors, strict=True)))
    return found


def form(drawn: Any) -> Hashable:
    """All that is left of some draws without the numbers in their tensors; what differs here has other tensors, or
    numbers that a copy to the device does not bring."""
    if isinstance(drawn, Tensor):
        return drawn.dtype, drawn.shape
    named = [(field.name, getattr(drawn, field.name)) for field in fields(drawn)]
    parts = [(name, form(value) if isinstance(value, Tensor) else repr(value)) for name, value in named]
    return type(drawn).__name__, tuple(parts)


@dataclass(frozen=True)
class Packing:
    """How tensors lie in a buffer: its bytes, and where each begins, with its type and shape."""

    size: int
    places: tuple[tuple[int, int, torch.dtype, torch.Size], ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "Packing":
        places, size = [], 0
        for tensor in tensors:
            places.append((size, size + tensor.nbytes, tensor.dtype, tensor.shape))
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
        return cls(size, tuple(places))

    def pack(self, tensors: Sequence[Tensor], device: torch.device) -> Tensor:
        """A buffer with tensors of the CPU in it: uint8 [size], also on the CPU; pinned where `device` is a GPU."""
        buffer = torch.empty(self.size, dtype=torch.uint8)
        bytes_ = buffer.numpy()
        for tensor, (first, last, dtype, shape) in zip(tensors, self.places, strict=True):
            if (tensor.dtype, tensor.shape) != (dtype, shape):
                raise ValueError(f"drawn {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)} as before")
            bytes_[first:last] = tensor.contiguous().view(-1).view(torch.uint8).numpy()  # bfloat16 has no NumPy type
        return buffer.pin_memory() if on_gpu(device) else buffer

    def unpack(self, buffer: Tensor) -> list[Tensor]:
        """The tensors in a buffer, in its own memory and on its device."""
        return [buffer[first:last].view(dtype).view(shape) for first, last, dtype, shape in self.places]


def sent(drawn: T, device: torch.device) -> T:
    """Draws made on the CPU, on the device; the host does not wait for the copy."""
    tensors = tensors_of(drawn)
    packing = Packing.of(tensors)
    return with_tensors(drawn, packing.unpack(packing.pack(tensors, device).to(device, non_blocking=True)))
