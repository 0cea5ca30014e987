"""A problem small enough to train on in a second: which quadrant of a noisy image is bright."""

import pytest
import torch

from benchmark import protocols
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked
from benchmark.data.dataset import Loaded

RECIPE = Recipe(network="mini_convnet", lr=1e-3, batch_size=16, steps=8, evaluations=2, sensitivity_images=0)


def images(n: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 4
    x = torch.randint(0, 120, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    for i, quadrant in enumerate(y.tolist()):
        row, column = 16 * (quadrant // 2), 16 * (quadrant % 2)
        x[i, :, row : row + 16, column : column + 16] += 120
    return Images(x, y)


def loaded() -> Loaded:
    test = {"shifted": images(32, 2), "same": images(32, 3)}
    return Loaded(images(64, 0), images(32, 1), test, {}, ["same"], ("shifted", "same"), "0" * 16, 4)


def asked(method: str = "erm", seed: int = 0, **changes: object) -> Asked:
    recipe = RECIPE.model_copy(update={k: v for k, v in changes.items() if k in Recipe.model_fields})
    values: dict[str, object] = {
        "protocol": "common",
        "recipe": recipe,
        "method": method,
        "settings": {},
        "variant": "",
        "dataset": "minidigits",
        "dataset_settings": {},
        "fingerprint": "0" * 16,
        "source": "same",
        "seed": seed,
        "budget": "steps",
        "device": "cpu",
    }
    return Asked.model_validate(values | {k: v for k, v in changes.items() if k in Asked.model_fields})


def change_recipe(monkeypatch: pytest.MonkeyPatch, dataset: str, **changes: object) -> None:
    """Changes fields of a dataset's recipe under common, for a test."""
    changed = [
        terms.model_copy(update={"recipe": terms.recipe.model_copy(update=changes)})
        if (terms.protocol, terms.method, terms.dataset) == ("common", None, dataset) and terms.recipe
        else terms
        for terms in protocols.TERMS
    ]
    assert changed != protocols.TERMS
    monkeypatch.setattr(protocols, "TERMS", changed)
