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
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.method import Range, Rng, Searched, Source, State, Work
from benchmark.ops.attacks.pixel import PixelAttack, attack_pixels


@method.frozen()
class Method(method.Method):
    """Cost: one pass a step, and k phases of T_adv + 1 forward and T_adv backward passes over N0 images; on the
    released digits recipe 1 + 6 x 312 (16 + 2 x 15)/3 / 10,001 = 3.9 passes a step."""

    passes: ClassVar[float] = 3.9
    erm_at: ClassVar[Mapping[str, Any] | None] = {}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    searched: ClassVar[Searched] = {
        "gamma": Range(0.1, 10.0, log=True),  # released: 1; a decade each way
        "phases": Range(1, 10),  # released: 6; the paper varies it and gamma, in ranges that we have not read
    }
    toy: ClassVar[Mapping[str, Any]] = {"batch": 8, "interval": 4, "adv_steps": 2}

    gamma: NonNegativeFloat = 1.0
    """Weight of the mean squared feature distance; a mean over the features (1,024 in the digits network), so its
    strength depends on their number."""
    eta: PositiveFloat = 1.0
    """Step size of the ascent in units of 1, before `batch_mean`."""
    adv_steps: PositiveInt = 15
    """T_adv: ascent steps per image and phase."""
    phases: NonNegativeInt = 6
    """k: how often the pool grows; 0 is ERM."""
    interval: PositiveInt = 100
    """T_min: training steps between phases."""
    batch: PositiveInt = 32
    """B: images of one attack batch. The last N0 mod B positions are never attacked, as released."""
    batch_mean: Literal["reference", "per_image"] = "reference"
    """reference: the objective is a batch mean, so an image moves by eta/B times the gradient of its own objective.
    per_image: by eta times that gradient, whatever the batch."""
    clip: bool = False
    """Whether adversarial images are cut to [0,1] after every ascent step; as released they leave it."""

    @property
    def ascent(self) -> PixelAttack:
        b = self.batch if self.batch_mean == "reference" else 1
        return PixelAttack(self.adv_steps, self.eta, self.gamma, beta=0.0, batch=b, clip=self.clip)

    def work(self, steps: int, images: int) -> Work:
        phases = min(self.phases, steps // self.interval)
        return Work(1, attacked=phases * (images - images % self.batch) * self.ascent.passes)

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        if self.phases and source.original < self.batch:
            raise UsageError(f"gud attacks full batches of {self.batch}, and the source has {source.original} images")
        return {}

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> Images | None:
        phase, rest = divmod(step + 1, self.interval)
        if rest or phase > self.phases:  # 2
            return None
        attacked = source.original - source.original % self.batch  # 3
        return attack_pixels(net, source.images[:attacked], self.ascent)  # 4, 5: the referee appends and shuffles

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """What this batch would look like in the pool if a phase were due now."""
        return [attack_pixels(net, Images(x, y), self.ascent).x]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return F.cross_entropy(net(x), y)  # 6
