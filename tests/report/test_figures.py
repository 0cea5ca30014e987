"""Figures: their colours, what they compute before they draw, and that they draw the same bytes again."""

import io
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from benchmark import registry, tables
from benchmark.core.record import Record, Trial
from benchmark.report import all_tables, page
from benchmark.report.figures import accuracies, all_figures, gains, learning_curves, palette, sensitivity_maps
from benchmark.report.people import comparison_tables
from benchmark.report.tidy.groups import by_group
from benchmark.runs import places
from benchmark.training import artifacts
from benchmark.training.measurements import picture_sheet
from tests.handmade import fill, record, scored

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
    looks = {name: palette.look(name) for name in registry.names("method")}
    assert len(set(looks.values())) == len(looks)  # no two of the project's methods look alike
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
    stems = all_figures._stems({group: runs[0] for group, runs in by_group(made).items()})
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
    assert accuracies.front(points) == ["cheap", "good", "best"]


def test_a_line_is_an_interval_from_three_values_up_and_a_range_below() -> None:
    assert accuracies.span([1.0]) == (1, 1, ":")
    assert accuracies.span([2.0, 1.0]) == (1, 2, ":")
    assert accuracies.span([2.0, 2.0, 2.0]) == (2, 2, ":")
    low, high, pattern = accuracies.span([1.0, 2.0, 3.0])
    assert pattern == "-"
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))  # t(0.975, 2) = 4.302653


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return [float(x) for x in np.asarray(line.get_xdata())], [float(y) for y in np.asarray(line.get_ydata())]


def test_two_seeds_show_their_points_and_their_range(saved: list[Figure]) -> None:
    runs = [record("erm", seed, 50.0 + seed**2) for seed in range(3)]
    runs += [record("gud", seed, 60.0 + 4 * seed) for seed in range(2)]
    accuracies.by_domain(runs, Path())
    accuracies.against_cost(runs, Path())
    domains, cost = saved
    dotted = [points(line)[0] for line in domains.axes[0].lines if line.get_linestyle() == ":"]
    ticks = [points(line)[0] for line in domains.axes[0].lines if line.get_marker() == "|"]
    assert [60.0, 64.0] in dotted
    assert [60.0, 64.0] in ticks
    assert [50.0, 51.0, 54.0] in ticks
    assert "solid lines: 95 % intervals; dotted: ranges" in domains.axes[0].get_xlabel()
    for axes in cost.axes:
        dotted = [points(line)[1] for line in axes.lines if line.get_linestyle() == ":"]
        faint = [points(line)[1] for line in axes.lines if line.get_alpha()]
        assert dotted == [[60.0, 64.0]]
        assert faint == [[50.0, 51.0, 54.0], [60.0, 64.0]]


