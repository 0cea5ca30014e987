"""A run packed into one file is the same run."""

import io
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.nn.functional import interpolate

from benchmark import export, tables
from benchmark.core.errors import UsageError
from benchmark.core.locks import BusyError, held
from benchmark.core.record import Record, Trial
from benchmark.runs import store as stores
from benchmark.runs.places import COLOURS, SIDE, packed, smaller
from benchmark.runs.records import TRIED
from benchmark.runs.store import Store
from benchmark.training import artifacts
from benchmark.training.artifacts import npy_bytes
from benchmark.training.measurements import picture_sheet
from tests import toy
from tests.handmade import record

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two finished runs with maps and pictures."""
    store, content = Store(tmp_path), npy_bytes(np.full((4, 4), 0.25, np.float32))
    store.prepare()
    for method in ("erm", "augmix"):
        made = record(method, 0, map_file=content)
        with store.working(made.run_id):
            store.finish(made, [], {"sensitivity.npy": content, "views.png": picture_sheet([toy.images(8, 0).unit()])})
    return store


def run_id(method: str = "erm") -> str:
    return record(method, 0, map_file=npy_bytes(np.full((4, 4), 0.25, np.float32))).run_id


def test_a_packed_store_reads_as_before(store: Store) -> None:
    before = store.read_all()
    maps, curves, views = store.maps(before), store.curves(before), store.views(before)
    assert [store.pack(each) for each in store.ids()] == [True, True]
    assert sorted(path.name for path in store.runs.iterdir()) == [f"{made.run_id}.zip" for made in before]
    assert store.read_all() == before
    assert store.curves(before) == curves
    assert all(bool((store.maps(before)[key].error == maps[key].error).all()) for key in maps)
    assert store.views(before).keys() == views.keys()
    assert [store.pack(each) for each in store.ids()] == [False, False]  # nothing left to do


def test_a_run_that_is_packed_while_it_is_read_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is gone before its record is read."""
    read, looked = Store._read, list[str]()

    def too_late(self: Store, wanted: str) -> Record | None:
        looked.append(wanted)
        if len(looked) == 1:
            assert self.pack(wanted)
            return None
        return read(self, wanted)

    monkeypatch.setattr(Store, "_read", too_late)
    found = store.read(run_id())
    assert found is not None
    assert (found.run_id, store.read("0" * 12)) == (run_id(), None)


def test_without_views_it_is_packed_again_and_reads_as_before(store: Store) -> None:
    before = store.read_all()
    assert store.pack(run_id())
    assert store.pack(run_id(), views=False)
    assert not store.pack(run_id(), views=False)  # nothing left to do
    assert store.pack(run_id("augmix"), views=False)
    assert not store.views(before)
    assert store.read_all() == before
    assert len(store.maps(before)) == 2


def test_the_first_seed_of_a_row_keeps_its_views(store: Store) -> None:
    """Whenever the seeds came: figures show the first that has a picture."""
    content, pictures = npy_bytes(np.full((4, 4), 0.25, np.float32)), picture_sheet([toy.images(8, 0).unit()])
    for seed, files in ((2, {"views.png": pictures}), (1, {"views.png": pictures}), (0, {})):
        made = record("randconv", seed, map_file=content)
        with store.working(made.run_id):
            store.finish(made, [], {"sensitivity.npy": content, **files})
        assert tables.main(["--out", str(store.out), "--pack", "--first-views"]) == 0
    assert not [*store.runs.glob("*/")]
    kept = {(r.asked.method, r.asked.seed) for r in store.read_all() if r.run_id in store.views([r])}
    assert kept == {("erm", 0), ("augmix", 0), ("randconv", 1)}


def test_unpacked_it_is_a_folder_again_whose_sums_hold(store: Store, tmp_path: Path) -> None:
    store.pack(run_id())
    folder = store.runs / run_id()
    with zipfile.ZipFile(f"{folder}.zip") as whole:
        whole.extractall(folder)
    assert subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    Path(f"{folder}.zip").unlink()
    assert len(store.read_all()) == 2


