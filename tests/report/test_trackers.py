"""Weights & Biases and TensorBoard get numbers and masks, offline; without them training goes on."""

import json
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.config import load
from lib.errors import UserError
from lib.report.trackers import TrackedImage, Tracker, open_tracker

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
    assert "config/text_summary" in events.Tags()["tensors"]


def records(run: Path) -> list:
    """What Weights & Biases wrote into a run's folder, to be sent later: a log of LevelDB's form."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,), found, parts, at = run.glob("*.wandb"), [], [], 7
    data = path.read_bytes()
    while at + 7 <= len(data):
        room = 2**15 - at % 2**15  # of a block; fewer than seven bytes at its end are padding
        _, length, kind = struct.unpack_from("<IHB", data, at) if room >= 7 else (0, 0, 0)
        if kind:  # 1: a whole record; 2, 3, 4: its first, a middle, its last part
            parts.append(data[at + 7 : at + 7 + length])
            if kind in (1, 4):
                found.append(Record.FromString(b"".join(parts)))
                parts = []
        at += 7 + length if kind else room
    return found


def test_weights_and_biases_gets_masks_config_and_the_ledger_offline(tiny, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    flags = ["--report.tracker", "wandb", "--report.tracker_mode", "offline", "--report.pictures", "2"]
    member = train(tiny, *flags, "--train.evaluations", "1")
    (run,) = (member / "wandb").glob("offline-run-*")
    written = records(run)

    configs = [r.run if r.HasField("run") else r for r in written if r.HasField("run") or r.HasField("config")]
    config = {item.key: json.loads(item.value_json) for own in configs for item in own.config.update}
    assert config["train.epochs"] == 2.0 and config["competition.classes"] == ["disc"]
    classes = config["_wandb"]["mask/class_labels"]["worst/0_wandb_delimeter_prediction"]["value"]
    assert classes == {"0": "background", "1": "disc", "255": "ignored"}
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in written if record.HasField("history")
    ]  # fmt: skip
    losses = [json.loads(line).get("loss") for line in (member / "metrics.jsonl").open()]
    assert [row["loss"] for row in rows if "loss" in row] == pytest.approx([loss for loss in losses if loss])

    # The worst images at each scoring, the one on the way and the last, with masks to be switched on and off.
    shown = [row for row in rows if "worst/0/path" in row]
    scores = json.loads((member / "done.json").read_text())["images"]
    worst = sorted(scores, key=scores.get)[:2]
    assert len(shown) == 2 and [shown[-1][f"worst/{i}/caption"].split()[0] for i in (0, 1)] == worst
    sizes = pd.read_csv(tiny.parent / "work/images.csv").set_index("image_id")[["height", "width"]]
    for number, image_id in enumerate(worst):
        for name in ("label", "prediction"):
            mask = np.array(Image.open(run / "files" / shown[-1][f"worst/{number}/masks/{name}/path"]))
            assert mask.shape == tuple(sizes.loc[image_id]) and set(np.unique(mask)) <= {0, 1}

    runpy.run_path(str(ROOT / "05_infer_ensemble.py"))["main"]([str(tiny), *flags])
    (run,) = (tiny.parent / "work/submissions/wandb").glob("offline-run-*")
    (table,) = (json.loads(path.read_text()) for path in run.rglob("*.table.json"))
    ledger = pd.read_csv(tiny.parent / "work/submissions/ledger.csv")
    assert table["columns"] == list(ledger.columns)
    assert table["data"][0][table["columns"].index("oof")] == pytest.approx(ledger["oof"][0])


def test_without_the_package_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = load(None, ["--report.tracker", "wandb"])
    tracker = open_tracker(config, "base/fold0_seed42", tmp_path, ["background", "disc"])
    assert type(tracker) is Tracker and "the run continues" in capsys.readouterr().out
    tracker.numbers(1, {"loss": 1.0})
    picture = np.zeros((4, 4), np.uint8)
    tracker.pictures(1, [TrackedImage("a", np.zeros((4, 4, 3), np.uint8), picture, picture, 0.5)])
    tracker.table("ledger", pd.DataFrame({"oof": [0.5]}))
    tracker.finish()
    with pytest.raises(UserError, match=r"report\.tracker"):
        open_tracker(load(None, ["--report.tracker", "wanbd"]), "m", tmp_path, [])
