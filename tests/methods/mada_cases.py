"""What the tests of M-ADA share: its goldens' autoencoder and networks, small images, settings that are quickly run."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.core.images import Images
from benchmark.method import Source, State
from benchmark.ops import autoencoder as wae
from tests.conftest import Golden

erm: Any = importlib.import_module("benchmark.methods.erm")
gud: Any = importlib.import_module("benchmark.methods.gud")
mada: Any = importlib.import_module("benchmark.methods.mada")
SMALL = {"adv_steps": 2, "interval": 2, "batch": 8, "wae_epochs": 1, "wae_hidden": 6, "wae_code": 3, "wae_critic": 4}


def toy_images(n: int, size: int = 32) -> Images:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return Images(x, torch.randint(0, 10, (n,), generator=generator))


def source_of(images: Images, batch_size: int = 8) -> Source:
    return Source(images, images[:0], len(images), batch_size, lambda net, rng: None)


def small_net() -> networks.Classifier:
    return networks.build("mini_convnet", 10, seed=0)


class Perceptron(nn.Module):
    """A smooth network in float64 for finite differences."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.hidden, self.head = nn.Linear(12, 4), nn.Linear(4, 3)
        for parameter in self.double().parameters():
            parameter.data.normal_(generator=generator)

    def forward(self, x: Tensor, features: bool = False) -> Any:
        z = torch.tanh(self.hidden(x.flatten(1)))
        return (self.head(z), z) if features else self.head(z)


def golden_wae(arrays: Golden) -> wae.Wae:
    """The goldens' narrow autoencoder in our class, which takes its sizes from the weights."""
    names = {"fc1": "encoder.1", "fc2": "encoder.3", "fc3": "decoder.0", "fc4": "decoder.2"}
    return wae.restore(
        {
            f"{ours}.{kind}": torch.tensor(arrays[f"wae.{theirs}.{kind}"])
            for theirs, ours in names.items()
            for kind in ("weight", "bias")
        }
    )


def golden_critic(arrays: Golden) -> nn.Sequential:
    weight = {name: torch.tensor(arrays[f"adv.{name}"]) for name in ("net.0.weight", "net.2.weight")}
    hidden, code = weight["net.0.weight"].shape
    critic = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    critic.load_state_dict(
        {f"{i}.{kind}": torch.tensor(arrays[f"adv.net.{i}.{kind}"]) for i in (0, 2) for kind in ("weight", "bias")}
    )
    return critic


# --- the meta step ----------------------------------------------------------------------------------------------------


def meta_state() -> tuple[Perceptron, Tensor, Tensor, State]:
    """A smooth network, a source batch, and a pool whose batch for step 7 is [4, 1, 2]."""
    generator = torch.Generator().manual_seed(9)
    x, pool = (torch.rand(n, 3, 2, 2, generator=generator, dtype=torch.float64) for n in (4, 6))
    y, pool_y = torch.tensor([0, 1, 2, 1]), torch.tensor([2, 1, 0, 0, 1, 2])
    order = torch.tensor([[0, 3, 5], [4, 1, 2]])
    state = {"phase": 1, "x": pool, "y": pool_y, "wae": {}, "since": 6, "order": order, "at": order[1].clone()}
    return Perceptron(), x, y, state
