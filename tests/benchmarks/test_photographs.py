"""``python -m benchmarks.photographs`` on made-up pictures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.photographs import __main__ as command
from benchmarks.photographs import spectra
from benchmarks.photographs.crops import (
    EDGE,
    IN_PACKAGES,
    packaged_photographs,
    photographs_of,
    write_crops,
)
from benchmarks.photographs.training import train_and_show
from pmae.data.registry import load_data
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec


def paint(path: Path, blue: int, *, width: int = 800, height: int = 300) -> None:
    """A picture whose red is the column's place, so that a crop tells where it is from."""
    rng = np.random.default_rng(blue)
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = rng.integers(0, 256, (height, width))
    pixels[..., 2] = blue
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them too small, and something else."""
    folder = tmp_path / "pictures"
    paint(folder / "a.png", 40)
    paint(folder / "deeper" / "b.jpg", 200)
    paint(folder / "small.png", 250, width=300)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_crops_of_a_split_are_from_its_strip_of_every_picture(folder: Path, tmp_path: Path) -> None:
    found = photographs_of(folder)
    assert [path.name for path in found] == ["a.png", "b.jpg", "small.png"]
    counts = write_crops(found, tmp_path / "data" / "photographs.npz", 200)
    assert counts == {"train": 140, "val": 20, "test": 40}
    settings = StorageSettings(home=tmp_path, data_root=tmp_path / "data")
    data = load_data(DatasetSpec(name="npz:photographs", resolution=EDGE), settings)
    ends = {"train": (0.0, 0.7), "val": (0.7, 0.8), "test": (0.8, 1.0)}
    for name, split in data.splits.items():
        batch = split.take(torch.arange(len(split)))
        assert batch.images.shape == (counts[name], 3, EDGE, EDGE)
        assert torch.bincount(batch.labels).tolist() == [counts[name] // 2] * 2
        red = batch.images[:, 0].float().mean(dim=1) / 255
        left, right = ends[name]
        assert left - 0.03 < float(red.min())
        assert float(red.max()) < right + 0.03
        blue = batch.images[:, 2].float().mean(dim=(1, 2))
        assert ((blue > 120) == batch.labels.bool()).all()
    again = tmp_path / "again.npz"
    write_crops(found, again, 200)
    with np.load(again) as twice:
        assert np.array_equal(
            twice["train_images"][:, 0, 0], data.train.take(torch.arange(140)).images[:, :, 0, 0]
        )


def test_pictures_that_are_too_small_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 640 pixels"):
        write_crops([folder / "small.png"], tmp_path / "x.npz", 10)


def test_only_photographs_of_the_packages_are_taken(tmp_path: Path) -> None:
    nature = tmp_path / "mate-backgrounds" / "usr/share/backgrounds/mate/nature"
    paint(nature / "Dune.jpg", 1)
    paint(nature.with_name("abstract") / "Waves.jpg", 2)
    walls = tmp_path / "plasma-workspace-wallpapers" / "usr/share/wallpapers"
    paint(walls / "Path/contents/images/2560x1600.jpg", 3)
    paint(walls / "Flow/contents/images/2560x1600.jpg", 4)
    found = packaged_photographs(tmp_path)
    assert [path.name for path in found] == ["Dune.jpg", "2560x1600.jpg"]
    assert found[1].parts[-4] == "Path"
    assert len(IN_PACKAGES) == 2


def test_it_prints_what_masks_do_and_writes_a_data_set(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "RESOLUTIONS", (8, 16))
    output = tmp_path / "out"
    command.main([str(folder), "--crops", "300", "--output", str(output)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 photographs, crops: 210 for train, 30 for val, 60 for test"
    assert (output / "photographs.npz").is_file()
    for resolution in (8, 16):
        with Image.open(output / f"photographs_masked_{resolution}.png") as sheet:
            assert sheet.width > 5 * resolution
    rows = [re.split(r"\s+", line.strip()) for line in lines if re.match(r"\s+0\.\d", line)]
    assert len(rows) == 2 * len(spectra.RATIOS) * 2
    for reference, nearest in zip(rows[::2], rows[1::2], strict=True):
        assert (reference[:2], nearest[:2]) == ([nearest[0], "reference"], [nearest[0], "nearest"])
        assert float(reference[5]) <= float(nearest[5])


def test_the_numbers_are_those_of_an_svd(folder: Path, tmp_path: Path) -> None:
    write_crops(photographs_of(folder), tmp_path / "photographs.npz", 400)
    fitted = spectra.fit("npz:photographs", 8, StorageSettings(data_root=tmp_path))
    images = fitted.data.train.take(torch.arange(len(fitted.data.train))).images
    values = fitted.statistics.standardize(images / 255).flatten(1).double()
    squares = torch.linalg.svdvals(values - values.mean(dim=0)).square()
    expected = squares / squares.sum()
    torch.testing.assert_close(
        fitted.basis.explained_variance_ratio[:5], expected[:5], rtol=1e-3, atol=1e-5
    )
    line = spectra.spectrum_lines(fitted)[1]
    assert f"first component {float(expected[0]):.1%}" in line
    half = int((expected.cumsum(dim=0) < 0.5).sum()) + 1
    assert f"50% of the variance in {half};" in line


def test_a_model_is_trained_on_the_crops(folder: Path, tmp_path: Path) -> None:
    write_crops(photographs_of(folder), tmp_path / "photographs.npz", 300)
    settings = StorageSettings(home=tmp_path, data_root=tmp_path)
    line = train_and_show("mae", "npz:photographs", 1, tmp_path, settings)
    assert re.match(r"mae: [\d,]+ images a second; explains -?[\d.]+% of .* after 1 epochs", line)
    with Image.open(tmp_path / "photographs_mae.png") as sheet:
        assert sheet.width > 6 * 32
