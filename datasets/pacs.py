"""PACS: photo, art painting, cartoon and sketch, seven classes at 224x224.

Card: docs/datasets/pacs.md.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from benchmark import data
from benchmark.core.images import Images
from benchmark.core.regular_files import content
from benchmark.core.settings import frozen
from benchmark.data import image_files, readers
from benchmark.data.image_files import Filter

ORIGIN = "https://sketchx.eecs.qmul.ac.uk/downloads/ (PACS: the images, and the lists of the splits)"
BASES = ("PACS", "pacs", "")
IMAGES = ("kfold", "images", "pacs_data", "")
LISTS = ("pacs_label", "splits", "kfold", "")
SPLITS: dict[data.Split, str] = {"train": "train", "val": "crossval", "test": "test"}
OFFICIAL = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}
"""Images of each domain."""
LEAVE_ONE_OUT: tuple[str, ...] = ("cartoon+photo+sketch", "art_painting+photo+sketch", "art_painting+cartoon+sketch")
LEAVE_ONE_OUT += ("art_painting+cartoon+photo",)


@frozen()
class Dataset(data.Dataset):
    """PACS with its official lists. The test list of a domain is all of it: its train and crossval lists together."""

    classes = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    domains = tuple(OFFICIAL)
    sources = tuple(OFFICIAL)
    licence = "not stated by its authors"
    citation = "D. Li, Y. Yang, Y.-Z. Song, T. Hospedales: Deeper, Broader and Artier Domain Generalization, ICCV 2017"
    test_is_all = True
    toy: ClassVar[Mapping[str, Any]] = {"size": 16}

    size: Annotated[int, Field(ge=8, le=1024)] = 224
    """Side of the square that the images of 227x227 are scaled to, in pixels."""
    resize: Filter = "bilinear"
    """Pillow's filter."""
    task: Literal["single", "leave_one_out"] = "single"
    """Runs where --sources names none. single: from each domain to the three others. leave_one_out: from each three to
    the fourth."""

    def layout(self, root: Path | None) -> data.Layout:
        sources = self.sources if self.task == "single" else LEAVE_ONE_OUT
        return data.Layout(self.classes, self.domains, sources)

    def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
        return image_files.read(files(domain, split, root), ORIGIN, size=self.size, how=self.resize)

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        return list(places(domain, split, root))

    def warnings(self, root: Path | None) -> list[str]:
        found = []
        for domain, official in OFFICIAL.items():
            try:
                parts = {split: {path for path, _ in files(domain, split, root)} for split in SPLITS}
                lines = {split: _lines(places(domain, split, root)[1]) for split in SPLITS}
            except data.MissingDataError:
                continue
            for split, twice in ((split, len(lines[split]) - len(parts[split])) for split in SPLITS):
                if twice:
                    found.append(f"{domain}: {twice} lines of the {SPLITS[split]} list are there before; counted once")
            if len(parts["test"]) != official:
                found.append(f"{domain}: {len(parts['test'])} images in the test list, officially {official}")
            if parts["train"] & parts["val"]:
                found.append(f"{domain}: {len(parts['train'] & parts['val'])} images in both train and crossval list")
            if parts["train"] | parts["val"] != parts["test"]:
                found.append(f"{domain}: the test list is not the train and the crossval list together")
        return found


def places(domain: str, split: data.Split, root: Path | None) -> tuple[Path, Path]:
    """The folder of a domain's images and the list of one split. Raises MissingDataError where one is absent."""
    folder = readers.data_folder(root, "pacs", can_fetch=False)
    name = f"{domain}_{SPLITS[split]}_kfold.txt"
    images = _first(folder, IMAGES, domain)
    listed = _first(folder, LISTS, name)
    if images is None or listed is None:
        what, where = ("images", domain) if images is None else ("list", name)
        inside = IMAGES if images is None else LISTS
        paths = ", or ".join(str(folder / "PACS" / place / where) for place in inside)
        raise data.MissingDataError(f"pacs/{domain}: its {what} are missing. Put them here: {paths}. From {ORIGIN}")
    return images, listed


def files(domain: str, split: data.Split, root: Path | None) -> list[tuple[Path, int]]:
    """The images of one list with their labels 0..6, in its order.

    Raises MissingDataError where folder or list are absent, UsageError for a line that is no image of this domain, a
    label that is not that of its class folder, or an image that is not there. A line that is there twice counts once.
    """
    images, listed = places(domain, split, root)
    found: dict[Path, int] = {}
    with readers.decoding(listed, ORIGIN):
        for number, line in enumerate(_lines(listed), start=1):
            at, label = ([*line.rsplit(maxsplit=1), "", ""])[:2]
            parts = PurePosixPath(at).parts
            if len(parts) != 3 or parts[0] != domain or parts[1] not in Dataset.classes or not label.isdecimal():
                raise ValueError(f"line {number} is '{line.strip()}', not {domain}/CLASS/FILE and a label in 1..7")
            index = Dataset.classes.index(parts[1])
            if int(label) != index + 1:
                raise ValueError(
                    f"line {number} gives {at} the label {label}, but the {parts[1]} class is {index + 1} of 1..7"
                )
            path = images / parts[1] / parts[2]
            if not path.is_file():
                raise ValueError(f"line {number} names {path}, which is not there")
            found[path] = index
    return list(found.items())


def _lines(listed: Path) -> list[str]:
    """The lines of a list, without a byte-order mark and blank lines at the end."""
    return content(listed, 2**26).decode("utf-8-sig").rstrip().splitlines()


def _first(folder: Path, places: tuple[str, ...], name: str) -> Path | None:
    candidates = (folder / base / place / name for base in BASES for place in places)
    return next((path for path in candidates if path.exists()), None)
