"""The user's own folder: what is detected, how files become pixels, and every kind of bad input."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import data, registry
from benchmark.core.errors import UsageError
from benchmark.data import class_folders, image_files
from benchmark.data.remote import verify


def make(**settings: Any) -> data.Dataset:
    return registry.make("dataset", "folder", settings)


def save(path: Path, colour: int = 100, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 50, 200)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three domains, two classes, twenty images of each."""
    for domain in ("clay", "ink", "oil"):
        for label, kind in enumerate(("cat", "dog")):
            for i in range(20):
                save(tmp_path / "own" / domain / kind / f"{i:02}.png", colour=100 * label + i)
    return tmp_path / "own"


def test_domains_classes_and_sizes_are_detected(root: Path) -> None:
    layout = make().layout(root)
    assert layout == data.Layout(("cat", "dog"), ("clay", "ink", "oil"), ("clay", "ink", "oil"))
    images = make().load("ink", "test", root)
    assert images.x.shape == (40, 3, 8, 8)
    assert images.x[:, 0, 0, 0].tolist() == [*range(20), *range(100, 120)]
    assert images.y.tolist() == [0] * 20 + [1] * 20
    assert make().warnings(root) == []


def test_a_source_is_split_and_scored_on_its_held_out_part(root: Path) -> None:
    loaded = data.load(make(val_share=0.3), "clay", root)
    assert len(loaded.train) + len(loaded.val) == 40
    assert torch.equal(loaded.test["clay"].x, loaded.val.x)
    assert not set(loaded.train.x[:, 0, 0, 0].tolist()) & set(loaded.val.x[:, 0, 0, 0].tolist())
    assert len(loaded.test["ink"]) == len(loaded.test["oil"]) == 40
    assert loaded.in_domain == ["clay"]
    pooled = data.load(make(val_share=0.3), "clay+ink", root)
    assert len(pooled.train) + len(pooled.val) == 80
    assert pooled.in_domain == ["clay", "ink"]


def test_verify_names_the_fingerprints_that_runs_have(root: Path) -> None:
    """Where a domain is tested on all its images, and as the source on its validation part."""
    found = verify.fingerprints(make(), root, list(verify.parts(make(), root)))
    assert found == {source: data.load(make(), source, root).fingerprint for source in make().layout(root).sources}
    assert len(set(found.values())) == len(found) > 1


def test_the_split_depends_on_the_name_alone(root: Path, tmp_path: Path) -> None:
    def val(folder: Path) -> set[int]:
        return set(make(val_share=0.3).load("clay", "val", folder).x[:, 0, 0, 0].tolist())

    before = val(root)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    assert val(elsewhere) == before
    fewer = tmp_path / "fewer"
    shutil.copytree(root, fewer)
    for name in ("00.png", "07.png"):
        (fewer / "clay" / "cat" / name).unlink()
    assert val(fewer) == before - {0, 7}
    names = [str(i) for i in range(20_000)]
    assert sum(image_files.in_val(0.1, name) for name in names) / len(names) == pytest.approx(0.1, abs=0.01)
    assert image_files.in_val(0.5, "caf\u00e9") == image_files.in_val(0.5, image_files.plain_name("cafe\u0301"))


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert [i for i in range(40) if image_files.in_val(0.1, "clay", f"{i:02}.png")] == [1, 2, 5, 11, 30, 34, 37, 39]
    assert [i for i in range(40) if image_files.in_val(0.1, "caf\u00e9", i)] == [3]


def test_the_fingerprint_changes_with_a_byte_a_split_and_a_filter(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    base = data.load(make(size=6), "clay", root).fingerprint
    assert data.load(make(size=6), "clay", copy).fingerprint == base
    assert data.load(make(size=6, val_share=0.4), "clay", root).fingerprint != base
    image = Image.open(copy / "oil" / "dog" / "03.png")
    image.putpixel((4, 4), (0, 0, 0))
    image.save(copy / "oil" / "dog" / "03.png")
    changed = data.load(make(size=6), "clay", copy).fingerprint
    assert changed != base
    assert data.load(make(size=6, resize="lanczos"), "clay", copy).fingerprint != changed


def test_a_class_that_another_domain_brings_changes_the_labels_of_what_was_cached(root: Path) -> None:
    assert data.load(make(), "oil", root).test["ink"].y.unique().tolist() == [0, 1]
    for i in range(20):
        save(root / "oil" / "ant" / f"{i:02}.png")
    class_folders.scan.cache_clear()  # as in another process
    assert data.load(make(), "oil", root).test["ink"].y.unique().tolist() == [1, 2]


def test_resizing_is_pillows(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    squashed = image_files.resized(image, 16, "bicubic", "squash")
    assert np.array_equal(squashed, np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)))
    cropped = image_files.resized(image, 16, "lanczos", "crop")
    middle = image.resize((16, 16), Image.Resampling.LANCZOS, box=(10, 0, 50, 40))
    assert np.array_equal(cropped, np.asarray(middle))
    assert np.array_equal(image_files.resized(image, 0, "bilinear", "squash"), pixels)


