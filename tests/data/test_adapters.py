"""Torch Datasets as domains: what items may be, how they are split, and a run from a plugin file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from benchmark import data, run
from benchmark.core.errors import UsageError
from benchmark.data.adapters import from_torch
from benchmark.data.image_files import Filter, Fit
from benchmark.runs.store import Store
from tests.faults.harness import light

CLASSES = ["dark", "bright"]
SPLITS: tuple[data.Split, ...] = ("val", "train")
FITS: tuple[Fit, ...] = ("crop", "squash")


class Items(TorchDataset[Any]):
    """Forty flat images of one kind and size; item i is of class i % 2."""

    def __init__(self, kind: str, size: tuple[int, int] = (32, 32)):
        self.kind, self.size = kind, size

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Any, int]:
        level = index + 100 * (index % 2)
        if self.kind == "pil":
            return Image.new("L", self.size, level), index % 2
        x = torch.full((3, *self.size), level, dtype=torch.uint8)
        return x.float() / 255 if self.kind == "float" else x[:1] if self.kind == "grey" else x, index % 2


def test_kinds_of_images_give_the_same_bytes() -> None:
    made = from_torch({kind: Items(kind) for kind in ("pil", "uint8", "float", "grey")}, CLASSES)()
    parts = [made.load(domain, "test", None) for domain in made.domains]
    for part in parts:
        assert part.x.shape == (40, 3, 32, 32)
        assert torch.equal(part.x, parts[0].x)
        assert torch.equal(part.y, torch.arange(40) % 2)


def test_items_are_split_by_their_index_and_domain() -> None:
    made = from_torch({"a": Items("uint8"), "b": Items("uint8")}, CLASSES, val_share=0.5)()
    loaded = data.load(made, "a", None)
    levels = {int(part.x[i, 0, 0, 0]) for part in (loaded.train, loaded.val) for i in range(len(part))}
    assert len(levels) == len(loaded.train) + len(loaded.val) == 40
    assert torch.equal(loaded.test["a"].x, loaded.val.x)
    assert len(loaded.test["b"]) == 40
    other = data.load(made, "b", None)
    assert not torch.equal(other.val.y, loaded.val.y) or not torch.equal(other.val.x, loaded.val.x)
    assert from_torch({"a": Items("pil"), "b": Items("pil")}, CLASSES, sources=["b"]).sources == ("b",)


def test_pil_images_are_scaled() -> None:
    made = from_torch({"a": Items("pil", (20, 10)), "b": Items("pil", (9, 12))}, CLASSES, size=8)()
    assert made.load("a", "test", None).x.shape == made.load("b", "test", None).x.shape == (40, 3, 8, 8)


def test_fit_says_whether_sides_are_cut_off_or_squashed() -> None:
    """Green is the middle square of an image twice as wide as it is high; red and blue stand beside it."""
    striped = Image.new("RGB", (16, 8), "lime")
    striped.paste("red", (0, 0, 4, 8))
    striped.paste("blue", (12, 0, 16, 8))
    green = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None]
    cropped, squashed = (
        from_torch({"a": [(striped, 0)]}, CLASSES, size=8, fit=fit)().load("a", "test", None).x[0] for fit in FITS
    )
    assert torch.equal(cropped, green.expand(3, 8, 8))
    assert squashed[:, 0, 0].tolist() == [255, 0, 0]
    assert squashed[:, 0, 7].tolist() == [0, 0, 255]


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "lanczos"])
def test_pil_images_are_scaled_by_the_filter_that_is_named(resize: Filter) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    made = from_torch({"a": [(Image.fromarray(noise), 0)]}, CLASSES, size=20, resize=resize)()
    there = Image.fromarray(noise).resize((20, 20), Image.Resampling[resize.upper()])
    assert np.array_equal(made.load("a", "test", None).x[0].permute(1, 2, 0).numpy(), np.asarray(there))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_val_share_is_the_share_of_items_that_are_held_out(share: float) -> None:
    items = [(torch.zeros(3, 2, 2), 0)] * 1000
    made = from_torch({"a": items}, CLASSES, val_share=share)()
    held, left = (len(made.load("a", split, None)) for split in SPLITS)
    assert held / 1000 == pytest.approx(share, abs=0.03)
    assert held + left == 1000


class Wrong(Items):
    def __init__(self, item: Any):
        super().__init__("uint8")
        self.item = item

    def __getitem__(self, index: int) -> Any:
        return self.item if index == 7 else super().__getitem__(index)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ((torch.zeros(3, 32, 32) - 2, 0), "item 7: pixels outside.*Normalize"),
        ((torch.zeros(3, 32, 32, dtype=torch.int64), 0), "item 7: a tensor of torch.int64"),
        ((torch.zeros(32, 32), 0), "item 7: the image is neither"),
        (("a.png", 0), "item 7: the image is neither"),
        ((torch.zeros(3, 16, 16, dtype=torch.uint8), 0), "item 7: images are of sizes 32x32 and 16x16"),
        ((Image.new("F", (32, 32)), 0), "item 7: its pixels are of mode F"),
        (torch.zeros(3, 32, 32), "item 7: not a pair"),
        ((torch.zeros(3, 32, 32, dtype=torch.uint8), "dog"), "item 7: not a pair"),
        ((torch.zeros(3, 32, 32, dtype=torch.uint8), 2), "label 2"),
    ],
)
def test_items_that_are_no_images_are_named(item: Any, says: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)(a, |here.*|a/).*{says}"):
        data.load(from_torch({"a": Wrong(item), "b": Items("uint8")}, CLASSES)(), "b", None)


@pytest.mark.parametrize("label", [0.5, float("nan"), torch.tensor(0.5), "1", True, None, torch.tensor([1, 2]), 2**70])
def test_labels_are_whole_numbers(label: Any) -> None:
    item = (torch.zeros(3, 32, 32, dtype=torch.uint8), label)
    with pytest.raises(UsageError, match=r"a, item 7: (not a pair of image and label number|label 1180591)"):
        data.load(from_torch({"a": Wrong(item), "b": Items("uint8")}, CLASSES)(), "b", None)


@pytest.mark.parametrize(
    "label", [1, 1.0, torch.tensor(1), torch.tensor(1.0), torch.tensor([1]), np.int8(1), np.array(1)]
)
def test_labels_of_any_whole_kind_are_taken(label: Any) -> None:
    item = (torch.zeros(3, 32, 32, dtype=torch.uint8), label)
    made = from_torch({"a": Wrong(item)}, CLASSES)()
    assert made.load("a", "test", None).y[7] == 1


def test_images_of_unequal_sizes_fail_before_training() -> None:
    made = from_torch({"a": Items("uint8"), "b": Items("uint8", (48, 32))}, CLASSES, val_share=0.3)()
    for source, says in {
        "a": "images of b/test are 48x32, those of a/train are 32x32",
        "b": "images of a/test are 32x32, those of b/train are 48x32",
        "a+b": "images of b/train are 48x32, those of a/train are 32x32",
    }.items():
        with pytest.raises(UsageError, match=says):
            data.load(made, source, None)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        while True:
            yield torch.zeros(3, 32, 32), 0


class Broken(Items):
    def __getitem__(self, index: int) -> Any:
        raise FileNotFoundError("x.png")


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (Endless(), "a: Endless has no length .*give a torch Dataset with __len__"),
        (iter([1]), "a: list_iterator has no length"),
        (None, "a: NoneType has no length"),
        (DataLoader(Items("uint8")), "a, item 0: not a pair of image and label number .*not subscriptable"),
        (Broken("uint8"), "a, item 0: not a pair of image and label number .FileNotFoundError: x.png"),
        ([], "a/train: no images|a/test: no images"),
    ],
)
def test_what_is_no_dataset_is_named(items: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        data.load(from_torch({"a": items, "b": Items("uint8")}, CLASSES)(), "a", None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a+b",
        "a|b",
        "a\nb",
        "\x1b[31m",
        "<b>",
        "a/b/c",
        "/a",
        "..\u2028",
        "x" * 101,
        " a",
        3,
        None,
        b"a",
        "\udcff",
    ],
)
def test_odd_names_of_domains_and_classes(name: Any) -> None:
    with pytest.raises(UsageError, match="is no domain name; allowed: letters, digits") as caught:
        from_torch({name: Items("uint8")}, CLASSES)
    assert str(caught.value).isprintable()
    if not isinstance(name, str) or not name.isprintable() or not name:
        with pytest.raises(UsageError, match="is no class name"):
            from_torch({"a": Items("uint8")}, ["dark", name])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"domains": {}}, "is no sequence of domain names"),
        ({"domains": [Items("uint8")]}, "domains is list; give a mapping"),
        ({"domains": {"Day": Items("uint8"), "day": Items("uint8")}}, "two domain names are one: 'Day' and 'day'"),
        ({"domains": {"caf\u00e9": 1, "cafe\u0301": 1}}, "two domain names are one"),
        ({"classes": "cat"}, "'cat' is no sequence of class names"),
        ({"classes": []}, "is no sequence of class names"),
        ({"classes": ["a", "a"]}, "two class names are one: 'a' and 'a'"),
        ({"sources": ["dai"]}, "source 'dai' is no domain; did you mean 'day'"),
        ({"sources": "day"}, "'day' is no sequence of source names"),
        ({"sources": ["day+dai"]}, "source 'dai' is no domain"),
        ({"size": 0}, "size=0; allowed: 1 to 4096, or None"),
        ({"size": 32.0}, r"size=32\.0; allowed"),
        ({"size": True}, "size=True; allowed"),
        ({"resize": "nearest"}, "resize='nearest'; allowed: bilinear, bicubic, lanczos"),
        ({"fit": "pad"}, "fit='pad'; allowed: squash, crop"),
        ({"val_share": 0.0}, r"val_share=0\.0; allowed: between 0 and 1"),
        ({"val_share": float("nan")}, "val_share=nan; allowed"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        from_torch(**({"domains": {"day": Items("uint8")}, "classes": CLASSES} | arguments))


def test_domains_may_be_parts_of_a_column_and_classes_letters() -> None:
    made = from_torch({"fog/1": Items("uint8"), "fog/2": Items("uint8"), "\u65e5 (2)": Items("uint8")}, ["a", "A"])()
    assert len(data.load(made, "fog/1+fog/2", None).test) == 3


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (3, "gives int, not a benchmark.data.Layout"),
        (None, "gives NoneType, not a"),
        (("a",), "gives tuple, not a"),
        (data.Layout(("a",), ("d", "D"), ()), "two domain names are one: 'd' and 'D'"),
        (data.Layout((), ("d",), ()), "is no sequence of class names"),
    ],
)
def test_a_layout_is_checked_too(layout: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = from_torch({"a": Items("uint8")}, CLASSES)
    monkeypatch.setattr(made, "layout", lambda self, root: layout)
    with pytest.raises(UsageError, match=says):
        data.load(made(), "a", None)
    monkeypatch.undo()
    monkeypatch.setattr(made, "load", lambda *_: 7)
    with pytest.raises(UsageError, match=r"load\(\) gives int, not benchmark.core.images.Images"):
        data.load(made(), "a", None)


PLUGIN = '''"""Flat images by day and by night."""

import torch
from torch.utils.data import TensorDataset

from benchmark.core.recipe import Recipe, Terms
from benchmark.data.adapters import from_torch


def made(shift):
    y = torch.arange(60) % 2
    noise = torch.randint(0, 50, (60, 3, 32, 32), generator=torch.Generator().manual_seed(shift), dtype=torch.uint8)
    return TensorDataset(noise + (100 * y + shift).to(torch.uint8)[:, None, None, None], y)


Dataset = from_torch({"day": made(50), "night": made(0)}, classes=["dark", "bright"], val_share=0.3)
Dataset.terms = [Terms(protocol="common", recipe=Recipe(network="mini_convnet", lr=1e-3))]
'''


def test_a_plugin_file_runs_in_workers_from_start_to_tables(tmp_path: Path) -> None:
    path = tmp_path / "my_data.py"
    path.write_text(PLUGIN)
    words = ["--plugin", str(path), "--datasets", "my_data", "--methods", "erm", "--seeds", "0"]
    words += ["--steps", "3", "--evaluations", "1", "--sensitivity-images", "2", "--device", "cpu", "--jobs", "2"]
    with light():
        assert run.main([*words, "--out", str(tmp_path / "out")]) == 0
    records = Store(tmp_path / "out").read_all()
    assert {record.asked.source for record in records} == {"day", "night"}
    for record in records:
        assert record.accuracy is not None
        assert record.accuracy.in_domain == [record.asked.source]
        assert record.asked.recipe.network == "mini_convnet"
