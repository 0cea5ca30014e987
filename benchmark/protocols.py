"""Named recipes: what is equal for all methods of one comparison, one frozen value each.

common: one network, optimiser, budget and data treatment for all methods, so that rows can be compared.
strict: as that method's own authors ran it, so that a row can be held against their printed number and nothing else.
"""

from typing import Any

from pydantic import Field

from benchmark.errors import UsageError, did_you_mean
from benchmark.spec import Noun, Recipe


class Protocol(Noun):
    """recipes: by dataset or 'method@dataset', '*' for any other. settings: what the protocol fixes, by 'method',
    'method@dataset', or 'dataset for method'; they are its own values, so a row that keeps them carries no variant."""

    summary: str
    recipes: dict[str, Recipe]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


# Phases of GUD and M-ADA every tenth step: a third of an epoch of the 1,000 images, as every hundredth is of 10,000.
_MINI_PHASES = {"gud@minidigits": {"interval": 10}, "mada@minidigits": {"interval": 10}}

PROTOCOLS: dict[str, Protocol] = {
    "common": Protocol(
        summary="one network, optimiser, budget and data treatment for all methods",
        recipes={
            "minidigits": Recipe(network="mini_convnet", lr=1e-3, steps=300, evaluations=5, sensitivity_images=100),
            "digits": Recipe(network="digits_convnet", lr=1e-4, steps=10_000, evaluations=10),
            "*": Recipe(network="digits_convnet", lr=1e-4, steps=10_000),
        },
        settings=_MINI_PHASES,
    ),
}


def recipe_for(protocol: str, method: str, dataset: str) -> tuple[Recipe, dict[str, Any], dict[str, Any]]:
    """The recipe of a run, and the settings that the protocol gives its method and its dataset.

    Raises UsageError for an unknown protocol, or where the protocol has no recipe for this method on this dataset.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{protocol}': {did_you_mean(protocol, PROTOCOLS)}")
    found = PROTOCOLS[protocol]
    for name in (f"{method}@{dataset}", dataset, "*"):
        if name in found.recipes:
            settings = found.settings.get(method, {}) | found.settings.get(f"{method}@{dataset}", {})
            return found.recipes[name], settings, found.settings.get(f"{dataset} for {method}", {})
    raise UsageError(
        f"protocol '{protocol}' has no recipe for {method} on {dataset}; it has: {', '.join(sorted(found.recipes))}"
    )
