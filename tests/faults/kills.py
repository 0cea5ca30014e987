"""SIGKILL at random moments, then the same command: nothing is lost, nothing is different."""

import random
import shutil
import time
from pathlib import Path

from tests.faults.harness import Count, forkserver, results, start, words

GRID = ["--methods", "erm", "gud:batch=8,interval=4,adv_steps=2,phases=2", "--seeds", "0", "1", "--steps", "10"]
GRID += ["--checkpoint-seconds", "0"]


def kills(folder: Path, times: int, seed: int = 0) -> Count:
    """Kills a grid `times` times, finishes it each time it comes to that, and compares with an undisturbed one."""
    count, draws, log = Count("SIGKILL at a random moment, then resumed"), random.Random(seed), folder / "log"
    whole, out = folder / "whole", folder / "killed"
    empty = forkserver().Process()  # the server has started before the grid is timed
    empty.start()
    empty.join()
    began = time.monotonic()
    first = start(words(folder, whole, *GRID), log)
    first.join()
    assert first.exitcode == 0, log.read_text()
    seconds, expected, pending = time.monotonic() - began, results(whole), 0
    while count.tried < times or pending:
        process = start(words(folder, out, *GRID), log)
        process.join(draws.uniform(0, 0.7 * seconds) if count.tried < times else None)
        if process.is_alive():
            process.kill()
            process.join()
            count.tried, pending = count.tried + 1, pending + 1
            continue
        found = results(out) if process.exitcode == 0 else {}
        if found != expected:
            names = [name for name in expected if found.get(name) != expected[name]]
            count.wrong += [f"exit {process.exitcode}, different: {names}"] * max(1, pending)
        left = [path.name for path in (out / "runs").glob(".*")] + [str(p) for p in out.rglob(".*.[0-9]*")]
        if left and process.exitcode == 0:
            count.wrong.append(f"left lying: {left}")
        pending = 0
        shutil.rmtree(out)
    return count
