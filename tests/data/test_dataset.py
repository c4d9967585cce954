"""Stored tiles as samples: pixels, targets, what is valid, and the same at a smaller size."""

import cv2
import numpy as np
import pytest
import torch

from lib.config.training import Augment
from lib.data.augment import Augmentation
from lib.data.dataset import TileDataset, TileFile
from lib.data.targets import Targets, resized_sample, shares_by_area, soft_target, true_target
from lib.errors import UserError
from lib.tables import FULL, IGNORE

RNG = np.random.default_rng


def stored(folder, planes, soft=False, weight=1.0):
    """A tile of colours by chance, with label planes (h, w) one under another."""
    image = RNG(0).integers(0, 256, (*planes[0].shape, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "a.png"), image[:, :, ::-1])
    cv2.imwrite(str(folder / "a_mask.png"), np.concatenate(planes))
    return image, TileFile(folder / "a.png", folder / "a_mask.png", soft, weight)


def sample(file, channels, **options):
    return TileDataset([file], Targets(channels), Augmentation(Augment(preset="none"), 0), 1, **options)[0, 0, 0]


def test_a_share_of_one_class_is_a_target_and_what_is_ignored_is_not_valid(tmp_path):
    label = np.array([[0, 127, FULL, IGNORE], [IGNORE, FULL, 0, 1]], np.uint8)
    pixels, file = stored(tmp_path, [label], weight=0.25)
    image, target, valid, weight = sample(file, 1)
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1)) and image.dtype == torch.uint8
    assert target.tolist() == [[[0, 0.5, 1, 0], [0, 1, 0, pytest.approx(1 / FULL)]]]
    assert valid.tolist() == [[[1, 1, 1, 0], [0, 1, 1, 1]]] and weight == np.float32(0.25)
    assert target.dtype == valid.dtype == torch.float32 and weight.dtype == np.float32


def test_indices_of_several_classes_are_a_target_for_each():
    target, valid = true_target([np.array([[0, 1, 2, IGNORE]], np.uint8)], 3)
    assert target.tolist() == [[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 0]]] and valid.tolist() == [[[1, 1, 1, 0]]]


def test_probabilities_are_targets_that_add_to_1_wherever_anything_is_known(tmp_path):
    planes = [np.array([row], np.uint8) for row in ([255, 51, 0], [0, 51, 0], [0, 153, 0])]
    _, file = stored(tmp_path, planes, soft=True)
    _, target, valid, _ = sample(file, 3)
    assert np.allclose(target[:, 0].T, [[1, 0, 0], [0.2, 0.2, 0.6], [0, 0, 0]], atol=1e-6) and (valid == 1).all()
    unsure = soft_target([np.array([[100]], np.uint8), np.array([[100]], np.uint8)])[0]
    assert unsure.ravel().tolist() == [0.5, 0.5]
    one = soft_target([np.array([[51, 255, IGNORE]], np.uint8)])
    assert np.allclose(one[0], [[[0.2, 1, 1]]]) and one[1].tolist() == [[[1, 1, 1]]], "of one class nothing is scaled"


def blocks(plane):
    """Means of 3 x 3 pixels."""
    return plane.reshape(plane.shape[0] // 3, 3, plane.shape[1] // 3, 3).mean((1, 3))


def test_a_tile_shrinks_by_area_and_class_indices_by_the_nearest(tmp_path):
    label = RNG(1).choice([0, 1, 2, IGNORE], (6, 9)).astype(np.uint8)
    pixels, file = stored(tmp_path, [label])
    image, target, valid, _ = sample(file, 3, scale=1 / 3)
    near = label[1::3, 1::3]
    assert all(np.abs(image[i].numpy() - blocks(pixels[..., i].astype(float))).max() <= 0.5 for i in range(3))
    assert (target.argmax(0).numpy() == np.where(near == IGNORE, 0, near)).all()
    assert (valid[0].numpy() == (near != IGNORE)).all()


@pytest.mark.parametrize("soft", [False, True])
def test_shares_and_probabilities_shrink_by_area(soft):
    planes = [RNG(i).integers(0, FULL, (6, 9)).astype(np.uint8) for i in range(3 if soft else 1)]
    _, small = resized_sample(np.zeros((6, 9, 3), np.uint8), planes, 1 / 3, soft, len(planes))
    assert len(small) == len(planes)
    for mine, plane in zip(small, planes, strict=True):
        assert np.abs(mine - blocks(plane.astype(float))).max() <= 0.5


@pytest.mark.parametrize(("scale", "size"), [(0.5, (5, 8)), (0.3, (3, 5)), (0.01, (1, 1))])
def test_sides_are_rounded_and_never_nothing(scale, size):
    image, (label,) = resized_sample(np.zeros((10, 16, 3), np.uint8), [np.zeros((10, 16), np.uint8)], scale, False, 1)
    assert image.shape == (*size, 3) and label.shape == size


def test_a_share_is_the_mean_of_what_is_known():
    def by_area(plane):
        return cv2.resize(plane, (2, 1), interpolation=cv2.INTER_AREA)

    plane = np.array([[IGNORE, 100, 200, IGNORE, IGNORE, IGNORE]], np.uint8)
    assert shares_by_area(plane, by_area).tolist() == [[150, IGNORE]]
    assert shares_by_area(np.full((1, 6), IGNORE, np.uint8), by_area).tolist() == [[IGNORE, IGNORE]]
    plane[0, 1:3] = FULL
    assert shares_by_area(plane, by_area).tolist() == [[FULL, IGNORE]], "it is never taken for ignored"


def test_samples_follow_from_seed_epoch_and_position(tmp_path):
    _, file = stored(tmp_path, [np.zeros((8, 8), np.uint8)])

    def drawn(seed, key):
        dataset = TileDataset(
            [file, file], Targets(1), lambda image, planes, seed: (seeds.append(seed), image, planes)[1:], seed
        )
        seeds.clear()
        assert len(dataset) == 2 and len(dataset[key]) == 4
        return seeds[0]

    seeds: list[int] = []
    keys = [(3, (0, 1, 2)), (4, (0, 1, 2)), (3, (0, 2, 2)), (3, (0, 1, 3)), (3, (0, 2, 1))]
    found = [drawn(*key) for key in keys]
    assert len(set(found)) == 5 and found == [drawn(*key) for key in keys]
    assert drawn(3, (1, 1, 2)) == found[0], "which tile it is changes nothing"


def test_files_that_are_gone_name_what_to_run(tmp_path):
    _, file = stored(tmp_path, [np.zeros((8, 8), np.uint8)])
    file.label.unlink()
    with pytest.raises(UserError, match=r"a_mask.png cannot be read as a label; run 01_preprocess.py again"):
        sample(file, 1)
    file.image.write_text("none")
    with pytest.raises(UserError, match=r"a.png cannot be read as an image; run 01_preprocess.py again"):
        sample(file, 1)
