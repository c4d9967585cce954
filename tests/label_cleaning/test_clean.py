"""Noisy labels are found by members that never saw the image, and mended for the next training."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import tables
from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import load
from lib.errors import UserError
from lib.inference.networks import Ensemble
from lib.label_cleaning.expected_agreement import calibrated_rates, count_by_level, expected_iou, mean_label_iou
from lib.label_cleaning.judge import FoldImages, LabelJudge, action_for
from lib.training.member import make_data, training_tiles
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
NOISY = ["im0", "im3"]


class Bright(nn.Module):
    """Knows the discs: they are brighter than the ground."""

    def forward(self, x):
        blurred = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 9, 1, 4)
        return (blurred - 135) / 5


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def corrupted(tiny):
    """The tiny competition, two of its six labels shifted by half a tile; 01 and 02 have run."""
    path = tiny.parent / "raw/train.csv"
    table = pd.read_csv(path)
    for i, row in table.iterrows():
        if row["id"] in NOISY:
            shape = cv2.imread(str(tiny.parent / f"raw/train/{row['id']}.png")).shape[:2]
            table.loc[i, "encoding"] = rle.encode(np.roll(rle.decode(row["encoding"], *shape), (48, 48), (0, 1)))
    table.to_csv(path, index=False)
    run("01_preprocess", tiny)
    run("02_make_folds", tiny)
    return tiny


@pytest.fixture
def noisy(tiny):
    return corrupted(tiny)


class Dim(nn.Module):
    """Trained on little: sees no more of the discs than their brightest specks."""

    def forward(self, x):
        return (x.mean(1, keepdim=True) - 200) / 5


class BothStains(Bright):
    """Knows negatives too, in which most is bright and discs are dark."""

    def forward(self, x):
        negative = x.mean((1, 2, 3), keepdim=True) > 140
        return super().forward(torch.where(negative, 255 - x, x))


def judge(path, folder, *flags, network=Bright, in_sample=None):
    config = load(path, ["--clean.relabel_below", "0.5", *flags])
    workspace = Workspace(config.workspace)
    images = tables.read(workspace.images, tables.IMAGES, "01")
    rows = images[images["split"] == "train"]
    labels = LabelJudge(config, Competition(config.competition), folder)
    forward, in_sample = (made and Ensemble([made().eval()], torch.device("cpu")) for made in (network, in_sample))
    group_of = dict(zip(rows["image_id"], rows["image_id"], strict=True))
    images = list(zip(rows["image_id"], rows["path"], strict=True))
    fold = FoldImages.of(images, group_of, tables.read(workspace.tiles, tables.TILES, "01"))
    labels.judge(fold, forward, in_sample)
    return config, workspace, labels.finish()[0]


def test_shifted_labels_are_listed_worst_first_with_pictures(noisy, tmp_path):
    _, workspace, table = judge(noisy, tmp_path / "clean", "--clean.pictures", "3")
    assert len(table) == len(tables.read(workspace.tiles, tables.TILES, "01"))
    suspects = table[table["suspect"]]
    assert set(suspects["image_id"]) == set(NOISY), "only these, and both"
    with_object = table[table["image_id"].isin(NOISY) & (table["object_pixels"] >= 100)]
    assert len(suspects) >= 0.8 * len(with_object)
    assert list(suspects["short"]) == sorted(suspects["short"], reverse=True)
    images = pd.read_csv(tmp_path / "clean/images.csv")
    assert set(images.loc[images["suspect"], "image_id"]) == set(NOISY) == set(images["image_id"][:2])
    pictures = sorted(path.name for path in (tmp_path / "clean").glob("*.jpg"))
    assert pictures == [f"{i + 1:02}_{tile_id}.jpg" for i, tile_id in enumerate(suspects["tile_id"][:3])]


def suspect_images(*arguments, **networks):
    return set(judge(*arguments, **networks)[2].query("suspect")["image_id"])


def test_labels_that_members_which_trained_on_them_confirm_are_cleared(tiny, tmp_path):
    path = tiny.parent / "raw/train/im1.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    config = corrupted(tiny)
    alone = suspect_images(config, tmp_path / "alone")
    assert alone == {"im1"}, "a stain that members never saw is hard, and hides what is wrong"
    folder = tmp_path / "clean"
    assert suspect_images(config, folder, in_sample=BothStains) == set(NOISY)
    table = pd.read_csv(folder / "tiles.csv").query("object_pixels >= 100").set_index("image_id")
    assert (table.loc["im1", "short"] > 0.3).all() and (table.loc["im1", "seen_short"] < 0.1).all()
    assert (table.loc["im1", "seen_miou"] > 0.8).all() and (table.loc[NOISY, "seen_miou"] < 0.5).all()
    assert len(list(folder.glob("*.jpg"))) == table["suspect"].sum(), "pictures are of suspects alone"
    images = tables.read(folder / "images.csv", tables.CLEAN_IMAGES, "04")
    assert set(images.loc[images["suspect"], "image_id"]) == set(NOISY)


def test_members_that_trained_on_a_label_find_what_others_expect_too_little_to_doubt(noisy, tmp_path):
    folder = tmp_path / "clean"
    assert not suspect_images(noisy, folder, network=Dim), "they expect little of themselves"
    assert suspect_images(noisy, folder, "--clean.drop_below", "0", network=Dim, in_sample=Bright) == set(NOISY)
    table = tables.read(folder / "tiles.csv", tables.CLEAN_TILES, "04")
    suspects = table[table["suspect"]]
    assert list(suspects["doubt"]) == sorted(suspects["doubt"], reverse=True), "the worst first"
    assert table["doubt"].to_numpy() == pytest.approx((table["short"] + 3 * table["seen_short"]) / 4, abs=1e-3)
    assert suspects["mask_path"].any() and all((folder / path).is_file() for path in suspects["mask_path"] if path)
    assert not suspect_images(noisy, folder, "--clean.in_sample_weight", "0.1", network=Dim, in_sample=Bright)
    assert not suspect_images(noisy, folder, network=Dim, in_sample=Dim)


def test_each_bound_of_a_suspect_is_its_own(noisy, tmp_path):
    def suspects(*flags):
        return set(judge(noisy, tmp_path / "clean", *flags)[2].query("suspect")["tile_id"])

    usual = suspects()
    assert suspects("--clean.list_below", "0.6") < usual < suspects("--clean.list_below", "-1")
    assert not suspects("--clean.list_below", "1")
    assert not suspects("--clean.min_foreground", "100000"), "nothing to judge by"


def test_where_nothing_is_left_to_train_on_it_is_said(noisy):
    flags = ["--clean.list_below", "-1", "--clean.drop_below", "1", "--clean.min_foreground", "0"]
    config, workspace, table = judge(noisy, Workspace(noisy.parent / "work").clean_dir, *flags, "--clean.use", "true")
    table.assign(action="drop").to_csv(workspace.clean_dir / "tiles.csv", index=False)
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    with pytest.raises(UserError, match=r"clean.tiles\.csv drops every tile .* lower clean\.drop_below"):
        training_tiles(workspace, folds, 0, config)


def test_another_kind_of_mended_label_is_another_file(noisy, tmp_path):
    soft, hard = (set(judge(noisy, tmp_path / "clean", "--clean.drop_below", "0", *f)[2]["mask_path"])
                  for f in ((), ("--pseudo.hard", "true")))  # fmt: skip
    assert len(soft) > 1 and soft & hard == {""}, "03 tells by the table that it has to train again"


def test_hopeless_tiles_are_dropped_and_bad_ones_get_the_members_label(noisy):
    clean = Workspace(noisy.parent / "work").clean_dir
    config, workspace, table = judge(noisy, clean, "--clean.drop_below", "0.02", "--clean.use", "true")
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    actions = table.set_index("tile_id")["action"]
    assert {"keep", "drop", "relabel"} == set(actions)
    tiles = training_tiles(workspace, folds.assign(fold=-2), 0, config)
    assert not set(tiles["tile_id"]) & set(actions.index[actions == "drop"])
    assert set(tiles.loc[tiles["soft"], "tile_id"]) == set(actions.index[actions == "relabel"])
    data = make_data(tiles.reset_index(drop=True), config, 1, 1)
    at = int(np.flatnonzero(tiles["soft"])[0])
    image, planes = data.dataset.tiles[at].image, data.dataset.tiles[at].label
    bright = cv2.blur(cv2.imread(str(image)).mean(2), (9, 9)) > 135
    mended = cv2.imread(str(planes), cv2.IMREAD_GRAYSCALE) > 127
    assert (bright == mended).mean() > 0.98
    kept = {path.name for path in workspace.tiles_dir.iterdir()}
    assert Path(tiles.iloc[0]["image_path"]).name in kept, "labels on disk stay as they were"


def test_bad_tiles_may_be_weighed_instead(noisy):
    flags = ["--clean.drop_below", "0", "--clean.on_bad_label", "weigh", "--clean.weight", "0.25"]
    flags += ["--clean.use", "true"]
    config, workspace, table = judge(noisy, Workspace(noisy.parent / "work").clean_dir, *flags)
    folds = tables.read(workspace.folds, tables.FOLDS, "02").assign(fold=-2)
    tiles = training_tiles(workspace, folds, 0, config)
    light = set(table.loc[table["action"] == "weigh", "tile_id"])
    assert light and set(tiles.loc[tiles["weight"] == 0.25, "tile_id"]) == light and not tiles["soft"].any()


def test_04_cleans_and_03_uses_it(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny)
    run("04_pseudo_label", tiny, "--clean")
    table = pd.read_csv(tiny.parent / "work/clean/tiles.csv")
    assert set(table["image_id"]) == {f"im{i}" for i in range(6)}
    assert "are suspects" in capsys.readouterr().out
    images, dice = (
        tables.read(tiny.parent / "work/clean/images.csv", tables.CLEAN_IMAGES, "04").set_index("image_id"),
        {},
    )
    for member in (tiny.parent / "work/runs/base").iterdir():
        dice |= json.loads((member / "done.json").read_text())["images"]
    agreed = {image_id: pytest.approx(d / (2 - d), abs=1e-3) for image_id, d in dice.items()}
    assert images["miou"].to_dict() == agreed, "by members that never saw it"
    assert not set(images["seen_miou"]) & set(images["miou"]) and table["seen_short"].notna().all(), "by the others"
    run("04_pseudo_label", tiny, "--clean")
    assert "04_clean: up to date" in capsys.readouterr().out
    run("03_train", tiny, "--train.experiment", "cleaned", "--clean.use", "true")
    assert "optimistic" in capsys.readouterr().out
    run("04_pseudo_label", tiny, "--clean", "--clean.in_sample_weight", "0")
    assert pd.read_csv(tiny.parent / "work/clean/tiles.csv")["seen_short"].isna().all()
    assert json.loads((tiny.parent / "work/runs/cleaned/fold0_seed42/done.json").read_text())["score"] >= 0


def labeled(truth, guess, p, classes=1):
    """Counts of pixels of which label and members say these classes, the latter with probability `p`."""
    truth, guess = np.array([truth], np.uint8), np.array([guess])
    bins = np.round(255 * np.where(guess == np.arange(classes + 1)[:, None, None], p, (1 - p) / classes))
    return count_by_level(truth, (bins[1:] if classes == 1 else bins).astype(np.uint8), 1)


def test_agreement_counts_the_classes_that_either_has():
    assert mean_label_iou(labeled([0, 0, 1, 1, 255], [0, 0, 1, 1, 1], 0.9)) == 1.0
    assert mean_label_iou(labeled([0, 1, 1, 0], [0, 1, 1, 2], 0.9, 2)) == 0.5, "a class that only the members see"
    assert mean_label_iou(labeled([0, 0], [0, 0], 0.9, 2)) == 1.0
    config = load(None, ["--clean.drop_below", "0.1", "--clean.relabel_below", "0.3"]).clean
    assert [action_for(miou, config) for miou in (0.05, 0.2, 0.4)] == ["drop", "relabel", "keep"]


def test_each_class_that_overlaps_is_judged_as_if_it_were_the_only_one():
    rng = np.random.default_rng(0)
    truth, probs = rng.choice([0, 1, 255], (3, 8, 9)).astype(np.uint8), rng.integers(0, 256, (3, 8, 9)).astype(np.uint8)
    alone = [count_by_level(plane, p[None], 1) for plane, p in zip(truth, probs, strict=True)]
    assert (count_by_level(truth, probs, 0) == np.concatenate(alone)).all()
    assert not (alone[0] == alone[1]).all() and sum(map(np.sum, alone)) == (truth != 255).sum()


def test_members_expect_what_they_were_worth_on_the_other_images_of_the_group():
    sure, doubtful = [1] * 90 + [0] * 10 + [0] * 100, [1] * 45 + [0] * 55 + [0] * 100
    said = [1] * 100 + [0] * 100
    wrong = [0] * 100 + [1] * 100
    images = {"a1": sure, "a2": sure, "b1": doubtful, "b2": doubtful, "c": wrong}
    counts = {name: labeled(truth * 50, said * 50, 0.97) for name, truth in images.items()}
    rates = calibrated_rates(counts, {name: name[0] for name in images})
    expected = {name: expected_iou(counts[name], rates[name]) for name in images}
    # Of a1: a2 and the mean of the four others, (90 + 45) / 200 right where object is said, (0 + 25) / 200 where not.
    a, b = 0.675 / 1.125, (45 + 56.25) / 200 / 1.125
    assert expected == pytest.approx({"a1": a, "a2": a, "b1": b, "b2": b, "c": 0.675}, abs=1e-3)
    alone = expected_iou(counts["a1"], calibrated_rates({"a1": counts["a1"]}, {"a1": "a"})["a1"])
    assert alone == pytest.approx(243.5 / 266.5, abs=1e-3), "nothing is known but the probability itself, by its level"
    two = labeled([0, 1, 2], [1, 1, 2], 0.97, 2)
    assert expected_iou(two, np.ones((2, 2, 16)) * [[[0], [1]]]) == 1.0, "each class by itself"
    none = labeled([0] * 1000, [0] * 1000, 0.97)
    odd = labeled([1] * 500 + [0] * 500, [0] * 1000, 0.97)  # an object where members surely see none
    few = np.full((1, 2, 16), 0.01)
    assert expected_iou(odd, few) == expected_iou(odd, few, 0) == mean_label_iou(odd) == 0 and mean_label_iou(none) == 1
    assert expected_iou(odd, few, 100) == pytest.approx(100 / 110, abs=1e-3) and mean_label_iou(odd, 100) < 0.2


def test_where_only_one_fold_has_members_it_is_said_that_none_confirm(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny, "--train.folds", "1")
    run("04_pseudo_label", tiny, "--clean")
    assert "only fold 1 has members" in capsys.readouterr().out
    assert pd.read_csv(tiny.parent / "work/clean/tiles.csv")["seen_short"].isna().all()
