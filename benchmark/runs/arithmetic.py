"""What selects the arithmetic on a machine, besides the versions of packages.

It changes the last bits of sums, and with them accuracies. No entry from `changes` means the same variables.
"""

import os
from collections.abc import Mapping
from time import perf_counter

import torch

VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "MKL_DYNAMIC", "OMP_DYNAMIC"),
    *("KMP_DETERMINISTIC_REDUCTION", "KMP_FORCE_REDUCTION", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "NUMBA_CPU_NAME"),
    *("NUMBA_CPU_FEATURES", "NUMBA_DISABLE_JIT", "NUMBA_OPT", "NVIDIA_TF32_OVERRIDE", "GLIBC_TUNABLES"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "CUDNN_CONV_WSCAP_DBG"),
)
"""Variables by which a user chooses instructions, an order of sums or a precision."""


def describe() -> dict[str, str]:
    """The widest instructions that torch uses (`cpu`), and each of VARIABLES that is set."""
    chosen = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return {"cpu": torch.backends.cpu.get_cpu_capability()} | chosen


def changes(earlier: Mapping[str, str]) -> list[str]:
    """Which variables are set otherwise than in an earlier description. What a processor has by itself is not among
    them: a record from another machine is no older for it."""
    then, now = ({name: value for name, value in made.items() if name != "cpu"} for made in (earlier, describe()))
    names = sorted(name for name in then | now if then.get(name) != now.get(name))
    return [f"{name} {then.get(name, 'not set')}, now {now.get(name, 'not set')}" for name in names]


def bf16_slowness() -> float:
    """How many times as long as in float32 a matrix product takes in bfloat16 on this processor. Below 1 where it has
    instructions for it (AMX, AVX512-BF16); tens where it has none."""

    def seconds(kind: torch.dtype) -> float:
        factor, times = torch.ones(256, 256, dtype=kind), []
        for _ in range(4):  # the first warms up
            start = perf_counter()
            factor @ factor
            times.append(perf_counter() - start)
        return min(times[1:])

    return seconds(torch.bfloat16) / seconds(torch.float32)
