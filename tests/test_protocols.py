"""Protocols: the recipes resolve, and strict is what the fact sheets of the methods say."""

import pytest

from benchmark import networks, protocols, registry
from benchmark.errors import UsageError
from benchmark.protocols import PROTOCOLS, recipe_for


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", registry.names("method"))
@pytest.mark.parametrize("dataset", registry.names("dataset"))
def test_every_method_has_a_recipe_with_settings_that_exist(protocol: str, method: str, dataset: str) -> None:
    recipe, settings, data_settings = recipe_for(protocol, method, dataset)
    registry.make("method", method, settings)
    registry.make("dataset", dataset, data_settings)
    network = networks.by_size(32, 32) if recipe.network == "by_size" else recipe.network
    networks.check_size(network, 224 if network.startswith("timm:") else 32, 224 if network.startswith("timm:") else 32)


def test_common_is_one_recipe_for_all_methods() -> None:
    for dataset in registry.names("dataset"):
        assert len({recipe_for("common", method, dataset)[0] for method in registry.names("method")}) == 1


def test_strict_sada_is_the_released_run() -> None:
    recipe, settings, data_settings = recipe_for("strict", "sada", "digits")
    assert (recipe.batch_size, recipe.steps, recipe.evaluations) == (256, 50 * (60_000 // 256), 50)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (recipe.schedule, recipe.step_every * recipe.evaluations) == ("step", 20)
    assert (recipe.loader, recipe.selection) == ("jitter_log", "last-within-5")
    assert settings["weight_map"] == "none"
    assert data_settings == {"subset": "all60k", "resize": "resize36_crop32"}
    sada = registry.make("method", "sada", settings)
    assert sada.warmup * recipe.evaluations == 6  # epochs
    net = networks.build(recipe.network, 10, 0)
    assert (net.mean.max().item(), net.std.max().item()) == (0, 1)


def test_strict_gud_and_mada_take_the_other_ten_thousand() -> None:
    for method in ("gud", "mada"):
        recipe, _, data_settings = recipe_for("strict", method, "digits")
        assert data_settings == {"subset": "offset5k", "resize": "lanczos"}
        assert (recipe.steps, recipe.batch_size, recipe.lr, recipe.selection) == (10_001, 32, 1e-4, "last")
    assert recipe_for("strict", "gud", "digits")[0].sampler == "sequential"


def test_glorot_initialisation_is_tensorflows_default() -> None:
    net = networks.build("digits_convnet_tf", 10, 0)
    weight = net.head.weight
    assert net.head.bias.abs().max() == 0
    assert weight.abs().max() <= (6 / (1024 + 10)) ** 0.5
    assert weight.abs().max() > 0.99 * (6 / (1024 + 10)) ** 0.5


def test_what_has_no_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean 'strict'"):
        recipe_for("stricter", "erm", "digits")
    monkeypatch.setitem(protocols.PROTOCOLS, "narrow", protocols.Protocol(summary="", recipes={"erm": protocols.CIFAR}))
    with pytest.raises(UsageError, match="protocol 'narrow' has no recipe for sada on digits; it has: erm"):
        recipe_for("narrow", "sada", "digits")


@pytest.mark.parametrize("dataset", ["cifar10c", "cifar100c"])
def test_common_cifar_is_augmixs_run(dataset: str) -> None:
    recipe, settings, _ = recipe_for("common", "sada", dataset)
    assert (recipe.network, recipe.batch_size, recipe.nesterov, recipe.schedule) == ("wrn_40_2", 128, True, "cosine")
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert (recipe.loader, recipe.selection) == ("pad_crop_flip", "last")
    assert recipe.steps == 100 * -(-45_000 // recipe.batch_size)
    assert settings == {"severity": 3.0}
    assert registry.make("method", "augmix", {}).severity == 3
