"""The thirteen operations of AugMix, and the numbers by which draws and every form of a kernel know them.

This is the one list. Torch's form goes by name; Numba's and Triton's take their numbers from here.
"""

from typing import Literal, get_args

OpName = Literal[
    "autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y", "translate_x", "translate_y",
    "color", "contrast", "brightness", "sharpness",
]  # fmt: skip
OPS: tuple[str, ...] = get_args(OpName)
"""All thirteen; draws hold indices into this list."""
NINE = OPS[:9]
"""The default of the released code: without the four that overlap with the corruptions it is tested on."""

AUTOCONTRAST = OPS.index("autocontrast")
EQUALIZE = OPS.index("equalize")
POSTERIZE = OPS.index("posterize")
ROTATE = OPS.index("rotate")
SOLARIZE = OPS.index("solarize")
SHEAR_X = OPS.index("shear_x")
SHEAR_Y = OPS.index("shear_y")
TRANSLATE_X = OPS.index("translate_x")
TRANSLATE_Y = OPS.index("translate_y")
COLOR = OPS.index("color")
CONTRAST = OPS.index("contrast")
BRIGHTNESS = OPS.index("brightness")
SHARPNESS = OPS.index("sharpness")
