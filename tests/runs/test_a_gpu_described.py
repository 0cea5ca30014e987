"""What the suite decides by what a GPU says of itself, with a GPU's answers in place of one."""

import logging
import subprocess
from types import SimpleNamespace

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.ops.attacks import pixel
from benchmark.runs import gpus, machine, perform, torch_state
from tests import handmade

CUDA = torch.device("cuda", 0)
GIB = 2**30


def with_a_gpu(monkeypatch: pytest.MonkeyPatch, memory: int = 141 * GIB, capability: tuple[int, int] = (9, 0)) -> None:
    properties = SimpleNamespace(
        name="H200", total_memory=memory, multi_processor_count=132, major=capability[0], minor=capability[1]
    )
    for name, said in {
        "is_available": True,
        "get_arch_list": ["sm_75", "sm_80", "sm_90", "sm_100", "compute_120"],
        "get_device_capability": capability,
        "get_device_name": "H200",
        "get_device_properties": properties,
        "current_device": 0,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, said=said: said)


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (12, 0)])
def test_a_gpu_that_torch_was_built_for_is_taken(capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_gpu(monkeypatch, capability=capability)
    assert gpus.choose_device("auto") == gpus.choose_device("cuda") == CUDA


def test_a_gpu_that_is_too_old_for_this_torch_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_a_gpu(monkeypatch, capability=(6, 1))
    with caplog.at_level(logging.WARNING):
        assert gpus.choose_device("auto") == torch.device("cpu")
    assert "needs a GPU of compute capability 7.5 or newer, and H200 has 6.1: the CPU is taken" in caplog.text
    with pytest.raises(UsageError, match=r"capability 7\.5 or newer, and H200 has 6\.1; use --device cpu"):
        gpus.choose_device("cuda")


@pytest.mark.parametrize(
    ("memory", "mode", "two"),
    [(141, "Default", True), (8, "Default", False), (24, "Default\nExclusive_Process", False)],
)
def test_two_runs_share_a_gpu_that_has_room_and_lets_them(
    memory: int, mode: str, two: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_gpu(monkeypatch, memory * GIB)
    monkeypatch.setattr(gpus, "output", lambda *_: mode)
    assert gpus.shareable(CUDA) is two


def test_a_card_sold_as_of_16_gb_has_room_for_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of itself that it has a little less."""
    with_a_gpu(monkeypatch, 15 * GIB)
    monkeypatch.setattr(gpus, "output", lambda *_: "Default")
    assert gpus.shareable(CUDA)


def test_a_model_with_a_letter_in_its_name_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_gpu(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90a"])
    assert gpus.choose_device("auto") == CUDA


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_a_gpu_is_described_by_its_memory_its_versions_and_its_arithmetic(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_gpu(monkeypatch, 24 * GIB)
    monkeypatch.setattr(gpus, "output", lambda *_: "580.159")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=precision))
    assert gpus.describe(CUDA) == {
        "name": "H200", "multiprocessors": 132, "memory_mib": 24 * 1024, "cuda": "13.0", "cudnn": 91000,
        "driver": "580.159", "tf32": precision == "tf32",
    }  # fmt: skip


def test_the_memory_of_each_gpu_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that does not tell is left out."""
    answers = {"--query-gpu=memory.free": "100 MiB\n[N/A]\n300 MiB", "--query-gpu=memory.used": "7 MiB\n8 MiB\n9 MiB"}
    monkeypatch.setattr(gpus, "output", lambda _, asked, *more: answers[asked])
    assert (gpus.memory("free"), gpus.memory("used")) == ([100, 300], [7, 8, 9])


@pytest.mark.parametrize(("memory", "images"), [(141, 4096), (64, 4096), (24, 1536), (8, 512)])
def test_an_attack_takes_fewer_images_at_a_time_on_a_smaller_gpu(
    memory: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_gpu(monkeypatch, memory * GIB)
    monkeypatch.setattr(pixel, "GPU_CHUNK_PIXELS", gpus.CHUNK_PIXELS)
    gpus.fit_attacks(torch.device("cpu"))
    assert pixel.GPU_CHUNK_PIXELS == gpus.CHUNK_PIXELS
    gpus.fit_attacks(CUDA)
    assert images * 32 * 32 == pixel.GPU_CHUNK_PIXELS


def test_a_machine_with_four_gpus_has_one_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_gpu(monkeypatch)
    monkeypatch.setattr(gpus, "output", lambda *_: "580.159\n580.159")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    described = machine.describe(CUDA)
    assert described["gpu"]["driver"] == "580.159"
    older = described | {"gpu": described["gpu"] | {"driver": "580.159\n580.159"}}
    assert machine.comparable(older, "H200") == machine.comparable(described, "H200")


def test_a_gpus_generator_has_drawn_where_its_offset_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a network seeds it anew (torch.manual_seed), and that is no draw."""

    def generators(seed: int, offset: int) -> list[bytes]:
        state = torch.tensor([seed, offset]).view(torch.uint8)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: state)
        return torch_state.global_generators(CUDA)

    first = generators(1, 0)
    assert first == generators(2, 0)
    assert first != generators(2, 4)


@pytest.mark.parametrize(
    ("problem", "hint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "try --batch-size 16"),
        (RuntimeError("CUDA error: out of memory"), "try --batch-size 16"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "try --batch-size 16"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "try --batch-size 16"),
        (RuntimeError("Failed to find C compiler. Please specify via CC"), "install a C compiler"),
        (subprocess.CalledProcessError(1, ["gcc", "cuda_utils.c"]), "Python's headers"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), ""),
    ],
)
def test_what_ended_a_run_on_a_gpu_says_what_to_do(
    problem: Exception, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perform, "peak_memory_mib", lambda _: 100.0)

    def told(device: str) -> str:
        asked = handmade.record("erm", 0).asked
        recipe = asked.recipe.model_copy(update={"batch_size": 32})
        return perform.told(problem, asked.model_copy(update={"device": device, "recipe": recipe}))

    plain = told("cpu") if not isinstance(problem, torch.OutOfMemoryError) else ""
    assert "install" not in plain
    assert "--batch-size" not in plain
    assert told("cuda:0").rstrip().endswith(str(problem).rstrip()) is not bool(hint)
    assert hint in told("cuda:0")
