"""Reads a record's other files (curve, map, pictures) and checks what is in them.

A right hash says that a file was not damaged, not that its content is what it should be. Readers raise ValueError that
says what is wrong; `strips` also OSError.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from benchmark.core.field_types import Count, Percent, Share
from benchmark.core.outcome import Calibration
from benchmark.core.record import Record
from benchmark.data.image_files import open_image
from benchmark.sensitivity.map import SensitivityMap

SHOWN, LARGEST = 8, 96
"""Images in a picture of a method's views, and the pixels along the side of one."""
HEADER = 10_000
"""Characters of an .npy file's header, which for a map takes 118."""
Point = dict[str, Any]
"""One evaluation: the step, and the accuracies in percent on the validation part and the test domains."""


class _Point(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    step: Count
    progress: Share | None = None
    val: Percent
    test: dict[str, Percent]
    calibration: Calibration | None = None


def curve(content: bytes, record: Record) -> list[Point]:
    """The points of a run's learning curve."""
    points: list[Point] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            found = from_json(line)
            point = TypeAdapter(_Point).validate_python(found)
        except ValidationError as problem:
            first = problem.errors()[0]
            raise ValueError(f"line {number}: {'.'.join(map(str, first['loc'])) or 'point'}: {first['msg']}") from None
        except ValueError as problem:
            raise ValueError(f"line {number}: {problem}") from None
        if points and point.step <= points[-1]["step"]:
            raise ValueError(f"line {number}: step {point.step} comes after step {points[-1]['step']}")
        if points and point.test.keys() != points[0]["test"].keys():
            raise ValueError(f"line {number}: its test domains are not those of the first line")
        points.append(found)
    domains = record.accuracy.domains if record.accuracy else {}
    tested = points[0]["test"].keys() if points and domains else set(domains)
    if other := tested - domains.keys() | {name for name, domain in domains.items() if domain.n} - tested:
        raise ValueError(f"its test domains are not the record's: {', '.join(sorted(other))} is in one of them alone")
    return points


def error_map(content: bytes, record: Record) -> SensitivityMap:
    """A run's sensitivity map."""
    assert record.sensitivity is not None
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is no .npy file of version 1.0")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(file, max_header_size=HEADER)
    whole = len(shape) == 2 and shape[0] == shape[1] > 0 and not fortran and kind == np.dtype("<f4")
    body = content[file.tell() :]
    if not whole or len(body) != 4 * shape[0] * shape[1]:
        raise ValueError(
            f"it holds {kind} {list(shape)}{' in Fortran order' if fortran else ''} in {len(body)} bytes; a map is "
            "float32 [N,N]"
        )
    error = torch.from_numpy(np.frombuffer(body, "<f4").reshape(shape).copy())
    if not ((error >= 0) & (error <= 1 + 1e-6)).all():
        raise ValueError("it holds other numbers than error rates from 0 to 1")
    if record.sensitivity.grid and record.sensitivity.grid > len(error):
        raise ValueError(f"it is {len(error)}x{len(error)}, and the record's grid is {record.sensitivity.grid}")
    about = record.sensitivity.model_dump(exclude={"sha256", "mean_standard_error"})
    return SensitivityMap(error, seed=record.asked.seed, **about)


def same_size(maps: Sequence[SensitivityMap]) -> None:
    """Raises ValueError where maps of the same images are of several sizes."""
    sizes = sorted({len(found.error) for found in maps})
    if len(sizes) > 1:
        raise ValueError(f"maps of the same images are {' and '.join(f'{n}x{n}' for n in sizes)}")


def strips(content: bytes) -> list[np.ndarray[Any, Any]]:
    """The rows of a picture of views, uint8 [H,SHOWN*W,3] each. How many there are stands in the picture; in one from
    before that, images are square."""
    with open_image(io.BytesIO(content), formats=("PNG",)) as image:
        try:
            pixels = np.asarray(image.convert("RGB"))
        except (SyntaxError, EOFError) as problem:  # what Pillow makes of broken chunks
            raise ValueError(f"it is a damaged PNG: {problem}") from problem
        said = image.info.get("rows", "")
    height, width = pixels.shape[:2]
    rows = int(said) if said.isdecimal() else height // max(1, width // SHOWN)
    if width % SHOWN or not rows or height % rows or (not said and height * SHOWN != rows * width):
        raise ValueError(f"it is {width}x{height}, no rows of {SHOWN} images of one size")
    return np.split(pixels, rows)


def picture(rows: np.ndarray[Any, Any]) -> bytes:
    """The PNG that `strips` takes apart again. rows: uint8 [rows,H,SHOWN*W,3]."""
    buffer, about = io.BytesIO(), PngImagePlugin.PngInfo()
    about.add_text("rows", str(len(rows)))
    Image.fromarray(rows.reshape(-1, *rows.shape[2:])).save(buffer, "PNG", pnginfo=about)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as the contents of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
