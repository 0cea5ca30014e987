"""What a run ran on: versions, processor, GPU, and the commit."""

import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from benchmark.core import peak_memory
from benchmark.core.devices import on_gpu, whole
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked
from benchmark.ops.attacks import pixel
from benchmark.runs import arithmetic, load

LOGGER = logging.getLogger("benchmark")
CHUNK_PIXELS = pixel.GPU_CHUNK_PIXELS
PACKAGE = Path(__file__).resolve().parents[1]
SECONDS = 10.0
"""How long git and nvidia-smi may take to answer."""
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
    return roomy and "Exclusive" not in said_by_gpus("compute_mode")


def fit_attacks(device: torch.device) -> None:
    """Attacks of pixels in chunks that leave room on a GPU of less than 64 GiB: there 4,096 images of CIFAR take 22.
    Edited in pixel.py, all records would be of other code."""
    if on_gpu(device):
        share = torch.cuda.get_device_properties(device).total_memory / (64 * 2**30)
        pixel.GPU_CHUNK_PIXELS = int(CHUNK_PIXELS * min(1.0, share))


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
        properties = torch.cuda.get_device_properties(device)
        described["gpu"] = {
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_mib": properties.total_memory // 2**20,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _first(said_by_gpus("driver_version")),
            # The older name of it cannot be read where a method has set the newer one.
            "tf32": torch.backends.cuda.matmul.fp32_precision == "tf32",
        }
    return described


def said_by_gpus(what: str) -> str:
    """A line for each GPU of this machine; empty where nvidia-smi does not answer."""
    return _output("nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader") or ""


def memory_of_gpus(what: Literal["used", "free"]) -> list[int]:
    """MiB of each GPU of this machine; empty where nvidia-smi does not answer."""
    said = said_by_gpus(f"memory.{what}").replace(" MiB", "").split()
    return [int(amount) for amount in said if amount.isdecimal()]


def _first(lines: str) -> str:
    """The first line: all GPUs of a machine have one driver."""
    return lines.partition("\n")[0]


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
    return ", ".join(parts + ([f"CUDA {gpu['cuda']}", f"driver {_first(gpu['driver'])}"] if gpu else []))


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
    commit = _output("git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(PACKAGE.parent), "status", "--porcelain", "--untracked-files=no")
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


def _output(*command: str) -> str | None:
    """Standard output of a command, or None where it is absent, fails or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
