"""SADA's own loader before any training: jitter, and a filter that turns dark into light on most of the images.

The common protocol leaves that loader out, because no other method has it. This plugin puts it back before ERM, AugMix,
SADA, and SADA without its attack (docs/findings/sada.md).
"""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from benchmark import method, registry
from benchmark.method import Rng, State, Work
from benchmark.ops.batch_transforms import JitterLogDraws, jitter_log, sample_jitter_log

TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "erm": ("erm", {}),
    "augmix": ("augmix", {}),
    "views": ("sada", {"weight_map": "none", "warmup": 1.0}),
    "sada": ("sada", {"weight_map": "none"}),
}


@method.frozen()
class Method(method.Method):
    """For images of three equal channels. Cost: that of what is trained."""

    in_all: ClassVar[bool] = False

    trains: Literal["erm", "augmix", "views", "sada"] = "erm"
    """erm, augmix: these methods. sada: SADA as released. views: SADA without its attack, with a weight of 10."""
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

    def loaded(self, x: Tensor, rng: Rng) -> Tensor:
        """What the loader makes of a batch."""
        return jitter_log(x, rng.draw("loader", self.drawn, len(x)))

    @property
    def trained(self) -> method.Method:
        """What trains on it."""
        made: method.Method = registry.make("method", *TRAINED[self.trains])
        return made

    def kind(self, rng: Rng) -> Hashable:
        return self.trained.kind(rng)

    def work(self, steps: int, images: int) -> Work:
        return self.trained.work(steps, images)

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        x = self.loaded(x, rng)
        return [x, *self.trained.views(net, x, y, rng, state)]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return self.trained.loss(net, self.loaded(x, rng), y, rng, state)
