"""The precision of a run's arithmetic: fp32, tf32 or bf16. All three store everything in float32.

fp32: float32 throughout. On a GPU this includes convolutions, which torch itself would round to TF32.
tf32: a GPU's matrix products and convolutions round their inputs to ten bits of mantissa. This is a switch of the
libraries, so it holds for the whole run: attacks, evaluation, and a random convolution that goes to cuDNN. It does not
reach Fourier transforms and the suite's own kernels.
bf16: inside the network, bfloat16 for what torch.autocast covers (convolutions and matrix products), in every pass that
may have a gradient: the loss's, the attacks', and those that compute an attack's reference. Logits and features leave
the network as float32. So parameters, their gradients and the optimiser, divergences, augmentations, images under
attack and Fourier transforms are float32. Accuracies and the sensitivity map are taken in float32
(torch.inference_mode).
"""

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Precision

TF32_SINCE = (8, 0)
"""The compute capability with which GPUs have TF32."""


def check(precision: Precision, device: torch.device) -> None:
    """Raises UsageError where the device does not have it."""
    if precision != "tf32":
        return
    if not on_gpu(device):
        raise UsageError("--precision tf32: only GPUs have it, and this run is on a CPU; use fp32 or bf16")
    found = torch.cuda.get_device_capability(device)
    if found < TF32_SINCE:
        raise UsageError(
            f"--precision tf32: GPUs have it from compute capability 8.0 on, and this one has {found[0]}.{found[1]}; "
            "use fp32"
        )


def use(precision: Precision, device: torch.device) -> None:
    """Sets the libraries' switches for a run; a CPU has none."""
    if on_gpu(device):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def factor(precision: Precision, device: torch.device, side: int) -> Tensor:
    """A square matrix whose product with itself is computed in this precision, after `use`."""
    return torch.rand(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
