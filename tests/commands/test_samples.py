"""What augmentation() takes: grey images, PIL images, and samples as torchvision.transforms.v2 takes them."""

import re
from collections import namedtuple
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmark import augmentation, networks, registry
from benchmark.augment import Augmentation
from benchmark.core.errors import UsageError
from benchmark.ops.attacks.pixel import Anchor, PixelAttack, ascend_pixels
from tests import toy

METHODS = pytest.mark.parametrize("name", ["afa", "apr", "augmax", "augmix", "gud", "randconv", "sada"])
BATCH = toy.images(8, 0)
GREY = BATCH.x[:, :1]
BOX = tv_tensors.BoundingBoxes([[1, 2, 9, 9]], format="XYXY", canvas_size=(32, 32))
MASK = tv_tensors.Mask(torch.ones(32, 32, dtype=torch.uint8))
Pair = namedtuple("Pair", ["image", "target"])
Upside = namedtuple("Upside", ["target", "image"])


class OneChannel(nn.Module):
    """A network that takes one-channel images alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 4, 5, stride=3), nn.Linear(4, 4)

    def forward(self, x: Tensor, features: bool = False) -> Any:
        z = self.conv(x).relu().mean((2, 3))
        return (self.head(z), z) if features else self.head(z)


class Grey(nn.Module):
    """The same network for three equal channels."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x[:, :1])


def make(name: str, net: nn.Module | None = None, **settings: Any) -> Augmentation:
    attacks = registry.find("method", name).attacks
    fewer: dict[str, Any] = {"sada": {"num_steps": 2}, "gud": {"adv_steps": 2, "eta": 5000}}.get(name, {})
    given = {**fewer, **settings, **({"net": net or networks.build("mini_convnet", 4, 0)} if attacks else {})}
    return augmentation(name, generator=torch.Generator().manual_seed(0), **given)


def pil(x: Tensor) -> Image.Image:
    found: Image.Image = v2.functional.to_pil_image(x)
    return found


@METHODS
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_grey_images_come_back_as_grey_images(name: str, dtype: torch.dtype) -> None:
    x = GREY if dtype == torch.uint8 else GREY / 255
    out, _ = make(name, OneChannel())(x, BATCH.y)
    assert (out.shape, out.dtype) == (x.shape, dtype)
    assert (out != x).flatten(1).any(dim=1).sum() >= 6
    assert make(name, OneChannel())(x[0], 0)[0].shape == (1, 32, 32)
    assert make(name, OneChannel())(x[:0], [])[0].shape == (0, 1, 32, 32)


@pytest.mark.parametrize("name", ["augmax", "augmix"])
def test_what_is_mixed_of_grey_images_is_grey(name: str) -> None:
    """So nothing is lost when one channel is taken."""
    net = OneChannel()
    out = make(name, net)(GREY / 255, BATCH.y)[0]
    three = make(name, Grey(net))(GREY.repeat(1, 3, 1, 1) / 255, BATCH.y)[0]
    assert torch.equal(three, out.repeat(1, 3, 1, 1))


def test_gud_on_grey_images_is_gud_on_one_channel() -> None:
    net = OneChannel()
    by = PixelAttack(steps=2, eta=5000, gamma=1.0, beta=0.0, batch=32, clip=False)
    wanted = ascend_pixels(Anchor.at(net, GREY / 255, BATCH.y), GREY / 255, by)
    torch.testing.assert_close(make("gud", net)(GREY / 255, BATCH.y)[0], wanted, rtol=0, atol=1e-6)


def test_a_grey_random_convolution_has_the_contrast_of_one_channel() -> None:
    """Its weights have variance 1/k^2 over the three equal inputs together; a luma of three outputs had 0.45/k^2."""
    x = torch.full((2000, 1, 2, 2), 0.9)
    out = make("randconv", mixing=False, kernel_sizes=(1,))(x)
    weight = (2 * out[:, 0, 0, 0] - 1) / 0.8
    assert 0.95 < float(weight.std()) < 1.05


def test_an_identity_gives_back_the_same_image() -> None:
    same = make("randconv", identity_prob=1.0)
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    for x in (every, every / 255, tv_tensors.Image(every), BATCH.x):
        assert torch.equal(same(x), x)
    for image in (pil(every), pil(BATCH.x[0])):
        assert same(image).tobytes() == image.tobytes()


@METHODS
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pil_images_keep_mode_and_size_and_have_the_pixels_of_tensors(name: str, mode: str) -> None:
    x = (BATCH.x if mode == "RGB" else GREY)[0]
    net = None if mode == "RGB" else OneChannel()
    image = pil(x)
    out, label = make(name, net)(image, 1)
    assert (type(out), out.mode, out.size, label) == (Image.Image, mode, (32, 32), 1)
    assert out.tobytes() != image.tobytes()
    assert torch.equal(v2.functional.pil_to_tensor(out), make(name, net)(x, 1)[0])


