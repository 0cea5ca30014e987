"""The GPUs of this machine: which one a run takes, and what there is to say of it."""

import logging
from typing import Any, Literal

import torch

from benchmark.core.devices import on_gpu, whole
from benchmark.core.errors import UsageError
from benchmark.ops.attacks import pixel
from benchmark.runs.programs import output

LOGGER = logging.getLogger("benchmark")
CHUNK_PIXELS = pixel.GPU_CHUNK_PIXELS


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """auto is CUDA where there is a device that torch was built for. Raises UsageError where CUDA is asked for and no
    such device is there."""
    if name == "cpu":
        return whole("cpu")
    there = torch.cuda.is_available()
    why = _too_old() if there else "torch sees no CUDA device here"
    if not why:
        return whole("cuda")
    if name == "cuda":
        raise UsageError(f"--device cuda: {why}; use --device cpu")
    if there:
        LOGGER.warning("%s: the CPU is taken", why)
    return whole("cpu")


def _too_old() -> str:
    """Why torch has no code for the GPU here, one of a model older than all that it was built for; empty if it has."""
    models = [int(digits) for name in torch.cuda.get_arch_list() if (digits := name.rpartition("_")[2]).isdecimal()]
    major, minor = torch.cuda.get_device_capability()
    if not models or 10 * major + minor >= min(models):
        return ""
    oldest = f"{min(models) // 10}.{min(models) % 10}"
    return (
        f"this torch needs a GPU of compute capability {oldest} or newer, and {torch.cuda.get_device_name()} has "
        f"{major}.{minor}"
    )


def shareable(device: torch.device) -> bool:
    """Whether a GPU has room for two runs, and takes more than one process at a time."""
    roomy = torch.cuda.get_device_properties(device).total_memory >= 15 * 2**30  # cards sold as of 16 GB
    return roomy and "Exclusive" not in said("compute_mode")


def fit_attacks(device: torch.device) -> None:
    """Attacks of pixels in chunks that leave room on a GPU of less than 64 GiB: there 4,096 images of CIFAR take 22.
    Edited in pixel.py, all records would be of other code."""
    if on_gpu(device):
        share = torch.cuda.get_device_properties(device).total_memory / (64 * 2**30)
        pixel.GPU_CHUNK_PIXELS = int(CHUNK_PIXELS * min(1.0, share))


def describe(device: torch.device) -> dict[str, Any]:
    """A GPU, its driver and CUDA: plain JSON values."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory // 2**20,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": first_line(said("driver_version")),
        # The older name of it cannot be read where a method has set the newer one.
        "tf32": torch.backends.cuda.matmul.fp32_precision == "tf32",
    }


def said(what: str) -> str:
    """A line for each GPU of this machine; empty where nvidia-smi does not answer."""
    return output("nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader") or ""


def memory(what: Literal["used", "free"]) -> list[int]:
    """MiB of each GPU of this machine; empty where nvidia-smi does not answer."""
    amounts = said(f"memory.{what}").replace(" MiB", "").split()
    return [int(amount) for amount in amounts if amount.isdecimal()]


def first_line(lines: str) -> str:
    """The first line: all GPUs of a machine have one driver."""
    return lines.partition("\n")[0]
