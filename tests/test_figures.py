"""Figures: their colours, what they compute before they draw, and that they draw the same bytes again."""

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmark import (
    accuracy_figures,
    comparison_tables,
    contents,
    figures,
    page,
    palette,
    sensitivity_figures,
    tables,
    training_figures,
)
from benchmark.measure import picture_sheet
from benchmark.rows import by_group
from benchmark.spec import Record
from tests.handmade import fill, record

VISIONS = {  # linear RGB; Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), severity 1
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[float, float, float]:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    x, y, z = (math.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1, 1.089])
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("vision", VISIONS)
def test_methods_can_be_told_apart_with_every_kind_of_vision(vision: str) -> None:
    seen = {name: lab(np.array(VISIONS[vision]) @ linear(colour)) for name, (colour, _) in palette.FIXED.items()}
    nearest = min(math.dist(seen[a], seen[b]) for a, b in itertools.combinations(seen, 2))
    assert nearest > 19  # CIE 1976; a difference of 2.3 is just noticeable


def test_a_row_looks_the_same_in_any_company() -> None:
    assert palette.look("erm") == palette.Look("#000000", "o")
    assert len({marker for _, marker in palette.FIXED.values()}) == len(palette.FIXED)
    variant, method = palette.look("sada[weight_map=none]"), palette.look("sada")
    assert (variant.marker, variant.filled, method.filled) == (method.marker, False, True)
    assert variant.colour != method.colour
    assert palette.look("mine") == palette.look("mine")
    assert palette.look("mine").colour in palette.OTHERS
    assert palette._toned("#000000", 0.5) == "#808080"
    assert palette._toned("#ff8000", -0.5) == "#804000"


def test_files_are_named_by_what_sets_their_group_apart() -> None:
    made = [record("erm", 0), record("erm", 0, source="other"), record("erm", 0, source="other", steps=9)]
    made += [record("erm", 0, lr=0.5, source="other", steps=9)]
    stems = figures._stems({group: runs[0] for group, runs in by_group(made).items()})
    alone, shorter, *same = stems.values()
    assert (alone, shorter) == ("minidigits_same_common", "minidigits_other_common_8_steps")
    assert sorted(same) == sorted(f"minidigits_other_common_9_steps_{group}" for group in list(stems)[2:])


def test_the_front_keeps_what_no_other_beats_in_both() -> None:
    points = {
        "cheap": (1.0, 50.0),
        "worse": (3.0, 49.0),
        "good": (3.0, 55.0),
        "dear": (9.0, 55.0),
        "best": (20.0, 56.0),
    }
    assert accuracy_figures.front(points) == ["cheap", "good", "best"]


def test_an_interval_needs_three_values() -> None:
    assert all(math.isnan(end) for end in accuracy_figures.interval([1.0, 2.0]))
    low, high = accuracy_figures.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))  # t(0.975, 2) = 4.302653


def test_lines_of_a_curve_leave_the_source_out_of_the_targets() -> None:
    curve = [{"step": 5, "val": 90.0, "test": {"a": 10.0, "b": 30.0, "same": 99.0}}]
    assert training_figures.lines_of(curve, ["same"]) == {"step": [5], "source": [90.0], "targets": [20.0]}
    assert training_figures.lines_of(curve, ["a", "b", "same"])["targets"] == [pytest.approx(139 / 3)]


def corrupted(method: str, seed: int) -> Record:
    """A run tested on two corruptions at five severities each."""
    made = record(method, seed, 50.0 + seed)
    assert made.accuracy is not None
    part = made.accuracy.domains["shifted"]
    names = [f"{noise}/{severity}" for noise in ("gaussian_noise", "fog") for severity in range(1, 6)]
    domains = dict.fromkeys(names, part) | {"same": made.accuracy.domains["same"]}
    return made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"domains": domains})})


def test_severities_share_the_line_of_their_corruption_and_pictures_repeat(tmp_path: Path) -> None:
    runs = [corrupted(method, seed) for method in ("erm", "a$b$_c^", "sada") for seed in range(3)]
    for folder in ("one", "two"):
        accuracy_figures.by_domain(runs, tmp_path / folder / "domains")
        accuracy_figures.against_cost(runs, tmp_path / folder / "cost")
        accuracy_figures.ranks({"erm": 2.5, "sada": 1.0, "augmix": 2.5}, 2.0, tmp_path / folder / "ranks")
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {f"{name}.{kind}" for name in ("domains", "cost", "ranks") for kind in ("png", "pdf")}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    few = accuracy_figures.by_domain([record("erm", seed, 50.0) for seed in range(3)], tmp_path / "few")
    height = {path: int.from_bytes(path.read_bytes()[20:24], "big") for path in (few, tmp_path / "one" / "domains.png")}
    assert max(height.values()) < 1.6 * min(height.values())  # three lines of three rows and not eleven


