"""Pieces that the adversarial methods (AugMax, GUD, M-ADA, SADA) share."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def attack_mode(net: nn.Module) -> Iterator[nn.Module]:
    """`net` in eval mode and without parameter gradients while it is attacked; every flag is restored at exit."""
    modes = [(module, module.training) for module in net.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    net.eval().requires_grad_(False)
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
