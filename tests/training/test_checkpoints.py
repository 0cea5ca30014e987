"""Checkpoints: whole or not there, damage is noticed and said, the pool is written once for each phase."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.core.settings import frozen
from benchmark.method import Method, Rng, State
from benchmark.training import checkpoints, signals
from benchmark.training.checkpoints import DamagedError
from benchmark.training.loop import train
from benchmark.training.progress import begin
from tests import toy

STATE = {"x": torch.arange(1000.0), "plain": [1, 2.5, "three"]}


def flip(path: Path) -> None:
    """One bit in the middle of the numbers."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_a_checkpoint_reads_back_with_its_pool(tmp_path: Path) -> None:
    for step in (3, 7):
        checkpoints.save_checkpoint(tmp_path, "code", STATE, (step, [torch.full((4,), float(step))]))
    found = checkpoints.load_checkpoint(tmp_path, "code")
    assert found is not None
    assert torch.equal(found[0]["x"], STATE["x"])  # type: ignore[arg-type]
    assert found[0]["plain"] == STATE["plain"]
    assert torch.equal(found[1][0], torch.full((4,), 7.0))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "pool-7.pt"}


def test_torch_alone_reads_a_checkpoint_and_would_not_notice_a_flipped_bit(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, "code", STATE)
    flip(tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["code"] == "code"
    with pytest.raises(DamagedError, match=r"checkpoint.pt is damaged"):
        checkpoints.load_checkpoint(tmp_path, "code")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_damaged_pool_is_noticed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints.save_checkpoint(tmp_path, "code", {}, (2, [torch.arange(1000.0)]))
    damage(tmp_path / "pool-2.pt")
    with pytest.raises(DamagedError, match=r"pool-2.pt"):
        checkpoints.load_checkpoint(tmp_path, "code")
    assert not list(tmp_path.iterdir())


def test_a_pool_of_another_life_of_the_run_is_noticed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    checkpoints.save_checkpoint(tmp_path, "code", {}, (2, [torch.zeros(4)]))
    checkpoints.save_checkpoint(other, "code", {}, (2, [torch.ones(4)]))
    (other / "pool-2.pt").replace(tmp_path / "pool-2.pt")
    with pytest.raises(DamagedError, match=r"pool-2.pt"):
        checkpoints.load_checkpoint(tmp_path, "code")


def test_a_checkpoint_of_other_code_is_not_taken_up(tmp_path: Path) -> None:
    assert checkpoints.load_checkpoint(tmp_path, "code") is None
    checkpoints.save_checkpoint(tmp_path, "code", STATE, (2, [torch.zeros(4)]))
    assert checkpoints.load_checkpoint(tmp_path, "other") is None
    assert not list(tmp_path.iterdir())


def test_what_no_checkpoint_may_hold_is_named(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, "code", {"path": Path("x")})
    with pytest.raises(DamagedError, match="holds more than tensors and plain values"):
        checkpoints.load_checkpoint(tmp_path, "code")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save_checkpoint(tmp_path, "code", STATE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save_checkpoint(tmp_path, "code", {"x": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert checkpoints.load_checkpoint(tmp_path, "code") is not None


@frozen()
class Stopping(Method):
    """Asks for the end at one step, or raises there."""

    at: int = -1
    quietly: bool = True

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if rng.step == self.at:
            if not self.quietly:
                raise KeyboardInterrupt
            signals._asked = signal.SIGTERM
        return nn.functional.cross_entropy(net(x), y)


def run(folder: Path, method: Method, **changes: Any) -> Any:
    asked, loaded = toy.asked(steps=8), toy.loaded()
    trained = begin(asked, method, loaded)
    train(trained, asked, method, loaded, folder, code="c", checkpoint_seconds=changes.get("checkpoint_seconds", 1e9))
    return trained


def test_a_run_that_is_to_stop_keeps_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", Stopping())
    monkeypatch.setattr(signals, "_asked", None)
    with pytest.raises(signals.StoppedError) as caught:
        run(tmp_path, Stopping(at=4))
    assert caught.value.code == 143
    signals._asked = None
    resumed = run(tmp_path, Stopping())
    assert resumed.resumed == 1
    assert resumed.curve == whole.curve


@pytest.mark.parametrize("damage", [cut, empty])
def test_a_run_with_a_damaged_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole = run(tmp_path / "whole", Stopping())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stopping(at=4, quietly=False), checkpoint_seconds=0)
    damage(tmp_path / "checkpoint.pt")
    anew = run(tmp_path, Stopping())
    assert (anew.resumed, anew.curve) == (0, whole.curve)
    assert anew.notes == ["started anew: checkpoint.pt is damaged: its bytes are not those that were written"]


def other_network(saved: dict[str, Any]) -> None:
    name = next(iter(saved["net"]))
    saved["net"][name] = saved["net"][name][:1]


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda saved: saved.__setitem__(name, value)


WRONG = {
    "another network": other_network,
    "no network": lambda saved: saved.pop("net"),
    "no optimiser": put("optimizer", {}),
    "no meter": put("meter", []),
    "a loss of many": put("loss_sum", torch.zeros(2)),
    "a loss of none": put("loss_sum", None),
    "a state of a list": put("state", [1]),
    "other weights": put("best", {"x": torch.zeros(1)}),
    "weights of none": put("best", 3),
    "a curve of numbers": put("curve", [3]),
    "notes of numbers": put("notes", [3]),
    "too few counts": put("plain", [1, 2]),
    "a negative step": put("plain", [-1, 0, 1.0, 0, None]),
    "a step of a half": put("plain", [1.5, 0, 1.0, 0, None]),
    "a step of none": put("plain", [None, 0, 1.0, 0, None]),
    "seconds of nan": put("plain", [1, 0, float("nan"), 0, None]),
    "a pool that is not there": put("plain", [1, 0, 1.0, 0, 3]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_run_with_a_sealed_checkpoint_of_another_shape_starts_anew_and_says_so(tmp_path: Path, wrong: str) -> None:
    whole = run(tmp_path / "whole", Stopping())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stopping(at=4, quietly=False), checkpoint_seconds=0)
    found = checkpoints.load_checkpoint(tmp_path, "c")
    assert found is not None
    WRONG[wrong](found[0])
    checkpoints.save_checkpoint(tmp_path, "c", found[0])
    anew = run(tmp_path, Stopping())
    assert (anew.resumed, anew.step, anew.curve) == (0, whole.step, whole.curve)
    assert "started anew: checkpoint.pt is not one of this run: " in anew.notes[0]


def test_a_checkpoint_that_cannot_be_written_costs_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write", full)
    ended = run(tmp_path, Stopping(), checkpoint_seconds=0)
    assert ended.step == 8
    assert ended.notes == ["a checkpoint could not be written: No space left on device"]
