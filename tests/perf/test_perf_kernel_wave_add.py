"""make perf, on a GPU: images under many Fourier waves, as the sensitivity map of a clamped or a residual network."""

import pytest
import torch

from benchmark.kernels import wave_add
from tests.perf.race import cuda, race


@pytest.mark.gpu
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("images", "waves", "size"), [(256, 16, 32), (256, 128, 32), (64, 16, 224)])
def test_wave_add(request: pytest.FixtureRequest, images: int, waves: int, size: int, clamp: bool) -> None:
    device = cuda()
    x = torch.rand(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    added = torch.rand(waves, size, size, device=device)
    signs = 2.0 * torch.randint(2, (waves, images, 3), device=device) - 1
    race(
        request,
        f"{images} images of {size}x{size} under {waves} waves",
        (waves + 1) * x.numel() * x.element_size(),
        lambda: wave_add.wave_add_triton(x, added, signs, clamp),
        lambda: wave_add.wave_add_torch(x, added, signs, clamp),
    )
