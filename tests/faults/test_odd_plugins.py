"""Plugins that do what no method or dataset of ours does: each costs itself alone, and no number is wrong."""

import os
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file

from benchmark import networks
from benchmark.core.record import Record
from benchmark.runs.store import Store
from tests.faults.harness import SMALL, Ended, call, plugin, words

QUICK = ["--seeds", "0", "--steps", "2"]
FIELDS = """
from enum import Enum
from torch.nn.functional import cross_entropy
from benchmark import method

class Mode(str, Enum):
    A = "a"
    B = "b"

@method.frozen()
class Method(method.Method):
    weight: float = 1
    mode: Mode = Mode.A
    note: str | None = "none yet"
    limit: float | None = 2.0

    def loss(self, net, x, y, rng, state):
        return cross_entropy(net(x), y)
"""
DATASET = """
import torch
from benchmark import data
from benchmark.core.images import Images

@data.frozen()
class Dataset(data.Dataset):
    classes, domains, sources = ("a", "b"), ("here", "there"), ("here",)
    licence = citation = "none"
    needs_files = False
    size: int = 8

    def load(self, domain, split, root):
        {does}
"""


def tried(folder: Path, text: str) -> Ended:
    """How a command ended that runs a dataset of this text."""
    file = folder / "odd.py"
    file.write_text(text)
    return call([*SMALL[2:], "--datasets", "odd", "--plugin", str(file), *QUICK, "--out", str(folder / "out")])


def done(out: Path) -> dict[str, Record]:
    return {record.asked.variant or record.asked.method: record for record in Store(out).read_all()}


def test_settings_are_of_their_field_s_type_and_commands_repeat_them(tmp_path: Path) -> None:
    file = tmp_path / "fields.py"
    file.write_text(FIELDS)
    rows = ["fields", "fields:weight=1", "fields:mode=b,note=null"]
    rows += ["fields:mode=b,note=None", "fields:limit=none"]
    assert call(words(tmp_path, tmp_path / "out", "--methods", *rows, *QUICK, plugins=[file])).code == 0
    found = done(tmp_path / "out")
    assert set(found) == {"fields", "mode=b,note=null", "limit=null"}  # 1 and 1.0 are one row, and one run
    assert found["fields"].asked.settings == {"weight": 1.0, "mode": "a", "note": "none yet", "limit": 2.0}
    assert found["mode=b,note=null"].asked.settings == {"weight": 1.0, "mode": "b", "note": None, "limit": 2.0}
    assert "--methods fields:mode=b,note=null " in found["mode=b,note=null"].ran.command
    file.write_text(FIELDS.replace("= 1\n", "= 1.0\n"))
    assert call(words(tmp_path, tmp_path / "out", "--methods", *rows, *QUICK, plugins=[file])).code == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "accuracy.csv")
    assert len(table.groupby("run_id")) == 3  # the text is another; the runs are the same, done again


def test_a_setting_given_twice_is_refused(tmp_path: Path) -> None:
    for words_, named in ((["--methods", "augmix:severity=3,severity=4"], "severity is given twice"),
                          (["--set", "augmix.lam=1", "augmix.lam=2"], "augmix.lam is given twice")):  # fmt: skip
        ended = call(["--methods", "augmix", *words_, *QUICK, "--dry-run", "--out", str(tmp_path)])
        assert ended.code == 2
        assert named in ended.err


@pytest.mark.parametrize(
    ("does", "named"),
    [
        ("raise KeyError('boo')", "dataset 'odd' raised KeyError: 'boo'"),
        ("raise SystemExit(3)", "dataset 'odd' raised SystemExit: 3"),
        (
            "return Images(torch.rand(8, 3, 8, 8), torch.zeros(8).int())",
            "labels must be int64 [8], not torch.int32 [8]",
        ),
        ("torch.empty(2**50)", "do not fit into memory"),
    ],
)
def test_what_a_dataset_raises_names_its_file(tmp_path: Path, does: str, named: str) -> None:
    ended = tried(tmp_path, DATASET.format(does=does))
    assert ended.code == 2
    assert ended.err.startswith(f"error: {tmp_path / 'odd.py'}: dataset 'odd'")
    assert named in ended.err
    assert ("--set odd.size=N" in ended.err) == ("memory" in named)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("return 255 * torch.rand(8, 3, 8, 8), torch.zeros(8).long()", "odd: load() gives tuple"),
        ("return Images(255 * torch.rand(8, 3, 8, 8), torch.zeros(8).long())", "odd/here/train: "),
    ],
)
def test_what_is_wrong_with_a_dataset_s_images_names_it(does: str, says: str, tmp_path: Path) -> None:
    ended = tried(tmp_path, DATASET.format(does=does))
    assert ended.code == 2
    assert ended.err.startswith(f"error: {says}")


