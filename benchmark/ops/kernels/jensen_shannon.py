"""n-way Jensen-Shannon consistency, the loss term that AugMix, AugMax, RandConv and SADA share (AugMix, section 3).

    p_i = softmax(z_i)    M = clamp(mean_i p_i, 1e-7, 1)    JS = mean_i sum_k p_ik (log p_ik - log M_k), batch mean

    d JS / d z_ij = p_ij (t_ij - sum_k p_ik t_ik) / (n B),    t_ik = log p_ik - log M_k, and 1 more where M_k is clamped

On a GPU the logits are read once and their gradient is written once with the value, in one pass: 2 n B K elements.
"""

from typing import Any

import torch
from torch import Tensor

from benchmark.ops.kernels.dispatch import on_triton, triton_form


def jensen_shannon(*logits: Tensor) -> Tensor:
    """Mean over i of KL(p_i || M), summed over classes and averaged over the batch.

    logits: n tensors [B,K]. p_i are their softmaxes and M is the mean of the p_i, clamped to [1e-7, 1] before the
    logarithm. Returns a scalar >= 0. Gradients flow through every p_i and through M: no view is a fixed target.
    """
    return divergence(torch.stack(logits))


def divergence(z: Tensor) -> Tensor:
    """The same of logits in one tensor, z [n,B,K]."""
    return divergence_triton(z) if on_triton(z) and z.dtype == torch.float32 else divergence_torch(z)


def divergence_torch(z: Tensor) -> Tensor:
    """The definition."""
    log_p = z.log_softmax(dim=2)
    p = log_p.exp()
    log_m = p.mean(dim=0).clamp(1e-7, 1).log()
    return (p * (log_p - log_m)).sum(dim=2).mean()


def divergence_triton(z: Tensor) -> Tensor:
    """One launch forward, a product backward; not differentiable twice."""
    found: Tensor = _JensenShannon.apply(z)
    return found


class _JensenShannon(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        value: Tensor
        value, gradient = triton_form("jensen_shannon_triton").launch(z.detach().contiguous())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        gradient: Tensor = ctx.saved_tensors[0]
        return gradient * grads[0]


CASES = [(3, 5, 10), (4, 3, 7), (2, 1, 1), (1, 2, 3), (3, 33, 4)]
"""Shapes [n,B,K] that the tests use."""
