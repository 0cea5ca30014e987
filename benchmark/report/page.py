"""OUT/index.html: everything in one file that a browser shows offline.

It depends on what lies below OUT (runs, trials, pictures, note.txt) and on results/paper.json alone. jinja escapes
every text. A content security policy lets the page load nothing and run no script but its own. Its links lead to the
files beside it: figures, tables and records.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.core.escaping import plain
from benchmark.core.record import Record
from benchmark.core.regular_files import content
from benchmark.report import facts
from benchmark.report.figures import all_figures, palette
from benchmark.report.figures.all_figures import Picture
from benchmark.report.figures.learning_curves import Curve
from benchmark.report.people.cells import Summary
from benchmark.report.people.summaries import DETAILS, or_why, summarise
from benchmark.report.people.verdict import Verdict, over_sources, verdict
from benchmark.report.table_texts import NOTES
from benchmark.report.tidy.campaigns import Campaign, campaigns
from benchmark.report.tidy.comparisons import best_of, hardware, length
from benchmark.report.tidy.groups import by_group, by_row, distinct, group_of, told_apart
from benchmark.report.tidy.rows import Maps
from benchmark.runs.store import Store, write_whole

TEMPLATES = Path(__file__).parent / "templates"
NOTE, NOTE_LIMIT = "note.txt", 64 * 1024
ORDER = (
    "accuracy", "differences", "calibration", "throughput", "cost", "sensitivity", "paper", "ranks", "search",
    "sources",
)  # fmt: skip

Shown = tuple[Picture, str]
"""A picture with its PNG as a data URI; the URI is empty where there is no picture."""


@dataclass(frozen=True)
class Section:
    """What the page shows of one group of comparable runs, or of a campaign, whose runs stand with its sources."""

    key: str
    title: str
    verdict: Verdict
    name: str
    """Of its main table."""
    main: list[Summary]
    chart: list[Shown]
    """Of a group: accuracy against cost; empty where no run was timed."""
    tables: list[tuple[str, Summary]]
    """The further tables by name."""
    pictures: list[Shown]
    """The further pictures."""
    runs: list[Record]
    about: str = ""
    """Of a campaign: what its mean is over, for those who do not know."""
    origin: str = ""
    """What its runs have beside the row's name: the source, where others have runs of the same row and seed."""


def write(store: Store, records: Sequence[Record]) -> Path:
    """Draws the figures and writes OUT/index.html; returns its path."""
    pictures = all_figures.draw(store, records)
    path = store.out / "index.html"
    links = {record.run_id: f"runs/{store.place(record.run_id).link}" for record in records}
    note = _note(store.out / NOTE)
    text = render(records, store.maps(records), store.curves(records), pictures, store.trials(), links, note)
    write_whole(path, text.encode())
    return path


def render(
    records: Sequence[Record],
    maps: Maps,
    curves: Mapping[str, Curve],
    pictures: Sequence[Picture],
    trials: Sequence[Record] = (),
    links: Mapping[str, str] = {},
    note: str = "",
) -> str:
    """The page as text. maps, curves: by run id. trials: those of searches, which lie in a store of their own. links:
    from the page to the files of runs, by run id; where there is none, to a record in its folder. note: what stands
    first on the page, its paragraphs parted by an empty line."""
    records = told_apart(records)
    tables = summarise(records, maps, trials)
    tried = tables.get("search", [])  # their runs are not on the page
    tables["search"] = [replace(table, lines=[replace(line, runs=()) for line in table.lines]) for table in tried]
    groups = by_group(sorted(records, key=lambda r: (r.asked.dataset, r.asked.protocol, r.asked.source, group_of(r))))
    over = {campaign.key: campaign for campaign in campaigns(records)}
    weights = {key: _weight_over(campaign) for key, campaign in over.items()}
    weights |= {key: weight(members) for key, members in groups.items()}
    order = sorted(weights, key=lambda key: weights[key], reverse=True)  # equal ones stay as they are
    parts = {group_of(run) for campaign in over.values() for runs in campaign.rows.values() for run in runs}
    environments = facts.environments(records)
    sections = [
        _section_over(over[key], tables, pictures)
        if key in over
        else _section(key, groups[key], tables, pictures, of_several=key in parts)
        for key in order
    ]
    first = {key: next(iter(over[key].rows.values()))[0] if key in over else groups[key][0] for key in order}
    titles = distinct({s.key: s.title for s in sections if s.key in over}, first)
    titles |= distinct({s.key: s.title for s in sections if s.key in groups}, first, ("source",))
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["coded"] = facts.coded
    return jinja.get_template("page.html").render(
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        citation=(TEMPLATES / "citation.bib").read_text(encoding="utf-8"),
        note=[" ".join(part.split()) for part in re.split(r"\n\s*\n", note) if part.strip()],
        sections=[replace(section, title=titles[section.key]) for section in sections],
        common=[(name, table) for name in ORDER for table in tables[name] if table.group not in weights],
        pictures=[_inlined(picture) for picture in pictures if picture.group not in weights],
        runs=len(records),
        ended=max((record.ran.ended for record in records), default=""),
        bad=sum(record.status != "done" for record in records),
        notes=NOTES,
        details=DETAILS,
        links={**{record.run_id: f"runs/{record.run_id}/record.json" for record in records}, **links},
        sparks={record.run_id: facts.spark(curves[record.run_id], record) for record in records},
        environments=environments,
        environment={run_id: i for i, (_, runs) in enumerate(environments, start=1) for run_id in runs},
        codes=facts.counted(f"{record.asked.method}: {record.ran.code}" for record in records),
        data=facts.counted(f"{r.asked.dataset}, source {r.asked.source}: {r.asked.fingerprint}" for r in records),
        look=palette.look,
    )


