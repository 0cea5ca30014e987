"""ME-ADA (Zhao et al., NeurIPS 2020): GUD whose images also make the network unsure, by the entropy of its prediction.

Long Zhao, Ting Liu, Xi Peng and Dimitris Metaxas: Maximum-Entropy Adversarial Data Augmentation for Improved
Generalization and Robustness. One term more than GUD (methods/gud.py); images are cut to [0,1] afterwards.

    1. for t = 0, 1, ...:
    2.   if t = T_min - 1, 2 T_min - 1, ..., k T_min - 1, with theta frozen:
    3.     for (x, y) among the first N0 positions of the pool in its present order, in full batches of B:
    4.       x' <- x;  T_adv times:
                 x' <- x' + eta d/dx' [ CE(f(x'), y) + entropy H(f(x')) - gamma mean (z(x) - z(x'))^2 ]
    5.       x' <- clamp(x', 0, 1)
    6.     append all (x', y) to the pool and shuffle it
    7.   theta <- step on CE(f(x), y) of the next batch of the pool
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.images import Images
from benchmark.core.recipe import Terms
from benchmark.method import Range, Rng, Searched, Source, State
from benchmark.ops.attacks.phases import Clip, PixelPhases
from benchmark.ops.attacks.pixel import attack_pixels


@method.frozen()
class Method(PixelPhases, method.Method):
    """Cost: one pass a step, and k phases of T_adv + 1 forward and T_adv backward passes over N0 images; on digits with
    GUD's length 1 + 3 x 312 (16 + 2 x 15)/3 / 10,001 = 2.4 passes a step.
    More settings: benchmark/ops/attacks/phases.py."""

    passes: ClassVar[float] = 2.4
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any] | None] = {}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    # As GUD on this dataset: phases every tenth step are a third of an epoch of 1,000 images.
    terms: ClassVar[Sequence[Terms]] = (
        Terms(protocol="common", dataset="minidigits", method_settings={"interval": 10}),
        # Two phases on CIFAR, as released.
        Terms(protocol="common", dataset="cifar10c", method_settings={"phases": 2}),
        Terms(protocol="common", dataset="cifar100c", method_settings={"phases": 2}),
    )
    searched: ClassVar[Searched] = {
        "entropy": Range(1.0, 100.0, log=True),  # released: 10; a decade each way
        "gamma": Range(0.1, 10.0, log=True),  # released: 1; a decade each way, as for GUD
    }
    toy: ClassVar[Mapping[str, Any]] = {"batch": 8, "interval": 4, "adv_steps": 2}

    entropy: NonNegativeFloat = 10.0
    """Weight of the entropy H of the prediction, in nats; the paper's eta. 0 takes the term away."""
    phases: NonNegativeInt = 3
    """k: how often the pool grows; 0 is ERM."""
    clip: Clip = "end"
    """When adversarial images are cut to [0,1]: once after the ascent (released), after every step, or never."""

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        self.check("me_ada", source.original)
        return {}

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> Images | None:
        if not self.due(step):  # 2
            return None
        first = source.images[: self.attacked(source.original)]  # 3
        return attack_pixels(net, first, self.ascent)  # 4 to 6: the referee appends and shuffles

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """What this batch would look like in the pool if a phase were due now."""
        return [attack_pixels(net, Images(x, y), self.ascent).x]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return F.cross_entropy(net(x), y)  # 7
