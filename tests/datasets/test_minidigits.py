"""minidigits: what the parts hold, that they are disjoint and repeatable, and of what the targets are made."""

import hashlib
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import data
from benchmark.core.errors import UsageError

minidigits: Any = importlib.import_module("benchmark.datasets.minidigits")
DATASET = minidigits.Dataset()
PARTS: list[tuple[str, data.Split, int]] = [("uci", "train", 1000), ("uci", "val", 297)]
PARTS += [(domain, "test", 500) for domain in DATASET.domains]
# Equal with Pillow 11, 12 and 13 (FreeType 2.13 and 2.14), NumPy 2.0 and 2.4, scikit-learn 1.6 and 1.9, matplotlib 3.9
# and 3.11. A new value here means that published results and new ones are of different images.
PIXELS = {"blend": "c752b3b56ca3", "print": "d527ae521d9a", "noise": "d6e5bc573e19", "uci": "c18039b1aaf1"}


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def hashes(domain: str, split: data.Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in DATASET.load(domain, split).x]


@pytest.mark.parametrize(("domain", "split", "count"), PARTS)
def test_shape_type_range_and_classes(domain: str, split: data.Split, count: int) -> None:
    images = DATASET.load(domain, split)
    assert images.x.shape == (count, 3, 32, 32)
    assert images.x.dtype == torch.uint8
    assert images.x.min() < 40
    assert images.x.max() > 215
    share = images.y.bincount(minlength=10) / count
    assert len(share) == 10
    assert 0.08 < share.min() <= share.max() < 0.12
    assert (images.y.bincount() == 50).all() or domain != "print"
    assert torch.equal(images.x[:, 0], images.x[:, 1]) == (domain in ("uci", "noise"))


def test_source_is_scikit_learns_digits_in_its_order() -> None:
    from sklearn.datasets import load_digits, load_sample_image

    public = load_digits()
    x = torch.cat([DATASET.load("uci", split).x for split in ("train", "val", "test")])
    y = torch.cat([DATASET.load("uci", split).y for split in ("train", "val", "test")])
    assert y.tolist() == public.target.tolist()
    corners = x[:, 0, ::31, ::31].numpy()  # a corner of the enlarged image is the corner of the small one
    assert (corners == (public.images[:, ::7, ::7] * 255 // 16)).all()
    for photograph, name in zip(minidigits._photographs(), ("china.jpg", "flower.jpg"), strict=True):
        assert (photograph == load_sample_image(name)).all()


def test_all_images_differ_between_and_within_parts() -> None:
    every = [image for domain, split, _ in PARTS for image in hashes(domain, split)]
    assert len(set(every)) == len(every) == 1797 + 3 * 500


def test_labels_of_blend_and_noise_are_those_of_the_held_out_digits() -> None:
    expected = DATASET.load("uci", "test").y
    assert torch.equal(DATASET.load("blend", "test").y, expected)
    assert torch.equal(DATASET.load("noise", "test").y, expected)


def test_nothing_is_missing() -> None:
    found = data.load(DATASET, "uci", None)
    assert found.missing == {}
    assert found.in_domain == ["uci"]
    assert list(found.test) == ["blend", "print", "noise", "uci"]


@pytest.mark.parametrize("domain", DATASET.domains)
def test_pixels_are_those_of_the_published_results(domain: str) -> None:
    pixels = DATASET.load(domain, "test").x.numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:12] == PIXELS[domain]


@pytest.mark.parametrize("domain", DATASET.domains)
def test_targets_are_blind_to_training_and_validation_images(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.loadtxt(minidigits.package_file("sklearn", "datasets/data/digits.csv.gz"), np.int64, delimiter=",")

    def load_with_garbage_in(rows: slice) -> Any:
        garbled = table.copy()
        garbled[rows] = draws(0).integers(0, 10, garbled[rows].shape)
        with monkeypatch.context() as patch:
            patch.setattr(minidigits.np, "loadtxt", lambda *_, **__: garbled)
            return minidigits._load.__wrapped__(domain, "test")

    images = DATASET.load(domain, "test")
    blind = load_with_garbage_in(slice(0, 1297))
    assert torch.equal(blind.x, images.x)
    assert torch.equal(blind.y, images.y)
    seen = load_with_garbage_in(slice(1297, 1797))
    assert torch.equal(seen.x, images.x) == (domain == "print")


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_blend_is_the_absolute_difference_to_a_crop_of_a_photograph(seed: int) -> None:
    crop = minidigits.blend(np.zeros((32, 32, 3), np.uint8), draws(seed))
    windows = [np.argwhere((photo[:-31, :-31] == crop[0, 0]).all(axis=2)) for photo in minidigits._photographs()]
    assert any(
        (photo[top : top + 32, left : left + 32] == crop).all()
        for photo, places in zip(minidigits._photographs(), windows, strict=True)
        for top, left in places
    )
    digit = draws(seed + 1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    blended = minidigits.blend(digit, draws(seed))
    assert (blended == np.abs(crop.astype(int) - digit.astype(int))).all()


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_noise_turns_blocks_black_or_white_and_leaves_the_rest(seed: int) -> None:
    flat = np.full((32, 32, 3), 128, np.uint8)  # blur does not change it
    noisy = minidigits.noise(flat, draws(seed))
    assert set(np.unique(noisy)) <= {0, 128, 255}
    blocks = noisy.reshape(16, 2, 16, 2, 3)
    assert (blocks == blocks[:, :1, :, :1, :1]).all()
    assert 0.03 < (noisy != 128).mean() < 0.36  # 10 to 25 % of 256 blocks, give or take four standard deviations


def test_noise_blurs() -> None:
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    noisy = np.stack([minidigits.noise(edge, draws(seed)) for seed in range(50)])
    assert 60 < np.median(noisy[:, :, 15]) < 127.5 < np.median(noisy[:, :, 16]) < 195


@pytest.mark.parametrize("font", minidigits.FONTS)
def test_every_font_has_ten_digits(font: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minidigits, "FONTS", [font])
    # The same draws for every digit: size, place, angle and neighbours are equal, so only the digit can differ.
    shapes = [minidigits._glyphs(label, draws(3)) for label in range(10)]
    assert len({shape.tobytes() for shape in shapes}) == 10
    middle = np.stack(shapes)[:, 2:30, 6:26]
    assert (middle.mean(axis=(1, 2)) > 0.06 * 255).all()


@given(st.integers(0, 9), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_printed_digits_stand_out_from_their_paper(label: int, seed: int) -> None:
    image = minidigits.printed(label, draws(seed))
    assert image.shape == (32, 32, 3)
    grey = image.astype(int).sum(axis=2)
    low, high = np.percentile(grey, [2, 98])
    assert high - low > 150


@pytest.mark.parametrize(("domain", "split"), [("blend", "train"), ("print", "val"), ("mnist", "test")])
def test_absent_parts_are_usage_errors(domain: str, split: data.Split) -> None:
    with pytest.raises(UsageError, match=f"minidigits/{domain} has no {split} part"):
        DATASET.load(domain, split)


def test_a_package_without_its_files_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="pip install"):
        minidigits.package_file("sklearn", "datasets/data/nothing.csv")