def test_seconds_of_different_machines_are_not_set_side_by_side() -> None:
    here, there = record("erm", 0), record("augmix", 0)
    assert "seconds" in accuracy_figures.costs([here, there])
    moved = there.model_copy(update={"ran": there.ran.model_copy(update={"device_name": "another"})})
    assert "seconds" not in accuracy_figures.costs([here, moved])


def test_long_and_colliding_names_make_files_of_their_own() -> None:
    long = [f"sada[{'epsilon=0.21,' * 30}lam={i}]" for i in range(2)]
    found = sensitivity_figures.slugs([*long, "a b", "a_b", "A_B", "erm"])
    assert found["erm"] == "erm"
    assert len({name.lower() for name in found.values()}) == 6
    assert max(map(len, found.values())) <= sensitivity_figures.LONGEST
    made = [record("erm", 0, dataset=name) for name in ("x y", "x_y", "X_Y", "z", "radial_z", "w" * 300)]
    stems = figures._stems({group: runs[0] for group, runs in by_group(made).items()})
    names = [f"sensitivity_{more}{stem}".lower() for stem in stems.values() for more in ("", "radial_")]
    assert len(set(names)) == len(names)


def test_what_cannot_be_drawn_is_said_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> Path:
        raise RuntimeError("on <purpose>")

    for module, name in (
        (accuracy_figures, "by_domain"),
        (accuracy_figures, "ranks"),
        (sensitivity_figures, "small_multiples"),
        (sensitivity_figures, "heat_maps"),
    ):
        monkeypatch.setattr(module, name, broken)
    monkeypatch.setattr(accuracy_figures, "against_cost", lambda runs, path: palette.save(Figure((1, 1)), path))
    monkeypatch.setattr(sensitivity_figures, "radial_profiles", lambda runs, path: palette.save(Figure((1, 1)), path))
    store = fill(tmp_path, [record("erm", 0), record("augmix", 0)])
    old = tmp_path / "figures" / "accuracy_minidigits_same_common.pdf"
    old.parent.mkdir()
    old.touch()
    drawn = figures.draw(store, store.read_all())
    assert {picture.path.stem.partition("_mini")[0]: bool(picture.problem) for picture in drawn} == {
        "accuracy": True, "cost": False, "sensitivity": True, "sensitivity_radial": False,
    }  # fmt: skip
    assert not old.exists()
    text = page.write(store, store.read_all()).read_text()
    assert "This picture could not be drawn: RuntimeError: on &lt;purpose&gt;" in text
    assert text.count("<img") == 2
    monkeypatch.setattr(accuracy_figures, "costs", broken)
    monkeypatch.setattr(page, "verdict", broken)
    text = page.write(store, store.read_all()).read_text()
    assert "No verdict can be given." in text


def test_a_table_that_cannot_be_made_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("on <purpose>\n")

    monkeypatch.setattr(comparison_tables, "differences", broken)
    monkeypatch.setattr(tables, "cost_rows", broken)
    monkeypatch.setattr(figures, "draw", lambda store, records: [])
    store = fill(tmp_path, [record("erm", 0), record("augmix", 0)])
    assert tables.main(["--out", str(tmp_path)]) == tables.main(["--out", str(tmp_path), "--check"]) == 0
    there = {path.name: path.read_text() for path in (store.out / "tables").iterdir() if path.suffix != ".parquet"}
    assert "- cannot be made: RuntimeError: on &lt;purpose>" in there["differences.md"]
    assert "cannot be made: RuntimeError" in there["differences.tex"]
    assert there["cost.csv"].startswith("cannot be made\nRuntimeError")
    assert "| erm" in there["accuracy.md"]
    assert "cannot be made: RuntimeError: on &lt;purpose&gt;" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("size", [(47, 33), (33, 47), (64, 32), (32, 64), (300, 100), (1, 1), (32, 32)])
def test_views_of_any_shape_come_apart_again(size: tuple[int, int], tmp_path: Path) -> None:
    rows = [torch.full((8, 3, *size), value) for value in (0.0, 0.4, 1.0)]
    for n in (1, 3):
        strips = contents.strips(picture_sheet(rows[:n]))
        assert len(strips) == n
        assert {strip.shape[:2] for strip in strips} == {strips[0].shape[:2]}
        assert abs(strips[0].shape[1] / 8 / strips[0].shape[0] - size[1] / size[0]) < 0.05
        assert [int(strip.max()) for strip in strips] == [0, 102, 255][:n]
    made = record("augmix", 0)
    shown = training_figures.view_sheet([made], {made.run_id: picture_sheet(rows)}, tmp_path / "views")
    assert shown.is_file()


def test_a_picture_of_views_from_before_its_rows_were_written_down() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8 * 32, 3 * 32)).save(buffer, "PNG")
    assert len(contents.strips(buffer.getvalue())) == 3
