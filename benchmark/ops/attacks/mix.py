"""The attack of AugMax (Wang et al., NeurIPS 2021): sign ascent on the mixing parameters of AugMix."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmark.core.devices import on_gpu
from benchmark.core.timing import span
from benchmark.networks.attacked import attack_mode
from benchmark.ops.kernels.augment_mix import mix

EarlyStop = Literal["reference", "per_sample"]


@dataclass(frozen=True)
class AscentDraws:
    """The start of an ascent. m [B]: share of the mixed chains. q [B,W]: logits of the chains' weights. Both U[0,1)."""

    m: Tensor
    q: Tensor


@dataclass(frozen=True)
class Step:
    """One step of an attack. m [B], q [B,W]: before its update. loss: sum-reduced cross-entropy, to the labels or, in a
    targeted attack, to the targets. wrong: bool [B], prediction differs from the label. grad_m, grad_q: of the
    objective that is climbed, before any freezing."""

    m: Tensor
    q: Tensor
    loss: Tensor
    wrong: Tensor
    grad_m: Tensor
    grad_q: Tensor


@dataclass(frozen=True)
class AttackedMix:
    """What an attack found: images x [B,3,H,W] with their m [B] and q [B,W], detached, and the steps on the way."""

    x: Tensor
    m: Tensor
    q: Tensor
    steps: tuple[Step, ...]


@span("attack")
def sample_start(batch: int, width: int, generator: Generator) -> AscentDraws:
    """Draws the start of the ascent, m before q."""
    m = torch.rand(batch, generator=generator, device=generator.device)
    return AscentDraws(m, torch.rand(batch, width, generator=generator, device=generator.device))


@span("attack")
def attack_mixing(
    net: nn.Module,
    clean: Tensor,
    chains: Tensor,
    y: Tensor,
    start: AscentDraws,
    *,
    steps: int = 5,
    step_size: float = 0.1,
    tau: int | None = 1,
    early_stop: EarlyStop = "reference",
    targets: Tensor | None = None,
    noise: AscentDraws | None = None,
) -> AttackedMix:
    """Climbs CE(net(x), y) over x = (1 - m) clean + m sum_i softmax(q)_i chains_i by signed steps.

    clean: [B,3,H,W] in [0,1]; chains: [B,W,3,H,W] in [0,1]; y: int64 [B]. m stays in [0,1], q is unbounded. The net is
    attacked in eval mode, and found again as it was.
    tau: how many times a sample may be seen misclassified before it is out of budget ("friendly" adversarial training);
    None: no budget. early_stop: with "reference" the attack ends once the whole batch is out of budget and never
    before; with "per_sample" each image stays where its own budget ran out.
    targets: int64 [B], classes to move towards; the budget still counts errors against y. noise: [steps,B] and
    [steps,B,W], added to the signs.
    """
    m, q = start.m.to(clean), start.q.to(clean)
    left = torch.full_like(y, 1 if tau is None else tau)
    done: list[Step] = []
    with attack_mode(net), torch.enable_grad():
        for step in range(steps):
            m, q = m.detach().requires_grad_(), q.detach().requires_grad_()
            logits = net(mix(clean, chains, q.softmax(dim=1), m))
            wrong = logits.argmax(dim=1) != y
            if tau is not None:
                left = left - (wrong & (left > 0)).long()
            moving = left > 0
            if early_stop == "reference":
                moving = moving.any().expand_as(moving)
            if not on_gpu(moving) and not moving.any():  # a GPU takes the rest as steps of nothing, and need not wait
                break
            loss = F.cross_entropy(logits, y if targets is None else targets, reduction="sum")
            grad_m, grad_q = torch.autograd.grad(loss if targets is None else -loss, (m, q))
            done.append(Step(m.detach(), q.detach(), loss.detach(), wrong, grad_m, grad_q))
            up_m, up_q = grad_m.sign(), grad_q.sign()
            if noise is not None:
                up_m, up_q = up_m + noise.m[step], up_q + noise.q[step]
            m = torch.where(moving, (m + step_size * up_m).clamp(0, 1), m)
            q = torch.where(moving[:, None], q + step_size * up_q, q)
    m, q = m.detach(), q.detach()
    return AttackedMix(mix(clean, chains, q.softmax(dim=1), m), m, q, tuple(done))