@pytest.mark.parametrize(
    ("mode", "fix"),
    [("P", "image.convert('RGB')"), ("RGBA", "image.convert('RGB')"), ("CMYK", "image.convert('RGB')"),
     ("LA", "image.convert('L')"), ("La", "image.convert('LA').convert('L')"), ("1", "image.convert('L')"),
     ("I;16", "scale its values"), ("F", "scale its values")],
)  # fmt: skip
def test_other_modes_are_refused_and_the_fix_is_named(mode: str, fix: str) -> None:
    with pytest.raises(UsageError, match=rf"PIL images of mode RGB or L, not {mode}: .*{re.escape(fix)}"):
        make("augmix")(Image.new(mode, (8, 8)))


def test_an_image_without_pixels_is_named() -> None:
    with pytest.raises(UsageError, match=r"images with pixels, not \[3, 5, 0\]"):
        make("augmix")(Image.new("RGB", (0, 5)))


def test_the_fix_works() -> None:
    x = pil(BATCH.x[0])
    for mode, wanted in {"P": "RGB", "RGBA": "RGB", "LA": "L"}.items():
        assert make("augmix")(x.convert(mode).convert(wanted)).mode == wanted


T, TV, P = BATCH.x[0], tv_tensors.Image(BATCH.x[1]), pil(BATCH.x[2])
SAMPLES: list[Any] = [
    T, TV, P, (T, 3), [TV, 3], {"image": P, "label": 3, "name": "a"}, (T, BATCH.y[0], BATCH.x[1]),
    {"image": T, "other": BATCH.x[1]}, {"number": torch.rand(3, 4, 4), "image": TV},
    (torch.rand(3, 4, 4), {"deep": [P]}), {"a": {"b": (TV, None)}, "c": [P, "text", 1.5]}, Pair(T, 3),
    Pair(P, {"labels": torch.tensor([1, 2]), "scores": [0.5]}),
    (TV, torch.rand(3, 8, 8), BATCH.x[3]),
]  # fmt: skip


def raw(leaf: Any) -> bytes:
    return leaf.tobytes() if isinstance(leaf, Image.Image) else leaf.numpy().tobytes()


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_images_of_a_sample_are_those_that_torchvision_transforms(sample: Any) -> None:
    """v2.RandomInvert is the oracle: what it changes changes here, and nothing else does."""
    before, _ = tree_flatten(sample)
    inverted, _ = tree_flatten(v2.RandomInvert(p=1.0)(sample))
    out, structure = tree_flatten(make("randconv")(sample))
    assert structure == tree_flatten(sample)[1]
    for leaf, theirs, ours in zip(before, inverted, out, strict=True):
        assert type(ours) is type(theirs)
        if theirs is leaf:
            assert ours is leaf
        else:
            assert raw(ours) != raw(leaf)


def test_explicit_samples_of_more_arguments_are_those_of_torchvision() -> None:
    out, target = make("randconv")(T, {"image": TV, "label": 3})  # the plain tensor is none beside an explicit image
    assert out is T
    assert not torch.equal(target["image"], TV)
    image, boxes, label = v2.Compose([v2.ToImage(), make("randconv")])(P, BOX, 3)
    assert (type(image), boxes, label) == (tv_tensors.Image, BOX, 3)


def test_images_of_a_sample_have_the_same_draws_and_those_of_a_batch_their_own() -> None:
    aug = make("augmix", severity=10)
    out = aug({"left": tv_tensors.Image(BATCH.x), "right": tv_tensors.Image(BATCH.x), "small": pil(BATCH.x[0])})
    assert torch.equal(out["left"], out["right"])
    assert torch.equal(v2.functional.pil_to_tensor(out["small"]), make("augmix", severity=10)(BATCH.x[0]))
    assert not torch.equal(aug(BATCH.x), out["left"])


X, Y = BATCH.x, BATCH.y


@pytest.mark.parametrize("sample", [
    {"image": X, "label": Y}, {"image": X, "Labels": Y, "id": 3}, {"pixels": X, "target": Y.tolist()}, (X, Y), [X, Y],
    (X, Y, "name"), (X, {"labels": Y, "scores": 0.5}), Pair(X, Y), Upside(Y, tv_tensors.Image(X)),
])  # fmt: skip
def test_an_attack_finds_the_labels_of_a_sample(sample: Any) -> None:
    wanted = make("augmax")(X, Y)[0]
    leaves, _ = tree_flatten(make("augmax")(sample))
    (out,) = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim == 4]
    assert torch.equal(out, wanted)
    wrong = make("augmax")(X, (Y + 1) % 4)[0]
    assert not torch.equal(out, wrong)


