"""The README's numbers are those of the committed run records, and its commands are those of the Makefile."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.site import tables
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"
NEEDS = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="an installation without the published results")


@NEEDS
@pytest.mark.parametrize("path", tables.DOCUMENTS, ids=lambda path: path.stem)
def test_the_tables_of_the_documents_are_made_from_the_records(path: Path) -> None:
    """`make published` writes them."""
    text = path.read_text(encoding="utf-8")
    assert tables.filled(text) == text


def test_every_table_is_shown_somewhere() -> None:
    shown = {name for path in tables.DOCUMENTS for _, name, _ in tables.PLACE.findall(path.read_text(encoding="utf-8"))}
    assert shown == tables.TABLES.keys()


def test_a_table_of_no_known_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="unknown"):
        tables.filled("<!-- table unknown -->\n<!-- end -->")


@NEEDS
def test_the_reference_maps_are_those_of_their_record() -> None:
    found = json.loads((PUBLISHED / "reference_map" / "record.json").read_text(encoding="utf-8"))["statistics"]
    text = (ROOT / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    radii = [f"radius {r}" for r in (3, 6, 7, 9, 11, 15)]
    for title, name in [("mean of the map", "mean"), ("centre", "centre"), *((radius, radius) for radius in radii)]:
        cells = (f"{found[of][name]:.3f}" for of in ("published", "as called", "enhanced"))
        assert f"| {title} | {' | '.join(cells)} |" in text
    for title, name in (("mean \\|difference\\| to", "mean |difference|"), ("correlation with", "correlation")):
        cells = (f"{found[of][name]:.3f}" for of in ("as called", "enhanced"))
        assert f"| {title} the published map | | {' | '.join(cells)} |" in text


def test_pictures_and_files_named_in_the_readme_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file(), path
    for folder in ("methods", "datasets", "docs/methods", "docs/datasets", "docs/adr"):
        assert (ROOT / folder).is_dir()


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"bench", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_constraints_pin_every_package_that_the_project_names_to_a_version_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*]+", str(each.specifier)) for each in pinned)
    versions = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["dev"], *extras["docs"]]:
        asked = Requirement(text)
        assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), text
