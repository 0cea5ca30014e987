"""Methods that do what no method should: each costs its own run and no other, and the record says what happened."""

import json
import random
from pathlib import Path

from tests.faults.harness import Count, call, plugin, words

ODD: dict[str, tuple[str, str, str]] = {
    "raises": ("raise RuntimeError('broken on purpose')", "failed", "broken on purpose"),
    "exits": ("raise SystemExit(0)", "failed", "SystemExit: 0"),
    "exits_via_sys": ("sys.exit('gone')", "failed", "gone"),
    "cancels": ("import asyncio; raise asyncio.CancelledError('gone')", "failed", "CancelledError: gone"),
    "surrogates": ("raise ValueError('\\ud800 \\x00 <b>')", "failed", "\\ud800"),
    "unprintable": ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "failed", "str() failed"),
    "endless_text": ("raise ValueError('x' * 10**7)", "failed", "xxx"),
    "recursion": ("self.loss(net, x, y, rng, state)", "failed", "RecursionError"),
    "not_a_number": ("return (net(x) * float('nan')).sum()", "diverged", "step 1"),
    "infinite": ("return net(x).sum() * float('inf')", "diverged", "step 1"),
    "later_nan": ("if rng.step == 3: return net(x).sum() / 0", "diverged", "step 4"),
    "nothing": ("return None", "failed", "NoneType"),
    "a_number": ("return 1.0", "failed", "float"),
    "a_vector": ("return net(x)", "failed", "scalar"),
    "no_gradient": ("return net(x).detach().sum()", "failed", "grad"),
    "out_of_gpu_memory": ("raise torch.OutOfMemoryError('CUDA out of memory')", "failed", "try --batch-size 16"),
    "memory_error": ("raise MemoryError", "failed", "MemoryError"),
    "huge_tensor": ("torch.empty(2**50)", "failed", "memory"),
    "warns_in_halves": ("type(self).views = lambda *given: {}['\\ud800']", "done", ""),
    "garbage": ("print('\\x00\\x1b[2J\\xff', chr(0x1f600), '[/red]'); print('{}', file=sys.stderr)", "done", ""),
    "writes_its_batch": ("x.zero_(); y.zero_()", "done", ""),
    "sets_the_type": ("torch.set_default_dtype(torch.float64)", "done", ""),
    "sets_the_device": ("torch.set_default_device('meta')", "failed", "meta"),
    "casts_for_ever": ("torch.autocast('cpu', torch.bfloat16).__enter__()", "done", ""),
    "wants_no_gradients": ("torch.set_grad_enabled(False)", "failed", "grad"),
    "seeds_the_world": ("torch.manual_seed(0); torch.rand(7)", "done", ""),
}
WRITES = '''"""Writes into the images that it is given."""
from benchmark import method
from torch.nn.functional import cross_entropy

@method.frozen()
class Method(method.Method):
    def setup(self, net, source, rng):
        source.{part}.{tensor}.{how}
        return {{}}
    def loss(self, net, x, y, rng, state):
        return cross_entropy(net(x), y)
'''


def odd_methods(folder: Path, names: list[str], seed: int = 0) -> Count:
    """Runs each odd method between two runs of ERM, and checks its status and that ERM is as it was alone."""
    count = Count("methods that raise, exit, return nonsense, print garbage or write into their input")
    fixed = ["--seeds", "0", "--steps", "5"]
    assert call(words(folder, folder / "alone", "--methods", "erm", *fixed)).code == 0
    alone = _records(folder / "alone")["erm"]["accuracy"]
    parts = [("images", "x"), ("val", "x"), ("images", "y")]
    for name in names:
        count.tried += 1
        if name == "writes_data":
            part, tensor = random.Random(seed).choice(parts)
            path, status, says = folder / f"{name}.py", "failed", "wrote into the images"
            path.write_text(WRITES.format(part=part, tensor=tensor, how="zero_()"))
        else:
            before, status, says = ODD[name]
            path = plugin(folder, name, before)
        out = folder / f"out-{name}"
        ended = call(words(folder, out, "--methods", name, "erm", *fixed, plugins=[path]))
        wrong = ended.wrong(0 if status == "done" else 1)
        if not wrong:
            found = _records(out)
            table = (out / "tables" / "accuracy.md").read_text()
            if found[name]["status"] != status or says not in str(found[name]["error"]):
                wrong = f"{found[name]['status']}: {found[name]['error']}"
            elif found["erm"]["accuracy"] != alone:
                wrong = "ERM after it is not ERM"
            elif status != "done" and f"{name}, seed 0: {status}" not in table:
                wrong = "the table does not say so"
        count.wrong += [f"{name}: {wrong}"] if wrong else []
    return count


def _records(out: Path) -> dict[str, dict[str, object]]:
    found = [json.loads(path.read_text()) for path in out.glob("runs/[!.]*/record.json")]
    return {record["asked"]["method"]: record for record in found}