def test_an_attack_takes_labels_of_an_argument_beside_a_sample() -> None:
    out, target = make("augmax")(X, {"labels": Y, "boxes": [1]})
    assert torch.equal(out, make("augmax")(X, Y)[0])
    assert target == {"labels": Y, "boxes": [1]}
    out, y = make("augmax")({"image": X, "id": 7}, Y)
    assert (out["id"], y is Y) == (7, True)


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"image": X, "klass": Y}, "under one of the keys label, labels, target, and there is none among 'image', 'kl"),
        ({"image": X, "label": Y, "target": Y}, "and there is 'label', 'target'; or call it as aug(x, y)"),
        ((X, {}), "none among no keys"),
        ([X], "call it as aug(x, y), aug((x, y)) or aug({'image': x, 'label': y})"),
        ({"image": X, "label": "cat"}, "labels must be int64 [8], not str"),
        ({"label": Y, "image": X}, "the first is the image, unless another is a tv_tensors.Image"),
        ({"label": 3, "path": "a"}, "in a dict, list or tuple, not int, str"),
        ({"image": np.zeros((8, 8, 3))}, "not ndarray; put v2.ToImage() before it"),
        ({}, "not nothing"),
    ],
)
def test_a_sample_that_cannot_be_attacked_is_named(sample: Any, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        make("augmax")(sample)


def test_a_network_for_three_channels_says_what_to_do_with_grey_images() -> None:
    with pytest.raises(UsageError, match=r"with one channel, and raises: .*3 channels.*images\.repeat\(1, 3, 1, 1\)"):
        make("sada", nn.Sequential(nn.Conv2d(3, 4, 32), nn.Flatten()))(GREY, BATCH.y)
    assert make("sada", networks.build("mini_convnet", 4, 0))(GREY, BATCH.y)[0].shape == GREY.shape  # it broadcasts


@pytest.mark.parametrize("beside", [BOX, MASK, tv_tensors.KeyPoints([[1, 2]], canvas_size=(32, 32))])
def test_boxes_and_masks_pass_where_no_pixel_moves_and_are_refused_elsewhere(beside: Tensor) -> None:
    sample = {"image": TV, "where": beside, "label": 1}
    still = [make("randconv"), make("gud"), make("afa"), make("sada", base="clean")]
    for aug in (*still, make("augmix", ops=("solarize", "color"))):
        out = aug(sample)
        assert out["where"] is beside
        assert not torch.equal(out["image"], TV)
    kind = type(beside).__name__
    for aug in (make("augmix"), make("augmax"), make("sada"), make("apr")):
        with pytest.raises(UsageError, match=rf"moves pixels \(rotate, shear_x.*so the {kind} beside the image would"):
            aug(sample)
    with pytest.raises(UsageError, match=r"ops=\('autocontrast', 'equalize', 'posterize', 'solarize'\)\) moves none"):
        make("augmix")(sample)
    with pytest.raises(UsageError, match=r"augmentation\('own'\) may move pixels"):
        Augmentation("own", registry.make("method", "pro_randconv", {}), None, None)(sample)
    with pytest.raises(UsageError, match=r"e\.g\. randconv$"):  # nothing is left of these operations
        make("augmix", ops=("rotate",))(sample)
    assert make("augmix").eval()(sample) is sample


class Pictures:
    """A dataset as torchvision's are: PIL images with labels, or dictionaries of them."""

    def __init__(self, transform: Any = None) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Any:
        sample = {"image": pil(BATCH.x[i]), "label": int(BATCH.y[i])}
        return self.transform(sample) if self.transform else (BATCH.x[i], int(BATCH.y[i]))


def collated(aug: Augmentation, batch: Any) -> Any:
    return aug(default_collate(batch))


def test_it_works_in_the_workers_of_a_loader() -> None:
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    pipeline = v2.Compose([make("augmix", severity=9), *last])
    seen = list(DataLoader(Pictures(pipeline), batch_size=4, num_workers=2))  # type: ignore[arg-type]
    assert torch.equal(torch.cat([batch["label"] for batch in seen]), BATCH.y)
    for batch, first in zip(seen, (0, 4), strict=True):  # each worker has a copy of the pipeline and its generator
        alone = Pictures(v2.Compose([make("augmix", severity=9), *last]))
        assert torch.equal(batch["image"], torch.stack([alone[i]["image"] for i in range(first, first + 4)]))
        assert not torch.equal(batch["image"], BATCH.unit()[first : first + 4])


@pytest.mark.parametrize("name", ["randconv", "augmax"])
def test_it_works_as_part_of_a_collate_function(name: str) -> None:
    loader: Any = DataLoader(Pictures(), batch_size=8, collate_fn=partial(collated, make(name)))  # type: ignore[arg-type]
    ((images, labels),) = loader
    assert torch.equal(labels, BATCH.y)
    assert torch.equal(images, make(name)(BATCH.x, BATCH.y)[0])


def test_torch_compile_leaves_samples_as_they_are() -> None:
    torch._dynamo.reset()
    compiled: Any = torch.compile(make("augmix"), backend="eager")
    assert torch.equal(compiled({"image": TV, "label": 3})["image"], make("augmix")(TV))
    torch._dynamo.reset()
