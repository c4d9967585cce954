"""Find, then look: regions from a coarse experiment, and what looking only there costs."""

import json
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib.competition import rle
from lib.config import load
from lib.errors import UserError
from lib.imaging.grid import grid
from lib.imaging.roi import Regions, read_boxes
from lib.imaging.roi_windows import windows_around
from lib.inference.sliding_window import image_windows
from lib.inference.windows import Block, Source, Windows
from lib.predict.coarse_to_fine import _cells, boxes_of, objects_of, regions_of, share_in_boxes
from lib.report.stale import outdated
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("margin", [0, 5])
def test_boxes_cover_what_was_found_and_its_margin_and_little_more(margin):
    cells = np.random.default_rng(0).random((13, 9)) < 0.15
    height, width, side = 130, 87, 10
    covered = np.zeros((height, width), int)
    for y, x, h, w in boxes_of(cells, (side / height, side / width), (height, width), margin):
        covered[y : y + h, x : x + w] += 1
    assert covered.max() == 1, "boxes overlap"
    found = np.kron(cells, np.ones((side, side)))[:height, :width] > 0
    near = cv2.dilate(found.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)) > 0
    assert (covered[near] == 1).all()
    far = cv2.dilate(found.astype(np.uint8), np.ones((2 * (margin + side) + 1,) * 2, np.uint8)) > 0
    assert not covered[~far].any()


@pytest.mark.parametrize("side", [320, 322, 331])
@pytest.mark.parametrize("overlap", [0.5, 0.25, 0.0])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
@pytest.mark.parametrize("margin", [0, 24])
def test_what_was_found_is_wholly_in_a_window_or_where_the_grid_looks(scale, margin, overlap, side):
    """Small things, some with overlapping margins, and one larger than a window."""
    cells, (height, width), cell = np.zeros((60, 80), bool), (1200, 1600), 20
    for y, x in [(5, 5), (8, 12), (30, 60), (31, 70), (58, 2)]:
        cells[y : y + 2, x : x + 2] = True
    cells[15:55, 30] = cells[35, 20:40] = True
    windows = Windows(round(side * scale), overlap, scale, "gaussian", 0.25)
    boxes = regions_of(cells, (cell / height, cell / width), (height, width), margin, windows)
    shrunken = round(height * scale), round(width * scale)
    factors = shrunken[0] / height, shrunken[1] / width
    corners = windows_around(boxes, factors, shrunken, windows.size, windows.stride)
    on_large = [corner for corner in grid(*shrunken, windows.size, windows.stride) if corner in corners]
    assert len(on_large) >= 4, "a thing larger than a window is looked at as it would be without regions"
    assert len(corners) - len(on_large) <= 3, "neighbours have one window, or are in the large one's"
    seen = np.zeros(shrunken, bool)
    for y, x in corners:
        seen[y : y + windows.size, x : x + windows.size] = True
    near = cv2.dilate(np.kron(cells, np.ones((cell, cell))).astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8))
    rows, columns = np.nonzero(near)
    assert seen[(rows * factors[0]).astype(int), (columns * factors[1]).astype(int)].all()
    assert regions_of(np.zeros_like(cells), (cell / height, cell / width), (height, width), margin, windows) == []
    everything = regions_of(np.ones_like(cells), (cell / height, cell / width), (height, width), margin, windows)
    everywhere = windows_around(everything, factors, shrunken, windows.size, windows.stride)
    assert everywhere == grid(*shrunken, windows.size, windows.stride)


def test_an_object_has_one_box_with_a_margin_of_its_size_inside_the_image():
    cells = np.zeros((10, 12), bool)
    cells[[0, 1, 2], [0, 1, 2]] = cells[5:7, 4:8] = True
    cells[3, 3] = cells[9, 11] = cells[9, 0] = True
    shares = 0.1, 1 / 12
    assert objects_of(cells, shares, (100, 120), 0.5) == [(0, 0, 60, 60), (30, 20, 60, 80)], "specks are none"
    assert objects_of(cells, shares, (100, 240), 0) == [(0, 0, 40, 80), (50, 80, 20, 80)], "cells have two sides"
    assert objects_of(np.zeros((10, 12), bool), shares, (100, 120), 0.5) == []


def test_a_whole_image_is_one_window_however_it_is_shrunk(tmp_path):
    (tmp_path / "boxes.csv").write_text("image_id,y,x,height,width\na,10,10,2000,2000\n")
    images = pd.DataFrame({"image_id": ["a", "b"], "height": 3000, "width": 3000})
    whole = Windows(256, 0.5, 1.0, "gaussian", 0.25, resize_mode="stretch")
    assert share_in_boxes(tmp_path / "boxes.csv", images, whole) == 0.5


