"""Files that are cut, emptied, deleted or have one flipped bit: named, or got over; never taken for good."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmark.runs.records import BEGUN
from tests.faults.harness import Count, call, plugin, results, words

Damage = Callable[[Path, random.Random], None]


def cut(path: Path, draws: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draws.randrange(path.stat().st_size)])


def empty(path: Path, draws: random.Random) -> None:
    path.write_bytes(b"")


def flip(path: Path, draws: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    path.write_bytes(content)


def garble(path: Path, draws: random.Random) -> None:
    path.write_bytes(draws.randbytes(path.stat().st_size))


KINDS: tuple[Damage, ...] = (cut, empty, flip, garble)


def damaged(folder: Path, times: int, seed: int = 0) -> Count:
    """Damages one file of a finished run or of an interrupted one at a time, and calls the same command again.

    A file of a finished run must be named, with exit code 2; a checkpoint must cost no more than time and a warning.
    """
    count, draws = Count("damaged records, curves, maps and checkpoints"), random.Random(seed)
    grid = ["--methods", "erm", "gud:batch=8,interval=2,adv_steps=1,phases=1", "--seeds", "0", "--steps", "4"]
    done, broken, out = folder / "done", folder / "interrupted", folder / "out"
    assert call(words(folder, done, *grid)).code == 0
    growing = plugin(folder, "stopper", "if rng.step == 3 and not os.path.exists('{go}'): raise KeyboardInterrupt")
    growing.write_text(growing.read_text().replace("{go}", str(folder / "go")).replace(
        "    def loss", "    def expand(self, net, source, rng, step, state):\n"
        "        return source.images if step == 1 else None\n\n    def loss"))  # fmt: skip
    stop = [*grid[2:], "--methods", "stopper", "--checkpoint-seconds", "0"]
    stop.remove(grid[2])
    assert call(words(folder, broken, *stop, plugins=[growing])).code == 130
    (folder / "go").touch()
    undisturbed = folder / "undisturbed"
    shutil.copytree(broken, undisturbed)
    assert call(words(folder, undisturbed, *stop, plugins=[growing])).code == 0
    for turn in range(times):
        finished = turn % 2 == 0
        before = done if finished else broken
        shutil.copytree(before, out)
        paths = sorted(out.glob("runs/[!.]*/*" if finished else "runs/.partial-*/*"))
        path, damage = draws.choice(paths), KINDS[turn // 2 % len(KINDS)]
        damage(path, draws)
        same = path.read_bytes() == (before / path.relative_to(out)).read_bytes()
        ended = call(words(folder, out, *(grid if finished else stop), plugins=() if finished else [growing]))
        count.tried += 1
        what = f"{damage.__name__} {path.relative_to(out)}: "
        if finished and not same:
            wrong = ended.wrong(2) or ("" if path.parent.name in ended.err else f"not named: {ended.err}")
        else:
            wrong = ended.wrong(0)
            if not wrong and results(out) != results(done if finished else undisturbed):
                wrong = "the results are not those of an undisturbed run"
            says = "missing or damaged" if path.name == BEGUN else "started anew"
            if not wrong and not finished and not same and says not in _warnings(out):
                wrong = "no warning in the record"
        count.wrong += [what + wrong] if wrong else []
        shutil.rmtree(out)
    return count


def _warnings(out: Path) -> str:
    return "".join(path.read_text() for path in out.glob("runs/[!.]*/record.json"))