def test_a_second_record_takes_the_place_of_a_packed_one(store: Store) -> None:
    store.pack(run_id())
    kept = store.read(run_id())
    assert kept is not None
    with store.working(run_id()):
        store.finish(kept.model_copy(update={"steps": 99, "sensitivity": None}), [])
    assert not (store.runs / f"{run_id()}.zip").exists()
    again = store.read(run_id())
    assert again is not None
    assert again.steps == 99


def test_a_folder_beside_a_packed_run_is_younger(store: Store) -> None:
    """The packing was cut off before the folder went, or the file is an old one: the folder counts."""
    (store.runs / f"{run_id()}.zip").write_bytes(b"cut off")
    assert len(store.read_all()) == 2
    assert store.pack(run_id())
    assert len(store.read_all()) == 2


def test_a_run_that_kept_its_network_stays_a_folder(store: Store) -> None:
    (store.runs / run_id() / "weights.safetensors").write_bytes(b"large")
    assert not store.pack(run_id())
    assert (store.runs / run_id() / "record.json").exists()


def test_a_folder_with_files_of_the_user_stays_a_folder(store: Store) -> None:
    (store.runs / run_id() / "notes.txt").write_text("mine")
    assert not store.pack(run_id())
    assert (store.runs / run_id() / "notes.txt").read_text() == "mine"


