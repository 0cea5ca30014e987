"""OUT/index.html: everything in one file that a browser shows without a network.

A pure function of the run records and the pictures. Every text is escaped by jinja; a content security policy lets the
page load nothing and run no script but its own.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark import figures, palette
from benchmark.cell import Summary
from benchmark.comparisons import length
from benchmark.durable import write_atomically
from benchmark.figures import Picture
from benchmark.formats import NOTES
from benchmark.records import Store
from benchmark.rows import Maps, by_group, by_row, group_of
from benchmark.spec import Record, canonical_json
from benchmark.summary import DETAILS, summarise, why_not
from benchmark.texts import plain
from benchmark.training_figures import Curve, lines_of
from benchmark.verdict import Verdict, verdict

TEMPLATES = Path(__file__).parent / "templates"
ORDER = ("accuracy", "differences", "throughput", "cost", "sensitivity", "paper", "ranks")


@dataclass(frozen=True)
class Section:
    """What the page shows of one group of comparable runs."""

    key: str
    title: str
    heading: str
    verdict: Verdict
    tables: list[tuple[str, Summary]]
    pictures: list[tuple[Picture, str]]
    """With the PNG as a data URI."""
    runs: list[Record]


def write(store: Store, records: Sequence[Record]) -> Path:
    """Draws the figures and writes OUT/index.html; returns its path."""
    pictures = figures.draw(store, records)
    path = store.out / "index.html"
    write_atomically(path, render(records, store.maps(records), store.curves(records), pictures).encode())
    return path


def render(records: Sequence[Record], maps: Maps, curves: Mapping[str, Curve], pictures: Sequence[Picture]) -> str:
    """The page as text. maps, curves: by run id."""
    tables = summarise(records, maps)
    groups = by_group(sorted(records, key=lambda r: (r.asked.dataset, r.asked.protocol, r.asked.source, group_of(r))))
    sections = [_section(key, members, tables, pictures) for key, members in groups.items()]
    environments = _environments(records)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return jinja.get_template("page.html").render(
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        sections=sections,
        common=[(name, table) for name in ORDER for table in tables[name] if table.group not in groups],
        pictures=[_inlined(picture) for picture in pictures if picture.group not in groups],
        runs=len(records),
        ended=max((record.ran.ended for record in records), default=""),
        bad=sum(record.status != "done" for record in records),
        notes={name: note.replace("`", "").replace("\n", " ") for name, note in NOTES.items()},
        details=DETAILS,
        sparks={record.run_id: spark(curves[record.run_id], record) for record in records},
        environments=environments,
        environment={run_id: i for i, (_, runs) in enumerate(environments, start=1) for run_id in runs},
        codes=_counted(f"{record.asked.method}: {record.ran.code}" for record in records),
        data=_counted(f"{r.asked.dataset}, source {r.asked.source}: {r.asked.fingerprint}" for r in records),
        look=palette.look,
    )


def _section(
    key: str, members: Sequence[Record], tables: Mapping[str, Sequence[Summary]], pictures: Sequence[Picture]
) -> Section:
    asked = members[0].asked
    return Section(
        key,
        f"{asked.dataset}: trained on {asked.source}, protocol {asked.protocol}, {length(members[0])}",
        next(table.heading for table in tables["accuracy"] if table.group == key),
        _verdict(members),
        [(name, table) for name in ORDER for table in tables[name] if table.group == key],
        [_inlined(picture) for picture in pictures if picture.group == key and picture.shown],
        [run for runs in by_row(members).values() for run in runs],
    )


def _verdict(members: Sequence[Record]) -> Verdict:
    try:
        return verdict(members)
    except Exception as problem:  # noqa: BLE001 - the tables say what the numbers are
        return Verdict("No verdict can be given.", [why_not(problem)])


def _inlined(picture: Picture) -> tuple[Picture, str]:
    """A picture with its content; without, where there is none."""
    if picture.problem:
        return picture, ""
    return picture, "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode()


def spark(curve: Curve, record: Record) -> dict[str, str] | None:
    """A run's curve as points of an SVG polyline 200 wide and 60 high, 0 to 100 %: `targets` and `source`. None below
    two points."""
    if len(curve) < 2 or record.accuracy is None:
        return None
    lines = lines_of(curve, record.accuracy.in_domain)
    end = lines["step"][-1]
    return {
        name: " ".join(
            f"{200 * x / end:.1f},{60 - 0.6 * y:.1f}"
            for x, y in zip(lines["step"], lines[name], strict=True)
            if not math.isnan(y)
        )
        for name in ("targets", "source")
    }


def _environments(records: Sequence[Record]) -> list[tuple[dict[str, Any], list[str]]]:
    """What the runs ran on, without the load of the moment, and the ids of those that ran there."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for record in records:
        about = {name: value for name, value in record.ran.machine.items() if name not in ("load", "packages")}
        about = {"device": record.ran.device_name, "git commit": _commit(record)} | about
        about |= record.ran.machine.get("packages", {})
        found.setdefault(canonical_json(about), (about, []))[1].append(record.run_id)
    return list(found.values())


def _commit(record: Record) -> str:
    return (record.ran.git_commit or "unknown") + (" with changes" if record.ran.git_dirty else "")


def _counted(texts: Any) -> dict[str, int]:
    """How often each text occurs, by text."""
    found: dict[str, int] = {}
    for text in texts:
        found[text] = found.get(text, 0) + 1
    return dict(sorted(found.items()))
