"""make perf: AugMix views a second on one thread, draws included, beside what users run today, in one run."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugMixAugment, augmix_ops
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image, to_tensor

from benchmark.ops.augmix import NINE, augmix_view, magnitudes, sample_mix
from benchmark.ops.kernels import augment_mix
from tests.ops.pillow_peer import by_pillow
from tests.perf.turns import take_turns


def pillow_way(image: Tensor, random: np.random.Generator) -> Tensor:
    """One view as the released code makes it: float tensor [3,H,W] to Pillow, chains, back to a tensor, mixed."""
    clean, mixture = to_pil_image(image), torch.zeros_like(image)
    w, m = random.dirichlet([1.0] * 3).astype(np.float32), float(random.beta(1.0, 1.0))
    for share in w:
        chain = clean.copy()
        for _ in range(random.integers(1, 4)):
            chain = by_pillow(chain, random.choice(NINE), random.uniform(0.1, 3.0), int(random.choice([-1, 1])))
        mixture += float(share) * to_tensor(chain)
    return (1 - m) * image + m * mixture


@pytest.mark.parametrize(("batch", "size", "target"), [(128, 32, 8.0), (8, 224, 4.0)])
def test_augmix_views(request: pytest.FixtureRequest, batch: int, size: int, target: float) -> None:
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    small = torch.randint(0, 256, (batch, 3, size // 4, size // 4), generator=generator).float() / 255
    x = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear").clamp(0, 1)
    bytes_ = [(image * 255).to(torch.uint8) for image in x]
    pictures: list[Image.Image] = [to_pil_image(image) for image in bytes_]
    torchvision = v2.AugMix(all_ops=False)
    timm: Any = AugMixAugment(augmix_ops(magnitude=3, hparams={}))  # type: ignore[no-untyped-call]

    def eager() -> Tensor:
        draws = sample_mix(batch, generator)
        slots = draws.op, magnitudes(draws.op, draws.level, draws.sign, size, size)
        chains = augment_mix.chains_torch(augment_mix.to_uint8(x), *slots).float().div_(255)
        return augment_mix.mix(x, chains, draws.w, draws.m)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        take_turns(
            request,
            f"AugMix views of {size}x{size}, {batch} at a time, one thread",
            {
                "ours": (batch, lambda: augmix_view(x, sample_mix(batch, generator))),
                "eager torch": (batch, eager),
                "Pillow": (batch, lambda: [pillow_way(image, random) for image in x]),
                "torchvision v2": (batch, lambda: [torchvision(image) for image in bytes_]),
                "timm": (batch, lambda: [to_tensor(timm(picture)) for picture in pictures]),
            },
            targets={"Pillow": target},
        )
    finally:
        torch.set_num_threads(before)
