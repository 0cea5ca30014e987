"""A network under attack: held in eval mode meanwhile; a user's own is wrapped and checked, with clear errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.devices import together
from benchmark.core.errors import UsageError


@contextmanager
def attack_mode(net: nn.Module, *, evaluate: bool = True) -> Iterator[nn.Module]:
    """`net` in eval mode and without parameter gradients while it is attacked; every flag is restored at exit.

    evaluate: False leaves its mode as it is, so that BatchNorm may move its statistics.
    """
    modes = [(module, module.training) for module in net.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    net.requires_grad_(False)
    if evaluate:
        net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class Attacked(nn.Module):
    """Takes float32 images to float32 logits, whatever the network computes in, and says what is wrong with it.

    highest: the largest of the labels, or None where looking at them would cost a wait for the device.
    """

    def __init__(self, name: str, net: nn.Module, highest: int | None):
        super().__init__()
        self.name, self.net, self.highest = name, net, highest
        self.dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)

    def forward(self, x: Tensor, features: bool = False) -> Any:
        out = self._asked(x.to(self.dtype), features)
        parts = out if features and isinstance(out, tuple) else (out,)
        wanted = "(logits [B,K], features [B,D])" if features else "logits [B,K]"
        fits = len(parts) == 1 + features and all(isinstance(part, Tensor) and len(part) == len(x) for part in parts)
        if not fits or parts[0].ndim != 2 or not parts[0].is_floating_point():
            raise UsageError(f"{self._called(features)} has to give {wanted}, not {_shown(out)}; wrap the network")
        logits = parts[0]
        if self.highest is not None and self.highest >= logits.shape[1]:
            raise UsageError(
                f"augmentation('{self.name}'): label {self.highest} is none of the network's classes, "
                f"0..{logits.shape[1] - 1}"
            )
        return tuple(part.float() for part in parts) if features else logits.float()

    def _asked(self, x: Tensor, features: bool) -> Any:
        if not features:
            return self.net(x)
        try:
            return self.net(x, features=True)
        except TypeError as problem:
            raise UsageError(
                f"{self._called(features)} has to give (logits [B,K], features [B,D]), and raises TypeError: {problem}"
            ) from problem

    def _called(self, features: bool) -> str:
        return f"augmentation('{self.name}', net=net): net(x{', features=True' if features else ''})"


def check(name: str, net: Any) -> None:
    """Raises UsageError for what is no network that can be attacked."""
    if not isinstance(net, nn.Module):
        raise UsageError(f"augmentation('{name}'): net must be a torch.nn.Module, not {type(net).__name__}")


def check_place(name: str, net: nn.Module, x: Tensor) -> None:
    """Raises UsageError where the network is on another device than the images, or knows no gradients."""
    first = next(net.parameters(), None)
    if first is None:
        raise UsageError(f"augmentation('{name}'): the network has no parameters, so there is nothing to attack")
    if not together(first, x):
        raise UsageError(f"augmentation('{name}'): the images are on {x.device}, the network is on {first.device}")
    if first.is_inference():
        raise UsageError(
            f"augmentation('{name}'): the network was made under torch.inference_mode and has no gradients; make it "
            "outside, or under torch.no_grad"
        )


def _shown(out: Any) -> str:
    return f"{out.dtype} {list(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
