"""make perf: the sensitivity map's images per second beside a bare forward pass's, measured in one run.

Bare: `net(x)` in evaluation and inference mode on the same number of inputs, already on the device as floats, in the
same batches; that in channels-last memory, which the map uses, is timed as well.
"""

import pytest
import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.core.images import Images
from benchmark.sensitivity.map import measure
from benchmark.sensitivity.wave_errors import BATCH_PIXELS
from tests.perf.race import cuda
from tests.perf.turns import take_turns

GRID = 6
"""20 of the 514 waves: each costs the same."""
N = 256


@pytest.mark.parametrize("name", ["mini_convnet", "digits_convnet"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_map_beside_a_bare_forward_pass(request: pytest.FixtureRequest, device: str, name: str) -> None:
    on = cuda() if device == "cuda" else torch.device(device)
    generator = torch.Generator().manual_seed(0)
    images = Images(
        torch.randint(256, (N, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randint(10, (N,), generator=generator),
    ).to(on)
    net = networks.build(name, 10, 0).to(on).eval()
    inputs = images.unit().repeat(1 + (GRID**2 + 4) // 2, 1, 1, 1)  # the map's first wave is none: the clean error
    batches = list(inputs.split(min(N, BATCH_PIXELS[device] // 32**2)))
    last = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
    take_turns(
        request,
        f"images under the sensitivity map, {name} on {device}, {torch.get_num_threads()} threads",
        {
            "map": (len(inputs), lambda: measure(net, images, seed=0, grid=GRID)),
            "bare forward": (len(inputs), lambda: forward(net, batches)),
            "the same, channels-last": (len(inputs), lambda: forward(net, last)),
        },
        targets={"bare forward": 0.9},
        cuda=device == "cuda",
    )


@torch.inference_mode()
def forward(net: nn.Module, batches: list[Tensor]) -> None:
    for batch in batches:
        net(batch)
