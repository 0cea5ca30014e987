"""python -m benchmark.tables: turns run records into tables, for programs and for people.

The tables are a pure function of the runs and trials below OUT and of results/paper.json. So `--check` can rebuild them
and compare byte for byte (Parquet files by content, because their bytes change with the library's version). `--trace`
leads from a run to its cells and from a cell to its runs. `check` and `stale` return nothing where all is well.
"""

import importlib
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from benchmark import flags, registry
from benchmark.core import locks
from benchmark.core.errors import UsageError
from benchmark.core.escaping import plain
from benchmark.core.record import Record
from benchmark.core.regular_files import content as plain_content
from benchmark.report import page, table_files
from benchmark.report.all_tables import SOMETIMES, render
from benchmark.report.figures.palette import NAMES
from benchmark.report.provenance import trace
from benchmark.report.tidy import groups
from benchmark.runs.command_line import arguments, program, quoted
from benchmark.runs.ending import explained, leave
from benchmark.runs.job import code_of, outdated
from benchmark.runs.places import LIMIT
from benchmark.runs.records import TRIED, VIEWS
from benchmark.runs.store import Store, write_whole


def write_all(store: Store) -> tuple[list[Record], Path]:
    """Writes the tables, figures and page of all records below the store; returns the records and the page's path. Once
    more where another process replaced a run meanwhile. Raises UsageError where a file of a run is damaged.

    No other process may do so meanwhile."""
    records = store.read_all()
    _discard_parts(store.out)
    try:
        write(store, records)
        return records, page.write(store, records)
    except UsageError:
        if store.read_all() == records:
            raise
    return write_all(store)


