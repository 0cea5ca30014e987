"""What all figures share: a colour and a marker for every method, the type size, and how a file is written."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark.core.rng import key
from benchmark.data.image_files import open_image
from benchmark.runs.store import write_whole

WIDTH = 3.4
"""Inches: the column of a two-column paper. Type of 7 points stays readable there."""
STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "figure.dpi": 250,
    "savefig.dpi": 250,
    "text.usetex": False,
    "text.parse_math": False,  # a name may hold a dollar sign
    "figure.constrained_layout.use": True,
}
FIXED = {
    "erm": ("#000000", "o"),
    "augmix": ("#1f4eb4", "s"),
    "augmax": ("#56b4e9", "D"),
    "gud": ("#1b7a43", "^"),
    "mada": ("#d9609f", "v"),
    "randconv": ("#e0a000", "P"),
    "sada": ("#a02c00", "X"),
}
"""Colours far enough apart with normal vision and with each kind of colour blindness; tests measure that."""
OTHERS = ("#7f7f7f", "#8f8f2f", "#882255", "#2f9f94")
MARKERS = ("<", ">", "p", "h", "d", "H")
SHARED = {
    "aaua": ("#2f9f94", "h"),
    "aba": ("#882255", "<"),
    "advst": ("#7f7f7f", "d"),
    "afa": ("#8f8f2f", "p"),
    "alt": ("#882255", ">"),
    "apr": ("#8f8f2f", "8"),
    "me_ada": ("#2f9f94", "d"),
    "prime": ("#7f7f7f", "p"),
    "pro_randconv": ("#8f8f2f", "<"),
}
"""The newer methods share the colours of the others, and no two have the same colour and marker."""
NAMES = re.compile(r"(accuracy|cost|gains|learning|ranks|sensitivity|sources|views)_.+\.(png|pdf)")
"""Files of figures."""
ABOUT: dict[str, dict[str, str | None]] = {
    "png": {"Software": "dg-referee"},
    "pdf": {"Creator": "dg-referee", "CreationDate": None},
}
"""What a file says of itself: who drew it, and no time, so that equal pictures are equal files."""
MARKS = b"Software\0dg-referee", b"/Creator (dg-referee)"
"""How that stands in a PNG and in a PDF."""
TONES = (0.45, -0.35, 0.3, -0.2)


@dataclass(frozen=True)
class Look:
    """How a table row is drawn: `#rrggbb`, a matplotlib marker, and whether the marker is filled."""

    colour: str
    marker: str
    filled: bool = True


def look(row: str) -> Look:
    """The look of a row, whatever other rows there are. Known methods have looks of their own, others one by their
    name; a variant has its method's marker, hollow, in another tone of its colour."""
    method, bracket, variant = row.partition("[")
    colour, marker = (FIXED | SHARED).get(method) or (_pick(OTHERS, method), _pick(MARKERS, method))
    return Look(_toned(colour, _pick(TONES, variant)) if bracket else colour, marker, not bracket)


def marked(row: str) -> dict[str, Any]:
    """The look of a row as arguments of a matplotlib line."""
    found = look(row)
    return {"color": found.colour, "marker": found.marker, "markerfacecolor": found.colour if found.filled else "white"}


_collected: ContextVar[tuple[Path, dict[str, Figure]] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting(folder: Path) -> Iterator[dict[str, Figure]]:
    """Within, no file is written: yields the figures, each by the place below `folder` that its file would have."""
    kept: dict[str, Figure] = {}
    token = _collected.set((folder, kept))
    try:
        yield kept
    finally:
        _collected.reset(token)


def save(figure: Figure, path: Path) -> Path:
    """Writes path.png and path.pdf, each in one rename and the same byte for byte when drawn again; returns the PNG."""
    if (collected := _collected.get()) is not None:
        folder, kept = collected
        kept[path.relative_to(folder).as_posix()] = figure
        figure.savefig(io.BytesIO(), format="png")  # parts are made when drawn, in the style of that moment
        lay_out_no_more(figure)
        return path.with_name(f"{path.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind, about in ABOUT.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=about)
        content = buffer.getvalue()
        if kind == "png":
            with open_image(io.BytesIO(content), formats=("PNG",)) as image:
                content = in_few_colours(image, about, dpi=image.info["dpi"])
        write_whole(path.with_name(f"{path.name}.{kind}"), content)
        lay_out_no_more(figure)
    return path.with_name(f"{path.name}.png")


def in_few_colours(image: Image.Image, about: Mapping[str, str | None], **more: Any) -> bytes:
    """A picture as a PNG of 256 colours, under half as large; the page holds every figure, and the PDF beside it keeps
    all colours. about: its texts by name. more: for Pillow, such as dpi."""
    note, buffer = PngInfo(), io.BytesIO()
    for name, text in about.items():
        note.add_text(name, str(text))
    few = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    few.save(buffer, "PNG", pnginfo=note, optimize=True, **more)
    return buffer.getvalue()


def lay_out_no_more(figure: Figure) -> None:
    """Leaves all parts where they are. "none" would put an engine there that does nothing, and for any engine
    matplotlib draws once more before it writes."""
    with rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)


def discard(path: Path) -> None:
    """Deletes the files of an earlier drawing."""
    for kind in ("png", "pdf") if _collected.get() is None else ():
        with suppress(OSError):
            path.with_name(f"{path.name}.{kind}").unlink()


def discard_others(folder: Path, kept: Iterable[Path]) -> None:
    """Deletes earlier drawings below a folder: figures by name and mark, except for these PNGs and the PDFs beside
    them. A folder that this empties goes too. A picture that others put there stays, whatever its name."""
    stems = {path.with_suffix("") for path in kept if path.name}
    for path in sorted(folder.rglob("*"), reverse=True) if _collected.get() is None else ():
        with suppress(OSError):  # such a folder is not empty
            if path.is_dir() and NAMES.fullmatch(f"{path.name}.png"):
                path.rmdir()
            elif NAMES.fullmatch(path.name) and path.with_suffix("") not in stems and _ours(path):
                path.unlink()


def _ours(path: Path) -> bool:
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return any(mark in content for mark in MARKS)


def _pick(values: tuple[Any, ...], name: str) -> Any:
    return values[key("look", name) % len(values)]


def _toned(colour: str, by: float) -> str:
    """Mixed with white by a share, or with black by a negative one."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + by * (255 - part) if by > 0 else part * (1 + by)):02x}" for part in parts)
