"""A GPU that is not there: tensors that say that they lie on cuda:0, and are computed on the CPU with the same numbers.

torch's own fake tensors go forward without a GPU, but autograd does not go back through them, and they hold no numbers
to evaluate. What is checked here as on a real GPU: an operation may not mix tensors of both devices, only the host's
memory is pinned, no generator draws on the other device, and NumPy sees nothing of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
HOST_GENERATOR = torch.Generator
TENSOR: Any = Tensor
MAY_MIX = {"__get__", "__set__", "to", "copy_", "type_as", "__getitem__", "__setitem__", "is_set_to"}
"""Operations, by name, that take tensors of both devices: copies, indexing, and reading or setting an attribute."""


class OnGpu(Tensor):
    """A tensor on the pretended GPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        do: Any = super().__torch_function__
        if func == TENSOR.device.__get__:
            return CUDA
        if func == TENSOR.is_cuda.__get__:
            return True
        if func == TENSOR.grad.__get__:
            grad = do(func, types, args, kwargs)
            return None if grad is None else grad.as_subclass(OnGpu)
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch._has_compatible_shallow_copy_type:
            return False  # a module moves its parameters by replacing them: in place, they would stay plain tensors
        name = getattr(func, "__name__", "")
        if name == "cpu" or (name == "to" and _target(args[1:], kwargs) == "cpu"):
            return _plain(do(func, types, args, kwargs)).clone()
        if name not in MAY_MIX:
            _check(name, args, kwargs)
        args, kwargs = tree_map_only((torch.device, str) if name == "to" else torch.device, _host, (args, kwargs))
        return do(func, types, args, kwargs)

    def __deepcopy__(self, memo: Any) -> "OnGpu":
        if id(self) not in memo:
            copy = self.detach().clone().requires_grad_(self.requires_grad)
            if hasattr(self, "_is_param"):
                copy._is_param = True
            memo[id(self)] = copy
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(self).__reduce_ex__(protocol)


class OnGpuGenerator(HOST_GENERATOR):
    """A generator of the pretended GPU; for the CPU a plain one, because it replaces torch.Generator."""

    device = CUDA

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls) if torch.device(device).type == "cuda" else HOST_GENERATOR(device)


class PretendGpu(TorchFunctionMode):
    """Within, "cuda" is a device. pinned: the devices of all tensors that were pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: list[torch.device] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "to" and _target(args[1:], kwargs) == "cuda" and not isinstance(args[0], OnGpu):
            rest, named = tree_map_only((torch.device, Tensor, str), _host, (args[1:], kwargs))
            return func(args[0], *rest, **named).clone().as_subclass(OnGpu)
        if name == "to" or kwargs.get("device") is None:
            _check_generator(args[0].device if args and isinstance(args[0], Tensor) else "cpu", kwargs)
            return func(*args, **kwargs)
        _check_generator(kwargs["device"], kwargs)
        made = func(*args, **(kwargs | {"device": _host(kwargs["device"])}))
        return made.as_subclass(OnGpu) if torch.device(kwargs["device"]).type == "cuda" else _plain(made)


def _target(args: Any, kwargs: Any) -> str:
    """The kind of device that Tensor.to is to move to; empty where it is to stay."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return "cuda" if isinstance(value, OnGpu) else "cpu"
        if isinstance(value, torch.device | str):
            return torch.device(value).type
    return ""


def _host(value: Any) -> Any:
    """Where the pretended GPU computes."""
    if isinstance(value, Tensor):
        return _plain(value)
    return torch.device("cpu") if torch.device(value).type == "cuda" else value


def _plain(value: Any) -> Any:
    if not isinstance(value, OnGpu):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)


def _check(name: str, args: Any, kwargs: Any) -> None:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    places = {isinstance(tensor, OnGpu) for tensor in tensors if tensor.ndim}  # a number may lie anywhere
    if len(places) == 2:
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu!")


def _check_generator(device: Any, kwargs: Any) -> None:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != torch.device(device).type:
        raise RuntimeError(f"Expected a generator on '{device}' but found one on '{generator.device}'")


@contextmanager
def pretended(patch: pytest.MonkeyPatch) -> Iterator[PretendGpu]:
    """Within, this machine has one GPU, without Triton."""
    patch.setattr(torch.version, "cuda", None)
    patch.setattr(torch, "Generator", OnGpuGenerator)
    patch.setattr(torch.cuda, "Event", _Event)
    patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    patch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: 0)
    patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=None: None)
    gpu = PretendGpu()

    def pin_memory(self: Tensor) -> Tensor:
        gpu.pinned.append(self.device)
        if isinstance(self, OnGpu):
            raise RuntimeError("cannot pin a tensor of cuda:0, only dense CPU tensors can be pinned")
        return self.clone()

    patch.setattr(Tensor, "pin_memory", pin_memory)  # in threads too, where a mode is not known
    with gpu:
        yield gpu


class _Event:
    """The host's clock in place of an event on the GPU."""

    def __init__(self, enable_timing: bool = False):
        self.at = 0.0

    def record(self) -> None:
        self.at = perf_counter()

    def elapsed_time(self, end: "_Event") -> float:
        return 1000 * (end.at - self.at)
