"""Operations with several implementations: a torch reference that defines the result, and faster ones that agree.

Each operation has one file: formula and bytes moved, `op_torch`, the faster ones, `op`, which chooses, and CASES.
For spectrum_step's two operations `forms` chooses.
"""

import torch

from benchmark.core.devices import on_gpu
from benchmark.ops.kernels import augment_mix


def prepare(device: torch.device) -> None:
    """On a CPU, compiles what a run uses, so that no clock has to wait for it."""
    if not on_gpu(device):
        augment_mix.prepare()