def test_of_classes_that_overlap_any_one_is_no_background():
    probs = np.zeros((1, 3, 6, 8), np.float32)
    probs[0, 1, 2, 3], probs[0, 2, 5, 7], probs[0, :, 0, 0] = 0.3, 0.9, 0.15
    options = ["--competition.classes", "a", "b", "c", "--infer.coarse_above", "0.2"]
    found = {}
    for multilabel in ("true", "false"):
        config = load(None, [*options, "--competition.multilabel", multilabel])
        planes = probs if multilabel == "true" else np.concatenate([1 - probs.sum(1, keepdims=True), probs], 1)
        found[multilabel], _ = _cells([Block("a", 0, 0, planes, 6, 8)], config)
    assert np.argwhere(found["true"]).tolist() == [[2, 3], [5, 7]]
    assert np.argwhere(found["false"]).tolist() == [[0, 0], [2, 3], [5, 7]], "there the classes add up"


def test_many_boxes_are_looked_through_as_one_by_one():
    rng = np.random.default_rng(0)
    boxes = [tuple(map(int, (*rng.integers(0, 90, 2), *rng.integers(1, 9, 2)))) for _ in range(20)]
    where = Regions(None, boxes)
    for y, x in rng.integers(0, 90, (60, 2)):
        mask = np.zeros((100, 100), bool)
        for by, bx, bh, bw in boxes:
            mask[by : by + bh, bx : bx + bw] = True
        assert where.keep(y, x, 7, 9) == mask[y : y + 7, x : x + 9].any()
    assert not Regions(None, []).keep(0, 0, 99, 99), "nothing was found"