def test_a_dataset_of_one_class_is_refused(tmp_path: Path) -> None:
    text = DATASET.format(does="return Images(torch.rand(8, 3, 8, 8), torch.zeros(8).long())")
    ended = tried(tmp_path, text.replace('("a", "b"), (', '("a",), ('))
    assert ended.code == 2
    assert ended.err == "error: dataset 'odd': it has one class; training needs two or more\n"


def test_a_network_that_cannot_be_built_is_told_before_any_run(tmp_path: Path) -> None:
    """One that a plugin registers with timm may raise anything."""
    file = tmp_path / "own.py"
    own = "@timm.models.register_model\ndef broken_of_a_test(**more):\n    raise KeyError('boo')\n"
    file.write_text(f"import timm\n{FIELDS}\n\n{own}")
    asked = [*SMALL, "--network", "timm:broken_of_a_test", "--methods", "erm"]
    ended = call([*words(tmp_path, tmp_path / "out", plugins=[file]), *asked[2:], *QUICK])
    assert ended.code == 2
    assert ended.err.endswith("error: --network timm:broken_of_a_test: building it raised KeyError: 'boo'\n")


@pytest.mark.parametrize(
    "more", [[], ["--search", "2"], ["--weights", "first.safetensors", "--track", "tensorboard:t"]]
)
def test_a_method_that_goes_to_another_folder_costs_no_run(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(networks.build("mini_convnet", 10, 0).state_dict(), "first.safetensors")
    file = plugin(tmp_path, "goes", "os.chdir('/')")
    ended = call(words(tmp_path, Path("out"), "--methods", "goes", "erm", *QUICK, *more, plugins=[file]))
    assert (ended.code, "error" in ended.err) == (0, False), ended.err
    os.chdir(tmp_path)
    assert {name: record.status for name, record in done(tmp_path / "out").items()} == {"goes": "done", "erm": "done"}


def test_a_set_up_that_takes_the_whole_budget_fails_and_the_tables_stay(tmp_path: Path) -> None:
    file = plugin(tmp_path, "waits")
    file.write_text(
        file.read_text() + "\n    def setup(self, net, source, rng):\n        time.sleep(0.3)\n        return {}\n"
    )
    grid = ["--methods", "erm", "waits", "--seeds", "0", "--budget", "time", "--seconds", "0.2"]
    for _ in range(2):
        ended = call(words(tmp_path, tmp_path / "out", *grid, plugins=[file]))
        assert ended.code == 1
    found = done(tmp_path / "out")
    assert found["erm"].status == "done"
    assert found["waits"].status == "failed"
    assert "its set-up spent the whole budget of time" in str(found["waits"].error)
    assert call(["--out", str(tmp_path / "out"), "--check"], "tables").code == 0


def test_what_a_method_declares_for_the_search_is_checked(tmp_path: Path) -> None:
    file = plugin(tmp_path, "listed")
    file.write_text(file.read_text() + "\n    searched = ['a']\n")
    ended = call(words(tmp_path, tmp_path / "out", "--methods", "listed", "--search", "2", *QUICK, plugins=[file]))
    assert ended.code == 2
    assert "searched is ['a']; write a dict" in ended.err


def test_a_range_that_leads_out_of_its_field_is_the_file_s_fault(tmp_path: Path) -> None:
    file = plugin(tmp_path, "far")
    file.write_text(
        file.read_text().replace("    def loss", "    eta: float = Field(1.0, le=1)\n\n    def loss")
        + "\n    searched = {'eta': method.Range(2, 3)}\n"
    )
    file.write_text(file.read_text().replace("import torch\n", "import torch\nfrom pydantic import Field\n"))
    ended = call(words(tmp_path, tmp_path / "out", "--methods", "far", "--search", "2", *QUICK, plugins=[file]))
    assert ended.code == 2
    assert ended.err.startswith(f"error: {file}: what `searched` draws is no setting of the method: far.eta=")


def test_what_is_odd_in_the_data_is_said_before_the_runs_once(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    same = "return Images((torch.arange(8 * 3072) % 251).view(8, 3, 32, 32).byte(), torch.arange(8) % 2)"
    file.write_text(DATASET.format(does=same))
    asked = ["--datasets", "odd", "--plugin", str(file), "--methods", "erm", "--seeds", "0", "1", "--steps", "2"]
    ended = call([*SMALL[2:], *asked, "--out", str(tmp_path / "out")])
    assert ended.code == 0, ended.err
    said = "odd, source here: training and validation images are the same"
    assert (ended.out + ended.err).count(said) == 1
