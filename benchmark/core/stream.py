"""Images that do not fit on the device: they stay on the host, often as a memory-mapped file, and only batches travel.

A thread fetches the next batch into pinned memory while the present one is in use. The images, and so the results, are
the same either way.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from benchmark.core.devices import on_gpu, together
from benchmark.core.images import Images

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
    if on_gpu(images.x) and not on_gpu(index):
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


class Batch:
    """Where a training step finds its images: filled before the step, read in it.

    fixed: always at the same place of the device's memory, as a captured step needs them.
    """

    def __init__(self, feed: Feed, fixed: bool):
        self.feed, self.fixed = feed, fixed
        self._pool: Images | None = None
        self._index: Tensor | None = None
        self._images: Images | None = None

    def fill(self, pool: Images, index: Tensor, following: Callable[[], Tensor]) -> None:
        """Prepares the images of `pool` at the positions `index` (int64, on the CPU); following: see Feed.batch."""
        device = self.feed.device
        if self.fixed and not _streams(pool, device):
            self._pool, self._images = pool, None
            self._index = _written(self._index, index.pin_memory() if on_gpu(device) else index, device)
            return
        batch = self.feed.batch(pool, index, following)
        self._pool = None
        if self.fixed and self._images is not None:
            batch = Images(_written(self._images.x, batch.x, device), _written(self._images.y, batch.y, device))
        self._images = batch

    def read(self) -> Images:
        """The images, on the device."""
        if self._pool is not None and self._index is not None:
            return self._pool[self._index]
        assert self._images is not None
        return self._images

    def places(self) -> list[Tensor]:
        """The tensors that `read` reads."""
        images = self._pool if self._images is None else self._images
        found = [] if images is None else [images.x, images.y]
        return found if self._index is None else [*found, self._index]


def _written(place: Tensor | None, value: Tensor, device: torch.device) -> Tensor:
    """`value` on the device, written to `place` where it fits there."""
    if place is None or place.shape != value.shape or place.dtype != value.dtype:
        return value.to(device, copy=True, non_blocking=True)
    return place.copy_(value, non_blocking=True)


def _streams(images: Images, device: torch.device) -> bool:
    return not together(images.x, device) or (not on_gpu(device) and images.x.nbytes > RESIDENT_BYTES)


def _fetch(images: Images, at: Tensor | slice, device: torch.device) -> Images:
    """A copy of some images in the host's memory, pinned for a GPU."""
    part = images[at]
    if on_gpu(device):
        return Images(part.x.pin_memory(), part.y.pin_memory())
    return Images(part.x.clone(), part.y) if isinstance(at, slice) else part


def _send(part: Images, device: torch.device) -> Images:
    return Images(part.x.to(device, non_blocking=True), part.y.to(device, non_blocking=True))
