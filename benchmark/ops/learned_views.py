"""Views that a small image-to-image network g learns in every step: what ALT (Gokhale et al., WACV 2023) and ABA (Cheng
et al., ICCV 2023) share. Images are on the scale z = 2x - 1 inside of g.

    every step draws g anew; then `adv_steps` times, with the network f frozen in eval mode:
        g <- Adam step, descending on -CE(f(g(x)), y) + penalty of the method
    p_m = clamp((p_c + w p_r + (2 - w) p_g) / 3, 1e-4, 1)         c: clean, g: learned, r: random
    cons = (KL(p_c || p_m) + w KL(p_r || p_m) + (2 - w) KL(p_g || p_m)) / 3
    loss = (1 - lam) CE(f(x), y) + lam cons

Adam's moments outlive g's weights (adam_state.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from benchmark.core.recipe import Recipe, Terms
from benchmark.core.rng import Rng
from benchmark.core.settings import frozen
from benchmark.core.work import Work
from benchmark.networks.attacked import attack_mode
from benchmark.ops.adam_state import Kept, adam_step, commit, leave

PHOTOS = {"round_steps": 100, "pre_rounds": 4, "adv_lr": 5e-5}
TERMS = [
    # A round is as long a part of 150 steps as 250 steps are of 10,000.
    Terms(protocol="common", dataset="minidigits", method_settings={"round_steps": 4}),
    Terms(protocol="common", dataset="pacs", method_settings=PHOTOS),
    Terms(protocol="common", dataset="folder", method_settings=PHOTOS),
    Terms(
        protocol="strict",
        dataset="pacs",
        method_settings=PHOTOS,
        recipe=Recipe(
            network="timm:resnet18", weights="timm:resnet18.tv_in1k", optimizer="sgd", lr=0.004, momentum=0.9,
            schedule="cosine", batch_size=32, steps=2000, loader="crop_flip", sensitivity_images=100,
        ),
    ),
]  # fmt: skip


@frozen()
class LearnedViews:
    """Settings that ALT and ABA share, as released for digits."""

    lam: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of the consistency term in the loss; cross-entropy has the rest. 0 is ERM."""
    w: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Weight of the random view; the learned one has 2 - w. 0 leaves the random view out."""
    adv_steps: PositiveInt = 10
    """Adam steps of g in every training step."""
    adv_lr: PositiveFloat = 5e-6
    """Their rate; 5e-5 for PACS."""
    round_steps: PositiveInt = 250
    """Training steps of a round; 100 for PACS."""
    pre_rounds: NonNegativeInt = 5
    """Rounds of cross-entropy alone at the start; 4 for PACS."""
    stays_eval: bool = True
    """Released: the network is put into eval mode for the first attack of a round and stays there until the round ends,
    so BatchNorm sees one clean batch a round. False: it is in eval mode while it is attacked, and in no other pass."""
    adam: Literal["kept", "reset"] = "kept"
    """Released: Adam's moments and its count of steps outlive the weights that they belong to. reset: they begin at
    zero in every training step."""
    clamp: Literal["positive", "full", "off"] = "positive"
    """Released: what g gives on the scale [-1,1] is cut to its positive half, so no pixel is darker than mid-grey.
    full: cut to [-1,1]. off: not cut."""
    mix: bool = False
    """The mean of the image and what g makes of it. A flag of the released code, off in its commands."""

    def work(self, steps: int, images: int) -> Work:
        return Work(self.mean_passes(steps))

    def kind(self, rng: Rng) -> str:
        return self.phase(rng)

    def expand(self, net: nn.Module, source: Any, rng: Rng, step: int, state: dict[str, Any]) -> None:
        commit(state)

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: dict[str, Any]) -> list[Tensor]:
        """The learned view and, with w, the random one; none in the first rounds."""
        return [] if self.plain(rng) else self.learned(net, x, y, rng, state)[0]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
        """That of a step: cross-entropy in the first rounds, then the formula of the module."""
        if self.plain(rng):
            return F.cross_entropy(net(x), y)
        return self.combined(net, x, y, rng, state)

    def learned(
        self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: dict[str, Any]
    ) -> tuple[list[Tensor], Kept]:
        """The learned view, the random one where w is not 0, and what is to be kept. A method writes it."""
        raise NotImplementedError

    def plain(self, rng: Rng) -> bool:
        """Whether this step is one of cross-entropy alone."""
        return self.lam == 0 or rng.step // self.round_steps < self.pre_rounds

    def phase(self, rng: Rng) -> str:
        """Which operations a step has."""
        first = rng.step % self.round_steps == 0
        return "plain" if self.plain(rng) else "first" if self.stays_eval and first else "later"

    def mean_passes(self, steps: int) -> float:
        """Passes for each source image, mean over a run of so many steps."""
        share = max(0, steps - self.pre_rounds * self.round_steps) / steps if self.lam else 0.0
        return 1 + share * (self.adv_steps + 1 + (self.w > 0))

    def shown(self, z: Tensor, made: Tensor, floor: float) -> Tensor:
        """What comes out of g, on the scale [-1,1], from what its last layer gives. floor: least positive value."""
        if self.clamp != "off":
            made = made.clamp(floor if self.clamp == "positive" else -1, 1)
        return (z + made) / 2 if self.mix else made

    def learn(
        self, net: nn.Module, start: Sequence[Tensor], kept: Kept, objective: Callable[[list[Tensor], int], Tensor]
    ) -> tuple[list[Tensor], Kept]:
        """g's parameters after the Adam steps, and Adam's new state. objective: what is minimised, from the parameters
        and the number of the step; it may ask the network, which is frozen meanwhile."""
        now = {key: kept[key] for key in ("step", "m", "v")}
        if self.adam == "reset":
            now = tree_map(torch.zeros_like, now)
        params = [p.detach() for p in start]
        with attack_mode(net), torch.enable_grad():
            for i in range(self.adv_steps):
                leaves = [p.requires_grad_() for p in params]
                grads = torch.autograd.grad(objective(leaves, i), leaves)
                params, now = adam_step([p.detach() for p in leaves], grads, now, self.adv_lr)
        return params, now

    def combined(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
        """The loss of a step that is not plain. The views come after the clean pass, whose BatchNorm statistics the
        attack sees, as released."""
        with evaluating(net, self.phase(rng) == "later" and self.stays_eval):
            clean = net(x)
        made, kept = self.learned(net, x, y, rng, state)
        leave(state, kept)
        with evaluating(net, self.stays_eval):
            logits = [net(view) for view in made]
        return (1 - self.lam) * F.cross_entropy(clean, y) + self.lam * consistency(clean, logits, self.w)


@contextmanager
def evaluating(net: nn.Module, wanted: bool) -> Iterator[None]:
    """The network in eval mode, where that is wanted; every mode is restored at exit."""
    modes = [(module, module.training) for module in net.modules()] if wanted else []
    if wanted:
        net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def consistency(clean: Tensor, others: Sequence[Tensor], w: float) -> Tensor:
    """cons of the module's formula, a mean over the batch. Logits [B,K]; others: learned, and random where w is not 0.
    Gradients flow through every p and through p_m."""
    weights = [1.0, 2 - w, w][: 1 + len(others)]
    logs = [logits.log_softmax(1) for logits in (clean, *others)]
    ps = [log.exp() for log in logs]
    log_m = (torch.stack([a * p for a, p in zip(weights, ps, strict=True)]).sum(0) / 3).clamp(1e-4, 1).log()
    kls = [a * (p * (log - log_m)).sum(1).mean() for a, p, log in zip(weights, ps, logs, strict=True)]
    return torch.stack(kls).sum() / 3


def total_variation(z: Tensor) -> Tensor:
    """2 (sum dy^2 / n_y + sum dx^2 / n_x) / B of z [B,C,H,W]; n: differences in one image. A direction in which the
    images are one pixel wide adds nothing."""
    parts = [d.square().sum() / max(1, d[0].numel()) for d in (z.diff(dim=2), z.diff(dim=3))]
    return 2 * (parts[0] + parts[1]) / len(z)
