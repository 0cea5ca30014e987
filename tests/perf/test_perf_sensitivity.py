"""make perf: the sensitivity map's images per second as a share of a bare forward pass's, measured in one run.

Bare: `net(x)` in evaluation and inference mode on the same number of inputs, already on the device as floats, in the
same batches; that in channels-last memory, which the map uses, is timed as well. The three take turns in every round,
so that other load on the machine falls on all; shares are medians over rounds. Nothing is asserted about time.
"""

from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.sensitivity import measure
from benchmark.spec import Images
from benchmark.wave_errors import BATCH_PIXELS

ROUNDS = 7
GRID = 6
"""20 of the 514 waves: each costs the same."""
N = 256


@pytest.mark.parametrize("name", ["mini_convnet", "digits_convnet"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_map_beside_a_bare_forward_pass(request: pytest.FixtureRequest, device: str, name: str) -> None:
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.skip("timings are taken by make perf")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    benchmark: Any = request.getfixturevalue("benchmark")
    generator = torch.Generator().manual_seed(0)
    images = Images(
        torch.randint(256, (N, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randint(10, (N,), generator=generator),
    ).to(torch.device(device))
    net = networks.build(name, 10, 0).to(device).eval()
    inputs = images.unit().repeat(1 + (GRID**2 + 4) // 2, 1, 1, 1)  # the map's first wave is none: the clean error
    batches = list(inputs.split(min(N, BATCH_PIXELS[device] // 32**2)))
    found = measure(net, images, seed=0, grid=GRID)
    assert found.n_images == N
    seconds: dict[str, list[float]] = {"map": [], "bare": [], "bare_channels_last": []}

    def clocked(what: str, run: Any) -> None:
        start = perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds[what].append(perf_counter() - start)

    def bare_passes() -> None:
        clocked("bare", lambda: forward(net, batches))
        clocked("bare_channels_last", lambda: forward(net, last))

    last = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
    bare_passes()
    seconds["bare"].clear()
    seconds["bare_channels_last"].clear()
    benchmark.pedantic(
        lambda: clocked("map", lambda: measure(net, images, seed=0, grid=GRID)), setup=bare_passes, rounds=ROUNDS
    )
    rates = {what: len(inputs) / median(times) for what, times in seconds.items()}
    share = rates["map"] / rates["bare"]
    share_last = rates["map"] / rates["bare_channels_last"]
    benchmark.extra_info.update(
        {f"{what}_images_per_second": round(rate) for what, rate in rates.items()},
        share_of_bare=round(share, 3),
        share_of_bare_channels_last=round(share_last, 3),
        threads=torch.get_num_threads(),
    )
    with request.getfixturevalue("capsys").disabled():
        figures = ", ".join(f"{what} {rate:,.0f}" for what, rate in rates.items())
        print(f"\n{name} on {device}, {N} images: {figures} images/s; ", end="")  # noqa: T201
        print(f"{share:.0%} of bare, {share_last:.0%} of bare in channels-last memory")  # noqa: T201


@torch.inference_mode()
def forward(net: nn.Module, batches: list[Tensor]) -> None:
    for batch in batches:
        net(batch)
