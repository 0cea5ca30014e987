"""Where the files of a finished run lie: in its folder, runs/ID, or packed into one file, runs/ID.zip.

A packed run holds the same files under the same names: `unzip -d runs/ID runs/ID.zip` makes a folder of it again.
"""

import errno
import io
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from PIL import Image, PngImagePlugin

from benchmark.core.regular_files import content, is_plain, opened
from benchmark.training import artifacts

LIMIT = 2**28
"""Bytes of a file that is read whole; the largest but weights and record has a few hundred thousand."""
SIDE = 48
"""Largest side, in pixels, of an image in a packed picture of views; the reports draw none larger."""
COLOURS = 64
DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What reading a damaged zip file raises, beside OSError and ValueError."""
with suppress(ImportError):  # a Python that was built without it
    from lzma import LZMAError

    DAMAGE = (*DAMAGE, LZMAError)


class Place(ABC):
    """The files of one run. path: the folder or the file that they are in."""

    def __init__(self, path: Path):
        self.path = path

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is anything of this name, be it a file or not."""

    @abstractmethod
    def is_plain(self, name: str) -> bool:
        """Whether there is a plain file of this name."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All of a file. Raises OSError or ValueError where it is missing, no plain file, too large or damaged."""

    @property
    @abstractmethod
    def link(self) -> str:
        """What a page links to, relative to the folder that the path is in."""


class Folder(Place):
    def has(self, name: str) -> bool:
        return os.path.lexists(self.path / name)

    def is_plain(self, name: str) -> bool:
        return is_plain(self.path / name)

    def read(self, name: str) -> bytes:
        return content(self.path / name, LIMIT)

    @property
    def link(self) -> str:
        return f"{self.path.name}/record.json"


class Packed(Place):
    """It holds plain files only."""

    def has(self, name: str) -> bool:
        return name in self._names

    is_plain = has

    def read(self, name: str) -> bytes:
        with self._opened() as whole:
            if name not in whole.namelist():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / name))
            if (size := whole.getinfo(name).file_size) > LIMIT:
                raise ValueError(f"it has {size:,} bytes; allowed are {LIMIT:,}")
            return whole.read(name)

    @property
    def link(self) -> str:
        return self.path.name

    @cached_property
    def _names(self) -> frozenset[str]:
        """Of all its files; none where it cannot be read, which reading one of them says."""
        with suppress(OSError, ValueError), self._opened() as whole:
            return frozenset(whole.namelist())
        return frozenset()

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        """Raises OSError or ValueError where it is no whole zip file, also for what is read inside."""
        with opened(self.path, LIMIT) as file:
            try:
                with zipfile.ZipFile(file) as whole:
                    yield whole
            except DAMAGE as problem:
                raise ValueError(f"it is a damaged zip file: {problem}") from problem


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files as one zip file; the same files give the same bytes wherever zlib is the same."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as whole:
        for name, written in files.items():
            about = zipfile.ZipInfo(name)  # of 1980, and so the same whenever it is packed
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            whole.writestr(about, written)
    return buffer.getvalue()


def smaller(views: bytes) -> bytes:
    """A picture of views with images of at most SIDE pixels a side, in at most COLOURS colours. Raises ValueError."""
    strips = [Image.fromarray(strip) for strip in artifacts.strips(views)]
    width, height = strips[0].width // artifacts.SHOWN, strips[0].height
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)) * artifacts.SHOWN, max(1, round(height * scale))
    sheet = Image.new("RGB", (size[0], size[1] * len(strips)))
    for i, strip in enumerate(strips):
        sheet.paste(strip.resize(size, Image.Resampling.BOX) if scale < 1 else strip, (0, i * size[1]))
    buffer, about = io.BytesIO(), PngImagePlugin.PngInfo()
    about.add_text("rows", str(len(strips)))
    sheet.quantize(COLOURS).save(buffer, "PNG", pnginfo=about, optimize=True)
    return buffer.getvalue()
