"""Pretrained weights: by tag, from a local file, or none; the record says which, and whatever does not fit is named."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from benchmark import networks, run
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Recipe
from benchmark.networks import weights
from benchmark.networks.classifiers import build
from benchmark.runs.store import Store
from tests.faults.harness import light

NAME = "timm:mobilenetv3_small_050"
TAG = f"{NAME}.lamb_in1k"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as timm stores them, with a head of seven classes."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(11)
    save_file(timm.create_model(NAME.removeprefix("timm:"), num_classes=7).state_dict(), path)
    return path


def loaded(path: Path, classes: int, name: str = NAME) -> networks.Classifier:
    network, kind, file = weights.choose(name, "scratch", str(path))
    net = build(network, classes, 0, kind)
    weights.load_weights(net, kind, file)
    return net


@pytest.mark.parametrize("classes", [3, 7])
def test_a_local_file_gives_its_weights_and_a_head_where_it_fits(file: Path, classes: int) -> None:
    torch.manual_seed(11)
    original: Any = timm.create_model(NAME.removeprefix("timm:"), num_classes=7)
    net, fresh = loaded(file, classes), build(NAME, classes, 0)
    trunk = net.trunk.state_dict()
    assert all(torch.equal(trunk[name], value) for name, value in original.state_dict().items() if name in trunk)
    head = original.state_dict()["classifier.weight"] if classes == 7 else fresh.head.weight
    assert torch.equal(net.head.weight, head)
    x = torch.rand(2, 3, 64, 64)
    seen: torch.Tensor = original.eval()((x - net.mean) / net.std)
    features = net.eval()(x, features=True)[1]
    torch.testing.assert_close(torch.nn.functional.linear(features, *original.get_classifier().parameters()), seen)


def test_counters_of_batches_are_those_of_the_file(file: Path, tmp_path: Path) -> None:
    """A momentum of None would weigh by them; a file without them leaves them at none."""
    stored, counter = load_file(file), "num_batches_tracked"
    for name, value in {"with": 7, "without": 0}.items():
        kept = {k: torch.tensor(7) if k.endswith(counter) else v for k, v in stored.items()}
        kept = {k: v for k, v in kept.items() if value or not k.endswith(counter)}
        save_file(kept, tmp_path / f"{name}.safetensors")
        net = loaded(tmp_path / f"{name}.safetensors", 7)
        assert {int(v) for k, v in net.state_dict().items() if k.endswith(counter)} == {value}


def test_a_file_of_the_suites_own_network(tmp_path: Path) -> None:
    path, original = tmp_path / "own.safetensors", build("mini_convnet", 4, 5)
    save_file(original.state_dict(), path)
    same, other = loaded(path, 4, "mini_convnet"), loaded(path, 6, "mini_convnet")
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), original.parameters(), strict=True))
    assert torch.equal(other.state_dict()["stem.weight"], original.state_dict()["stem.weight"])
    assert torch.equal(other.head.weight, build("mini_convnet", 6, 0).head.weight)


def test_a_tag_is_fetched_from_its_repository(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    net = build(NAME, 3, 0, TAG)
    weights.load_weights(net, TAG, None)
    assert asked == [("timm/mobilenetv3_small_050.lamb_in1k", "model.safetensors")]
    assert torch.equal(
        net.trunk.state_dict()["conv_stem.weight"], loaded(file, 3).trunk.state_dict()["conv_stem.weight"]
    )


def test_networks_normalise_as_their_weights_were_trained() -> None:
    vit = "timm:vit_tiny_patch16_224"
    plain, tagged = build(vit, 3, 0), build(vit, 3, 0, f"{vit}.augreg_in21k_ft_in1k")
    torch.testing.assert_close(plain.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(tagged.mean.flatten(), torch.tensor([0.5, 0.5, 0.5]))
    torch.testing.assert_close(tagged.std.flatten(), torch.tensor([0.5, 0.5, 0.5]))


def test_weights_that_cannot_be_fetched_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(UsageError) as caught:
        weights.fetch("timm:resnet18.tv_in1k")
    for part in (
        "timm:resnet18.tv_in1k: no route to host",
        "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors",
        "--weights model.safetensors",
        "--weights scratch",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "protocol", "given", "expected"),
    [
        ("mini_convnet", "scratch", None, ("mini_convnet", "scratch")),
        (NAME, "scratch", "pretrained", (NAME, TAG)),
        (TAG, "scratch", None, (NAME, TAG)),
        (TAG, "scratch", "pretrained", (NAME, TAG)),
        (TAG, "scratch", "scratch", (NAME, "scratch")),
        (NAME, TAG, None, (NAME, TAG)),
        (NAME, TAG, "scratch", (NAME, "scratch")),
        ("timm:resnet18", "scratch", "timm:resnet18.tv_in1k", ("timm:resnet18", "timm:resnet18.tv_in1k")),
    ],
)
def test_what_is_chosen(network: str, protocol: str, given: str | None, expected: tuple[str, str]) -> None:
    assert weights.choose(network, protocol, given) == (*expected, None)


@pytest.mark.parametrize(
    ("network", "protocol", "given", "says"),
    [
        ("mini_convnet", "scratch", "pretrained", "'mini_convnet' has no pretrained weights"),
        ("mini_convnet", TAG, None, "'mini_convnet' has no pretrained weights"),
        ("timm:resnet18", TAG, None, "are not of timm:resnet18; give --weights pretrained"),
        ("timm:resnet18", "scratch", "timm:resnet18.tv_in2k", "did you mean 'resnet18.tv_in1k'"),
        ("timm:resnet18", "scratch", "timm:resnet18", "timm has no file of them"),
        ("timm:resnet18", "scratch", "weights.pt", "neither 'scratch' nor 'pretrained' nor a .safetensors"),
        ("timm:resnet18", "scratch", "absent.safetensors", "nor a .safetensors file that is there"),
    ],
)
def test_what_cannot_be_chosen(network: str, protocol: str, given: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        weights.choose(network, protocol, given)


def test_files_that_do_not_fit_are_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.safetensors: not the weights of this network: .* is nothing"):
        loaded(file, 3, "timm:resnet18")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"damaged\.safetensors: not a whole safetensors file"):
        loaded(damaged, 3)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"weight": torch.zeros(2)}, pickled)
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        loaded(pickled, 3)
    with pytest.raises(UsageError, match="not the weights that the run was planned with"):
        weights.load_weights(build(NAME, 3, 0), "sha256:" + "0" * 64, file)


def test_the_field_changes_no_earlier_id() -> None:
    assert "weights" not in Recipe(network="mini_convnet").model_dump(mode="json")
    assert "weights" not in Recipe(network="mini_convnet").model_dump_json()
    recipe = Recipe(network="timm:resnet18", weights="timm:resnet18.tv_in1k")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_run_says_what_it_started_from_and_never_where_that_lay(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_file(build("mini_convnet", 10, 5).state_dict(), path)
    words = ["--methods", "erm", "--seeds", "0", "--steps", "1", "--sensitivity-images", "0", "--device", "cpu"]
    with light():
        assert run.main([*words, "--weights", str(path), "--out", str(tmp_path / "out")]) == 0
    (record,) = Store(tmp_path / "out").read_all()
    assert record.asked.recipe.weights.startswith("sha256:")
    assert str(path) not in record.asked.model_dump_json()
    assert f"--weights {path}" in record.ran.command
    assert record.ran.normalisation == ([0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("digits_convnet", 64, 64), ("mini_convnet", 48, 32), ("timm:vit_tiny_patch16_224", 64, 64)],
)
def test_a_network_that_does_not_take_the_images_is_refused(name: str, height: int, width: int) -> None:
    with pytest.raises(UsageError, match=f"'{name}' does not take images of {height}x{width}.*one that does: "):
        networks.check_size(name, height, width)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ((32, 32), "digits_convnet"),
        ((48, 32), "resnet18_cifar"),
        ((32, 96), "resnet18_cifar"),
        ((64, 96), "timm:resnet18"),
    ],
)
def test_the_network_for_a_size(size: tuple[int, int], name: str) -> None:
    assert networks.by_size(*size) == name
    networks.check_size(name, *size)
