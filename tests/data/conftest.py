"""A server that has one file."""

from collections.abc import Iterator

import pytest

from tests.data.fetching import CONTENT
from tests.server import Site, serve


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site({"/good/file.bin": CONTENT})) as running:
        yield running