def boxes(argv):
    from lib.__main__ import main

    main(["boxes", *argv])


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A competition of large images with a cluster of discs in each, and two trained experiments."""
    folder = tmp_path_factory.mktemp("sparse")
    rng, rows = np.random.default_rng(7), []
    for number in range(6):
        image = rng.integers(60, 120, (768, 640, 3)).astype(np.uint8)
        mask = np.zeros(image.shape[:2], np.uint8)
        centre = rng.integers(120, 500, 2)
        for _ in range(5):
            x, y = centre + rng.integers(-60, 60, 2)
            cv2.circle(mask, (int(x), int(y)), int(rng.integers(14, 24)), 1, -1)
        image[mask > 0] += np.uint8(100)
        split = "train" if number < 4 else "test"
        (folder / "raw" / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"raw/{split}/im{number}.png"), image)
        if split == "train":
            rows.append((f"im{number}", rle.encode(mask)))
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(folder / "raw/train.csv", index=False)
    sample = pd.DataFrame({"id": ["im4", "im5"], "predicted": ["", ""]})
    sample.to_csv(folder / "raw/sample_submission.csv", index=False)
    config = {
        "competition": {"name": "sparse", "root": str(folder / "raw"), "classes": ["disc"]},
        "preprocess": {"tile_size": 128, "stride": 128}, "folds": {"k": 2, "leak_check": False},
        "model": {"architecture": "tiny"},
        "train": {"epochs": 25, "batch_size": 4, "crop": 64, "lr": 0.02, "workers": 0, "evaluations": 0,
                  "precision": "fp32", "swa": {"start": 0.5, "every": 0.5, "bn_batches": 8},
                  "sampling": {"foreground_share": 0.7}},
        "infer": {"precision": "fp32", "backend": "eager"}, "report": {"pictures": 0},
        "workspace": str(folder / "work"), "jobs": 1,
    }  # fmt: skip
    path = folder / "sparse.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    run("01_preprocess", path)
    run("02_make_folds", path)
    run("03_train", path)
    run("03_train", path, "--train.experiment", "small", "--train.scale", "0.25", "--train.crop", "32")
    return path


def test_three_times_fewer_windows_for_next_to_no_score(sparse, capsys, monkeypatch):
    from lib.inference import networks as forward

    seen = []
    plain = forward.Ensemble.__call__
    monkeypatch.setattr(
        forward.Ensemble, "__call__", lambda self, windows: (seen.append(len(windows)), plain(self, windows))[1]
    )
    everywhere = ["--infer.tag", "all"]
    run("05_infer_ensemble", sparse, *everywhere)
    full, before = sum(seen), json.loads((sparse.parent / "work/decision.json").read_text())["cross_score"]
    seen.clear()
    capsys.readouterr()
    finding = ["--infer.roi", "coarse", "--infer.coarse", "small", "--infer.coarse_above", "0.3"]
    run("05_infer_ensemble", sparse, *finding)
    out = capsys.readouterr().out
    after = json.loads((sparse.parent / "work/decision.json").read_text())["cross_score"]
    print(f"windows {full} to {sum(seen)} with those of the finders, score {before:.4f} to {after:.4f}")
    assert before > 0.9 and after > before - 0.002
    assert sum(seen) * 3 < full
    assert len(list((sparse.parent / "work/oof").glob("coarse_*.csv"))) == 1
    assert "05_infer_ensemble" not in outdated(Workspace(sparse.parent / "work"), load(sparse, finding))
    assert "infer.roi changed" not in (sparse.parent / "work/report/index.html").read_text()
    share = float(re.search(r"regions leave (.*)% of all windows", out)[1])
    assert 0 < share < 34

    boxes = read_boxes(next((sparse.parent / "work/oof").glob("coarse_*.csv")))
    assert set(boxes) == {f"im{i}" for i in range(6)}
    seen.clear()
    run("05_infer_ensemble", sparse, *finding, "--infer.threshold", "half")
    assert sum(seen) * 9 < full, "regions and out-of-fold maps were made before"
    run("05_infer_ensemble", sparse, *finding, "--infer.overlap", "0.25")
    assert len(list((sparse.parent / "work/oof").glob("coarse_*.csv"))) == 2, "other windows look elsewhere"


def test_a_fold_meets_only_its_own_finders(sparse, monkeypatch):
    from lib.predict import coarse_to_fine as coarse

    met = []
    plain = coarse.scale_groups

    def noted(session, checkpoints, engine):
        met.append([checkpoint.member.fold for checkpoint in checkpoints])
        return plain(session, checkpoints, engine)

    monkeypatch.setattr(coarse, "scale_groups", noted)
    run("05_infer_ensemble", sparse, "--infer.roi", "coarse", "--infer.coarse", "small", "--infer.coarse_above", "0.4")
    assert met == [[0], [1], [0, 1]]


def test_what_is_missing_is_one_sentence(sparse):
    with pytest.raises(UserError, match="infer.roi coarse needs infer.coarse"):
        run("05_infer_ensemble", sparse, "--infer.roi", "coarse")
    with pytest.raises(UserError, match="holds no trained member"):
        run("05_infer_ensemble", sparse, "--infer.roi", "coarse", "--infer.coarse", "other")
    with pytest.raises(UserError, match="small has no member of fold 1"):
        (sparse.parent / "work/runs/small/fold1_seed42").rename(sparse.parent / "work/away")
        try:
            boxes([str(sparse), str(sparse.parent / "no.csv"), "--infer.coarse", "small"])
        finally:
            (sparse.parent / "work/away").rename(sparse.parent / "work/runs/small/fold1_seed42")
    assert not (sparse.parent / "no.csv").exists()


def test_objects_are_found_cropped_and_resized_to_the_network(sparse, monkeypatch, capsys):
    from lib.inference import networks as forward

    found = sparse.parent / "objects.csv"
    boxes([str(sparse), str(found), "--infer.coarse", "small", "--infer.coarse_margin", "0.25"])
    crops = read_boxes(found)
    assert set(crops) == {f"im{i}" for i in range(6)}
    labels = pd.read_csv(sparse.parent / "raw/train.csv").set_index("id")["encoding"]
    covered = []
    for image_id, text in labels.items():
        mask, near = rle.decode(text, 768, 640), np.zeros((768, 640), bool)
        for y, x, h, w in crops[image_id]:
            near[y : y + h, x : x + w] = True
        covered.append(near[mask > 0].mean())
    assert min(covered) > 0.98

    flags = ["--workspace", str(sparse.parent / "crops"), "--preprocess.mode", "resize", "--preprocess.roi", str(found)]
    flags += ["--infer.roi", str(found), "--train.crop", "0", "--train.epochs", "60", "--train.batch_size", "1",
              "--pseudo.rounds", "0"]  # fmt: skip
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, sparse, *flags)
    tiles = pd.read_csv(sparse.parent / "crops/tiles.csv")
    assert len(tiles) == sum(len(crops[f"im{i}"]) for i in range(4)) == tiles["tile_id"].nunique()
    assert {tuple(box) for box in tiles[["y", "x", "height", "width"]].to_numpy()} == {
        box for i in range(4) for box in crops[f"im{i}"]
    }
    seen, plain = [], forward.Ensemble.__call__
    monkeypatch.setattr(
        forward.Ensemble, "__call__", lambda self, windows: (seen.append(windows.shape), plain(self, windows))[1]
    )
    run("05_infer_ensemble", sparse, *flags)
    assert sum(shape[0] for shape in seen) == sum(map(len, crops.values())), "a window each, out of fold and test"
    assert {shape[1:] for shape in seen} == {(128, 128, 3)}
    decision = json.loads((sparse.parent / "crops/decision.json").read_text())
    print(f"crops: {decision['cross_score']:.4f}")
    assert decision["cross_score"] > 0.95

    run("04_pseudo_label", sparse, *flags, "--clean")
    judged = pd.read_csv(sparse.parent / "crops/clean/tiles.csv")
    assert len(judged) == len(tiles) and judged["miou"].min() > 0.8
    everywhere = [*flags, "--infer.experiments", "base", "--preprocess.roi", "content", "--infer.roi", "content"]
    with pytest.raises(UserError, match="was trained on the boxes of .*objects.csv, and infer.roi is content"):
        run("05_infer_ensemble", sparse, *everywhere)
    with pytest.raises(UserError, match="not yet of boxes shrunk whole"):
        run("01_preprocess", sparse, *flags, "--pseudo.rounds", "1")
    with pytest.raises(UserError, match="not yet of boxes shrunk whole"):
        run("04_pseudo_label", sparse, *flags, "--train.round", "1")
    with pytest.raises(UserError, match="name a CSV of boxes in both"):
        run("01_preprocess", sparse, *flags, "--infer.roi", "content")

    found.write_text("".join(line for line in found.read_text().splitlines(True) if "im4," not in line))
    capsys.readouterr()
    run("01_preprocess", sparse, *flags)
    assert "up to date" not in capsys.readouterr().out, "01 notices that the boxes changed"
    run("02_make_folds", sparse, *flags)
    run("05_infer_ensemble", sparse, *flags)
    assert "has no box of 1 of 2 test images (im4 for one)" in capsys.readouterr().out
    found.write_text("".join(line for line in found.read_text().splitlines(True) if "im5," not in line))
    with pytest.raises(UserError, match="has no box of any test image, im4 for one"):
        run("05_infer_ensemble", sparse, *flags)


def test_finders_are_refused_that_may_have_seen_what_they_look_at(sparse, tmp_path):
    folds = sparse.parent / "work/folds.csv"
    before = folds.read_text()
    folds.write_text(before.replace("seed=42", "seed=43"))
    with pytest.raises(UserError, match="trained with other folds"):
        boxes([str(sparse), str(tmp_path / "b.csv"), "--infer.coarse", "small"])
    folds.write_text(before)
    (tmp_path / "train.csv").write_text("id,encoding\n")
    with pytest.raises(UserError, match="lacks the column"):
        boxes([str(sparse), str(tmp_path / "train.csv"), "--infer.coarse", "small"])


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "is not a readable CSV"), ("image_id,y,x,height,width\na,1,2,3,4\nb,,,,\n", "row 3 is b,,,,;"),
     ("image_id,y,x,height,width\na,1,2,x,4\n", "row 2 is a,1,2,x,4"), ("image_id,y\n", "lacks the column"),
     ("image_id,y,x,height,width\na,1,2,inf,4\n", "row 2 is a,1,2,inf,4")],
)  # fmt: skip
def test_a_csv_that_holds_no_boxes_is_one_sentence(tmp_path, text, what):
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(UserError, match=what):
        read_boxes(tmp_path / "b.csv")


@pytest.mark.parametrize(
    "text",
    ["image_id, y, x, height, width\n e\u0301 , 1 , 2 , 3 , 4 \n", "image_id;y;x;height;width\n\xe9;1;2;3;4\n",
     "\ufeffimage_id,y,x,height,width\n\xe9,1,2,3,4\n"],
)  # fmt: skip
def test_boxes_are_read_as_other_tables_are(tmp_path, text):
    (tmp_path / "b.csv").write_text(text, encoding="utf-8")
    assert read_boxes(tmp_path / "b.csv") == {"\xe9": [(1, 2, 3, 4)]}


def test_boxes_that_repeat_are_one_and_each_is_a_window(tmp_path):
    table = tmp_path / "b.csv"
    table.write_text("image_id,y,x,height,width\na,0,0,9,9\na,0,0,9,12\na,0,0,9,9\n")
    assert read_boxes(table) == {"a": [(0, 0, 9, 9), (0, 0, 9, 12)]}
    whole = Windows(64, 0.0, 1.0, "constant", 0.0, "letterbox")
    assert image_windows([Source("a", tmp_path / "none.png", str(table))], whole) == 2
    images = pd.DataFrame({"image_id": ["a"], "height": 20, "width": 20})
    assert share_in_boxes(table, images, whole) == 2
