"""A network's work split over processes (`--nproc`): each takes its share of a batch's images through it.

Every process draws the same random numbers and holds the same images, weights and optimiser. Only forward and backward
passes are divided. A network gets whole batches and gives whole outputs. So a method needs no change, and what couples
the images of a batch in its loss or attack works as in one process. Four operations do it. x_r is the value of process
r; those of a line are each other's derivative. So gradients of every order (M-ADA takes second ones) are those of one
process, up to the order of floating-point sums:

    copy     y_r = x               reduce   y = sum_r x_r
    scatter  y_r = rows of r       gather   y = the rows of all

Cf. the pair f, g of Shoeybi et al.: Megatron-LM (2019), section 3.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.core.errors import UsageError


class Copy(torch.autograd.Function):
    """What all processes hold, for use by each on its own images. Takes and returns any number of tensors."""

    @staticmethod
    def forward(ctx: Any, *whole: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        present = [gradient for gradient in gradients if gradient is not None]
        sums = iter(Reduce.apply(*present) if present else ())
        return tuple(None if gradient is None else next(sums) for gradient in gradients)


class Reduce(torch.autograd.Function):
    """Sums over the processes, of any number of tensors in one exchange."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> tuple[Tensor, ...]:
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        sums = flat.split([part.numel() for part in parts])
        return tuple(total.view(part.shape) for total, part in zip(sums, parts, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(Copy.apply(*gradients))


class Scatter(torch.autograd.Function):
    """This process's rows of what all hold; the last processes may have fewer, or none."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        ctx.rows = len(whole)
        share, rank = -(-len(whole) // dist.get_world_size()), dist.get_rank()
        return whole[rank * share : (rank + 1) * share].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found: Tensor = Gather.apply(gradient, ctx.rows)
        return found


class Gather(torch.autograd.Function):
    """The rows of all processes, in order. rows: how many those are."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int) -> Tensor:
        processes = dist.get_world_size()
        share = -(-rows // processes)
        padded = part.new_zeros(share, *part.shape[1:])
        padded[: len(part)] = part
        whole = part.new_empty(processes * share, *part.shape[1:])
        dist.all_gather_into_tensor(whole, padded)
        return whole[:rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Scatter.apply(gradient), None


class WholeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the images of all processes; in eval mode it is the plain one."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = x.new_full((1,), x.numel() / x.shape[1])
        total, n = Copy.apply(*Reduce.apply(x.sum((0, 2, 3)), count))
        mean = total / n
        centred = x - mean[:, None, None]
        (square,) = Copy.apply(*Reduce.apply(centred.square().sum((0, 2, 3))))
        var = square / n
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(square / (n - 1), self.momentum)
        scale: Tensor = self.weight * torch.rsqrt(var + self.eps)
        out: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return out


class _Shell(nn.Module):
    """A network's own forward pass, past its hooks."""

    def __init__(self, net: nn.Module, kind: type[nn.Module]):
        super().__init__()
        self.net, self.forward = net, partial(kind.forward, net)


def _splitting(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a network, with the images of every forward pass divided among the processes."""

    class Split(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor, *rest: Any, **named: Any) -> Any:
            names, weights = zip(*self.named_parameters(), strict=True)
            copies = dict(zip((f"net.{name}" for name in names), Copy.apply(*weights), strict=True))
            out = functional_call(_Shell(self, kind), copies, (Scatter.apply(x), *rest), named)
            if isinstance(out, tuple):
                return tuple(Gather.apply(part, len(x)) for part in out)
            return Gather.apply(out, len(x))

    return Split


@contextmanager
def split(net: nn.Module) -> Iterator[None]:
    """Divides the work of `net` among the processes until the block ends; in a single process it does nothing.

    Raises UsageError for a BatchNorm other than the plain BatchNorm2d. Other couplings it cannot see.
    """
    if not dist.is_initialized():
        yield
        return
    kinds = {module: type(module) for module in net.modules()}
    for name, module in net.named_modules():
        plain = type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats and module.momentum
        if isinstance(module, _BatchNorm) and not plain:
            raise UsageError(f"--nproc: layer {name} ({type(module).__name__}) cannot be split; leave --nproc out")
        if plain:
            module.__class__ = WholeBatchNorm2d
    net.__class__ = _splitting(type(net))
    try:
        yield
    finally:
        for module, kind in kinds.items():
            module.__class__ = kind
