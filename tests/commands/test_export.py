"""Kept networks: they change no number, load as what they are, and reproduce their record."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch

import benchmark
from benchmark import export, networks, registry
from benchmark.core import regular_files
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.networks import classifiers
from benchmark.runs.card import card
from benchmark.runs.store import Store
from benchmark.training import pipeline
from benchmark.training.measurements import weights_of
from benchmark.training.progress import begin
from tests import handmade, toy
from tests.conftest import ROOT
from tests.faults.harness import six_steps


def only(out: Path) -> Record:
    (record,) = Store(out).read_all()
    return record


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of AugMax, whose wrap may change the network, with its weights."""
    out = tmp_path_factory.mktemp("kept")
    assert six_steps(out, "--methods", "augmax", "--save-weights") == 0
    return out / "runs" / only(out).run_id


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """A copy of that folder under another name, free to be damaged."""
    folder = tmp_path / "my-network"
    folder.mkdir()
    for path in kept.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_flag_changes_no_id_and_no_number_and_reruns_what_kept_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "erm"]
    assert six_steps(tmp_path, *words) == 0
    plain = only(tmp_path)
    assert plain.weights is None
    names = {path.name for path in (tmp_path / "runs" / plain.run_id).iterdir()}
    capsys.readouterr()
    assert six_steps(tmp_path, *words, "--save-weights", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1 finished runs were made without --save-weights and are run again" in shown
    assert "1 of 1 runs to do" in shown
    assert six_steps(tmp_path, *words, "--save-weights") == 0
    assert "[1/1]" in capsys.readouterr().out
    kept = only(tmp_path)
    assert (kept.run_id, kept.accuracy, kept.ran.code) == (plain.run_id, plain.accuracy, plain.ran.code)
    folder = tmp_path / "runs" / kept.run_id
    assert {path.name for path in folder.iterdir()} == names | {"weights.safetensors", "card.md"}
    for again in (["--save-weights"], []):  # both are content with a run that kept its weights
        assert six_steps(tmp_path, *words, *again) == 0
        assert "1 of 1 runs are done already" in capsys.readouterr().out
    assert only(tmp_path) == kept


def test_equal_runs_keep_equal_bytes(kept: Path, tmp_path: Path) -> None:
    assert six_steps(tmp_path, "--methods", "augmax", "--save-weights") == 0
    again = tmp_path / "runs" / kept.name
    assert (again / "weights.safetensors").read_bytes() == (kept / "weights.safetensors").read_bytes()


def test_the_file_is_plain_safetensors_of_the_selected_network(kept: Path) -> None:
    with safetensors.safe_open(kept / "weights.safetensors", framework="pt") as file:
        assert file.metadata() == {"run_id": kept.name}
        names = set(file.keys())
    assert names == set(networks.build("mini_convnet", 10, 0).state_dict())


def test_a_kept_network_loads_in_eval_mode_from_a_folder_of_any_name(copy: Path) -> None:
    net = benchmark.load_model(copy)
    assert not any(module.training for module in net.modules())
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert net(x).shape == (2, 10)
    stored = safetensors.torch.load_file(copy / "weights.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("selection", ["source-val", "last"])
def test_it_reproduces_its_record_exactly(
    selection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a large learning rate the points of the curve differ, so that the wrong one would be noticed."""
    toy.change_recipe(monkeypatch, "minidigits", lr=0.03, selection=selection)
    assert six_steps(tmp_path, "--methods", "erm", "--save-weights") == 0
    folder = tmp_path / "runs" / only(tmp_path).run_id
    capsys.readouterr()
    assert export.main([str(folder), "--check"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("; reproduced") == 5  # source validation and four domains
    assert "the network reproduces its record" in shown


def test_a_record_with_another_number_is_not_reproduced(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "record.json"
    record = Record.model_validate_json(path.read_text())
    assert record.accuracy is not None
    blend = record.accuracy.domains["blend"].accuracy
    assert blend is not None
    blend["source-val"] += 0.2  # one image of 500
    path.write_text(record.model_dump_json())
    assert export.main([str(copy), "--check"]) == 1
    shown = capsys.readouterr().out
    assert [line.partition(":")[0] for line in shown.splitlines() if line.endswith("NOT reproduced")] == ["blend"]
    assert "1 numbers of the record are not reproduced" in shown


def test_a_run_made_on_a_gpu_may_differ_by_one_image(copy: Path) -> None:
    path = copy / "record.json"
    record = Record.model_validate_json(path.read_text())
    asked = record.asked.model_copy(update={"device": "cuda"})
    assert record.accuracy is not None
    record.accuracy.source_val["source-val"] += 100 / record.accuracy.n_val
    record.accuracy.domains["print"].accuracy["source-val"] += 0.4  # type: ignore[index] # two images of 500
    path.write_text(record.model_copy(update={"asked": asked, "run_id": asked.run_id}).model_dump_json())
    assert [part.domain for part in export.compare(copy, None) if not part.same] == ["print"]


def test_the_card_says_what_a_stranger_needs(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Store(kept.parent.parent).read(kept.name)
    assert record is not None
    assert record.accuracy is not None
    assert record.weights is not None
    assert export.main([str(kept)]) == 0
    text = (kept / "card.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    asked = record.asked
    needed = [record.run_id, asked.method, asked.protocol, asked.fingerprint, record.ran.code, record.weights.sha256]
    needed += [
        "mini_convnet",
        "CC BY 4.0",
        "`source-val`",
        "benchmark.load_model",
        f"{record.ran.command} --save-weights",
    ]
    for domain, found in record.accuracy.domains.items():
        assert found.accuracy is not None
        needed.append(f"| {domain} | {found.n} | {found.accuracy['source-val']} |")
    for part in needed:
        assert part in text, part


def other_weights(folder: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, folder / "weights.safetensors")


def recorded_as(folder: Path, **changes: object) -> None:
    """Changes the record, not the weights."""
    path = folder / "record.json"
    record = Record.model_validate_json(path.read_text())
    assert record.weights is not None
    weights = record.weights.model_copy(update=changes)
    path.write_text(record.model_copy(update={"weights": weights}).model_dump_json())


def test_a_network_is_the_same_whatever_the_caller_has_set(kept: Path) -> None:
    plain = benchmark.load_model(kept).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            net = benchmark.load_model(kept)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in net.state_dict().items():
        assert not value.is_inference()
        torch.testing.assert_close(value, plain[name], rtol=0, atol=0)


def piped_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")


@pytest.mark.parametrize("where", [".", "/"])
def test_a_folder_that_is_no_run_is_named(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"{re.escape(where)}: there is no record\.json; name the folder of a run"):
        export.load_model(Path(where))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "record.json").unlink(), "there is no record.json"),
        (lambda folder: (folder / "record.json").write_text("{"), "not a valid record"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "cannot be read (No such file"),
        (piped_weights, "weights.safetensors: cannot be read (it is a pipe, not a plain file)"),
        (other_weights, "its hash is not the recorded one"),
        (lambda folder: recorded_as(folder, classes=("a", "b")), "it does not fit mini_convnet with 2 classes"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    copy: Path, damage: object, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)  # type: ignore[operator]
    assert export.main([str(copy)]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("flag", ["--push-to-hub", "--license"])
def test_an_empty_text_is_refused(flag: str, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable that is not set, which would send nothing without a word."""
    assert export.main([str(kept), "--folder", str(tmp_path / "new"), flag, ""]) == 2
    assert capsys.readouterr() == ("", f"error: {flag}: it is empty\n")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("licence", ["MIT", "m it: [x", "-x"])
def test_a_licence_that_the_hub_does_not_write_is_refused(
    licence: str, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(kept), "--folder", str(tmp_path / "new"), f"--license={licence}"]) == 2
    assert "the hub writes licences as in mit, apache-2.0 or cc-by-4.0" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_dataset_that_states_no_licence_has_a_card_too(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("licence", "citation"):
        monkeypatch.delattr(registry.find("dataset", "minidigits"), name)
    assert "| data licence | not stated |" in card(only(kept.parents[1]))


def test_no_more_memory_is_set_aside_than_the_weights_take(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading at most n bytes sets n aside first, and a machine refuses all that it has."""
    asked: list[int] = []
    content = regular_files.content

    def seen(path: Path, limit: int) -> bytes:
        asked.append(limit)
        return content(path, limit)

    monkeypatch.setattr("benchmark.export.regular_files.content", seen)
    benchmark.load_model(kept)
    assert asked[-1] == (kept / "weights.safetensors").stat().st_size


def test_a_run_without_weights_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert six_steps(tmp_path, "--methods", "erm") == 0
    folder = tmp_path / "runs" / only(tmp_path).run_id
    with pytest.raises(
        UsageError, match=rf"kept no weights; python -m benchmark\.run .* --out {tmp_path} --save-weights"
    ):
        benchmark.load_model(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=rf" --out {tmp_path} --save-weights"):
        benchmark.load_model(Path())


def test_other_data_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "record.json"
    record = Record.model_validate_json(path.read_text())
    asked = record.asked.model_copy(update={"fingerprint": "0" * 16})
    path.write_text(record.model_copy(update={"asked": asked, "run_id": asked.run_id}).model_dump_json())
    assert export.main([str(copy), "--check"]) == 2
    assert "the data is not that of the run" in capsys.readouterr().err


def test_a_method_that_changes_the_network_loads_with_its_change(tmp_path: Path) -> None:
    """DuBIN: AugMax replaces every BatchNorm of a residual network before training."""
    asked = toy.asked("augmax", network="wrn_16_4")
    made = begin(asked, registry.make("method", "augmax", {}), toy.loaded())
    made.best = made.net.state_dict()
    weights, content = weights_of(made, asked, ("a", "b", "c", "d"))
    record = handmade.record("augmax", 0, network="wrn_16_4").model_copy(update={"weights": weights})
    (tmp_path / "record.json").write_text(record.model_dump_json())
    (tmp_path / "weights.safetensors").write_bytes(content)
    net = benchmark.load_model(tmp_path)
    assert any(type(module).__name__ == "DuBIN" for module in net.modules())
    x = toy.images(2, 0).unit()
    assert torch.equal(net(x), made.net.eval()(x))


def test_pretrained_weights_are_not_fetched_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    asked = []
    create = timm.create_model

    def watch(name: str, pretrained: bool, **rest: Any) -> object:
        asked.append(pretrained)
        return create(name, pretrained=False, **rest)

    monkeypatch.setattr(timm, "create_model", watch)
    tagged = networks.build("timm:resnet18", 4, 0, "timm:resnet18.a1_in1k")
    assert asked == [False]
    assert torch.allclose(tagged.mean.flatten(), torch.tensor(classifiers.IMAGENET[0]))


def test_a_failed_run_keeps_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(pipeline, "weights_of", broken)
    assert six_steps(tmp_path, "--methods", "erm", "--save-weights", "--sensitivity-images", "2") == 1
    record = only(tmp_path)
    assert (record.status, record.weights) == ("failed", None)
    assert {path.name for path in (tmp_path / "runs" / record.run_id).iterdir()} == {
        "record.json", "curve.jsonl", "SHA256SUMS",
    }  # fmt: skip


def test_the_package_itself_stays_light() -> None:
    code = "import sys, benchmark; assert not {'torch', 'pydantic', 'safetensors'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        _ = benchmark.load_models  # type: ignore[attr-defined]


def test_what_does_not_reproduce_its_record_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[export.Args] = []
    monkeypatch.setattr(export, "exported", sent.append)
    monkeypatch.setattr("benchmark.runs.hub.check_target", lambda name: None)
    for good, code, count in ((False, 1, 0), (True, 0, 1)):
        monkeypatch.setattr(export, "checked", lambda run_dir, data_dir, good=good: good)
        for words in (["--folder", str(tmp_path / "new")], ["--push-to-hub", "someone/mini"]):
            sent.clear()
            assert export.main([str(tmp_path), "--check", *words]) == code
            assert len(sent) == count


def test_a_target_that_cannot_be_is_told_before_the_network_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "checked", mock.Mock(side_effect=AssertionError("evaluated")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    assert export.main([str(tmp_path), "--check", "--folder", str(tmp_path / "full")]) == 2
