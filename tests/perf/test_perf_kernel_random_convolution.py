"""make perf, on a GPU: random convolutions with their mixing. For a kernel an image, eager is cuDNN's grouped path."""

import pytest
import torch

from benchmark.ops.kernels import random_convolution
from benchmark.ops.random_conv import sample_random_conv
from tests.perf.race import cuda, race


@pytest.mark.gpu
@pytest.mark.parametrize("per_image", [False, True], ids=["one kernel", "a kernel an image"])
@pytest.mark.parametrize("largest", [1, 3, 7])
@pytest.mark.parametrize(("batch", "size"), [(32, 32), (4096, 32), (128, 224)])
def test_random_convolution(
    request: pytest.FixtureRequest, batch: int, size: int, largest: int, per_image: bool
) -> None:
    device = cuda()
    x = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    draws = sample_random_conv(
        batch if per_image else 1, torch.Generator(device).manual_seed(0), kernel_sizes=(largest,)
    )
    given = draws.size, draws.weight, draws.alpha, draws.identity, draws.bias
    race(
        request,
        f"{largest}x{largest} random convolutions of {batch} images of {size}x{size}",
        2 * x.numel() * x.element_size(),
        lambda: random_convolution.random_convolution_triton(x, *given, "off"),
        lambda: random_convolution.random_convolution_torch(x, *given, "off"),
    )