def grey16(path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(path)


def palette(path: Path) -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 250, 0, 250])
    image.putdata([0, 1, 2, 3])
    image.save(path, transparency=3)


def alpha(path: Path) -> None:
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    image.save(path)


def orientation(path: Path) -> None:
    image = Image.fromarray(np.array([[0, 0, 255, 255]] * 2, np.uint8).repeat(8, 0).repeat(8, 1))
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise: the left edge comes to the top
    image.save(path, exif=exif, quality=95)


@pytest.mark.parametrize(
    ("write", "name", "pixels"),
    [
        (lambda path: Image.fromarray(np.array([[0, 9, 255]], np.uint8)).save(path), "grey.png", [[0] * 3, [9] * 3]),
        (grey16, "deep.png", [[0] * 3, [1] * 3, [128] * 3, [255] * 3]),
        (grey16, "deep.tiff", [[0] * 3, [1] * 3, [128] * 3, [255] * 3]),
        (palette, "palette.png", [[10, 20, 30], [40, 50, 60], [70, 80, 90], [255, 255, 255]]),
        (alpha, "alpha.png", [[10, 20, 30], [255, 255, 255]]),
        (lambda path: Image.new("1", (2, 1), 1).save(path), "bit.png", [[255] * 3]),
        (lambda path: Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=95), "print.jpg", [[255, 0, 0]]),
    ],
)
def test_modes_become_rgb(tmp_path: Path, write: Callable[[Path], None], name: str, pixels: list[list[int]]) -> None:
    write(tmp_path / name)
    found = image_files.read([(tmp_path / name, 3)], "somewhere", size=0)
    assert found.y.tolist() == [3]
    row = found.x[0, :, 0].T[: len(pixels)]
    assert (row.int() - torch.tensor(pixels)).abs().max() <= (2 if name.endswith("jpg") else 0)


def test_exif_orientation_turns_the_image_before_anything_else(tmp_path: Path) -> None:
    orientation(tmp_path / "turned.jpg")
    assert image_files.shape(tmp_path / "turned.jpg", "") == (16, 32)
    found = image_files.read([(tmp_path / "turned.jpg", 0)], "somewhere", size=0).x[0, 0]
    assert found.shape == (32, 16)
    assert found[:12].max() < 20
    assert found[20:].min() > 235


