"""ABA (Cheng et al., ICCV 2023): ALT with a Bayesian network, whose samples are a learned view and a second one.

Sheng Cheng, Tejas Gokhale and Yezhou Yang: Adversarial Bayesian Augmentation for Single-Source Domain Generalization.
On images scaled to [-1,1]:

  1  the first `pre_rounds` rounds of `round_steps` steps: loss = CE(net(x), y)
  2  o_c = net(x);  g: five convolutions, LeakyReLU between;  drawn anew: kernel sizes uniform in {1,3,5,7},
     mu ~ N(0, .1^2), rho ~ N(-1, .1^2);  weights are mu + eps log(1 + e^rho), eps ~ N(0,1) at every use
  3  adv_steps times:  last layer of g <- Adam step on -CE(net(g(x)), y) - beta KL(q, N(0, 1/(3 k^2))),
     net in eval mode
  4  x_g = g(x);  x_r = g(x), from other eps
  5  p_m = clamp((p_c + w p_r + (2-w) p_g) / 3, 1e-4, 1)
  6  cons = (KL(p_c, p_m) + w KL(p_r, p_m) + (2-w) KL(p_g, p_m)) / 3
  7  loss = (1 - lam) CE(o_c, y) + lam cons
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.recipe import Terms
from benchmark.core.timing import span
from benchmark.method import Range, Rng, Searched, Source, State
from benchmark.ops import adam_state
from benchmark.ops import learned_views as learned
from benchmark.ops.transformers import divergence, part_shapes, sample_posterior, transform_by

FLOOR = 1e-3
"""Least value that `clamp` leaves."""


@method.frozen()
class Method(learned.LearnedViews, method.Method):
    """ABA. Cost: one pass in the first rounds, 13 after them. The settings of the loop are those of LearnedViews."""

    passes: ClassVar[float] = 11.5
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any] | None] = None
    attacks: ClassVar[bool] = True
    terms: ClassVar[Sequence[Terms]] = learned.TERMS
    searched: ClassVar[Searched] = {
        "lam": Range(0.25, 0.95),  # released: 0.75
        "adv_lr": Range(5e-7, 5e-4, log=True),  # released: 5e-6 and, for PACS, 5e-5; a decade to each side
    }
    toy: ClassVar[Mapping[str, Any]] = {"round_steps": 2, "pre_rounds": 2, "adv_steps": 1, "kernel_sizes": (1, 3)}

    kernel_sizes: Annotated[tuple[Literal[1, 3, 5, 7], ...], Field(min_length=1)] = (1, 3, 5, 7)
    """Sizes to choose from, with equal chances in every layer and training step."""
    beta: NonNegativeFloat = 1.0
    """Weight of the divergence. The released command gives it twice, and the last value counts."""
    kl: Literal["grows", "shrinks"] = "grows"
    """Released: a minus before the divergence lets the Adam steps raise it. shrinks: they lower it."""
    ascend: Literal["last", "all"] = "last"
    """Released: the optimiser is not told of the first four layers, so the attack moves the last one alone. all: it
    moves all five."""

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        shapes = part_shapes([max(self.kernel_sizes)] * 5)[self._moves]
        return adam_state.begin(adam_state.fresh([torch.empty(shape, device=rng.on) for shape in 2 * shapes]))

    @property
    def _moves(self) -> slice:
        return slice(8, 9) if self.ascend == "last" else slice(0, 9)

    @span("attack")
    def learned(
        self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State
    ) -> tuple[list[Tensor], adam_state.Kept]:
        z, q = 2 * x - 1, rng.draw("posterior", sample_posterior, self.kernel_sizes)
        mu, rho = q.split(q.mu.to(z)), q.split(q.rho.to(z))
        eps = torch.randn(self.adv_steps + 2, len(q.mu), generator=rng.generator("eps"), device=rng.on).to(z)
        sign, moves = (-1 if self.kl == "grows" else 1), self._moves

        def g(i: int) -> Tensor:
            return self.shown(z, transform_by(z, mu, rho, q.split(eps[i])), FLOOR)

        def objective(params: Sequence[Tensor], i: int) -> Tensor:
            mu[moves], rho[moves] = params[: len(params) // 2], params[len(params) // 2 :]
            return sign * self.beta * divergence(mu, rho) - F.cross_entropy(net((g(i) + 1) / 2), y)

        start = [*mu[moves], *rho[moves]]
        frames = state["now"]  # of the largest kernel: a smaller one's moments lie in the middle
        params, now = self.learn(net, start, adam_state.cut(frames, start), objective)  # 3
        mu[moves], rho[moves] = params[: len(params) // 2], params[len(params) // 2 :]
        with torch.no_grad():
            made = [(g(self.adv_steps + i) + 1) / 2 for i in range(1 + (self.w > 0))]  # 4
        return made, adam_state.put_back(frames, now)
