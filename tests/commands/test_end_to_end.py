"""Whole comparisons by the command that a user types, on every device that this machine has.

Every method goes through all of its phases in a few steps: settings that bring them forward are given by `--set`.
Each test makes its runs itself, so that test processes that share the work do not make them twice.
"""

import io
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from benchmark import registry, run, tables
from benchmark.core.record import Record
from benchmark.report.tidy.rows import shares_gpu
from benchmark.runs.perform import DRAWN
from benchmark.runs.store import Store
from tests.conftest import ROOT, own_warnings
from tests.faults.harness import light

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
LENGTH = {"cpu": 24, "cuda": 60}
"""Steps. On a GPU the first of each kind are launched before one is captured, and the captured one has to be used."""
ROWS = ("everything", "sada:weight_map=none")
SHORT = [
    "--datasets", "minidigits", "--seeds", "0", "--evaluations", "2", "--sensitivity-images", "4", "--jobs", "2",
]  # fmt: skip
PHASES = {
    "gud": ("adv_steps=2", "phases=2", "interval=6"),
    "mada": ("adv_steps=2", "phases=2", "interval=6", "wae_epochs=1"),
    "sada": ("num_steps=2", "map_images=4", "warmup=0.4"),
    "me_ada": ("adv_steps=2", "phases=2", "interval=6"),
    "advst": ("adv_steps=2", "interval=6"),
    "alt": ("adv_steps=2", "round_steps=4", "pre_rounds=2"),
    "aba": ("adv_steps=2", "round_steps=4", "pre_rounds=2"),
}
"""Settings that bring a method's phases into so few steps."""
LISTED = {"erm", "augmix", "randconv", "augmax", "gud", "mada", "sada"}