def test_domains_stand_from_the_top_with_the_means_of_their_seeds(saved: list[Figure]) -> None:
    """The source's own last; domains without data are named below."""
    accuracies.by_domain([record("erm", seed, 50.0 + 3 * seed**2) for seed in range(3)], Path())
    (axes,) = saved[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shifted", "same\n(in-domain)"]
    assert axes.get_ylim() == (1.5, -0.5)
    means = [points(line) for line in axes.lines if line.get_marker() not in ("|", "None")]
    assert means == [([55.0], [0.0]), ([90.0], [1.0])]
    assert axes.get_xlabel().endswith("\nno data: absent")


def priced(method: str, seed: int, accuracies: tuple[float, float], passes: float, seconds: float) -> Record:
    made = scored(record(method, seed), dict(zip(("near", "far"), accuracies, strict=True)))
    assert made.throughput is not None
    price = {"passes_per_image": passes, "setup_seconds": 0.5, "train_seconds": seconds - 0.5}
    return made.model_copy(update={"throughput": made.throughput.model_copy(update=price)})


def test_each_price_has_a_front_of_its_own_through_the_means_over_seeds(saved: list[Figure]) -> None:
    """A step of the front lies at the accuracy that is to be had for its price, up to the next row."""
    runs = [priced("erm", seed, (40.0 + seed, 60.0 + seed), 1.0, 8.0) for seed in (0, 2)]
    runs += [priced("augmix", seed, (60.0, 64.0), 3.0, 4.0) for seed in (0, 2)]
    accuracies.against_cost(runs, Path())
    found = []
    for axes in saved[0].axes:
        (front,) = (line for line in axes.lines if line.get_color() == "0.6")
        assert front.get_drawstyle() == "steps-post"
        found.append((points(front), [points(line) for line in axes.lines if line.get_markersize() == 5]))
    assert found == [
        (([1.0, 3.0], [51.0, 62.0]), [([1.0], [51.0]), ([3.0], [62.0])]),
        (([4.0], [62.0]), [([8.0], [51.0]), ([4.0], [62.0])]),
    ]


def test_seconds_are_left_out_where_one_run_shared_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [record("erm", 0), record("augmix", 0)]
    monkeypatch.setattr(accuracies, "own_seconds", lambda run: None if run is runs[1] else 2.5)
    assert list(accuracies.costs(runs)) == ["row", "accuracy", "passes", "machine"]


def test_gains_are_differences_within_a_seed_and_thick_where_they_are_significant(saved: list[Figure]) -> None:
    rows = {
        "erm": dict(enumerate([50.0, 60, 55, 58, 52])),
        "augmix": dict(enumerate([54.0, 64.1, 59, 62.1, 56])),  # 4 and a little on each seed
        "gud": dict(enumerate([47.0, 59, 90, 30, 58])),
        "sada": dict(enumerate([49.0, 60])),  # two seeds: no line
    }
    pairs = gains.over_erm(rows)
    assert [pair.row for pair in pairs] == ["augmix", "gud", "sada"]
    gains.gains({"": pairs, "no more than two": [pair for pair in pairs if pair.row == "sada"]}, Path())
    ((above, below),) = (figure.axes for figure in saved)
    assert [label.get_text() for label in above.get_yticklabels()] == ["augmix, n = 5", "gud, n = 5", "sada, n = 2"]
    lines = {line.get_color(): line for line in above.lines if line.get_marker() == "None"}
    assert [*lines] == ["0.3", *(palette.look(row).colour for row in ("augmix", "gud"))]
    (augmix, gud) = (lines[palette.look(row).colour] for row in ("augmix", "gud"))
    assert pairs[0].significant
    assert augmix.get_linewidth() > 2 * gud.get_linewidth()
    assert points(augmix)[0] == list(pairs[0].interval or ())
    low, high = above.get_xlim()
    assert max(abs(low), high) < 1.1 * gains.WIDEST * pairs[0].difference.mean  # gud's interval goes on beyond it
    assert points(gud)[0] == [low, high]
    arrows = [line.get_marker() for line in above.lines if line.get_markersize() == 3]
    assert arrows == ["<", ">"]
    assert above.get_xlabel().replace("\n", " ") == "points over ERM; lines: 95 %, all rows at once; thick: significant"
    assert below.get_xlabel() == "points over ERM, n = 2"
    assert below.get_title("left") == "no more than two"
    assert below.get_xlim() == (low, high)  # a point is as wide in both
    assert gains.over_erm({"gud": rows["gud"]}) == gains.over_erm({"erm": rows["erm"], "gud": {9: 1.0}}) == []


def test_the_marker_of_a_gain_and_the_line_of_none_stand_where_they_say(saved: list[Figure]) -> None:
    gains.gains({"": gains.over_erm({"erm": {0: 50.0, 1: 60.0}, "gud": {0: 47.0, 1: 55.0}})}, Path())
    (axes,) = saved[0].axes
    none, gud = axes.lines
    assert points(none)[0] == [0.0, 0.0]
    assert points(gud)[0] == [-4.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0, 20.0, ["1", "2", "5", "10", "20"]),
        (139.0, 2800.0, ["300", "1000"]),  # 500, 1000 and 2000 would run into each other
        (20.01, 20.1, ["20.01", "20.1"]),
        (1241.0, 2671.0, ["1241", "2671"]),
        (3.0, 3.0, ["3"]),
        (2.0, 2.0, ["2"]),
        (1.0, 1e8, ["1", "1000", "1000000"]),
    ],
)
def test_ticks_of_a_price_are_round_and_fit(low: float, high: float, expected: list[str]) -> None:
    assert list(accuracies._ticks(low, high, 1.05).values()) == expected


