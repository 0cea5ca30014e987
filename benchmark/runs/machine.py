"""What a run ran on: versions, processor, and the commit."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmark.core import peak_memory
from benchmark.core.devices import on_gpu, whole
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked
from benchmark.runs import arithmetic, gpus, load
from benchmark.runs.programs import output

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "triton",
    "numba",
    "numpy",
    "scipy",
    "pandas",
    "pillow",
    "scikit-learn",
    "matplotlib",
)
NUMERICAL = {"torch", "torchvision", "timm", "triton", "numba", "numpy", "scipy", "pillow", "scikit-learn"}
"""Those whose version can change a result; a build for another device (torch's `+cu128`) is no other version."""


SMALL = {"mini_convnet": 256, "digits_convnet": 64, "digits_convnet_01": 64, "digits_convnet_tf": 64}
"""Networks that one thread is enough for, in batches of at most so many images: threads wait for each other after
every operation, and where something else wants a core, all of them wait for the one that lost it."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(recipe: Recipe) -> int:
    """Threads that a run takes in this process: one for a small network, all that torch has for another."""
    return 1 if recipe.batch_size <= SMALL.get(recipe.network, 0) else torch.get_num_threads()


@contextmanager
def threads(recipe: Recipe) -> Iterator[None]:
    """Within, torch has as many threads as a run of this recipe takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_of(recipe))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(asked: Asked) -> torch.device:
    """What a run computes on, here: the processor where no GPU is. A run that was lost may have had one elsewhere."""
    return whole(asked.device if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name(device) if on_gpu(device) else _processor()


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, processor, threads, load and, on a GPU, driver and CUDA: plain JSON values."""
    described: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": dist.get_world_size() if dist.is_initialized() else 1,
        "load": round(load.average(), 2),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "arithmetic": arithmetic.describe(),
        "packages": _versions(),
    }
    if on_gpu(device):
        described["gpu"] = gpus.describe(device)
    return described


def find_peak_memory() -> None:
    """Where the kernel keeps no peak that a process can reset (gVisor, a read-only /proc), the peak is that of the
    whole process. peak_memory.py itself would end the run there; edited for this, all records would be of other code.
    """
    try:
        (peak_memory.PROC / "clear_refs").open("w").close()
        there = "VmHWM" in (peak_memory.PROC / "status").read_text(encoding="ascii")
    except OSError:
        there = False
    if not there:
        peak_memory.PROC = Path(os.devnull) / "proc"  # which is never there


def comparable(machine: dict[str, Any], name: str) -> str:
    """What two timings must share to stand in one column, and two runs to reach the same bits: device, versions of
    torch and CUDA, threads, and arithmetic."""
    gpu = machine.get("gpu") or {}
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    parts = [name, f"torch {machine['packages']['torch']}", threads]
    parts += [name for name in ("deterministic", "launch") if machine.get(name)]
    parts += [f"{machine['processes']} processes"] if machine.get("processes", 1) > 1 else []
    parts += [value if name == "cpu" else f"{name}={value}" for name, value in machine.get("arithmetic", {}).items()]
    return ", ".join(parts + ([f"CUDA {gpu['cuda']}", f"driver {gpus.first_line(gpu['driver'])}"] if gpu else []))


def other_versions(machine: dict[str, Any]) -> str:
    """How what can change a number, packages and variables, differs from that of a record; empty where it does not."""
    pairs = [(name, str(machine.get("packages", {}).get(name, "")), now) for name, now in _versions().items()]
    plain = [(name, then.partition("+")[0], now.partition("+")[0]) for name, then, now in pairs if name in NUMERICAL]
    told = [
        f"{name} {then}, now {now}"
        for name, then, now in plain
        if then and then != now and (name != "triton" or machine.get("gpu"))  # which a processor has no use for
    ]
    told += arithmetic.changes(machine["arithmetic"]) if "arithmetic" in machine else []
    return ", ".join(told)


def numerical() -> str:
    """The versions and variables that can change a number, for a checkpoint, which goes on only with the same;
    on another processor, too."""
    versions = [f"{name} {now.partition('+')[0]}" for name, now in _versions().items() if name in NUMERICAL]
    variables = [f"{name}={value}" for name, value in arithmetic.describe().items() if name != "cpu"]
    return ", ".join(versions + variables)


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this package runs from and whether it has uncommitted changes; None outside one, and
    where git does not say."""
    if not (PACKAGE.parent / ".git").exists():
        return None, None
    commit = output("git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD")
    changed = output("git", "-C", str(PACKAGE.parent), "status", "--porcelain", "--untracked-files=no")
    return commit or None, bool(changed) if commit and changed is not None else None


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions | {"torch": torch.__version__}


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
