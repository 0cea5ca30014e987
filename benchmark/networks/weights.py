"""A network's initial weights: drawn from the seed, pretrained ones of timm, or a local file.

Pretrained weights are read only from safetensors files, which hold tensors and no code.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.networks.classifiers import Classifier, timm_config

SCRATCH = "scratch"


class Choice(NamedTuple):
    """A network without a tag; its weights as Recipe.weights has them; the local file, if that is where they are."""

    network: str
    weights: str
    file: Path | None


def choose(network: str, protocol: str, given: str | None) -> Choice:
    """What `--weights given` means for a network.

    network: a name of benchmark.networks, or timm:NAME; timm:NAME.TAG asks for these weights unless others are given.
    protocol: the recipe's own weights, which hold where nothing is given. Raises UsageError where there are none.
    """
    name, _, tag = network.partition(".")
    wanted = given or (network if tag else protocol)
    if wanted == SCRATCH:
        return Choice(name, SCRATCH, None)
    if wanted != "pretrained" and not wanted.startswith("timm:"):
        return Choice(name, f"sha256:{_sha256(Path(wanted))}", Path(wanted))
    if not name.startswith("timm:"):
        raise UsageError(
            f"--weights {wanted}: '{name}' has no pretrained weights, only networks timm:NAME have; "
            "give a .safetensors file, or --weights scratch"
        )
    if wanted == "pretrained":
        wanted = network if tag else f"{name}.{timm_config(name).tag}"
    elif wanted.partition(".")[0] != name:
        raise UsageError(f"the weights {wanted} are not of {name}; give --weights pretrained or --weights scratch")
    if not wanted.partition(".")[2] or timm_config(wanted).hf_hub_id is None:
        raise UsageError(f"--weights {wanted}: timm has no file of them; give one, or --weights scratch")
    return Choice(name, wanted, None)


@cache
def _sha256(path: Path) -> str:
    if path.suffix != ".safetensors" or not path.is_file():
        raise UsageError(f"--weights {path}: neither 'scratch' nor 'pretrained' nor a .safetensors file that is there")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(tag: str) -> Path:
    """The file of timm's weights timm:NAME.TAG, from the cache of Hugging Face or else from its hub."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to import, and few runs need it

    repository = str(timm_config(tag).hf_hub_id)
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as problem:  # its transports raise whatever they raise
        reason = str(problem).partition("\n")[0]
        raise UsageError(
            f"cannot fetch the weights {tag}: {reason} Get https://huggingface.co/{repository}/resolve/main/"
            "model.safetensors by hand and give --weights model.safetensors; or train anew: --weights scratch"
        ) from problem


def load_weights(net: Classifier, weights: str, file: Path | None) -> None:
    """Puts the weights of a Choice into a freshly built network; a head of another class count is left as it is.

    The file holds the keys of timm's network or of the Classifier. Raises UsageError where it is another file than the
    one chosen, where it is damaged, or where it does not fit.
    """
    if weights == SCRATCH:
        return
    path = file or fetch(weights)
    if file is not None and weights != f"sha256:{_sha256(file)}":
        raise UsageError(f"{file}: not the weights that the run was planned with, {weights}")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as problem:
        raise UsageError(f"{path}: not a whole safetensors file ({problem}); get it again") from problem
    own = net.state_dict()
    given = stored if any(name.startswith("trunk.") for name in stored) else _renamed(stored, net)
    counters = {name: own[name] for name in own if name.endswith("num_batches_tracked")}
    heads = {f"head.{name}": own[f"head.{name}"] for name in ("weight", "bias")}
    if any(name not in given or given[name].shape != value.shape for name, value in heads.items()):
        given = {name: value for name, value in given.items() if name not in heads} | heads
    given = counters | given
    for name in [*own, *given]:
        if name not in own or name not in given or own[name].shape != given[name].shape:
            shapes = [f"{list(of[name].shape)}" if name in of else "nothing" for of in (given, own)]
            raise UsageError(
                f"{path}: not the weights of this network: {name} is {shapes[0]}, and should be {shapes[1]}"
            )
    net.load_state_dict(given)


def _renamed(stored: Mapping[str, Tensor], net: Classifier) -> dict[str, Tensor]:
    """timm's keys as those of the Classifier around its network."""
    config = getattr(net.trunk, "pretrained_cfg", None) or {"classifier": "head"}
    head = f"{config['classifier']}."
    return {
        f"head.{name.removeprefix(head)}" if name.startswith(head) else f"trunk.{name}": value.to(torch.float32)
        if value.is_floating_point()
        else value
        for name, value in stored.items()
    }