def test_lines_of_a_curve_leave_the_source_out_of_the_targets() -> None:
    curve = [{"step": 5, "val": 90.0, "test": {"a": 10.0, "b": 30.0, "same": 99.0}}]
    every = ["a", "b", "same"]
    assert learning_curves.lines_of(curve, every, ["same"]) == {"step": [5], "source": [90.0], "targets": [20.0]}
    assert learning_curves.lines_of(curve, every, every)["targets"] == [pytest.approx(139 / 3)]
    assert math.isnan(learning_curves.lines_of(curve, ["far", "same"], ["same"])["targets"][0])
    assert not learning_curves.has_line(curve)  # one evaluation: no line, and so no figure
    assert learning_curves.has_line([*curve, *curve])


def test_targets_are_solid_and_the_source_is_dashed(saved: list[Figure]) -> None:
    """As the note below the figure has it, in the panel of each row, ERM's grey lines too."""
    runs = [record("erm", 0), record("augmix", 0)]
    level = {runs[0].run_id: 30.0, runs[1].run_id: 60.0}
    curves = {
        run_id: [{"step": s, "val": 95.0, "test": {"shifted": value, "same": 99.0}} for s in (4, 8)]
        for run_id, value in level.items()
    }
    learning_curves.learning_curves(runs, curves, Path())
    erm, augmix = saved[0].axes
    for axes, targets in ((erm, {30.0}), (augmix, {30.0, 60.0})):
        heights = {
            style: {y for line in axes.lines if line.get_linestyle() == style for y in points(line)[1]}
            for style in ("-", "--")
        }
        assert heights == {"-": targets, "--": {95.0}}


def test_curves_are_means_over_the_evaluations_that_all_seeds_have(saved: list[Figure]) -> None:
    def curve(*points: tuple[int, float]) -> list[dict[str, Any]]:
        return [{"step": step, "val": 95.0, "test": {"shifted": value}} for step, value in points]

    runs = [record("augmix", seed) for seed in range(2)]
    curves = {runs[0].run_id: curve((4, 30.0), (8, 40.0), (12, 45.0)), runs[1].run_id: curve((6, 50.0), (10, 60.0))}
    learning_curves.learning_curves(runs, curves, Path())
    solid = [line for line in saved[0].axes[0].lines if line.get_linestyle() == "-"]
    seeds, mean = solid[:-1], solid[-1]
    assert [points(line)[1] for line in seeds] == [[30.0, 40.0, 45.0], [50.0, 60.0]]
    assert points(mean) == ([5.0, 9.0], [40.0, 50.0])
    assert mean.get_linewidth() > 2 * seeds[0].get_linewidth()


def test_the_note_below_the_curves_speaks_of_erm_where_it_is_there(saved: list[Figure]) -> None:
    runs = [record("erm", 0), record("augmix", 0)]
    curve = [{"step": step, "val": 95.0, "test": {"shifted": 30.0}} for step in (4, 8)]
    for shown in (runs, runs[1:]):
        learning_curves.learning_curves(shown, {run.run_id: curve for run in shown}, Path())
    notes = [[text.get_text() for text in figure.texts if "dashed" in text.get_text()] for figure in saved]
    plain = "solid: mean of the shifted domains; dashed: source validation"
    assert notes == [[f"{plain}; grey: ERM"], [plain]]


def test_the_panels_of_all_rows_have_one_scale(saved: list[Figure]) -> None:
    runs = [record("augmix", 0), record("gud", 0)]
    curves = {
        run.run_id: [{"step": step, "val": level, "test": {"shifted": level}} for step in (4, 8)]
        for run, level in zip(runs, (30.0, 60.0), strict=True)
    }
    learning_curves.learning_curves(runs, curves, Path())
    ((low, high),) = {axes.get_ylim() for axes in saved[0].axes}
    assert low < 30
    assert high > 60


