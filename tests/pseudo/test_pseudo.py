import runpy
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import done, manifest

from lib import tables
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.config.pseudo import Pseudo
from lib.data.targets import soft_target
from lib.data.tile_files import read_image, read_planes, write_planes
from lib.imaging.grid import grid, whole_size
from lib.imaging.stitch import panel_edges
from lib.inference.windows import Block, Limits
from lib.oof.codes import to_probs_u8
from lib.pseudo.select import confident_share, outside_probs, select
from lib.pseudo.soft_labels import hardened, most_likely, tempered
from lib.pseudo.store import TileStore, drop_unused, store_tiles
from lib.pseudo.tiles import assemble_tiles
from lib.tables import PSEUDO_TILES, class_columns
from lib.training.member import make_data, training_tiles
from lib.training.rounds import labelers
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def blocks_of(image_id, probs, cuts, columns=2**31):
    """Blocks of a whole map (S, K, h, w), as high as `cuts` say in turn, in panels of `columns`."""
    y, height, width = 0, *probs.shape[2:]
    while y < height:
        step = min(cuts[y % len(cuts)], height - y)
        for x0, x1 in pairwise(panel_edges(width, columns)):
            yield Block(image_id, y, x0, probs[:, :, y : y + step, x0:x1], height, width)
        y += step


@given(
    st.integers(1, 70),
    st.integers(1, 50),
    st.integers(8, 40),
    st.lists(st.integers(1, 25), min_size=1),
    st.integers(3, 60),
    st.sampled_from([1e-7, 1e-6, 1]),
)
def test_tiles_are_cuts_of_the_whole_map(height, width, tile, cuts, columns, max_gib):
    probs = np.random.default_rng(height).random((2, 1, height, width)).astype(np.float32)
    tiles = list(assemble_tiles(blocks_of("a", probs, cuts, columns), tile, Limits(max_gib=max_gib)))
    boxes = [box for _, box, _ in tiles]
    assert sorted((y, x) for y, x, _, _ in boxes) == grid(height, width, tile, tile)
    for _, (y, x, h, w), bins in tiles:
        assert (h, w) == (min(tile, height), min(tile, width))
        assert (bins == to_probs_u8(probs[:, :, y : y + h, x : x + w])).all()


def test_tiles_start_anew_with_every_image():
    rng = np.random.default_rng(1)
    maps = {name: rng.random((1, 2, height, 6)).astype(np.float32) for name, height in (("a", 19), ("b", 3), ("c", 30))}
    blocks = [block for name, probs in maps.items() for block in blocks_of(name, probs, [7, 4])]
    tiles = [(name, y, h) for name, (y, _, h, _), _ in assemble_tiles(blocks, 10)]
    assert tiles == [("a", 0, 10), ("a", 9, 10), ("b", 0, 3), ("c", 0, 10), ("c", 10, 10), ("c", 20, 10)]


def test_only_confident_tiles_the_surest_first_and_a_share_of_the_empty_ones():
    rows = [{"confidence": i / 100, "has_object": i % 2 == 0, "classes": [], "stored": True} for i in range(100)]
    options = Pseudo(min_confidence=0.6, background_keep=0.5, max_tiles=0)
    kept = select(rows, options, background=True, seed=0)
    assert min(kept) >= 60
    assert sum(rows[i]["has_object"] for i in kept) == 20 and sum(not rows[i]["has_object"] for i in kept) == 10
    assert kept == select(rows, options, background=True, seed=0) != select(rows, options, background=True, seed=1)
    assert select(rows, Pseudo(min_confidence=0.6, max_tiles=5), background=False, seed=0) == [95, 96, 97, 98, 99]
    assert select(rows, Pseudo(min_confidence=1.0), background=True, seed=0) == []


