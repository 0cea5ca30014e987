"""What benchmark.augmentation takes: the images and the labels of a sample, and how an image becomes a batch and back.

Which parts of a sample are images is the rule of torchvision's v2 transforms: every PIL image, tv_tensors.Image and
Video, or, where there is none, the first plain tensor. All else passes through.
"""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError

LABEL_KEYS = ("label", "labels", "target")
"""Where a dictionary may hold its labels; upper or lower case."""
ROUNDING = 1e-4
"""How far a resampling may leave [0,1] by rounding; it is put back there."""
GREY_MODES = ("1", "LA", "La")
"""PIL's modes without colour that are no plain grey."""


def images(leaves: list[Any], name: str) -> list[int]:
    """Which of a sample's leaves are images. Raises UsageError where none is."""
    explicit = (tv_tensors.Image, tv_tensors.Video, Image.Image)
    found = [place for place, leaf in enumerate(leaves) if isinstance(leaf, explicit)]
    found = found or [place for place, leaf in enumerate(leaves) if _plain(leaf)][:1]
    if not found:
        kinds = ", ".join(dict.fromkeys(type(leaf).__name__ for leaf in leaves)) or "nothing"
        raise UsageError(
            f"augmentation('{name}') takes tensors and PIL images, alone or in a dict, list or tuple, not {kinds}; "
            "put v2.ToImage() before it"
        )
    return found


def located(leaf: Any) -> bool:
    """Whether a leaf says where something is in an image, and so becomes wrong where pixels move."""
    return isinstance(leaf, tv_tensors.BoundingBoxes | tv_tensors.Mask | tv_tensors.KeyPoints)


def batch(x: Any, name: str) -> Tensor:
    """An image, or a batch of them, as a plain float32 tensor [B,3,H,W] in units of 1; a grey one has three times the
    same channel. Raises UsageError."""
    if isinstance(x, Image.Image):
        return batch(_pixels(x, name), name)
    good = x.dtype == torch.uint8 or x.is_floating_point()
    if not good or x.ndim not in (3, 4) or x.shape[-3] not in (1, 3):
        raise UsageError(
            f"augmentation('{name}') takes uint8 or float images [B,C,H,W] or [C,H,W] with C of 3 or 1, not {x.dtype} "
            f"{list(x.shape)}; in a sample of several plain tensors the first is the image, unless another is a "
            "tv_tensors.Image"
        )
    if not x.shape[-1] * x.shape[-2]:
        raise UsageError(f"augmentation('{name}') takes images with pixels, not {list(x.shape)}")
    plain: Tensor = x.as_subclass(Tensor)
    plain = plain.clone() if plain.is_inference() else plain  # of one that knows gradients
    plain = (plain if x.ndim == 4 else plain[None]).float()
    plain = plain.repeat(1, 3, 1, 1) if grey(x) else plain
    if x.dtype == torch.uint8:
        return plain / 255
    clamped = plain.clamp(0, 1)
    near = (plain - clamped).abs() <= ROUNDING
    if on_gpu(x):  # the host would have to wait for an answer
        return torch.where(near, clamped, plain)
    if not near.all():
        raise UsageError(f"augmentation('{name}') takes float images in [0,1]; normalise after it, not before")
    return clamped


def like(view: Tensor, x: Any) -> Any:
    """A view float32 [B,3,H,W] as what `batch` was made of: its class, shape, type and mode. A grey image takes the
    first channel. Bytes are rounded and clamped."""
    view = view[:, :1] if grey(x) else view
    if isinstance(x, Image.Image):
        return F.to_pil_image(_bytes(view[0]), mode=x.mode)
    out = (_bytes(view) if x.dtype == torch.uint8 else view).to(x.dtype).reshape(x.shape)
    return tv_tensors.wrap(out, like=x) if isinstance(x, tv_tensors.TVTensor) else out


def grey(x: Any) -> bool:
    """Whether an image has one channel."""
    return bool(x.mode == "L" if isinstance(x, Image.Image) else x.shape[-3] == 1)


