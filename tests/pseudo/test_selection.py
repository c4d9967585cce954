"""Which pseudo tiles are kept, how they are cut and sharpened, and the two ways to train on them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib import tables
from lib.config import load
from lib.config.pseudo import Pseudo
from lib.config.training import Sampling
from lib.data.sampler import BalancedSampler
from lib.data.tile_files import read_planes
from lib.errors import UserError
from lib.inference.networks import Ensemble
from lib.pseudo.agreement import Votes
from lib.pseudo.label_images import label_windows
from lib.pseudo.select import ClassQuota, confidence, select
from lib.pseudo.soft_labels import tempered
from lib.pseudo.store import check_tiles_fit
from lib.pseudo.tiles import tile_starts
from lib.training.member import make_data, make_trainer, pretraining, training_tiles
from lib.workspace import Member, Workspace

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def test_a_tile_is_confident_by_its_sure_pixels_or_by_agreement():
    bins = np.array([[[255, 255, 128, 0]], [[0, 0, 127, 255]]], np.uint8)  # one pixel of four is undecided
    assert confidence(bins, Pseudo(confidence="sure")) == 0.75
    spread = np.concatenate([np.full((1, 4, 4), 200, np.uint8), np.full((1, 4, 4), 51, np.uint8)])
    assert confidence(spread, Pseudo(confidence="agreement")) == pytest.approx(0.8)


class Constant(nn.Module):
    def __init__(self, *probs):
        super().__init__()
        self.logits = torch.log(torch.tensor(probs)).view(1, -1, 1, 1)

    def forward(self, x):
        return self.logits.expand(len(x), -1, *x.shape[2:])


class Left(nn.Module):
    """Sees objects on the left only: its flipped views contradict one another."""

    def forward(self, x):
        side = torch.linspace(20, -20, x.shape[3]).view(1, 1, 1, -1)
        return side.expand(len(x), 1, *x.shape[2:])


def test_members_and_views_that_contradict_each_other_are_a_spread_beside_the_mean():
    nets = [Constant(0.2, 0.8), Constant(0.6, 0.4), Constant(0.5, 0.5), Constant(0.5, 0.5)]
    ensemble = Ensemble(nets, CPU, groups=[[0, 1], [2, 3]])
    windows = np.zeros((3, 8, 8, 3), np.uint8)
    out = Votes(ensemble)(windows)
    assert out.shape == (3, 2, 3, 8, 8)
    assert np.allclose(out[:, :, :2], ensemble(windows), atol=1e-6)
    assert np.allclose(out[:, 0, 2], 0.4, atol=1e-6) and np.allclose(out[:, 1, 2], 0, atol=1e-6)
    views = Votes(Ensemble([Left()], CPU, tta="flips"))(windows)[0, 0]
    assert views[1, 0, 0] > 0.9 and views[1].min() > 0.5
    for net in nets:
        net.multilabel = True  # logarithms of p are logits of p / (1 + p) then
    overlapping = Votes(Ensemble(nets, CPU, groups=[[0, 1], [2, 3]]))(windows)
    odds = [np.mean([p / (1 + p) for p in pair]) for pair in ((0.2, 0.6), (0.8, 0.4))]
    assert np.allclose(overlapping[:, 0, :2], np.reshape(odds, (2, 1, 1)), atol=1e-6)
    with pytest.raises(UserError, match=r"train more seeds .* or set infer\.tta"):
        Votes(Ensemble([Left(), Left()], CPU, groups=[[0], [1]]))


def rows_of(*tiles):
    return [
        {"confidence": sure, "has_object": bool(classes), "classes": list(classes), "stored": stored}
        for sure, classes, stored in tiles
    ]


def test_rare_classes_survive_by_their_quota():
    rows = rows_of(
        (0.99, ["road"], True), (0.98, ["road"], True), (0.3, ["well"], True), (0.2, ["well", "road"], True),
        (0.25, ["well"], False), (0.97, [], True),
    )  # fmt: skip
    without = Pseudo(min_confidence=0.9, max_tiles=1)
    assert select(rows, without, True, 0) == [0]
    assert select(rows, without.model_copy(update={"class_quota": 1}), True, 0) == [0, 2]
    assert select(rows, without.model_copy(update={"class_quota": 2}), True, 0) == [0, 1, 2, 3], "stored ones only"
    positive = Pseudo(min_confidence=0.9, background_keep=0)
    assert select(rows, positive, True, 0) == [0, 1], "only tiles with object"


@given(st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abc"))), max_size=40), st.integers(0, 4))
def test_whatever_a_quota_would_choose_in_the_end_was_admitted_as_it_came(tiles, quota):
    rows = rows_of(*((sure / 10, sorted(classes), True) for sure, classes in tiles))
    quotas = ClassQuota(quota)
    admitted = [quotas.admit(row) for row in rows]
    kept = select(rows, Pseudo(min_confidence=1, class_quota=quota), True, 0)
    held = {name: sum(name in row["classes"] for row in rows) for name in "abc"}
    assert all(admitted[i] for i in kept)
    for name, count in held.items():
        assert sum(name in rows[i]["classes"] for i in kept) >= min(quota, count)


@given(st.integers(1, 200), st.integers(1, 50), st.floats(0, 0.99))
def test_a_shifted_grid_covers_everything_and_cuts_elsewhere(length, tile, shift):
    starts = tile_starts(length, tile, shift)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= max(0, length - tile)
        covered[start : start + tile] = True
    assert covered.all() and starts == sorted(set(starts))
    assert tile_starts(200, 50, 0.5) == [0, 25, 75, 125, 150]


def test_temperature_sharpens_or_softens_and_changes_no_decision():
    planes = np.random.default_rng(0).dirichlet([1, 1, 1], (6, 7)).transpose(2, 0, 1)
    bins = np.rint(255 * planes).astype(np.uint8)
    sharp, soft = tempered(bins, 0.5), tempered(bins, 2.0)
    assert sharp.max(0).mean() > bins.max(0).mean() + 5 and soft.max(0).mean() < bins.max(0).mean() - 5
    top = np.sort(planes, 0)[-1] - np.sort(planes, 0)[-2] > 0.02
    assert (sharp.argmax(0) == bins.argmax(0))[top].all() and (abs(sharp.sum(0, dtype=int) - 255) <= 2).all()
    assert tempered(bins, 1.0) is bins


def test_every_batch_has_its_share_of_pseudo_labels():
    tiles = pd.DataFrame({"object": True, "pseudo": [False] * 30 + [True] * 7})
    sampler = BalancedSampler(tiles, Sampling(samples_per_epoch=80), 0.3, seed=1)
    keys = [tile for tile, *_ in sampler.keys(0)]
    counts = [sum(tile >= 30 for tile in keys[i : i + 8]) for i in range(0, 80, 8)]
    assert sum(counts) == 24 and set(counts) <= {2, 3}
    assert keys != [tile for tile, *_ in sampler.keys(1)]


@pytest.fixture
def labeled(tiny):
    """The tiny competition, its members trained for round 0; (YAML, configuration, workspace)."""
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny)
    config = load(tiny)
    return tiny, config, Workspace(config.workspace)


def pseudo_tiles(workspace):
    return tables.read(workspace.pseudo_dir(1) / "tiles.csv", tables.PSEUDO_TILES, "04")


def test_each_option_of_04_changes_its_labels(labeled):
    tiny, _, workspace = labeled

    def made(*flags):
        run("04_pseudo_label", tiny, "--train.round", "1", "--pseudo.background_keep", "1", *flags)
        table = pseudo_tiles(workspace)
        folder = workspace.pseudo_dir(1)
        planes = {row.tile_id: read_planes(folder / row.mask_path, 1)[0] for row in table.itertuples()}
        return table, planes

    table, planes = made()
    corner = next(name for name in planes if "_y0_x0_" in name)
    shifted, _ = made("--pseudo.shift", "0.5")
    assert {48} <= set(shifted["y"]) - set(table["y"]) and set(shifted["y"]) >= {0}
    _, sharp = made("--pseudo.temperature", "0.2")
    assert np.abs(sharp[corner].astype(int) - 128).mean() > np.abs(planes[corner].astype(int) - 128).mean() + 5
    _, center = made("--pseudo.center_only", "true", "--infer.window", "64")
    _, whole = made("--infer.window", "64")
    assert (center[corner] != whole[corner]).any()
    few, _ = made("--pseudo.min_confidence", "1", "--pseudo.class_quota", "2")
    assert few.groupby("fold").size().tolist() == [2, 2] and (few["px_disc"] > 0).all()
    with pytest.raises(UserError, match="agreement compares votes"):
        made("--pseudo.confidence", "agreement")
    votes, _ = made("--pseudo.confidence", "agreement", "--infer.tta", "flips")
    assert votes["confidence"].between(0, 1).all() and votes["confidence"].nunique() > 1


def test_only_the_middle_of_windows_is_trusted_and_covers_everything():
    config = load(None, ["--pseudo.center_only", "true", "--infer.overlap", "0", "--infer.margin", "0.3"])
    windows = label_windows(config)
    assert windows.blend == "center" and windows.overlap == 0.6
    assert label_windows(load(None, [])).blend == "gaussian"


def test_disk_need_is_told_and_a_short_disk_is_refused_before_anything_is_written(labeled, capsys, monkeypatch):
    tiny, config, workspace = labeled
    run("04_pseudo_label", tiny, "--train.round", "1", "--pseudo.background_keep", "1")
    out = capsys.readouterr().out
    told = float(out.partition("04: at most about ")[2].partition(" tiles")[0])
    files = len(list((workspace.pseudo_dir(1) / "tiles").glob("im*.png")))
    assert "GiB free)" in out and files == 3 * told, "a picture, and a label for each of two folds"
    before = sorted(path.name for path in (workspace.pseudo_dir(1) / "tiles").iterdir())
    monkeypatch.setattr("lib.files.free_gib", lambda folder: 1e-5)
    with pytest.raises(UserError, match=r"need about .* GiB of disk, but .* has 0\.00 GiB free; make room"):
        run("04_pseudo_label", tiny, "--train.round", "1", "--pseudo.hard", "true")
    assert sorted(path.name for path in (workspace.pseudo_dir(1) / "tiles").iterdir()) == before
    images = tables.read(workspace.images, tables.IMAGES, "01")
    large = images[images["split"] == "test"].assign(height=3000)
    capsys.readouterr()
    monkeypatch.setattr("lib.files.free_gib", lambda folder: 1.0)
    check_tiles_fit(large, 2, 1, config, workspace)
    assert float(capsys.readouterr().out.partition("about ")[2].partition(" tiles")[0]) > 8 * told


def test_pretraining_sees_pseudo_labels_alone_and_the_rest_starts_from_its_weights(labeled):
    tiny, config, workspace = labeled
    run("04_pseudo_label", tiny, "--train.round", "1", "--pseudo.background_keep", "1")
    flags = ["--train.round", "1", "--pseudo.mode", "pretrain", "--pseudo.share", "0.25", "--train.epochs", "4"]
    config = load(tiny, flags)
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    tiles = training_tiles(workspace, folds, 0, config)
    before = pretraining(tiles, config)
    assert set(before.tiles["image_id"]) == {"im6", "im7"} and before.rest.train.epochs == 3
    data = make_data(tiles[~tiles["pseudo"]], before.rest, 1, 42)
    member = Member("tried", 0, 42, workspace.member_dir("tried", 0, 42))
    trainer = make_trainer(member, before.rest, 1, data)
    first = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    before.run(trainer, member, 1, 1)
    kept = torch.load(member.path / "pretrain/last_weights.pt", weights_only=True)
    now = trainer.network.state_dict()
    assert all(torch.equal(now[name], kept[name].to(now[name].dtype)) for name in kept)
    assert any(not torch.allclose(now[name], first[name], atol=1e-3) for name in first)
    steps = json.loads((member.path / "pretrain/metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert steps == data.steps() == trainer.total_steps() / 3, "a quarter of the training"
    assert pretraining(tiles, load(tiny)) is None and pretraining(tiles[~tiles["pseudo"]], config) is None

    run("03_train", tiny, *flags, "--train.folds", "0")
    done = json.loads((workspace.member_dir("base-r1", 0, 42) / "done.json").read_text())
    assert done["steps"] == trainer.total_steps()
    weights = (workspace.member_dir("base-r1", 0, 42) / "last_weights.pt").read_bytes()
    for name in ("done.json", "last.pt"):  # as if killed after the first training
        (workspace.member_dir("base-r1", 0, 42) / name).unlink()
    run("03_train", tiny, *flags, "--train.folds", "0")
    assert (workspace.member_dir("base-r1", 0, 42) / "last_weights.pt").read_bytes() == weights