def test_many_classes_are_sure_by_their_largest_probability():
    bins = np.array([[[250, 100]], [[3, 100]], [[2, 55]]], np.uint8)
    assert confident_share(bins, 0.9) == 0.5
    assert confident_share(bins, 0.3) == 1.0


@pytest.mark.parametrize(
    ("classes", "background", "multilabel", "roi"),
    [
        (1, True, False, "boxes.csv"),
        (4, True, False, "boxes.csv"),
        (5, False, False, "content"),
        (5, False, False, "none"),
        (5, True, True, "boxes.csv"),
    ],
)
def test_what_is_not_predicted_is_not_sure_unless_it_is_blank_background(classes, background, multilabel, roi):
    names = [f"class{i}" for i in range(classes)]

    def map_of(roi, **options):
        settings = CompetitionSettings(classes=names, multilabel=multilabel, **options)
        values = outside_probs(settings, roi)[:, None, None]
        assert len(values) == settings.channels
        return to_probs_u8(np.broadcast_to(values, (len(values), 4, 4)))

    assert confident_share(map_of(roi, background=background), 0.51, multilabel) == 0
    blank = map_of("content")
    assert confident_share(blank, 0.99, multilabel) == 1 and not most_likely(blank, multilabel).any()


def test_a_pixel_is_sure_if_every_class_that_may_be_there_is():
    bins = np.array([[[250, 250, 100]], [[250, 3, 3]]], np.uint8)  # both, the first alone, perhaps the first
    assert confident_share(bins, 0.9, multilabel=True) == pytest.approx(2 / 3)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 2.0]))
def test_soft_labels_of_classes_that_overlap_are_those_of_each_class_alone(seed, temperature):
    bins = np.random.default_rng(seed).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    for change in (lambda *args: tempered(args[0], temperature, *args[1:]), hardened):
        assert (change(bins, True) == np.concatenate([change(plane[None]) for plane in bins])).all()
    assert (most_likely(bins, True) == np.stack([most_likely(plane[None]) for plane in bins])).all()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_a_fold_is_labeled_by_its_own_members_only(member_folds):
    folds, groups = labelers(member_folds, "per_fold")
    assert folds == sorted(set(member_folds))
    assert all({member_folds[i] for i in group} == {fold} for fold, group in zip(folds, groups, strict=True))
    assert sorted(i for group in groups for i in group) == list(range(len(member_folds)))
    assert labelers(member_folds, "ensemble") == ([-1], [list(range(len(member_folds)))])


def test_soft_labels_survive_storage_and_hard_ones_are_rounded(tmp_path):
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], (6, 7)).transpose(2, 0, 1).astype(np.float32)
    write_planes(tmp_path / "soft.png", to_probs_u8(probs))
    target, valid = soft_target(read_planes(tmp_path / "soft.png", 3))
    assert np.abs(target - probs).max() < 0.01 and valid.all() and np.allclose(target.sum(0), 1)
    write_planes(tmp_path / "hard.png", hardened(to_probs_u8(probs)))
    hard, _ = soft_target(read_planes(tmp_path / "hard.png", 3))
    assert (hard.argmax(0) == to_probs_u8(probs).argmax(0)).all() and set(np.unique(hard)) == {0.0, 1.0}


