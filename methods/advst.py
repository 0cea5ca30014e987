"""AdvST (Zheng et al., AAAI 2024): standard augmentations whose parameters are learned against the network.

Guangtao Zheng, Mengdi Huai and Aidong Zhang: AdvST: Revisiting Data Augmentations for Single Domain Generalization.
After every epoch each source image is augmented anew, by operations whose parameters theta make it hard and yet close
to its origin in the features z. The sets of such images form a ring, and the network trains on all of them.

    1. for each epoch, over the ring of at most k + 1 sets, the source first:
    2.   theta_net <- step on CE(f(x), y) + con SupCon(proj(z(x)), y) - eta_min H(f(x)) of the next batch
    3.   after it, with the network frozen, for each batch of the source:
    4.     draw one to three operations for the batch, and a start for each image's theta
    5.     RMSprop ascent on theta:  CE(f(x'), y) - lam mean (z(x') - z(x))^2 + eta H(f(x')),  x' = ops(x; theta)
    6.   the images x' are a new set; in a full ring it replaces the oldest
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.recipe import Recipe, Terms
from benchmark.method import Range, Rng, Searched, Source, State, Work
from benchmark.ops import ring
from benchmark.ops.attacks.parameters import SemanticAttack, attack_images, attack_semantic, entropy, sample_semantic
from benchmark.ops.contrastive import add_projection, supervised_contrastive

DIGITS = Recipe(
    network="digits_convnet_01", lr=1e-4, schedule="step", step_every=0.5, batch_size=32, steps=88_920, evaluations=50
)  # 50 epochs of 312 batches a set: (1 + 2 + 3 + 4 + 5 + 45 x 6) x 312
PACS = {"k": 3, "lam": 10.0, "eta": 10.0, "eta_min": 0.01, "adv_lr": 5.0, "adv_steps": 50}


@method.frozen()
class Method(SemanticAttack, method.Method):
    """AdvST as released for digits. Cost: one pass a step, and at each generation at most adv_steps + 1/3 passes for
    each source image: at most 1 + 49 x 10,000 (20 + 1/3) / (88,920 x 32) = 4.5 on the released digits recipe."""

    passes: ClassVar[float] = 4.5
    erm_at: ClassVar[Mapping[str, Any] | None] = {"k": 0, "con": 0.0, "eta_min": 0.0}
    uncoupled: ClassVar[Mapping[str, Any] | None] = {"tolerance": 0.0}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    in_all: ClassVar[bool] = False
    alone: ClassVar[Mapping[str, Any] | None] = {}
    terms: ClassVar[Sequence[Terms]] = (
        Terms(protocol="strict", dataset="digits", recipe=DIGITS),
        Terms(protocol="common", dataset="pacs", method_settings=PACS),
    )
    searched: ClassVar[Searched] = {
        "lam": Range(1.0, 1000.0, log=True),  # released: 100 (digits) and 10 (PACS)
        "eta_min": Range(0.01, 10.0, log=True),  # released: 10 (digits) and 0.01 (PACS)
    }
    toy: ClassVar[Mapping[str, Any]] = {"interval": 20, "adv_steps": 2, "batch": 32}

    k: NonNegativeInt = 5
    """Sets of augmented images in the ring beside the first; 3 on PACS. 0: none is made."""
    eta_min: NonNegativeFloat = 10.0
    """Weight of the entropy that a training step takes off its loss, which punishes confidence; 0.01 on PACS."""
    con: NonNegativeFloat = 1.0
    """Weight of the supervised contrastive term."""
    temperature: PositiveFloat = 0.07
    """Of the contrastive term."""
    projection: PositiveInt = 128
    """Outputs of the linear layer between the features and the contrastive term."""
    interval: NonNegativeInt = 0
    """Training steps between generations; 0, as released: one round through the ring."""
    keep_source: bool = False
    """False, as released: the sixth generation (k = 5) takes the place of the source. True: of the oldest beside it."""
    shuffle: bool = False
    """False, as released: from the first generation on the ring is read in order. True: each round in a new order."""

    def wrap(self, net: nn.Module) -> nn.Module:
        return add_projection(net, self.projection)

    def work(self, steps: int, images: int) -> Work:
        made, step = 0, 0  # of batches of 32
        while self.k and (step := step + (self.interval or max(1, min(made + 1, self.k + 1) * images // 32))) < steps:
            made += 1
        return Work(1, attacked=made * images * (self.adv_steps + 1 / 3))

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        return ring.empty(source.images)

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        images, b = source.images, min(source.batch_size, len(source.images))
        round_ = (len(state["y"]) or len(images)) // b
        if self.k and step == state["since"] + (self.interval or round_):  # 3
            new = attack_images(net, images, rng, self)  # 4, 5
            ring.add(state, images, new, step, b, k=self.k, keep_source=self.keep_source)  # 6
        if state["made"]:
            order = torch.Generator().manual_seed(rng.key("ring")) if self.shuffle else None
            ring.advance(state, step, order)

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        draws = rng.draw("semantic", sample_semantic, len(x))
        return [attack_semantic(net, x, y, draws, self)]  # as if a generation were due now

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if len(state["y"]):  # 1
            x, y = state["x"][state["at"]].to(x), state["y"][state["at"]].to(y)
        logits, z = net(x, features=True)
        loss = F.cross_entropy(logits, y)  # 2
        if self.con:
            projection: Any = net.projection
            loss = loss + self.con * supervised_contrastive(projection(z), y, self.temperature)
        return loss - self.eta_min * entropy(logits) if self.eta_min else loss
