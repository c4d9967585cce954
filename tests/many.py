"""A workspace with many images, as 01 and 05 would leave it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib.config import Config, load
from lib.imaging.draw import save_picture
from lib.workspace import Workspace, write_json, write_table


def many_images(folder: Path, count: int) -> Config:
    """Images of three classes, with thumbnails and out-of-fold scores; returns the configuration."""
    workspace, rng = Workspace(folder), np.random.default_rng(0)
    save_picture(folder / "one.jpg", rng.integers(0, 255, (480, 640, 3), np.uint8))
    picture, images = (folder / "one.jpg").read_bytes(), []
    (workspace.report / "images").mkdir(parents=True)
    for number in range(count):
        name = f"slide{number:03}"
        (workspace.report / f"images/{name}.jpg").write_bytes(picture)
        images.append(
            {"image_id": name, "split": "train", "source": "competition", "path": "x", "height": 480, "width": 640,
             "channels": 3, "blank_share": 0.1, "n_tiles": 1, "n_dropped": 2, "px_background": 9, "px_disc": number,
             "px_ignore": 0}
        )  # fmt: skip
    write_table(workspace.images, pd.DataFrame(images))
    scores = rng.random(count).tolist()
    members = [{"member": f"base seed{seed} swa", "folds": 5, "OOF score": 0.7, "seconds": 90.0} for seed in range(8)]
    oof = {
        "metric": "mean_dice", "score": 0.71, "half_score": 0.7, "cross_score": 0.7, "crossed_by": "other folds",
        "threshold": 0.4,
        "names": ["background", "disc", "ring"], "confusion": np.full((3, 3), 9).tolist(), "classes": [], "sizes": [],
        "images": [{"image": row["image_id"], "score": score, "wrong pixels": 0.1, "uncertainty": 0.2, "fold": 0,
                    "group": row["image_id"]} for row, score in zip(images, scores, strict=True)],
        "folds": [{"fold": 0, "images": count, "score": 0.7}],
        "groups": [{"group": row["image_id"], "images": 1, "score": 0.7} for row in images],
        "objects": rng.random((400, 2)).tolist(), "calibration": [], "thresholds": [(i / 84, 0.7) for i in range(84)],
        "members": members, "ensemble": [], "correlation": np.corrcoef(rng.random((8, count))).tolist(), "gallery": [],
    }  # fmt: skip
    write_json(workspace.report / "oof.json", json.loads(json.dumps(oof)))
    return load(None, ["--workspace", str(folder)])
