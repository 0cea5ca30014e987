"""make perf, on a GPU: what surrounds the Fourier transforms of SADA's attack, three views at a time."""

import pytest
import torch

from benchmark.ops.kernels import spectrum_step
from tests.perf.race import cuda, race

SHAPES = pytest.mark.parametrize("shape", [(3, 32, 3, 32, 32), (3, 2048, 3, 32, 32), (3, 64, 3, 224, 224)])


@pytest.mark.gpu
@SHAPES
def test_ascend(request: pytest.FixtureRequest, shape: tuple[int, ...]) -> None:
    device = cuda()
    amplitude, turn = 9 * torch.rand(shape, device=device), 6.28 * torch.rand(shape, device=device)
    phasor = torch.polar(torch.ones_like(turn), turn)
    gradient = torch.randn_like(phasor)
    rest = 1 + torch.rand(shape[-2:], device=device), torch.ones(shape[:2], dtype=torch.bool, device=device), 0.08, None
    race(
        request,
        f"step of the amplitudes of {list(shape)}",
        32 * amplitude.numel(),
        lambda: spectrum_step.ascend_triton(amplitude, phasor, gradient, *rest),
        lambda: spectrum_step.ascend_torch(amplitude, phasor, gradient, *rest),
    )


@pytest.mark.gpu
@SHAPES
def test_image_and_its_gradient(request: pytest.FixtureRequest, shape: tuple[int, ...]) -> None:
    device = cuda()
    z = torch.randn(shape, device=device, dtype=torch.complex64).requires_grad_()
    up = torch.rand(shape, device=device)

    compiled = torch.compile(spectrum_step.to_image_torch)

    def both(form: object) -> object:
        assert callable(form)
        return torch.autograd.grad(form(z, "batch_max", "abs"), z, up)

    race(
        request,
        f"image from {list(shape)} complex numbers, and its gradient",
        52 * z.numel(),
        lambda: both(spectrum_step.to_image_triton),
        lambda: both(spectrum_step.to_image_torch),
        lambda: both(compiled),
    )