def _discard_parts(out: Path) -> None:
    """Deletes what processes that were killed have left of tables, figures and pages that they were writing."""
    for paths, name in (
        (out.glob(".*"), r"index\.html"),
        ((out / "tables").glob(".*"), r"\w+\.\w+"),
        ((out / "figures").rglob(".*"), NAMES.pattern),
    ):
        for path in paths:
            if re.fullmatch(rf"\.{name}\.\d+", path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def write(store: Store, records: Sequence[Record]) -> None:
    """Renders records into OUT/tables, where nothing else of their names is left. Raises UsageError, before anything is
    written, where a file of a run is not what it should be."""
    maps, _, _ = store.maps(records), store.curves(records), store.views(records)
    folder = store.out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    files = render(records, maps, store.trials())
    for name, content in files.items():
        write_whole(folder / name, content)
    for name in _left_over(folder, files):
        (folder / name).unlink()


def _left_over(folder: Path, files: Collection[str]) -> list[str]:
    """Tables of runs that are no longer there: files of a table's name that the records give nothing for."""
    ours = re.compile(rf"({'|'.join({*SOMETIMES, *(name.partition('.')[0] for name in files)})})\.(csv|parquet|md|tex)")
    there = sorted(path.name for path in folder.iterdir() if not path.is_dir()) if folder.is_dir() else []
    return [name for name in there if ours.fullmatch(name) and name not in files]


def check(store: Store) -> list[str]:
    """Names of the files under OUT/tables that differ from what the records give, are missing, or that nothing gives,
    and of the page where it shows other runs. A folder may do without LaTeX, which is made of the same cells, but for
    all tables alike.
    Raises UsageError where a file of a run is not what it should be."""
    wrong, records = [], store.read_all()
    maps, _, _ = store.maps(records), store.curves(records), store.views(records)
    files, folder = render(records, maps, store.trials()), store.out / "tables"
    if not any(folder.glob("*.tex")):
        files = {name: content for name, content in files.items() if not name.endswith(".tex")}
    for name, content in files.items():
        same = table_files.same_parquet if name.endswith(".parquet") else bytes.__eq__
        try:
            there = plain_content(folder / name, LIMIT)
        except (OSError, ValueError):
            there = b""
        if not same(there, content):
            wrong.append(name)
    return wrong + _left_over(folder, files) + _other_runs(store, records)


def _other_runs(store: Store, records: Sequence[Record]) -> list[str]:
    """The page, where there is one and it shows other runs than are there."""
    path = store.out / "index.html"
    try:
        shown = set(
            re.findall(r'href="runs/(\w+)(?:/record\.json|\.zip)"', plain_content(path, LIMIT).decode(errors="replace"))
        )
    except (OSError, ValueError):
        return ["../index.html"] if os.path.lexists(path) else []
    return [] if shown == {record.run_id for record in records} else ["../index.html"]


def pack(store: Store, first_views: bool = False) -> int:
    """Packs all finished runs and trials, but those that somebody makes anew, and counts them. first_views: of each row
    the first seed that has a picture of views keeps it alone; no figure shows another. Raises UsageError."""
    count = 0
    for each in (store, Store(store.out / TRIED)):
        shown = _shown(each) if first_views else set(each.ids())
        for run_id in each.ids():
            with suppress(locks.BusyError):
                count += each.pack(run_id, views=run_id in shown)
    return count


def _shown(store: Store) -> set[str]:
    """The runs whose pictures of views the figures show."""
    records = [record for record in groups.told_apart(store.read_all()) if store.place(record.run_id).has(VIEWS)]
    rows = (groups.by_row(runs) for runs in groups.by_group(records).values())
    return {runs[0].run_id for found in rows for runs in found.values()}


def _path(out: Path, name: str) -> Path:
    return out / name[3:] if name.startswith("../") else out / "tables" / name


def stale(records: Sequence[Record]) -> Counter[str]:
    """How many runs other code or versions than today's made, by what differs, but for those of `unknown` parts.

    It stands in no file: a table says what the records say, whatever has been edited since."""
    code, unnamed, found = cache(code_of), cache(_unknown), Counter[str]()
    for record in records:
        parts = _parts(record)
        if not unnamed(*parts) and (why := outdated(record, code(*parts))):
            found[why] += 1
    return found


def unknown(records: Sequence[Record]) -> Counter[str]:
    """How many runs are of a method, dataset or network that is not here, by its name: what a plugin would bring."""
    unnamed = cache(_unknown)
    return Counter(name for record in records if (name := unnamed(*_parts(record))))


def _parts(record: Record) -> tuple[str, str, str]:
    return record.asked.method, record.asked.dataset, record.asked.recipe.network


def _unknown(method: str, dataset: str, network: str) -> str:
    """The first of these that is not here; empty where all are."""
    if method not in registry.names("method"):
        return f"method {method}"
    if dataset not in registry.names("dataset"):
        return f"dataset {dataset}"
    return "" if _is_known(network) else f"network {network}"


def _is_known(network: str) -> bool:
    """Whether a network is there: one of timm, or of a plugin that is loaded."""
    kind, _, name = network.partition(":")
    return kind != "timm" or bool(importlib.import_module("timm").is_model(name))


Args = flags.Tables


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 tables differ from records, 2 bad usage."""
    args: Args = arguments(Args, argv, program("tables"))
    registry.load_plugins(args.plugin)
    store = Store(args.out)
    given = [flag for flag in ("trace", "check", "pack") if getattr(args, flag) not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]}: give one of them")
    if args.first_views and not args.pack:
        raise UsageError("--first-views: it says what --pack keeps; give both")
    if not store.runs.is_dir():
        raise UsageError(
            f"--out {args.out}: no runs there; `{program('run')} --out {quoted(str(args.out))}` makes some"
        )
    if args.trace is not None:
        print(plain(trace(store, args.trace)))
        return 0
    if args.check:
        wrong = check(store)
        print(
            "\n".join(f"{_path(args.out, name)}: differs from the run records" for name in wrong)
            or "tables agree with the run records"
            + ("" if any(args.out.glob("tables/*.tex")) else "; LaTeX is left out")
        )
        return 1 if wrong else 0
    store.require_own()
    with store.in_turn(partial(print, file=sys.stderr)):
        if args.pack:
            print(f"{pack(store, args.first_views)} runs packed, trials of searches included, each into one file")
        records, shown = write_all(store)
        print(f"{len(records)} runs -> {args.out / 'tables'}, {shown}")
    if old := stale(records):
        many = old.total()
        print(f"{many} of them were made by other code or versions than today's; benchmark.run makes them again:")
        print("\n".join(f"  {count} of {many}: {why}" for why, count in old.items()))
    if strange := unknown(records):
        names = ", ".join(f"{name} ({count})" for name, count in strange.items())
        print(f"not known here, so nobody can say whether their runs are of today's code: {names}; give --plugin FILE")
    return 0


if __name__ == "__main__":
    leave(main)
