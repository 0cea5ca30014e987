"""ERM (Vapnik 1998): plain training on the source images, the baseline for every other row."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Rng, State


@method.frozen()
class Method(method.Method):
    """Empirical risk minimisation: loss = CE(net(x), y). Cost: one pass."""

    erm_at: ClassVar[Mapping[str, Any] | None] = {}
    replayable: ClassVar[bool] = True

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return F.cross_entropy(net(x), y)