def _note(path: Path) -> str:
    """What the owner of the runs says of them; empty without such a file. Where it cannot be read, why."""
    try:
        return content(path, NOTE_LIMIT).decode(errors="replace")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as problem:
        return f"{NOTE} cannot be read: {problem}"


def weight(members: Sequence[Record]) -> tuple[bool, float]:
    """What stands behind a comparison, for its place on the page: whether two rows at least have reached an accuracy,
    then how many single images were passed forward and backward in all of its runs: steps done x batch size x passes
    per source image. A run whose passes were not measured counts one pass per image."""
    passes = (r.throughput.passes_per_image if r.throughput else 1.0 for r in members)
    trained = sum(r.steps * r.asked.recipe.batch_size * n for r, n in zip(members, passes, strict=True))
    return len({record.asked.row for record in members if record.accuracy}) > 1, trained


def _weight_over(campaign: Campaign) -> tuple[bool, float]:
    """That of all of a campaign's runs; only rows that have reached an accuracy from every source are compared."""
    made = [{row for row, runs in rows.items() if any(r.accuracy for r in runs)} for rows in campaign.sources.values()]
    trained = weight([run for runs in campaign.rows.values() for run in runs])[1]
    return len(set.intersection(*made)) > 1, trained


def _section_over(campaign: Campaign, tables: Mapping[str, Sequence[Summary]], pictures: Sequence[Picture]) -> Section:
    run = next(iter(campaign.rows.values()))[0]
    asked, what, names = run.asked, length(run.asked) + best_of(run) + hardware(run), [*campaign.sources]
    domains = "one domain" if campaign.pooled == 1 else f"{campaign.pooled} domains at once"
    return Section(
        campaign.key,
        f"{asked.dataset}: over its {campaign.place}, protocol {asked.protocol}, {what}",
        or_why(lambda: over_sources(campaign), _no_verdict),
        "sources",
        [table for table in tables["sources"] if table.group == campaign.key],
        [_inlined(picture) for picture in pictures if picture.group == campaign.key],
        [],
        [],
        [],
        about=f"Each method is trained on {domains} and tested in the others, from each of {', '.join(names[:-1])} and "
        f"{names[-1]} in turn; its mean is over all of these pairs of a source and a target, every source counting the "
        "same.",
    )


def _section(
    key: str,
    members: Sequence[Record],
    tables: Mapping[str, Sequence[Summary]],
    pictures: Sequence[Picture],
    *,
    of_several: bool,
) -> Section:
    run = members[0]
    asked, what = run.asked, length(run.asked) + best_of(run) + hardware(run)
    mine = [picture for picture in pictures if picture.group == key and picture.shown]
    charts = [picture for picture in mine if picture.path.name.startswith("cost_")]
    return Section(
        key,
        f"{asked.dataset}: trained on {asked.source}, protocol {asked.protocol}, {what}",
        or_why(lambda: verdict(members), _no_verdict),
        "accuracy",
        [table for table in tables["accuracy"] if table.group == key],
        [_inlined(picture) for picture in charts],
        [(name, table) for name in ORDER[1:] for table in tables[name] if table.group == key],
        [_inlined(picture) for picture in mine if picture not in charts],
        [run for runs in by_row(members).values() for run in runs],
        origin=f" from {asked.source}" if of_several else "",
    )


def _no_verdict(why: str) -> Verdict:
    return Verdict("No verdict can be given.", [why])


def _inlined(picture: Picture) -> Shown:
    if picture.problem:
        return picture, ""
    return picture, "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode()
