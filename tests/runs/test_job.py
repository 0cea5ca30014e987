"""What a job tells its training, and what its record says of it."""

import hashlib
import importlib
import random
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark import networks, registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs import arithmetic, begun, machine
from benchmark.runs import job as jobs
from benchmark.runs.job import Job
from benchmark.runs.perform import DRAWN, Inputs, perform, record_of
from benchmark.runs.records import BEGUN
from benchmark.runs.store import Store
from benchmark.training.pipeline import Options
from benchmark.training.progress import Training
from tests import handmade, toy
from tests.faults.harness import plugin


def test_a_data_folder_is_named_as_it_was_typed_and_no_other_path() -> None:
    text = "put it in /a/data/x or /a/data. Not /a/data2/x, /a/data-old, /a/data.bak or /b/a/data"
    assert jobs.as_typed(text, Path("/a/data"), Path("data")) == (
        "put it in data/x or data. Not /a/data2/x, /a/data-old, /a/data.bak or /b/a/data"
    )
    assert jobs.as_typed(text, None, None) == text


def a_job(out: Path, method: str = "erm", **changes: Any) -> Job:
    asked = toy.asked(method, steps=4)
    return Job(asked=asked, command="", session="", out=out, data_dir=None, **changes)


def inputs(job: Job) -> Inputs:
    return toy.loaded(), ("a", "b", "c", "d")


def is_mixed(record: Record) -> bool:
    return any(warning.startswith(begun.MIXED) for warning in record.warnings)


def test_all_that_is_asked_of_a_job_reaches_its_training(tmp_path: Path) -> None:
    job = a_job(
        tmp_path, checkpoint_seconds=7.0, save_weights=True, weights=tmp_path / "first.safetensors",
        deterministic=True, launch=True, sharing=3,
    )  # fmt: skip
    given, plain = job.options, Options()
    assert given.code.startswith(job.code)
    for name in (field.name for field in fields(Options) if field.name != "code"):
        assert getattr(given, name) == getattr(job, name) != getattr(plain, name), name


