"""What make perf prints at its end, and what its JSON says of the machine."""

from typing import Any

import pytest
import torch
from tabulate import tabulate

from benchmark.runs import machine
from tests.perf.turns import RACES

LEGEND = """ratio: our rate over the peer's, both medians over rounds in which all take turns. target: the least ratio
that is asked for; 0.91 and 0.87 are 1/1.10 and 1/1.15. Beside a copy of as many bytes, the ratio is the share of the
device's copy bandwidth. A busy machine makes all of this noise: repeat what is close to a target."""


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    commit, changed = machine.git_state()
    machine_info.update(machine.describe(device), device=machine.device_name(device), git=commit, git_dirty=changed)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    races = config.stash.get(RACES, [])
    if races:
        headers = ["what", "ours/s", "peer", "peer/s", "ratio", "target"]
        rows = [line for race in races for line in race.lines]
        right = ("left", "right", "left", "right", "right", "left")
        terminalreporter.section("ours beside its peers")
        terminalreporter.line(tabulate(rows, headers, disable_numparse=True, colalign=right))
        terminalreporter.line(f"\n{LEGEND}")
