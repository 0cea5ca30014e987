"""ALT (Gokhale et al., WACV 2023): a small network learns, in every step, the image that is hard for the classifier.

Tejas Gokhale, Rushil Anirudh, Jayaraman J. Thiagarajan, Bhavya Kailkhura, Chitta Baral and Yezhou Yang: Improving
Diversity with Adversarially Learned Transformations for Domain Generalization. On images scaled to [-1,1]:

  1  the first `pre_rounds` rounds of `round_steps` steps: loss = CE(net(x), y)
  2  o_c = net(x);  g: five 3x3 convolutions, LeakyReLU between, weights ~ N(0, 2/fan in) drawn anew, biases kept
  3  adv_steps times:  g <- Adam step on -CE(net(g(x)), y) + tv TV(g(x)),  net in eval mode
  4  x_g = g(x);  x_r = clamp(RandConv(x), 0, 1), one random convolution of size 1 to 7 for the batch, mixed with x
  5  p_m = clamp((p_c + w p_r + (2-w) p_g) / 3, 1e-4, 1)
  6  cons = (KL(p_c, p_m) + w KL(p_r, p_m) + (2-w) KL(p_g, p_m)) / 3
  7  loss = (1 - lam) CE(o_c, y) + lam cons
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.recipe import Terms
from benchmark.core.timing import span
from benchmark.method import Range, Rng, Searched, Source, State
from benchmark.ops import adam_state
from benchmark.ops import learned_views as learned
from benchmark.ops.random_conv import random_conv, sample_random_conv
from benchmark.ops.transformers import sample_biases, sample_weights, split_biases, transform

FLOOR = 1e-4
"""Least value that `clamp` leaves."""


@method.frozen()
class Method(learned.LearnedViews, method.Method):
    """ALT. Cost: one pass in the first rounds, 13 after them. Loop settings: benchmark/ops/learned_views.py."""

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
    toy: ClassVar[Mapping[str, Any]] = {"round_steps": 2, "pre_rounds": 2, "adv_steps": 1}

    tv: NonNegativeFloat = 1.0
    """Weight of the total variation, which keeps g's images smooth."""
    biases: Literal["kept", "renewed"] = "kept"
    """Released: g's biases keep their last values when its weights are drawn. renewed: they are drawn, too."""
    clamp_random: Literal["positive", "off"] = "positive"
    """Released: the random view is cut to [0,1] on the scale [-1,1], so it loses its dark half, too. off: not cut."""

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        biases = split_biases(rng.draw("biases", sample_biases).clone())
        like = [*rng.draw("transformer", sample_weights).layers(), *biases]
        return adam_state.begin({**adam_state.fresh(like), "bias": biases})

    @span("attack")
    def learned(
        self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State
    ) -> tuple[list[Tensor], adam_state.Kept]:
        z, kept = 2 * x - 1, state["now"]
        biases = kept["bias"]
        if self.biases == "renewed":
            biases = split_biases(rng.draw("biases", sample_biases))

        def g(params: Sequence[Tensor]) -> Tensor:
            return self.shown(z, transform(z, params[:5], params[5:]), FLOOR)

        def objective(params: Sequence[Tensor], _: int) -> Tensor:
            made = g(params)
            return self.tv * learned.total_variation(made) - F.cross_entropy(net((made + 1) / 2), y)

        start = [part.to(z) for part in (*rng.draw("transformer", sample_weights).layers(), *biases)]
        params, now = self.learn(net, start, kept, objective)  # 3
        with torch.no_grad():
            made = [(g(params) + 1) / 2]  # 4
        if self.w:
            draws = rng.draw("random convolution", sample_random_conv, 1)
            view = random_conv(x, draws)
            made.append(view.clamp(0.5, 1) if self.clamp_random == "positive" else view)
        return made, {**now, "bias": params[5:]}
