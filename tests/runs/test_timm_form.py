"""Kept networks in timm: the same logits, strictly the same weights, and the normalisation where timm looks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import benchmark
from benchmark import networks, registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.networks import weights
from benchmark.runs import timm_form
from benchmark.runs.timm_form import NoFormError, Scaling
from tests.runs.kept import CLASSES, config_of, normalised, run_of

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = Scaling(32, 32, "bilinear", "squash")


def logits(net: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = net(x)
    return found


@pytest.mark.parametrize("network", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_a_kept_network_gives_in_timm_the_same_logits_to_the_bit(network: str, tmp_path: Path) -> None:
    folder = run_of(tmp_path, f"timm:{network}")
    ours, theirs = benchmark.load_model(folder), benchmark.load_model(folder, as_timm=True)
    fresh = timm.create_model(network, num_classes=len(CLASSES)).eval()
    assert type(theirs) is type(fresh)
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    alike = ours.to(memory_format=torch.contiguous_format)  # as timm's lies; otherwise they differ by rounding
    wanted = logits(alike, X)
    assert wanted.std() > 0.05
    assert torch.equal(logits(theirs, normalised(theirs, X)), wanted)
    assert torch.equal(logits(fresh, normalised(theirs, X)), wanted)
    assert not torch.allclose(logits(theirs, X), wanted, atol=0.05)  # normalisation is no part of it


def test_what_the_caller_has_set_makes_no_other_network_and_stays(tmp_path: Path) -> None:
    folder = run_of(tmp_path, "timm:test_resnet")
    wanted = benchmark.load_model(folder, as_timm=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        state = torch.get_rng_state()
        with torch.device("meta"):
            found = benchmark.load_model(folder, as_timm=True)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(found, X), logits(wanted, X))


def test_its_configuration_says_how_this_run_normalised_and_scaled(tmp_path: Path) -> None:
    net: Any = benchmark.load_model(run_of(tmp_path), as_timm=True)
    assert config_of(net) == {
        "input_size": (3, 32, 32), "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash",
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
    }  # fmt: skip
    assert net.pretrained_cfg["label_names"] == list(CLASSES)
    assert not {"hf_hub_id", "url", "license", "tag", "test_input_size"} & net.pretrained_cfg.keys()


def test_normalisation_of_other_weights_comes_along() -> None:
    """These were trained with mean and std 0.5, and not ImageNet's."""
    net = networks.build("timm:vit_tiny_patch16_224", 4, 0, "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k").eval()
    found: Any = timm_form.as_timm(net, "timm:vit_tiny_patch16_224", CLASSES, Scaling(224, 224, "bicubic", "center"))
    config = config_of(found)
    assert (config["mean"], config["std"]) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (config["interpolation"], config["crop_mode"]) == ("bicubic", "center")


def test_pretrained_weights_come_back_as_timms(data_dir: Path) -> None:
    """A network that starts from timm's file has timm's logits, through this suite's form and back."""
    file = data_dir / "tf_efficientnet_lite0.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}")
    name, kind, path = weights.choose("timm:tf_efficientnet_lite0", "scratch", str(file))
    classes = [str(i) for i in range(1000)]
    net = networks.build(name, len(classes), 0, kind)
    weights.load_weights(net, kind, path)
    found = timm_form.as_timm(net.eval(), name, classes, Scaling(64, 64, "bicubic", "center"))
    original = timm.create_model("tf_efficientnet_lite0").eval()
    original.load_state_dict(load_file(file))
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(logits(found, x), logits(original, x))
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in original.state_dict().items())


def test_of_two_branches_it_has_the_clean_one(tmp_path: Path) -> None:
    folder = run_of(tmp_path, method="augmax", dual_norm="dual_bn")
    ours, theirs = benchmark.load_model(folder), benchmark.load_model(folder, as_timm=True)
    torch.testing.assert_close(logits(theirs, normalised(theirs, X)), logits(ours, X))
    kept = ours.state_dict()
    assert torch.equal(theirs.state_dict()["bn1.running_mean"], kept["trunk.bn1.main.running_mean"])
    assert not torch.equal(kept["trunk.bn1.main.running_mean"], kept["trunk.bn1.adversarial.running_mean"])


def test_what_the_loss_alone_uses_is_left_out() -> None:
    net = registry.make("method", "advst", {}).wrap(networks.build("timm:test_resnet", 4, 0)).eval()
    found: Any = timm_form.as_timm(net, "timm:test_resnet", CLASSES, SMALL)
    torch.testing.assert_close(logits(found, normalised(found, X)), logits(net, X))


def other_head(net: Any) -> None:
    net.head = torch.nn.Sequential(torch.nn.ReLU(), net.head)


def another_function(net: Any) -> None:
    net.trunk.register_forward_hook(lambda _module, _given, out: out.relu() - 1)


@pytest.mark.parametrize(
    ("network", "change", "says"),
    [
        ("mini_convnet", None, "mini_convnet is not a network of timm; networks timm:NAME have a form in it"),
        ("timm:deit_tiny_distilled_patch16_224", None, "not one classifier but ('head', 'head_dist')"),
        ("timm:test_resnet", other_head, "because its method changed it: "),
        ("timm:test_resnet", another_function, "computes something else between features and logits"),
    ],
)
def test_what_has_no_form_in_timm_is_named(network: str, change: Callable[[Any], None] | None, says: str) -> None:
    net = networks.build(network, 4, 0).eval()
    if change:
        change(net)
    with pytest.raises(NoFormError) as caught:
        timm_form.as_timm(net, network, CLASSES, SMALL)
    assert says in str(caught.value)


def test_dubin_says_which_setting_has_a_form(tmp_path: Path) -> None:
    folder = run_of(tmp_path, method="augmax")
    with pytest.raises(
        NoFormError, match=r"layer1\.0\.bn1, from augmax:dual_norm=dubin\); a run with dual_norm=dual_bn"
    ):
        benchmark.load_model(folder, as_timm=True)


def test_the_size_is_that_of_the_map_or_of_the_data_or_asked_for(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    record = Record.model_validate_json((folder / "record.json").read_text())
    assert timm_form.scaling(folder, record, None) == SMALL
    (folder / "sensitivity.npy").write_bytes(b"another")
    with pytest.raises(UsageError, match="its hash is not the recorded one"):
        timm_form.scaling(folder, record, None)
    (folder / "sensitivity.npy").unlink()
    source = record.asked.model_copy(update={"source": "uci"})
    assert timm_form.scaling(folder, record.model_copy(update={"asked": source}), None) == SMALL  # of minidigits
    elsewhere = record.asked.model_copy(
        update={"dataset": "folder", "source": "a", "dataset_settings": {"fit": "crop", "resize": "lanczos"}}
    )
    with pytest.raises(UsageError, match=r"is not known: .* give the data's folder, --data-dir DIR"):
        timm_form.scaling(folder, record.model_copy(update={"asked": elsewhere}), tmp_path / "nothing")


def test_how_a_dataset_scales_is_read_off_its_settings(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    record = Record.model_validate_json((folder / "record.json").read_text())
    asked = record.asked.model_copy(update={"dataset_settings": {"fit": "crop", "resize": "lanczos"}})
    found = timm_form.scaling(folder, record.model_copy(update={"asked": asked}), None)
    assert found == Scaling(32, 32, "lanczos", "center")
