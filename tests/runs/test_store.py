"""The store: atomic, validated, and honest about damage."""

import errno
import fcntl
import json
import os
import stat
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark import tables
from benchmark.core import durable, locks
from benchmark.core.errors import UsageError
from benchmark.core.locks import BusyError
from benchmark.core.record import Asked, canonical_json
from benchmark.report import page
from benchmark.runs import places
from benchmark.runs.store import Store, write_whole
from benchmark.training.artifacts import npy_bytes
from benchmark.training.checkpoints import save_checkpoint
from tests import toy
from tests.handmade import record

if TYPE_CHECKING:
    from _typeshed import HasFileno


def stored(tmp_path: Path) -> tuple[Store, str]:
    store, made = Store(tmp_path), record("erm", 0)
    store.prepare()
    with store.working(made.run_id):
        store.finish(made, [{"step": 1, "val": 50.0}])
    return store, made.run_id


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    store, run_id = stored(tmp_path)
    assert store.read(run_id) == record("erm", 0)
    assert store.read_all() == [record("erm", 0)]
    assert not list(store.runs.glob(".partial-*"))
    assert (store.runs / run_id / "curve.jsonl").read_text() == '{"step": 1, "val": 50.0}\n'
    checked = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=store.runs / run_id, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("name", ["index.html", "tables", "figures"])
def test_a_folder_with_what_others_made_is_no_place_for_results(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"--out .*: it has no runs, but {name}, which would be replaced"):
        Store(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / "runs" / "exp1").mkdir(parents=True)  # TensorBoard's folder has that name, too
    with pytest.raises(UsageError, match="it has no runs, but"):
        Store(tmp_path).prepare()
    assert tables.main(["--out", str(tmp_path)]) == 2
    assert (tmp_path / name).read_text() == "mine"
    (tmp_path / "runs" / ".partial-0123456789ab").mkdir()
    Store(tmp_path).prepare()


def test_results_whose_runs_were_deleted_may_be_made_anew(tmp_path: Path) -> None:
    page.write(Store(tmp_path), [])
    (tmp_path / "tables").mkdir()
    Store(tmp_path).prepare()


def test_runs_that_may_not_be_read_are_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store(tmp_path).ids() == []  # there are none
    monkeypatch.setattr(os, "listdir", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(UsageError, match=r"runs: Permission denied"):
        Store(tmp_path).ids()


def test_two_containers_may_prove_at_once_that_a_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both count their processes from 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    synced: list[int] = []

    def sync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 1:
            Store(tmp_path).prepare()

    monkeypatch.setattr(os, "fsync", sync)
    Store(tmp_path).prepare()
    assert len(synced) == 2
    assert not list((tmp_path / "runs").iterdir())


def test_a_file_that_finds_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device") as problem:
        write_whole(tmp_path / "record.json", b"x")
    assert problem.value.filename == str(tmp_path / "record.json")


def test_who_waits_for_the_tables_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path)
    store.prepare()
    with store.in_turn(told.append):
        waiting = threading.Thread(target=lambda: store.in_turn(told.append).__enter__(), daemon=True)
        waiting.start()
        for _ in range(1000):
            waiting.join(0.0 if told else 0.01)
    waiting.join(10)
    assert not waiting.is_alive()
    assert told == [f"{tmp_path}: another command writes the tables there; waiting for it to end"]


def test_a_second_record_of_a_run_replaces_the_first(tmp_path: Path) -> None:
    store, run_id = stored(tmp_path)
    better = record("erm", 0).model_copy(update={"steps": 99})
    with store.working(run_id):
        store.finish(better, [])
    assert store.read_all() == [better]
    assert not list(store.runs.glob(".old-*"))


