"""Weights & Biases and TensorBoard get numbers and masks, offline; without them training goes on."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.config import load
from lib.errors import UserError
from lib.report.trackers import Picture, Tracker, open_tracker

ROOT = Path(__file__).resolve().parents[2]


def train(config, *flags):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), "--train.folds", "0", *flags])
    return config.parent / "work/runs/base/fold0_seed42"


def test_tensorboard_gets_losses_and_the_worst_images(tiny):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    member = train(tiny, "--report.tracker", "tensorboard", "--report.pictures", "2", "--train.evaluations", "2")
    events = EventAccumulator(str(member / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
    assert {"worst/0", "worst/1"} == set(events.Tags()["images"])


def test_weights_and_biases_gets_masks_offline(tiny, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    flags = ["--report.tracker", "wandb", "--report.tracker_mode", "offline", "--report.pictures", "1"]
    (run,) = (train(tiny, *flags) / "wandb").glob("offline-run-*")
    masks = [path for path in run.rglob("*.png") if "mask" in path.as_posix()]
    assert len(masks) >= 2, "a label and a prediction"
    assert list(run.glob("*.wandb"))


def test_without_the_package_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = load(None, ["--report.tracker", "wandb"])
    tracker = open_tracker(config, "base/fold0_seed42", tmp_path, ["background", "disc"])
    assert type(tracker) is Tracker and "training goes on" in capsys.readouterr().out
    tracker.numbers(1, {"loss": 1.0})
    picture = np.zeros((4, 4), np.uint8)
    tracker.pictures(1, [Picture("a", np.zeros((4, 4, 3), np.uint8), picture, picture, 0.5)])
    tracker.finish()
    with pytest.raises(UserError, match=r"report\.tracker"):
        open_tracker(load(None, ["--report.tracker", "wanbd"]), "m", tmp_path, [])
