"""Where there is no background, flat white and black ground has a class: nothing is left out, in any stage."""

import json
import runpy
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from lib.__main__ import main
from lib.config import load
from lib.errors import UserError
from lib.inference.sliding_window import first_windows
from lib.inference.windows import Source, Windows

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["rock", "snow", "night"]
BY_LIGHT = """
import torch
from lib.plugins import register

class ByLight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
    def forward(self, x):
        light = x.mean(1, keepdim=True)
        return torch.cat([0 * light, 5 * (light - 1.5), 5 * (-1.5 - light)], 1) * self.scale

@register("model", "by_light")
def by_light(config, channels): return ByLight()
"""


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def scene(number, size=192):
    """(picture (h, w, 3), label (h, w)): rock, a flat white part of snow, a flat black one of night."""
    rng = np.random.default_rng(number)
    picture, label = rng.integers(90, 130, (size, size, 3)).astype(np.uint8), np.zeros((size, size), np.uint8)
    for value, grey, rows in ((1, 255, slice(0, 96)), (2, 0, slice(96, 192))):
        columns = slice(0, 96) if number != 7 else slice(0, size)  # the last one is flat all over
        picture[rows, columns], label[rows, columns] = grey, value
    return picture, label


@pytest.fixture(scope="module")
def snowy(tmp_path_factory):
    """(the YAML of a competition without background, labels of its test images), 01 to 03 have run."""
    folder, truth = tmp_path_factory.mktemp("snowy"), {}
    for number in range(8):
        split = "train" if number < 6 else "test"
        picture, label = scene(number)
        for name, pixels in ((split, picture), ("masks", label)):
            (folder / "raw" / name).mkdir(parents=True, exist_ok=True)
            if name != "masks" or split == "train":
                cv2.imwrite(str(folder / "raw" / name / f"im{number}.png"), pixels)
        if split == "test":
            truth[f"im{number}"] = label
    (folder / "by_light.py").write_text(BY_LIGHT)
    config = {
        "competition": {
            "name": "snowy", "root": str(folder / "raw"), "classes": NAMES, "background": False,
            "labels": {"format": "mask_images", "path": "masks"}, "submission": {"preset": "drivendata"},
        },
        "preprocess": {"tile_size": 64}, "folds": {"k": 2, "leak_check": False},
        "model": {"architecture": "by_light"},
        "train": {"epochs": 1, "batch_size": 4, "lr": 1e-6, "workers": 0, "evaluations": 0, "precision": "fp32"},
        "pseudo": {"rounds": 1, "min_confidence": 0.0, "background_keep": 1.0},
        "infer": {"precision": "fp32", "backend": "eager"},
        "report": {"pictures": 1}, "plugins": ["by_light.py"], "workspace": str(folder / "work"), "jobs": 1,
    }  # fmt: skip
    path = folder / "snowy.yaml"
    path.write_text(yaml.safe_dump(config))
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, path)
    return path, truth


def answers(path):
    with zipfile.ZipFile(path) as file:
        return {Path(name).stem: tifffile.imread(file.open(name)) for name in file.namelist()}


def test_blank_ground_is_cut_scored_labelled_and_answered_where_every_pixel_has_a_class(snowy):
    path, truth = snowy
    work = path.parent / "work"
    tiles = pd.read_csv(work / "tiles.csv")
    assert len(tiles) == 6 * 9 and (tiles["blank_share"] == 1).any()
    run("04_pseudo_label", path, "--train.round", "1")
    assert len(pd.read_csv(work / "pseudo/round1/tiles.csv")) == 2 * 2 * 9, "of both folds, the flat image's too"
    run("05_infer_ensemble", path)
    found = answers(work / "submission.zip")
    assert {name: (label != truth[name]).sum() for name, label in found.items()} == {"im6": 0, "im7": 0}
    score = json.loads((work / "decision.json").read_text())["score"]
    assert score == pytest.approx(1.0), "out-of-fold maps have no hole"
    main(["package", str(path), str(path.parent / "package"), "--package.wheels", "false"])
    infer = runpy.run_path(str(path.parent / "package/infer.py"))["main"]
    images = str(path.parent / "raw/test")
    infer(["--images", images, "--out", str(path.parent / "a.zip"), "--infer.roi", "content"])
    assert {name: (label != truth[name]).sum() for name, label in answers(path.parent / "a.zip").items()} == {
        "im6": 0, "im7": 0,
    }  # fmt: skip


@pytest.mark.parametrize("section", ["preprocess", "infer"])
def test_content_is_everywhere_without_background_and_other_words_stay(section):
    without = ["--competition.classes", "a", "b", "--competition.background", "false"]
    for roi, background, found in (
        ("content", True, "content"), ("content", False, "none"), ("none", False, "none"), ("b.csv", True, "b.csv"),
    ):  # fmt: skip
        config = load(None, [*without[:-1], str(background).lower(), f"--{section}.roi", roi])
        assert getattr(config, section).roi == found
        assert load(None, without).preprocess.roi == load(None, without).infer.roi == "none"


@pytest.mark.parametrize("roi", ["coarse", "boxes.csv"])
def test_regions_are_refused_where_every_pixel_has_a_class(roi):
    without = ["--competition.classes", "a", "b", "--competition.background", "false", "--infer.roi", roi]
    with pytest.raises(UserError, match=f"infer.roi {roi} with competition.background false.*set infer.roi none"):
        load(None, without)


def test_a_flat_image_has_windows_where_asked_for_everywhere(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 255, np.uint8))
    windows = Windows(32, 0.0, 1.0, "constant", 0.0)
    seen = {roi: first_windows([Source("a", tmp_path / "a.png", roi)], windows, 4).max() for roi in ("none", "content")}
    assert seen == {"none": 255, "content": 0}
