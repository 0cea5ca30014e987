"""What is said of a map: summaries, correlations, pictures, comparison with the published one."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from torch import nn

from benchmark import compare_map, networks
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.report.figures import palette, sensitivity_maps
from benchmark.sensitivity import fourier
from benchmark.sensitivity import map as sensitivity
from benchmark.sensitivity.map import SensitivityMap, summaries, view31
from benchmark.sensitivity.wave_errors import Released
from tests.sensitivity.map_cases import disc


def test_summaries_of_a_low_pass_disc() -> None:
    found = summaries(disc(32, 16 / 3, 0.9, 0.1))
    inside = float((fourier.radius(32) <= 16 / 3).sum()) / 32**2
    assert found["clean_error"] == 0.1
    assert found["low"] == pytest.approx(0.9)
    assert found["mid"] == pytest.approx(0.1)
    assert found["high"] == pytest.approx(0.1)
    assert found["mean"] == pytest.approx(0.1 + 0.8 * inside)
    assert found["area_above_clean_error"] == pytest.approx(0.8 * inside)
    assert 4.5 < found["half_maximum_radius"] < 6


def test_bands_split_the_plane_at_thirds_of_nyquist_and_their_areas_add_up() -> None:
    r = fourier.radius(24)
    band = torch.where(r <= 4, 0.2, torch.where(r <= 8, 0.4, 0.6))
    found = summaries(SensitivityMap(band, 0.3, 10, 6.0, 0))
    assert [found[name] for name in ("low", "mid", "high")] == pytest.approx([0.2, 0.4, 0.6])
    assert found["mean"] == pytest.approx(float(band.mean()))
    above = (0.1 * (band == 0.4)).sum() + (0.3 * (band == 0.6)).sum()
    assert found["area_above_clean_error"] == pytest.approx(float(above) / 24**2)


@pytest.mark.parametrize(
    ("profile", "clean", "expected"),
    [
        ([0.9, 0.9, 0.5, 0.1, 0.1], 0.1, 2.0),  # half is 0.5, reached at 2
        ([0.9, 0.7, 0.3, 0.1], 0.1, 1.5),  # crossed between 1 and 2
        ([0.1, 0.5, 0.9, 0.4, 0.1], 0.1, 2.8),  # beyond the maximum, not before it
        ([0.2, 0.2, 0.2], 0.2, 0.0),  # nothing above the clean error
        ([0.5, 0.6, 0.7], 0.1, 2.0),  # never falls: the last ring
    ],
)
def test_half_maximum_radius(profile: list[float], clean: float, expected: float) -> None:
    n = 2 * (len(profile) - 1)
    rings = torch.tensor([*profile, *[profile[-1]] * n])
    error = rings[fourier.radius(n).round().long()]
    torch.testing.assert_close(fourier.radial_profile(error), torch.tensor(profile, dtype=torch.float64))
    found = summaries(SensitivityMap(error, clean, 10, 1.0, 0))
    assert found["half_maximum_radius"] == pytest.approx(expected, abs=1e-6)


# --- band against target


def tidy(slope: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four methods, two seeds: target error rises with the low band by `slope`, and the high band never varies."""
    seen, reached = [], []
    for m, method in enumerate("abcd"):
        for seed in (0, 1):
            run = f"{method}{seed}"
            low = 0.1 * m + 0.001 * seed
            seen += [
                {"run_id": run, "band": "low", "error_rate": low},
                {"run_id": run, "band": "high", "error_rate": 0.5},
            ]
            where = {"dataset": "d", "protocol": "common", "source": "s", "target": "t"}
            reached.append({"run_id": run, **where, "method": method, "accuracy": 90 - slope * low})
    return pd.DataFrame(seen), pd.DataFrame(reached)


