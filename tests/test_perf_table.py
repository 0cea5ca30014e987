"""What make perf prints and keeps, from rates made by hand and in a session of its own."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.perf.turns import Race

pytest_plugins = ["pytester"]


def test_ratios_and_verdicts_by_hand() -> None:
    race = Race(
        "views", {"ours": 900.0, "Pillow": 100.0, "timm": 1000.0, "none": 450.0}, {"Pillow": 8.0, "timm": 1.0}, None, 1
    )
    assert race.ratios == {"Pillow": 9.0, "timm": 0.9, "none": 2.0}
    assert race.lines == [
        ["views", "900", "Pillow", "100", "9.00", "8.00 reached"],
        ["", "", "timm", "1,000", "0.90", "1.00 MISSED"],
        ["", "", "none", "450", "2.00", ""],
    ]


def test_a_kernel_is_held_against_the_bandwidth_of_a_copy() -> None:
    race = Race("kernel", {"Triton": 60.0, "copy": 80.0}, {"copy": 0.6}, 2**31, 1)
    assert race.lines == [["kernel", "60", "copy", "80 (160 GiB/s)", "0.75", "0.60 reached"]]


def test_a_session_prints_its_table_and_keeps_its_json(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # a session of its own, whoever runs this test
    pytester.makeconftest((ROOT / "tests" / "perf" / "conftest.py").read_text())
    pytester.makepyfile(
        """
        from tests.perf.turns import take_turns

        def test_it(request):
            pair = {"ours": (4, lambda: sum(range(10))), "slow": (4, lambda: sum(range(100_000)))}
            take_turns(request, "sums", pair, targets={"slow": 1.0}, rounds=3)
        """
    )
    done = pytester.runpytest_subprocess("--benchmark-quiet", "--benchmark-json", "kept.json", "-W", "default")
    done.stdout.re_match_lines(
        [r".*ours beside its peers.*", r"what +ours/s +peer .*", r"sums .* slow .* 1\.00 reached"]
    )
    kept = json.loads((Path(pytester.path) / "kept.json").read_text())
    assert kept["machine_info"]["packages"]["torch"]
    (found,) = kept["benchmarks"]
    assert found["extra_info"]["title"] == "sums"
    assert found["extra_info"]["times_as_fast_as"]["slow"] > 1
    assert [len(seconds) for seconds in found["extra_info"]["seconds"].values()] == [3, 3]
