"""What looks at the clock beside the work that it watches."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Ticking(ABC):
    """Within its `with` block, a thread of its own calls `tick` every so many seconds."""

    def __init__(self, seconds: float):
        self._seconds, self._closed = seconds, threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds):
            self.tick()

    @abstractmethod
    def tick(self) -> None: ...
