"""Images to corrupt, and how far they are moved."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.data.readers import package_file


def photographs(n: int, height: int, width: int) -> Tensor:
    """Crops of a photograph, uint8 [n,3,height,width]."""
    whole = np.asarray(Image.open(package_file("sklearn", "datasets/images/china.jpg")))
    draws = np.random.default_rng(0)
    tops, lefts = (draws.integers(0, whole.shape[axis] - side, n) for axis, side in ((0, height), (1, width)))
    crops = [whole[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def flat(value: int | tuple[int, int, int], n: int = 1, height: int = 32, width: int = 32) -> Tensor:
    colour = torch.tensor(value, dtype=torch.uint8).expand(3)
    return colour[:, None, None].repeat(n, 1, height, width)


def change(x: Tensor, y: Tensor) -> float:
    return (x.double() - y.double()).abs().mean().item()
