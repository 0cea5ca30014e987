"""Dual BatchNorm and DuBIN (AugMax, Wang et al., NeurIPS 2021): separate statistics for clean and adversarial images.

A route chooses the statistics. `forward_views` makes the forward passes of several views, as BatchNorm couples them.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Route = Literal["M", "A"]
DualNorm = Literal["dubin", "dual_bn", "plain"]
BLOCK_BN1 = re.compile(r"(?:^|\.)layer(\d+)\.\d+\.bn1$")


class DualBatchNorm2d(nn.Module):
    """Two full BatchNorms, each with its own affine parameters and running statistics; both begin as copies of `bn`.

    route: "M" (main: clean and AugMix images, and evaluation) or "A" (adversarial images).
    """

    def __init__(self, bn: nn.BatchNorm2d):
        super().__init__()
        self.main, self.adversarial = bn, copy.deepcopy(bn)
        self.route: Route = "M"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.adversarial if self.route == "A" else self.main)(x)
        return out


class DuBIN(nn.Module):
    """InstanceNorm (affine, shared by both routes) on the first half of the channels, dual BatchNorm on the rest.

    Affine parameters and running statistics are taken over from `bn`; an odd channel goes to the BatchNorm.
    """

    def __init__(self, bn: nn.BatchNorm2d):
        super().__init__()
        self.cut = bn.num_features // 2
        self.instance = nn.InstanceNorm2d(self.cut, eps=bn.eps, affine=True)
        rest = nn.BatchNorm2d(bn.num_features - self.cut, eps=bn.eps, momentum=bn.momentum)
        with torch.no_grad():
            self.instance.load_state_dict({"weight": bn.weight[: self.cut], "bias": bn.bias[: self.cut]})
            kept = {name: value[self.cut :] if value.ndim else value for name, value in bn.state_dict().items()}
            rest.load_state_dict(kept)
        self.batch = DualBatchNorm2d(rest)
        self.to(bn.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x.split([self.cut, x.shape[1] - self.cut], dim=1)
        return torch.cat([self.instance(first), self.batch(rest)], dim=1)


def convert(net: nn.Module, kind: DualNorm) -> nn.Module:
    """Replaces, in place, every BatchNorm2d of `net` by its dual form, drawing nothing; returns `net`.

    dubin: DuBIN for the `bn1` of each block in all stages but the last (WRN: 1-2 of 3; ResNet: 1-3 of 4; stages are
    recognised by the name layerN, as in torchvision and timm), dual BatchNorm everywhere else. dual_bn: dual
    BatchNorm everywhere. plain: nothing. A network without BatchNorm, or already converted, is left as it is.
    """
    stages = [int(match[1]) for name, _ in net.named_modules() if (match := BLOCK_BN1.search(name))]
    if kind != "plain":
        _convert(net, "", max(stages, default=0) if kind == "dubin" else 0)
    return net


def _convert(module: nn.Module, path: str, last_stage: int) -> None:
    for name, child in list(module.named_children()):
        where = f"{path}.{name}"
        stage = BLOCK_BN1.search(where)
        if isinstance(child, nn.BatchNorm2d):
            dubin = stage is not None and int(stage[1]) < last_stage
            setattr(module, name, DuBIN(child) if dubin else DualBatchNorm2d(child))
        elif not isinstance(child, DualBatchNorm2d | DuBIN):
            _convert(child, where, last_stage)


@contextmanager
def route(net: nn.Module, to: Route) -> Iterator[nn.Module]:
    """Sends `net` along one route of its dual BatchNorms within the block; a network without any is not affected."""
    before = [(module, module.route) for module in net.modules() if isinstance(module, DualBatchNorm2d)]
    for module, _ in before:
        module.route = to
    try:
        yield net
    finally:
        for module, former in before:
            module.route = former


def has_batch_norm(net: nn.Module) -> bool:
    """Whether the images of one forward pass are coupled by batch statistics."""
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def forward_views(net: nn.Module, views: Sequence[Tensor], *, joint: bool = False) -> list[Tensor]:
    """Logits of each view [B,K], in order.

    With BatchNorm: one pass a view, each normalised by itself and updating the running statistics in turn; with
    `joint`, one pass of all, normalised together. Without BatchNorm the numbers are the same, and one pass is taken.
    """
    if joint or not has_batch_norm(net):
        return list(net(torch.cat(list(views))).split([len(view) for view in views]))
    return [net(view) for view in views]
