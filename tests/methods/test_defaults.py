"""Every method's settings are by default what its released code has; docs/methods/ names the source of each."""

from dataclasses import fields
from typing import Any

import pytest

from benchmark import registry

NINE = "autocontrast equalize posterize rotate solarize shear_x shear_y translate_x translate_y"
RELEASED: dict[str, dict[str, Any]] = {
    "aaua": {
        "steps": 5, "step_size": 1.0, "low_frequency": 0.1, "statistic": "sd", "clamp_amplitude": False,
        "attack_in": "train", "saliency": "signed", "symmetric": False, "recon_norm": "batch_max", "magnitude": "abs",
        "loss_of": "released", "lam": 1.0, "bn_batching": "separate",
    },
    "advst": {
        "lam": 100.0, "eta": 0.0, "adv_lr": 0.2, "rms_decay": 0.99, "adv_steps": 20, "tolerance": 0.1, "batch": 256,
        "k": 5, "eta_min": 10.0, "con": 1.0, "temperature": 0.07, "projection": 128, "interval": 0,
        "keep_source": False, "shuffle": False,
    },
    "afa": {
        "mean": 5.0, "minimum": 0.0, "highest": "reference", "objective": "ace", "lam": 10.0, "base": "clean",
        "severity": 3.0, "dual_norm": "dual_bn",
    },
    "apr": {
        "form": "P", "p": 0.6, "lam": 1.0, "bn_batching": "joint", "severity": 3.0, "p_single": 0.5,
        "overflow": "wrap",
    },
    "augmax": {
        "lam": 10.0, "steps": 5, "step_size": 0.1, "attacker": "fat", "tau": 1, "early_stop": "reference",
        "severity": 3.0, "width": 3, "depth": -1, "all_ops": False, "dual_norm": "dubin",
    },
    "augmix": {
        "severity": 3.0, "width": 3, "depth": -1, "alpha": 1.0, "ops": "nine", "jsd": True, "lam": 12.0,
        "bn_batching": "joint",
    },
    "mada": {
        "batch": 32, "wae_epochs": 20, "wae_hidden": 400, "wae_code": 20, "wae_critic": 128, "wae_lr": 0.001,
        "wae_weight": 100.0, "wae_grad": "standard", "wae_prior": "both", "gamma": 1.0, "beta": 2000.0, "eta": 1.0,
        "adv_steps": 25, "phases": 3, "interval": 100, "batch_mean": "reference", "clip": False, "inner_lr": 1e-4,
    },
    "prime": {
        "k": 3, "sigma": 4.0, "delta": "released", "frequencies": 100, "T": 0.01, "cut_max": 100, "per_image": False,
        "width": 3, "depth": -1, "alpha": 1.0, "jsd": True, "lam": 12.0, "bn_batching": "joint",
    },
    "pro_randconv": {
        "k": 3, "L_max": 10, "b_delta": "by_size", "eps_delta": 0.001, "eps_g": 0.01, "sigma_style": 0.5,
        "offsets": "per_image", "per_image": False, "clean": True, "lam": 1.0, "bn_batching": "separate",
    },
    "randconv": {
        "kernel_sizes": (1, 3, 5, 7), "mixing": True, "identity_prob": 0.0, "lam": 10.0, "views_of": "reference",
        "per_image": False, "clamp_output": "off", "distribution": "kaiming_normal", "bias": False,
        "bn_batching": "separate",
    },
    "sada": {
        "epsilon": 0.2, "step_size": 0.08, "num_steps": 5, "tau": 1, "random_init": True, "randominit_type": "normal",
        "criterion": "ce", "direction": "neg", "early_stop": "reference", "recon_norm": "batch_max",
        "magnitude": "abs", "project": False, "brightness": "reference", "weight_map": "erm", "map_images": 256,
        "base": "augmix", "lam": 0.025, "lam_warmup": 10.0, "warmup": 0.12, "n_views": 3, "severity": 2.0, "width": 3,
        "depth": -1, "alpha": 1.0, "ops": (*NINE.split(), "color", "contrast", "brightness", "sharpness"),
        "bn_batching": "separate",
    },
}  # fmt: skip
ELSEWHERE = {"erm", "gud", "me_ada", "alt", "aba"}
"""Without settings, or with a test of their own."""


def test_every_method_has_a_list_of_its_defaults() -> None:
    assert RELEASED.keys() | ELSEWHERE == set(registry.names("method"))


@pytest.mark.parametrize("method", RELEASED)
def test_released_settings_are_the_defaults(method: str) -> None:
    made = registry.make("method", method, {})
    assert {field.name: getattr(made, field.name) for field in fields(made)} == RELEASED[method]
