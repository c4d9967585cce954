from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from records import done
from torch import nn

from lib import tables
from lib.config import load
from lib.config.training import Sampling, Swa, Train
from lib.data.cutmix import Mixing
from lib.data.dataset import TileDataset, TileFile
from lib.data.sampler import BalancedSampler, keep_fraction
from lib.data.targets import Targets
from lib.errors import UserError
from lib.training.loader import TrainingData
from lib.training.member import member_inputs, training_tiles
from lib.training.trainer import Trainer
from lib.workspace import Member, Workspace, write_json, write_table


def sampler_of(tiles, pseudo_share=0.0, **options):
    return BalancedSampler(tiles, Sampling(**options), pseudo_share, seed=1)


@pytest.fixture
def rare():
    """A hundred tiles, ten of them with object."""
    return pd.DataFrame({"object": np.arange(100) < 10, "pseudo": False})


def objects_at(sampler, progress):
    return sum(tile < 10 for tile, *_ in sampler.keys(0, progress))


def test_the_foreground_share_moves_evenly_to_its_end(rare):
    moving = sampler_of(rare, foreground_share=0.8, foreground_share_end=0.4)
    assert [objects_at(moving, progress) for progress in (0, 0.5, 1)] == [80, 60, 40]
    assert moving.keys(3, 0.2) == moving.keys(3, 0.2)
    still = sampler_of(rare, foreground_share=0.8)
    assert still.keys(3) == still.keys(3, 1.0)


def test_a_foreground_share_of_1_draws_no_other_tile(rare):
    assert objects_at(sampler_of(rare, foreground_share=1.0), 0) == 100
    assert objects_at(sampler_of(rare, foreground_share=1.0, foreground_share_end=0.5), 1) == 50


def test_a_foreground_share_of_0_is_the_tiles_own_at_either_end(rare):
    falling = sampler_of(rare, foreground_share=0.5, foreground_share_end=0)
    rising = sampler_of(rare, foreground_share_end=0.5)
    assert [objects_at(falling, progress) for progress in (0, 0.5, 1)] == [50, 30, 10]
    assert [objects_at(rising, progress) for progress in (0, 0.5, 1)] == [10, 30, 50]


