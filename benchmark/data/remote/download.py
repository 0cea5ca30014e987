"""One download of one file: it resumes where an earlier one broke off, and has limits of bytes and time."""

import fcntl
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import BinaryIO
from urllib.parse import urljoin

import requests
import urllib3

from benchmark.core.errors import UsageError
from benchmark.core.regular_files import kind

TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and between two blocks."""
ANSWER = 60.0
"""Seconds in which a server has to say what it sends."""
WINDOW, SLOWEST = 30.0, 2**13
"""A server that sends fewer than SLOWEST bytes a second, over WINDOW seconds, is given up: a file of n bytes takes no
longer than n / SLOWEST seconds."""
REDIRECTS = 10
Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all or 0) as they come."""


@contextmanager
def locked(part: Path) -> Iterator[BinaryIO]:
    """What has been downloaded of a file, nothing at first, for this process alone. Raises UsageError where another has
    it, or something else is in its place."""
    if os.path.lexists(part) and (found := kind(part, follow=False)):
        raise UsageError(f"{part}: {found} is in the place of the part that was downloaded; move it away")
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise UsageError(f"{part}: another process is downloading it") from busy
        try:
            ours = os.path.samestat(os.fstat(file.fileno()), part.stat(follow_symlinks=False))
        except FileNotFoundError:
            ours = False
        if not ours:  # another process put it in place, or deleted it, before it was locked
            raise UsageError(f"{part}: another process was downloading it; try again")
        try:
            yield file
        finally:
            if not have(file):
                part.unlink(missing_ok=True)


def have(file: BinaryIO) -> int:
    """Bytes that it has on the disk."""
    file.flush()
    return os.fstat(file.fileno()).st_size


@dataclass
class Download:
    """Fills a file from an address, and goes on where an earlier download of it broke off."""

    file: BinaryIO
    size: int
    """Bytes that the file must have; 0 where unknown."""
    resume: bool
    progress: Progress
    most: int
    """Bytes that it may have; whatever a server says, no more are written."""
    resumed: bool = field(default=False, init=False)
    """Whether bytes of an earlier download are in it."""
    since: float | None = field(default=None, init=False)
    """When the present window began; None before the first byte."""
    came: int = field(default=0, init=False)
    """Bytes in the present window."""

    def __call__(self, url: str) -> None:
        """Raises OSError, ValueError or urllib3's HTTPError where the address does not give the file."""
        if not self.resume or have(self.file) > self.most > self.size:
            self.file.truncate(0)
        self.resumed = bool(self.size) and have(self.file) == self.size
        while not self.size or have(self.file) != self.size:
            before = have(self.file)
            try:
                self._get(url, before)
                break
            except (ConnectionError, urllib3.exceptions.HTTPError):
                if have(self.file) <= before:  # it breaks off without getting on
                    raise
        self.file.flush()

    def _get(self, url: str, before: int) -> None:
        file = self.file
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={before}-"} if before else {})
        with _Session() as session, _answer(session, url, headers) as response:
            ranged = response.headers.get("Content-Range", "").startswith(f"bytes {before}-")
            partial_content = response.status_code == requests.codes.partial_content
            if before and (
                response.status_code == requests.codes.requested_range_not_satisfiable
                or (partial_content and not ranged)
            ):
                file.truncate(0)
                self._get(url, 0)
                return
            if response.status_code != requests.codes.ok and not (before and partial_content):
                raise ValueError(f"{response.status_code} {response.reason}")
            done = before if partial_content else 0
            self.resumed |= bool(done)
            length = response.headers.get("Content-Length", "")
            total = done + int(length) if length.isdecimal() and int(length) else self.size
            if self.size and total != self.size:
                raise ValueError(f"the server has {total} bytes, not {self.size}")
            if total > self.most:
                raise ValueError(f"the server has {total:,} bytes; the limit is {self.most:,}")
            file.truncate(done)
            file.seek(done)
            while block := response.raw.read1(2**20, decode_content=False):
                done += len(block)
                if done > (total or self.most):
                    raise ValueError(f"the server sends more than {total or self.most} bytes")
                file.write(block)
                self.progress(done, total)
                self._keep_pace(len(block))
            if total and done != total:
                raise ConnectionError(f"broke off after {done} of {total} bytes")

    def _keep_pace(self, came: int) -> None:
        """Raises ValueError for a server that drips, over as many connections as it likes."""
        now = monotonic()
        self.since, self.came = now if self.since is None else self.since, self.came + came
        if now - self.since >= WINDOW:
            if self.came < SLOWEST * (now - self.since):
                raise ValueError(
                    f"too slow: {self.came} bytes in {now - self.since:.0f} s, fewer than {SLOWEST} a second"
                )
            self.since, self.came = now, 0


class _Session(requests.Session):
    """Leaves it to `_answer` to follow where an address leads: requests would first read what comes with that, however
    much it is."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _answer(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """The answer from which the content is to be read, wherever the address leads. Raises ValueError where it leads on
    and on, TimeoutError where there is none in time."""
    for _ in range(REDIRECTS):
        get = partial(session.get, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        response = _in_time(get)
        target = requests.Session.get_redirect_target(session, response)
        if target is None:
            return response
        response.close()
        url = urljoin(url, target)
    raise ValueError(f"it leads on to other addresses more than {REDIRECTS} times")


def _in_time(get: Callable[[], requests.Response]) -> requests.Response:
    """What `get` returns or raises. Raises TimeoutError after ANSWER seconds; a thread then waits on for nobody."""
    box: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put(get())
        except Exception as problem:  # noqa: BLE001 - it is raised where it is waited for
            box.put(problem)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = box.get(timeout=ANSWER)
    except queue.Empty:
        raise TimeoutError(f"no answer within {ANSWER:.0f} s") from None
    if isinstance(found, Exception):
        raise found
    return found
