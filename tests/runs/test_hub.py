"""Kept networks on a Hugging Face hub that stands in this process: what is sent, what is refused, what loads back."""

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants, snapshot_download

import benchmark
from benchmark import export
from benchmark.core.outcome import Weights
from benchmark.core.record import Record
from benchmark.runs import hub as runs_hub
from benchmark.runs.card import card, hub_card
from tests import handmade
from tests.pretend_hub import Hub, metadata, serve
from tests.runs.kept import normalised, run_of

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ALL = {"README.md", "record.json", "weights.safetensors", "config.json", "model.safetensors"}
TO = ["--push-to-hub", "someone/mini"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub that the library goes to, with a token that may write there."""
    with serve(Hub()) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the protocol that a stand-in can check
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        yield running
        assert running.strange == []


def test_what_is_pushed_is_the_folder_and_loads_back_into_timm(
    kept: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "look"
    assert export.main([str(kept), "--folder", str(folder), *TO]) == 0
    shown = capsys.readouterr().out
    assert "it loads into timm" in shown
    assert f"sent to {hub.address}/someone/mini" in shown
    there = hub.repositories["someone/mini"]
    assert there.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert there.files.keys() == ALL
    assert not there.private
    record = Record.model_validate_json((kept / "record.json").read_text())
    assert there.commits == [f"erm on minidigits/same, run {record.run_id}"]
    for name in ("record.json", "weights.safetensors"):
        assert there.files[name] == (kept / name).read_bytes()
    net = timm.create_model("hf_hub:someone/mini", pretrained=True, cache_dir=tmp_path / "cache").eval()
    ours = benchmark.load_model(kept)
    with torch.inference_mode():
        torch.testing.assert_close(net(normalised(net, X)), ours(X))
        again = benchmark.load_model(snapshot_download("someone/mini", cache_dir=tmp_path / "cache"))
        assert torch.equal(again(X), ours(X))


def test_nothing_is_sent_without_the_flag(kept: Path, hub: Hub, tmp_path: Path) -> None:
    assert export.main([str(kept)]) == 0
    assert export.main([str(kept), "--folder", str(tmp_path / "look")]) == 0
    assert hub.seen == []


def test_the_card_has_the_metadata_of_a_model_card(kept: Path, tmp_path: Path) -> None:
    assert export.main([str(kept), "--folder", str(tmp_path / "a")]) == 0
    text = (tmp_path / "a" / "README.md").read_text()
    about = metadata(text)
    record = Record.model_validate_json((kept / "record.json").read_text())
    assert card(record) in text
    assert "license" not in about
    assert (about["library_name"], about["pipeline_tag"], about["metrics"]) == (
        "timm", "image-classification", ["accuracy"],
    )  # fmt: skip
    assert {"timm", "dg-referee", "domain-generalization", "erm"} <= set(about["tags"])
    (model,) = about["model-index"]
    assert model["name"] == f"minidigits-erm-{record.run_id}"
    found = {result["dataset"]["config"]: result for result in model["results"]}
    assert {name: result["metrics"][0]["value"] for name, result in found.items()} == {"shifted": 0.5, "same": 0.9}
    assert found["shifted"]["dataset"] == {
        "name": "minidigits/shifted", "type": "minidigits", "config": "shifted", "split": "test",
    }  # fmt: skip
    assert f'timm.create_model("hf_hub:OWNER/minidigits-erm-{record.run_id}", pretrained=True)' in text
    assert export.main([str(kept), "--folder", str(tmp_path / "b"), "--license", "cc-by-4.0"]) == 0
    assert metadata((tmp_path / "b" / "README.md").read_text())["license"] == "cc-by-4.0"


@pytest.mark.parametrize(
    ("rule", "step", "reached"), [("source-val", 4, (95.0, 50.0, 90.0)), ("last", 8, (94.0, 49.0, 90.0))]
)
def test_the_card_gives_what_the_network_that_was_kept_has_reached(
    rule: str, step: int, reached: tuple[float, float, float]
) -> None:
    made = handmade.record("erm", 0, selection=rule)
    made = made.model_copy(update={"weights": Weights(sha256="0" * 64, classes=("ant", "bee", "cat", "dog"))})
    text = hub_card(made, "someone/mini", "another network", None)
    parts = ("source validation", "shifted", "same")
    for part, percent in zip(parts, reached, strict=True):
        assert f"| {part} | 32 | {percent} |" in text
    assert f"| selected at step | {step} |" in text
    assert f"the rule `{rule}` chose" in text
    (model,) = metadata(text)["model-index"]
    found = [
        (each["dataset"]["config"], each["dataset"]["split"], each["metrics"][0]["value"]) for each in model["results"]
    ]
    at, splits = ("same", "shifted", "same"), ("validation", "test", "test")
    assert sorted(found) == sorted(zip(at, splits, [percent / 100 for percent in reached], strict=True))


def test_the_configuration_is_what_timm_reads(kept: Path, tmp_path: Path) -> None:
    assert export.main([str(kept), "--folder", str(tmp_path / "a")]) == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("test_resnet", 4)
    assert config["label_names"] == ["ant", "bee", "cat", "dog"]
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]


def test_a_network_that_timm_has_not_is_sent_without_its_form_and_says_why(
    kept: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(kept), *TO]) == 0
    hub.repositories["someone/mini"].files["notes.txt"] = b"the owner's"
    for name, network, method, why in (
        ("own", "mini_convnet", "erm", "mini_convnet is not a network of timm"),
        ("dubin", "timm:test_resnet", "augmax", "dual_norm=dubin"),
    ):
        folder = run_of(tmp_path / name, network, method)
        capsys.readouterr()
        assert export.main([str(folder), *TO]) == 0
        assert re.search(f"it does not load into timm: .*{why}", capsys.readouterr().out)
        files = hub.repositories["someone/mini"].files
        assert files.keys() == {"README.md", "record.json", "weights.safetensors", "notes.txt"}  # no older form is left
        assert files["weights.safetensors"] == (folder / "weights.safetensors").read_bytes()
        text = files["README.md"].decode()
        assert "library_name" not in metadata(text)
        assert "It does not load into timm: " in text
        assert "hf_hub:" not in text


def test_a_private_repository_is_made_private_and_a_public_one_is_refused(
    kept: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(kept), *TO, "--private"]) == 0
    assert hub.repositories["someone/mini"].private
    assert export.main([str(kept), *TO, "--private"]) == 0  # once more
    hub.repositories["someone/mini"].private = False
    sent = list(hub.repositories["someone/mini"].commits)
    assert export.main([str(kept), *TO, "--private"]) == 2
    assert "someone/mini is there already and is public" in capsys.readouterr().err
    assert hub.repositories["someone/mini"].commits == sent


@pytest.mark.parametrize(
    ("token", "words", "says"),
    [
        ("", TO, "there is no token; log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", TO, "the hub does not know the token; log in again"),
        ("hf_reader", TO, "the token may not write there; take one with write access"),
        (
            "hf_writer",
            ["--push-to-hub", "other/mini"],
            "(403: You don't have the rights to create a model under other)",
        ),
        ("hf_writer", ["--push-to-hub", "mini"], "name the repository as OWNER/NAME"),
        ("hf_writer", ["--push-to-hub", "a/b/c"], "--push-to-hub a/b/c: Repo id must be in the form"),
        (
            "hf_writer",
            [*TO, "--license", "mine"],
            'the hub refused: Invalid metadata in README.md. - "license" must be',
        ),
        ("hf_writer", ["--private"], "--private says how it is sent; give --push-to-hub OWNER/NAME, too"),
        ("hf_writer", ["--private", "--folder", "new"], "--private says how it is sent; give --push-to-hub OWNER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_named(
    token: str, words: list[str], says: str, kept: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    assert export.main([str(kept), *words]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.startswith("error: --p")
    assert "Traceback" not in shown
    assert not any(repository.commits for repository in hub.repositories.values())


def test_a_hub_that_is_not_there_is_named(
    kept: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert export.main([str(kept), *TO]) == 2
    assert "--push-to-hub someone/mini: the hub was not reached: " in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine"):
        assert export.main([str(kept), "--folder", str(folder)]) == 2
        assert "there is something already; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_export_that_breaks_off_can_be_given_again(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(kept), "--folder", str(tmp_path / "new")]

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runs_hub, "hub_card", full)
        assert export.main(words) == 2
    assert f"error: the export to {tmp_path / 'new'} failed: [Errno 28] No space left" in capsys.readouterr().err
    assert export.main(words) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == ALL


def test_weights_that_were_damaged_are_not_sent(kept: Path, hub: Hub, tmp_path: Path) -> None:
    folder = run_of(tmp_path / "damaged")
    (folder / "weights.safetensors").write_bytes(b"x")
    assert export.main([str(folder), *TO]) == 2
    assert hub.seen == []


def test_the_hub_of_these_tests_takes_no_other_bytes_than_announced() -> None:
    hub = Hub()
    assert hub.put("0" * 64, "3", body=b"abc", may="write")[0] == 400
    assert hub.answer("POST", "/api/elsewhere", "hf_writer", b"{}")[0] == 404
    assert hub.strange == ["POST /api/elsewhere"]
