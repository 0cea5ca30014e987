"""PACS on tiny folders of the layouts in circulation: lists, labels, tasks, and what is wrong with them."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import comparison, data, registry, run
from benchmark.core.errors import UsageError
from benchmark.runs.args import Args
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from tests.datasets.pacs_files import DOMAINS, lay_out


def make(**settings: Any) -> data.Dataset:
    return registry.make("dataset", "pacs", {"size": 16, **settings})


@pytest.mark.parametrize(
    ("images", "lists"),
    [
        ("PACS/kfold", "PACS/kfold"),
        ("pacs/images", "pacs/splits"),
        ("PACS/pacs_data", "PACS/pacs_label"),
        ("PACS", "PACS"),
        ("kfold", "pacs_label"),
        ("", ""),
    ],
)
def test_the_layouts_in_circulation(tmp_path: Path, images: str, lists: str) -> None:
    root = lay_out(tmp_path, images, lists)
    train = make().load("photo", "train", root)
    assert (len(train), len(make().load("photo", "val", root)), len(make().load("photo", "test", root))) == (21, 7, 28)
    assert train.y.tolist() == [label for label in range(7) for _ in range(3)]
    assert (train.x[0].flatten(1).float().mean(dim=1) - torch.tensor([60.0, 30.0, 100.0])).abs().max() < 3


def test_single_source_and_leave_one_out(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    assert make().layout(root).sources == DOMAINS
    for target, source in zip(DOMAINS, make(task="leave_one_out").layout(root).sources, strict=True):
        assert set(source.split("+")) == set(DOMAINS) - {target}
    loaded = data.load(make(), "photo", root)
    assert loaded.order == DOMAINS
    assert {domain: len(part) for domain, part in loaded.test.items()} == {
        d: 7 if d == "photo" else 28 for d in DOMAINS
    }
    assert torch.equal(loaded.test["photo"].x, loaded.val.x)
    assert loaded.in_domain == ["photo"]
    pooled = data.load(make(task="leave_one_out"), "art_painting+cartoon+sketch", root)
    assert (len(pooled.train), len(pooled.val), len(pooled.test["photo"])) == (63, 21, 28)


@pytest.mark.parametrize("task", ["single", "leave_one_out"])
def test_a_plan_has_the_sources_of_the_task(task: str, tmp_path: Path) -> None:
    given = ("pacs.size=16", f"pacs.task={task}")
    asked: dict[str, Any] = {"datasets": ("pacs",), "data_dir": lay_out(tmp_path), "set": given, "seeds": (0,)}
    jobs = plan(Args(("erm",), **asked, network="resnet18_cifar", weights="scratch", dry_run=True))
    assert tuple(job.asked.source for job in jobs) == make(task=task).layout(None).sources
    assert {job.asked.dataset_settings["task"] for job in jobs} == {task}


def test_counts_other_than_the_official_ones_are_a_warning(tmp_path: Path) -> None:
    loaded = data.load(make(), "photo", lay_out(tmp_path))
    assert loaded.warnings[2] == "photo: 28 images in the test list, officially 1670"
    listed = tmp_path / "PACS/kfold/photo_train_kfold.txt"
    listed.write_text(listed.read_text() + "photo/dog/pic_000.jpg 1\n")
    assert "photo: 1 images in both train and crossval list" in make().warnings(tmp_path)
    listed.write_text("photo/dog/pic_001.jpg 1\n")
    assert "photo: the test list is not the train and the crossval list together" in make().warnings(tmp_path)


def test_an_absent_domain_is_a_missing_target_and_no_source(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / "PACS/kfold/sketch").rename(root / "PACS/kfold/elsewhere")
    (root / "PACS/kfold/cartoon_test_kfold.txt").unlink()
    loaded = data.load(make(), "photo", root)
    assert set(loaded.missing) == {"cartoon", "sketch"}
    assert str(root / "PACS" / "kfold" / "sketch") in loaded.missing["sketch"]
    assert str(root / "PACS" / "pacs_label" / "cartoon_test_kfold.txt") in loaded.missing["cartoon"]
    assert "https://" in loaded.missing["sketch"]
    with pytest.raises(data.MissingDataError, match="pacs/sketch: its images"):
        data.load(make(), "sketch", root)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("photo/dog/pic_001.jpg 0", "line 2 gives photo/dog/pic_001.jpg the label 0, but the dog class is 1"),
        ("photo/dog/pic_001.jpg 8", "the label 8"),
        ("photo/dog/pic_001.jpg 3", "the label 3"),
        ("photo/dog/pic_001.jpg", "line 2 is"),
        ("photo/dog/pic_001.jpg one", "line 2 is"),
        ("photo/cat/pic_001.jpg 1", "line 2 is"),
        ("sketch/dog/pic_001.png 1", "line 2 is"),
        ("photo/dog/../../../secret.jpg 1", "line 2 is"),
        ("/photo/dog/pic_001.jpg 1", "line 2 is"),
        ("", "line 2 is"),
        ("photo/dog/pic_999.jpg 1", "pic_999.jpg, which is not there"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, says: str) -> None:
    root = lay_out(tmp_path)
    listed = root / "PACS/kfold/photo_train_kfold.txt"
    first, _, rest = listed.read_text().partition("\n")
    listed.write_text(f"{first}\n{line}\n{rest}")
    with pytest.raises(UsageError) as caught:
        data.load(make(), "photo", root)
    assert says in str(caught.value)
    assert str(listed) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"\n\n \n",
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b" ", b"\t"),
        lambda text: text.replace(b" ", b"   ").replace(b"\n", b"  \n"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(),
    ],
    ids=["blank lines at the end", "byte-order mark", "tabs", "spaces", "CRLF", "no last line end"],
)
def test_lists_that_editors_wrote_are_read(tmp_path: Path, change: Any) -> None:
    root = lay_out(tmp_path)
    before, said = data.load(make(), "photo", root).fingerprint, make().warnings(root)
    for listed in (root / "PACS/kfold").glob("*.txt"):
        listed.write_bytes(change(listed.read_bytes()))
    assert data.load(make(), "photo", root).fingerprint == before
    assert make().warnings(root) == said


def test_an_absent_target_is_told_before_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = lay_out(tmp_path)
    (root / "PACS/kfold/sketch").rename(root / "PACS/kfold/elsewhere")
    asked = {"datasets": ("pacs",), "sources": ("photo", "cartoon"), "data_dir": root, "set": ("pacs.size=16",)}
    args = Args(("erm", "augmix"), **asked, network="resnet18_cifar", weights="scratch", dry_run=True)  # type: ignore[arg-type]
    comparison.prepare(args)
    told = [line for line in caplog.messages if line.startswith("a column will be empty: pacs/sketch")]
    assert len(told) == 1
    assert str(root / "PACS" / "kfold" / "sketch") in told[0]
    caplog.clear()
    monkeypatch.setattr(comparison, "finished", lambda *_: True)
    comparison.prepare(args)
    assert not caplog.messages


@pytest.mark.usefixtures("without_pictures")
def test_a_record_names_the_data_folder_as_its_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = lay_out(tmp_path / "images")
    (root / "PACS/kfold/sketch").rename(root / "PACS/kfold/elsewhere")
    with (root / "PACS/kfold/photo_train_kfold.txt").open("a") as listed:
        listed.write("photo/dog/pic_001.jpg 1\n")  # for a warning
    monkeypatch.chdir(tmp_path)
    words = "--methods erm --datasets pacs --data-dir images --sources photo --set pacs.size=16 --steps 1"
    words += " --evaluations 1 --sensitivity-images 0 --network resnet18_cifar --weights scratch --seeds 0"
    words += " --device cpu --out out"
    assert run.main(words.split()) == 0
    (made,) = Store(tmp_path / "out").read_all()
    assert made.accuracy is not None
    missing = made.accuracy.domains["sketch"].missing
    assert missing is not None
    assert "Put them here: images/PACS/kfold/sketch, or images/" in missing
    assert len(made.warnings) > 1
    assert str(tmp_path) not in made.model_dump_json()
    assert "images are missing. Put them here: images/PACS" in capsys.readouterr().out.replace("\n", " ")


def test_a_line_that_is_there_twice_counts_once_and_is_told(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    before = data.load(make(), "photo", root)
    listed = root / "PACS/kfold/photo_train_kfold.txt"
    listed.write_text(listed.read_text() + "photo/dog/pic_001.jpg 1\n" * 2)
    again = data.load(make(), "photo", root)
    assert again.fingerprint == before.fingerprint
    assert set(again.warnings) - set(before.warnings) == {
        "photo: 2 lines of the train list are there before; counted once"
    }


def test_a_list_that_is_no_plain_text_is_named(tmp_path: Path) -> None:
    listed = lay_out(tmp_path) / "PACS/kfold/photo_train_kfold.txt"
    for content in (listed.read_text().encode("utf-16"), b"\xff\xfe\xff"):
        listed.write_bytes(content)
        with pytest.raises(UsageError, match=r"photo_train_kfold.txt cannot be read"):
            make().load("photo", "train", tmp_path)
    listed.unlink()
    os.mkfifo(listed)
    with pytest.raises(UsageError, match=r"photo_train_kfold.txt cannot be read: it is a pipe"):
        make().load("photo", "train", tmp_path)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    damaged = root / "PACS/kfold/photo/dog/pic_001.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"pic_001\.jpg cannot be read"):
        data.load(make(), "photo", root)
