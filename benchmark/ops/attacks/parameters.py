"""Gradient ascent on the parameters of standard augmentations (AdvST, Zheng et al., AAAI 2024).

    theta <- RMSprop ascent on  CE(f(x; theta), y) - lam mean (z(f(x; theta)) - z(x))^2 + eta H(f(x; theta))

f is a sequence of one to three operations of semantic.py, one for the batch; theta is each image's own. Means run over
the batch; H is the entropy of the predictions.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmark.core.images import Images
from benchmark.core.rng import Rng
from benchmark.core.settings import frozen
from benchmark.core.stream import chunks
from benchmark.core.timing import span
from benchmark.networks.attacked import attack_mode
from benchmark.ops.semantic import NAMES, OPERATIONS, SEQUENCES, SQUARES


@frozen()
class SemanticAttack:
    """Settings of the ascent, which a method takes over as its own fields. Defaults are released for digits."""

    lam: NonNegativeFloat = 100.0
    """Weight of the squared feature distance, a mean over batch and features; 10 on PACS."""
    eta: NonNegativeFloat = 0.0
    """Weight of the entropy in the ascent; 10 on PACS, which is called AdvST-ME."""
    adv_lr: PositiveFloat = 0.2
    """Rate of RMSprop on theta; 5 on PACS."""
    rms_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of RMSprop's mean of squares; torch's default, with which the first step is ten times the rate."""
    adv_steps: PositiveInt = 20
    """Most steps of the ascent; 50 on PACS."""
    tolerance: NonNegativeFloat = 0.1
    """A batch is done once its objective changes by no more than this from one step to the next."""
    batch: PositiveInt = 256
    """Images of one batch of the ascent: they share the operations, the squares of cutout and the last step."""


@dataclass(frozen=True)
class SemanticDraws:
    """All that is random for one batch. sequence: int64 [3], places in semantic.NAMES, -1 beyond its length. start:
    [B,17] in [0,1), where in its range each number of theta begins, operation after operation. squares: [8,2] in
    [0,1), the centres of cutout."""

    sequence: Tensor
    start: Tensor
    squares: Tensor


def sample_semantic(batch: int, generator: Generator) -> SemanticDraws:
    """Draws: a length of 1, 2 or 3 with equal chance, then any sequence of that length; uniform numbers."""
    device = generator.device
    length = int(torch.randint(1, 4, (), generator=generator, device=device))
    which = int(torch.randint(len(SEQUENCES[length]), (), generator=generator, device=device))
    chosen = [*SEQUENCES[length][which], -1, -1][:3]
    numbers = sum(op.count for op in OPERATIONS.values())
    return SemanticDraws(
        torch.tensor(chosen, device=device),
        torch.rand(batch, numbers, generator=generator, device=device),
        torch.rand(SQUARES, 2, generator=generator, device=device),
    )


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions, in nats: logits [B,K]."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


@span("attack")
@torch.enable_grad()
def attack_semantic(net: nn.Module, x: Tensor, y: Tensor, draws: SemanticDraws, by: SemanticAttack) -> Tensor:
    """f(x; theta) at the last theta, detached: x [B,3,H,W] in [0,1], y [B].

    The network is in eval mode meanwhile, and its parameters gather no gradient. The host waits for the objective
    after every step, to see whether it still changes.
    """
    starts = draws.start.to(x).split([op.count for op in OPERATIONS.values()], dim=1)
    sequence = [(OPERATIONS[NAMES[i]], starts[i]) for i in draws.sequence.tolist() if i >= 0]
    theta = [(op.low + u * (op.high - op.low)).requires_grad_(op.learns) for op, u in sequence]
    learned = [numbers for numbers in theta if numbers.requires_grad]

    def augmented() -> Tensor:
        out = x
        for (op, _), numbers in zip(sequence, theta, strict=True):
            out = op(out, numbers, draws.squares)
        return out

    if learned:
        optimizer, before = torch.optim.RMSprop(learned, lr=by.adv_lr, alpha=by.rms_decay, maximize=True), None
        with attack_mode(net):
            with torch.no_grad():
                anchor = net(x, features=True)[1]
            for _ in range(by.adv_steps):
                logits, features = net(augmented(), features=True)
                objective = F.cross_entropy(logits, y) - by.lam * F.mse_loss(features, anchor)
                objective = objective + by.eta * entropy(logits)
                now = float(objective.detach())
                if before is not None and abs(now - before) <= by.tolerance:
                    break
                before = now
                for numbers, gradient in zip(learned, torch.autograd.grad(objective, learned), strict=True):
                    numbers.grad = gradient
                optimizer.step()
    return augmented().detach()


def attack_images(net: nn.Module, images: Images, rng: Rng, by: SemanticAttack) -> Tensor:
    """All images attacked, in batches of `by.batch` with draws of their own: float32 [N,3,H,W], where `images` lie."""
    done = [
        attack_semantic(net, part.unit(), part.y, rng.draw(f"semantic/{i}", sample_semantic, len(part)), by)
        for i, part in enumerate(chunks(images, by.batch, rng.on))
    ]
    return torch.cat(done).to(images.x.device)
