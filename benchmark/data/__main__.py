"""python -m benchmark.data: list datasets, fetch their files, verify them, clear the cache of decoded images."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from rich import progress

from benchmark import data, flags, registry
from benchmark.core.errors import UsageError
from benchmark.data import cache
from benchmark.data.remote import fetch, verify
from benchmark.data.remote.remote_file import Remote, states
from benchmark.runs.command_line import arguments, program, quoted
from benchmark.runs.ending import explained, leave
from benchmark.runs.plan import parse_settings
from benchmark.runs.shared import blaming

Command: TypeAlias = flags.Data


@explained("what was downloaded is kept; the same command goes on from here")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 something is wrong or could not be had, 2 bad usage, 130 interrupted."""
    command = arguments(Command, argv, program("data"), description=flags.DATA)
    match command:
        case flags.List():
            return show_list(command.data_dir)
        case flags.Fetch():
            return fetch_all(command.name, _make(command.name, command.set), command.data_dir)
        case flags.Verify():
            return verify_all(command)
        case _:
            if cache.folder().exists() and not cache.folder().is_dir():
                raise UsageError(f"{cache.folder()}: the cache has to be a folder; set DG_REFEREE_CACHE to another one")
            files, size = cache.clear()
            print(f"{cache.folder()}: deleted {files} files, {_size(size)}")
            return 0


def show_list(root: Path) -> int:
    """Prints every registered dataset."""
    if root.exists() and not root.is_dir():
        raise UsageError(f"--data-dir {root}: it is a file, not a folder")
    for name in registry.names("dataset"):
        dataset = registry.make("dataset", name, {})
        print(f"{name}: {registry.summary('dataset', name)}")
        try:
            with blaming(name):
                layout = dataset.layout(root)
            sources, targets = ", ".join(layout.sources), _few(layout.domains)
            print(f"  sources {sources}; targets {targets}; {len(layout.classes)} classes")
        except (UsageError, OSError) as problem:
            print(f"  domains and classes come from its files: {problem}")
        print(f"  licence: {getattr(dataset, 'licence', 'not stated')}")
        for remote in dataset.remotes():
            there = "there" if remote.there(root) else "not there"
            note = f" (does instead of {remote.instead_of})" if remote.instead_of else ""
            size = f", {_size(remote.size)}" if remote.size else ""
            print(f"  {there:9}  {', '.join(remote.places)}{note}")
            print(f"             download {remote.path}{size}, {remote.hash or 'no published hash'}")
    print(f"files: {root}; cache of decoded images: {cache.folder()}")
    return 0


def fetch_all(name: str, dataset: data.Dataset, root: Path) -> int:
    """Fetches what is missing or wrong; returns 1 where something could not be had."""
    remotes, failed = dataset.remotes(), 0
    if not remotes:
        with blaming(name):
            raise UsageError(f"dataset '{name}' has nothing to fetch; {_by_hand(name, dataset, root)}")
    substituted = {remote.instead_of for remote in remotes if remote.there(root)}
    for remote in remotes:
        if remote.instead_of or remote.path in substituted:
            continue
        found = [state for state in states(remote, root) if state.status in ("missing", "wrong")]
        if not found:
            print(f"{remote.path}: there already")
            continue
        print(f"{remote.path}: licence: {remote.licence}; from {remote.origin}")
        try:
            came_from = _with_bar(remote, root)
        except fetch.FetchError as problem:
            print(f"error: {problem}", file=sys.stderr)
            failed += 1
            continue
        print(f"  from {came_from}")
        for state in states(remote, root):
            print(f"  {root / state.path}: {state.status}, {state.found}")
    print(f"{failed} could not be had" if failed else "everything is there")
    return 1 if failed else 0


def _by_hand(name: str, dataset: data.Dataset, root: Path) -> str:
    """What is missing of a dataset that no host offers for download, and where to put it."""
    if not dataset.needs_files:
        return "it needs no files"
    missing: dict[str, None] = {}  # a set that keeps its order
    for domain in dataset.layout(root).domains:
        for split in ("train", "val", "test"):
            try:
                dataset.reads(domain, split, root)
            except data.MissingDataError as problem:
                missing[str(problem)] = None
    said = "\n".join(("its files are yours to provide (docs/data.md):", *missing)) if missing else "its files are there"
    return f"{said}\n`{program('data')} verify {name} --data-dir {quoted(str(root))}` reads and counts them"


def verify_all(command: flags.Verify) -> int:
    """Verifies one dataset, or all that have files there; returns 1 where something is wrong."""
    root, wrong, looked = command.data_dir, 0, 0
    if command.set and not command.name:
        raise UsageError("--set: name the dataset, too")
    if not command.name and not root.is_dir():
        raise UsageError(f"--data-dir {root}: no such folder; check the path")
    for name in [command.name] if command.name else registry.names("dataset"):
        dataset = _make(name, command.set)
        if command.name or any(remote.there(root) for remote in dataset.remotes()):
            with blaming(name):
                wrong += _verify(name, dataset, root if dataset.needs_files else None)
            looked += 1
    if not looked:
        print(f"{root}: no dataset that can be fetched has files there; name one to see what it wants", file=sys.stderr)
    return 0 if looked and not wrong else 1


def _verify(name: str, dataset: data.Dataset, root: Path | None) -> int:
    """Prints what is found, as it is found; returns how many things are wrong, or 1 where nothing is there."""
    if root is not None and not root.is_dir():
        raise UsageError(f"--data-dir {root}: no such folder; check the path")
    print(name if root is None else f"{name} in {root}")
    wrong = 0
    for file in verify.files(dataset, root) if root else ():
        wrong += file.status == "wrong"
        print(f"  {file.status:8}  {'  '.join(filter(None, (file.path, file.found, file.detail)))}")
    found = []
    for part in verify.parts(dataset, root):
        found.append(part)
        wrong += part.status == "wrong" or part.cache == "disagrees"
        where = f"  {part.status:8}  {part.domain}/{part.split}"
        if part.status != "decoded":
            print(f"{where}: {part.problem}")
            continue
        size, counts = "x".join(map(str, part.shape[2:])), " ".join(map(str, part.counts))
        print(f"{where}: {part.shape[0]} images of {size}, by class {counts}")
        print(f"            digest {part.digest}" + (f"; the cache {part.cache}" if part.cache != "none" else ""))
    there = sum(part.status == "decoded" for part in found)
    for source, fingerprint in verify.fingerprints(dataset, root, found).items():
        print(f"  fingerprint with source {source}: {fingerprint}")
    missing = sum(part.status == "missing" for part in found)
    print(f"  {there} of {len(found)} parts are there and decode, {missing} missing, {wrong} faults")
    return wrong or int(not there)


def _make(name: str, settings: Sequence[str]) -> data.Dataset:
    given = parse_settings(settings)
    if set(given) - {name}:
        raise UsageError(f"--set: settings of '{name}' are written {name}.field=value")
    return registry.make("dataset", name, given.get(name, {}))


def _with_bar(remote: Remote, root: Path) -> str:
    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(*columns, progress.TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(remote.path, total=remote.size or None)
        return fetch.fetch(remote, root, lambda done, total: bar.update(task, completed=done, total=total or None))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])}, … ({len(names)})"


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count:,} bytes"


if __name__ == "__main__":
    leave(main)
