"""Cutout (DeVries and Taylor 2017): train with a square of each image erased, at a random place."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.timing import span
from benchmark.method import Rng, State


@span("augment")
def erase(x: Tensor, centre: Tensor, side: float) -> Tensor:
    """x [B,3,H,W] with a grey square; its centre [B,2] (row, column) and its side are in units of the image's side."""
    row, column = ((torch.arange(n, device=x.device) + 0.5) / n for n in x.shape[2:])
    above, beside = (row - centre[:, :1]).abs(), (column - centre[:, 1:]).abs()
    inside = (above[:, :, None] < side / 2) & (beside[:, None, :] < side / 2)
    return torch.where(inside[:, None], 0.5, x)


@method.frozen()
class Method(method.Method):
    """Cost: one pass."""

    passes: ClassVar[float] = 1.0
    erm_at: ClassVar[Mapping[str, Any] | None] = {"side": 0.0}
    replayable: ClassVar[bool] = True

    side: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Side of the square in units of the image's; 0 is ERM."""

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        return [erase(x, rng.draw("cutout", torch.rand, (len(x), 2)), self.side)]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        (view,) = self.views(net, x, y, rng, state)
        return F.cross_entropy(net(view), y)
