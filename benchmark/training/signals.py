"""Ctrl-C and SIGTERM: the first lets a run write a checkpoint and end, a second one ends the process at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE = 3.0
"""Seconds from the first signal in which a run may come to the end of its step and write its checkpoint."""
_asked: signal.Signals | None = None
_guest = False


class StoppedError(KeyboardInterrupt):
    """The user, or who runs the machine, wants this process to end. code: its exit code."""

    def __init__(self) -> None:
        self.code = 128 + (_asked or signal.SIGINT)
        super().__init__(f"stopped by {(_asked or signal.SIGINT).name}")


def asked() -> bool:
    """Whether the process is to end: write a checkpoint and raise StoppedError."""
    return _asked is not None


@contextmanager
def as_guest() -> Iterator[None]:
    """Within, the process is somebody else's, such as a notebook's: a second signal does what it did before `listening`
    and not what it does to a program."""
    global _guest, _asked
    before, _guest = _guest, True
    try:
        yield
    finally:
        _guest, _asked = before, None  # the process goes on


@contextmanager
def listening(signals: tuple[signal.Signals, ...], grace: float | None = GRACE, *, say: bool = True) -> Iterator[None]:
    """Within, the first of these signals makes `asked` true, and StoppedError is raised: by whoever asks, at the end of
    the block, or wherever the process is after `grace` seconds. In another than the main thread nothing is changed.

    say: whether to tell people on standard error.
    """
    global _asked  # noqa: PLW0603 - a signal is for the whole process
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        global _asked  # noqa: PLW0603
        _asked = signal.Signals(number)
        for each in signals:
            signal.signal(each, before[each] if _guest else signal.SIG_DFL)
        if grace is not None:
            signal.setitimer(signal.ITIMER_REAL, grace)
        if say:
            # Live bars hide the cursor, and a second signal would leave it hidden.
            cursor = b"\x1b[?25h" if sys.stderr.isatty() else b""
            with suppress(OSError):  # the terminal is gone
                os.write(2, b"\nstopping: checkpoints are being written; once more ends at once\n" + cursor)

    def late(number: int, frame: FrameType | None) -> None:
        raise StoppedError

    _asked = None
    before = {each: signal.getsignal(each) for each in (*signals, signal.SIGALRM)}
    for each in signals:
        signal.signal(each, first)
    signal.signal(signal.SIGALRM, late)
    try:
        yield
        if asked():
            raise StoppedError
    finally:
        if asked():  # else a timer is not ours
            signal.setitimer(signal.ITIMER_REAL, 0)
        for each, handler in before.items():
            signal.signal(each, handler)
