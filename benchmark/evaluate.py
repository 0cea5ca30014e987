"""Accuracy in a domain, and which point of a training run is the one that counts."""

from typing import Any

import torch
from torch import nn

from benchmark.devices import on_gpu
from benchmark.networks import layout
from benchmark.recipe import Selection
from benchmark.spec import Images
from benchmark.stream import chunks

CHUNK, GPU_CHUNK_PIXELS = 100, 4096 * 32 * 32
"""Images of one pass: more no longer fit a processor's cache. On a GPU, pixels of one pass."""


@torch.inference_mode()
def accuracy(net: nn.Module, images: Images) -> float:
    """Top-1 accuracy in percent over all images, in evaluation mode; the mode is left as it was found."""
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    hits = torch.zeros((), dtype=torch.int64, device=device)
    size = max(CHUNK, GPU_CHUNK_PIXELS // images.x[0, 0].numel()) if on_gpu(device) else CHUNK
    for part in chunks(images, size, device):
        hits += (net(part.unit().contiguous(memory_format=layout(net))).argmax(dim=1) == part.y).sum()
    net.train(training)
    return 100 * int(hits) / len(images)


def select(curve: list[dict[str, Any]], rule: Selection) -> int:
    """The point of the curve that a rule chooses; no rule here looks at a target."""
    points = range(len(curve))
    if rule == "last-within-5":
        return max(i for i in points if curve[i]["val"] > 0.95 * max((p["val"] for p in curve[:i]), default=-1))
    by = {"source-val": "val", "source-val-views": "val_views", "last": "step"}[rule]
    return max(points, key=lambda i: (curve[i][by], i))