@pytest.fixture
def stored(tiny, tmp_path):
    """(rows, folder, config, image, probs) of one test image of the tiny competition; its left half is sure."""
    flags = {"preprocess.scale": 0.5, "preprocess.tile_size": 48, "preprocess.stride": 0, "pseudo.min_confidence": 0.4}
    config = load(tiny, [text for key, value in flags.items() for text in (f"--{key}", str(value))])
    path = f"{config.competition.root}/test/im6.png"
    image = read_image(path)
    rng = np.random.default_rng(3)
    height, width = image.shape[:2]
    probs = rng.random((2, 1, height, width)).astype(np.float32)
    probs[:, :, :, : width // 2] = rng.random((2, 1, height, width // 2)).round() * 0.98 + 0.01
    folder = tmp_path / "tiles"
    folder.mkdir()
    rows = store_tiles(
        blocks_of("im6", probs, [31]), {"im6": path}, TileStore(folder, [0, 1], config, ["background", "disc"])
    )
    return rows, folder, config, image, probs


def test_stored_tiles_show_their_place_at_the_size_of_training_tiles(stored):
    rows, folder, _, image, probs = stored
    height, width = image.shape[:2]
    assert (height, width) == (192, 170)
    assert [(r["y"], r["x"], r["fold"]) for r in rows] == [
        (y, x, fold) for y in (0, 96) for x in (0, width - 96) for fold in (0, 1)
    ]
    table = pd.DataFrame(rows)
    assert set(PSEUDO_TILES) - {"source"} <= set(table) and set(class_columns(["disc"])) <= set(table)
    sure = [row for row in rows if row["confidence"] >= 0.4]
    assert 0 < len(sure) < len(rows), "the fixture is degenerate"
    assert all(row["x"] == 0 for row in sure)
    assert {p.name for p in folder.iterdir()} == {r[k].split("/")[1] for r in sure for k in ("image_path", "mask_path")}
    for row in sure:
        y, x, h, w = (row[key] for key in ("y", "x", "height", "width"))
        tile = read_image(folder.parent / row["image_path"])
        shrunk = image[y : y + h, x : x + w].reshape(48, 2, 48, 2, 3).mean((1, 3))
        assert tile.shape == (48, 48, 3) and np.abs(tile - shrunk).max() <= 1
        target, _ = soft_target(read_planes(folder.parent / row["mask_path"], 1))
        wanted = probs[row["fold"], 0, y : y + h, x : x + w].reshape(48, 2, 48, 2).mean((1, 3))
        assert np.abs(target[0] - wanted).max() < 1.01 / 255
        assert row["px_disc"] == int((target > 0.5).sum()) > 0


def test_files_of_tiles_that_were_not_chosen_are_dropped(stored):
    rows, folder, *_ = stored
    chosen = [row for row in rows if row["confidence"] >= 0.4 and row["fold"] == 1]
    assert chosen
    drop_unused(folder, chosen)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        r[k].split("/")[1] for r in chosen for k in ("image_path", "mask_path")
    )


def test_tiles_outside_of_the_boxes_are_not_labeled(stored, tmp_path):
    _, _, config, image, probs = stored
    pd.DataFrame([("im6", 0, 0, 50, 20)], columns=["image_id", "y", "x", "height", "width"]).to_csv(
        tmp_path / "boxes.csv", index=False
    )
    config = config.model_copy(update={"infer": config.infer.model_copy(update={"roi": str(tmp_path / "boxes.csv")})})
    other = tmp_path / "other"
    other.mkdir()
    paths = {"im6": f"{config.competition.root}/test/im6.png"}
    rows = store_tiles(blocks_of("im6", probs, [64]), paths, TileStore(other, [0, 1], config, ["background", "disc"]))
    assert {(row["y"], row["x"]) for row in rows} == {(0, 0)}


def test_where_images_are_shrunk_whole_their_pseudo_labels_are_too(stored, tmp_path):
    _, _, config, image, probs = stored
    preprocess = config.preprocess.model_copy(update={"mode": "resize"})
    pseudo = config.pseudo.model_copy(update={"min_confidence": 0.0})
    config = config.model_copy(update={"preprocess": preprocess, "pseudo": pseudo})
    folder = tmp_path / "whole"
    folder.mkdir()
    paths = {"im6": f"{config.competition.root}/test/im6.png"}
    height, width = whole_size(*image.shape[:2], 48, "letterbox")
    small = np.stack([cv2.resize(p[0], (width, height), interpolation=cv2.INTER_AREA)[None] for p in probs])
    rows = store_tiles(blocks_of("im6", small, [13]), paths, TileStore(folder, [0, 1], config, ["background", "disc"]))
    assert [(row["y"], row["x"], row["height"], row["width"]) for row in rows] == [(0, 0, *image.shape[:2])] * 2
    target, _ = soft_target(read_planes(folder / Path(rows[1]["mask_path"]).name, 1))
    assert target.shape == (1, 48, 48)
    assert np.abs(target[0, :height, :width] - small[1, 0]).max() < 1 / 255


