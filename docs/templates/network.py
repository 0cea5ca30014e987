"""A network of your own: a plugin that registers it with timm, whose name then is `--network timm:small_net`."""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Three convolutions. x float32 [B,3,H,W], normalised; gives features [B,64], and the suite adds the last layer."""

    head_hidden_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(part for sizes in ((3, 16), (16, 32), (32, 64)) for part in self.block(*sizes)))

    @staticmethod
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features.mean(dim=(2, 3))


@register_model
def small_net(**given: Any) -> SmallNet:  # timm passes what --weights would need
    return SmallNet()
