"""The network that SADA attacks."""

import pytest
import torch
from torch import nn

from benchmark.networks.classifiers import mini_convnet


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mini_convnet(10).double()
