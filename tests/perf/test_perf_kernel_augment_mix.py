"""make perf, on a GPU: whole AugMix views, given their draws."""

import pytest
import torch
from torch import Tensor

from benchmark.ops.augmix import NINE, OPS, magnitudes, sample_mix
from benchmark.ops.kernels import augment_mix
from tests.perf.race import cuda, race


@pytest.mark.gpu
@pytest.mark.parametrize("ops", [NINE, OPS], ids=["nine", "all"])
@pytest.mark.parametrize(("batch", "size"), [(64, 32), (128, 32), (8192, 32), (128, 224)])
def test_views(request: pytest.FixtureRequest, batch: int, size: int, ops: tuple[str, ...]) -> None:
    device = cuda()
    x = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    draws = sample_mix(batch, torch.Generator(device).manual_seed(0), ops=ops)
    slots = draws.op, magnitudes(draws.op, draws.level, draws.sign, size, size), draws.w, draws.m

    def definition() -> Tensor:
        op, magnitude, w, m = slots
        chains = augment_mix.chains_torch(augment_mix.to_uint8(x), op, magnitude)
        return augment_mix.mix(x, chains.float().div_(255), w, m)

    race(
        request,
        f"{batch} AugMix views of {size}x{size}, {len(ops)} operations",
        2 * x.numel() * x.element_size(),
        lambda: augment_mix.views_triton(x, *slots),
        definition,
        torch.compile(lambda: augment_mix.views_torch(x, *slots)),  # on our chains: the definition's stop the compiler
        share=0.3 if (batch, size) == (8192, 32) else None,  # elsewhere launches and waits are the bound
        slow=True,
    )
