"""What the tests of fetching share: a file, and what is asked of a server."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.data.remote import fetch
from benchmark.data.remote.remote_file import Remote
from tests.server import Site

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def remote(site: Site, *paths: str, **changes: Any) -> Remote:
    """The file of the fixture, by default from its good address."""
    urls = tuple(site.address + path for path in paths or ("/good/file.bin",))
    plain = Remote("sub/file.bin", "free for tests", "https://origin.example", urls, SHA256, len(CONTENT))
    return replace(plain, **changes)


def get(wanted: Remote, root: Path) -> str:
    return fetch.fetch(wanted, root, lambda done, total: None)


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def part(root: Path) -> Path:
    path = root / "sub" / "file.bin.part"
    path.parent.mkdir(exist_ok=True)
    return path
