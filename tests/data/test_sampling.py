from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.config.training import Sampling, Swa, Train
from lib.data.dataset import BalancedSampler, keep_fraction
from lib.training.loop import Data, Trainer


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
    config = Train(epochs=4, swa=Swa(start=0.5, bn_batches=1))
    trainer = Trainer(
        config, nn.Conv2d(3, 1, 1), lambda logits, *_: logits.mean(), Data(Samples(), sampler, 0, 25), folder,
        seed=3, precision="fp32", device=torch.device("cpu"),
    )  # fmt: skip
    train_batch = trainer.train_batch

    def step(batch, last):
        if trainer.step == dies_at:
            raise KeyboardInterrupt
        return train_batch(batch, last)

    trainer.train_batch = step
    try:
        trainer.run(None)
    except KeyboardInterrupt:
        assert dies_at is not None
    return calls


def test_the_sampler_is_told_the_progress_and_again_the_same_after_a_kill(tmp_path, rare):
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
        return Counter(tile for tile, *_ in sampler_of(tiles, alike=alike, samples_per_epoch=300).keys(0))

    even, classes = drawn("tiles"), drawn("classes")
    assert even[3] + even[4] == 6
    doors, none = classes[3] + classes[4], sum(classes[tile] for tile in range(90, 100))
    assert 100 <= doors <= 104, "their own hundred, and their turn among the walls"
    assert none == 100 and len(classes) == 100
    pools = sampler_of(tiles, alike="classes", foreground_share=0.5, samples_per_epoch=200).keys(0)
    assert sum(tile in (3, 4) for tile, *_ in pools) >= 50 and sum(tile >= 90 for tile, *_ in pools) == 100


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.5])
def test_a_fraction_keeps_its_share_of_every_image_with_and_without_object(fraction):
    sizes = {"large": (40, 360), "plain": (0, 100), "full": (60, 0), "tiny": (1, 2)}
    rows = [(name, i < some) for name, (some, none) in sizes.items() for i in range(some + none)]
    tiles = pd.DataFrame(rows, columns=["image_id", "object"])
    kept = keep_fraction(tiles, fraction, seed=3)
    counts = kept.groupby(["image_id", "object"]).size()
    for name, (some, none) in sizes.items():
        for has, size in ((True, some), (False, none)):
            found = counts.get((name, has), 0)
            assert abs(found - size * fraction) < 1 or (name == "tiny" and found == 1), (name, has, found)
    assert set(kept["image_id"]) == set(sizes) and kept.index.is_unique and kept.index.is_monotonic_increasing
    assert kept.equals(keep_fraction(tiles, fraction, seed=3)) and not kept.equals(keep_fraction(tiles, fraction, 4))
    assert keep_fraction(tiles, 1.0, seed=3).equals(tiles)