class Samples(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return torch.zeros(3, 4, 4), torch.zeros(1, 4, 4), torch.ones(1, 4, 4), np.float32(1)


def asked_of_the_sampler(folder, sampler, dies_at=None):
    """(epoch, progress) of every call while a network of one pixel is trained for four epochs."""
    calls, keys = [], sampler.keys
    sampler.keys = lambda epoch, progress: (calls.append((epoch, progress)), keys(epoch, progress))[1]
    folder.mkdir(exist_ok=True)
    config = Train(epochs=4, precision="fp32", swa=Swa(start=0.5, bn_batches=1))
    trainer = Trainer(
        config, nn.Conv2d(3, 1, 1), lambda logits, *_: logits.mean(), TrainingData(Samples(), sampler, 0, 25),
        Member("test", 0, 3, folder),
    )  # fmt: skip
    train_batch = trainer.train_batch

    def step(*arguments):
        if trainer.step == dies_at:
            raise KeyboardInterrupt
        return train_batch(*arguments)

    trainer.train_batch = step
    try:
        trainer.run(None)
    except KeyboardInterrupt:
        assert dies_at is not None
    return calls


def test_the_sampler_is_told_the_progress_and_again_the_same_after_a_kill(tmp_path, rare, monkeypatch):
    monkeypatch.setattr("lib.training.trainer.SAVE_INTERVAL", 0)
    options = {"foreground_share": 0.8, "foreground_share_end": 0.4}
    whole = asked_of_the_sampler(tmp_path / "whole", sampler_of(rare, **options))
    assert whole[:4] == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert {progress for _, progress in whole[4:]} <= {1.0}, "an average's batch norm sees what the end saw"
    asked_of_the_sampler(tmp_path / "killed", sampler_of(rare, **options), dies_at=10)
    resumed = asked_of_the_sampler(tmp_path / "killed", sampler_of(rare, **options))
    assert resumed == whole[2:]


def test_every_class_comes_equally_often_and_tiles_without_any_too():
    tiles = pd.DataFrame({"object": [True] * 90 + [False] * 10, "pseudo": False})
    common, rare = np.arange(100) < 90, np.isin(np.arange(100), [3, 4])
    tiles = tiles.assign(px_background=5, px_wall=common * 7, px_door=rare * 2, px_ignore=1)

    def drawn(alike):
        return Counter(tile for tile, *_ in sampler_of(tiles, balance=alike, samples_per_epoch=300).keys(0))

    even, classes = drawn("tiles"), drawn("classes")
    assert even[3] + even[4] == 6
    doors, none = classes[3] + classes[4], sum(classes[tile] for tile in range(90, 100))
    assert 100 <= doors <= 104, "their own hundred, and their turn among the walls"
    assert none == 100 and len(classes) == 100
    pools = sampler_of(tiles, balance="classes", foreground_share=0.5, samples_per_epoch=200).keys(0)
    assert sum(tile in (3, 4) for tile, *_ in pools) >= 50 and sum(tile >= 90 for tile, *_ in pools) == 100


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.5])
def test_a_fraction_keeps_its_share_of_every_image_with_and_without_object(fraction):
    sizes = {"large": (40, 360), "plain": (0, 100), "full": (60, 0)} | {f"tiny{i}": (1, 2) for i in range(9)}
    rows = [(name, i < some) for name, (some, none) in sizes.items() for i in range(some + none)]
    tiles = pd.DataFrame(rows, columns=["image_id", "object"])
    kept = keep_fraction(tiles, fraction, seed=3)
    counts = kept.groupby(["image_id", "object"]).size()
    for name, (some, none) in sizes.items():
        for has, size in ((True, some), (False, none)):
            found = counts.get((name, has), 0)
            assert abs(found - size * fraction) < 1 or (name[:4] == "tiny" and found == 1), (name, has, found)
    assert set(kept["image_id"]) == set(sizes) and kept.index.is_unique and kept.index.is_monotonic_increasing
    assert kept.equals(keep_fraction(tiles, fraction, seed=3)) and not kept.equals(keep_fraction(tiles, fraction, 4))
    assert keep_fraction(tiles, 1.0, seed=3).equals(tiles)


def test_images_come_in_proportion_to_their_difficulty():
    """Whatever their size, and within the pools of object and background too."""
    names = ["easy"] * 60 + ["hard"] * 10 + ["middle"] * 30
    tiles = pd.DataFrame({"image_id": names, "object": [True, False] * 50, "pseudo": False})
    tiles["difficulty"] = tiles["image_id"].map({"easy": 0.0, "middle": 0.35, "hard": 0.5})  # .05 : .4 : .55

    for options in ({}, {"foreground_share": 0.5}):
        sampler = sampler_of(tiles, difficulty="base", samples_per_epoch=4000, **options)
        drawn = np.array([tile for tile, *_ in sampler.keys(0)])
        counts = tiles["image_id"].iloc[drawn].value_counts()
        assert [counts[name] / 4000 for name in ("easy", "middle", "hard")] == pytest.approx(
            [0.05, 0.4, 0.55], abs=0.03
        )
        assert sampler.keys(0) == sampler.keys(0) != sampler.keys(1)
        hard = Counter(drawn[(drawn >= 60) & (drawn < 70)])
        assert len(hard) == 10 and max(hard.values()) - min(hard.values()) <= 0.1 * max(hard.values()), "turns"


