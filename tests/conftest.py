"""Shared fixtures: where the golden numbers and the real data lie, the tiny network of the goldens, and what the common
suites of methods and datasets are run on."""

import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.networks.classifiers import Classifier
from benchmark.runs import load
from tests import parity

if not torch.cuda.is_available():  # before any kernel is imported: Triton's run in its interpreter, on the CPU
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent
GOLDENS_DIR = Path(os.environ.get("GOLDENS_DIR", ROOT.parent / "shared" / "goldens"))
DATA_DIR = Path(os.environ.get("DATA_DIR", ROOT.parent / "shared" / "data"))

Golden = Mapping[str, Any]
GIVEN: list[Path] = []
"""Files of --plugin."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("the common suites (tests/methods/test_methods.py, tests/datasets/test_datasets.py)")
    group.addoption("--plugin", action="append", default=[], type=Path, help="test the method or dataset in this file")
    group.addoption("--data-dir", type=Path, help="folder of the files that the datasets under test read")
    group = parser.getgroup("the parity tests (-k parity)")
    group.addoption("--parity-log", type=Path, metavar="FILE", help="keep what they compared, and how far apart it was")


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores what tests send
    try:
        registry.load_plugins(config.getoption("--plugin"))
    except UsageError as problem:
        raise pytest.UsageError(str(problem)) from problem
    GIVEN[:] = [path.resolve() for path in config.getoption("--plugin")]
    if log := config.getoption("--parity-log"):
        config.pluginmanager.register(parity.Log(log))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # a million objects of torch and of the tests, which no collection need look through again


def under_test(kind: registry.Kind) -> list[str]:
    """Names of what a common suite is run on: of the files given with --plugin, or all."""
    names = registry.names(kind)
    return [path.stem for path in GIVEN if path.stem in names] if GIVEN else names


def own_warnings(record: Record) -> list[str]:
    """What a record warns of, except for what befell the machine that the tests happen to run on."""
    return [warning for warning in record.warnings if not warning.startswith((load.WARNING, load.STOOD))]


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of decoded images for this session alone; the user's is never touched."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("DG_REFEREE_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _no_plugins_left() -> Iterator[None]:
    """A test's plugins end with it: `all` means the same to the next one."""
    yield
    registry.load_plugins(GIVEN)


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def without_pictures() -> Iterator[None]:
    from tests.faults.harness import undrawn  # imports every program

    with undrawn():
        yield


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """`golden(name)`: the arrays of one golden file, or a skip that says where it was looked for."""

    def load(name: str) -> Golden:
        path = GOLDENS_DIR / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"no golden file {path}; set GOLDENS_DIR")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


def golden_cases(name: str) -> list[str]:
    """Names of a golden file's cases, for parametrising; one that says so where the file is absent."""
    path = GOLDENS_DIR / f"{name}.npz"
    if not path.is_file():
        return ["(no golden file)"]
    with np.load(path, allow_pickle=False) as arrays:
        return [str(case) for case in arrays["case_names"]]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, or a skip that says where it was looked for."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no data folder {DATA_DIR}; set DATA_DIR")
    return DATA_DIR


def golden_net(arrays: Golden, prefix: str = "net.") -> Classifier:
    """The goldens' tiny network: the digits ConvNet, narrower, on inputs in [0,1] without normalisation."""
    weight = {key.removeprefix(prefix): torch.tensor(value) for key, value in arrays.items() if key.startswith(prefix)}
    (c1, _, k, _), (c2, *_), (h1, flat) = (weight[f"{layer}.weight"].shape for layer in ("conv1", "conv2", "fc1"))
    h2, classes = weight["fc2.weight"].shape[0], weight["fc3.weight"].shape[0]
    conv1, conv2 = nn.Conv2d(3, c1, k), nn.Conv2d(c1, c2, k)
    fc1, fc2, fc3 = nn.Linear(flat, h1), nn.Linear(h1, h2), nn.Linear(h2, classes)
    for name, layer in {"conv1": conv1, "conv2": conv2, "fc1": fc1, "fc2": fc2, "fc3": fc3}.items():
        layer.load_state_dict({"weight": weight[f"{name}.weight"], "bias": weight[f"{name}.bias"]})
    trunk = nn.Sequential(
        nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), fc1, nn.ReLU(), fc2, nn.ReLU()
    )  # fmt: skip
    return Classifier(conv1, trunk, fc3, mean=0.0, std=1.0)
