"""Every figure stays legible: no text leaves the page or lies on another one, however many rows there are and however
long their names."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmark.core.record import Record
from benchmark.report.figures import accuracies, gains, layout, learning_curves, palette, sensitivity_maps, source_means
from benchmark.report.figures.learning_curves import Curve
from benchmark.report.tidy.campaigns import campaigns
from benchmark.report.tidy.comparisons import seeds_of
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.stats import compare
from benchmark.sensitivity.map import SensitivityMap
from benchmark.training.measurements import picture_sheet
from tests.handmade import record, scored

LONG_DOMAIN, LONGER_DOMAIN = (
    "photographs_of_a_far_away_place",
    "drawings_of_a_place_that_is_farther_away_than_any_other_one_that_was_ever_photographed",
)


def names(count: int, letters: int) -> list[str]:
    """Names of that many letters: short ones, or those of variants with several settings."""
    variant = "early_stop=per_sample,recon_norm=image_max"
    heads = [f"m{i:02d}" for i in range(count)]
    return heads if letters == 3 else [f"{head}[{variant[: letters - 5]}]" for head in heads]


def run(row: str, seed: int, place: int) -> Record:
    method, _, variant = row.partition("[")
    made = record("erm", seed)
    asked = made.asked.model_copy(update={"method": method, "variant": variant.removesuffix("]")})
    made = made.model_copy(update={"run_id": f"{row}, seed {seed}", "asked": asked})
    shifted = {"shifted": 40.0 + place + seed, LONG_DOMAIN: 60.0 - 3 * seed, LONGER_DOMAIN: 50.0, "not_there": None}
    assert made.throughput is not None
    price = {"passes_per_image": 1.0 + place, "train_seconds": 150.0 * 1.21**place + seed}
    made = made.model_copy(update={"throughput": made.throughput.model_copy(update=price)})
    return scored(made, {**shifted, "same": 90.0}, in_domain=["same"])


def curve(seed: int) -> Curve:
    return [
        {"step": step, "val": 50.0 + seed, "test": {"shifted": 40.0 + step / 1000, "same": 90.0}}
        for step in (2000, 6000, 10_000)
    ]


def figures(rows: list[str]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Every kind of figure of these rows, which have one to three seeds; each draws when called."""
    runs = [run(row, seed, i) for i, row in enumerate(rows) for seed in range(1 + i % 3)]
    found = SensitivityMap(torch.eye(32), clean_error=0.123, n_images=100, radius=8.0, seed=0, clamp=True, grid=16)
    maps = {row: [found] * (1 + i % 3) for i, row in enumerate(rows)}
    views = {made.run_id: picture_sheet([torch.zeros(8, 3, 32, 32)] * 2) for made in runs}
    others = [m.model_copy(update={"asked": m.asked.model_copy(update={"source": LONG_DOMAIN})}) for m in runs]
    (campaign,) = campaigns([*runs, *others])
    yield "sources", partial(source_means.over_sources, campaign)
    yield "accuracy", partial(accuracies.by_domain, runs)
    yield "cost", partial(accuracies.against_cost, runs)
    pairs = compare(seeds_of(by_row(runs), "mean") | {"other": dict.fromkeys(range(3), 50.0)}, "other")
    yield "gains", partial(gains.gains, {"": pairs, " ".join(rows[:3]): pairs})
    yield "ranks", partial(accuracies.ranks, {row: i + 1.0 for i, row in enumerate(rows)}, 0.7 * len(rows))
    yield "learning", partial(learning_curves.learning_curves, runs, {m.run_id: curve(m.asked.seed) for m in runs})
    yield "views", partial(learning_curves.view_sheet, runs, views)
    yield "sensitivity", partial(sensitivity_maps.small_multiples, maps)
    yield "radial", partial(sensitivity_maps.radial_profiles, maps)
    yield "bare maps", partial(sensitivity_maps.side_by_side, {row: torch.eye(31) for row in rows})
    if len(rows) == 1:  # these show the first row alone
        yield "sensitivity, one by one", partial(sensitivity_maps.heat_maps, maps)
        yield "cost, narrow", partial(accuracies.against_cost, runs * 2)
        assert runs[0].throughput is not None
        passes = runs[0].throughput.model_copy(update={"passes_per_image": 3.87011298870113})  # the mean of five: less
        yield "cost, narrow", partial(accuracies.against_cost, [runs[0].model_copy(update={"throughput": passes})] * 5)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Figure, dict[str, Bbox]]]:
    """Figures as they are saved, and the box of every text that is drawn, in pixels; nothing is written."""
    found: list[tuple[Figure, dict[str, Bbox]]] = []
    drawn: list[Text] = []
    draw = Text.draw

    def noted(text: Text, renderer: RendererBase) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, renderer)

    def save(figure: Figure, path: Path) -> Path:
        drawn.clear()
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        found.append((figure, {f"{i}: {t.get_text()}": t.get_window_extent() for i, t in enumerate(drawn)}))
        return path

    monkeypatch.setattr(Text, "draw", noted)
    monkeypatch.setattr(palette, "save", save)
    return found


@pytest.mark.parametrize(("count", "letters"), [(1, 3), (16, 3), (1, 40), (2, 40), (7, 40), (16, 40)])
def test_no_text_leaves_the_page_or_lies_on_another(
    count: int, letters: int, printed: list[tuple[Figure, dict[str, Bbox]]]
) -> None:
    rows = names(count, letters)
    assert {len(row) for row in rows} == {letters}
    for kind, draw in figures(rows):
        draw(Path())
        ((figure, texts),) = printed
        printed.clear()
        page = figure.bbox.padded(0.5)
        outside = {text for text, box in texts.items() if not (page.contains(*box.min) and page.contains(*box.max))}
        over = [(a, b) for (a, one), (b, two) in combinations(texts.items(), 2) if one.padded(-1).overlaps(two)]
        assert not outside, kind
        assert not over, kind
        whole = [text.partition(": ")[2].replace("\n", "") for text in texts]
        assert [row for row in rows if not any(row in text for text in whole)] == [], kind
        assert figure.get_figwidth() == palette.WIDTH, kind


def test_a_name_breaks_at_its_settings_and_only_then_inside_a_word() -> None:
    assert layout.wrapped("sada[weight_map=none]", 9) == "sada[weight_map=none]"
    assert layout.wrapped("sada[weight_map=none]", 1.0) == "sada[\nweight_map=none]"
    assert layout.wrapped("sada[recon_norm=image_max]", 0.95) == "sada[recon_norm=\nimage_max]"
    words = layout.wrapped("x" * 50, 1).split("\n")
    assert "".join(words) == "x" * 50
    assert max(map(layout.width, words)) <= 1
