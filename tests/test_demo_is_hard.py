"""The demo punishes what a real competition punishes: each bad setting is trained and has to lose."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lib.competition.demo import make_demo

ROOT = Path(__file__).resolve().parent.parent
# One process: the tests share what the good settings trained.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Much as in configs/demo.yaml, but by steps instead of by the clock.
SETTINGS = {
    "competition": {
        "name": "demo", "classes": ["tuft"], "metadata": "metadata.csv", "answers": "test_labels.csv",
    },
    "preprocess": {"scale": 0.125, "tile_size": 128, "stride": 96, "background_keep": 0.5},
    "folds": {"k": 2, "group_column": "patient", "leak_check": False},
    "model": {"decoder_channels": [64, 48, 32, 24, 16]},
    "train": {
        "epochs": 1, "batch_size": 8, "lr": 2e-3, "evaluations": 0, "precision": "fp32", "workers": 1,
        "sampling": {"samples_per_epoch": 800, "foreground_share": 0.6}, "swa": {"every": 0.05, "bn_batches": 10},
    },
    "infer": {"window": 192, "overlap": 0.25, "precision": "fp32"},
    "report": {"pictures": 0},
}  # fmt: skip


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder / "raw")
    settings = {**SETTINGS, "competition": {**SETTINGS["competition"], "root": str(folder / "raw")}}
    (folder / "demo.yaml").write_text(yaml.safe_dump(settings))
    return folder


def scores(demo, name, folds, *flags):
    """OOF score of each fold at threshold 0.5."""
    work = demo / name
    flags = [*flags, "--workspace", str(work), "--train.folds", *map(str, folds)]
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, demo / "demo.yaml", *flags)
    return [json.loads((work / f"runs/base/fold{f}_seed42/done.json").read_text())["score"] for f in folds]


@pytest.fixture(scope="module")
def good(demo):
    """Fold scores of good settings."""
    return scores(demo, "good", (0, 1))


def test_good_settings_find_the_objects(good):
    assert min(good) > 0.5


def test_training_without_background_loses(demo, good):
    bare = scores(demo, "bare", (0,), "--preprocess.background_keep", "0")
    tiles = pd.read_csv(demo / "bare/tiles.csv")
    assert (tiles["px_tuft"] > 0).all()
    assert bare[0] < good[0] - 0.03, (bare, good)


def test_a_window_smaller_than_the_object_loses(demo, good):
    small = ("--preprocess.tile_size", "32", "--preprocess.stride", "32", "--infer.window", "32")
    assert scores(demo, "small", (0,), *small, "--train.batch_size", "32")[0] < good[0] - 0.05


def test_training_without_colour_changes_loses(demo, good):
    plain = scores(demo, "plain", (0, 1), "--augment.color", "0")
    assert np.mean(plain) < np.mean(good) - 0.02, (plain, good)


def test_folds_that_mix_patients_flatter(demo, good):
    mixed = scores(demo, "mixed", (0, 1), "--folds.group_column", "")
    assert np.mean(mixed) > np.mean(good) + 0.015, (mixed, good)


def test_the_threshold_of_one_half_loses(demo):
    # A rare class, weighed heavily: the network says "object" too readily.
    loss = ("--train.loss.terms", "{bce: 1}", "--train.loss.class_weights", "[1, 5]")
    scores(demo, "weighted", (0, 1), *loss)
    run("05_infer_ensemble", demo / "demo.yaml", "--workspace", str(demo / "weighted"), *loss)
    decision = json.loads((demo / "weighted/decision.json").read_text())
    assert decision["cross_score"] > decision["half_score"] + 0.01, decision