def test_of_several_seeds_and_views_the_first_is_shown(saved: list[Figure]) -> None:
    runs = [record("augmix", seed) for seed in range(2)]
    views = {
        run.run_id: picture_sheet([torch.full((8, 3, 32, 32), level) for level in levels])
        for run, levels in zip(runs, ((0.0, 0.4, 0.8), (0.2, 0.6, 1.0)), strict=True)
    }
    learning_curves.view_sheet(runs, views, Path())
    shown = {axes.texts[0].get_text(): int(np.asarray(axes.images[0].get_array()).max()) for axes in saved[0].axes}
    assert shown == {"source": 0, "augmix": 102}


def test_a_bar_joins_only_ranks_that_the_test_does_not_tell_apart(saved: list[Figure]) -> None:
    """A critical difference of 1: neighbours are 0.8 apart, the first and the third 1.6, the last from all others 1.2
    or more."""
    accuracies.ranks({"erm": 1.0, "augmix": 1.8, "gud": 2.6, "sada": 3.8}, 1.0, Path())
    bars = [points(line)[0] for line in saved[0].axes[0].lines if line.get_linewidth() == 2]
    middles = [(round(low + 0.06, 6), round(high - 0.06, 6)) for low, high in bars]
    assert middles == [(1.0, 1.8), (1.8, 2.6)]


def test_ranks_are_drawn_where_they_are_and_the_critical_difference_to_scale(saved: list[Figure]) -> None:
    average = {"erm": 1.0, "augmix": 1.8, "gud": 2.6, "sada": 3.8}
    accuracies.ranks(average, 1.5, Path())
    (axes,) = saved[0].axes
    (scale,) = (line for line in axes.lines if line.get_linewidth() == 1.6)
    assert points(scale)[0] == [1.0, 2.5]
    assert [text.get_text() for text in axes.texts if "critical" in text.get_text()] == ["critical difference 1.50"]
    leading = {line.get_color(): points(line)[0][:2] for line in axes.lines if line.get_linewidth() == 0.9}
    assert leading == {palette.look(row).colour: [rank, rank] for row, rank in average.items()}


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
        accuracies.by_domain(runs, tmp_path / folder / "domains")
        accuracies.against_cost(runs, tmp_path / folder / "cost")
        accuracies.ranks({"erm": 2.5, "sada": 1.0, "augmix": 2.5}, 2.0, tmp_path / folder / "ranks")
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {f"{name}.{kind}" for name in ("domains", "cost", "ranks") for kind in ("png", "pdf")}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    few = accuracies.by_domain([record("erm", seed, 50.0) for seed in range(3)], tmp_path / "few")
    height = {path: int.from_bytes(path.read_bytes()[20:24], "big") for path in (few, tmp_path / "one" / "domains.png")}
    assert max(height.values()) < 1.6 * min(height.values())  # three lines of three rows and not eleven


def test_seconds_of_different_machines_are_not_set_side_by_side() -> None:
    here, there = record("erm", 0), record("augmix", 0)
    assert "seconds" in accuracies.costs([here, there])
    moved = there.model_copy(update={"ran": there.ran.model_copy(update={"device_name": "another"})})
    assert "seconds" not in accuracies.costs([here, moved])


def test_long_and_colliding_names_make_files_of_their_own() -> None:
    long = [f"sada[{'epsilon=0.21,' * 30}lam={i}]" for i in range(2)]
    found = sensitivity_maps.slugs([*long, "a b", "a_b", "A_B", "erm"])
    assert found["erm"] == "erm"
    assert len({name.lower() for name in found.values()}) == 6
    assert max(map(len, found.values())) <= sensitivity_maps.LONGEST
    made = [record("erm", 0, dataset=name) for name in ("x y", "x_y", "X_Y", "z", "radial_z", "w" * 300)]
    stems = all_figures._stems({group: runs[0] for group, runs in by_group(made).items()})
    names = [f"sensitivity_{more}{stem}".lower() for stem in stems.values() for more in ("", "radial_")]
    assert len(set(names)) == len(names)


