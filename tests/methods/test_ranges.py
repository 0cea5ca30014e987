"""Settings out of range are refused, and the refusal names them."""

from typing import Any

import pytest
from pydantic import ValidationError

from benchmark import registry
from tests.making import made

WRONG: dict[str, list[dict[str, Any]]] = {
    "aaua": [{"lam": -1}, {"loss": "both"}, {"bn_batching": "none"}],
    "aba": [{"kernel_sizes": (2,)}, {"kernel_sizes": ()}, {"beta": -1}, {"kl": "x"}, {"w": 2.5}],
    "advst": [{"k": -1}, {"temperature": 0}, {"adv_steps": 0}, {"adv_lr": 0}, {"tolerance": -1}],
    "afa": [{"mean": -1}, {"highest": "all"}, {"objective": "mean"}, {"lam": -1}, {"minimum": -1}],
    "alt": [{"tv": -1}, {"biases": "x"}, {"clamp_random": "on"}],
    "apr": [{"form": "PS"}, {"p": 1.5}, {"overflow": "no"}, {"lam": -1}, {"severity": 11}],
    "augmax": [
        {"steps": 0}, {"tau": 0}, {"attacker": "fgsm"}, {"severity": 0.1}, {"dual_norm": "both"}, {"lam": -1.0},
    ],
    "augmix": [
        {"severity": 11.0}, {"severity": 0.0}, {"width": 0}, {"depth": -2}, {"alpha": 0.0}, {"lam": -1.0},
        {"ops": "ten"}, {"ops": ()}, {"ops": ("spin",)}, {"bn_batching": "none"}, {"unknown": 1},
    ],
    "gud": [{"gamma": -1}, {"adv_steps": 0}, {"phases": -1}, {"interval": 0}, {"batch": 0}, {"clip": "x"}],
    "mada": [{"beta": -1}, {"adv_steps": 0}, {"interval": 0}, {"batch": 0}, {"wae_epochs": 0}, {"wae_grad": "x"}],
    "me_ada": [{"entropy": -1}, {"phases": -1}],
    "prime": [{"k": 4}, {"k": 1}, {"sigma": -1}, {"cut_max": 1}, {"delta": "middle"}, {"T": -1}],
    "pro_randconv": [
        {"k": 2}, {"L_max": 0}, {"b_delta": -1}, {"eps_g": 0}, {"lam": -1}, {"clean": False, "lam": 0.0},
    ],
    "randconv": [
        {"kernel_sizes": ()}, {"kernel_sizes": (2,)}, {"kernel_sizes": 3}, {"identity_prob": 1.5}, {"lam": -1},
        {"views": "x"},
    ],
    "sada": [
        {"epsilon": -0.1}, {"num_steps": -1}, {"direction": "up"}, {"severity": 0.05}, {"ops": ["blur"]}, {"eps": 1},
    ],
}  # fmt: skip


def test_every_method_that_has_settings_is_tried() -> None:
    assert WRONG.keys() == {*registry.names("method")} - {"erm"}


@pytest.mark.parametrize(("name", "wrong"), [(name, each) for name, all_of in WRONG.items() for each in all_of])
def test_settings_out_of_range(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        made(name, **wrong)
    assert {error["loc"][0] for error in refused.value.errors()} <= set(wrong)