def test_rounds_end_when_scores_do_and_the_best_ones_members_are_taken(tmp_path, capsys):
    from lib.config import load
    from lib.training.rounds import chosen_experiment, chosen_round, needs_another_round, round_scores
    from lib.workspace import Workspace, write_json

    config = load(None, ["--pseudo.rounds", "4", "--pseudo.patience", "2"])
    rising, falling = [0.5, 0.6, 0.55], [0.5, 0.6, 0.55, 0.59]
    assert [chosen_round(s, config) for s in (rising, falling)] == [1, 1]
    assert needs_another_round(rising, config) and not needs_another_round(falling, config)
    assert not needs_another_round([0.1, 0.2, 0.3, 0.4, 0.5], config), "there are no more"
    flattering = load(None, ["--pseudo.rounds", "4", "--pseudo.source", "ensemble"])
    assert chosen_round(falling, flattering) == 3 and needs_another_round(falling, flattering)

    workspace = Workspace(tmp_path)
    for name, scores in (("base", (0.4, 0.6)), ("base-r1", (0.3, 0.5)), ("base-r3", (0.9, 0.9))):
        for seed, score in enumerate(scores):
            write_json(workspace.member_dir(name, 0, seed) / "done.json", done(score=score))
    assert round_scores(config, workspace) == [0.5, 0.4], "round 2 is missing"
    assert chosen_experiment(config, workspace) == "base"
    assert "round 0 are taken: the rounds' mean OOF scores are 0.5000, 0.4000" in capsys.readouterr().out


def test_rounds_made_from_members_that_were_trained_again_do_not_count(tmp_path):
    from lib.config import load
    from lib.training.rounds import round_scores
    from lib.workspace import Workspace, file_fingerprint, write_json

    workspace = Workspace(tmp_path)
    for name, folds in (("base", (0, 1)), ("base-r1", (0,))):
        for fold in folds:
            write_json(workspace.member_dir(name, fold, 42) / "done.json", done(score=0.5 + fold / 10))
    read = workspace.member_dir("base", 0, 42) / "done.json"
    made = manifest(made_from={f"file {read}": file_fingerprint(read)})
    write_json(tmp_path / "manifests/04_pseudo_label_round1.json", made)
    config = load(None, ["--pseudo.rounds", "1"])
    assert round_scores(config, workspace) == [0.5, 0.5], "over the fold that both rounds have"
    write_json(read, done(score=0.6))
    assert round(round_scores(config, workspace)[0], 6) == 0.6 and len(round_scores(config, workspace)) == 1


def test_a_fold_for_which_no_tile_is_sure_trains_on_true_labels_alone(tiny):
    for stage, *flags in (
        ["01_preprocess"],
        ["02_make_folds"],
        ["03_train"],
        ["04_pseudo_label", "--train.round", "1"],
    ):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), *flags])
    config = load(tiny, ["--train.round", "1"])
    workspace = Workspace(config.workspace)
    path = workspace.pseudo_dir(1) / "tiles.csv"
    kept = pd.read_csv(path)
    kept[kept["fold"] == 1].to_csv(path, index=False)
    (workspace.root / "manifests/04_pseudo_label_round1.json").unlink()  # as if the stage had written this
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    own, other = (training_tiles(workspace, folds, fold, config) for fold in (0, 1))
    assert not own["pseudo"].any() and other["pseudo"].any()
    assert all(tile.image.is_file() for tile in make_data(own, config, 1, 0).dataset.tiles)
