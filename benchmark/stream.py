"""Images too many for the device: they stay on the host, often as a memory-mapped file, and only batches travel.

A thread fetches the next batch into pinned memory while the present one is worked on. The images are the same either
way, and so is every result.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from benchmark.spec import Images

RESIDENT_BYTES = 2 * 2**30
"""Bytes of pixels that a device holds as a whole: of the training pool, and of all evaluated parts together."""


def resident(parts: Sequence[Images], device: torch.device) -> list[Images]:
    """The parts, in the same order, on the device as far as RESIDENT_BYTES reach and the others where they are."""
    placed, room = [], RESIDENT_BYTES
    for part in parts:
        fits = part.x.nbytes <= room
        room -= part.x.nbytes if fits else 0
        placed.append(part.to(device) if fits else part)
    return placed


def take(images: Images, index: Tensor, device: torch.device) -> Images:
    """The images at these positions (int64), on the device."""
    if images.x.is_cuda and not index.is_cuda:
        index = index.pin_memory().to(images.x.device, non_blocking=True)  # from other memory the host would wait
    return images[index.to(images.x.device)].to(device)


def chunks(images: Images, size: int, device: torch.device) -> Iterator[Images]:
    """Consecutive images, `size` at a time, on the device."""
    places = [slice(start, start + size) for start in range(0, len(images), size)]
    if not _streams(images, device):
        yield from (images[place] for place in places)
        return
    with ThreadPoolExecutor(1) as thread:
        fetched = thread.submit(_fetch, images, places[0], device)
        for place in [*places[1:], None]:
            part = fetched.result()
            if place is not None:
                fetched = thread.submit(_fetch, images, place, device)
            yield _send(part, device)


class Feed:
    """Batches of a pool for training, the next one fetched ahead where the pool is on the host."""

    def __init__(self, device: torch.device):
        self.device = device
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[Images, Tensor, Future[Images]] | None = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def batch(self, images: Images, index: Tensor, following: Callable[[], Tensor]) -> Images:
        """The images at the positions `index` (int64, on the CPU), on the device.

        following: the positions of the next batch, if the pool and its order do not change before.
        """
        if not _streams(images, self.device):
            return take(images, index, self.device)
        known = self._ahead
        foreseen = known is not None and known[0] is images and torch.equal(known[1], index)
        part = known[2].result() if known is not None and foreseen else _fetch(images, index, self.device)
        after = following()
        self._ahead = images, after, self._thread.submit(_fetch, images, after, self.device)
        return _send(part, self.device)


def _streams(images: Images, device: torch.device) -> bool:
    return images.x.device != device or (device.type == "cpu" and images.x.nbytes > RESIDENT_BYTES)


def _fetch(images: Images, at: Tensor | slice, device: torch.device) -> Images:
    """A copy of some images in the host's memory, pinned for a GPU."""
    part = images[at]
    if device.type == "cuda":
        return Images(part.x.pin_memory(), part.y.pin_memory())
    return Images(part.x.clone(), part.y) if isinstance(at, slice) else part


def _send(part: Images, device: torch.device) -> Images:
    return Images(part.x.to(device, non_blocking=True), part.y.to(device, non_blocking=True))
