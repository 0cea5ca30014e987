"""All pictures of the results, drawn from run records into OUT/figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import accuracy_figures, sensitivity_figures, training_figures
from benchmark.comparisons import length, rankings
from benchmark.records import Store
from benchmark.rows import by_group, by_row
from benchmark.spec import Record
from benchmark.targets import measures


@dataclass(frozen=True)
class Picture:
    """A PNG (a PDF of the same name lies beside it), the group of runs it shows, and what it shows, in words.

    alt: for those who cannot see it. caption: for all. A picture that stands for another in a paper only is not `shown`
    on the page.
    """

    path: Path
    group: str
    """Empty where it shows several groups."""
    alt: str
    caption: str
    shown: bool = True


def draw(store: Store, records: Sequence[Record]) -> list[Picture]:
    """Draws every group of comparable runs, PNG and PDF: accuracy in each domain and against its price, ranks, learning
    curves, views, and the sensitivity maps together, one by one, and as radial profiles."""
    groups = by_group(records)
    stems = _stems({group: runs[0] for group, runs in groups.items()})
    drawn = [picture for group, runs in groups.items() for picture in _draw(store, group, runs, stems[group])]
    return drawn + _ranks(store, records)


def _ranks(store: Store, records: Sequence[Record]) -> list[Picture]:
    """One picture for each protocol, budget and device, over all groups that share them."""
    drawn = []
    for shared, (found, _, _) in rankings(records).items():
        order = sorted(found.mean, key=lambda row: found.mean[row])
        path = store.out / "figures" / sensitivity_figures.slug(f"ranks_{'_'.join(shared)}")
        drawn.append(
            Picture(
                accuracy_figures.ranks(found.mean, found.critical_difference, path),
                "",
                "Average ranks: " + ", ".join(f"{row} {found.mean[row]:.1f}" for row in order) + ".",
                f"Average rank over {found.blocks} domains ({', '.join(shared)}), 1 the best. A "
                "bar joins rows that Nemenyi's test at 5 % does not tell apart; it takes the domains for independent.",
            )
        )
    return drawn


def _place(record: Record) -> str:
    return f"{record.asked.dataset}_{record.asked.source}_{record.asked.protocol}"


def _stems(groups: Mapping[str, Record]) -> dict[str, str]:
    """The file name of each group, from any one record of it: dataset, source and protocol; what shares those has its
    length in it, and what shares that its group."""
    found = {group: _place(record) for group, record in groups.items()}
    for more in ({group: length(record) for group, record in groups.items()}, {group: group for group in groups}):
        shared = Counter(found.values())
        found = {group: f"{stem}_{more[group]}" if shared[stem] > 1 else stem for group, stem in found.items()}
    return {group: sensitivity_figures.slug(stem) for group, stem in found.items()}


def _draw(store: Store, group: str, runs: Sequence[Record], stem: str) -> list[Picture]:
    folder, drawn = store.out / "figures", []

    def add(path: Path, alt: str, caption: str, shown: bool = True) -> None:
        drawn.append(Picture(path, group, alt, caption, shown))

    rows = by_row([run for run in runs if run.accuracy])
    names = ", ".join(rows)
    if any(measures(run) for members in rows.values() for run in members):
        add(
            accuracy_figures.by_domain(runs, folder / f"accuracy_{stem}"),
            f"Accuracy in each domain of {names}. The accuracy table holds the same numbers.",
            "Accuracy in each domain. Ticks: seeds; markers: their mean; lines: 95 % intervals of the mean, drawn from "
            " three seeds up.",
        )
    cost = accuracy_figures.costs(runs)
    if not cost.empty:
        means = cost.groupby("row", sort=False).mean(numeric_only=True)
        best = accuracy_figures.front({str(row): (mean["passes"], mean["accuracy"]) for row, mean in means.iterrows()})
        add(
            accuracy_figures.against_cost(runs, folder / f"cost_{stem}"),
            f"Mean accuracy over the shifted domains against cost. Pareto front by passes: {', '.join(best)}.",
            "What an accuracy costs: mean over the shifted domains, with its 95 % interval, against forward-backward "
            "passes per source image and, where all runs were made on one machine, seconds of training. Grey: the "
            "Pareto front, the rows that no other beats in both.",
        )
    curves = store.curves(runs)
    if any(curves[run.run_id] for members in rows.values() for run in members):
        add(
            training_figures.learning_curves(runs, curves, folder / f"learning_{stem}"),
            f"Learning curves of {names}.",
            "Accuracy during training: solid, the mean of the shifted domains; dashed, the source validation part. "
            "Thin: seeds; thick: their mean; grey: the means of ERM.",
        )
    views = store.views(runs)
    if views:
        add(
            training_figures.view_sheet(runs, views, folder / f"views_{stem}"),
            f"Eight source images, and below them what each of {names} makes of them where it makes images.",
            "The same eight source images, and one augmented view of each at the end of the training. Rows without one "
            "train on the source images alone.",
        )
    maps = store.maps(runs)
    mapped = {row: [maps[run.run_id] for run in members if run.run_id in maps] for row, members in by_row(runs).items()}
    mapped = {row: found for row, found in mapped.items() if found}
    if mapped:
        names = ", ".join(mapped)
        add(
            sensitivity_figures.small_multiples(mapped, folder / f"sensitivity_{stem}"),
            f"Sensitivity maps of {names}. The sensitivity table holds their summaries.",
            "Error under single Fourier waves, the lowest frequency in the middle. Darker is more robust.",
        )
        add(
            sensitivity_figures.radial_profiles(mapped, folder / f"sensitivity_radial_{stem}"),
            f"Error against the radius of the frequency for {names}.",
            "The same maps as profiles: error against the radius of the frequency.",
        )
        for path in sensitivity_figures.heat_maps(mapped, folder / f"sensitivity_{stem}"):
            add(path, "", "", shown=False)
    return drawn