@pytest.mark.parametrize(("over", "n"), [("methods", 4), ("runs", 8)])
def test_correlation_of_bands_with_target_error(over: Any, n: int) -> None:
    for slope in (50.0, -50.0):
        found = sensitivity.band_target_correlation(*tidy(slope), over=over)
        low, high = (found[found["band"] == band].iloc[0] for band in ("low", "high"))
        assert low["n"] == high["n"] == n
        assert low["pearson"] == pytest.approx(np.sign(slope))
        assert low["spearman"] == pytest.approx(np.sign(slope))
        assert low["pearson_p"] < 1e-6
        assert high[["pearson", "pearson_p", "spearman", "spearman_p"]].isna().all()


def test_correlation_needs_three_points() -> None:
    seen, reached = tidy(50.0)
    few = sensitivity.band_target_correlation(seen, reached[reached["method"].isin(["a", "b"])])
    assert (few["n"] == 2).all()
    assert few["pearson"].isna().all()


# --- pictures


def pictured(seed: int, cut: float = 6.0) -> SensitivityMap:
    clean, radius = 0.05, fourier.radius(16)
    return SensitivityMap(clean + 0.8 * torch.sigmoid(cut - radius + 0.1 * seed), clean, 64, 4.0, seed)


ROWS = {
    "erm": [pictured(0)],
    "sada[num_steps=3,early_stop=per_sample]": [pictured(s, cut=4.0) for s in range(3)],
}  # fmt: skip


def test_pictures_are_written_and_the_same_when_drawn_again(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        drawn = sensitivity_maps.heat_maps(ROWS, folder)
        drawn.append(sensitivity_maps.small_multiples(ROWS, folder / "all"))
        drawn.append(sensitivity_maps.radial_profiles(ROWS, folder / "tau=0.5"))
        assert [path.name for path in drawn] == [
            "sensitivity_erm.png", "sensitivity_sada_num_steps=3_early_stop=per_sample.png", "all.png", "tau=0.5.png",
        ]  # fmt: skip
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8
    assert all(len(content) > 5000 for content in contents[0].values())


@pytest.mark.parametrize("count", [1, 2, 7])
def test_nothing_of_many_maps_is_cut_off(tmp_path: Path, count: int) -> None:
    rows = {f"method_{i}[early_stop=per_sample]": [pictured(0)] for i in range(count)}
    shown = np.asarray(Image.open(sensitivity_maps.small_multiples(rows, tmp_path / "all")).convert("L"))
    assert min(edge.min() for edge in (shown[:3], shown[-3:], shown[:, :3], shown[:, -3:])) == 255


def test_pictures_share_one_scale_and_refuse_maps_of_different_kinds() -> None:
    assert sensitivity_maps._scale(ROWS) == 90
    assert sensitivity_maps._scale({"flat": [replace(pictured(0), error=torch.zeros(16, 16))]}) == 10
    bads: list[sensitivity_maps.Rows] = [{}, {"erm": []}, {"erm": [pictured(0), replace(pictured(0), radius=8.0)]}]
    for bad in bads:
        with pytest.raises(ValueError, match="one size and radius"):
            sensitivity_maps._scale(bad)


def test_the_picture_of_each_row_has_the_scale_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Figure] = []
    monkeypatch.setattr(palette, "save", lambda figure, path: found.append(figure))
    robust = replace(pictured(0), error=pictured(0).error / 4)
    sensitivity_maps.heat_maps({"erm": [pictured(0)], "robust": [robust]}, Path())
    assert [figure.axes[0].images[0].get_clim() for figure in found] == [(0, 90)] * 2


