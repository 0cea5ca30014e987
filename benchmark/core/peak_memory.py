"""The most memory that this process has used, on a CPU or a GPU."""

import resource
import sys
from pathlib import Path

import torch

from benchmark.core.devices import on_gpu

PROC = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new peak, so that a run does not report that of an earlier one; on a CPU this works on Linux only."""
    if on_gpu(device):
        torch.cuda.init()  # or torch does not know the device yet
        torch.cuda.reset_peak_memory_stats(device)
    elif PROC.exists():
        (PROC / "clear_refs").write_text("5", encoding="ascii")


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory: of the process on a CPU (its resident set), of the allocator on a GPU."""
    if on_gpu(device):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if PROC.exists():
        lines = (PROC / "status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