def test_what_cannot_be_drawn_is_said_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> Path:
        raise RuntimeError("on <purpose>")

    for module, name in (
        (accuracies, "by_domain"),
        (accuracies, "ranks"),
        (sensitivity_maps, "small_multiples"),
        (sensitivity_maps, "heat_maps"),
    ):
        monkeypatch.setattr(module, name, broken)
    monkeypatch.setattr(accuracies, "against_cost", lambda runs, path: palette.save(Figure((1, 1)), path))
    monkeypatch.setattr(sensitivity_maps, "radial_profiles", lambda runs, path: palette.save(Figure((1, 1)), path))
    store = fill(tmp_path, [record("erm", 0), record("augmix", 0)])
    old = tmp_path / "figures" / "accuracy_minidigits_same_common.pdf"
    old.parent.mkdir()
    old.touch()
    drawn = all_figures.draw(store, store.read_all())
    assert {picture.path.stem.partition("_mini")[0]: bool(picture.problem) for picture in drawn} == {
        "accuracy": True, "gains": False, "cost": False, "sensitivity": True, "sensitivity_radial": False,
    }  # fmt: skip
    assert not old.exists()
    text = page.write(store, store.read_all()).read_text()
    assert "This picture could not be drawn: RuntimeError: on &lt;purpose&gt;" in text
    assert text.count("<img") == 3
    monkeypatch.setattr(accuracies, "costs", broken)
    monkeypatch.setattr(page, "verdict", broken)
    text = page.write(store, store.read_all()).read_text()
    assert "No verdict can be given." in text