def labels(x: Any, y: Any, name: str) -> Any:
    """The labels of a sample, unchecked: y, or a dictionary's entry (LABEL_KEYS), or the second part of a pair, which
    may itself be a dictionary. Raises UsageError where there are none, or several."""
    found = y
    if found is None and isinstance(x, Mapping):
        found = x
    elif found is None and isinstance(x, list | tuple) and len(x) > 1:
        fields = x._asdict() if hasattr(x, "_asdict") else {}
        found = fields if _keys(fields) else x[1]
    if not isinstance(found, Mapping):
        if found is None:
            raise UsageError(
                f"augmentation('{name}') attacks a network and needs the labels: call it as aug(x, y), aug((x, y)) or "
                f"aug({{'image': x, 'label': y}})"
            )
        return found
    keys = _keys(found)
    if len(keys) != 1:
        have = ", ".join(map(repr, keys)) or f"none among {', '.join(map(repr, found)) or 'no keys'}"
        raise UsageError(
            f"augmentation('{name}') attacks a network and needs the labels under one of the keys "
            f"{', '.join(LABEL_KEYS)}, and there is {have}; or call it as aug(x, y)"
        )
    return found[keys[0]]


def checked_labels(y: Any, count: int, name: str) -> tuple[Tensor, int | None]:
    """Labels as int64 [count], and the largest of them where no GPU has to be waited for. Raises UsageError."""
    try:
        found = torch.as_tensor(y).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise UsageError(f"labels must be int64 [{count}], not {type(y).__name__} ({problem})") from problem
    found = found.long() if not found.numel() and not count else found  # an empty list has no type
    if found.dtype != torch.int64 or len(found) != count:
        raise UsageError(f"labels must be int64 [{count}], not {found.dtype} {list(found.shape)}")
    found = found.clone() if found.is_inference() else found
    if on_gpu(found) or not count:
        return found, None
    if int(found.min()) < 0:
        raise UsageError(f"augmentation('{name}'): label {int(found.min())} is not a class; classes count from 0")
    return found, int(found.max())


class FirstChannel(nn.Module):
    """A network for one-channel images under an attack on three: it sees the first channel, which is what comes back.

    So the attack is the one that the method would make of one channel.
    """

    def __init__(self, name: str, net: nn.Module):
        super().__init__()
        self.name, self.net = name, net

    def forward(self, x: Tensor, **asked: Any) -> Any:
        try:
            return self.net(x[:, :1], **asked)
        except RuntimeError as problem:
            if "channels" not in str(problem):
                raise
            raise UsageError(
                f"augmentation('{self.name}', net=net): the network is given images as they come, with one channel, "
                f"and raises: {problem}. If it takes three, repeat the channel before: images.repeat(1, 3, 1, 1)"
            ) from problem


def _plain(leaf: Any) -> bool:
    """A tensor of no class of torchvision's; a subclass of the user's own is plain, too."""
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


def _keys(fields: Mapping[Any, Any]) -> list[Any]:
    return [key for key in fields if isinstance(key, str) and key.lower() in LABEL_KEYS]


def _bytes(view: Tensor) -> Tensor:
    return (view.clamp(0, 1) * 255).round().to(torch.uint8)


def _pixels(image: Image.Image, name: str) -> Tensor:
    """uint8 [C,H,W]. Raises UsageError for a mode that has to be converted first."""
    if image.mode in ("RGB", "L"):
        pixels: Tensor = F.pil_to_tensor(image)
        return pixels
    way = "convert('L')" if image.mode in GREY_MODES else "convert('RGB')"
    way = "convert('LA').convert('L')" if image.mode == "La" else way  # Pillow has no shorter one
    fix = f"convert it before, image.{way}"
    if image.mode[0] in "IF":
        fix = "scale its values to 0..255 before and convert it to L; convert('L') alone cuts them"
    raise UsageError(f"augmentation('{name}') takes PIL images of mode RGB or L, not {image.mode}: {fix}")
