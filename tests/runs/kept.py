"""Runs of timm networks that kept their weights, made without training."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from benchmark import networks, registry
from benchmark.core.outcome import Weights
from benchmark.training.artifacts import npy_bytes
from tests import handmade

CLASSES = ("ant", "bee", "cat", "dog")


def run_of(folder: Path, network: str = "timm:test_resnet", method: str = "erm", **settings: object) -> Path:
    """The folder of a run of four classes of 32x32 images, whose weights and running statistics are random."""
    from safetensors.torch import save

    made = registry.make("method", method, settings)
    net = made.wrap(networks.build(network, len(CLASSES), 0))
    drawn = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=drawn)
            value.copy_(0.5 + noise if name.endswith("running_var") else value + 0.2 * (noise - 0.5))
    content = save({name: value.contiguous() for name, value in net.state_dict().items()})
    weights = Weights(sha256=hashlib.sha256(content).hexdigest(), classes=CLASSES)
    error = npy_bytes(np.full((32, 32), 0.25, np.float32))
    record = handmade.record(method, 0, network=network, map_file=error, settings=made.settings())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(record.model_copy(update={"weights": weights}).model_dump_json())
    (folder / "weights.safetensors").write_bytes(content)
    (folder / "sensitivity.npy").write_bytes(error)
    return folder


def config_of(net: Any) -> dict[str, Any]:
    """What timm makes a network's transform of."""
    data: Any = timm.data
    found: dict[str, Any] = data.resolve_model_data_config(net)
    return found


def normalised(net: Any, x: Tensor) -> Tensor:
    """Images in [0,1] as a network of timm is to have them, by its own configuration."""
    mean, std = (torch.tensor(config_of(net)[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std
