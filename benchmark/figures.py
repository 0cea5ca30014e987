"""Pictures of the results, drawn from run records by seaborn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from benchmark import sensitivity_figures
from benchmark.records import Store
from benchmark.rows import accuracy_rows, by_group, by_row
from benchmark.spec import Record

STYLE: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 9, "savefig.dpi": 200, "figure.constrained_layout.use": True}


def colours(rows: Sequence[str]) -> dict[str, str]:
    """One colour for each row name, safe for colour-blind readers and the same in every figure; ERM is black."""
    palette = sns.color_palette("colorblind").as_hex()
    others = sorted(set(rows) - {"erm"})
    return {"erm": "#000000"} | {row: palette[i % len(palette)] for i, row in enumerate(others)}


def draw(store: Store, records: Sequence[Record]) -> list[Path]:
    """Draws all figures into OUT/figures, PNG and PDF: for each group of comparable runs the accuracy in each domain,
    the sensitivity maps together and one by one, and their radial profiles. Returns the PNG paths."""
    folder, maps = store.out / "figures", store.maps(records)
    groups = by_group(records)
    plain = {group: _stem(runs[0]) for group, runs in groups.items()}
    drawn = []
    for group, runs in groups.items():
        unique = list(plain.values()).count(plain[group]) == 1
        stem = plain[group] if unique else f"{plain[group]}_{group}"
        if any(r.accuracy for r in runs):
            drawn.append(accuracy_figure(runs, stem.replace("_", ", "), folder / f"accuracy_{stem}"))
        mapped = {row: [maps[r.run_id] for r in members if r.run_id in maps] for row, members in by_row(runs).items()}
        mapped = {row: found for row, found in mapped.items() if found}
        if mapped:
            drawn.append(sensitivity_figures.small_multiples(mapped, folder / f"sensitivity_{stem}.png"))
            drawn.append(sensitivity_figures.radial_profiles(mapped, folder / f"sensitivity_radial_{stem}.png"))
            drawn += sensitivity_figures.heat_maps(mapped, folder / f"sensitivity_{stem}")
    return drawn


def _stem(record: Record) -> str:
    return f"{record.asked.dataset}_{record.asked.source}_{record.asked.protocol}"


def interval(values: Any) -> tuple[float, float]:
    """95 % interval of the mean by Student's t, as seaborn asks for it."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values) - half), float(np.mean(values) + half)


def accuracy_figure(records: Sequence[Record], title: str, path: Path) -> Path:
    """Accuracy in each domain: every seed a point, their mean a bar, with a 95 % interval from three seeds up."""
    frame = accuracy_rows([r for r in records if r.accuracy])
    frame = frame[frame["headline"].eq(True)]
    frame["row"] = [m if not v else f"{m}[{v}]" for m, v in zip(frame["method"], frame["variant"], strict=True)]
    rows = sorted(frame["row"].unique(), key=lambda row: (row != "erm", row))
    targets = list(dict.fromkeys(frame.sort_values("in_domain", kind="stable")["target"]))
    shade = colours(rows)
    with mpl.rc_context(STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(max(3.4, 1.1 * len(targets) + 1.6), 2.9))
        axes = figure.subplots()
        common: dict[str, Any] = {
            "data": frame,
            "x": "target",
            "y": "accuracy",
            "hue": "row",
            "hue_order": rows,
            "order": targets,
            "palette": shade,
            "ax": axes,
            "legend": False,
        }
        sns.pointplot(
            **common,
            errorbar=interval if frame["seed"].nunique() >= 3 else None,
            dodge=0.8 - 0.8 / len(rows) if len(rows) > 1 else False,  # type: ignore[arg-type]
            linestyle="none",
            marker="_",
            markersize=9,
            err_kws={"linewidth": 1},
        )
        sns.stripplot(**common, dodge=True, size=2.5, alpha=0.6, jitter=False)
        in_domain = set(frame[frame["in_domain"]]["target"])
        axes.set_xticks(range(len(targets)), [f"{t}\n(in-domain)" if t in in_domain else t for t in targets])
        axes.set(title=title, xlabel="", ylabel="accuracy (%)")
        handles = [
            mpl.lines.Line2D([], [], color=shade[row], marker="o", linestyle="none", markersize=4, label=row)
            for row in rows
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    return path.with_suffix(".png")