def test_the_error_of_a_wave_stands_at_its_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vertical one downwards, as the rows of an image; colours begin at no error."""
    found: list[Figure] = []
    monkeypatch.setattr(palette, "save", lambda figure, path: found.append(figure))
    error = torch.full((16, 16), 0.1)
    error[3, 1] = error[-3, -1] = 0.4
    sensitivity_maps.small_multiples({"erm": [replace(pictured(0), error=error)]}, Path())
    image = found[0].axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    shown = np.asarray(image.get_array())
    assert (shown.min(), shown.max()) == pytest.approx((10, 40))
    assert image.get_clim() == (0, 40)
    places = {
        (left + (column + 0.5) * (right - left) / 17, top + (row + 0.5) * (bottom - top) / 17)
        for row, column in np.argwhere(shown == shown.max())
    }
    assert places == {(1, 3), (-1, -3)}


def test_profiles_are_means_over_seeds_with_a_band_of_one_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Figure] = []
    monkeypatch.setattr(palette, "save", lambda figure, path: found.append(figure))
    flat = [replace(pictured(seed), error=torch.full((16, 16), rate)) for seed, rate in enumerate((0.1, 0.2, 0.3))]
    sensitivity_maps.radial_profiles({"erm": flat}, Path())
    (axes,) = found[0].axes
    assert np.asarray(axes.lines[0].get_xydata()) == pytest.approx(np.array([[radius, 20] for radius in range(9)]))
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert (band.min(), band.max()) == pytest.approx((10, 30))


def test_pictures_say_how_their_maps_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Figure] = []
    monkeypatch.setattr(palette, "save", lambda figure, path: found.append(figure))
    made = [replace(pictured(seed), n_images=64 + seed, clean_error=0.05 + 0.1 * seed) for seed in range(2)]
    sensitivity_maps.small_multiples({"erm": made, "sada": made[:1]}, Path())
    assert [axes.get_title() for axes in found[0].axes[:2]] == ["erm\nclean error 10.0 %", "sada\nclean error 5.0 %"]
    assert " ".join(found[0].texts[-1].get_text().split()) == (
        "Error when one wave of L2 norm 4 per channel (root mean square 0.25) is added to the pixels, which lie in "
        "[0,1]. Images: 64 to 65. Mean over seeds, n = 1 to 2."
    )
    cut = " ".join(sensitivity_maps._caption({"erm": [replace(made[0], clamp=True, grid=8)]}).split())
    assert "in [0,1], and the sum is cut to [0,1]. Measured at 8×8 frequencies, interpolated. Images: 64. " in cut
    assert cut.endswith("n = 1.")


# --- the comparison with the published map


def test_the_comparison_trains_by_the_released_recipe_and_keeps_the_first_of_the_best_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator, build = torch.Generator().manual_seed(0), networks.build
    grey = torch.randint(1, 256, (260, 28, 28), generator=generator, dtype=torch.uint8), torch.zeros(260).long()
    rates, tested, scores = [], [], iter([10.0, 30.0, 30.0, 20.0])

    class Watched(torch.optim.SGD):
        def step(self, *_: Any) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step()

    def accuracy(net: nn.Module, images: Images) -> float:
        tested.append((images.x, {name: value.clone() for name, value in net.state_dict().items()}))
        return next(scores)

    monkeypatch.setattr(compare_map, "grey", lambda data_dir, train: grey)
    monkeypatch.setattr(networks, "build", lambda name, *of: build("mini_convnet", *of))
    monkeypatch.setattr(torch.optim, "SGD", Watched)
    monkeypatch.setattr(compare_map, "accuracy", accuracy)
    net, found = compare_map.train(Path(), 4, 0, torch.device("cpu"), Console(quiet=True))
    assert found == [10.0, 30.0, 30.0, 20.0]
    assert rates == pytest.approx([0.01, 0.005 * (1 + 0.5**0.5), 0.005, 0.005 * (1 - 0.5**0.5)])  # of one batch each
    assert all(torch.equal(value, tested[1][1][name]) for name, value in net.state_dict().items())
    assert torch.equal(tested[0][0][:, :1, 2:-2, 2:-2], grey[0][:, None])  # padded, not resized
    assert not tested[0][0][:, :, :2].any()


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A folder of the published map, and no training: what the maps are asked for, each a ramp up to 10 % without a
    factor and up to 30 % with one."""
    asked: list[dict[str, Any]] = []
    ramp = torch.linspace(0, 1, 31 * 31).view(31, 31)

    def reference(net: nn.Module, images: Images, **given: Any) -> Released:
        asked.append(given)
        return Released(torch.empty(0), ramp * (10 if given["r_factor"] is None else 30))

    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(256, (128, 28, 28), generator=generator, dtype=torch.uint8), torch.zeros(128).long()
    monkeypatch.setattr(compare_map, "grey", lambda data_dir, train: grey)
    monkeypatch.setattr(compare_map, "train", lambda *_: (networks.build("mini_convnet", 10, 0), [50.0]))
    monkeypatch.setattr(compare_map, "reference", reference)
    monkeypatch.setattr(compare_map, "side_by_side", lambda maps, path: path)
    np.save(tmp_path / "sada_sample_map.npy", ramp.numpy())
    return asked


