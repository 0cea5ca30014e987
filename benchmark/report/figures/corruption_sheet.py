"""A picture sheet: one image under every corruption, a row each, the clean image and the five severities across."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line
from benchmark.corruptions import CORRUPTIONS, EXTRA, SEVERITIES, corrupt
from benchmark.data.image_files import open_image, rgb
from benchmark.data.readers import package_file

GAP, LABEL = 4, 130
"""Pixels between the pictures, and for the names on the left."""


def draw(image: Path | None, side: int) -> Image.Image:
    """The sheet. image: any picture, its middle square scaled to side x side; None takes a photograph of scikit-learn.

    Raises UsageError where the file is no picture.
    """
    picture = _square(image or package_file("sklearn", "datasets/images/flower.jpg"), side)
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    shown = max(side, 96)
    step = shown + GAP
    sheet = Image.new("RGB", (LABEL + 6 * step, len(CORRUPTIONS) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(CORRUPTIONS):
        pen.text((GAP, row * step + shown // 2), f"{name}{' (extra)' * (name in EXTRA)}", "black")
        found = [x, *(corrupt(x, name, severity, torch.zeros(1, dtype=torch.int64)) for severity in SEVERITIES)]
        for column, images in enumerate(found):
            tile = Image.fromarray(images[0].permute(1, 2, 0).numpy()).resize((shown, shown), Image.Resampling.NEAREST)
            sheet.paste(tile, (LABEL + column * step, row * step))
    return sheet


def _square(path: Path, side: int) -> Image.Image:
    try:
        with open_image(path) as stored:
            image = rgb(stored)
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        return image.crop((left, top, left + edge, top + edge)).resize((side, side))
    except Exception as problem:  # damaged bytes can make a decoder raise anything
        raise UsageError(f"--image {one_line(path)}: cannot be read as a picture ({one_line(problem)})") from problem
