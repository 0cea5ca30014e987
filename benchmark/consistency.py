"""n-way Jensen-Shannon consistency, the loss term that AugMix, AugMax, RandConv and SADA share (AugMix, section 3)."""

import torch
from torch import Tensor


def jensen_shannon(*logits: Tensor) -> Tensor:
    """Mean over i of KL(p_i || M), summed over classes and averaged over the batch.

    logits: n tensors [B,K]. p_i are their softmaxes and M is the mean of the p_i, clamped to [1e-7, 1] before the
    logarithm. Returns a scalar >= 0. Gradients flow through every p_i and through M: no view is a fixed target.
    """
    log_p = torch.stack([z.log_softmax(dim=1) for z in logits])
    p = log_p.exp()
    log_m = p.mean(dim=0).clamp(1e-7, 1).log()
    return (p * (log_p - log_m)).sum(dim=2).mean()
