"""Classes that overlap through a pseudo-label round and label cleaning: the planes stay together and apart."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib.competition import rle
from lib.data.tile_files import read_planes
from tests.conftest import make_tiny

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["disc", "shadow"]


def run(stage, *arguments):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny competition after 03. Its second class is the first one moved by six pixels."""
    config_file = make_tiny(tmp_path_factory.mktemp("overlap"))
    raw, rows = config_file.parent / "raw", []
    for row in pd.read_csv(raw / "train.csv").itertuples():
        shape = cv2.imread(str(raw / f"train/{row.id}.png")).shape[:2]
        disc = rle.decode(row.encoding, *shape)
        shadow = np.roll(disc, 6, axis=1)
        assert (disc & shadow).any() and (disc != shadow).any(), "the fixture is degenerate"
        rows += [(row.id, name, rle.encode(mask)) for name, mask in zip(CLASSES, (disc, shadow), strict=True)]
    pd.DataFrame(rows, columns=["id", "class", "encoding"]).to_csv(raw / "train.csv", index=False)
    config, column = yaml.safe_load(config_file.read_text()), {"class_column": "class"}
    config["competition"] |= {"classes": CLASSES, "multilabel": True, "labels": column}
    config["competition"]["submission"] = {"sample": "", **column}
    config["train"]["epochs"] = 8
    config_file.write_text(yaml.safe_dump(config))
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, config_file)
    return config_file


def test_a_round_learns_from_planes_that_need_not_add_to_one(trained):
    run("04_pseudo_label", trained, "--train.round", "1")
    folder = trained.parent / "work/pseudo/round1"
    table = pd.read_csv(folder / "tiles.csv")
    assert len(table) > 0 and (folder / "pictures").is_dir()
    sums = []
    for row in table.itertuples():
        planes = np.stack(read_planes(folder / row.mask_path, len(CLASSES))).astype(int)
        inside = planes[:, : row.height, : row.width] > 127
        assert [row.px_disc, row.px_shadow] == inside.sum((1, 2)).tolist()
        assert row.px_background == (~inside.any(0)).sum() and row.px_ignore == 0
        sums.append(planes.sum(0))
    assert max(s.max() for s in sums) > 300 and min(s.min() for s in sums) < 200, "those of a softmax add to 255"
    run("03_train", trained, "--train.round", "1", "--train.folds", "0")
    done = json.loads((trained.parent / "work/runs/base-r1/fold0_seed42/done.json").read_text())
    assert 0 <= done["score"] <= 1 and done["round"] == 1


def test_labels_of_classes_that_overlap_are_judged_and_mended(trained):
    bounds = {"list_below": -1, "drop_below": 0, "relabel_below": 1, "pictures": 1}
    options = [text for name, value in bounds.items() for text in (f"--clean.{name}", str(value))]
    run("04_pseudo_label", trained, "--clean", *options)
    folder = trained.parent / "work/clean"
    tiles = pd.read_csv(folder / "tiles.csv")
    mended = tiles[tiles["action"] == "relabel"]
    assert len(mended) and list(folder.glob("01_*.jpg"))
    for path in mended["mask_path"]:
        planes = read_planes(folder / path, len(CLASSES))
        assert planes[0].shape == planes[1].shape == (96, 96)
    run("03_train", trained, "--train.folds", "0", "--train.experiment", "mended", "--clean.use", "true", *options)
    assert (trained.parent / "work/runs/mended/fold0_seed42/done.json").is_file()
