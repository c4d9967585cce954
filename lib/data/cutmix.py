"""Mixing: a part of a second sample is pasted into the first.

A sample is (image (H, W, 3) uint8, target (K, H, W) float32, valid (1, H, W) float32); both have one size.
"""

from __future__ import annotations

import math

import numpy as np

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def cutmix(first: Sample, second: Sample, rng: np.random.Generator) -> Sample:
    """A random rectangle of the second (Yun et al. 2019, arXiv:1905.04899): any share of the area is equally likely.

    There a rectangle that leaves the image is cut off; here it lies inside.
    """
    height, width = first[0].shape[:2]
    side = math.sqrt(1 - rng.beta(1, 1))
    h, w = round(height * side), round(width * side)
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    box = np.zeros((height, width), bool)
    box[y : y + h, x : x + w] = True
    return paste(first, second, box)


def copy_paste(first: Sample, second: Sample, _rng: np.random.Generator) -> Sample:
    """All objects of the second (Ghiasi et al. 2021, arXiv:2012.07177): as if both had been photographed together."""
    return paste(first, second, objects(second[1]))


def objects(target: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of an object. One class: more than half; several: any likeliest class but the first.

    >>> objects(np.array([[[0.2, 0.6]]])).tolist(), objects(np.array([[[0.0, 1.0, 0]], [[1.0, 0.0, 0]]])).tolist()
    ([[False, True]], [[True, False, False]])
    """
    return target[0] > 0.5 if len(target) == 1 else target.argmax(0) > 0


def paste(first: Sample, second: Sample, where: np.ndarray) -> Sample:
    """The first sample, and the second `where` (H, W) is true: pixels, target and valid alike."""
    image = np.where(where[..., None], second[0], first[0])
    return image, *(np.where(where, new, old) for old, new in zip(first[1:], second[1:], strict=True))


MIXES = {"cutmix": cutmix, "copypaste": copy_paste}
