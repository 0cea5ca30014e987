"""ERM (Vapnik 1998): train on the source as it is, the baseline that every other row is measured against."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Rng, State


@method.frozen()
class Method(method.Method):
    """Empirical risk minimisation: loss = CE(net(x), y). Cost: one pass."""

    replayable: ClassVar[bool] = True

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        return F.cross_entropy(net(x), y)