def test_what_pictures_show_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks from the best, gains with their sign, and the front by its prices."""
    monkeypatch.setattr(palette, "save", lambda figure, path: path.with_name(f"{path.name}.png"))
    rows = {"erm": (50.0, 1.0), "gud": (60.0, 3.0), "augmix": (48.0, 9.0)}
    runs = [
        priced(row, 0, (value, value), passes, 4.0).model_copy(update={"asked": record(row, 0, dataset=name).asked})
        for name in ("minidigits", "digits")
        for row, (value, passes) in rows.items()
    ]
    store = fill(tmp_path, [run.model_copy(update={"run_id": run.asked.run_id}) for run in runs])
    drawn = all_figures.draw(store, store.read_all())
    assert {picture.problem for picture in drawn} == {""}
    said = {picture.path.stem: picture.alt for picture in drawn if picture.shown}
    assert said["ranks_common_steps_cpu"] == "Average ranks: gud 1.0, erm 2.0, augmix 3.0."
    assert said["gains_minidigits_same_common"].startswith("Points over ERM: gud +10.0, augmix -2.0. ")
    assert said["cost_minidigits_same_common"].endswith(" Pareto front by passes: erm, gud.")
    assert not any(
        picture.shown for picture in drawn if picture.path.stem.startswith("sensitivity_") and not picture.alt
    )


def test_a_folder_that_takes_no_pictures_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the place of one picture: whoever asked for pictures has to know."""

    def full(figure: Figure, path: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(palette, "save", full)
    store = fill(tmp_path, [record("erm", 0)])
    with pytest.raises(OSError, match="no space left"):
        all_figures.draw(store, store.read_all())


def test_pictures_of_searched_runs_are_named_by_their_search() -> None:
    made = {"a": record("erm", 0, trial=Trial(number=1, of=4)), "b": record("erm", 0)}
    assert all_figures._stems(made) == {"a": "minidigits_same_common_best_of_4", "b": "minidigits_same_common"}


def test_figures_of_another_name_than_todays_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second length gives the files of the first another name; the old ones would go on showing what was."""
    real = palette.save

    def save(figure: Figure, path: Path) -> Path:
        """Only accuracies are drawn, which takes the time; other figures are known by their name and mark alone."""
        return real(figure if path.name.startswith("accuracy_") else Figure((0.1, 0.1)), path)

    monkeypatch.setattr(palette, "save", save)
    store = fill(tmp_path, [record("erm", seed, steps=steps) for seed in (0, 1) for steps in (8, 9)])
    folder = tmp_path / "figures"
    folder.mkdir()
    names = "accuracy_notes.txt", "learning_rates.png", "paper/cost_vs_time.pdf", "sensitivity_x/views_a.png"
    theirs = {folder / name for name in names}
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (1, 1)).save(path, format="png")
    runs = store.read_all()
    all_figures.draw(store, [run for run in runs if run.asked.recipe.steps == 8])
    first = {path for path in folder.rglob("*") if path.is_file()} - theirs
    assert folder / "sensitivity_minidigits_same_common" / "sensitivity_erm.pdf" in first
    with palette.collecting(folder):
        all_figures.draw(store, runs)
    assert all(path.exists() for path in first)  # that one writes nothing
    drawn = all_figures.draw(store, runs)
    pictures = {path for picture in drawn for path in (picture.path, picture.path.with_suffix(".pdf"))}
    assert {path for path in folder.rglob("*") if path.is_file()} == pictures | theirs
    assert not (folder / "sensitivity_minidigits_same_common").exists()


def test_an_earlier_figure_of_any_kind_is_gone_and_a_link_to_one_stays(tmp_path: Path) -> None:
    kept, folder = palette.save(Figure((0.1, 0.1)), tmp_path / "kept" / "cost_x"), tmp_path / "figures"
    for kind in ("accuracy", "cost", "gains", "learning", "ranks", "sensitivity", "sources", "views"):
        palette.save(Figure((0.1, 0.1)), folder / f"{kind}_x")
    (folder / "cost_of_another.png").symlink_to(kept)
    palette.discard_others(folder, [])
    assert [path.name for path in folder.iterdir()] == ["cost_of_another.png"]


@pytest.mark.usefixtures("without_pictures")
def test_a_table_that_cannot_be_made_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("on <purpose>\n")

    monkeypatch.setattr(comparison_tables, "differences", broken)
    monkeypatch.setattr(all_tables, "cost_rows", broken)
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
        strips = artifacts.strips(picture_sheet(rows[:n]))
        assert len(strips) == n
        assert {strip.shape[:2] for strip in strips} == {strips[0].shape[:2]}
        assert abs(strips[0].shape[1] / 8 / strips[0].shape[0] - size[1] / size[0]) < 0.05
        assert [int(strip.max()) for strip in strips] == [0, 102, 255][:n]
    made = record("augmix", 0)
    shown = learning_curves.view_sheet([made], {made.run_id: picture_sheet(rows)}, tmp_path / "views")
    assert shown.is_file()


def test_a_curve_is_the_mean_of_columns_as_the_tables_have_it() -> None:
    test = {"blur/1": 40.0, "blur/3": 50.0, "sketch": 61.0, "same": 90.0}
    curve = [{"step": 1, "val": 1.0, "test": test}]
    assert learning_curves.lines_of(curve, [*test], ["same"])["targets"] == [(45.0 + 61.0) / 2]
    assert learning_curves.lines_of(curve, [*test, "blur/5"], ["same"])["targets"] == [61.0]  # as the table's cell


def test_pictures_of_packed_and_of_other_runs_go_together(tmp_path: Path) -> None:
    rows = [torch.full((8, 3, 96, 64), value) for value in (0.0, 0.4)]
    made, large = [record("augmix", 0), record("gud", 0)], picture_sheet(rows)
    small = places.smaller(large)
    assert len(small) < len(large)
    views = {made[0].run_id: large, made[1].run_id: small}
    assert learning_curves.view_sheet(made, views, tmp_path / "views").is_file()


def test_a_picture_of_views_from_before_its_rows_were_written_down() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8 * 32, 3 * 32)).save(buffer, "PNG")
    assert len(artifacts.strips(buffer.getvalue())) == 3
