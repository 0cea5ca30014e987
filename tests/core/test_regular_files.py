"""Names that somebody else chose: nothing outside is followed, deleted, overwritten or waited for."""

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.core import regular_files
from benchmark.core.durable import write_atomically
from benchmark.core.locks import held
from benchmark.data import cache
from benchmark.runs.store import Store
from benchmark.training import checkpoints
from benchmark.training.checkpoints import DamagedError
from tests.faults.harness import state
from tests.handmade import fill, record


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder outside of the store, whose files belong to somebody."""
    folder = tmp_path / "home"
    (folder / "inner").mkdir(parents=True)
    for name in ("thesis.tex", "record.json", "checkpoint.pt", "pool-1.pt", "inner/deep.txt"):
        (folder / name).write_text(f"my {name}")
    return folder


RUN = "a" * 12


@pytest.mark.parametrize(
    "name",
    [
        *(f".{kind}-{run}" for kind in ("partial", "lock", "old") for run in (RUN, "b", ".", "..", "")),
        f".partial-{RUN}/record.json",
        f".partial-{RUN}/checkpoint.pt",
        f".partial-{RUN}/pool-1.pt",
        f".partial-{RUN}/folder",
    ],
)
@pytest.mark.parametrize("target", ["", "thesis.tex", "inner", "gone"])
def test_a_link_in_the_store_is_deleted_and_not_followed(tmp_path: Path, home: Path, name: str, target: str) -> None:
    store = fill(tmp_path / "out", [record("erm", 0)])
    before = state(home)
    path = store.runs / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(home / target)
    store.prepare()
    assert state(home) == before
    assert os.path.lexists(path) == (name.rpartition("-")[2] in ("", ".", ".."))  # which is no run's
    for _ in range(2):
        with store.working(RUN) as folder:
            assert list(folder.iterdir()) == []
    assert state(home) == before
    assert [found.asked.method for found in store.read_all()] == ["erm"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, Path.touch, lambda path: path.symlink_to(path.name)])
@pytest.mark.parametrize("name", [f".partial-{RUN}", f".lock-{RUN}", f".old-{RUN}", f".partial-{RUN}/checkpoint.pt"])
def test_other_things_under_the_store_s_names_are_got_over(tmp_path: Path, make: Any, name: str) -> None:
    store = Store(tmp_path / "out")
    store.prepare()
    path = store.runs / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    store.prepare()
    with store.working(RUN) as folder:
        assert folder.is_dir()


def test_a_run_that_is_replaced_may_be_a_link(tmp_path: Path, home: Path) -> None:
    made = record("erm", 0)
    store = fill(tmp_path / "out", [made])
    before = state(home)
    for target in (home, home / "gone"):
        (store.runs / made.run_id).rename(tmp_path / f"moved-{target.name}")
        (store.runs / made.run_id).symlink_to(target)
        with store.working(made.run_id):
            store.finish(made, [])
        assert not (store.runs / made.run_id).is_symlink()
        assert state(home) == before
        assert not list(store.runs.glob(".*"))


def test_a_file_beside_is_not_followed(tmp_path: Path, home: Path) -> None:
    (tmp_path / f".x.{os.getpid()}").symlink_to(home / "thesis.tex")
    write_atomically(tmp_path / "x", b"new")
    assert (home / "thesis.tex").read_text() == "my thesis.tex"
    assert (tmp_path / "x").read_bytes() == b"new"
    (tmp_path / "lock").symlink_to(home / "thesis.tex")
    with held(tmp_path / "lock"):
        assert (home / "thesis.tex").read_text() == "my thesis.tex"


def test_removing_follows_no_link_on_its_way(tmp_path: Path, home: Path) -> None:
    before = state(home)
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/link").symlink_to(home)
    (tmp_path / "folder/loop").symlink_to("loop")
    regular_files.remove(tmp_path / "folder")
    regular_files.remove(tmp_path / "nothing")
    assert not (tmp_path / "folder").exists()
    assert state(home) == before


# Checkpoints


def sealed(folder: Path, value: Any) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    (folder / "checkpoint.pt").write_bytes(content + hashlib.sha256(content).digest())


@pytest.mark.parametrize(
    "pool",
    ["/dev/zero", "/etc/passwd", "../thesis.tex", "..", ".", "", "pool-1.pt/../x", "pool-.pt", "pool-1.pt\0", "x.pt"],
)
def test_a_checkpoint_names_no_file_but_a_pool_beside_it(tmp_path: Path, pool: str) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    sealed(folder, {"code": "c", "state": {}, "pool": [pool, "0" * 64]})
    with pytest.raises(DamagedError, match="is no checkpoint"):
        checkpoints.load_checkpoint(folder, "c")
    assert (tmp_path / "thesis.tex").read_text() == "mine"


ODD: tuple[Any, ...] = (None, 3, [], torch.zeros(1), "pool-1.pt", ["pool-1.pt"], ["pool-1.pt", 3], [1, 2])


@pytest.mark.parametrize(
    "value",
    [
        *(7, None, [], {}, "text", torch.zeros(2), {"code": "c"}, {"code": "c", "state": {}}),
        *({"code": "c", "state": each, "pool": None} for each in ODD),
        *({"code": "c", "state": {}, "pool": each} for each in ODD[1:]),
        {"code": 3, "state": {}, "pool": None},
    ],
    ids=str,
)
def test_a_sealed_file_of_another_shape_is_refused(tmp_path: Path, value: Any) -> None:
    sealed(tmp_path, value)
    with pytest.raises(DamagedError, match="is no checkpoint"):
        checkpoints.load_checkpoint(tmp_path, "c")
    assert not list(tmp_path.iterdir())


LINK: Callable[[Path], None] = lambda path: path.symlink_to("/dev/zero")  # noqa: E731


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, LINK, lambda path: path.symlink_to(path.name)])
@pytest.mark.parametrize("name", ["checkpoint.pt", "pool-2.pt"])
def test_what_is_no_plain_file_is_not_read(tmp_path: Path, make: Any, name: str) -> None:
    checkpoints.save_checkpoint(tmp_path, "c", {}, (2, [torch.zeros(4)]))
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(DamagedError, match=f"{name} cannot be read: it is a (pipe|folder|link), not a plain file"):
        checkpoints.load_checkpoint(tmp_path, "c")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save_checkpoint(tmp_path, "c", {"x": torch.zeros(2**10)})
    with monkeypatch.context() as patch:
        patch.setattr(regular_files, "memory", lambda: 4000)
        with pytest.raises(DamagedError, match=r"it has [\d,]+ bytes; allowed are 4,000"):
            checkpoints.load_checkpoint(tmp_path, "c")
    checkpoints.save_checkpoint(tmp_path, "c", {"x": torch.zeros(2**20)})
    squeezed = io.BytesIO()
    with (
        zipfile.ZipFile(tmp_path / "checkpoint.pt") as old,
        zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    content = squeezed.getvalue()
    (tmp_path / "checkpoint.pt").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(DamagedError, match="compressed"):
        checkpoints.load_checkpoint(tmp_path, "c")


# The cache of decoded images


def test_clearing_the_cache_takes_its_own_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("DG_REFEREE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    mine = ["model.safetensors", "model-00001-of-00002.safetensors", "x.partial", "notes.txt"]
    for name in (*mine, f"digits-usps-test-{'0' * 16}.safetensors", ".a_8xyz01.partial"):
        (tmp_path / "cache" / name).write_bytes(b"x")
    (tmp_path / "cache" / f"link-{'1' * 16}.safetensors").symlink_to(home / "thesis.tex")
    (tmp_path / "cache" / f"gone-{'1' * 16}.safetensors").symlink_to("gone")
    (tmp_path / "cache" / f"folder-{'2' * 16}.safetensors").mkdir()
    assert cache.clear()[0] == 4
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(
        [*mine, f"folder-{'2' * 16}.safetensors"]
    )
    assert (home / "thesis.tex").exists()


def test_folders_that_links_lead_to_again_are_walked_once(tmp_path: Path) -> None:
    for name in "abcdefgh":  # every folder leads to every other: without end, or as good as
        (tmp_path / name).mkdir()
        for other in "abcdefgh":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "lost+found").mkdir(mode=0)
    found: list[Any] = []
    walk = threading.Thread(target=lambda: found.extend(cache._states(str(tmp_path), "", set())), daemon=True)
    walk.start()
    walk.join(20)
    assert not walk.is_alive()
    assert [name for name, size, _ in found if size > 0] == [str(tmp_path / "a/file")]
