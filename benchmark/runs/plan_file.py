"""Plan files: what a comparison runs, as TOML that can be committed, cited and repeated (docs/plans.md).

Keys are the fields of Args that can change a number. Where runs compute and where files lie are flags beside the file.
Paths in a file are relative to its folder.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmark.core.durable import write_atomically
from benchmark.core.errors import UsageError, describe
from benchmark.core.escaping import one_line
from benchmark.core.regular_files import content
from benchmark.runs.args import Args
from benchmark.runs.command_line import MOST_SEED
from benchmark.runs.job import Job
from benchmark.runs.keywords import checked
from benchmark.runs.plan import expand_all
from benchmark.runs.repeat import LEFT_OUT

BESIDE = (*(LEFT_OUT.keys() - {"search"}), "device", "data_dir", "nproc", "launch")
"""Fields that say where or how runs execute, or what is shown of them: flags, and no keys of a file."""
RUN_IDS = "run_ids"
"""Key of the runs that a file was written for; they may not become others unnoticed."""
LIMIT = 2**20
"""Bytes of a plan file."""
HEAD = """\
# A comparison for dg-referee (docs/plans.md):
#     python -m benchmark.run --plan {name}
# run_ids, if any, are the runs that this file was written for. A run that has become another one is an error.
"""


def read(path: Path) -> dict[str, Any]:
    """The fields of Args that a file gives. Raises UsageError that names the file and the key."""
    found = _parsed(path)
    found.pop(RUN_IDS, None)
    refused = {
        name: f"not part of a plan; give --{name.replace('_', '-')} beside the file"
        for name in BESIDE
    }  # fmt: skip
    values = checked(found, refused, str(path))
    if "plugin" in values:
        values["plugin"] = tuple(path.parent / each for each in values["plugin"])
    if str(values.get("weights", "")).endswith(".safetensors"):
        values["weights"] = str(path.parent / values["weights"])
    return values


def beside(args: Args, said: Mapping[str, Any]) -> Args:
    """The fields of a plan file with what was given beside it: another budget than the file's takes no seconds."""
    mine = args.budget != "time" and said.get("budget") == "time" and args.seconds == said.get("seconds")
    return replace(args, seconds=None) if mine else args


