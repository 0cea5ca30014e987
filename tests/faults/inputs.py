"""Generated bad input: command lines, settings, records, maps, image folders, plugin files."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.core.record import Asked
from tests.faults.harness import Count, Ended, call, state, words
from tests.handmade import fill, record

HEALTH = list(HealthCheck)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMBER = st.sampled_from(
    ["0", "1", "-1", "2.5", "1e400", "nan", "inf", "99999999999999999999999", "0x10", "", "1_0", "²"]
)
NAMES = [
    "erm",
    "augmix",
    "gud",
    "sada",
    "all",
    "erm:",
    "augmix:jsd=false",
    "randconv:lam=1,lam=2",
    "toyset",
    "minidigits",
]
VALUE = st.one_of(
    TEXT, NUMBER, st.sampled_from([*NAMES, "common", "strict", "time", "cpu", "../..", "/", "~", "uci+uci"])
)
FLAGS = [
    "methods", "datasets", "sources", "seeds", "steps", "budget", "seconds", "network", "protocol", "set", "data-dir",
    "device", "engine", "timeout", "jobs", "plugin", "track", "weights", "sensitivity-images", "batch-size",
    "evaluations", "checkpoint-seconds", "stale", "list", "deterministic", "save-weights", "nonsense",
]  # fmt: skip
COMMANDS = st.lists(st.tuples(st.sampled_from(FLAGS), st.lists(VALUE, max_size=3)), max_size=4)
FIELDS = st.sampled_from([
    "augmix.severity", "augmix.jsd", "augmix.alpha", "randconv.kernel_sizes", "randconv.lam", "gud.gamma", "gud.phases",
    "sada.num_steps", "sada.radius", "minidigits.x", "mada.interval", "erm.x", "toyset.y", "augmax.alpha",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["../../x", "<b>", "a/b", "'"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
METHOD = "from benchmark import method\n@method.frozen()\nclass Method(method.Method):\n    "
DATASET = "from benchmark import data\n@data.frozen()\nclass Dataset(data.Dataset):\n    "
NAMED = DATASET + "classes = ('a',)\n    domains = sources = ('d',)\n    def load(self, domain, split, root): "
SOURCES = [
    *("import nothing_there", "raise SystemExit(0)", "class Method: pass", "Method = 3", "class Dataset(int): pass"),
    *(METHOD + body for body in ("def settings(self): return 1 / 0", "a: int = 'b'", "x: 'no such type' = 1")),
    *(METHOD + body for body in ("def __post_init__(self): raise ValueError", "a: object = print", "pass")),
    *(DATASET + body for body in ("pass", "def layout(self, root): return 3", "def layout(self, root): return 1 / 0")),
    *(NAMED + body for body in ("raise ValueError('no')", "return 7", "raise SystemExit(0)", "return []")),
]
SOURCE = TEXT | st.sampled_from(SOURCES)


class Inputs:
    """A store with two results, and every way of giving bad input beside it; each checks that nothing else changed."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "out"
        self.runs = [record("erm", 0), record("augmix", 1, accuracy=60.0)]
        fill(self.out, self.runs)
        words(folder, self.out)
        rendered = call(["--out", str(self.out)], "tables")
        assert rendered.code == 0, rendered
        self.before = state(folder)

    def check(self, ended: Ended, *allowed: object, kept: str = "") -> str:
        """What is wrong with a call. kept: the part of the folder's paths that may not have changed."""
        wrong, now = ended.wrong(*allowed), state(self.folder)
        changed = [name for name, content in self.before.items() if name.startswith(kept) and now.get(name) != content]
        new = [name for name in now if name not in self.before and not name.startswith(("out/", "images/", "odd"))]
        return wrong or (f"changed: {changed}, new: {new}" if changed or new else "")

    def command(self, flags: list[tuple[str, list[str]]]) -> str:
        given_words = [word for flag, values in flags for word in (f"--{flag}", *values)]
        return self.check(call([*given_words, "--out", str(self.out), "--dry-run"]), 0, 2)

    def setting(self, field: str, value: str, inline: bool) -> str:
        owner, _, key = field.partition(".")
        flags = ["--methods", f"{owner}:{key}={value}"] if inline else ["--methods", "all", "--set", f"{field}={value}"]
        return self.check(call([*flags, "--out", str(self.out), "--dry-run"]), 0, 2)

    def record(self, path: list[int], value: object, honest: bool) -> str:
        """Puts any value anywhere into a record; `honest`: with the run id that then belongs to it."""
        out = self.folder / "odd-records"
        shutil.copytree(self.out, out)
        try:
            folder = out / "runs" / self.runs[0].run_id
            found = json.loads((folder / "record.json").read_text())
            place = found
            for step in path[:-1]:
                key = sorted(place)[step % len(place)]
                if not isinstance(place[key], dict) or not place[key]:
                    break
                place = place[key]
            place[sorted(place)[path[-1] % len(place)]] = value
            if honest:
                try:
                    found["run_id"] = Asked.model_validate(found["asked"]).run_id
                    folder = folder.rename(folder.with_name(found["run_id"]))
                except (ValueError, TypeError):
                    pass
            (folder / "SHA256SUMS").unlink()
            (folder / "record.json").write_text(json.dumps(found))
            return self.check(call(["--out", str(out)], "tables"), 0, 2)
        finally:
            shutil.rmtree(out)

    def damaged_map(self, seed: int, size: int) -> str:
        path = self.out / "runs" / self.runs[1].run_id / "sensitivity.npy"
        content = path.read_bytes()
        try:
            path.write_bytes(random.Random(seed).randbytes(size) if seed % 2 else content[:size])
            return call(["--out", str(self.out)], "tables").wrong(*([2] if path.read_bytes() != content else [0]))
        finally:
            path.write_bytes(content)

    def images(self, files: list[tuple[str, str, bytes]]) -> str:
        folder = self.folder / "images"
        try:
            for domain, name, content in files:
                place = folder / (domain.replace("/", "_") or "x") / "class" / (name.replace("/", "_") or "y")
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.is_dir():
                    place.write_bytes(content)
            flags = ["--datasets", "folder", "--data-dir", str(folder), "--methods", "erm", "--dry-run"]
            return self.check(call([*flags, "--out", str(self.out)]), 0, 2)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def plugin(self, name: str, source: str) -> str:
        path = self.folder / f"odd{name}.py"
        path.write_text(source, encoding="utf-8")
        try:
            flags = ["--plugin", str(path), "--methods", "erm", f"odd{name}", "--datasets", "minidigits", "--dry-run"]
            more = ["--datasets", f"odd{name}"] if "Dataset" in source else []
            return self.check(call([*flags, *more, "--out", str(self.out)]), 0, 2)
        finally:
            path.unlink()