def refused(root: Path, *says: str, source: str = "clay", **settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        data.load(make(**settings), source, root)
    for part in says:
        assert part in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir DIR"):
        data.load(make(), "clay", None)
    (tmp_path / "ink" / "cat").mkdir(parents=True)
    refused(tmp_path, "no image found", "DIR/domain/class/")


def test_class_folders_at_the_top_are_explained(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        save(tmp_path / kind / "0.png")
    refused(tmp_path, str(tmp_path / "cat" / "0.png"), "outside of a class folder", "DIR/domain/class/")


def test_one_class_is_no_problem_to_learn(tmp_path: Path) -> None:
    save(tmp_path / "ink" / "cat" / "0.png")
    refused(tmp_path, "1 class", "DIR/domain/class/")


def test_a_class_missing_in_a_source_is_an_error_and_in_a_target_a_warning(root: Path) -> None:
    shutil.rmtree(root / "oil" / "dog")
    (root / "oil" / "dog").mkdir()
    refused(root, str(root / "oil"), "no image of class 'dog'", "--sources", source="oil")
    loaded = data.load(make(), "clay", root)
    assert loaded.warnings == ["oil: no image of 1 classes: dog"]
    assert set(loaded.test["oil"].y.tolist()) == {0}


def test_a_class_that_the_split_leaves_out_is_an_error_in_training_and_a_warning_in_validation(root: Path) -> None:
    cats = sorted((root / "oil" / "cat").iterdir())
    dataset: Any = make()
    parts = {path: dataset._in_val(path, root) for path in cats}
    assert {*parts.values()} == {True, False}
    shutil.copytree(root, root.parent / "other")
    for path in cats:
        (path if parts[path] else root.parent / "other" / path.relative_to(root)).unlink()
    assert "oil: as a source it is validated without 1 classes: cat" in data.load(make(), "oil", root).warnings
    refused(root.parent / "other", "all images of class 'cat' are of the validation part", source="oil")


def test_links_to_one_image_are_of_one_part_and_are_told(root: Path) -> None:
    real = sorted((root / "clay" / "cat").iterdir())[0]
    links = [root / "clay" / "cat" / f"again{i}.png" for i in range(30)]
    for link in links:
        link.symlink_to(real)
    dataset: Any = make()
    assert {dataset._in_val(path, root) for path in [real, *links]} == {dataset._in_val(real, root)}
    told = data.load(make(), "clay", root).warnings
    assert f"links lead to 1 images that are there already, such as clay/cat/{real.name}" in told


def test_an_empty_domain_is_no_source_and_a_missing_target(root: Path) -> None:
    (root / "wax").mkdir()
    assert make().layout(root).sources == ("clay", "ink", "oil")
    loaded = data.load(make(), "clay", root)
    assert "wax: a domain without images" in loaded.missing["wax"]
    refused(root, "wax: a domain without images", source="wax")


def test_mixed_sizes_need_a_size(root: Path) -> None:
    save(root / "oil" / "dog" / "wide.png", size=(12, 8))
    refused(root, "wide.png is 12x8, most images are 8x8", "--set folder.size=8")
    assert data.load(make(size=8), "clay", root).test["oil"].x.shape[1:] == (3, 8, 8)


def test_a_split_without_images_is_named(root: Path) -> None:
    refused(root, "none is of the val part", "folder.val_share", val_share=1e-9)


def test_what_file_managers_leave_behind_is_skipped(root: Path) -> None:
    before = data.load(make(), "clay", root).fingerprint
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._00.png"):
        (root / "clay" / "cat" / name).write_text("x")
    (root / ".git").mkdir()
    (root / "README.txt").write_text("beside the domains anything may lie")

    class_folders.scan.cache_clear()
    assert data.load(make(), "clay", root).fingerprint == before


@pytest.mark.parametrize(
    "name", ["lost+found", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "Thumbs.db", ".Trashes"]
)
@pytest.mark.parametrize("level", ["", "clay", "clay/cat"])
def test_what_systems_leave_about_is_skipped(root: Path, name: str, level: str) -> None:
    (root / level / name / "clay/cat").mkdir(parents=True)
    (root / level / name / "clay/cat/._0.png").write_text("x")
    (root / level / name).chmod(0)  # as lost+found is
    try:
        assert make().layout(root).domains == ("clay", "ink", "oil")
        assert len(data.load(make(), "clay", root).test["ink"]) == 40
    finally:
        (root / level / name).chmod(0o700)


@pytest.mark.parametrize("level", ["", "clay", "clay/cat"])
@pytest.mark.parametrize(("target", "says"), [("gone.png", "a broken link, there is no gone.png"), ("x", "to itself")])
def test_links_to_nothing_are_called_so(root: Path, level: str, target: str, says: str) -> None:
    (root / level / "x").symlink_to(target)
    refused(root, str(root / level / "x"), says)


def test_links_that_lead_round_are_called_so(root: Path) -> None:
    (root / "clay/cat/a.png").symlink_to("b.png")
    (root / "clay/cat/b.png").symlink_to("a.png")
    first = next(path for path in (root / "clay/cat").iterdir() if path.is_symlink())  # as the folder lists them
    refused(root, f"{first.name}: a link that leads back to itself")
    for name in "ab":
        (root / f"clay/cat/{name}.png").unlink()
    (root / "clay/cat/up").symlink_to(root)
    refused(root, "up: not a file, but it lies in a class folder")


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("caf\u00e9", "cafe\u0301", True),
        ("Clay", "clay", False),
        ("STRASSE", "stra\u00dfe", False),
    ],
)
def test_two_names_that_are_one(tmp_path: Path, one: str, two: str, both: bool) -> None:
    for domain in (one, two):
        for i in range(20):
            save(tmp_path / "domains" / domain / "cat" / f"{i}.png")
            save(tmp_path / "domains" / domain / "dog" / f"{i}.png")
            save(tmp_path / "classes" / "clay" / domain / f"{i}.png")
            save(tmp_path / "classes" / "ink" / domain / f"{i}.png")
    refused(tmp_path / "domains", ascii(one), ascii(two), "are one name", source=one)
    if both:
        refused(tmp_path / "classes", ascii(one), ascii(two), "are one name")
    else:  # letters have a large and a small form
        assert len(make(val_share=0.3).layout(tmp_path / "classes").classes) == 2


