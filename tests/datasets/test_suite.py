"""Each test of the common suite finds what it is there for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from benchmark.core.errors import UsageError
from tests.datasets import test_datasets as suite

SOUND = '''"""A dataset for a test: two domains of noise."""

import random
from pathlib import Path
from typing import Literal

import torch

from benchmark import data
from benchmark.core.images import Images


@data.frozen()
class Dataset(data.Dataset):
    classes = ("cat", "dog")
    domains = ("night", "day")
    sources = ("day",)
    licence = "CC0"
    citation = "nobody"
    needs_files = False

    seed: Literal[1, 2] = 1
    share: float = 0.5

    def load(self, domain, split, root):
        n, place = 20, ["train", "val", "test"].index(split)
        key = 100 * self.seed + 10 * (domain == "day") + place
        x = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(key), dtype=torch.uint8)
        y = torch.arange(n) % 2
        keep = round(n * self.share)
        return Images(x[:keep], y[:keep])
'''
TESTS: dict[str, Callable[[suite.Subject], None]] = {
    "names": suite.test_classes_domains_licence_and_citation_are_named,
    "pixels": suite.test_pixels_are_bytes_and_labels_are_classes,
    "again": suite.test_a_part_is_the_same_bytes_whenever_and_wherever_it_is_loaded,
    "disjoint": suite.test_train_val_and_test_of_a_domain_share_no_image,
    "settings": suite.test_another_value_of_a_setting_gives_another_fingerprint_or_layout,
    "recipe": suite.test_there_is_a_recipe_under_common,
}
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "a class twice": ("names", '("cat", "dog")', '("cat", "cat")', "assert"),
    "no licence": ("names", '"CC0"', '" "', "assert"),
    "pixels are floats": ("pixels", "Images(x[", "Images((x / 255)[", "torch.float32"),
    "labels beyond the classes": ("pixels", "% 2", "% 3", "label 2; allowed: 0..1"),
    "sizes differ": ("pixels", "8, 8)", "8, 8 + place)", "assert 3 == 1"),
    "drawn anew": ("again", ".manual_seed(key)", ".manual_seed(key + random.randrange(10**9))", "assert"),
    "another order in every process": ("again", "key = ", 'key = hash("day") % 10**9 + ', "assert"),
    "val is of train": ("disjoint", "+ place", "+ place // 2", "share images"),
    "test is of train": ("disjoint", "+ place", "+ place % 2", "share images"),
    "not all is tested": ("disjoint", "needs_files", "test_is_all = True\n    needs_files", "test is not"),
    "a setting of no effect": ("settings", "100 * self.seed", "100", "seed=2 changes nothing"),
    "a number of no effect": ("settings", "n * self.share", "n * 0.5", "share=1.5 changes nothing"),
    "an unknown network": (
        "recipe",
        "needs_files",
        "terms = (data.dataset.Terms(protocol='common', recipe=dict(network='none')),)\n    needs_files",
        "unknown network 'none'",
    ),
}


def subject(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> suite.Subject:
    path = folder / "made.py"
    path.write_text(text)
    registry.load_plugins([path])
    monkeypatch.setattr(suite, "GIVEN", [path])
    return suite.Subject("made", None, False)


def test_a_sound_one_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for test in TESTS.values():
        test(subject(tmp_path, monkeypatch, SOUND))


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_the_contract_is_found(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test, before, after, found = BROKEN[case]
    assert before in SOUND
    made: Any = subject(tmp_path, monkeypatch, SOUND.replace(before, after))
    with pytest.raises((AssertionError, UsageError), match=found):
        TESTS[test](made)
