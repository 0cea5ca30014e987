"""The files of PACS, few and small."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


def flat(i: int, label: int, place: int) -> Image.Image:
    return Image.new("RGB", (17, 17), (60 * i, 30 * label, 50 * place))


def lay_out(
    root: Path,
    images: str = "PACS/kfold",
    lists: str = "PACS/kfold",
    picture: Callable[[int, int, int], Image.Image] = flat,
) -> Path:
    """Four images a domain and class: three of the train list, one of the crossval list, all of the test list."""
    (root / lists).mkdir(parents=True, exist_ok=True)
    for place, domain in enumerate(DOMAINS):
        lines: dict[str, list[str]] = {"train": [], "crossval": [], "test": []}
        for label, kind in enumerate(CLASSES, start=1):
            folder = root / images / domain / kind
            folder.mkdir(parents=True)
            for i in range(4):
                name = f"pic_{i:03}.{'png' if domain == 'sketch' else 'jpg'}"
                picture(i, label, place).save(folder / name, quality=95)
                for split in ("train" if i else "crossval", "test"):
                    lines[split].append(f"{domain}/{kind}/{name} {label}\n")
        for split, text in lines.items():
            (root / lists / f"{domain}_{split}_kfold.txt").write_text("".join(text))
    return root
