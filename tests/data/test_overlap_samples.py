"""Samples of classes that overlap: every class has the planes that it would have as the only class."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from lib.config.training import Augment, Sampling
from lib.data.augment import Augmentation
from lib.data.cutmix import Mixing
from lib.data.dataset import TileDataset, TileFile
from lib.data.sampler import BalancedSampler
from lib.data.targets import Targets
from lib.data.tile_files import write_planes
from lib.tables import FULL, IGNORE

CLASSES, SIDE = 29, 40


@pytest.fixture
def planes():
    """A ramp of shares in each class, with other pixels ignored in each; many pixels have several classes."""
    rng = np.random.default_rng(0)
    stored = rng.choice([0, 60, FULL], (CLASSES, SIDE, SIDE)).astype(np.uint8)
    stored[rng.random(stored.shape) < 0.1] = IGNORE
    assert ((stored == IGNORE).any(0) & ~(stored == IGNORE).all(0)).any() and ((stored == FULL).sum(0) > 1).any()
    return stored


def tile_of(folder, planes, soft=False):
    name = f"{len(list(folder.iterdir()))}"
    cv2.imwrite(str(folder / f"{name}.png"), np.full((SIDE, SIDE, 3), 20 + 10 * int(name), np.uint8))
    write_planes(folder / f"{name}_mask.png", planes)
    return TileFile(folder / f"{name}.png", folder / f"{name}_mask.png", soft, 1.0)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("preset", "crop", "scale"), [("heavy", 24, 1.0), ("medium", 64, 1.0), ("none", 0, 0.5)])
def test_each_class_of_a_sample_is_the_sample_of_that_class_alone(preset, crop, scale, soft, planes, tmp_path):
    augmentation = Augmentation(Augment(preset=preset), crop)
    together = TileDataset([tile_of(tmp_path, planes, soft)], Targets(CLASSES, True), augmentation, 3, scale=scale)
    alone = [
        TileDataset([tile_of(tmp_path, planes[c : c + 1], soft)], Targets(1), augmentation, 3, scale=scale)
        for c in (0, 13, CLASSES - 1)
    ]
    for position in range(4):
        _, target, valid, _ = together[0, 0, position]
        assert target.shape == valid.shape and len(target) == CLASSES and target.dtype == valid.dtype == torch.float32
        for c, dataset in zip((0, 13, CLASSES - 1), alone, strict=True):
            _, one, known, _ = dataset[0, 0, position]
            assert torch.equal(target[c], one[0]) and torch.equal(valid[c], known[0])


def test_probabilities_of_classes_that_overlap_need_not_add_to_one():
    both = [np.full((1, 1), value, np.uint8) for value in (255, 204)]
    target, valid = Targets(2, True).of(both, soft=True)
    assert np.allclose(target.ravel(), [1, 0.8]) and valid.shape == (2, 1, 1)
    assert Targets(2).of(both, soft=True)[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("mix", ["cutmix", "copypaste"])
def test_mixing_takes_all_planes_of_a_pixel_from_one_tile(mix, planes, tmp_path):
    few = planes[:3].copy()
    few[:, :, ::2] = 0  # pixels without object
    tiles = [tile_of(tmp_path, few), tile_of(tmp_path, np.roll(few, 7, 1))]
    plain = TileDataset(tiles, Targets(3, True), Augmentation(Augment(preset="none"), 0), 1)
    mixed = TileDataset(tiles, Targets(3, True), Augmentation(Augment(preset="none"), 0), 1, Mixing(mix, 1.0))
    first, second = plain[0, 0, 0], plain[1, 0, 0]
    seen = []
    for position in range(12):
        image, target, valid, _ = mixed[0, 0, position]
        pasted = image[0] == second[0][0, 0, 0]
        seen.append(pasted.float().mean().item())
        for found, own, other in zip((target, valid), first[1:], second[1:], strict=False):
            assert torch.equal(found, torch.where(pasted, other, own))
        if mix == "copypaste" and pasted.any():
            assert torch.equal(pasted, (second[1] > 0.5).any(0)), "an object is a pixel of any class"
    assert 0 < max(seen) < 1


def test_true_and_soft_labels_stand_in_one_batch(planes, tmp_path):
    tiles = [tile_of(tmp_path, planes), tile_of(tmp_path, planes, soft=True)]
    dataset = TileDataset(tiles, Targets(CLASSES, True), Augmentation(Augment(preset="none"), 0), 1)
    batch = torch.utils.data.default_collate([dataset[0, 0, 0], dataset[1, 0, 1]])
    assert batch[1].shape == batch[2].shape == (2, CLASSES, SIDE, SIDE)
    assert batch[2][0].min() == 0 and batch[2][1].min() == 1


def test_a_tile_is_drawn_in_the_turn_of_each_class_that_it_has():
    tiles = pd.DataFrame(
        {"object": True, "pseudo": False, "px_artery": [5, 5, 0, 0], "px_vein": [5, 0, 0, 0], "px_background": [1] * 4}
    )
    sampler = BalancedSampler(tiles, Sampling(balance="classes", samples_per_epoch=300), 0.0, seed=1)
    drawn = np.bincount([tile for tile, *_ in sampler.keys(0)], minlength=4)
    assert drawn[0] == pytest.approx(150, abs=10), "it has both classes"
    assert drawn[1] == pytest.approx(50, abs=10) and drawn[2:].sum() == pytest.approx(100, abs=5)
