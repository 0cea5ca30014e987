"""Comparing devices: no other module does it, because torch does not find "cuda" and "cuda:0" equal.

Every tensor on a GPU names its device with an index. So `whole` adds the index when a device is chosen, and code that
must know where something lies asks here. What is not on a GPU is taken to be on the CPU.
"""

import torch
from torch import Tensor


def whole(name: str | torch.device) -> torch.device:
    """The device with its index: "cuda" is the GPU that this process uses now, the first where it uses none yet."""
    device = torch.device(name)
    if str(device) != "cuda":  # it has its index already, or is no GPU
        return device
    # Asked only once CUDA is up: choosing a device brings it up in no process that computes nothing.
    return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_initialized() else 0)


def on_gpu(of: Tensor | torch.device | str) -> bool:
    """Whether a tensor's device, a device, or the device of that name (Asked.device) is a GPU."""
    return _device(of).type == "cuda"


def together(a: Tensor | torch.device | str, b: Tensor | torch.device | str) -> bool:
    """Whether two tensors or devices, one of each at will, are on the same device."""
    return whole(_device(a)) == whole(_device(b))


def _device(of: Tensor | torch.device | str) -> torch.device:
    return of.device if isinstance(of, Tensor) else torch.device(of)
