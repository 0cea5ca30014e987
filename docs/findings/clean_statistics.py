"""Another method, but BatchNorm's running statistics come from source images alone.

A network is tested with running statistics, a mean over the batches of training. A method that trains on views passes
those on to the test, where no image is a view. This plugin holds the statistics while its method trains, and updates
them by one more pass of the batch as it was. Where training reads batches' own statistics alone, as in RandConv, the
weights are the method's, bit for bit: only what the network is tested with differs.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark import method, registry
from benchmark.method import Rng, Source, State, Work


@contextmanager
def held(net: nn.Module) -> Iterator[None]:
    """Within it a pass leaves the running statistics of `net` as they are."""
    layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@method.frozen()
class Method(method.Method):
    """Cost: a third of a pass more than what is trained."""

    in_all: ClassVar[bool] = False

    trains: Literal["randconv", "sada"] = "randconv"
    """The method, with its defaults. SADA's attack reads running statistics, so its weights differ from SADA's."""

    @property
    def trained(self) -> method.Method:
        """What trains."""
        made: method.Method = registry.make("method", self.trains, {})
        return made

    def kind(self, rng: Rng) -> Hashable:
        return self.trained.kind(rng)

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        return self.trained.setup(net, source, rng)

    def work(self, steps: int, images: int) -> Work:
        return self.trained.work(steps, images)

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        return self.trained.views(net, x, y, rng, state)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        with held(net):
            loss = self.trained.loss(net, x, y, rng, state)
        with torch.no_grad():
            net(x)
        return loss
