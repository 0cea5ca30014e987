"""Image folders as people have them: a few odd files among sound ones."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.harness import Count, call

SIDE = 8


def _picture(path: Path, mode: str = "RGB", **options: object) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)  # type: ignore[arg-type]


def _oriented(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture(path.with_suffix(".tif"), exif=exif)


def _cut(path: Path) -> None:
    _picture(path)
    path.write_bytes(path.read_bytes()[:60])


def _self_link(path: Path) -> None:
    path.symlink_to(path.name)


def _left_about(path: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (path.parent / name).write_bytes(b"left by a system")
    (path.parents[2] / "__MACOSX").mkdir(exist_ok=True)
    (path.parents[2] / "lost+found").mkdir(exist_ok=True)


def _no_text(path: Path) -> None:
    _picture(path)
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe.png"))


ODD: dict[str, Callable[[Path], object]] = {
    "PostScript": lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"),
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no picture"),
    "turned TIFF": _oriented,
    "palette": lambda path: _picture(path, "P"),
    "grey and alpha": lambda path: _picture(path, "LA"),
    "one bit": lambda path: _picture(path, "1"),
    "CMYK": lambda path: _picture(path.with_suffix(".jpg"), "CMYK"),
    "GIF": lambda path: _picture(path.with_suffix(".gif")),
    "broken link": lambda path: path.symlink_to("nowhere.png"),
    "link to itself": _self_link,
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "left by systems": _left_about,
    "a name that is no text": _no_text,
    "an escape in the name": lambda path: _picture(path.with_name("\x1b[31m.png")),
}


def odd_files(folder: Path, times: int, seed: int = 0) -> Count:
    """Plans over folders with one to three odd files: each is read, passed over or named, and all files stay."""
    count, draws = Count("odd files among images"), random.Random(seed)
    for turn in range(times):
        root = folder / str(turn)
        for domain in ("one", "two"):
            for kind in ("a", "b"):
                (root / domain / kind).mkdir(parents=True)
                for number in range(10):
                    _picture(root / domain / kind / f"{number}.png")
        chosen = draws.sample([*ODD], draws.randint(1, 3))
        for name in chosen:
            ODD[name](root / draws.choice(["one", "two"]) / draws.choice(["a", "b"]) / f"odd-{len(name)}.png")
        before = _listed(root)
        line = ["--datasets", "folder", "--data-dir", str(root), "--methods", "erm", "--seeds", "0", "--dry-run"]
        wrong = call([*line, "--out", str(folder / "out")]).wrong(0, 2)
        count.tried += 1
        count.wrong += [f"{', '.join(chosen)}: {wrong}"] if wrong else []
        count.wrong += [f"{', '.join(chosen)}: files have changed"] if _listed(root) != before else []
        shutil.rmtree(root)
    return count


def _listed(root: Path) -> list[bytes]:
    return sorted(os.fsencode(Path(where) / name) for where, _, names in os.walk(root) for name in names)
