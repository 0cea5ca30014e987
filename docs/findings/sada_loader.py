"""SADA behind its authors' loader: jitter and the inverting filter are applied to an image before all else.

The common protocol leaves that loader out, because no other method has it. This plugin puts it back, for SADA and, with
a weight of 0, for ERM (docs/findings/sada.md).
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark import method
from benchmark.method import Rng, State
from benchmark.methods import sada
from benchmark.ops.batch_transforms import JitterLogDraws, jitter_log, sample_jitter_log


@method.frozen()
class Method(sada.Method):  # type: ignore[misc]  # benchmark.methods finds its modules when it is imported
    """SADA as released, on images of three equal channels."""

    in_all: ClassVar[bool] = False

    weight_map: str = "none"
    """As released."""
    jitter: bool = True
    """Brightness and contrast times U[0.5, 1.5)."""
    inverted: bool = True
    """A 3x3 filter of negative weights on 60 % of the images, standardised and cut to [0,1]: dark becomes light."""

    def drawn(self, batch: int, generator: torch.Generator) -> JitterLogDraws:
        """The loader's draws; what is off stays as it is."""
        draws = sample_jitter_log(batch, generator)
        if not self.jitter:
            draws = replace(draws, brightness=torch.ones(batch), contrast=torch.ones(batch))
        return draws if self.inverted else replace(draws, filtered=torch.zeros(batch, dtype=torch.bool))

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        x = jitter_log(x, rng.draw("loader", self.drawn, len(x)))
        loss: Tensor = sada.Method.loss(self, net, x, y, rng, state)
        return loss