def _parsed(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(content(path, LIMIT).decode("utf-8-sig"))
    except OSError as problem:
        raise UsageError(f"--plan {path}: {problem.strerror or problem}") from problem
    except ValueError as problem:
        raise UsageError(f"{path}: not TOML: {problem}") from problem
    except RecursionError as problem:
        raise UsageError(f"{path}: no plan: its values lie too deep in each other") from problem
    ids = found.get(RUN_IDS, [])
    if not isinstance(ids, list) or not all(
        isinstance(each, str) and re.fullmatch("[0-9a-f]{12}", each) for each in ids
    ):
        raise UsageError(f"{path}: {RUN_IDS}: it has to be a list of run ids, twelve digits 0-9 a-f each")
    return found


def changed(args: Args) -> dict[str, tuple[Any, Any]]:
    """What was given beside the plan file and wins over it: by field, what it is now and what the file says."""
    if args.plan is None:
        return {}
    said, usual = read(args.plan), Args()
    pairs = {f.name: (getattr(args, f.name), said.get(f.name, getattr(usual, f.name))) for f in fields(Args)}
    if args.seconds is None:
        del pairs["seconds"]  # what another budget takes away, nobody gave
    return {name: pair for name, pair in pairs.items() if name not in BESIDE and toml(pair[0]) != toml(pair[1])}


def blamed(args: Args, problem: UsageError) -> UsageError:
    """An error of planning that names the plan file, unless it is about a flag beside the file. One that names no flag
    may be of either."""
    flag = re.match(r"--([a-z-]+)", str(problem))
    name = flag[1].replace("-", "_") if flag else ""
    beside = changed(args)
    if args.plan is None or name in BESIDE or name in beside:
        return problem
    given = ", ".join(f"--{field.replace('_', '-')}" for field in beside)
    where = f"{args.plan} with {given} beside it" if given and not flag else str(args.plan)
    return UsageError(f"{where}: {name}{str(problem)[flag.end() if flag else 0 :]}")


def require_same(args: Args, jobs: Sequence[Job]) -> None:
    """Raises UsageError where the runs of a plan file are no longer those that it was written for."""
    ids = set(_parsed(args.plan).get(RUN_IDS, [])) if args.plan else set()
    if args.plan is None or not ids or changed(args):
        return
    for device in ("cpu", "cuda"):  # where it is computed is no part of a plan
        there = {job.asked.model_copy(update={"device": device}).run_id for job in jobs}
        if there == ids:
            return
    mine = {job.asked.run_id for job in jobs}
    raise UsageError(
        f"{args.plan}: {RUN_IDS}: it was written for {len(ids)} runs, and {len(mine - ids)} of the {len(mine)} that it "
        "gives now are not among them. A default of a method, dataset or protocol has changed since, or the data, or "
        "the file itself. A test domain more or less in the data folder counts. "
        f"Take {RUN_IDS} out of the file to run what it says now"
    )


def _seen_from(folder: str, file: str) -> str:
    """The relative path of a file, which may itself be a link, from a folder without links in its path."""
    return os.path.relpath(Path(file).parent.resolve() / Path(file).name, folder)


def write(path: Path, args: Args, jobs: Sequence[Job]) -> None:
    """Writes the plan file of these runs, which `args` ask for. Raises UsageError where it cannot be written, or is
    there and says otherwise."""
    values = _resolved(args, jobs)
    folder = os.path.realpath(path.parent)  # a link's `..` is that of the folder it leads to
    if "plugin" in values:
        values["plugin"] = [_seen_from(folder, each) for each in values["plugin"]]
    if values.get("weights", "").startswith("sha256:"):
        values["weights"] = _seen_from(folder, str(args.weights))
    lines = [f"{name} = {toml(value)}" for name, value in values.items()]
    ids = "".join(f'    "{job.asked.run_id}",\n' for job in jobs)
    known = "" if args.search else f"{RUN_IDS} = [\n{ids}]\n"  # a search has yet to choose the runs
    text = f"{HEAD.format(name=one_line(path.name))}\n" + "\n".join(lines) + f"\n{known}"
    try:
        if path.exists() and content(path, LIMIT) != text.encode():
            raise UsageError(f"--save-plan {path}: it is there and says otherwise; name another file, or delete it")
        write_atomically(path, text.encode())
    except OSError as problem:
        raise UsageError(f"--save-plan {path}: cannot be written ({describe(problem)})") from problem
    except UnicodeEncodeError as problem:
        raise UsageError(f"--save-plan {path}: a path in it is not UTF-8, which TOML cannot hold") from problem
    except ValueError as problem:  # it is a pipe, a folder, or too large
        raise UsageError(f"--save-plan {path}: {problem}; name another file") from problem


def _resolved(args: Args, jobs: Sequence[Job]) -> dict[str, Any]:
    """The fields of a plan, `all` and defaults written out; what the protocol sets otherwise from run to run, and what
    is not given at all, is left out."""
    values = {field.name: getattr(args, field.name) for field in fields(Args) if field.name not in BESIDE}
    values["methods"] = expand_all(args.methods)
    by_dataset: dict[str, list[str]] = {}
    for job in jobs:
        by_dataset.setdefault(job.asked.dataset, []).append(job.asked.source)
    sources = {tuple(dict.fromkeys(found)) for found in by_dataset.values()}
    values["sources"] = sources.pop() if len(sources) == 1 else args.sources
    for name in ("steps", "network", "weights", "batch_size", "evaluations", "sensitivity_images"):
        found = {getattr(job.asked.recipe, name) for job in jobs}
        values[name] = found.pop() if len(found) == 1 else values[name]
    left = {name: value for name, value in values.items() if value is not None and value != ()}
    return left if args.search else {name: value for name, value in left.items() if name != "search"}


def toml(value: Any) -> str:
    """A value of a plan as TOML spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) > MOST_SEED:
        return hex(value)  # Python writes no thousands of digits
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's as well