@pytest.fixture
def workspace(tmp_path):
    """Five images of two tiles each in two folds; an experiment `base` of two seeds that scored all but image e."""
    workspace = Workspace(tmp_path)
    tiles = pd.DataFrame({name: [""] * 10 if kind == "str" else 0 for name, (kind, _) in tables.TILES.items()})
    write_table(
        workspace.tiles,
        tiles.assign(
            tile_id=list("0123456789"), image_id=list("aabbccddee"), px_background=1, px_object=9, px_ignore=0
        ),
    )
    folds = pd.DataFrame({"image_id": list("abcde"), "group": list("abcde"), "fold": [0, 0, 1, 1, 1]})
    write_table(workspace.folds, folds.assign(kept_from=""))
    for fold, images in enumerate(({"a": 0.2, "b": 0.4}, {"c": 0.5, "d": 1.0})):
        for seed, shift in ((1, 0), (2, 0.2)):
            shifted = {image_id: score - shift for image_id, score in images.items()}
            write_json(workspace.member_dir("base", fold, seed) / "done.json", done(images=shifted))
    return workspace


def tiles_of_fold(workspace, fold, *flags):
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    return training_tiles(workspace, folds, fold, load(None, ["--train.experiment", "next", *flags]))


def test_difficulty_is_what_an_experiment_got_wrong_out_of_fold(workspace):
    flags = ["--train.sampling.difficulty", "base"]
    tiles = tiles_of_fold(workspace, 0, *flags)
    expected = {"c": 0.6, "d": 0.1, "e": 0.35}  # 1 less the mean over seeds; e: the mean of c and d
    assert tiles.groupby("image_id")["difficulty"].unique().map(lambda a: a.item()).to_dict() == pytest.approx(expected)
    assert "difficulty" not in tiles_of_fold(workspace, 0)
    inputs = member_inputs(workspace, load(None, ["--train.experiment", "next", *flags]))
    assert len([path for path in inputs if path.name == "done.json"]) == 4


def test_difficulty_without_scores_says_what_to_run(workspace):
    with pytest.raises(UserError, match="runs/other holds no trained member; run 03_train.py --train.experiment other"):
        tiles_of_fold(workspace, 0, "--train.sampling.difficulty", "other")
    with pytest.raises(UserError, match="the very experiment to be trained"):
        tiles_of_fold(workspace, 0, "--train.sampling.difficulty", "next")
    for file in workspace.runs.glob("base/fold1*/done.json"):
        file.unlink()
    with pytest.raises(UserError, match="no score of an image that is trained on here; run 03_train.py again"):
        tiles_of_fold(workspace, 0, "--train.sampling.difficulty", "base")
    with pytest.raises(UserError, match="groups cannot come equally often"):
        load(None, ["--train.sampling.difficulty", "base", "--train.sampling.balance", "groups"])


def test_members_train_on_a_fraction_of_every_image(workspace):
    kept = tiles_of_fold(workspace, 0, "--train.sampling.fraction", "0.5")
    assert kept["image_id"].tolist() == list("cde") and kept["object"].all()


def test_a_tile_is_mixed_with_tiles_of_its_weight_and_kind_alone():
    kinds = [(False, 1.0), (False, 0.5), (True, 0.5)] * 4
    files = [TileFile(Path("x"), Path("y"), soft, weight) for soft, weight in kinds]
    dataset = TileDataset(files, Targets(1), None, 0, Mixing("cutmix", 1.0))
    seen, seeds = [], []

    def sample(index, seed):
        seen.append(int(index))
        seeds.append(seed)
        return np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)

    dataset._sample = sample
    for index in range(12):
        for epoch in range(5):
            dataset[index, epoch, index]
    first, second = seen[::2], seen[1::2]
    assert all(kinds[a] == kinds[b] for a, b in zip(first, second, strict=True)) and first != second
    # As earlier versions drew, whose trainings go on.
    assert second[:12] == [9, 0, 6, 3, 9, 7, 10, 7, 1, 4, 2, 5] and seeds[1:6:2] == [2914080152, 2492585276, 4195682756]
