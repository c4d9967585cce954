"""Shared fixtures, and `--slow`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "2")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
settings.register_profile("busy", deadline=None)  # a busy machine is no bug
settings.load_profile("busy")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(autouse=True)
def own_plugins(monkeypatch):
    """Plugins that a test loads are not handed on to the processes of the tests after it."""
    monkeypatch.setenv("SEGMENTATION_PLUGINS", "")


@pytest.fixture
def tiny(tmp_path):
    """A tiny competition on disk with its YAML: bright discs on textured ground, two places, RLE labels."""
    return make_tiny(tmp_path)


def make_tiny(folder: Path) -> Path:
    """Returns the path of the YAML. Six training and two test images of 150 to 200 pixels a side."""
    from lib.competition import rle

    rng = np.random.default_rng(5)
    rows, meta = [], []
    for number in range(8):
        split = "train" if number < 6 else "test"
        image, mask = disc_image(rng, 150 + 7 * number, 200 - 5 * number)
        (folder / "raw" / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "raw" / split / f"im{number}.png"), image[:, :, ::-1])
        meta.append((f"im{number}", "north" if number % 2 else "south"))
        if split == "train":
            assert 0 < mask.mean() < 0.5, "the fixture is degenerate"
            rows.append((f"im{number}", rle.encode(mask)))
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(folder / "raw/train.csv", index=False)
    pd.DataFrame(meta, columns=["id", "place"]).to_csv(folder / "raw/metadata.csv", index=False)
    sample = pd.DataFrame({"id": ["im6", "im7"], "predicted": ["", ""]})
    sample.to_csv(folder / "raw/sample_submission.csv", index=False)
    config = {
        "competition": {"name": "tiny", "root": str(folder / "raw"), "classes": ["disc"], "metadata": "metadata.csv"},
        "preprocess": {"tile_size": 96, "stride": 64},
        "folds": {"k": 2, "group_column": "place", "leak_check": False},
        "model": {"architecture": "tiny"},
        "train": {"epochs": 2, "batch_size": 4, "crop": 64, "lr": 0.01, "workers": 0, "evaluations": 0,
                  "precision": "fp32", "swa": {"start": 0.5, "every": 0.5, "bn_batches": 2}},
        "pseudo": {"rounds": 1, "min_confidence": 0.0, "patience": 0},  # two steps of training need not help
        "infer": {"precision": "fp32", "window": 96},
        "report": {"pictures": 1},
        "workspace": str(folder / "work"),
        "jobs": 1,
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def disc_image(rng, height: int, width: int):
    """(image (h, w, 3) uint8, mask (h, w) uint8) with four discs."""
    image = rng.integers(60, 120, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(4):
        centre = (int(rng.integers(10, width - 10)), int(rng.integers(10, height - 10)))
        cv2.circle(mask, centre, int(rng.integers(8, 20)), 1, -1)
    image[mask > 0] += np.uint8(100)
    return image, mask
