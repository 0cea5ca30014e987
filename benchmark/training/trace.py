"""The operations of a training step with every number that the host gives them, and how two steps differ in them."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.core.devices import on_gpu

LARGE = 2**20
"""Elements of a tensor that are too many to be noted one by one."""


class Trace(TorchDispatchMode):
    """Notes each operation of a step, with shapes, and every number that comes from the host.

    device: the run's. If it is a GPU, the values of tensors on the CPU are such numbers.
    """

    def __init__(self, device: torch.device):
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Hashable] = []
        self.gpu, self._paused = on_gpu(device), False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing inside is noted."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._paused and operation.namespace != "profiler":
            self.seen.append((str(operation), self._noted(args), self._noted(kwargs or {})))
        return operation(*args, **(kwargs or {}))

    def _noted(self, value: Any) -> Hashable:
        """An argument of an operation, as far as the host decides it."""
        if isinstance(value, Tensor):
            about = (tuple(value.shape), str(value.dtype), str(value.device))
            return (*about, _numbers(value)) if self.gpu and not on_gpu(value) else about
        if isinstance(value, dict):
            return tuple((name, self._noted(inner)) for name, inner in value.items())
        if isinstance(value, list | tuple):
            return tuple(self._noted(inner) for inner in value)
        plain = (int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
        return repr(value) if value is None or isinstance(value, plain) else type(value).__name__


def _numbers(value: Tensor) -> str:
    """What a tensor of the host holds; of a large one, which lay there before the step, if it is still the same."""
    if value.numel() > LARGE or value.is_sparse:
        return f"{value.data_ptr()}, {value._version}"
    return str(value.tolist())


def difference(before: list[Hashable], now: list[Hashable]) -> str:
    """The first operation of two traces that differs, in words; empty where none does."""
    for a, b in zip(before, now, strict=False):
        if a != b:
            return f"from one step to the next {_short(a)} becomes {_short(b)}"
    if len(before) != len(now):
        return f"its step has {len(before)} operations, then {len(now)}"
    return ""


def _short(entry: Any) -> str:
    text = f"{entry[0]}{entry[1]}"
    return text if len(text) <= 120 else f"{text[:117]}..."
