"""Finds images in DIR/domain/class/image. What has no place below a domain is an error; files directly in DIR are
skipped."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line
from benchmark.data.image_files import entries, plain_name

WANTED = "images lie in DIR/domain/class/, one folder for each domain and in it one for each class"
Found = dict[str, list[tuple[Path, str]]]
"""Files with their class, by domain."""


@cache  # files are taken to stay as they are while the process runs
def scan(root: Path) -> Found:
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
