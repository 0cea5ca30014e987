"""Networks whose maps are known, and images to measure them with."""

import torch
from torch import Tensor, nn

from benchmark.core.images import Images
from benchmark.networks.classifiers import Classifier
from benchmark.sensitivity import fourier
from benchmark.sensitivity.map import SensitivityMap


def step_net(frequency: tuple[int, int], size: int, std: float, stem: nn.Module) -> Classifier:
    """A linear classifier of three classes that reacts to one wave b in channel 0, and to nothing else but brightness:
    logits (1 + mean of channel 1, <w, channel 0>, -<w, channel 0>) with w = b in pixel space, whatever mean and std.

    An image without any of wave b, of class 0, is misclassified under s r b, for either sign, exactly when
    r > 1 + mean of channel 1.
    """
    head = nn.Linear(3 * size * size, 3)
    wave = fourier.waves(size, torch.tensor([frequency]))[0].flatten()
    with torch.no_grad():
        head.weight.zero_().view(3, 3, -1)[0, 1] = std / size**2
        head.weight.view(3, 3, -1)[1:, 0] = torch.stack([std * wave, -std * wave])
        head.bias.copy_(torch.tensor([1.0 + 0.5, 0.0, 0.0]))
    return Classifier(stem, nn.Flatten(), head, mean=0.5, std=std)


def identity_conv() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
        conv.bias.zero_()  # type: ignore[union-attr]
    return conv


def flat_images(brightness: Tensor, size: int) -> Images:
    """Class 0, one value an image in channel 1, zero elsewhere."""
    x = torch.zeros(len(brightness), 3, size, size)
    x[:, 1] = brightness[:, None, None]
    return Images(x, torch.zeros(len(brightness), dtype=torch.int64))


def small_net(seed: int = 0, size: int = 8, stem: nn.Conv2d | None = None) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = stem or nn.Conv2d(3, 6, 3)
        trunk = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 6, 24), nn.ReLU())
        return Classifier(stem, trunk, nn.Linear(24, 5), mean=0.4, std=0.25)


def random_images(n: int, size: int, seed: int = 0) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.rand(n, 3, size, size, generator=generator), torch.randint(5, (n,), generator=generator))


def disc(n: int, edge: float, inside: float, clean: float) -> SensitivityMap:
    error = torch.where(fourier.radius(n) <= edge, inside, clean)
    return SensitivityMap(error, clean, 100, n / 4, 0)
