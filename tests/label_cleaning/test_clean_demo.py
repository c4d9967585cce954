"""A tenth of the demo's labels is corrupted: weak members find most of them, and little else."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib import tables
from lib.competition import rle
from lib.competition.demo import make_demo

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SETTINGS = {
    "competition": {"name": "demo", "classes": ["tuft"], "metadata": "metadata.csv"},
    # Missing labels make background: all of it is kept, so that their tiles are judged too.
    "preprocess": {"scale": 0.125, "tile_size": 128, "stride": 96, "background_keep": 1.0},
    "folds": {"k": 3, "group_column": "patient", "leak_check": False},
    "model": {"decoder_channels": [96, 64, 48, 32, 16]},
    "train": {
        "epochs": 1, "batch_size": 8, "lr": 1.5e-3, "evaluations": 0, "precision": "auto", "workers": 1,
        "sampling": {"samples_per_epoch": 1600, "foreground_share": 0.6},
        "swa": {"start": 0.75, "every": 0.05, "schedule": "anneal", "bn_batches": 10},
    },
    "infer": {"window": 192, "overlap": 0.25},
    "report": {"pictures": 0},
}  # fmt: skip


# Of six draws the one with the most tiles to find: 17, so that one or two more or less fail nothing. Measured on it:
# 16 of 17 found, 16 of 17 right; on one that the rule was not settled on (10): 11 of 13, and 11 of 11. Draws differ:
# with members of all three folds, 14 of 21 are found of draw 9, 15 of 16 right.
SEED = 8
FOLDS = ["--train.folds", "0", "1"]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def read_masks(raw, name="train.csv"):
    """Image id → the whole mask (H, W) of a table of run-lengths."""
    sizes = pd.read_csv(raw / "metadata.csv").set_index("id")[["height", "width"]]
    labels = pd.read_csv(raw / name, dtype=str, keep_default_na=False)
    return {row.id: rle.decode(row.encoding, *map(int, sizes.loc[row.id])) for row in labels.itertuples()}


def iou(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


def overlaps(one, other):
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def corrupt(masks, tiles, share, rng):
    """Change the masks, in place, in tiles (rows of tiles.csv) that cover a `share` of the ground that shows objects.

    None twice. A third each: nothing is labeled; shifted by a third of a tile; another tile's objects.
    """
    true = {image_id: mask.copy() for image_id, mask in masks.items()}
    cut = {i: true[t.image_id][t.y : t.y + t.height, t.x : t.x + t.width] for i, t in enumerate(tiles.itertuples())}
    shown = [i for i, label in cut.items() if label.sum() > 200 * 64]  # 200 pixels as stored
    most, done = share * len(shown) * (96 / 128) ** 2, []  # tiles overlap
    for i in rng.permutation(shown):
        t, old = tiles.iloc[i], cut[i]
        box = t.y, t.x, t.height, t.width
        if len(done) >= most or any(name == t.image_id and overlaps(box, other) for name, other in done):
            continue
        kind = len(done) % 3
        if kind == 0:
            new = np.zeros_like(old)
        elif kind == 1:
            new = np.roll(old, rng.choice([-1, 1], 2) * (old.shape[0] // 3), (0, 1))
        else:
            other = cut[rng.choice([j for j in shown if j != i])]
            new = np.zeros_like(old)
            h, w = np.minimum(old.shape, other.shape)
            new[:h, :w] = other[:h, :w]
        if iou(new, old) < 0.4:
            masks[t.image_id][t.y : t.y + t.height, t.x : t.x + t.width] = new
            done.append((t.image_id, box))
    return len(done)


def prepare(folder, share, seed):
    """(YAML, harm): the demo with a `share` of its labels corrupted; tile id → IoU of its label with the true one."""
    raw = folder / "raw"
    make_demo(raw)
    (raw / "train.csv").rename(raw / "true.csv")
    settings = {**SETTINGS, "competition": {**SETTINGS["competition"], "root": str(raw)}}
    settings["competition"]["labels"] = {"path": "train.csv"}
    settings["workspace"] = str(folder / "work")
    config = folder / "demo.yaml"
    config.write_text(yaml.safe_dump(settings))
    run("01_preprocess", config, "--workspace", str(folder / "true"), "--competition.labels.path", "true.csv")
    tiles = tables.read(folder / "true/tiles.csv", tables.TILES, "01")
    masks, true = read_masks(raw, "true.csv"), read_masks(raw, "true.csv")
    corrupt(masks, tiles, share, np.random.default_rng(seed))
    table = pd.DataFrame([(name, rle.encode(mask)) for name, mask in masks.items()], columns=["id", "encoding"])
    table.to_csv(raw / "train.csv", index=False)
    harm = {}
    for t in tiles.itertuples():
        old, new = (m[t.image_id][t.y : t.y + t.height, t.x : t.x + t.width] for m in (true, masks))
        harm[t.tile_id] = iou(old, new) if (old | new).any() else 1.0
    return config, pd.Series(harm)


def found(harm, table, suspect):
    """(recall, precision) of listed tiles: those with more than half of the label wrong are to be found.

    What the change of a neighbour touches with more than a fifth is no mistake, nor has it to be found.
    """
    listed = set(table.loc[suspect, "tile_id"])
    judged = set(table.loc[table["object_pixels"] >= 100, "tile_id"])
    bad, touched = set(harm.index[harm < 0.5]) & judged, set(harm.index[harm < 0.8])
    assert len(bad) >= 5, "the fixture is degenerate"
    return len(listed & bad) / len(bad), len(listed & touched) / max(1, len(listed))


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """(folder, YAML, harm as in `prepare`): members trained on the corrupted labels, which then were judged."""
    folder = tmp_path_factory.mktemp("clean")
    config, harm = prepare(folder, 0.1, seed=SEED)
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, config, *FOLDS)
    run("04_pseudo_label", config, "--clean")
    return folder, config, harm


def test_four_fifths_of_the_corrupt_labels_are_found_and_few_others(cleaned):
    folder, _, harm = cleaned
    table = tables.read(folder / "work/clean/tiles.csv", tables.CLEAN_TILES, "04")
    recall, precision = found(harm, table, table["suspect"])
    assert recall >= 0.8 and precision >= 0.8, (recall, precision)
    alone = found(harm, table, (table["short"] > 0.3) & (table["object_pixels"] >= 100))
    assert recall + precision > sum(alone), "members that trained on the labels judge them better"


def test_mending_takes_away_half_of_what_is_wrong_in_the_labels_trained_on(cleaned):
    """Disagreement with the true label, 1 - IoU, over tiles with object: the mean of the tiles that are kept."""
    folder, _, harm = cleaned
    true = read_masks(folder / "raw", "true.csv")
    before, after = [], []
    for t in tables.read(folder / "work/clean/tiles.csv", tables.CLEAN_TILES, "04").itertuples():
        label = true[t.image_id][t.y : t.y + t.height, t.x : t.x + t.width]
        wrong = 1 - harm[t.tile_id]
        if not (label.any() or wrong):
            continue
        before.append(wrong)
        if t.mask_path:
            mended = cv2.imread(str(folder / "work/clean" / t.mask_path), cv2.IMREAD_GRAYSCALE) > 127
            small = cv2.resize(label * np.uint8(255), mended.shape[::-1], interpolation=cv2.INTER_AREA) > 127
            wrong = 1 - iou(mended, small)
        if t.action != "drop":
            after.append(wrong)
    assert len(after) > 0.7 * len(before), "nothing is gained by dropping all"
    assert np.mean(after) < np.mean(before) / 2, (np.mean(before), np.mean(after))


def test_training_on_the_mended_labels_regains_half_of_what_was_lost(cleaned):
    """All are scored by the true labels, one seed; over three the order is another (docs/results/techniques.md)."""
    folder, config, _ = cleaned
    right = ["--workspace", str(folder / "true"), "--competition.labels.path", "true.csv"]
    run("03_train", config, *FOLDS, "--train.experiment", "mended", "--clean.use", "true")
    shutil.copy(folder / "work/folds.csv", folder / "true/folds.csv")
    run("03_train", config, *FOLDS, *right, "--train.experiment", "right")
    for made, name in (("base", "wrong"), ("mended", "mended")):
        shutil.copytree(folder / "work/runs" / made, folder / "true/runs" / name)
    score = {}
    for name in ("wrong", "mended", "right"):
        run("05_infer_ensemble", config, *right, "--infer.experiments", name, "--infer.tag", name)
        score[name] = json.loads((folder / "true/decision.json").read_text())["cross_score"]
    print(score)
    lost = score["right"] - score["wrong"]
    assert lost > 0.02, f"the corrupted labels cost nothing: {score}"
    assert score["mended"] - score["wrong"] >= lost / 2, score
