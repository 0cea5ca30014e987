"""GUD, or ADA (Volpi et al., NeurIPS 2018): the training pool grows by images that the network finds hard.

Riccardo Volpi, Hongseok Namkoong, Ozan Sener, John Duchi, Vittorio Murino and Silvio Savarese: Generalizing to Unseen
Domains via Adversarial Data Augmentation, algorithm 1. Every T_min steps, k times, adversarial images join the training
pool. They are hard for the present network and yet close to their origins in its feature space z. The network trains on
the pool by plain cross-entropy.

    1. for t = 0, 1, ...:
    2.   if t = T_min - 1, 2 T_min - 1, ..., k T_min - 1, with theta frozen:
    3.     for (x, y) among the first N0 positions of the pool in its present order, in full batches of B:
    4.       x' <- x;  T_adv times:  x' <- x' + eta d/dx' [ CE(f(x'), y) - gamma mean (z(x) - z(x'))^2 ]
    5.     append all (x', y) to the pool and shuffle it
    6.   theta <- step on CE(f(x), y) of the next batch of the pool

N0 is the size of the source, so later phases attack a random mixture of originals and earlier adversarial images.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.images import Images
from benchmark.method import Range, Rng, Searched, Source, State
from benchmark.ops.attacks.phases import PixelPhases
from benchmark.ops.attacks.pixel import attack_pixels


@method.frozen()
class Method(PixelPhases, method.Method):
    """Cost: one pass a step, and k phases of T_adv + 1 forward and T_adv backward passes over N0 images; on the
    released digits recipe 1 + 6 x 312 (16 + 2 x 15)/3 / 10,001 = 3.9 passes a step.
    Settings: benchmark/ops/attacks/phases.py."""

    passes: ClassVar[float] = 3.9
    erm_at: ClassVar[Mapping[str, Any] | None] = {}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    searched: ClassVar[Searched] = {
        "gamma": Range(0.1, 10.0, log=True),  # released: 1; a decade each way
        "phases": Range(1, 10),  # released: 6; the paper varies it and gamma, in ranges that we have not read
    }
    toy: ClassVar[Mapping[str, Any]] = {"batch": 8, "interval": 4, "adv_steps": 2}

    def settings(self) -> dict[str, Any]:
        """As in older records: younger fields only if not at their default. So run ids stay."""
        found = super().settings()
        found["clip"] = {"never": False, "step": True}.get(self.clip, self.clip)
        younger = {"entropy": 0.0, "skip_last": True}
        return {name: value for name, value in found.items() if (name, value) not in younger.items()}

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        self.check("gud", source.original)
        return {}

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> Images | None:
        if not self.due(step):  # 2
            return None
        first = source.images[: self.attacked(source.original)]  # 3
        return attack_pixels(net, first, self.ascent)  # 4, 5: the referee appends and shuffles

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """What this batch would look like in the pool if a phase were due now."""
        return [attack_pixels(net, Images(x, y), self.ascent).x]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return F.cross_entropy(net(x), y)  # 6
