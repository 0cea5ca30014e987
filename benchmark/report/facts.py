"""What the page says of runs besides their tables: learning curves as lines, what they ran on, counts of texts."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from benchmark.core.escaping import plain
from benchmark.core.record import Record, canonical_json
from benchmark.report.figures.learning_curves import Curve, has_line, lines_of


def coded(text: str) -> Markup:
    """A text as HTML: escaped, and what stands between backticks as code."""
    parts = re.split("`([^`]+)`", plain(text))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def spark(curve: Curve, record: Record) -> dict[str, str] | None:
    """A run's curve as points of an SVG polyline 200 wide and 60 high, 0 to 100 %: `targets` and `source`. None below
    two points."""
    if not has_line(curve) or record.accuracy is None:
        return None
    lines = lines_of(curve, [*record.accuracy.domains], record.accuracy.in_domain)
    end = lines["step"][-1]
    return {
        name: " ".join(
            f"{200 * x / end:.1f},{60 - 0.6 * y:.1f}"
            for x, y in zip(lines["step"], lines[name], strict=True)
            if not math.isnan(y)
        )
        for name in ("targets", "source")
    }


def environments(records: Sequence[Record]) -> list[tuple[dict[str, Any], list[str]]]:
    """What the runs ran on, without the load of the moment, and the ids of those that ran there."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for record in records:
        about = {
            name: value
            for name, value in record.ran.machine.items()
            if name != "packages" and not name.startswith("load")
        }
        about = {"device": record.ran.device_name, "git commit": _commit(record)} | about
        about |= record.ran.machine.get("packages", {})
        found.setdefault(canonical_json(about), (about, []))[1].append(record.run_id)
    return list(found.values())


def _commit(record: Record) -> str:
    return (record.ran.git_commit or "unknown") + (" with changes" if record.ran.git_dirty else "")


def counted(texts: Iterable[str]) -> dict[str, int]:
    """How often each text occurs, by text."""
    return dict(sorted(Counter(texts).items()))
