"""Operations with more than one implementation: a torch reference that defines the result, and faster ones that agree.

One file an operation: formula and bytes moved, `op_torch`, the faster ones, `op`, which chooses, and CASES.
"""

import torch

from benchmark.devices import on_gpu
from benchmark.kernels import augment_mix


def prepare(device: torch.device) -> None:
    """Compiles what a run on this device uses, so that no clock has to wait for it."""
    if not on_gpu(device):
        augment_mix.prepare()
