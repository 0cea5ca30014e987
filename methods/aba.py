"""ABA (Cheng et al., ICCV 2023): ALT with a Bayesian neural network; two samples of it make the two views.

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
from benchmark.core.devices import on_gpu
from benchmark.core.recipe import Terms
from benchmark.core.timing import span
from benchmark.method import Range, Rng, Searched, Source, State
from benchmark.ops import adam_state
from benchmark.ops import learned_views as learned
from benchmark.ops.transformers import part_shapes, sample_posterior, transform_by

FLOOR = 1e-3
"""Least value that `clamp` leaves."""
MOVES = {"last": slice(8, 18, 9), "all": slice(18)}
"""What the attack moves of the nine parts' mu and the nine parts' rho."""


@method.frozen()
class Method(learned.LearnedViews, method.Method):
    """ABA. Cost: one pass in the first rounds, 13 after them. Loop settings: benchmark/ops/learned_views.py."""

    passes: ClassVar[float] = 11.5
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any] | None] = None
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
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
        shapes = (2 * part_shapes([max(self.kernel_sizes)] * 5))[MOVES[self.ascend]]
        return adam_state.begin(adam_state.fresh([torch.empty(shape, device=rng.on) for shape in shapes]))

    @span("attack")
    def learned(
        self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State
    ) -> tuple[list[Tensor], adam_state.Kept]:
        z, kernels = 2 * x - 1, rng.draw("kernels", sample_kernels, self.kernel_sizes)
        q = rng.draw("posterior", sample_posterior, max(self.kernel_sizes))
        noise = torch.randn(self.adv_steps + 2, len(q.mu), generator=rng.generator("eps"), device=rng.on)
        rows = q.mu, q.rho, torch.ones_like(q.mu), *noise
        mu, rho, inside, *eps = (crop(q.split(row.to(z)), kernels) for row in rows)
        weight, moves = (-self.beta if self.kl == "grows" else self.beta), MOVES[self.ascend]
        theta, mask = [*mu, *rho], (2 * inside)[moves]

        def g(i: int) -> Tensor:
            return self.shown(z, transform_by(z, theta[:9], theta[9:], eps[i]), FLOOR)

        def objective(params: Sequence[Tensor], i: int) -> Tensor:
            theta[moves] = map(torch.mul, params, mask)
            return weight * divergence(theta[:9], theta[9:], inside) - F.cross_entropy(net((g(i) + 1) / 2), y)

        old = adam_state.cut(state["now"], theta[moves])
        params, now = self.learn(net, theta[moves], old, objective)  # 3
        theta[moves] = map(torch.mul, params, mask)
        now |= {key: [*map(torch.lerp, old[key], now[key], mask)] for key in "mv"}  # unchanged around the kernels
        with torch.no_grad():
            made = [(g(self.adv_steps + i) + 1) / 2 for i in range(1 + (self.w > 0))]  # 4
        return made, adam_state.put_back(state["now"], now)


def sample_kernels(kernel_sizes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Five of uniform sizes, [5,K,K]: ones in the middle of frames for the largest, so that shapes never change."""
    offer = torch.stack([F.pad(torch.ones(k, k), 4 * [(max(kernel_sizes) - k) // 2]) for k in kernel_sizes])
    return offer[torch.randint(len(offer), (5,), generator=generator)]


def crop(parts: Sequence[Tensor], kernels: Tensor) -> list[Tensor]:
    """The nine parts, zero around the kernels. On a CPU the rims are dropped; on a GPU the host would have to wait."""
    if on_gpu(kernels):
        return [part if i % 2 else part * kernels[i // 2] for i, part in enumerate(parts)]
    rims = (kernels[:, kernels.shape[-1] // 2] == 0).sum(1).tolist()  # both of a kernel together
    return [part if i % 2 else F.pad(part, 4 * [-rims[i // 2] // 2]) for i, part in enumerate(parts)]


def divergence(mu: Sequence[Tensor], rho: Sequence[Tensor], inside: Sequence[Tensor]) -> Tensor:
    """KL(q || N(0, 1/(3 k^2))), a mean over the weights inside of the kernels, summed over layers."""
    total = torch.zeros((), device=mu[0].device)
    for m, r, mask in zip(mu[::2], rho[::2], inside[::2], strict=True):
        precision, sigma = 3 * mask[0, 0].sum(), F.softplus(r)
        kl = 0.5 * (precision * (sigma.square() + m.square()) - precision.log() - 1) - sigma.log()
        total = total + (mask * kl).sum() / mask.sum()
    return total
