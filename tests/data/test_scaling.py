"""01 fits the ranges of channels, the workspace keeps them, and whoever loads the configuration has them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from lib.competition.dataset import Competition
from lib.config import load
from lib.errors import UserError
from lib.imaging.reader import open_image

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(3)
CHANNELS = ["B02", {"name": "sar", "file": "B08", "scaling": "mean_std"},
            {"name": "ratio", "formula": "B02 / (B02 + sar)"}]  # fmt: skip


def run(config, *flags):
    runpy.run_path(str(ROOT / "01_preprocess.py"))["main"]([str(config), "--quiet", "true", *flags])


@pytest.fixture
def competition(tmp_path):
    """Four chips of two files each, one of them a test image with brighter values; the left third was not measured."""
    rows = []
    for name in ("a", "b", "c", "d"):
        folder = tmp_path / "raw" / ("test" if name == "d" else "train") / name
        folder.mkdir(parents=True)
        values = RANDOM.normal(2000 if name != "d" else 9000, 300, (2, 64, 96)).clip(1, 30_000).astype(np.uint16)
        values[0, 20:40, 50:70] += 1500
        values[:, :, :32] = 0
        for band, plane in zip(("B02", "B08"), values, strict=True):
            tifffile.imwrite(folder / f"{band}.tif", plane, extratags=[(42113, "s", 0, "0", True)])
        if name != "d":
            rows.append((name, "3221 20 3285 20"))
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(tmp_path / "raw/train.csv", index=False)
    pd.DataFrame([("d", "")], columns=["id", "encoding"]).to_csv(tmp_path / "raw/sample_submission.csv", index=False)
    settings = {
        "root": str(tmp_path / "raw"), "train_images": "train/*/B02.tif", "test_images": "test/*/B02.tif",
        "image_ids": "{id}/B02", "pixels": {"channels": CHANNELS, "ignore_nodata": True},
        "submission": {"sample": "sample_submission.csv", "id_column": "id", "rle_column": "encoding"},
    }  # fmt: skip
    values = {"competition": settings, "workspace": str(tmp_path / "work"), "jobs": 1,
              "preprocess": {"tile_size": 32, "background_keep": 1.0, "roi": "none"}}  # fmt: skip
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "a.yaml"


def train_values(config, band):
    files = sorted((config.parent / "raw/train").glob(f"*/{band}.tif"))
    values = np.concatenate([tifffile.imread(file).ravel() for file in files])
    return values[values > 0].astype(float)


def test_ranges_are_fitted_once_stored_and_filled_in(competition, capsys):
    pixels = load(competition).competition.pixels
    with pytest.raises(UserError, match="range of the channel B02 is not fitted yet .*01_preprocess.py"):
        open_image(competition.parent / "raw/test/d/B02.tif", pixels).read(0, 0, 9, 9)
    run(competition)
    file = competition.parent / "work/scaling.json"
    stored = json.loads(file.read_text())
    fitted = {c.name: (c.fitted, c.fitted_bits) for c in load(competition).competition.pixels.channels}
    assert fitted == {name: (tuple(one["range"]), 16) for name, one in stored.items()} and len(fitted) == 3
    b02, sar = train_values(competition, "B02"), train_values(competition, "B08")
    assert fitted["B02"][0] == pytest.approx(np.quantile(b02, [0.005, 0.995]), rel=1e-3), "of training images alone"
    assert fitted["sar"][0] == pytest.approx([sar.mean() - 5 * sar.std(), sar.mean() + 5 * sar.std()], rel=1e-3)
    assert fitted["ratio"][0] == pytest.approx(np.quantile(b02 / (b02 + sar), [0.005, 0.995]), rel=1e-3)
    with open_image(competition.parent / "raw/test/d/B02.tif", load(competition).competition.pixels) as image:
        seen = image.read(0, 40, 64, 56)
    assert (seen[..., 0] == 65535).mean() > 0.9, "the test image has the same range"
    text = file.read_text()
    capsys.readouterr()
    run(competition)
    assert file.read_text() == text and "surveyed" not in capsys.readouterr().out
    run(competition, "--jobs", "2", "--preprocess.background_keep", "0.5")
    assert file.read_text() == text, "any number of processes fits the same"


def tiles_of(config):
    return pd.read_csv(config.parent / "work/tiles.csv")["content"].tolist()


def test_another_scaling_cuts_tiles_anew_and_nothing_else_does(competition, capsys):
    run(competition)
    before = tiles_of(competition)
    run(competition, "--quiet", "false")
    assert "up to date" in capsys.readouterr().out
    run(competition, "--quiet", "false", "--competition.pixels.scaling", "mean_std")
    assert "scaling changed from quantiles to mean_std" in capsys.readouterr().out
    assert tiles_of(competition) != before
    # Channels that changed since are not filled in: 01 has to fit them again.
    config = load(competition, ["--competition.pixels.scaling", "quantiles"])
    assert [bool(channel.fitted) for channel in config.competition.pixels.channels] == [False, True, False]
    run(competition)
    (competition.parent / "work/scaling.json").unlink()
    capsys.readouterr()
    run(competition, "--quiet", "false")
    assert "scaling.json is gone" in capsys.readouterr().out and tiles_of(competition) == before


def test_what_was_not_measured_is_not_scored_where_wished(competition):
    run(competition)
    images = pd.read_csv(competition.parent / "work/tiles.csv")
    left = images[images["x"] == 0]
    assert (left["px_ignore"] == 32 * 32).all() and (images[images["x"] > 0]["px_ignore"] == 0).all()
    settings = load(competition).competition
    label = Competition(settings).labels.open("a", 64, 96)
    assert (label.read(0, 0, 64, 32) == 255).all() and (label.read(0, 32, 64, 64) < 2).all()
    assert label.counts(0, 0, 64, 96)[255] == 64 * 32
    everything = settings.model_copy(update={"pixels": settings.pixels.model_copy(update={"ignore_nodata": False})})
    assert Competition(everything).labels.open("a", 64, 96).counts(0, 0, 64, 96)[255] == 0


def test_files_of_different_depth_are_refused(competition, capsys):
    path = competition.parent / "raw/train/b/B08.tif"
    tifffile.imwrite(path, (tifffile.imread(path) // 20).astype(np.uint8))
    with pytest.raises(
        UserError, match="channels sar: .*b/B08.tif has 8 bits a value and .*a/B08.tif has more.*to image or type"
    ):
        run(competition)
    assert (
        not (competition.parent / "work/tiles.csv").exists() and not (competition.parent / "work/scaling.json").exists()
    )


def test_files_of_8_bits_keep_their_whole_range(competition):
    for path in (competition.parent / "raw").glob("*/*/*.tif"):
        tifffile.imwrite(path, (tifffile.imread(path) // 40).astype(np.uint8))
    run(competition)
    fitted = {c.name: (c.fitted, c.fitted_bits) for c in load(competition).competition.pixels.channels}
    assert fitted["B02"] == ((0, 255), 8) and fitted["sar"][1] == 8 and fitted["sar"][0] != (0, 255)


def test_a_channel_that_was_measured_nowhere(competition):
    with pytest.raises(UserError, match="channels none: it was measured in no sampled pixel of the 3 training images"):
        run(competition, "--competition.pixels.channels", "[B02, {name: none, formula: B02 / 0}]")


def test_a_damaged_file_of_ranges(competition):
    run(competition)
    (competition.parent / "work/scaling.json").write_text('{"B02": {"range": [1]}}')
    with pytest.raises(UserError, match="scaling.json is damaged .*; delete it and run 01_preprocess.py again"):
        load(competition)