def test_the_map_as_called_has_waves_of_one_norm_and_both_have_the_seed(
    untrained: list[dict[str, Any]], tmp_path: Path
) -> None:
    words = ["--data-dir", str(tmp_path), "--images", "128", "--seed", "7", "--out", str(tmp_path / "out")]
    assert compare_map.main(words) == 0
    assert [given.get("seed") for given in untrained] == [7, 7]
    found = json.loads((tmp_path / "out" / "record.json").read_text())["statistics"]
    assert (found["as called"]["max"], found["enhanced"]["max"]) == pytest.approx((0.1, 0.3))
    assert np.load(tmp_path / "out" / "maps.npy").max(axis=(1, 2)).tolist() == pytest.approx([0.1, 0.3])


@pytest.mark.usefixtures("untrained")
def test_the_clean_accuracy_is_of_the_images_of_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey, accuracy = (torch.zeros(200, 28, 28, dtype=torch.uint8), torch.zeros(200).long()), Mock(return_value=50.0)
    monkeypatch.setattr(compare_map, "grey", lambda data_dir, train: grey)
    monkeypatch.setattr(compare_map, "accuracy", accuracy)
    assert compare_map.main(["--data-dir", str(tmp_path), "--images", "150"]) == 0
    assert len(accuracy.call_args.args[1]) == 128  # a batch; the others fill none


def test_a_folder_that_takes_no_files_is_found_before_the_training(
    untrained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "out")
    monkeypatch.setattr(compare_map, "prove_writable", Mock(side_effect=full))
    words = ["--data-dir", str(tmp_path), "--images", "128", "--out", str(tmp_path / "out")]
    assert compare_map.main(words) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert untrained == []


@pytest.mark.parametrize("damage", ["archive", "header"])
def test_a_file_that_is_no_map_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "sada_sample_map.npy"
    if damage == "archive":
        np.savez(path.with_suffix(".npz"), np.zeros((31, 31), np.float32))
        path.with_suffix(".npz").rename(path)
    else:
        np.save(path, np.zeros((31, 31), np.float32))
        path.write_bytes(path.read_bytes().replace(b"(31, 31)", b"(31, 31 "))
    with pytest.raises(UsageError, match="is not the published map"):
        compare_map.published_map(path)


def test_a_map_may_have_any_type_of_floats(tmp_path: Path) -> None:
    for dtype in (np.float32, ">f4", np.float64, np.longdouble):
        np.save(tmp_path / "map.npy", np.full((31, 31), 0.5, dtype))
        assert compare_map.published_map(tmp_path / "map.npy").eq(0.5).all()


def test_comparison_of_maps_states_their_differences() -> None:
    published = view31(disc(32, 6, 0.9, 0.01).error)
    table = compare_map.compare(published, {"same": published, "darker": published - 0.005})
    assert [*table.columns] == ["published", "same", "same - published", "darker", "darker - published"]
    assert [*table.index] == [
        "mean", "min", "max", "centre", *(f"radius {r}" for r in range(16)),
        "mean |difference|", "max |difference|", "correlation",
    ]  # fmt: skip
    assert table["same"].equals(table["published"])
    assert table.loc["radius 0":"radius 3", "published"].tolist() == pytest.approx([0.9] * 4)
    assert table["darker - published"][:20].tolist() == pytest.approx([-0.005] * 20, abs=1e-6)
    assert table["darker"][20:].tolist() == pytest.approx([0.005, 0.005, 1.0], abs=1e-6)


