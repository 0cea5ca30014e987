"""Captured steps give the numbers of launched ones.

Without a GPU the recorders of recorders.py stand in for CUDA graphs. On a GPU the first tests capture and replay.
"""

import itertools
import random
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.core import capture, stream, timing
from benchmark.core.capture import Loop
from benchmark.method import Rng, Source, State
from benchmark.ops import autoencoder
from benchmark.training.determinism import determinism
from benchmark.training.loop import train
from benchmark.training.optimise import fit_erm
from benchmark.training.progress import begin
from benchmark.training.steps import ChangedError
from tests import recorders, toy
from tests.core import replayed_methods
from tests.core.replayed_methods import AVERAGE, NOTICED, OWN, Counts, Plugin, ReadsProgress
from tests.core.replaying import DEVICES, STEPS, replaying, same, trained
from tests.methods.test_methods import make
from tests.recorders import Double, Refusing, Tape


@DEVICES
def test_a_replayed_run_is_resumed_bit_for_bit(device: str, tmp_path: Path) -> None:
    """With a checkpoint after every step, and a new capture after it."""
    whole_run = trained(make("sada"), device, tmp_path / "a", replaying(device, Double()))
    asked = toy.asked("erm", device=device, steps=STEPS)
    with determinism(True), replaying(device, Double()):
        half = begin(asked, make("sada"), toy.loaded())
        half_way = STEPS // 2

        def stop(doing: str, share: float) -> None:
            if share >= half_way / STEPS:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(half, asked, make("sada"), toy.loaded(), tmp_path, stop, checkpoint_seconds=0)
        rest = begin(asked, make("sada"), toy.loaded())
        train(rest, asked, make("sada"), toy.loaded(), tmp_path, checkpoint_seconds=1e9)
    assert rest.resumed == 1
    assert rest.meter.replays > 0
    for a, b in zip(whole_run.net.state_dict().values(), rest.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert whole_run.curve == rest.curve


@pytest.mark.parametrize("name", ["erm", "gud", "mada"])
def test_the_operations_of_a_captured_step_are_enough(name: str, tmp_path: Path) -> None:
    """What a graph has: operations on fixed places, without the host."""
    launched, tape = trained(make(name), "cpu", tmp_path / "a", nullcontext(), steps=40), Tape()
    replayed = trained(make(name), "cpu", tmp_path / "b", capture.recording(tape), steps=40)
    assert replayed.notes == []
    assert tape.replayed >= replayed.meter.replays >= 10
    same(launched, replayed)


@DEVICES
@pytest.mark.parametrize(("plugin", "why"), NOTICED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_plugin_that_cannot_be_replayed_is_launched(
    plugin: type[Plugin], why: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU a refused capture also has to leave stream, memory and generators usable; torch words it as it likes."""
    runs = []
    for within in (nullcontext(), replaying(device, Tape())):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        OWN.seed(0)
        AVERAGE.clear()
        monkeypatch.setattr(Counts, "calls", 0)
        monkeypatch.setattr(replayed_methods, "CALLS", itertools.count())
        monkeypatch.setattr(recorders, "ticks", itertools.count(), raising=False)
        runs.append(trained(plugin(), device, tmp_path, within, steps=40))
    launched, other = runs
    assert launched.notes == []
    (note,) = other.notes
    assert note.startswith("steps were launched, not replayed: replayed_methods")
    if device == "cpu":
        assert re.search(why, note), note
    assert "\n" not in note
    same(launched, other)
    assert launched.state == other.state


class Scheduled(ReadsProgress):
    def kind(self, rng: Rng) -> bool:
        return rng.progress > 0.5


class Drops(Plugin):
    """A generator asked for twice, and draws."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        first, again = (torch.rand(len(x), generator=rng.generator("twice")) for _ in range(2))
        return (first * again * rng.draw("more", sample_about_one, len(x))).mean() + first.mean()


def sample_about_one(size: int, generator: torch.Generator) -> Tensor:
    return 1 + torch.rand(size, generator=generator)


class Replaces(Plugin):
    """A tensor of the state that `expand` replaces, later overwrites, and plain values that it changes."""

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        if step in (11, 13):
            state["place"] = torch.full((), 1.0 + step)
        elif step > 20:
            state["place"].fill_(step)
        state["list"][0] = 1.0 + (step > 30)

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return state["place"] * sum(state["list"])


class Looks(Replaces):
    """Sees the whole state, and so an entry that comes later."""

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        if step == 20:
            state["late"] = 2.0

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return sum(value for value in state.values() if isinstance(value, float))


class Freezes(Plugin):
    """A part of the network is frozen in the middle."""

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        if step == 20:
            next(net.parameters()).requires_grad_(False)


class Moves(Plugin):
    """The network's numbers move to another place."""

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        if step == 20:
            for parameter in net.parameters():
                parameter.data = parameter.data.clone()


@pytest.mark.parametrize(
    ("plugin", "captures"),
    [(Plugin, 1), (Scheduled, 2), (Drops, 1), (Replaces, 4), (Looks, 2), (Freezes, 2), (Moves, 2)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_known_to_change_is_captured_anew(plugin: type[Plugin], captures: int, tmp_path: Path) -> None:
    tape = Tape()
    launched = trained(plugin(), "cpu", tmp_path, nullcontext(), steps=50)
    replayed = trained(plugin(), "cpu", tmp_path, capture.recording(tape), steps=50)
    assert replayed.notes == []
    assert tape.captured == captures
    assert replayed.meter.replays == tape.replayed > 20
    same(launched, replayed)


class Many(Plugin):
    def kind(self, rng: Rng) -> int:
        return rng.step


def test_more_kinds_than_can_be_kept_are_launched(tmp_path: Path) -> None:
    launched, tape = trained(Many(), "cpu", tmp_path, nullcontext()), Tape()
    other = trained(Many(), "cpu", tmp_path, capture.recording(tape))
    (note,) = other.notes
    assert note == "steps were launched, not replayed: test_capture names more than 16 kinds of step (Method.kind)"
    assert tape.captured == 0
    same(launched, other)


@pytest.mark.parametrize("name", ["erm", "mada"])
def test_a_capture_that_fails_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    launched, refusing = trained(make(name), "cpu", tmp_path, nullcontext()), Refusing()
    other = trained(make(name), "cpu", tmp_path, capture.recording(refusing))
    assert other.notes == [
        f"steps were launched, not replayed: {name}: its step cannot be captured (RuntimeError: no captures today)"
    ]
    same(launched, other)


class Turns(Plugin):
    """Decides by something that changes between two evaluations, and that nobody could see."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return recorders.LATE["factor"]  # type: ignore[attr-defined]

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        recorders.LATE["factor"] = 2.0 if step > 15 else 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("evaluations", [1, 2, 24])
def test_a_host_that_changes_its_mind_ends_the_run(
    evaluations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "LATE", {}, raising=False)
    with pytest.raises(ChangedError, match=r"becomes.*Method\.kind.*--launch"):
        trained(Turns(), "cpu", tmp_path, capture.recording(Tape()), evaluations=evaluations)


class Breaks(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        if next(recorders.ticks) == 1:  # type: ignore[attr-defined]
            raise RuntimeError("broken on purpose")
        return 1.0


def test_an_error_in_a_watched_step_is_the_methods_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "ticks", itertools.count(), raising=False)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        trained(Breaks(), "cpu", tmp_path, capture.recording(Tape()))
    assert timing.active() is None
    assert capture.recorder() is None
    with monkeypatch.context() as patch:
        patch.setattr(recorders, "ticks", itertools.count(5))
        assert trained(Breaks(), "cpu", tmp_path, nullcontext()).notes == []


def test_views_may_choose_the_weights_of_a_replayed_run(tmp_path: Path) -> None:
    """Evaluation calls the method too, on other batches, and weights are kept and put back."""
    changes: Any = {"selection": "source-val-views", "evaluations": 4}
    launched = trained(make("sada"), "cpu", tmp_path, nullcontext(), **changes)
    replayed = trained(make("sada"), "cpu", tmp_path, capture.recording(Double()), **changes)
    assert replayed.notes == []
    assert replayed.meter.replays > 0
    replayed.meter.counted = launched.meter.counted
    same(launched, replayed)
    for name, weight in launched.best.items():
        assert torch.equal(weight, replayed.best[name])


def test_a_pool_on_the_host_is_replayed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    launched, tape = trained(make("erm"), "cpu", tmp_path, nullcontext()), Tape()
    replayed = trained(make("erm"), "cpu", tmp_path, capture.recording(tape))
    assert replayed.notes == []
    assert tape.captured == 1
    same(launched, replayed)


def test_the_shares_of_a_replayed_run_are_those_of_launched_steps(tmp_path: Path) -> None:
    run = trained(make("sada", warmup=0.0), "cpu", tmp_path, capture.recording(Double()))
    meter = run.meter
    assert 0 < meter.replays < run.step
    meter.read()
    assert len(meter.step_seconds) == run.step
    (kind,) = meter.replayed
    shares, launched = meter.shares(), meter.launched[kind]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares["augment"], shares["attack"], shares["forward_backward"]) > 0
    of_replayed = {name: part / sum(launched.values()) * meter.replayed[kind] for name, part in launched.items()}
    for name, seconds in meter.read().items():
        assert seconds == pytest.approx(meter.seconds[name] + of_replayed.get(name, 0.0))
    again = timing.Meter(torch.device("cpu"))
    again.restore(meter.state())
    assert again.state() == meter.state()
    assert again.shares() == shares
    assert (again.passes(), again.images, again.replays) == (meter.passes(), meter.images, meter.replays)


def test_a_loop_is_launched_twice_and_then_replayed() -> None:
    tape, total, seen = Tape(), torch.zeros(3), []

    def work(x: Tensor) -> None:
        seen.append(len(x))
        total.add_(x.sum(dim=0))

    with capture.recording(tape):
        loop = Loop(work)
        for i in range(6):
            loop(torch.full((2, 3), float(i)))
        loop(torch.ones(1, 3))  # another shape is launched
    assert total.tolist() == [31.0] * 3
    assert (tape.captured, tape.replayed) == (1, 4)
    assert seen == [2, 2, 2, 1]


@pytest.mark.parametrize("recorder", [Double, Tape, Refusing])
def test_the_helpers_of_methods_train_to_the_same_bits(recorder: type[Double]) -> None:
    def weights() -> list[Tensor]:
        net, images = networks.build("mini_convnet", 4, 0), toy.images(64, 0)
        meter = timing.Meter(torch.device("cpu"))
        with meter.running(net):
            fit_erm(net, images, toy.RECIPE, 9, Rng(0))
        settings = autoencoder.WaeSettings(batch=8, wae_epochs=2, wae_hidden=16, wae_code=4, wae_critic=8)
        coder = autoencoder.train(images, settings, torch.Generator().manual_seed(0))
        return [*net.state_dict().values(), *coder.values(), torch.tensor(meter.passes())]

    launched, by = weights(), recorder()
    with determinism(True), capture.recording(by):
        replayed = weights()
    assert by.captured == 2
    assert by.replayed == (0 if recorder is Refusing else 7 + 14)
    for a, b in zip(launched, replayed, strict=True):
        assert torch.equal(a, b)
