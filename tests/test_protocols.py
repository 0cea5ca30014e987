"""Protocols: the recipes resolve, and strict is what the fact sheets of the methods say."""

import pytest

from benchmark import networks, protocols, registry
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Recipe, Terms
from benchmark.protocols import PROTOCOLS, recipe_for

CIFAR = "cifar10c", "cifar100c"
RELEASED = dict.fromkeys(("erm", "gud", "mada", "randconv", "sada"), ("digits",)) | {"augmix": CIFAR, "augmax": CIFAR}
"""What each of the seven released codes trains on."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", registry.names("method"))
@pytest.mark.parametrize("dataset", registry.names("dataset"))
def test_every_method_has_a_recipe_with_settings_that_exist(protocol: str, method: str, dataset: str) -> None:
    brought = registry.find("method", method).terms
    own = [t for t in brought if t.protocol == protocol and t.recipe and t.dataset in (None, dataset)]
    if protocol == "strict" and dataset not in RELEASED.get(method, ()) and not own:
        with pytest.raises(UsageError, match=f"'strict' has no recipe for {method} on {dataset}; it has"):
            recipe_for(protocol, method, dataset)
        return
    recipe, settings, data_settings = recipe_for(protocol, method, dataset)
    registry.make("method", method, settings)
    registry.make("dataset", dataset, data_settings)
    network = networks.by_size(32, 32) if recipe.network == "by_size" else recipe.network
    networks.check_size(network, 224 if network.startswith("timm:") else 32, 224 if network.startswith("timm:") else 32)


def test_where_a_method_was_not_released_its_datasets_are_named() -> None:
    with pytest.raises(UsageError, match="no recipe for augmix on pacs; it has one on cifar100c, cifar10c"):
        recipe_for("strict", "augmix", "pacs")


def test_common_is_one_recipe_for_all_methods() -> None:
    for dataset in registry.names("dataset"):
        assert len({recipe_for("common", method, dataset)[0] for method in registry.names("method")}) == 1


PHOTOS = Recipe(
    network="timm:resnet18", weights="timm:resnet18.tv_in1k", optimizer="sgd", lr=0.004, momentum=0.9,
    schedule="cosine", batch_size=32, steps=2_000, evaluations=10, loader="crop_flip", selection="source-val",
    sensitivity_images=100,
)  # fmt: skip
"""ALT's run on PACS, which is also ABA's and the common one."""
MINI = Recipe(
    network="mini_convnet", optimizer="adam", lr=1e-3, batch_size=32, steps=150, evaluations=5,
    selection="source-val", sensitivity_images=100,
)  # fmt: skip
"""`make bench`."""
DIGITS = Recipe(
    network="digits_convnet", optimizer="adam", lr=1e-4, batch_size=32, steps=10_000, epoch_steps=250, evaluations=40,
    selection="source-val",
)  # fmt: skip
"""RandConv's script; selection by its own views is a flag of it."""
OFFSET: dict[str, object] = {"subset": "offset5k", "resize": "lanczos"}
LEARNED: dict[str, object] = {"round_steps": 100, "pre_rounds": 4, "adv_lr": 5e-5}
FULL: dict[tuple[str, str, str], tuple[Recipe, dict[str, object], dict[str, object]]] = {
    ("common", "erm", "digits"): (
        Recipe(network="digits_convnet", optimizer="adam", lr=1e-4, batch_size=32, steps=10_000, evaluations=4,
               selection="source-val", sensitivity_images=100), {}, {},
    ),
    ("common", "erm", "minidigits"): (MINI, {}, {}),
    ("common", "gud", "minidigits"): (MINI, {"interval": 10}, {}),
    ("common", "mada", "minidigits"): (MINI, {"interval": 10, "wae_epochs": 5}, {}),
    ("common", "erm", "pacs"): (PHOTOS, {}, {}),
    ("common", "alt", "pacs"): (PHOTOS, LEARNED, {}),
    ("common", "aba", "pacs"): (PHOTOS, LEARNED, {}),
    ("common", "erm", "folder"): (PHOTOS.model_copy(update={"network": "by_size", "weights": "scratch"}), {}, {}),
    ("strict", "alt", "pacs"): (PHOTOS, LEARNED, {}),
    ("strict", "aba", "pacs"): (PHOTOS, LEARNED, {}),
    ("strict", "erm", "digits"): (DIGITS, {}, {"mnist_m": "pickle10k"}),
    ("strict", "randconv", "digits"): (
        DIGITS.model_copy(update={"selection": "source-val-views"}), {}, {"mnist_m": "pickle10k"}
    ),
    ("strict", "gud", "digits"): (
        Recipe(
            network="digits_convnet_tf", optimizer="adam", lr=1e-4, batch_size=32, steps=10_001, evaluations=1,
            sampler="sequential", selection="last",
        ), {}, OFFSET,
    ),
    ("strict", "mada", "digits"): (
        Recipe(
            network="digits_convnet_01", optimizer="adam", lr=1e-4, batch_size=32, steps=10_001, evaluations=10,
            selection="last",
        ), {}, OFFSET,
    ),
    ("strict", "pro_randconv", "digits"): (
        Recipe(
            network="digits_convnet", optimizer="sgd", lr=0.01, momentum=0.9, schedule="cosine", batch_size=64,
            steps=500 * 156, evaluations=10, selection="source-val",
        ), {}, {},
    ),
    ("strict", "advst", "digits"): (
        Recipe(
            network="digits_convnet_01", optimizer="adam", lr=1e-4, schedule="step", step_every=0.5, batch_size=32,
            steps=88_920, evaluations=50, selection="source-val",
        ), {}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FULL, ids=" ".join)
def test_recipes_are_what_the_fact_sheets_say(what: tuple[str, str, str]) -> None:
    recipe, settings, data_settings = recipe_for(*what)
    assert (recipe, settings, data_settings) == FULL[what]


def test_a_dataset_that_brings_no_recipe_gets_the_general_one() -> None:
    (terms,) = (t for t in protocols.TERMS if t.protocol == "common" and t.recipe and not t.dataset and not t.method)
    general = Recipe(network="by_size", optimizer="adam", lr=1e-4, batch_size=32, steps=10_000, selection="source-val")
    assert terms.recipe == general


def test_strict_sada_is_the_released_run() -> None:
    recipe, settings, data_settings = recipe_for("strict", "sada", "digits")
    assert (recipe.batch_size, recipe.steps, recipe.evaluations) == (256, 50 * (60_000 // 256), 50)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (recipe.schedule, recipe.step_every * recipe.evaluations) == ("step", 20)
    assert (recipe.loader, recipe.selection) == ("jitter_log", "last-within-5")
    assert settings["weight_map"] == "none"
    assert data_settings == {"subset": "all60k", "resize": "resize36_crop32"}
    warmup = registry.make("method", "sada", settings).settings()["warmup"]
    assert warmup * recipe.evaluations == 6  # epochs
    net = networks.build(recipe.network, 10, 0)
    assert (net.mean.max().item(), net.std.max().item()) == (0, 1)


def test_strict_gud_and_mada_take_the_other_ten_thousand() -> None:
    for method in ("gud", "mada"):
        recipe, _, data_settings = recipe_for("strict", method, "digits")
        assert data_settings == {"subset": "offset5k", "resize": "lanczos"}
        assert (recipe.steps, recipe.batch_size, recipe.lr, recipe.selection) == (10_001, 32, 1e-4, "last")
    assert recipe_for("strict", "gud", "digits")[0].sampler == "sequential"


def test_strict_randconv_is_chosen_by_its_own_views_as_its_code_does() -> None:
    recipe, _, data_settings = recipe_for("strict", "randconv", "digits")
    plain, _, same = recipe_for("strict", "erm", "digits")
    assert (recipe.selection, plain.selection) == ("source-val-views", "source-val")
    assert recipe == plain.model_copy(update={"selection": recipe.selection})
    assert data_settings == same == {"mnist_m": "pickle10k"}


@pytest.mark.parametrize("dataset", ["cifar10c", "cifar100c"])
def test_strict_augmix_and_augmax_are_tested_on_the_official_arrays(dataset: str) -> None:
    for method in ("augmix", "augmax"):
        assert recipe_for("strict", method, dataset)[2] == {"corrupted": "official"}
        assert recipe_for("common", method, dataset)[2] == {}


def test_strict_augmax_is_the_released_command() -> None:
    """200 epochs of CIFAR's 50,000 images in batches of 256, attacked for 10 steps where 5 are the default."""
    recipe, settings, _ = recipe_for("strict", "augmax", "cifar10c")
    assert registry.make("method", "augmax", settings).settings()["steps"] == 10
    assert registry.make("method", "augmax", {}).settings()["steps"] == 5
    assert (recipe.steps, recipe.batch_size, recipe.selection) == (200 * -(-50_000 // 256), 256, "source-val")


def test_what_has_no_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean 'strict'"):
        recipe_for("stricter", "erm", "digits")
    narrow = [Terms(protocol="narrow", method="erm", recipe=protocols.CIFAR)]
    monkeypatch.setattr(protocols, "TERMS", narrow)
    monkeypatch.setitem(protocols.PROTOCOLS, "narrow", "")
    with pytest.raises(UsageError, match="protocol 'narrow' has no recipe for sada on digits; it has: erm"):
        recipe_for("narrow", "sada", "digits")


OWN = Recipe(network="mini_convnet", lr=0.5)


def brought(monkeypatch: pytest.MonkeyPatch, kind: registry.Kind, name: str, *terms: object) -> None:
    monkeypatch.setattr(registry.find(kind, name), "terms", terms)


def test_files_bring_their_own_terms_and_the_narrower_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "TERMS", [Terms(protocol="common", recipe=protocols.CIFAR)])
    brought(monkeypatch, "dataset", "minidigits", Terms(protocol="common", recipe=OWN),
            Terms(protocol="common", method="sada", method_settings={"severity": 2.0}))  # fmt: skip
    brought(monkeypatch, "method", "sada", Terms(protocol="common", method_settings={"severity": 1.0, "prob": 0.5}),
            Terms(protocol="strict", recipe=protocols.RANDCONV, dataset_settings={"limit": 3}))  # fmt: skip
    assert recipe_for("common", "sada", "minidigits") == (OWN, {"severity": 2.0, "prob": 0.5}, {})
    assert recipe_for("common", "sada", "digits") == (protocols.CIFAR, {"severity": 1.0, "prob": 0.5}, {})
    assert recipe_for("common", "erm", "minidigits") == (OWN, {}, {})
    assert recipe_for("strict", "sada", "minidigits") == (protocols.RANDCONV, {}, {"limit": 3})


@pytest.mark.parametrize(
    ("kind", "name", "terms", "said"),
    [
        ("method", "sada", Terms(protocol="common", recipe=OWN), "common is one recipe for all methods"),
        (
            "method",
            "sada",
            Terms(protocol="strict", dataset="digits", recipe=OWN),
            "are terms of 'strict' for this already",
        ),
        ("method", "sada", Terms(protocol="strict", method="erm"), "terms.method is 'erm'; a file speaks for 'sada'"),
        ("dataset", "digits", Terms(protocol="common", recipe=OWN), "are terms of 'common' for this already"),
        ("dataset", "digits", Terms(protocol="comon"), "did you mean 'common'"),
        ("dataset", "digits", {"recipe": OWN}, "terms holds dict"),
    ],
)
def test_terms_that_no_file_may_bring(
    monkeypatch: pytest.MonkeyPatch, kind: registry.Kind, name: str, terms: object, said: str
) -> None:
    brought(monkeypatch, kind, name, terms)
    with pytest.raises(UsageError, match=rf"{name}\.py: .*{said}"):
        recipe_for("common", "sada", "digits")


@pytest.mark.parametrize("dataset", ["cifar10c", "cifar100c"])
def test_common_cifar_is_augmixs_run(dataset: str) -> None:
    recipe, settings, _ = recipe_for("common", "sada", dataset)
    assert (recipe.network, recipe.batch_size, recipe.nesterov, recipe.schedule) == ("wrn_40_2", 128, True, "cosine")
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert (recipe.loader, recipe.selection) == ("pad_crop_flip", "last")
    assert recipe.steps == 100 * -(-45_000 // recipe.batch_size)
    assert settings == {"severity": 3.0}
    assert registry.make("method", "augmix", {}).settings()["severity"] == 3


@pytest.mark.parametrize("dataset", CIFAR)
def test_strict_augmix_and_augmax_are_the_released_optimisers_and_networks(dataset: str) -> None:
    augmix, augmax = (recipe_for("strict", method, dataset)[0] for method in ("augmix", "augmax"))
    for recipe in (augmix, augmax):
        assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
        assert (recipe.schedule, recipe.loader) == ("cosine", "pad_crop_flip")
    assert (augmix.network, augmix.nesterov, augmix.selection) == ("wrn_40_2", True, "last")
    assert (augmix.steps, augmix.batch_size, augmix.evaluations) == (100 * -(-50_000 // 128), 128, 100)
    assert (augmax.network, augmax.nesterov, augmax.evaluations) == ("wrn_40_2_01", False, 200)
