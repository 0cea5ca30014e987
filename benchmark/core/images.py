"""Labelled images, as datasets give them and methods take them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Labelled images. x: uint8 in 0..255 or float32 in units of 1 (0..1 unless a method leaves it), [N,3,H,W].
    y: int64 class indices, [N]."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.shape[1] != 3 or self.x.dtype not in (torch.uint8, torch.float32):
            raise ValueError(f"images must be uint8 or float32 [N,3,H,W], not {self.x.dtype} {list(self.x.shape)}")
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(self.x)}], not {self.y.dtype} {list(self.y.shape)}")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> "Images":
        return Images(self.x[index], self.y[index])

    def to(self, device: torch.device) -> "Images":
        return Images(self.x.to(device), self.y.to(device))

    def unit(self) -> Tensor:
        """x as float32 in units of 1: uint8 values divided by 255, float values as they are."""
        return self.x.float().div_(255) if self.x.dtype == torch.uint8 else self.x

    def __add__(self, other: "Images") -> "Images":
        same = self.x.dtype == other.x.dtype
        return Images(
            torch.cat([self.x if same else self.unit(), other.x if same else other.unit()]),
            torch.cat([self.y, other.y]),
        )
