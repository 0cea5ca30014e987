"""Your own images in DIR/domain/class/image: every domain is a source and a target.

How to use it: docs/datasets/folder.md.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from benchmark import data
from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.data import image_files, readers
from benchmark.data.class_folders import WANTED, scan
from benchmark.data.image_files import Filter, Fit, plain_name

ORIGIN = "where it came from, or take it out of the folder"


@frozen()
class Dataset(data.Dataset):
    """A folder of folders of images. Domains, classes and sizes are detected, in the order of their names."""

    licence = "yours to know"
    citation = "yours to give"
    test_is_all = True
    toy: ClassVar[Mapping[str, Any]] = {"size": 8}

    size: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side of the square that images are scaled to, in pixels; 0: none, all have one size already."""
    resize: Filter = "bilinear"
    """Pillow's filter."""
    fit: Fit = "squash"
    """squash: width and height are scaled apart. crop: the largest square in the middle is taken, and scaled."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Chance of each image to be of the validation part; the hash of its path below DIR decides."""

    def layout(self, root: Path | None) -> data.Layout:
        found = scan(readers.data_folder(root, "folder", can_fetch=False))
        classes = tuple(sorted({name for files in found.values() for _, name in files}))
        if len(classes) < 2:
            raise UsageError(f"--data-dir {root}: {len(classes) or 'no'} class with images found; {WANTED}")
        return data.Layout(classes, tuple(found), tuple(domain for domain, files in found.items() if files))

    def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
        folder, classes = readers.data_folder(root, "folder", can_fetch=False), self.layout(root).classes
        files = scan(folder).get(domain, [])
        if not files:
            raise data.MissingDataError(f"{folder / domain}: a domain without images; {WANTED}")
        absent = sorted(set(classes) - {name for _, name in files})
        if absent and split != "test":
            raise UsageError(
                f"{folder / domain}: no image of class '{absent[0]}' ({len(absent)} absent in all), so it cannot be a "
                "source; add some, or name other domains with --sources"
            )
        if not self.size:
            _same_size(folder)
        if split != "test":
            files = [(path, name) for path, name in files if (split == "val") == self._in_val(path, folder)]
            if not files:
                raise UsageError(
                    f"{folder / domain}: none is of the {split} part; add images or change folder.val_share"
                )
            if split == "train" and (lost := sorted(set(classes) - {name for _, name in files})):
                raise UsageError(
                    f"{folder / domain}: all images of class '{lost[0]}' are of the validation part, none is left to "
                    "train on; add some, or change folder.val_share"
                )
        of = [(path, classes.index(name)) for path, name in files]
        return image_files.read(of, ORIGIN, size=self.size, how=self.resize, fit=self.fit)

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        return [readers.data_folder(root, "folder", can_fetch=False)]  # all: other domains decide the classes, too

    def warnings(self, root: Path | None) -> list[str]:
        folder, classes = readers.data_folder(root, "folder", can_fetch=False), self.layout(root).classes
        found = []
        for domain, files in scan(folder).items():
            of_val = {name for path, name in files if self._in_val(path, folder)}
            if absent := sorted(set(classes) - {name for _, name in files}):
                found.append(f"{domain}: no image of {len(absent)} classes: {', '.join(absent)}")
            elif absent := sorted(set(classes) - of_val):
                found.append(
                    f"{domain}: as a source it is validated without {len(absent)} classes: {', '.join(absent)}"
                )
        return [*found, *_linked(folder)]

    def _in_val(self, path: Path, folder: Path) -> bool:
        """Links to one file are of the part of that file."""
        real = _real(path).relative_to(_resolved(folder))
        return image_files.in_val(self.val_share, *map(plain_name, real.parts))


def _real(path: Path) -> Path:
    """Where a file lies behind all links. Its folder is looked up once: there may be many files in it."""
    return path.resolve() if path.is_symlink() else _resolved(path.parent) / path.name


@cache
def _resolved(folder: Path) -> Path:
    return folder.resolve()


@cache
def _linked(root: Path) -> list[str]:
    """What is said of images that are there more than once, by links."""
    often = Counter(_real(path) for files in scan(root).values() for path, _ in files)
    again = [path for path, count in often.items() if count > 1]
    first = f"{one_line(again[0].relative_to(_resolved(root)))}" if again else ""
    return [f"links lead to {len(again)} images that are there already, such as {first}"] if again else []


@cache
def _same_size(root: Path) -> None:
    """Raises UsageError where images differ in size."""
    sizes = {path: image_files.shape(path, ORIGIN) for files in scan(root).values() for path, _ in files}
    (usual, _), *others = Counter(sizes.values()).most_common()
    if others:
        other = next(path for path, size in sizes.items() if size != usual)
        raise UsageError(
            f"{one_line(other)} is {sizes[other][0]}x{sizes[other][1]}, most images are {usual[0]}x{usual[1]}, "
            f"{len(others) + 1} sizes in all: set one, e.g. --set folder.size={min(usual)}"
        )
