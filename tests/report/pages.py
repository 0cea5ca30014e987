"""A page of runs made by hand, for the tests of what it says and of how it works in a browser."""

from pathlib import Path

from benchmark import tables
from benchmark.core.record import Record
from benchmark.runs.store import Store
from benchmark.training.artifacts import npy_bytes
from benchmark.training.measurements import picture_sheet
from tests import toy
from tests.handmade import error_map, failed, record

NASTY = """<img src=x onerror=alert(1)>"'&</script>{{ 7919 * 7919 }}$"""
"""Markup, quotes, a template and the end of a script, as no name should be and any may be."""


def nasty(seed: int) -> Record:
    """A run whose method, domain and error are nasty."""
    made = record(NASTY, seed, 40.0 + seed)
    assert made.accuracy is not None
    domains = {NASTY: made.accuracy.domains["shifted"]} | made.accuracy.domains
    accuracy = made.accuracy.model_copy(update={"domains": domains})
    return made.model_copy(update={"accuracy": accuracy, "warnings": [NASTY], "error": NASTY})


def runs() -> list[Record]:
    made = [record("erm", s, 50.0 + s, speed=400) for s in range(3)]
    made += [record("augmix", s, 60.0 + 2 * s) for s in range(3)]
    return [*made, *(nasty(s) for s in range(2)), failed("gud", 0), record(NASTY, 0, dataset=NASTY)]


def fill(folder: Path, made: list[Record]) -> Store:
    """A store of these runs, with maps, curves and views."""
    store = Store(folder)
    store.prepare()
    images = toy.images(8, 0).unit()
    for one in made:
        files = {}
        if one.sensitivity:
            content = npy_bytes(error_map(one).error.numpy() * (1 + int(one.run_id[:2], 16) / 256))
            files = {"sensitivity.npy": content, "views.png": picture_sheet([images, 1 - images])}
            one = with_map(one, content)  # noqa: PLW2901
        names = [*one.accuracy.domains] if one.accuracy else []
        curve = [{"step": s, "val": 50.0 + s, "test": dict.fromkeys(names, 30.0 + s)} for s in (4, 8)] if names else []
        with store.working(one.run_id):
            store.finish(one, curve, files)
    return store


def with_map(made: Record, content: bytes) -> Record:
    known = record("erm", 0, map_file=content).sensitivity
    return made.model_copy(update={"sensitivity": known})


def written(folder: Path) -> Store:
    """A store of these runs with its tables and its page."""
    store = fill(folder, runs())
    tables.write_all(store)
    return store
