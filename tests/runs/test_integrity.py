"""What a store must not take: numbers out of range, missing files, and files whose hash is right and content wrong."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from benchmark import tables
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs.records import Records
from benchmark.runs.store import Store
from benchmark.training.artifacts import npy_bytes
from benchmark.training.measurements import picture_sheet
from docs.site.published import FOLDERS
from tests import toy
from tests.handmade import fill, record

pytestmark = pytest.mark.usefixtures("without_pictures")
RULE = "source-val"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill(tmp_path, [record("erm", 0), record("augmix", 0, 60.0)])


def folder(store: Store, method: str = "erm") -> Path:
    return store.runs / record(method, 0).run_id


def seal(path: Path) -> None:
    """SHA256SUMS of what is there, as somebody makes it who has edited a file."""
    files = [each for each in sorted(path.iterdir()) if each.name != "SHA256SUMS" and each.is_file()]
    sums = "".join(f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in files)
    (path / "SHA256SUMS").write_text(sums)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    held = json.loads((path / "record.json").read_text())
    change(held)
    (path / "record.json").write_text(json.dumps(held))
    seal(path)


def put_map(path: Path, content: bytes) -> None:
    (path / "sensitivity.npy").write_bytes(content)
    edit(path, lambda held: held["sensitivity"].update(sha256=hashlib.sha256(content).hexdigest()))


def refused(store: Store, capsys: pytest.CaptureFixture[str], *named: str) -> None:
    """Both ways to read the store end with 2 and a message that names these, before any table is written."""
    for words in ([], ["--check"]):
        assert tables.main(["--out", str(store.out), *words]) == 2
        told = capsys.readouterr().err
        for text in named:
            assert text in told
        assert not (store.out / "tables" / "accuracy.csv").exists()


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "150 %": (lambda held: held["accuracy"]["domains"]["shifted"]["accuracy"].update({RULE: 150.0}), "100"),
    "-1 %": (lambda held: held["accuracy"]["source_val"].update(last=-1), "0"),
    "NaN": (lambda held: held["accuracy"]["domains"]["same"]["accuracy"].update(last=float("nan")), "finite"),
    "no images": (lambda held: held["accuracy"]["domains"]["same"].update(n=0), "n"),
    "too many images": (lambda held: held["accuracy"]["domains"]["same"].update(n=10**30), "n"),
    "no n": (lambda held: held["accuracy"]["domains"]["same"].update(n=None), "says what is missing"),
    "no validation": (lambda held: held["accuracy"].update(n_val=-3), "n_val"),
    "a rule": (lambda held: held["accuracy"]["source_val"].update(best=50.0), "source_val"),
    "no rule": (lambda held: held["accuracy"]["domains"]["same"]["accuracy"].pop("oracle"), "lacks the selection rule"),
    "no rules": (lambda held: held["accuracy"].update(selected_step={}), "selected_step lacks"),
    "foreign": (lambda held: held["accuracy"]["in_domain"].append("elsewhere"), "elsewhere"),
    "done, no accuracy": (lambda held: held.update(accuracy=None), "accuracy is missing"),
    "shares": (lambda held: held["throughput"]["shares"].update(attack=0.9), "add up to 1.7"),
    "a share": (lambda held: held["throughput"]["shares"].update(attack=-0.2, augment=0.6), "shares.attack"),
    "a share too few": (lambda held: held["throughput"]["shares"].pop("attack"), "shares"),
    "no time": (lambda held: held["throughput"].update(train_seconds=0.0), "train_seconds"),
    "a rate": (lambda held: held["throughput"].update(images_per_second=-5), "images_per_second"),
    "an infinite rate": (lambda held: held["throughput"].update(steady_images_per_second=float("inf")), "steady"),
    "quartiles": (lambda held: held["throughput"].update(steady_iqr=[9.0, 1.0]), "above the upper"),
    "error rate": (lambda held: held["sensitivity"].update(clean_error=1.5), "clean_error"),
    "radius": (lambda held: held["sensitivity"].update(radius=0), "radius"),
    "steps": (lambda held: held.update(steps=-1), "steps"),
    "processes": (lambda held: held["ran"]["machine"].update(processes="two"), "processes"),
    "threads": (lambda held: held["ran"]["machine"].update(threads=0), "threads"),
    "load": (lambda held: held["ran"]["machine"].update(load=float("nan")), "finite"),
    "resumed": (lambda held: held["ran"].update(resumed=-1), "resumed"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_number_that_cannot_be_is_refused(store: Store, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, says = EDITS[name]
    edit(folder(store), change)
    refused(store, capsys, str(folder(store) / "record.json"), says)


def test_it_is_refused_where_it_is_made_too(tmp_path: Path) -> None:
    good, store = record("erm", 0), Store(tmp_path)
    assert good.throughput is not None
    with pytest.raises(ValidationError, match="steady_iqr"):
        type(good.throughput).model_validate(good.throughput.model_dump() | {"steady_iqr": (2.0, 1.0)})
    store.prepare()
    changed = good.model_copy(update={"steps": -1})
    with store.working(good.run_id), pytest.raises(ValidationError, match="steps"):
        store.finish(changed, [])
    assert store.read_all() == []


def test_a_run_without_its_record_or_its_sums_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("SHA256SUMS", "record.json"):
        (folder(store) / name).unlink()
        refused(store, capsys, str(folder(store) / name), "missing")
    for path in folder(store).iterdir():
        path.unlink()
    refused(store, capsys, str(folder(store)))
    with pytest.raises(UsageError, match="missing"):
        store.read(folder(store).name)


def test_sums_that_list_fewer_files_are_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(store) / "SHA256SUMS"
    for left in ("", "\n".join(path.read_text().splitlines()[1:]) + "\n"):
        path.write_text(left)
        refused(store, capsys, str(path), "lacks")


def test_a_record_from_before_the_sums_needs_none(store: Store) -> None:
    edit(folder(store), lambda held: held.pop("sealed"))
    (folder(store) / "SHA256SUMS").unlink()
    assert len(store.read_all()) == 2
    for stray in ("lost+found", "notes"):
        (store.runs / stray).mkdir()
    assert len(store.read_all()) == 2


def test_tables_of_runs_that_are_gone_are_named_and_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--out", str(store.out)]) == 0
    left = store.out / "tables" / "corruption.csv"
    left.write_text("of other runs\n")
    (store.out / "tables" / "mine.md").write_text("a note of the user's\n")
    assert tables.main(["--out", str(store.out), "--check"]) == 1
    assert f"{left}: differs" in capsys.readouterr().out
    assert tables.main(["--out", str(store.out)]) == 0
    assert not left.exists()
    assert (store.out / "tables" / "mine.md").exists()
    assert tables.main(["--out", str(store.out), "--check"]) == 0
    folder(store, "augmix").rename(store.out / "away")
    tables.write(store, store.read_all())
    capsys.readouterr()
    assert tables.main(["--out", str(store.out), "--check"]) == 1
    assert capsys.readouterr().out == f"{store.out / 'index.html'}: differs from the run records\n"


MAPS = {
    "texts": npy_bytes(np.full((8, 8), "a")),
    "doubles": npy_bytes(np.zeros((8, 8))),
    "bool": npy_bytes(np.zeros((8, 8), bool)),
    "one axis": npy_bytes(np.zeros(64, np.float32)),
    "not square": npy_bytes(np.zeros((4, 16), np.float32)),
    "empty": npy_bytes(np.zeros((0, 0), np.float32)),
    "columns first": npy_bytes(np.asfortranarray(np.eye(8, dtype=np.float32) / 2 + np.tri(8, dtype=np.float32) / 4)),
    "NaN": npy_bytes(np.full((8, 8), np.nan, np.float32)),
    "rates": npy_bytes(np.full((8, 8), 1.5, np.float32)),
    "size": npy_bytes(np.zeros((1, 1), np.float32)),
    "zip": b"PK\x03\x04" + b"0" * 99,
    "nothing": b"",
    "huge": b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }".ljust(117)
    + b"\n",
    "longer": npy_bytes(np.zeros((8, 8), np.float32)) + b"more",
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_another_kind_is_named(store: Store, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    put_map(folder(store), MAPS[name])
    refused(store, capsys, "sensitivity.npy")


POINT = '{"step":%s,"progress":1,"loss":1,"val":%s,"test":%s}\n'
CURVES = {
    "list": "[]\n",
    "nothing in it": "{}\n",
    "deep": "[" * 100_000 + "\n",
    "no JSON": "step 4\n",
    "no domain": POINT % (4, 1, "{}"),
    "another domain": POINT % (4, 1, '{"elsewhere": 3}'),
    "domains change": POINT % (4, 1, '{"shifted": 3, "same": 4}') + POINT % (8, 1, '{"same": 4}'),
    "null": POINT % (4, "null", '{"shifted": 3, "same": 4}'),
    "120 %": POINT % (4, 1, '{"shifted": 120, "same": 4}'),
    "NaN": POINT % (4, "NaN", '{"shifted": 3, "same": 4}'),
    "step 0": POINT % (0, 1, '{"shifted": 3, "same": 4}'),
    "again": 2 * (POINT % (4, 1, '{"shifted": 3, "same": 4}')),
    "back": POINT % (8, 1, '{"shifted": 3, "same": 4}') + POINT % (4, 1, '{"shifted": 3, "same": 4}'),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_of_another_kind_is_named(store: Store, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder(store) / "curve.jsonl").write_text(CURVES[name])
    seal(folder(store))
    refused(store, capsys, "curve.jsonl", "test domains" if name in ("no domain", "another domain") else "line ")


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


VIEWS = {
    "one pixel": png((1, 1)),
    "half a row": png((256, 48)),
    "no eight": png((30, 32)),
    "cut": picture_sheet([toy.images(8, 0).unit()])[:-300],
    "no PNG": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_picture_of_views_of_another_kind_is_named(
    store: Store, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder(store) / "views.png").write_bytes(VIEWS[name])
    seal(folder(store))
    refused(store, capsys, "views.png")


@pytest.mark.parametrize("name", ["record.json", "curve.jsonl", "sensitivity.npy", "SHA256SUMS", "views.png"])
@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device"])
def test_what_is_no_file_is_named_and_nothing_waits_for_it(
    store: Store, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(store) / name
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refused(store, capsys, str(path), kind)


def test_a_table_that_is_no_file_differs(store: Store) -> None:
    tables.write(store, store.read_all())
    for name, make in {"accuracy.csv": os.mkfifo, "cost.parquet": os.mkdir}.items():
        (store.out / "tables" / name).unlink()
        make(store.out / "tables" / name)
    assert sorted(tables.check(store)) == ["accuracy.csv", "cost.parquet"]


def test_a_folder_in_the_place_of_a_table_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.out / "tables" / "accuracy.md"
    path.mkdir(parents=True)
    assert tables.main(["--out", str(store.out)]) == 2
    assert f"{path}: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("published", FOLDERS, ids=lambda folder: folder.name)
def test_published_records_are_within_the_limits(published: Path) -> None:
    assert Records(published).read_all()


@pytest.mark.parametrize(("shown", "wrong"), [((0, 1), False), ((0,), True), ((), True), ((0, 1, 2), True)])
def test_a_page_of_other_runs_than_those_that_are_there_is_found(
    shown: tuple[int, ...], wrong: bool, store: Store
) -> None:
    tables.write(store, store.read_all())
    ids = [record(*of).run_id for of in (("erm", 0), ("augmix", 0), ("gud", 0))]
    text = "".join(f'<a href="runs/{ids[i]}/record.json">' for i in shown)
    told = "see old_runs/first.zip and results/runs/0123456789ab/record.json"  # in a note or an error
    (store.out / "index.html").write_text(text + told, encoding="utf-8")
    assert tables.check(store) == ["../index.html"] * wrong


def test_a_record_has_the_accuracy_under_the_rule_that_it_asked_for() -> None:
    asked = toy.asked("erm", 0, selection="last-within-5")
    held = record("erm", 0).model_dump(mode="json") | {"asked": asked.model_dump(mode="json"), "run_id": asked.run_id}
    with pytest.raises(ValidationError, match="lacks the selection rule last-within-5"):
        Record.model_validate(held)
