"""The common suite of datasets: what benchmark/data/dataset.py asks of each, and nothing else.

It runs on all of datasets/ and of installed packages, on small files where tests/datasets/files.py can write them; or,
with --plugin=FILE and --data-dir=DIR, on the dataset in that file.
"""

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from benchmark import data, networks, protocols, registry
from benchmark.core.errors import MissingDataError, UsageError
from benchmark.core.images import Images
from benchmark.core.settings import names_of
from tests.conftest import GIVEN, ROOT, under_test
from tests.datasets import files
from tests.elsewhere import elsewhere

DATASETS = pytest.mark.parametrize("subject", under_test("dataset"), indirect=True, scope="module")


@dataclass(frozen=True)
class Subject:
    """A dataset and the folder of its files."""

    name: str
    root: Path | None
    written: bool
    """Whether its files were written for this suite."""

    @property
    def cls(self) -> Any:
        return registry.find("dataset", self.name)

    def make(self, **settings: Any) -> data.Dataset:
        made: data.Dataset = registry.make("dataset", self.name, {**self.cls.toy, **settings})
        return made

    def sources(self) -> list[str]:
        """Its source domains, each for itself."""
        found = self.make().layout(self.root).sources
        return list(dict.fromkeys(name for source in found for name in source.split("+")))

    def part(self, domain: str, split: data.Split) -> Images:
        """Decoded anew, and checked."""
        dataset = self.make()
        classes = len(dataset.layout(self.root).classes)
        return data.decode(dataset, domain, split, self.root, classes, cached=False).images

    def parts(self) -> list[tuple[str, data.Split]]:
        """All that is there of it."""
        splits: tuple[data.Split, ...] = ("train", "val")
        tests: list[tuple[str, data.Split]] = [(name, "test") for name in self.make().layout(self.root).domains]
        return [(name, split) for name in self.sources() for split in splits] + tests


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    name, given = request.param, request.config.getoption("--data-dir")
    root = None if given is None else given.resolve()
    ours = registry.source_file("dataset", name).parent == ROOT / "datasets"
    written = root is None and ours and name in files.MAKERS
    with ExitStack() as stack:
        if written:
            root = tmp_path_factory.mktemp(name)
            files.MAKERS[name](root)
            stack.enter_context(files.small())
        found = Subject(name, root, written)
        if root is None and found.cls.needs_files:
            pytest.skip(f"{name} reads files: give --data-dir=DIR, or let tests/datasets/files.py write small ones")
        try:
            data.load(found.make(), found.make().layout(root).sources[0], root)
        except MissingDataError as problem:
            pytest.skip(str(problem))
        yield found


@DATASETS
def test_classes_domains_licence_and_citation_are_named(subject: Subject) -> None:
    layout = subject.make().layout(subject.root)
    for names in (layout.classes, layout.domains, layout.sources):
        assert names
        assert len(set(names)) == len(names)
        assert all(isinstance(name, str) and name.strip() for name in names)
    for text in (subject.cls.licence, subject.cls.citation, registry.summary("dataset", subject.name)):
        assert isinstance(text, str)
        assert text.strip()


@DATASETS
def test_pixels_are_bytes_and_labels_are_classes(subject: Subject) -> None:
    classes, sizes = len(subject.make().layout(subject.root).classes), set()
    for domain, split in subject.parts():
        try:
            images = subject.part(domain, split)
        except MissingDataError:
            continue
        assert images.x.dtype == torch.uint8
        assert 0 <= images.y.min() <= images.y.max() < classes
        sizes.add(images.x.shape[1:])
    assert len(sizes) == 1


@DATASETS
def test_a_part_is_the_same_bytes_whenever_and_wherever_it_is_loaded(subject: Subject) -> None:
    known = [*subject.sources(), *subject.make().layout(subject.root).domains][:2]
    parts = [(domain, split) for domain, split in subject.parts() if domain in known]
    here = [fingerprints(subject.name, subject.root, parts) for _ in range(2)]
    assert here[0] == here[1]
    there = elsewhere(fingerprints_anew, GIVEN, subject.name, subject.root, parts, subject.written)
    assert there == here[0]


def fingerprints(name: str, root: Path | None, parts: list[tuple[str, data.Split]]) -> dict[str, str]:
    found = {}
    for domain, split in parts:
        try:
            found[f"{domain}/{split}"] = data.fingerprint({"part": Subject(name, root, False).part(domain, split)})
        except MissingDataError:
            continue
    return found


def fingerprints_anew(
    plugins: list[Path], name: str, root: Path | None, parts: list[tuple[str, data.Split]], small: bool
) -> dict[str, str]:
    """The same, where neither the plugins nor the sizes of small files are known."""
    registry.load_plugins(plugins)
    with files.small() if small else nullcontext():
        return fingerprints(name, root, parts)


@DATASETS
def test_train_val_and_test_of_a_domain_share_no_image(subject: Subject) -> None:
    for domain in subject.sources():
        train, val = contents(subject.part(domain, "train")), contents(subject.part(domain, "val"))
        assert not train & val, f"train and val of {domain} share images"
        if domain not in subject.make().layout(subject.root).domains:
            continue
        test = contents(subject.part(domain, "test"))
        if subject.cls.test_is_all:
            assert test == train | val, f"test is not train and val of {domain}"
        else:
            assert not test & (train | val), f"test of {domain} and what it is trained on share images"


def contents(images: Images) -> set[bytes]:
    return {image.tobytes() for image in images.x.numpy()}


@DATASETS
def test_another_value_of_a_setting_gives_another_fingerprint_or_layout(subject: Subject) -> None:
    def identity(**settings: Any) -> tuple[Any, ...]:
        dataset = subject.make(**settings)
        layout = dataset.layout(subject.root)
        loaded = data.load(dataset, layout.sources[0], subject.root)
        return loaded.fingerprint, layout, loaded.missing.keys()

    usual, untried = identity(), []
    for name in names_of(subject.cls):
        for value in others(subject, name):
            try:
                fingerprint, layout, missing = identity(**{name: value})
            except MissingDataError:
                untried.append(f"{name}={value}")
                continue
            assert (fingerprint, layout) != usual[:2], f"{name}={value} changes nothing"
            if layout == usual[1] and missing != usual[2]:
                untried.append(f"{name}={value}")
    if untried:
        pytest.skip(f"files that these settings ask for are not there: {', '.join(untried)}")


def others(subject: Subject, name: str) -> list[Any]:
    """Other values that a setting may have: all of a choice, one of a number, none of a text."""
    attribute = names_of(subject.cls)[name]
    kind, usual = subject.cls.__pydantic_fields__[attribute].annotation, getattr(subject.make(), attribute)
    if get_origin(kind) is Literal:
        return [value for value in get_args(kind) if value != usual]
    if isinstance(usual, bool):
        return [not usual]
    if not isinstance(usual, int | float):
        return []
    candidates = [usual + 1, usual - 1, usual * 2, usual // 2 if isinstance(usual, int) else usual / 2]
    return [value for value in candidates if value != usual and allowed(subject, name, value)][:1]


def allowed(subject: Subject, name: str, value: Any) -> bool:
    try:
        subject.make(**{name: value})
    except UsageError:
        return False
    return True


@DATASETS
def test_there_is_a_recipe_under_common(subject: Subject) -> None:
    recipe, _, settings = protocols.recipe_for("common", "erm", subject.name)
    registry.make("dataset", subject.name, settings)
    if recipe.network != "by_size":
        networks.check(recipe.network)