@pytest.mark.parametrize("written", range(5))
def test_a_run_that_was_cut_off_while_it_was_written_is_whole_or_not_there(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four files: the sums, the map, the curve and the record."""
    content = npy_bytes(np.zeros((4, 4), np.float32))
    store, made, files = Store(tmp_path), record("erm", 0, map_file=content), list[str]()
    store.prepare()

    def write(path: Path, what: bytes) -> None:
        if len(files) == written:
            raise KeyboardInterrupt
        files.append(path.name)
        durable.write_atomically(path, what)

    with monkeypatch.context() as cut, store.working(made.run_id):
        cut.setattr("benchmark.runs.store.write_atomically", write)
        cut.setattr(store, "_place", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.finish(made, [{"step": 1}], {"sensitivity.npy": content})
    assert len(files) == written
    store.prepare()
    assert store.read(made.run_id) == (made if written == 4 else None)
    assert [path.name for path in store.runs.iterdir() if path.name.startswith(".partial")] == []


def test_a_run_that_was_cut_off_while_it_was_replaced_keeps_the_first_record(tmp_path: Path) -> None:
    store, run_id = stored(tmp_path)
    (store.runs / run_id).rename(store.runs / f".old-{run_id}")
    assert store.ids() == []
    store.prepare()
    assert store.read_all() == [record("erm", 0)]


def test_a_run_that_is_about_to_be_put_in_its_place_is_not_there_yet(tmp_path: Path) -> None:
    store, run_id = stored(tmp_path)
    (store.runs / run_id).rename(store.runs / f".partial-{run_id}")
    assert store.read_all() == []


def test_a_finished_run_keeps_no_checkpoint(tmp_path: Path) -> None:
    store, made = Store(tmp_path), record("erm", 0)
    store.prepare()
    with store.working(made.run_id) as folder:
        save_checkpoint(folder, "code", {"step": 3}, (2, torch.zeros(4)))
        assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "pool-2.pt"}
        store.finish(made, [])
    assert {path.name for path in (store.runs / made.run_id).iterdir()} == {"SHA256SUMS", "curve.jsonl", "record.json"}


@pytest.mark.parametrize("changes", ["replaced", "packed", "nothing"])
def test_a_run_that_is_replaced_while_it_is_read_is_read_anew(
    changes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run_id = stored(tmp_path)
    better, read, times = record("erm", 0).model_copy(update={"steps": 99}), places.Folder.read, []

    def meanwhile(place: places.Folder, name: str) -> bytes:
        times.append(name)
        if len(times) == 3:
            if changes == "replaced":
                with store.working(run_id):
                    store.finish(better, [])
            if changes == "packed":
                store.pack(run_id)
            raise ValueError("half of the file is the other's")
        return read(place, name)

    monkeypatch.setattr(places.Folder, "read", meanwhile)
    if changes == "nothing":
        with pytest.raises(UsageError, match="half of the file"):
            store.read(run_id)
    else:
        assert store.read(run_id) == (better if changes == "replaced" else record("erm", 0))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "", "Invalid JSON"),
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: text.replace('"steps"', '"stepz"', 1), "stepz"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "belong to run"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 7'), "schema_version"),
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, damage: object, says: str) -> None:
    store, run_id = stored(tmp_path)
    path = store.runs / run_id / "record.json"
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(UsageError, match=says) as caught:
        store.read_all()
    assert str(path) in str(caught.value)


def test_an_altered_map_is_refused(tmp_path: Path) -> None:
    content = npy_bytes(np.zeros((4, 4), np.float32))
    store, made = Store(tmp_path), record("erm", 0, map_file=content)
    store.prepare()
    with store.working(made.run_id):
        store.finish(made, [], {"sensitivity.npy": content})
    found = store.map_of(made)
    assert found is not None
    assert torch.equal(found.error, torch.zeros(4, 4))
    (store.runs / made.run_id / "sensitivity.npy").write_bytes(npy_bytes(np.ones((4, 4), np.float32)))
    with pytest.raises(UsageError, match="hash"):
        store.map_of(made)


def test_reading_a_run_checks_all_of_it_but_the_weights(tmp_path: Path) -> None:
    made = record("erm", 0)
    store = Store(tmp_path)
    store.prepare()
    with store.working(made.run_id):
        store.finish(made, [], {"views.png": b"view", "weights.safetensors": b"large"})
    folder = store.runs / made.run_id
    (folder / "weights.safetensors").unlink()  # not even opened
    assert store.read(made.run_id) == made
    (folder / "views.png").write_bytes(b"VIEW")
    with pytest.raises(UsageError, match=r"views\.png: it is not what was written"):
        store.read(made.run_id)


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    with store.working("abc"), pytest.raises(BusyError), Store(tmp_path).working("abc"):
        pass
    with store.working("abc"):
        pass  # free again


def test_a_file_system_that_locks_only_writable_files_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: an exclusive lock needs a file that is open for writing, and a folder's is seen on one machine alone."""
    flock = fcntl.flock

    def strict(handle: "int | HasFileno", operation: int) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            return  # every machine gets it
        if operation & fcntl.LOCK_EX and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", strict)
    store = Store(tmp_path)
    store.prepare()
    (store.runs / ".lock-left").touch()  # by SIGKILL
    with store.working("abc"):
        assert store.is_busy("abc")
        Store(tmp_path).prepare()
    assert not store.is_busy("left")
    with store.in_turn(print), pytest.raises(BusyError), locks.held(store.runs / ".tables"):
        pass
    assert not [*store.runs.iterdir()]


def test_who_may_not_write_beside_the_runs_takes_turns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def may_read(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError
        return opened(path, flags, *more)

    store = Store(tmp_path)
    store.prepare()
    with store.working("abc"), monkeypatch.context() as patch:
        patch.setattr(os, "open", may_read)
        assert store.is_busy("abc")
        with store.in_turn(print):
            other = opened(store.runs, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write there"):
        Store(tmp_path / "file" / "out").prepare()


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_run_id_depends_on_what_was_asked_and_on_nothing_else() -> None:
    asked = toy.asked()
    assert asked.run_id == Asked.model_validate_json(asked.model_dump_json()).run_id
    assert len({asked.run_id, toy.asked(seed=1).run_id, toy.asked(lr=0.5).run_id, toy.asked("augmix").run_id}) == 4
    assert set(json.loads(asked.model_dump_json())) == {
        "protocol",
        "recipe",
        "method",
        "settings",
        "variant",
        "dataset",
        "dataset_settings",
        "fingerprint",
        "source",
        "seed",
        "budget",
        "seconds",
        "device",
    }  # fmt: skip - no path, host or date


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_canonical_json_ignores_key_order(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_runs_of_other_processes_delay_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Slurm array shares one folder: waiting a second for each run that is under way would add up."""
    (store, _), waited = stored(tmp_path), Mock()
    monkeypatch.setattr(locks, "sleep", waited)
    with store.working("0123456789ab"):
        Store(tmp_path).prepare()
    waited.assert_not_called()
