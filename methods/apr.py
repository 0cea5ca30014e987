"""APR (Chen et al., ICCV 2021): an image keeps its label when its Fourier amplitudes are exchanged for another's.

Guangyao Chen, Peixi Peng, Li Ma, Jia Li, Lin Du and Yonghong Tian: Amplitude-Phase Recombination: Rethinking
Robustness of Convolutional Neural Networks in Frequency Domain. People recognise an image by its phases; networks read
the amplitudes too. F is fftn over channels, rows and columns.

  1  S, SP:  u = op_1(x), an AugMix operation;  with chance 1/2:  v = op_2(u), and
             x <- bytes of Re F^-1(|F(u)| e^(i arg F(v)))  or  of Re F^-1(|F(v)| e^(i arg F(u))), 1/2 each;  else x <- u
  2  P, SP:  pi a permutation of the batch;  with chance p, one draw a batch:
             x~ = Re F^-1(|F(x_pi)| e^(i arg F(x)));  else x~ = x
  3  P, SP:  loss = CE(net(x), y) + lam CE(net(x~), y), one joint pass;   S:  loss = CE(net(x), y)
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Choice, Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.augmix import NINE, sample_mix
from benchmark.ops.fourier_recombination import Overflow, recombine, recombine_with_own

Chance = Annotated[float, Field(ge=0, le=1)]


@method.frozen()
class Method(method.Method):
    """APR-P. Cost: two passes; `form="S"`: one."""

    passes: ClassVar[float] = 2.0
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any]] = {"form": "P", "lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any]] = {"form": "S"}
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    searched: ClassVar[Searched] = {
        "form": Choice(("P", "S", "SP")),  # published: all three
        "p": Range(0.2, 1.0),  # released: 0.6; the range is ours
    }

    form: Literal["P", "S", "SP"] = "P"
    """P: amplitudes of another image of the batch. S: of an augmented copy of the same image. SP: S, then P on it."""
    p: Chance = 0.6
    """P: chance that a batch is recombined; else its second half is the first again."""
    lam: NonNegativeFloat = 1.0
    """P: weight of CE(net(x~), y); the released loss is the sum. 0 with form P is ERM."""
    bn_batching: Literal["joint", "separate"] = "joint"
    """"joint", as released: one pass of x and x~ and one set of BatchNorm statistics; "separate": a pass for each."""
    severity: Annotated[float, Field(ge=0.1, le=10)] = 3.0
    """S: upper bound of the operations' levels, which are drawn from U[0.1, severity)."""
    p_single: Chance = 0.5
    """S: chance that the image is recombined with a copy, after the first operation."""
    overflow: Overflow = "wrap"
    """S: what becomes of bytes outside of 0..255. wrap, as released: 256 turns into 0. clip: it turns into 255."""

    def operations(self) -> tuple[str, ...]:
        return () if self.form == "P" else NINE

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """P: [x~]. S: [x], augmented. SP: [x~, x], augmented."""
        if self.form == "P":
            return [self._with_anothers(x, rng)]
        x = self._with_own(x, rng)
        return [x] if self.form == "S" else [self._with_anothers(x, rng), x]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        views = self.views(net, x, y, rng, state)
        images = [x, *views] if self.form == "P" else views[::-1]
        logits = forward_views(net, images, joint=self.bn_batching == "joint")  # 3
        loss = F.cross_entropy(logits[0], y)
        return loss if self.form == "S" else loss + self.lam * F.cross_entropy(logits[1], y)

    def _with_own(self, x: Tensor, rng: Rng) -> Tensor:  # 1
        ops = rng.draw("operations", sample_mix, len(x), ops=NINE, severity=self.severity, width=1, depth=2)
        coins = rng.draw("single", torch.rand, (2, len(x)))
        op, level, sign = (part[:, 0] for part in (ops.op, ops.level, ops.sign))
        return recombine_with_own(x, op, level, sign, coins[0] < self.p_single, coins[1] < 0.5, self.overflow)

    def _with_anothers(self, x: Tensor, rng: Rng) -> Tensor:  # 2
        partner = x[rng.draw("permutation", torch.randperm, len(x))]
        return torch.where(rng.draw("pair", torch.rand, (1,)) < self.p, recombine(partner, x), x)