def test_comparison_noise_is_within_a_few_grey_levels() -> None:
    x = torch.full((200, 1, 32, 32), 100, dtype=torch.uint8)
    out = compare_map.noisy(x, torch.Generator().manual_seed(0))
    assert out.dtype == torch.uint8
    spread = out.float().flatten(1).std(dim=1)
    assert spread.max() < 2.75
    assert 1.0 < spread.mean() < 1.6, "uniform over [0, 2.55], and rounded"
    black = compare_map.noisy(torch.zeros_like(x), torch.Generator().manual_seed(0))
    assert black.max() < 20, "cut at zero, not wrapped around"


def test_comparison_reads_and_resizes_mnist(data_dir: Path) -> None:
    x, y = compare_map.grey(data_dir, train=False)
    assert (x.shape, y.dtype) == ((10_000, 28, 28), torch.int64)
    assert y[:4].tolist() == [7, 2, 1, 0]
    large = compare_map.resized(x[:3])
    assert large.shape == (3, 1, 32, 32)
    torch.testing.assert_close(large.float().mean(), x[:3].float().mean(), rtol=0.02, atol=0)


def test_comparison_names_the_file_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    assert f"{tmp_path / 'sada_sample_map.npy'} is missing" in capsys.readouterr().err
    np.save(tmp_path / "sada_sample_map.npy", np.zeros((31, 31)))
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    assert "fetch digits" in capsys.readouterr().err
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"hi")
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    assert "train-images-idx3-ubyte cannot be read: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"hi\n", np.zeros((32, 32)), np.zeros((31, 31), int), np.full((31, 31), 2.0), np.full((31, 31), -0.1)],
)
def test_comparison_reads_the_published_map_before_it_trains(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_map, "train", lambda *_: pytest.fail("it trains"))
    path = tmp_path / "sada_sample_map.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    assert compare_map.main(["--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{path} is not the published map, floats [31,31] in [0,1], frequency zero in the centre: it " in said
    assert ("from 2.0 to 2.0" in said) == (np.max(content) == 2 if isinstance(content, np.ndarray) else False)


def test_comparison_makes_its_folder_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_map, "train", lambda *_: pytest.fail("it trains"))
    np.save(tmp_path / "sada_sample_map.npy", np.zeros((31, 31)))
    (tmp_path / "file").touch()
    assert compare_map.main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "error: --out " in capsys.readouterr().err


def test_points_of_a_correlation_are_means_of_methods_and_r_is_not_rho() -> None:
    """x: 1, 2, 4 and 16, as means of two seeds that differ; y rises with x, not on a line: rho is 1, r is not."""
    rates = {"a": (0.0, 0.02), "b": (0.03, 0.01), "c": (0.0, 0.08), "d": (0.3, 0.02)}
    errors = {"a": 10.0, "b": 11.0, "c": 30.0, "d": 31.0}
    place = {"dataset": "d", "protocol": "p", "source": "s"}
    runs = [(name, seed, f"{name}{seed}") for name in rates for seed in (0, 1)]
    bands = pd.DataFrame([{"run_id": r, "band": "low", "error_rate": rates[name][seed]} for name, seed, r in runs])
    scored = pd.DataFrame(
        [place | {"run_id": r, "target": "t", "method": name, "accuracy": 100 - errors[name]} for name, _, r in runs]
    )
    (found,) = sensitivity.band_target_correlation(bands, scored).to_dict("records")
    x, y = [0.01, 0.02, 0.04, 0.16], [10.0, 11.0, 30.0, 31.0]
    assert found["n"] == 4
    assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] < 0.9
