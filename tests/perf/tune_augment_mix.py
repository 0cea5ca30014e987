"""Times augment_mix's Triton form with several settings on a GPU: `python -m tests.perf.tune_augment_mix`.

Compiles in several processes first (Triton's cache is shared), then checks every candidate's bytes against chains_torch
and its views against views_torch, then times it as a captured CUDA graph. One that fails is reported and passed over.
"""

# mypy: ignore-errors
# A tool for one kernel, run by hand.

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmark.ops.augmix import NINE, OPS, magnitudes, sample_mix
from benchmark.ops.kernels import augment_mix, augment_triton

ROOT = Path(__file__).resolve().parents[2]

WORKERS = 12
SMALL = [
    {},
    {"lane": 2, "registers": None},
    {"lane": 4, "registers": None},
    {"lane": 4, "registers": 80},
    {"lane": 8, "registers": None},
    {"lane": 8, "registers": 128},
    {"lane": 8, "registers": 168},
    {"split": True},
    {"split": True, "lane": 4, "registers": None},
    {"split": True, "lane": 8, "registers": 128},
    {"held": 0},
    {"held": 0, "lane": 8, "registers": 128},
]
LARGE = [
    {},
    {"registers": 80},
    {"registers": None},
    {"lane": 8, "registers": 128},
    {"lane": 2},
    {"pixels": 512},
    {"pixels": 2048},
    {"pixels": 2048, "lane": 8, "registers": 128},
    {"pixels": 4096, "lane": 8, "registers": 64},
    {"scratch": 2**26},
    {"scratch": 2**25},
]
SIZES = [(64, 32), (128, 32), (8192, 32), (128, 224)]


def given(views, size, ops, seed=0):
    g = torch.Generator("cuda").manual_seed(seed)
    x = torch.rand(views, 3, size, size, device="cuda", generator=g).contiguous(memory_format=torch.channels_last)
    draws = sample_mix(views, g, ops=ops)
    return x, draws.op, magnitudes(draws.op, draws.level, draws.sign, size, size), draws.w, draws.m


def run(args, settings, out=None):
    out = torch.empty_like(args[0]) if out is None else out
    augment_triton.launch(*args, out, **settings)
    return out


def check(size, settings):
    """None, or what is wrong. With w = (1,0,0) and m = 1 a view is its first chain's bytes, divided by 255."""
    x, op, value, w, m = given(24, size, OPS, seed=5)
    want = augment_mix.chains_torch(augment_mix.to_uint8(x).cpu(), op.cpu(), value.cpu()).cuda()
    for chain in range(3):
        only = torch.zeros_like(w)
        only[:, chain] = 1
        found = run((x, op, value, only, torch.ones_like(m)), settings).mul(255).round().to(torch.uint8)
        if not torch.equal(found, want[:, chain]):
            return f"{int((found != want[:, chain]).sum())} wrong bytes in chain {chain}"
    if not torch.equal(
        run((x, op, value, w, m), settings), augment_mix.views_torch(*(t.cpu() for t in (x, op, value, w, m))).cuda()
    ):
        return "views differ in bits"
    return None


def timed(work, replays):
    """Microseconds of one call, by a captured graph of some calls."""
    calls = 5
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            work()
    graph.replay()
    found = []
    for _ in range(replays):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        found.append(1e3 * first.elapsed_time(last) / calls)
    return statistics.median(found)


def launched(work):
    """Microseconds of one call, launched by the host, as in a race."""
    found = []
    for _ in range(7):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            work()
        torch.cuda.synchronize()
        found.append(1e6 * (time.perf_counter() - start) / 20)
    return statistics.median(found)


def compile_share(number):
    jobs = [(32, s) for s in SMALL] + [(224, s) for s in LARGE]
    for size, settings in jobs[number::WORKERS]:
        try:
            run(given(4, size, OPS), settings)
        except Exception as error:  # noqa: BLE001 - told by the parent, which meets it again
            print("compile:", settings, repr(error)[:200], file=sys.stderr)
    torch.cuda.synchronize()


def main():
    began = time.perf_counter()
    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    workers = [
        subprocess.Popen([sys.executable, "-m", "tests.perf.tune_augment_mix", str(number)], cwd=ROOT)
        for number in range(WORKERS)
    ]
    copies = {}
    for views, size in SIZES:
        x = torch.rand(views, 3, size, size, device="cuda")
        y = torch.empty_like(x)
        copies[views, size] = timed(lambda x=x, y=y: y.copy_(x), 15)
    for worker in workers:
        worker.wait()
    print(f"compiled after {time.perf_counter() - began:.0f} s", flush=True)
    columns = [(views, size, ops) for views, size in SIZES for ops in (NINE, OPS)]
    inputs = {column: given(*column) for column in columns}
    heads = [f"{views}x{size} {len(ops)}" for views, size, ops in columns]
    print(f"{'microseconds (share of copy)':<42}" + "".join(f"{head:>19}" for head in heads), flush=True)
    best = {}
    for name, settings, size in [("small", s, 32) for s in SMALL] + [("large", s, 224) for s in LARGE]:
        label = f"{name} {' '.join(f'{k}={v}' for k, v in settings.items()) or 'defaults'}"
        cells = []
        try:
            wrong = check(size, settings)
            if wrong:
                print(f"{label:<42} WRONG: {wrong}", flush=True)
                continue
            for column in columns:
                if column[1] != size:
                    cells.append("")
                    continue
                args = inputs[column]
                out = torch.empty_like(args[0])
                us = timed(lambda args=args, out=out, settings=settings: run(args, settings, out), 9)
                cells.append(f"{us:.1f} ({copies[column[:2]] / us:.2f})")
                if us < best.get(column, (1e9,))[0]:
                    best[column] = us, label
        except Exception as error:  # noqa: BLE001 - one candidate must not end the others
            print(f"{label:<42} FAILED: {repr(error)[:300]}", flush=True)
            try:
                torch.cuda.synchronize()
            except Exception:  # noqa: BLE001
                print("the device is lost", flush=True)
                return
            continue
        print(f"{label:<42}" + "".join(f"{cell:>19}" for cell in cells), flush=True)
    print(f"{'copy of 24 bytes a pixel':<42}" + "".join(f"{copies[c[:2]]:>12.1f}{'':7}" for c in columns))
    for column, head in zip(columns, heads, strict=True):
        us, label = best.get(column, (float("nan"), "none"))
        try:
            host = launched(lambda args=inputs[column]: augment_mix.views_triton(*args))
        except Exception as error:  # noqa: BLE001
            host = float("nan")
            print(repr(error)[:200])
        print(
            f"best at {head:<14} {us:9.1f} us  {label};   views_triton launched by the host: {host:.1f} us", flush=True
        )
    print(f"all in {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    compile_share(int(sys.argv[1])) if len(sys.argv) > 1 else main()
