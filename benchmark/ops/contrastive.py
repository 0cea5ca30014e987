"""The supervised contrastive loss (Khosla et al., NeurIPS 2020): images of one class together, others apart."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.rng import key


def add_projection(net: nn.Module, outputs: int) -> nn.Module:
    """Gives the network a linear layer `projection` from its features to `outputs`, and returns the network. Torch's
    usual first weights, drawn from those of the head: other ones for each seed, and nothing of a shared generator."""
    head = net.head
    assert isinstance(head, nn.Linear)
    layer = nn.utils.skip_init(nn.Linear, head.in_features, outputs)
    generator = torch.Generator().manual_seed(key("projection", head.weight.tolist()))
    with torch.no_grad():
        for weights in layer.parameters():
            weights.uniform_(-(head.in_features**-0.5), head.in_features**-0.5, generator=generator)
    net.projection = layer
    return net


def supervised_contrastive(z: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Mean over the images i of -1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t) ).

    z: [B,D], scaled to length 1 here; y: [B]; P(i): the other images of i's class. An image that has none adds zero.
    """
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = (y[:, None] == y) & ~itself
    log_p = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    own = log_p.masked_fill(~alike, 0).sum(dim=1) / alike.sum(dim=1).clamp(min=1)
    return -own.mean()
