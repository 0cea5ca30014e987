"""Figures: their colours, what they compute before they draw, and that they draw the same bytes again."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from benchmark import accuracy_figures, figures, palette, training_figures
from benchmark.rows import by_group
from benchmark.spec import Record
from tests.handmade import record

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