def test_a_class_may_be_stored_differently_in_two_domains(tmp_path: Path) -> None:
    for domain, kind in (("clay", "caf\u00e9"), ("ink", "cafe\u0301")):
        for i in range(20):
            save(tmp_path / domain / kind / f"{i}.png")
            save(tmp_path / domain / "dog" / f"{i}.png")
    assert make().layout(tmp_path).classes == ("caf\u00e9", "dog")
    assert len(make().load("ink", "test", tmp_path)) == 40


@pytest.mark.parametrize("level", ["clay", "clay/cat", "clay/cat/pipe.png"])
def test_a_pipe_is_not_waited_for(root: Path, level: str) -> None:
    path = root / level / "pipe" if not level.endswith("png") else root / level
    os.mkfifo(path)
    refused(root, str(path))


@pytest.mark.parametrize("size", [0, 8])
def test_files_that_are_no_images_are_named(root: Path, size: int) -> None:
    (root / "clay" / "cat" / "notes.txt").write_text("not an image")
    refused(root, str(root / "clay" / "cat" / "notes.txt"), "not an image", "take it out", size=size)


def test_a_truncated_file_is_named(root: Path) -> None:
    path = root / "clay" / "cat" / "big.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    refused(root, str(path), "truncated")


def test_a_decompression_bomb_is_refused_unread(root: Path) -> None:
    path = root / "clay" / "cat" / "bomb.png"
    Image.new("1", (10_000, 10_000)).save(path)
    refused(root, str(path), "10000x10000, more than", size=8)


def test_unknown_ranges_are_refused(root: Path) -> None:
    path = root / "clay" / "cat" / "float.tiff"
    Image.new("F", (8, 8)).save(path)
    refused(root, str(path), "mode F")


@pytest.mark.parametrize("what", ["oil", "clay/ant", "clay/cat/link.png"])
def test_links_that_lead_out_are_refused(root: Path, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    save(outside / "dog" / "0.png")
    if what == "oil":
        shutil.rmtree(root / "oil")
    (root / what).symlink_to(outside / "dog" / "0.png" if what.endswith("png") else outside)
    refused(root, str(root / what), "a link that leads out")


def test_links_inside_are_followed(root: Path) -> None:
    (root / "clay" / "cat" / "again.png").symlink_to(root / "clay" / "cat" / "00.png")
    assert len(make().load("clay", "test", root)) == 41


@pytest.mark.parametrize("name", ["<b>bold", "[red]", "a|b", "a+b", "line\nbreak", "$x$", "`ls`"])
@pytest.mark.parametrize("level", ["domain", "class"])
def test_folder_names_with_markup_are_refused(root: Path, name: str, level: str) -> None:
    save(root / (name if level == "domain" else "clay") / (name if level == "class" else "cat") / "0.png")
    refused(root, "rename this folder", "letters, digits, space")


def test_files_may_have_any_name(root: Path) -> None:
    before = len(make().load("clay", "test", root))
    names = ["<b>.png", "[red] x.png", "line\nbreak.png", "caf\u00e9.png", os.fsdecode(b"\xff\xfe.png"), "no-ending"]
    for name in names:
        shutil.copy(root / "clay" / "cat" / "00.png", root / "clay" / "cat" / name)

    class_folders.scan.cache_clear()
    loaded = data.load(make(), "clay", root)
    assert len(loaded.train) + len(loaded.val) == before + len(names)
    (root / "clay" / "cat" / "line\nbreak.png").write_bytes(b"")
    refused(root, "line\\nbreak.png")


def test_domains_and_classes_may_be_of_any_script(tmp_path: Path) -> None:
    for domain in ("\u5199\u751f", "d\u00e9cor (2)"):
        for kind in ("\u732b", "hund_1"):
            for i in range(20):
                save(tmp_path / domain / kind / f"{i}.png")
    assert len(data.load(make(val_share=0.3), "\u5199\u751f", tmp_path).test) == 2


def test_a_file_where_a_folder_belongs(root: Path) -> None:
    (root / "clay" / "cat" / "more").mkdir()
    refused(root, str(root / "clay" / "cat" / "more"), "not a file")


def test_pixels_of_neighbours_do_not_matter(root: Path) -> None:
    whole = make(size=6).load("ink", "test", root)
    shutil.rmtree(root / "ink" / "dog")

    class_folders.scan.cache_clear()
    assert torch.equal(make(size=6).load("ink", "test", root).x, whole.x[:20])
