"""Images: the one door, and every mode, depth, transparency and orientation against Pillow's own decoding."""

import ast
import io
import os
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmark.core import escaping
from benchmark.core.errors import UsageError
from benchmark.corruptions import __main__ as program
from benchmark.data import image_files
from tests.conftest import ROOT

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
SIZE = (6, 4)


def test_nothing_else_opens_images() -> None:
    """Pillow runs programs for some formats, and every library has its own idea of how large an image may be."""
    doors = {"imread", "imopen", "read_image", "decode_image", "open_new"}
    found = []
    for path in [path for folder in ("benchmark", "datasets", "methods") for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute) and (
                node.attr in doors or (node.attr == "open" and ast.unparse(node.value).split(".")[-1] == "Image")
            ):
                found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
            if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                found.append(f"{path.relative_to(ROOT)}: from PIL.Image import")
    assert found == ["benchmark/data/image_files.py: Image.open"]


def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gs = tmp_path / "bin/gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    for name in ("views.png", "x.eps", "x.jpg"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(OSError, match="not an image of a known format"), image_files.open_image(tmp_path / name):
            pass
        assert program.main(["--show", str(tmp_path / "sheet.png"), "--image", str(tmp_path / name)]) == 2
    with pytest.raises(OSError, match="not an image"), image_files.open_image(io.BytesIO(EPS), ("PNG",)):
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["bomb", "larger bomb", "pipe", "folder", "device", "text", "truncated", "nothing"])
def test_what_is_no_picture_is_one_message(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.png"
    if kind in ("bomb", "larger bomb"):
        Image.new("1", (9000 if kind == "bomb" else 20000,) * 2).save(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind != "nothing":
        Image.new("RGB", (64, 64)).save(path)
        path.write_bytes(b"text" if kind == "text" else path.read_bytes()[:60])
    assert program.main(["--show", str(tmp_path / "sheet.png"), "--image", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"--image {path}: cannot be read as a picture" in said
    assert said.count("\n") == 1


def drawn(mode: str) -> Image.Image:
    """An image of noise in this mode."""
    draws = np.random.default_rng(0)
    deep = draws.integers(0, 65536, SIZE[::-1])
    if mode.startswith("I;16"):
        grey = Image.fromarray(deep.astype(np.uint16))
        return grey if mode == "I;16" else grey.convert(mode)
    if mode == "I":
        return Image.fromarray(deep.astype(np.int32))
    if mode == "F":
        return Image.fromarray((deep / 65535).astype(np.float32))
    colour = Image.fromarray(draws.integers(0, 256, (*SIZE[::-1], 4)).astype(np.uint8))
    if mode in ("RGBA", "RGBa", "LA"):
        return colour.convert(mode)
    return colour.convert("RGB").convert(mode)


def by_pillow(path: Path) -> np.ndarray[Any, Any]:
    """What Pillow decodes, read as a stream (from a path it mistakes plain TIFF files that are turned), on white."""
    with Image.open(io.BytesIO(path.read_bytes())) as stored:
        image = ImageOps.exif_transpose(stored)
        deep = image.mode.startswith("I")
        if deep:
            levels = np.asarray(image).astype(np.int64)
            grey = np.asarray((levels + 128) // 257, np.uint8)
            grey[levels == stored.info.get("transparency", -1)] = 255
            return np.repeat(grey[..., None], 3, axis=2)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
        colour, alpha = rgba[..., :3], rgba[..., 3:]
        return np.asarray((colour * alpha + 255 * (255 - alpha) + 127) // 255)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "I", "I;16", "I;16B"]
CASES = [
    (ending, mode, clear, more)
    for ending in ("bmp", "gif", "jpg", "png", "ppm", "tif", "webp")
    for mode in MODES
    for clear in ((None, 0, (1, 2, 3), b"\x00\x80") if ending in ("png", "gif") else (None,))
    for more in ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"})[: 3 if ending == "tif" else 1]
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("orientation", [None, *range(10), 255])
def test_everything_that_pillow_writes_is_read_as_pillow_reads_it(tmp_path: Path, orientation: int | None) -> None:
    tried, off = Counter[str](), []
    for number, (ending, mode, clear, more) in enumerate(CASES):
        path, image = tmp_path / f"{number}.{ending}", drawn(mode)
        exif = image.getexif()
        exif[image_files.ORIENTATION] = orientation or 0
        written: dict[str, Any] = more | ({} if orientation is None else {"exif": exif})
        try:
            image.save(path, **written | ({} if clear is None else {"transparency": clear}))
            wanted = by_pillow(path)
        except (OSError, ValueError, TypeError, SystemError, RuntimeError, AttributeError, struct.error):
            continue  # Pillow does not write this
        if mode == "I" and ending == "tif":
            continue  # 32 bits, whose range is unknown
        tried[ending] += 1
        found = image_files.read([(path, 0)], "somewhere", size=0).x[0].permute(1, 2, 0).numpy()
        right = found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= 1  # alpha is rounded
        if not right or image_files.shape(path, "") != found.shape[1::-1]:
            off.append(f"{ending} {mode} {clear!r} {more}")
    least = {"bmp": 5, "gif": 32, "jpg": 5, "png": 14, "ppm": 6, "tif": 10, "webp": 12}
    assert all(tried[ending] >= count for ending, count in least.items()), tried
    assert off == []


def test_an_orientation_in_xmp_alone_counts(tmp_path: Path) -> None:
    said = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    written: dict[str, dict[str, Any]] = {"tif": {"tiffinfo": {700: said}}, "webp": {"xmp": said}, "jpg": {"xmp": said}}
    for ending, more in written.items():
        path = tmp_path / f"x.{ending}"
        drawn("RGB").save(path, **more)
        found = image_files.read([(path, 0)], "somewhere", size=0).x.shape
        assert image_files.shape(path, "") == (found[3], found[2]) == SIZE[::-1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_exif_entry_turns_nothing(tmp_path: Path) -> None:
    for content in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""):
        drawn("RGB").save(tmp_path / "x.jpg", exif=content)
        assert image_files.shape(tmp_path / "x.jpg", "") == SIZE
        assert image_files.read([(tmp_path / "x.jpg", 0)], "", size=0).x.shape[2:] == SIZE[::-1]


def png(levels: list[int], bits: int, clear: int) -> bytes:
    """A PNG of one row of grey levels with so many bits, one of which is transparent: Pillow writes none below 8."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = "".join(f"{level:0{bits}b}" for level in levels)
    row += "0" * (-len(row) % 8)
    packed = bytes([0, *(int(row[i : i + 8], 2) for i in range(0, len(row), 8))])
    head = struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)
    parts = {b"IHDR": head, b"tRNS": struct.pack(">H", clear), b"IDAT": zlib.compress(packed), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in parts.items())


@pytest.mark.parametrize(
    ("bits", "levels", "clear", "wanted"),
    [
        (1, [0, 1], 0, [255, 255]),
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [0, 1, 2, 15], 2, [0, 17, 255, 255]),
        (8, [0, 1, 2, 255], 2, [0, 1, 255, 255]),
        (16, [0, 300, 301, 65535], 300, [0, 255, 1, 255]),
    ],
)
def test_a_transparent_grey_level_lies_on_white(
    tmp_path: Path, bits: int, levels: list[int], clear: int, wanted: list[int]
) -> None:
    (tmp_path / "x.png").write_bytes(png(levels, bits, clear))
    assert image_files.read([(tmp_path / "x.png", 0)], "", size=0).x[0, 0, 0].tolist() == wanted


def test_names_are_shown_in_one_line() -> None:
    assert escaping.one_line("a\x1b[31m\nb\udcff caf\u00e9 \u202e") == "a\\x1b[31m\\nb\\udcff caf\u00e9 \\u202e"
    with pytest.raises(UsageError, match=r"x\\x1b\.png cannot be read"):
        image_files.shape(Path("x\x1b.png"), "")