def inputs(folder: Path, times: int, *, derandomize: bool = True) -> Count:
    """About `times` generated inputs of all kinds; every wrong one is counted and the next are tried all the same."""
    made, count = Inputs(folder), Count("generated inputs (survived: no traceback, right exit code, nothing changed)")
    file = st.tuples(TEXT, st.sampled_from(["a.png", "b.jpg", "c.txt", "d"]) | TEXT, st.binary(max_size=40))
    name = st.text("abc_1", max_size=4)
    kinds: list[tuple[float, Callable[..., str], tuple[st.SearchStrategy[object], ...]]] = [
        (0.35, made.command, (COMMANDS,)),
        (0.25, made.setting, (FIELDS, VALUE, st.booleans())),
        (0.15, made.record, (st.lists(st.integers(0, 30), min_size=1, max_size=4), JSON, st.booleans())),
        (0.05, made.damaged_map, (st.integers(0, 999), st.integers(0, 300))),
        (0.08, made.images, (st.lists(file, max_size=4),)),
        (0.12, made.plugin, (name, SOURCE)),
    ]
    for share, attempt, strategies in kinds:
        _try(count, attempt, strategies, max(2, round(share * times)), derandomize)
    return count


def _try(
    count: Count,
    attempt: Callable[..., str],
    strategies: tuple[st.SearchStrategy[object], ...],
    times: int,
    derandomize: bool,
) -> None:
    @settings(max_examples=times, derandomize=derandomize, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(st.tuples(*strategies))
    def once(arguments: tuple[object, ...]) -> None:
        count.tried += 1
        wrong = attempt(*arguments)
        count.wrong += [f"{attempt.__name__} {arguments!r}: {wrong}"] if wrong else []

    once()
