"""All pictures of the results, drawn from run records into OUT/figures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.report.figures import accuracies, gains, learning_curves, palette, sensitivity_maps, source_means
from benchmark.report.figures.sensitivity_maps import slug
from benchmark.report.people.summaries import why_not
from benchmark.report.tidy.campaigns import Campaign, campaigns
from benchmark.report.tidy.comparisons import length, rankings, seeds_of
from benchmark.report.tidy.groups import by_group, by_row, group_of, told_apart
from benchmark.report.tidy.stats import Seeds
from benchmark.report.tidy.targets import measures
from benchmark.runs.store import Store


@dataclass(frozen=True)
class Picture:
    """A PNG (a PDF of the same name lies beside it), the group of runs it shows, and what it shows, in words.

    alt: for those who cannot see it. caption: for all. A picture that stands for another in a paper only is not `shown`
    on the page.
    """

    path: Path
    group: str
    """Or the campaign (tidy.campaigns); empty where it shows several others."""
    alt: str
    caption: str
    shown: bool = True
    problem: str = ""
    """Why there is no picture."""


class _Drawn:
    """Pictures as they come: each is drawn at once, and where that fails the reason takes its place."""

    def __init__(self, folder: Path, group: str = ""):
        self.folder, self.group = folder, group
        self.pictures: list[Picture] = []

    def add(self, name: str, draw: Callable[[Path], Path], alt: str, caption: str) -> None:
        """draw: takes the path without its ending and returns that of the PNG."""
        path = self.folder / f"{name}.png"
        try:
            self.pictures.append(Picture(draw(self.folder / name), self.group, alt, caption))
        except OSError:  # nothing can be written there: whoever asked for pictures has to know
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the page can do without a picture
            palette.discard(self.folder / name)
            self.pictures.append(Picture(path, self.group, alt, caption, problem=why_not(problem)))


def draw(store: Store, records: Sequence[Record]) -> list[Picture]:
    """Draws every group of comparable runs, PNG and PDF: accuracy in each domain, gains over ERM, accuracy against its
    price, ranks, learning curves, views, and the sensitivity maps together, one by one, and as radial profiles; and of
    every campaign the means over its sources. What cannot be drawn has a `problem` and no file. No figure of another
    name is left there."""
    records = told_apart(records)
    groups = by_group(records)
    stems = _stems({group: runs[0] for group, runs in groups.items()})
    drawn = [_drawn(partial(_draw, store, runs, stems[group]), group) for group, runs in groups.items()]
    over = _drawn(partial(_over_sources, store, records), "")
    pictures = [picture for some in (*drawn, over, _drawn(partial(_ranks, store, records), "")) for picture in some]
    palette.discard_others(store.out / "figures", [picture.path for picture in pictures])
    return pictures


def _drawn(draw: Callable[[], list[Picture]], group: str) -> list[Picture]:
    """Pictures, or, where not even what they show can be told, one that says why. Raises UsageError, OSError."""
    try:
        return draw()
    except (UsageError, OSError):
        raise
    except Exception as problem:  # noqa: BLE001 - as above
        return [Picture(Path(), group, "", "", problem=why_not(problem))]


def _ranks(store: Store, records: Sequence[Record]) -> list[Picture]:
    """One picture for each protocol, budget and device, over all groups that share them."""
    drawn = _Drawn(store.out / "figures")
    for shared, (found, _, _) in rankings(records).items():
        order = sorted(found.mean, key=lambda row: found.mean[row])
        drawn.add(
            slug(f"ranks_{'_'.join(shared)}"),
            partial(accuracies.ranks, found.mean, found.critical_difference),
            "Average ranks: " + ", ".join(f"{row} {found.mean[row]:.1f}" for row in order) + ".",
            f"Average rank over {found.blocks} comparisons ({', '.join(shared)}), 1 the best. Thin lines lead from "
            "ranks to names. A thick bar joins rows that Nemenyi's test at 5 % does not tell apart: their ranks differ "
            "by less than the critical difference, the bar on top. The test takes the comparisons for independent.",
        )
    return drawn.pictures


def _over_sources(store: Store, records: Sequence[Record]) -> list[Picture]:
    """One picture for each campaign that has a number to show."""
    found = {c.key: c for c in campaigns(records) if any(c.reached(row, s) for row in c.rows for s in c.sources)}
    stems = _stems({key: next(iter(c.rows.values()))[0] for key, c in found.items()}, over_sources=True)
    return [picture for key, campaign in found.items() for picture in _over(store, campaign, f"sources_{stems[key]}")]


def _over(store: Store, campaign: Campaign, name: str) -> list[Picture]:
    drawn = _Drawn(store.out / "figures", campaign.key)
    told = ", ".join(f"{row} {campaign.means[row]:.1f}" for row in campaign.ordered if row in campaign.means)
    drawn.add(
        name,
        partial(source_means.over_sources, campaign),
        f"Accuracy from each source and over all {len(campaign.sources)}. Means over all: {told or 'none yet'}.",
        "Accuracy from each source: the mean over the other domains. Small markers: one source each, the mean over "
        "seeds. Large markers: the mean over all sources, of the seeds that have them all. Solid lines: its 95 % "
        "interval, from three seeds up. Dotted lines: the range of two seeds, which is no interval.",
    )
    _add_gains(drawn, campaign.over("mean"), f"gains_{name}")
    return drawn.pictures


def _add_gains(drawn: _Drawn, rows: Mapping[str, Seeds], name: str) -> None:
    """What each row's mean gains over ERM's, where a row has a seed in common with it."""
    if pairs := gains.over_erm(rows):
        told = ", ".join(f"{pair.row} {pair.difference.mean:+.1f}" for pair in pairs)
        drawn.add(
            name,
            partial(gains.gains, {"": pairs}),
            f"Points over ERM: {told}. The tables hold the same numbers.",
            "What each row gains over ERM, the mean of the differences within a seed. Lines: the 95 % interval for all "
            "rows at once, from three seeds up. Thick lines: significant by Holm's test on five seeds or more. An "
            "arrow: the interval goes on beyond the axis.",
        )


def _place(record: Record, *, over_sources: bool) -> str:
    trial = record.asked.trial
    searched = f"_best_of_{trial.of}" if trial is not None and trial.of else ""
    source = "" if over_sources else f"_{record.asked.source}"
    return f"{record.asked.dataset}{source}_{record.asked.protocol}{searched}"


def _stems(groups: Mapping[str, Record], *, over_sources: bool = False) -> dict[str, str]:
    """The file name of each group, from any one record of it: dataset, source and protocol; what shares those has its
    length in it, and what shares that its group. over_sources: groups are campaigns, and the source is left out."""
    found = {group: _place(record, over_sources=over_sources) for group, record in groups.items()}
    for more in ({group: length(record.asked) for group, record in groups.items()}, {group: group for group in groups}):
        shared = Counter(slug(stem).lower() for stem in found.values())
        found = {g: f"{stem}_{more[g]}" if shared[slug(stem).lower()] > 1 else stem for g, stem in found.items()}
    taken = {slug(stem).lower() for stem in found.values()}
    clash = {group for group, stem in found.items() if f"radial_{slug(stem)}".lower() in taken}
    return {group: slug(f"{stem}_{group}" if group in clash else stem) for group, stem in found.items()}


def _draw(store: Store, runs: Sequence[Record], stem: str) -> list[Picture]:
    drawn = _Drawn(store.out / "figures", group_of(runs[0]))
    rows = by_row([run for run in runs if run.accuracy])
    names = ", ".join(rows)
    if any(measures(run) for members in rows.values() for run in members):
        drawn.add(
            f"accuracy_{stem}",
            partial(accuracies.by_domain, runs),
            f"Accuracy in each domain of {names}. The accuracy table holds the same numbers.",
            "Accuracy in each domain. Ticks: seeds. Markers: their mean. Solid lines: the 95 % interval of the mean, "
            "from three seeds up. Dotted lines: the range of two seeds, which is no interval.",
        )
    _add_gains(drawn, seeds_of(rows, "mean"), f"gains_{stem}")
    cost = accuracies.costs(runs)
    if not cost.empty:
        means = cost.groupby("row", sort=False).mean(numeric_only=True)
        best = accuracies.front({str(row): (mean["passes"], mean["accuracy"]) for row, mean in means.iterrows()})
        drawn.add(
            f"cost_{stem}",
            partial(accuracies.against_cost, runs),
            f"Mean accuracy over the shifted domains against cost. Pareto front by passes: {', '.join(best)}.",
            "What an accuracy costs: mean over the shifted domains against forward-backward passes per source image "
            "and, where all runs were made on one machine and none shared a GPU, seconds of set-up and training. Small "
            "faint markers: seeds. Large markers: their mean. Solid lines: the 95 % interval of the mean, from three "
            "seeds up. Dotted lines: the range of two seeds. Grey line: the Pareto front, the rows that no other beats "
            "in both.",
        )
    curves = store.curves(runs)
    if any(learning_curves.has_line(curves[run.run_id]) for members in rows.values() for run in members):
        drawn.add(
            f"learning_{stem}",
            partial(learning_curves.learning_curves, runs, curves),
            f"Learning curves of {names}.",
            "Accuracy during training. Solid lines: the mean of the shifted domains. Dashed lines: the source "
            "validation part. Thin: seeds; thick: their mean; grey: the means of ERM.",
        )
    views = store.views(runs)
    if views:
        drawn.add(
            f"views_{stem}",
            partial(learning_curves.view_sheet, runs, views),
            f"Eight source images, and below them what each of {names} makes of them where it makes images.",
            "The same eight source images, and one augmented view of each at the end of the training. Rows without one "
            "train on the source images alone.",
        )
    maps = store.maps(runs)
    mapped = {row: [maps[run.run_id] for run in members if run.run_id in maps] for row, members in by_row(runs).items()}
    mapped = {row: found for row, found in mapped.items() if found}
    if mapped:
        _draw_maps(drawn, mapped, stem)
    return drawn.pictures


def _draw_maps(drawn: _Drawn, mapped: sensitivity_maps.Rows, stem: str) -> None:
    names = ", ".join(mapped)
    drawn.add(
        f"sensitivity_{stem}",
        partial(sensitivity_maps.small_multiples, mapped),
        f"Sensitivity maps of {names}. The sensitivity table holds their summaries.",
        "Error under single Fourier waves, the mean over seeds, the lowest frequency in the middle. Darker is more "
        "robust. Above each map: the error without a wave.",
    )
    drawn.add(
        f"sensitivity_radial_{stem}",
        partial(sensitivity_maps.radial_profiles, mapped),
        f"Error against the radius of the frequency for {names}.",
        "The same maps as profiles: error against the radius of the frequency. Lines and markers: the mean over seeds. "
        "Bands: one standard deviation over seeds, none for one seed.",
    )
    with suppress(Exception):  # said above: the same maps stand in the picture of all of them
        for path in sensitivity_maps.heat_maps(mapped, drawn.folder / f"sensitivity_{stem}"):
            drawn.pictures.append(Picture(path, drawn.group, "", "", shown=False))
