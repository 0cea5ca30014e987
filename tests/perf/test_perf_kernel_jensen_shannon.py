"""make perf, on a GPU: the n-way Jensen-Shannon term and its gradient."""

import pytest
import torch

from benchmark.ops.kernels import jensen_shannon
from tests.perf.race import cuda, race


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(3, 128, 10), (4, 32, 10), (3, 65536, 10), (3, 4096, 1000)])
def test_divergence_and_its_gradient(request: pytest.FixtureRequest, shape: tuple[int, ...]) -> None:
    z = torch.randn(shape, device=cuda(), requires_grad=True)
    compiled = torch.compile(jensen_shannon.divergence_torch)

    def both(form: object) -> object:
        assert callable(form)
        return torch.autograd.grad(form(z), z)

    race(
        request,
        f"Jensen-Shannon term of {list(shape)} logits, and its gradient",
        2 * z.numel() * z.element_size(),
        lambda: both(jensen_shannon.divergence_triton),
        lambda: both(jensen_shannon.divergence_torch),
        lambda: both(compiled),
    )