def test_packing_that_is_cut_off_while_the_folder_goes_loses_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.read_all()

    def cut_off(path: Path) -> None:
        if path.is_dir():
            (path / "record.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stores, "remove", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.pack(run_id())
    assert store.read_all() == before
    with store.working(run_id()):
        pass
    assert store.read_all() == before
    assert not [*store.runs.glob(".old-*")]


def test_a_run_that_is_being_replaced_is_left_to_who_does_it(store: Store) -> None:
    """Between the two renames there is no folder."""
    folder = store.runs / run_id()
    with held(store.runs / f".lock-{run_id()}"):
        folder.rename(store.runs / f".old-{run_id()}")
        with pytest.raises(BusyError):
            store.pack(run_id())


def test_a_run_that_somebody_works_on_is_not_packed(store: Store) -> None:
    with held(store.runs / f".lock-{run_id()}"):
        with pytest.raises(BusyError):
            store.pack(run_id())
        assert tables.main(["--out", str(store.out), "--pack"]) == 0
    assert (store.runs / run_id() / "record.json").exists()


def test_what_a_killed_packing_left_is_cleared_up(store: Store) -> None:
    """The next run does it; a packing that goes on holds the lock."""
    halves = [store.runs / f".{run_id(method)}.zip.4711" for method in ("erm", "augmix")]
    for half in halves:
        half.write_bytes(b"half")
    with held(store.runs / f".lock-{run_id('augmix')}"):
        store.prepare()
    assert [half.exists() for half in halves] == [False, True]


@pytest.mark.parametrize("name", ["{} (1).zip", "{}.ZIP", "a" * 12])
def test_what_bears_a_run_s_name_and_is_none_is_named(name: str, store: Store) -> None:
    """A copy that a browser renamed, one of another system, and a link to a disk that is not there."""
    store.pack(run_id())
    if "{}" in name:
        (store.runs / f"{run_id()}.zip").rename(store.runs / name.format(run_id()))
    else:
        (store.runs / name).symlink_to("/nowhere/at/all")
    with pytest.raises(UsageError, match=re.escape(name.format(run_id())[:12])):
        store.read_all()


def test_one_of_trace_check_and_pack_is_done_at_a_time(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--out", str(store.out), "--check", "--pack"]) == 2
    assert "--check and --pack: give one of them" in capsys.readouterr().err
    assert tables.main(["--out", str(store.out), "--first-views"]) == 2
    assert "give both" in capsys.readouterr().err
    assert not [*store.runs.glob("*.zip")]


def test_a_packed_run_has_no_network_to_export(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.pack(run_id())
    for place in (run_id(), f"{run_id()}.zip"):
        assert export.main([str(store.runs / place)]) == 2
        assert "a packed run keeps no network" in capsys.readouterr().err


def test_what_is_damaged_is_not_packed(store: Store) -> None:
    (store.runs / run_id() / "curve.jsonl").write_text("edited")
    with pytest.raises(UsageError, match=r"curve\.jsonl: it is not what was written"):
        store.pack(run_id())
    assert not list(store.runs.glob("*.zip"))


def change(file: Path, name: str, content: bytes | None) -> None:
    """Another content of one file, or none, in a packed run."""
    with zipfile.ZipFile(file) as whole:
        files = {each: whole.read(each) for each in whole.namelist() if each != name}
    file.write_bytes(packed(files if content is None else files | {name: content}))


@pytest.mark.parametrize("name", ["record.json", "curve.jsonl", "sensitivity.npy", "views.png", "SHA256SUMS"])
@pytest.mark.parametrize("content", [b"edited", None])
def test_a_file_that_was_edited_or_taken_out_is_named(
    store: Store, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    store.pack(run_id())
    change(store.runs / f"{run_id()}.zip", name, content)
    assert tables.main(["--out", str(store.out), "--check"]) == 2
    told = capsys.readouterr().err
    assert f"{run_id()}.zip/" in told
    assert name in told


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder", "encrypted"])
def test_a_damaged_file_is_named(store: Store, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.pack(run_id())
    file = store.runs / f"{run_id()}.zip"
    content = bytearray(file.read_bytes())
    if damage == "folder":
        file.unlink()
        file.mkdir()
    elif damage == "flipped":
        content[len(content) // 3] ^= 255
        file.write_bytes(content)
    elif damage == "encrypted":
        for mark in (b"PK\x03\x04", b"PK\x01\x02"):
            at = -1
            while (at := content.find(mark, at + 1)) >= 0:
                content[at + (6 if mark[2] == 3 else 8)] |= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert tables.main(["--out", str(store.out), "--check"]) == 2
    assert str(file) in capsys.readouterr().err


def test_the_command_packs_and_the_page_leads_to_the_files(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    trial = record("erm", 0, trial=Trial(number=0, of=2))
    tried = Store(store.out / TRIED)
    tried.prepare()
    with tried.working(trial.run_id):
        tried.finish(trial, [])
    assert tables.main(["--out", str(store.out), "--pack"]) == 0
    assert "3 runs packed" in capsys.readouterr().out
    assert (tried.runs / f"{trial.run_id}.zip").is_file()
    assert store.trials() == [trial]
    page = (store.out / "index.html").read_text()
    assert f'href="runs/{run_id()}.zip"' in page
    assert tables.main(["--out", str(store.out), "--check"]) == 0
    (store.runs / f"{run_id()}.zip").unlink()
    assert tables.main(["--out", str(store.out), "--check"]) == 1
    assert "index.html" in capsys.readouterr().out


def test_packed_files_are_the_same_bytes_every_time() -> None:
    files = {"record.json": b"{}", "curve.jsonl": b"x" * 1000}
    assert packed(files) == packed(files)
    with zipfile.ZipFile(io.BytesIO(packed(files))) as made:
        assert {each.date_time for each in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert len(packed(files)) < 500


def test_a_picture_gets_smaller_and_keeps_its_rows() -> None:
    rows = [interpolate(toy.images(8, seed).unit(), 96) for seed in range(3)]
    large = picture_sheet(rows)
    small = smaller(large)
    assert len(small) < 0.6 * len(large)
    strips = artifacts.strips(small)
    assert [strip.shape for strip in strips] == [(SIDE, 8 * SIDE, 3)] * 3
    assert len(Image.open(io.BytesIO(small)).getcolors() or ()) <= COLOURS
    plain = picture_sheet([toy.images(8, 0).unit().mul(15).round().div(15)[:, :1].repeat(1, 3, 1, 1)])
    assert all(
        np.array_equal(a, b) for a, b in zip(artifacts.strips(plain), artifacts.strips(smaller(plain)), strict=True)
    )
