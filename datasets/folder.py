"""Your own images: DIR/domain/class/image, every domain a source and a target. How to: docs/datasets/folder.md."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from benchmark import data, image_files, readers
from benchmark.errors import UsageError
from benchmark.image_files import Filter, Fit, entries, plain_name
from benchmark.method import frozen
from benchmark.spec import Images
from benchmark.texts import one_line

ORIGIN = "where it came from, or take it out of the folder"
WANTED = "images lie in DIR/domain/class/, one folder for each domain and in it one for each class"
Found = dict[str, list[tuple[Path, str]]]
"""Files with their class, by domain."""


@frozen()
class Dataset(data.Dataset):
    """A folder of folders of images. Domains, classes and sizes are detected, in the order of their names."""

    licence = "yours to know"
    citation = "yours to give"
    test_is_all = True

    size: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side of the square that images are scaled to, in pixels; 0: none, all have one size already."""
    resize: Filter = "bilinear"
    """Pillow's filter."""
    fit: Fit = "squash"
    """squash: width and height are scaled apart. crop: the largest square in the middle is taken, and scaled."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Chance of each image to be of the validation part; the hash of its path below DIR decides."""

    def layout(self, root: Path | None) -> data.Layout:
        found = _scan(readers.data_folder(root, "folder", can_fetch=False))
        classes = tuple(sorted({name for files in found.values() for _, name in files}))
        if len(classes) < 2:
            raise UsageError(f"--data-dir {root}: {len(classes) or 'no'} class with images found; {WANTED}")
        return data.Layout(classes, tuple(found), tuple(domain for domain, files in found.items() if files))

    def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
        folder, classes = readers.data_folder(root, "folder", can_fetch=False), self.layout(root).classes
        files = _scan(folder).get(domain, [])
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
        of = [(path, classes.index(name)) for path, name in files]
        return image_files.read(of, ORIGIN, size=self.size, how=self.resize, fit=self.fit)

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        return [readers.data_folder(root, "folder", can_fetch=False)]  # all: other domains decide the classes, too

    def warnings(self, root: Path | None) -> list[str]:
        folder, classes = readers.data_folder(root, "folder", can_fetch=False), self.layout(root).classes
        absent = {domain: set(classes) - {name for _, name in files} for domain, files in _scan(folder).items()}
        return [f"{domain}: no image of {len(a)} classes: {', '.join(sorted(a))}" for domain, a in absent.items() if a]

    def _in_val(self, path: Path, folder: Path) -> bool:
        return image_files.in_val(self.val_share, *map(plain_name, path.relative_to(folder).parts))


@cache  # files are taken to stay as they are while the process runs
def _scan(root: Path) -> Found:
    """All files by domain, in the order of their names. Raises UsageError for what has no place in the layout."""
    found: Found = {}
    domains = [path for path in entries(root, root) if path.is_dir()]
    _check_distinct(domains, lambda name: plain_name(name).casefold())  # classes may be 'a' and 'A'
    for domain in domains:
        _check_name(domain)
        files = found[plain_name(domain.name)] = []
        kinds = entries(domain, root)
        _check_distinct(kinds, plain_name)
        for kind in kinds:
            if not kind.is_dir():
                raise UsageError(f"{one_line(kind)}: a file outside of a class folder; {WANTED}")
            _check_name(kind)
            for path in entries(kind, root):
                if not path.is_file():
                    raise UsageError(f"{one_line(path)}: not a file, but it lies in a class folder; {WANTED}")
                files.append((path, plain_name(kind.name)))
    if not any(found.values()):
        raise UsageError(f"--data-dir {root}: no image found; {WANTED}")
    return found


def _check_name(folder: Path) -> None:
    wrong = re.sub(r"[\w .()-]", "", plain_name(folder.name))
    if wrong:
        raise UsageError(
            f"{one_line(folder)}: rename this folder, its name has {wrong[0]!a}; "
            "names of domains and classes may hold letters, digits, space and . _ - ( )"
        )


def _check_distinct(folders: list[Path], name: Callable[[str], str]) -> None:
    """Raises UsageError for two folders whose names are one to `name`: they would be taken for each other."""
    before: dict[str, Path] = {}
    for folder in folders:
        other = before.setdefault(name(folder.name), folder)
        if other != folder:
            raise UsageError(
                f"{folder.parent}: {other.name!a} and {folder.name!a} are one name but for capital letters or the way "
                "accents are stored; rename one, or put all images into one of them"
            )


@cache
def _same_size(root: Path) -> None:
    """Raises UsageError where images differ in size."""
    sizes = {path: image_files.shape(path, ORIGIN) for files in _scan(root).values() for path, _ in files}
    (usual, _), *others = Counter(sizes.values()).most_common()
    if others:
        other = next(path for path, size in sizes.items() if size != usual)
        raise UsageError(
            f"{one_line(other)} is {sizes[other][0]}x{sizes[other][1]}, most images are {usual[0]}x{usual[1]}, "
            f"{len(others) + 1} sizes in all: set one, e.g. --set folder.size={min(usual)}"
        )
