"""Named recipes: what is equal for all methods of one comparison, one frozen value each.

common: one network, optimiser, budget and data treatment for all methods, so that rows can be compared.
strict: as that method's own authors ran it, so that a row can be held against their printed number and nothing else.
What of it is a choice of ours is said in docs/methods/.
"""

from typing import Any

from pydantic import Field

from benchmark.errors import UsageError, did_you_mean
from benchmark.recipe import Noun, Recipe


class Protocol(Noun):
    """recipes: by 'method@dataset', method or dataset, '*' for any other. settings: what the protocol fixes, by
    'method', 'method@dataset', or 'dataset for method'; they are its own values, so a row that keeps them carries no
    variant."""

    summary: str
    recipes: dict[str, Recipe]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


# Phases of GUD and M-ADA every tenth step: a third of an epoch of 1,000 images, as every hundredth is of 10,000. The
# autoencoder's 20 epochs would be most of the main job; 5 leave it a small part.
MINI = {"gud@minidigits": {"interval": 10}, "mada@minidigits": {"interval": 10, "wae_epochs": 5}}
# Nobody released SADA on CIFAR; its views then have the severity that AugMix has there.
SADA_CIFAR = {"severity": 3.0}

RANDCONV = Recipe(network="digits_convnet", lr=1e-4, batch_size=32, steps=10_000, epoch_steps=250, evaluations=40)
# None of the seven has code for PACS. Length, optimiser, batch, schedule, crops and pretrained network are those of
# ALT, the normalisation is that of the weights.
PHOTOS = Recipe(
    network="by_size", optimizer="sgd", lr=0.004, momentum=0.9, schedule="cosine", batch_size=32, steps=2000,
    loader="crop_flip", evaluations=10, sensitivity_images=100,
)  # fmt: skip
CIFAR = Recipe(
    network="wrn_40_2", optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="cosine",
    loader="pad_crop_flip",
)  # fmt: skip
AUGMIX = CIFAR.model_copy(update={"nesterov": True, "batch_size": 128, "selection": "last"})
# 100 epochs of the 45,000 images that are left to train on. Two evaluations: 76 test domains are dear.
CIFAR_C = AUGMIX.model_copy(update={"steps": 35_200, "evaluations": 2, "sensitivity_images": 100})

PROTOCOLS: dict[str, Protocol] = {
    "common": Protocol(
        summary="one network, optimiser, budget and data treatment for all methods",
        recipes={
            "minidigits": Recipe(network="mini_convnet", lr=1e-3, steps=150, evaluations=5, sensitivity_images=100),
            "digits": Recipe(network="digits_convnet", lr=1e-4, evaluations=4, sensitivity_images=100),
            "pacs": PHOTOS.model_copy(update={"network": "timm:resnet18", "weights": "timm:resnet18.tv_in1k"}),
            "folder": PHOTOS,
            "cifar10c": CIFAR_C,
            "cifar100c": CIFAR_C,
            "*": Recipe(network="by_size", lr=1e-4, steps=10_000),
        },
        settings=MINI | {"sada@cifar10c": SADA_CIFAR, "sada@cifar100c": SADA_CIFAR},
    ),
    "strict": Protocol(
        summary="each method as its own authors ran it: subset, resize filter, loader, optimiser, length, selection",
        recipes={
            # The RandConv repository's run without flags: the only plain ERM among the sources with a full recipe.
            "erm": RANDCONV,
            "randconv": RANDCONV.model_copy(update={"selection": "source-val-views"}),
            "gud": Recipe(
                network="digits_convnet_tf", lr=1e-4, steps=10_001, evaluations=1, sampler="sequential",
                selection="last",
            ),
            "mada": Recipe(network="digits_convnet_01", lr=1e-4, steps=10_001, selection="last", evaluations=10),
            "sada": Recipe(
                network="digits_convnet_01", optimizer="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4,
                schedule="step", step_every=0.4, batch_size=256, steps=11_700, evaluations=50,
                loader="jitter_log", selection="last-within-5",
            ),
            # CIFAR's recipes: 100 epochs of 391 batches, and 200 epochs of 196.
            "augmix": AUGMIX.model_copy(update={"steps": 39_100, "evaluations": 100}),
            "augmax": CIFAR.model_copy(
                update={"batch_size": 256, "steps": 39_200, "evaluations": 200, "network": "wrn_40_2_01"}
            ),
        },
        settings={
            "sada": {"weight_map": "none"},
            "augmax": {"steps": 10},
            "digits for gud": {"subset": "offset5k", "resize": "lanczos"},
            "digits for mada": {"subset": "offset5k", "resize": "lanczos"},
            "digits for sada": {"subset": "all60k", "resize": "resize36_crop32"},
            "digits for randconv": {"mnist_m": "pickle10k"},
            **{
                f"{dataset} for {method}": {"corrupted": "official"}
                for dataset in ("cifar10c", "cifar100c")
                for method in ("augmix", "augmax")
            },
        },
    ),
}  # fmt: skip


def recipe_for(protocol: str, method: str, dataset: str) -> tuple[Recipe, dict[str, Any], dict[str, Any]]:
    """The recipe of a run, and the settings that the protocol gives its method and its dataset.

    Raises UsageError for an unknown protocol, or where the protocol has no recipe for this method on this dataset.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{protocol}': {did_you_mean(protocol, PROTOCOLS)}")
    found = PROTOCOLS[protocol]
    for name in (f"{method}@{dataset}", method, dataset, "*"):
        if name in found.recipes:
            settings = found.settings.get(method, {}) | found.settings.get(f"{method}@{dataset}", {})
            return found.recipes[name], settings, found.settings.get(f"{dataset} for {method}", {})
    raise UsageError(
        f"protocol '{protocol}' has no recipe for {method} on {dataset}; it has: {', '.join(sorted(found.recipes))}"
    )
