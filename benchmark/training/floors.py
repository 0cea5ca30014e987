"""The least a run could cost on its device: the floors that the throughput table compares with.

Bare passes: as many forward and backward passes through the same network, in batches of the same sizes, on images that
are there already, without augmentation, loss or optimiser. If the run's steps are captured (steps.py), so are they.
Device: the rate of large matrix products in the run's own precision and the bandwidth of a copy, measured once in a
process.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from math import ceil
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.core.capture import Loop, recorder
from benchmark.core.devices import on_gpu
from benchmark.core.outcome import Floor
from benchmark.core.passes import Passes
from benchmark.core.recipe import Precision
from benchmark.networks.classifiers import layout
from benchmark.networks.precision import factor

ROUNDS, LONGEST = 5, 2.0
"""Times that something is timed, and seconds after which it is enough."""
TOGETHER, MOST = 0.02, 100
"""Seconds of work between two waits for a GPU, so that no launch is timed, and repeats at most."""
SIZES, RARE = 6, 0.02
"""Batch sizes that are timed at most, and the share of the images below which a size is not."""


def floor_of(net: nn.Module, x: Tensor, passes: Passes, images: int, precision: Precision = "fp32") -> Floor:
    """The floor of a run that took these passes for so many source images.

    x: one batch, float32 [B,3,H,W] on the device; other sizes repeat its images. The network's mode, gradients and
    buffers are left alone.
    """
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        gflop = _gflop(net, x)
        seconds = _seconds_of(net, x, passes)
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
    matrix, copied = device_rates(x.device, torch.get_num_threads(), precision)
    return Floor(
        images_per_second=images / seconds,
        gflop_per_image=gflop * (passes.forward.total() + 2 * passes.backward.total()) / images,
        matrix_gflops=matrix,
        copy_gib_per_second=copied,
    )


def _gflop(net: nn.Module, x: Tensor) -> float:
    """10^9 operations of a forward pass, for an image. Counted for two: batch normalisation of one pixel trains on no
    fewer."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(_repeated(net, x, 2))
    return float(counter.get_total_flops() / 2e9)


def _seconds_of(net: nn.Module, x: Tensor, passes: Passes) -> float:
    """What the passes take, bare: for each batch size the time of a forward, and of a backward beside it."""
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    sizes = timed_sizes(passes)
    forward, backward = _at(passes.forward, sizes), _at(passes.backward, sizes)
    total, captured = 0.0, list[Loop]()
    for size in sizes:
        batch = _repeated(net, x, size)

        def go(batch: Tensor = batch) -> None:
            net(batch)

        def there_and_back(batch: Tensor = batch) -> None:
            torch.autograd.grad(net(batch).sum(), weights, allow_unused=True)

        there = _pass_seconds(go, x.device, captured)
        back = _pass_seconds(there_and_back, x.device, captured) - there if backward[size] else 0.0
        total += (forward[size] * there + backward[size] * max(0.0, back)) / size
    return total


def timed_sizes(passes: Passes) -> list[int]:
    """The batch sizes that are timed, smallest first: those with the most images, without the rare ones."""
    images = passes.forward + passes.backward
    common = images.most_common(SIZES)
    often = [size for size, number in common if number >= RARE * images.total()]
    return sorted(often or [size for size, _ in common])


def _at(images: Counter[int], sizes: list[int]) -> Counter[int]:
    """Images by batch size, those of other sizes counted at the nearest larger of `sizes`, or else at the largest."""
    found: Counter[int] = Counter()
    for size, number in images.items():
        found[next((larger for larger in sizes if larger >= size), sizes[-1])] += number
    return found


def _repeated(net: nn.Module, x: Tensor, size: int) -> Tensor:
    """A batch of so many images, as the network has them in memory."""
    batch = x if size == len(x) else x[torch.arange(size, device=x.device) % len(x)]
    return batch.contiguous(memory_format=layout(net))


def _pass_seconds(work: Callable[[], None], device: torch.device, captured: list[Loop]) -> float:
    """Median time of a pass, replayed where work is captured. captured: keeps what was, because a pool of memory dies
    with the last graph in it."""
    if recorder() is None:
        return _seconds(work, device)
    loop = Loop(work)
    captured.append(loop)
    for _ in range(2):  # launched; the next round captures
        loop()
    return _seconds(loop, device)


@cache
def device_rates(device: torch.device, threads: int, precision: Precision) -> tuple[float, float]:
    """GFLOP/s of a matrix product, and GiB/s read and written by a copy. threads: part of what is measured. precision:
    the one in use (precision.use)."""
    side, mib = (8192, 1024) if on_gpu(device) else (1024, 128)
    a, source = factor(precision, device, side), torch.zeros(mib * 2**18, device=device)
    target = torch.empty_like(source)
    product = _seconds(lambda: a @ a, device)
    copy = _seconds(lambda: target.copy_(source), device)
    return 2 * side**3 / product / 1e9, 2 * mib / 2**10 / copy


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median time of some work, after it has been done once."""
    times: list[float] = []
    work()
    often = min(MOST, ceil(TOGETHER / _clocked(work, 1, device))) if on_gpu(device) else 1
    while len(times) < ROUNDS and (not times or sum(times) < LONGEST):
        times.append(_clocked(work, often, device))
    return median(times) / often


def _clocked(work: Callable[[], object], often: int, device: torch.device) -> float:
    """Seconds in which the device does some work so often."""
    if on_gpu(device):
        torch.cuda.synchronize()
    start = perf_counter()
    for _ in range(often):
        work()
    if on_gpu(device):
        torch.cuda.synchronize()
    return perf_counter() - start
