"""docs/datasets/pacs_inputs.py: what it makes is what the published runs read."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from docs.datasets import pacs_inputs


def test_the_weights_are_those_of_the_published_runs_to_the_byte(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A .pth file of other names and with transposed tensors, as the package has it, gives the published file."""
    file = data_dir / "tf_efficientnet_lite0.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}")
    published = load_file(file)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    given = {f"_{i}.weight": published[name] for i, name in enumerate(names)}
    given["_0.weight"] = given["_0.weight"].contiguous(memory_format=torch.channels_last)
    torch.save(given, tmp_path / "a.pth")
    assert (
        pacs_inputs.main(["weights", "--pth", str(tmp_path / "a.pth"), "--out", str(tmp_path / "a.safetensors")]) == 0
    )
    assert "a.safetensors: the weights that the published runs start from" in capsys.readouterr().out
    assert (tmp_path / "a.safetensors").read_bytes() == file.read_bytes()


def test_images_become_jpegs_of_112_pixels_as_the_published_copys(data_dir: Path, tmp_path: Path) -> None:
    """They keep names and folders, the lists are copied, and the encoder's settings are those of the published copy."""
    archive = data_dir / "pacs112.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    source = tmp_path / "PACS"
    (source / "images" / "photo" / "dog").mkdir(parents=True)
    (source / "splits").mkdir()
    (source / "splits" / "photo_train_kfold.txt").write_text("photo/dog/a.png 1\n")
    pixels = np.random.default_rng(0).integers(0, 256, (227, 227, 3), np.uint8)
    Image.fromarray(pixels).save(source / "images" / "photo" / "dog" / "a.png")
    assert pacs_inputs.main(["images", "--pacs", str(source), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "splits" / "photo_train_kfold.txt").read_text() == "photo/dog/a.png 1\n"
    with Image.open(tmp_path / "out" / "images" / "photo" / "dog" / "a.png") as made:
        assert (made.format, made.size, made.mode) == ("JPEG", (112, 112), "RGB")
        with tarfile.open(archive) as published:
            member = next(each for each in published if each.name.endswith(".jpg"))
            with Image.open(io.BytesIO(published.extractfile(member).read())) as other:  # type: ignore[union-attr]
                assert (made.quantization, made.layer) == (other.quantization, other.layer)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("images", "--pacs", "nothing", "--out", "out"), "there are no images under it"),
        (("weights", "--pth", "nothing.pth", "--out", "out.safetensors"), "not a file of weights"),
    ],
)
def test_what_is_not_there_is_named(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pacs_inputs.main(words) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {words[1]} {words[2]}: ")
    assert said in text


def test_an_empty_file_of_weights_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.pth").touch()
    assert pacs_inputs.main(["weights", "--pth", str(tmp_path / "empty.pth"), "--out", "out.safetensors"]) == 2
    assert "empty.pth: not a file of weights" in capsys.readouterr().err
