"""Images that stay on the host: the same batches, chunks and results as with all of them on the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.core import stream
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.stream import Feed, chunks, resident, take
from benchmark.networks.classifiers import build
from benchmark.training.evaluate import accuracy
from benchmark.training.loop import train
from benchmark.training.optimise import Sampler
from benchmark.training.progress import Training, begin
from tests import toy
from tests.training.test_loop import Growing

CPU = torch.device("cpu")


def run(folder: Path, method: str, settings: dict[str, Any], **changes: Any) -> Training:
    asked, made, loaded = toy.asked(method, **changes), registry.make("method", method, settings), toy.loaded()
    trained = begin(asked, made, loaded)
    train(trained, asked, made, loaded, folder, code="c")
    return trained


@pytest.mark.parametrize("method", ["erm", "gud", "mada"])
def test_a_streamed_run_ends_with_the_bits_of_a_resident_one(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(registry.find("method", method).toy)
    whole = run(tmp_path / "a", method, settings, loader="crop_flip", selection="source-val")
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    fetched: list[int] = []
    fetch = stream._fetch

    def counted(images: Images, *rest: Any) -> Images:
        fetched.append(len(images))
        return fetch(images, *rest)

    monkeypatch.setattr(stream, "_fetch", counted)
    streamed = run(tmp_path / "b", method, settings, loader="crop_flip", selection="source-val")
    assert len(fetched) >= 8 + 2 * 3  # a batch each step; source validation and two targets at each evaluation
    assert streamed.curve == whole.curve
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, streamed.net.state_dict()[name]), name


def test_a_streamed_run_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, loaded = toy.asked(), toy.loaded()
    whole = begin(asked, Growing(), loaded)
    train(whole, asked, Growing(), loaded, tmp_path / "whole")
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    for stop in (1, 6):
        folder = tmp_path / str(stop)
        folder.mkdir()
        broken = begin(asked, Growing(), loaded)
        with pytest.raises(KeyboardInterrupt):
            train(broken, asked, Growing(die_at=stop), loaded, folder, code="c", checkpoint_seconds=0)
        again = begin(asked, Growing(), loaded)
        train(again, asked, Growing(), loaded, folder, code="c")
        assert again.resumed == 1
        assert again.grown == 2
        assert all(torch.equal(v, again.net.state_dict()[name]) for name, v in whole.net.state_dict().items())


def test_a_checkpoint_holds_the_pool_only_where_it_has_grown(tmp_path: Path) -> None:
    trained = begin(toy.asked(), Growing(), toy.loaded())
    trained.save(tmp_path, "c")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt"}
    trained.grown = 5
    trained.save(tmp_path, "c")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "pool-5.pt"}


def test_parts_become_resident_in_order_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = torch.device("meta")
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 3072 * 20)
    placed = resident([toy.images(n, 0) for n in (8, 16, 12)], meta)
    assert [part.x.device.type for part in placed] == ["meta", "cpu", "meta"]


@pytest.mark.parametrize("limit", [0, 2**31])
@pytest.mark.parametrize("size", [1, 7, 32, 100])
def test_chunks_are_all_images_in_order(limit: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RESIDENT_BYTES", limit)
    images = toy.images(32, 0)
    parts = list(chunks(images, size, CPU))
    assert {len(part) for part in parts[:-1]} <= {size}
    assert torch.equal(torch.cat([part.x for part in parts]), images.x)
    assert torch.equal(torch.cat([part.y for part in parts]), images.y)


def test_a_feed_gives_what_was_asked_even_where_the_future_was_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    first, second, order = toy.images(32, 0), toy.images(16, 1), torch.arange(4)
    with Feed(CPU) as feed:
        for images, index, foreseen in [
            (first, order, order + 4),
            (first, order + 4, order + 8),
            (first, order + 9, order),
            (second, order, order + 1),
            (first, order + 1, order),
        ]:
            found = feed.batch(images, index, lambda following=foreseen: following)  # type: ignore[misc]
            assert torch.equal(found.x, images.x[index])
            assert torch.equal(found.y, images.y[index])


def test_looking_ahead_begins_no_epoch() -> None:
    sampler = Sampler(0, Recipe(network="mini_convnet", batch_size=10))
    plain = Sampler(0, Recipe(network="mini_convnet", batch_size=10))
    for step in range(25):
        assert torch.equal(sampler.index(step, 100), plain.index(step, 100))
        start = sampler.start
        ahead = sampler.ahead(step + 1, 100)
        assert sampler.start == start
        assert torch.equal(ahead, Sampler.index(_at(plain, step), step + 1, 100))


def _at(sampler: Sampler, step: int) -> Sampler:
    found = Sampler(0, sampler.recipe)
    found.restart(sampler.start)
    found.index(step, 100)
    return found


def test_a_memory_mapped_file_is_read_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    images = toy.images(48, 0)
    np.save(tmp_path / "x.npy", images.x.numpy())
    before = (tmp_path / "x.npy").read_bytes()
    mapped = Images(torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c")), images.y)
    net = build("mini_convnet", 4, 0)
    assert accuracy(net, mapped) == accuracy(net, images)
    take(mapped, torch.arange(3), CPU).x.zero_()
    next(iter(chunks(mapped, 5, CPU))).x.zero_()
    assert (tmp_path / "x.npy").read_bytes() == before
    assert torch.equal(mapped.x, images.x)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["erm", "gud", "mada", "sada"])
def test_a_streamed_run_on_a_gpu(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = dict(registry.find("method", method).toy)
    whole = run(tmp_path / "a", method, settings, device="cuda")
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    streamed = run(tmp_path / "b", method, settings, device="cuda")
    assert streamed.pool.x.device.type == "cpu"
    assert [point["step"] for point in streamed.curve] == [point["step"] for point in whole.curve]
    for name, value in whole.net.state_dict().items():
        torch.testing.assert_close(value, streamed.net.state_dict()[name], rtol=1e-3, atol=1e-4)
