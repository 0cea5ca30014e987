"""Accuracy in a domain."""

import torch
from torch import nn

from benchmark.spec import Images

CHUNK = 500


@torch.inference_mode()
def accuracy(net: nn.Module, images: Images) -> float:
    """Top-1 accuracy in percent over all images, in evaluation mode; the mode is left as it was found."""
    training = net.training
    net.eval()
    hits = torch.zeros((), dtype=torch.int64, device=images.y.device)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        hits += (net(part.unit()).argmax(dim=1) == part.y).sum()
    net.train(training)
    return 100 * int(hits) / len(images)
