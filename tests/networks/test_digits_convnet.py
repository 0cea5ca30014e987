"""The ConvNet of the digits: its formula, its size, and TensorFlow's initialisation."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.networks.classifiers import build


@pytest.mark.parametrize("name", ["digits_convnet", "digits_convnet_01", "digits_convnet_tf"])
def test_the_digits_network_is_its_formula(name: str) -> None:
    net: Any = build(name, 10, 0)
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_547_466
    conv1, conv2, *hidden, head = (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    x = torch.rand(2, 3, 32, 32)
    z = (x - net.mean) / net.std
    for layer in (conv1, conv2):
        z = F.max_pool2d(F.conv2d(z, layer.weight, layer.bias).relu(), 2)
    z = z.flatten(1)
    for layer in hidden:
        z = F.linear(z, layer.weight, layer.bias).relu()
    logits, features = net(x, features=True)
    torch.testing.assert_close(features, z, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits, F.linear(z, head.weight, head.bias), rtol=1e-5, atol=1e-6)


def test_glorot_is_that_of_every_layer() -> None:
    layers = [m for m in build("digits_convnet_tf", 10, 0).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 5
    for layer in layers:
        outputs, inputs, taps = *layer.weight.shape[:2], layer.weight[0, 0].numel()
        bound = math.sqrt(6 / ((inputs + outputs) * taps))
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is not None
        assert not layer.bias.any()
