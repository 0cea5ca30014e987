"""SADA's own loader in parts, before ERM: which jitter, on which images, and what inverts them.

docs/findings/sada.md asks why the loader's two halves gain more together than one after the other.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Rng, State
from benchmark.ops.batch_transforms import JitterLogDraws, jitter_log, laplacian_of_gaussian, sample_jitter_log


@method.frozen()
class Method(method.Method):
    """For images of three equal channels. As it stands it is SADA's loader. Cost: one pass."""

    in_all: ClassVar[bool] = False

    brightness: bool = True
    """Brightness times U[0.5, 1.5)."""
    contrast: bool = True
    """Contrast about the image's mean times U[0.5, 1.5)."""
    jitters: Literal["all", "inverted", "others"] = "all"
    """Which images are jittered: all, only those that are inverted too, or only the others."""
    inverts: Literal["filter", "negative", "none"] = "filter"
    """What 60 % of the images go through after their jitter. filter: the released one, which inverts, blurs and
    standardises. negative: 1 - x, which only inverts."""

    def drawn(self, batch: int, generator: torch.Generator) -> JitterLogDraws:
        """The loader's draws; what is off stays as it is."""
        draws = sample_jitter_log(batch, generator)
        touched = {"all": torch.ones_like(draws.filtered), "inverted": draws.filtered, "others": ~draws.filtered}
        brightness, contrast = (
            torch.where(touched[self.jitters] & on, factor, 1)
            for on, factor in ((self.brightness, draws.brightness), (self.contrast, draws.contrast))
        )
        return replace(draws, brightness=brightness, contrast=contrast)

    def loaded(self, x: Tensor, draws: JitterLogDraws) -> Tensor:
        """What the loader makes of a batch, in 256 levels as the released one."""
        jittered = jitter_log(x, replace(draws, filtered=torch.zeros_like(draws.filtered)))
        if self.inverts == "none":
            return jittered
        inverted = laplacian_of_gaussian(jittered[:, :1]) if self.inverts == "filter" else 1 - jittered
        chosen = torch.where(draws.filtered[:, None, None, None], inverted, jittered)
        return (chosen * 255).floor().div(255)

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        return [self.loaded(x, rng.draw("loader", self.drawn, len(x)))]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        (view,) = self.views(net, x, y, rng, state)
        return F.cross_entropy(net(view), y)