@pytest.mark.parametrize(("code", "resumed"), [("a" * 12, 1), ("b" * 12, 0)])
def test_a_checkpoint_is_taken_up_by_the_code_that_made_it_alone(
    code: str, resumed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.setattr(jobs, "code_of", lambda *_: "a" * 12)
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    assert (tmp_path / "checkpoint.pt").exists()
    monkeypatch.setattr(jobs, "code_of", lambda *_: code)
    made = perform(job, tmp_path, mock.Mock(), inputs).record
    assert (made.status, made.ran.code, made.ran.resumed) == ("done", code, resumed)


@pytest.mark.parametrize("change", ["versions", "deterministic", "processor"])
def test_a_checkpoint_goes_on_with_the_versions_and_switches_that_made_it(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    if change == "versions":
        older = machine._versions() | {"numpy": "0.1"}
        monkeypatch.setattr(machine, "_versions", lambda: older)
    if change == "processor":
        there = arithmetic.describe() | {"cpu": "of another kind"}
        monkeypatch.setattr(arithmetic, "describe", lambda: there)
    made = perform(replace(job, deterministic=change == "deterministic"), tmp_path, mock.Mock(), inputs).record
    assert (made.status, made.ran.resumed) == ("done", int(change == "processor"))
    assert is_mixed(made) is (change == "processor")


def test_dropout_in_a_network_goes_by_the_seed_and_a_resumed_run_says_that_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = networks.build

    def dropping(*args: Any, **more: Any) -> nn.Module:
        net = build(*args, **more)
        net.register_forward_pre_hook(lambda net, x: F.dropout(x[0], 0.5, net.training))
        return net

    def made(folder: str, seed: int = 0) -> Record:
        torch.manual_seed(123 if folder == "again" else 7)  # the caller's
        job = a_job(tmp_path, checkpoint_seconds=0.0)
        job = replace(job, asked=job.asked.model_copy(update={"seed": seed}))
        return perform(job, tmp_path / folder, mock.Mock(), inputs).record

    for name in ("plain", "one", "again", "other", "resumed"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        perform(a_job(tmp_path, checkpoint_seconds=0.0), tmp_path / "plain", leave, inputs)
    assert DRAWN not in made("plain").warnings
    monkeypatch.setattr(networks, "build", dropping)
    one, again, other = made("one"), made("again"), made("other", 1)
    assert one.accuracy == again.accuracy
    assert one.accuracy != other.accuracy
    assert not [each for each in (one, again, other) if DRAWN in each.warnings]
    with pytest.raises(KeyboardInterrupt):
        perform(a_job(tmp_path, checkpoint_seconds=0.0), tmp_path / "resumed", leave, inputs)
    assert DRAWN in made("resumed").warnings


def test_what_draws_from_python_or_numpy_goes_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libraries of image transforms do; the caller's generators are as before."""
    build = networks.build

    def drawing(*args: Any, **more: Any) -> nn.Module:
        net = build(*args, **more)
        net.register_forward_pre_hook(lambda net, x: x[0] * random.random() * np.random.rand())  # noqa: NPY002
        return net

    monkeypatch.setattr(networks, "build", drawing)
    found = []
    for folder in ("one", "again"):
        (tmp_path / folder).mkdir()
        random.seed(folder)
        np.random.seed(len(folder))  # noqa: NPY002
        before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
        found.append(perform(a_job(tmp_path), tmp_path / folder, mock.Mock(), inputs))
        assert (random.getstate(), str(np.random.get_state())) == before  # noqa: NPY002
    assert found[0].curve[-1]["loss"] == found[1].curve[-1]["loss"]
    with pytest.raises(KeyboardInterrupt):
        perform(a_job(tmp_path, checkpoint_seconds=0.0), tmp_path / "one", leave, inputs)
    made = perform(a_job(tmp_path, checkpoint_seconds=0.0), tmp_path / "one", mock.Mock(), inputs).record
    assert DRAWN in made.warnings


@pytest.mark.parametrize("then", [1, 3])
def test_a_run_that_is_taken_up_has_the_threads_that_it_began_with(
    then: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of them sums in another order, and the record told of the last ones alone."""
    monkeypatch.setattr(machine, "threads_of", lambda recipe: then)
    job, before = a_job(tmp_path, checkpoint_seconds=0.0), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    monkeypatch.setattr(machine, "threads_of", lambda recipe: 2)
    made = perform(job, tmp_path, mock.Mock(), inputs).record
    assert (made.ran.resumed, made.ran.machine["threads"], is_mixed(made)) == (1, then, False)
    assert torch.get_num_threads() == before
    (tmp_path / "checkpoint.pt").unlink()
    assert perform(job, tmp_path, mock.Mock(), inputs).record.ran.machine["threads"] == 2  # it begins anew


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b'{"threads": 0, "machines": []}', b'{"threads": 1, "machines": 1}', b"\xff", b"9" * 5000, None],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_no_account_of_how_a_run_began_is_said_to_be_none(
    line: bytes | None, sealed: bool, tmp_path: Path
) -> None:
    job = a_job(tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    path = tmp_path / BEGUN
    if line is None:
        path.unlink()
    else:
        path.write_bytes(line + (b"\n" + hashlib.sha256(line).hexdigest().encode()) * sealed)
    made = perform(job, tmp_path, mock.Mock(), inputs).record
    assert (made.ran.resumed, made.ran.machine["threads"], is_mixed(made)) == (1, 1, True)
    assert any("one that nobody knows, because begun.json was missing or damaged" in each for each in made.warnings)


def test_what_is_not_known_of_how_a_run_began_stays_unknown_however_often_it_is_taken_up(tmp_path: Path) -> None:
    job = a_job(tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    (tmp_path / BEGUN).unlink()
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    made = perform(job, tmp_path, mock.Mock(), inputs).record
    assert (made.ran.resumed, is_mixed(made)) == (1, True)


@pytest.mark.parametrize("change", ["code", "damage"])
def test_a_run_that_starts_anew_keeps_nothing_of_how_another_one_began(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes its checkpoint up: other code made it, or it is damaged."""
    job, here = a_job(tmp_path, checkpoint_seconds=0.0), arithmetic.describe()
    monkeypatch.setattr(machine, "threads_of", lambda recipe: 3)
    monkeypatch.setattr(arithmetic, "describe", lambda: here | {"cpu": "of another kind"})
    monkeypatch.setattr(jobs, "code_of", lambda *_: "a" * 12)
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    monkeypatch.setattr(machine, "threads_of", lambda recipe: 1)
    monkeypatch.setattr(arithmetic, "describe", lambda: here)
    if change == "code":
        monkeypatch.setattr(jobs, "code_of", lambda *_: "b" * 12)
    else:
        (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(KeyboardInterrupt):
        perform(job, tmp_path, leave, inputs)
    made = perform(job, tmp_path, mock.Mock(), inputs).record
    assert (made.ran.resumed, is_mixed(made)) == (1, False)
    assert made.ran.machine["threads"] == (1 if change == "code" else 3)


def test_an_account_of_how_a_run_began_lies_beside_its_checkpoint_alone(tmp_path: Path) -> None:
    store, ended = Store(tmp_path), "d" * 12
    store.prepare()
    with store.working(ended) as folder:
        (folder / BEGUN).write_text("{}")
    assert not folder.exists()
    with store.working(ended) as folder:
        (folder / BEGUN).write_text("{}")
        (folder / "checkpoint.pt").write_text("{}")
    with store.working(ended) as folder:
        assert sorted(path.name for path in folder.iterdir()) == [BEGUN, "checkpoint.pt"]
        (folder / "checkpoint.pt").unlink()
    assert not folder.exists()
    job = a_job(tmp_path)
    with store.working(job.asked.run_id) as folder:
        store.finish(*perform(job, folder, mock.Mock(), inputs))
    assert not (tmp_path / "runs" / job.asked.run_id / BEGUN).exists()


def test_a_record_has_the_code_that_ran_though_the_file_is_edited_meanwhile(tmp_path: Path) -> None:
    path = plugin(tmp_path, "edited", "pass")
    with registry.plugins([path]):
        before = jobs.code_of("edited", "minidigits", "mini_convnet")
        path.write_text(path.read_text() + "\nANOTHER = 1\n")
        assert jobs.code_of("edited", "minidigits", "mini_convnet") == before
        path.unlink()
        assert jobs.code_of("edited", "minidigits", "mini_convnet") == before
        path = plugin(tmp_path, "edited", "1 + 1")
    with registry.plugins([path]):
        assert jobs.code_of("edited", "minidigits", "mini_convnet") != before
    with registry.plugins([path]):
        assert jobs.code_of("edited", "minidigits", "mini_convnet") != before


@pytest.mark.filterwarnings("ignore:Overwriting")
@pytest.mark.parametrize("made", ["def mine_of_a_test(**more):", "class mine_of_a_test:"])
def test_a_network_that_a_plugin_registers_is_part_of_the_code(made: str, tmp_path: Path) -> None:
    network = f"\n\n@timm.models.register_model\n{made}\n    pass\n"
    plain, found = jobs.code_of("erm", "minidigits", "timm:test_vit"), []
    assert plain == jobs.code_of("erm", "minidigits", "mini_convnet")
    for more in ("", "\nANOTHER = 1\n"):
        path = plugin(tmp_path, "registers")
        path.write_text("import timm\n" + path.read_text() + network + more)
        with registry.plugins([path]):
            found.append(jobs.code_of("erm", "minidigits", "timm:mine_of_a_test"))
    assert len({plain, *found}) == 3


def test_code_that_was_edited_before_its_hash_was_taken_is_refused(tmp_path: Path) -> None:
    """What ran would be the old text, under the hash of the new one."""
    path = plugin(tmp_path, "edited", "pass")
    with registry.plugins([path]):
        path.write_text(path.read_text() + "\nANOTHER = 1\n")
        with pytest.raises(UsageError, match=r"edited\.py: it was edited after it was loaded; start again"):
            jobs.code_of("edited", "minidigits", "mini_convnet")


def test_code_that_is_reloaded_has_the_hash_of_what_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As IPython's autoreload does it: into the same module."""
    plugin(tmp_path, "reloaded_method", "pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("reloaded_method")
    monkeypatch.setattr(registry, "find", lambda kind, name: module.Method)
    monkeypatch.setattr(registry, "source_file", lambda kind, name: tmp_path / "reloaded_method.py")
    before = jobs._file_hash("method", "reloaded_method")
    (tmp_path / "reloaded_method.py").write_text((tmp_path / "reloaded_method.py").read_text() + "\nANOTHER = 1\n")
    assert jobs._file_hash("method", "reloaded_method") == before
    importlib.reload(module)
    assert jobs._file_hash("method", "reloaded_method") != before
    del sys.modules["reloaded_method"]


def leave(doing: str, share: float) -> None:
    if share > 0.5:
        raise KeyboardInterrupt


def test_a_record_says_what_the_views_of_its_method_are_made_of(tmp_path: Path) -> None:
    made = perform(a_job(tmp_path, "augmix"), tmp_path, mock.Mock(), inputs).record
    assert made.operations == tuple(registry.make("method", "augmix", made.asked.settings).operations())
    assert {"rotate", "posterize"} <= set(made.operations or ())


def record(job: Job, run: Training | None, status: Any) -> Record:
    parts: dict[str, Any] = {"error": "broken"}
    if status == "done":
        parts = {"accuracy": handmade.record("erm", 0).accuracy}
    return record_of(job, status, run, 5.0, **parts)


def test_the_seconds_of_a_run_are_those_of_its_training_before_and_after_it_was_resumed(tmp_path: Path) -> None:
    """60 s of training, most of them before the process began, which is 5 s old."""
    job, run = a_job(tmp_path), mock.Mock(seconds=60.0, step=4, resumed=1, normalisation=None)
    assert record(job, run, "done").ran.seconds == 60
    assert record(job, run, "failed").ran.seconds == 5
    assert record(job, None, "failed").ran.seconds == 5
