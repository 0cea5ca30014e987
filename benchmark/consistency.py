"""n-way Jensen-Shannon consistency, the loss term that AugMix, AugMax, RandConv and SADA share (AugMix, section 3)."""

import torch
from torch import Tensor

from benchmark.kernels import jensen_shannon as kernel


def jensen_shannon(*logits: Tensor) -> Tensor:
    """Mean over i of KL(p_i || M), summed over classes and averaged over the batch.

    logits: n tensors [B,K]. p_i are their softmaxes and M is the mean of the p_i, clamped to [1e-7, 1] before the
    logarithm. Returns a scalar >= 0. Gradients flow through every p_i and through M: no view is a fixed target.
    """
    return kernel.jensen_shannon(torch.stack(logits))
