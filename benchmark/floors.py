"""What a run could cost at best on its device: the floors that the throughput table compares with.

Bare passes: as many forward and backward passes through the same network, in batches of the same size, on images that
are there already, with no augmentation, loss or optimiser. Device: the rate of large matrix products in the run's own
precision and the bandwidth of a copy, measured here and now.
"""

from collections.abc import Callable
from functools import cache
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.precision import factor
from benchmark.recipe import Precision
from benchmark.spec import Floor

ROUNDS, LONGEST = 5, 2.0
"""Times that something is timed, and seconds after which it is enough."""


def floor_of(
    net: nn.Module, x: torch.Tensor, forwards: float, backwards: float, precision: Precision = "fp32"
) -> Floor:
    """The floor of a run that took so many passes for each source image, in images.

    x: one batch, float32 [B,3,H,W] on the device. The network's mode, gradients and buffers are left alone.
    """
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    x = x.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x[:1])
    forward = _seconds(lambda: net(x), x.device)
    both = _seconds(lambda: torch.autograd.grad(net(x).sum(), weights, allow_unused=True), x.device)
    with torch.no_grad():
        for buffer, value in kept:
            buffer.copy_(value)
    per_image = (forwards * forward + backwards * max(0.0, both - forward)) / len(x)
    matrix, copied = device_rates(x.device, torch.get_num_threads(), precision)
    return Floor(
        images_per_second=1 / per_image,
        gflop_per_image=counter.get_total_flops() * (forwards + 2 * backwards) / 1e9,
        matrix_gflops=matrix,
        copy_gib_per_second=copied,
    )


@cache
def device_rates(device: torch.device, threads: int, precision: Precision) -> tuple[float, float]:
    """GFLOP/s of a matrix product, and GiB/s read and written by a copy. threads: part of what is measured. precision:
    the one in use (precision.use)."""
    side, mib = (8192, 1024) if device.type == "cuda" else (1024, 128)
    a, source = factor(precision, device, side), torch.zeros(mib * 2**18, device=device)
    target = torch.empty_like(source)
    product = _seconds(lambda: a @ a, device)
    copy = _seconds(lambda: target.copy_(source), device)
    return 2 * side**3 / product / 1e9, 2 * mib / 2**10 / copy


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median time of some work, after it has been done once."""
    times: list[float] = []
    work()
    while len(times) < ROUNDS and (not times or sum(times) < LONGEST):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return median(times)