def there(device: str) -> None:
    """Skips the test where this machine has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def command(
    device: str, out: Path, *words: str, methods: tuple[str, ...] = ROWS, steps: int | None = None
) -> list[str]:
    given = [f"{name}.{each}" for name in PHASES if name in methods or "everything" in methods for each in PHASES[name]]
    base = [sys.executable, "-m", "benchmark.run", "--methods", *methods, "--set", *given, *SHORT, "--device", device]
    return [*base, "--steps", str(steps or LENGTH[device]), "--out", str(out), *words]


def call(device: str, out: Path, *words: str, methods: tuple[str, ...] = ROWS, steps: int | None = None) -> str:
    """What the command prints; it has to end well."""
    line = command(device, out, *words, methods=methods, steps=steps)
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def records(out: Path) -> dict[str, Record]:
    """By the name of the row."""
    return {record.asked.row: record for record in Store(out).read_all()}


def shown() -> set[str]:
    """The methods of ROWS."""
    return {name for name in registry.names("method") if not registry.find("method", name).experimental}


def weights(out: Path, record: Record) -> dict[str, torch.Tensor]:
    return safetensors.torch.load((out / "runs" / record.run_id / "weights.safetensors").read_bytes())


@DEVICES
def test_every_method_from_the_command_to_the_tables(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there(device)
    said = call(device, tmp_path, "--save-weights")
    methods = shown()
    rows = len(methods) + 1
    assert f"[{rows}/{rows}]" in said
    found = records(tmp_path)
    assert len(found) == rows
    assert {record.asked.method for record in found.values()} == methods >= LISTED
    for record in found.values():
        check_run(tmp_path, record, device)
    check_tables(tmp_path, found)
    assert tables.main(["--out", str(tmp_path), "--check"]) == 0
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    with light():  # in another process than the first call: every id is the same there
        assert run.main(command(device, tmp_path, "--save-weights")[3:]) == 0
    assert f"{rows} of {rows} runs are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == kept


def check_run(out: Path, record: Record, device: str) -> None:
    """A run's record and the files beside it."""
    row, folder = record.asked.row, out / "runs" / record.run_id
    assert record.status == "done", record.error
    assert (record.asked.device, record.steps) == (device, LENGTH[device])
    assert own_warnings(record) == [], row  # on a GPU: why a step could not be captured
    assert record.accuracy is not None
    assert record.throughput is not None
    assert record.throughput.images_per_second > 0, row
    assert record.throughput.train_seconds > 0, row
    assert sum(record.throughput.shares.values()) == pytest.approx(1), row
    if record.asked.method in ("gud", "mada", "me_ada", "advst"):
        assert record.throughput.shares["expand"] > 0, row
    assert record.accuracy.n_val == 297
    assert set(record.accuracy.domains) == {"blend", "print", "noise", "uci"}
    for domain in record.accuracy.domains.values():
        assert domain.n == 500
        assert domain.accuracy is not None
        assert all(0 <= value <= 100 for value in domain.accuracy.values())
    assert {path.name for path in folder.iterdir()} == {
        "record.json", "SHA256SUMS", "curve.jsonl", "sensitivity.npy", "views.png", "weights.safetensors", "card.md",
    }  # fmt: skip
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [LENGTH[device] // 2, LENGTH[device]]
    assert all(np.isfinite(point["loss"]) for point in curve)
    assert curve[-1]["val"] > 30, row  # ten classes: it has learnt something
    error = np.load(folder / "sensitivity.npy")
    assert error.shape == (32, 32)
    assert ((error >= 0) & (error <= 1)).all()
    assert Image.open(io.BytesIO((folder / "views.png").read_bytes())).size[0] == 8 * 32
    assert all(bool(value.isfinite().all()) for value in weights(out, record).values())
    assert record.run_id in (folder / "card.md").read_text()


NUMBERS = {
    "accuracy": ["accuracy", "n_images", "steps"],
    "cost": ["passes", "seconds", "accuracy"],
    "sensitivity": ["error_rate", "n_images"],
    "throughput": ["train_images_per_second", "relative_to_erm", "setup_seconds", "passes_per_image", "train_seconds",
                   "augment_share", "attack_share", "expand_share", "data_wait_share", "forward_backward_share"],
}  # fmt: skip
"""Columns of the tables for programs that hold a number in every row. What stands beside a floor is left out: it is
not measured everywhere."""
CLOCKED = "relative_to_erm", "seconds"
"""Those that say nothing of runs that shared a GPU."""


def check_tables(out: Path, found: dict[str, Record]) -> None:
    """A row for each run, and a number wherever one belongs."""
    rows = {(record.asked.method, record.asked.variant) for record in found.values()}
    shared = any(shares_gpu(record) for record in found.values())
    for name, columns in NUMBERS.items():
        table = pd.read_csv(out / "tables" / f"{name}.csv")
        assert set(zip(table["method"], table["variant"].fillna(""), strict=True)) == rows, name
        assert table[[column for column in columns if not (shared and column in CLOCKED)]].notna().all(axis=None), name
    for name in ("accuracy", "cost", "sensitivity", "throughput"):
        text = (out / "tables" / f"{name}.md").read_text()
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
        for row in found:
            (cells,) = (line for line in lines if line[0] == row)
            assert all(cells), (name, row)  # what cannot be said of one seed is a dash
            assert not {"failed", "not run", "data missing", "nan"} & set(cells), (name, row)
    assert (out / "index.html").stat().st_size > 10_000


@pytest.mark.gpu
def test_an_interrupted_run_is_taken_up(tmp_path: Path) -> None:
    """Ctrl-C once a run has a checkpoint, then the same command: the weights are those of undisturbed runs. For a CPU,
    tests/faults/test_signals.py and test_cli.py do that."""
    there("cuda")
    methods, steps, broken = ("gud", "mada"), 100, tmp_path / "broken"
    words = "--save-weights", "--checkpoint-seconds", "0", "--deterministic"
    line = command("cuda", broken, *words, methods=methods, steps=steps)
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 200
    while not list(broken.glob("runs/.partial-*/checkpoint.pt")) and process.poll() is None:
        assert time.monotonic() < end, "no run has begun"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    with light():
        assert run.main(line[3:]) == 0
    found = records(broken)
    assert [record.status for record in found.values()] == ["done", "done"]
    assert max(record.ran.resumed for record in found.values()) >= 1
    assert not [row for row, record in found.items() if DRAWN in record.warnings]
    call("cuda", tmp_path / "whole", *words, methods=methods, steps=steps)
    same(broken, tmp_path / "whole")


def same(one: Path, other: Path) -> None:
    """The runs of two folders have equal accuracies and weights, bit for bit."""
    first, second = records(one), records(other)
    assert first.keys() == second.keys()
    different = []
    for row, record in first.items():
        ours, theirs = weights(one, record), weights(other, second[row])
        assert ours.keys() == theirs.keys()
        if not all(torch.equal(ours[name], theirs[name]) for name in ours):
            worst = max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)
            different.append(f"{row}: weights differ by up to {worst:.1e}; {record.warnings}")
        if record.accuracy != second[row].accuracy:
            different.append(f"{row}: accuracies differ")
    assert not different, "\n".join(different)


@pytest.mark.gpu
def test_captured_steps_give_the_bits_of_launched_ones(tmp_path: Path) -> None:
    there("cuda")
    words = "--save-weights", "--deterministic"
    with ThreadPoolExecutor() as both:
        captured = both.submit(call, "cuda", tmp_path / "captured", *words)
        launched = both.submit(call, "cuda", tmp_path / "launched", *words, "--launch")
    assert captured.result()
    assert launched.result()
    assert all(record.status == "done" for record in records(tmp_path / "captured").values())
    same(tmp_path / "captured", tmp_path / "launched")


@pytest.mark.gpu
def test_every_method_in_tf32(tmp_path: Path) -> None:
    there("cuda")
    call("cuda", tmp_path, "--precision", "tf32")
    found = records(tmp_path)
    assert {record.asked.method for record in found.values()} == shown()
    assert all(record.status == "done" and record.asked.recipe.precision == "tf32" for record in found.values())
    assert all(record.accuracy and record.accuracy.source_val["last"] > 30 for record in found.values())
