"""Validation images among the unlabeled ones, under other names: who labels them decides whether scores stay honest."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib.competition import rle

ROOT = Path(__file__).resolve().parents[2]
IMAGES, DISCS, SIDE = 8, 6, 32
COLOURS = """
import torch
from lib.plugins import register

@register("model", "colours")
def model(config, channels):
    widths = [3, 64, 64, 64]
    layers = [[torch.nn.Conv2d(a, b, 1), torch.nn.ReLU()] for a, b in zip(widths, widths[1:])]
    return torch.nn.Sequential(*sum(layers, []), torch.nn.Conv2d(64, channels, 1))
"""


@pytest.fixture
def coin_flips(tmp_path):
    """Discs of all colours on grey; a coin decides which are objects. So labels can be learned by heart, not predicted.

    All training images lie among the unlabeled ones too.
    """
    rng, raw = np.random.default_rng(4), tmp_path / "raw"
    for folder in ("train", "test", "unlabeled"):
        (raw / folder).mkdir(parents=True)
    rows = []
    for number in range(IMAGES + 1):
        image, mask = np.full((SIDE, SIDE, 3), 128, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        flips = rng.permutation(np.arange(DISCS) % 2)
        for place, flip in enumerate(flips):
            centre = 6 + 10 * (place % 3), 8 + 16 * (place // 3)
            cv2.circle(image, centre, 3, rng.integers(0, 256, 3).tolist(), -1)
            cv2.circle(mask, centre, 3, int(flip), -1)
        if number == IMAGES:
            cv2.imwrite(str(raw / "test/t.png"), image)
            continue
        cv2.imwrite(str(raw / f"train/a{number}.png"), image)
        cv2.imwrite(str(raw / f"unlabeled/x{number:03}.png"), image)
        rows.append((f"a{number}", rle.encode(mask)))
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(raw / "train.csv", index=False)
    pd.DataFrame({"id": ["t"], "predicted": [""]}).to_csv(raw / "sample_submission.csv", index=False)
    (tmp_path / "mine.py").write_text(COLOURS)
    config = {
        "competition": {"name": "coins", "root": str(raw), "classes": ["disc"], "unlabeled_images": "unlabeled/*"},
        "preprocess": {"tile_size": SIDE}, "folds": {"k": 2, "leak_check": False}, "model": {"architecture": "colours"},
        "train": {"epochs": 60, "batch_size": 4, "lr": 0.01, "workers": 0, "evaluations": 0, "precision": "fp32",
                  "swa": {"start": 1}, "weight_decay": 0, "sampling": {"samples_per_epoch": 16},
                  "loss": {"terms": {"bce": 1}}},
        "augment": {"preset": "none"},
        "pseudo": {"min_confidence": 0, "background_keep": 1, "share": 0.5, "hard": True},
        "infer": {"precision": "fp32", "backend": "eager", "roi": "none"},
        "plugins": ["mine.py"], "workspace": str(tmp_path / "work"), "jobs": 1,
    }  # fmt: skip
    path = tmp_path / "coins.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def oof(config, experiment):
    runs = (config.parent / "work/runs" / experiment).glob("*/done.json")
    return np.mean([json.loads(path.read_text())["score"] for path in runs])


def test_per_fold_keeps_the_score_honest_where_the_ensemble_inflates_it(coin_flips):
    def run(stage, *flags):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(coin_flips), *flags])

    scores = {}
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage)
    scores["round 0"] = oof(coin_flips, "base")
    for source in ("per_fold", "ensemble"):
        for stage in ("04_pseudo_label", "03_train"):
            run(stage, "--train.round", "1", "--pseudo.source", source)
        scores[source] = oof(coin_flips, "base-r1")
    # A coin is right about every other time; whoever saw the labels, most of the time.
    assert scores["round 0"] < 0.65 and scores["per_fold"] < 0.65, scores
    assert scores["per_fold"] < scores["round 0"] + 0.08, scores
    assert scores["ensemble"] > scores["per_fold"] + 0.12, scores
