"""CutMix and copy-paste: a part of a second sample replaces that part of the first.

A sample is (image (H, W, C), target (K, H, W) float32, valid float32); both have one size. `valid` is (K, H, W)
where classes overlap, else (1, H, W). All planes of a pixel are replaced together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TileSample = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Mixing:
    """How samples are mixed. `method`: none, cutmix or copypaste. `share`: of the samples that are mixed, 0 to 1."""

    method: str
    share: float


NO_MIXING = Mixing("none", 0.0)


def cutmix(first: TileSample, second: TileSample, rng: np.random.Generator) -> TileSample:
    """Replace a random rectangle by that of the second sample. Source: Yun et al. 2019, arXiv:1905.04899.

    Every share of the area is equally likely. Unlike in the paper, the rectangle always lies inside the image.
    """
    height, width = first[0].shape[:2]
    side = math.sqrt(1 - rng.beta(1, 1))
    h, w = round(height * side), round(width * side)
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    box = np.zeros((height, width), bool)
    box[y : y + h, x : x + w] = True
    return mixed(first, second, box)


def copy_paste(first: TileSample, second: TileSample, _rng: np.random.Generator) -> TileSample:
    """Paste all objects of the second sample into the first. Source: Ghiasi et al. 2021, arXiv:2012.07177."""
    return mixed(first, second, objects(*second[1:]))


def objects(target: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Object pixels (H, W) bool of a sample's target (K, H, W) and valid.

    One class, or classes that overlap, have a plane of `valid` each: an object is where any of them is above 0.5. Of
    classes that exclude one another the first is background: an object is where another one is largest.

    >>> ones = np.ones((1, 1, 3))
    >>> objects(np.array([[[0.2, 0.6, 0]]]), ones).tolist()
    [[False, True, False]]
    >>> objects(np.array([[[0.0, 1.0, 0]], [[1.0, 0.0, 0]]]), ones).tolist()
    [[True, False, False]]
    """
    return (target > 0.5).any(0) if len(valid) == len(target) else target.argmax(0) > 0


def mixed(first: TileSample, second: TileSample, where: np.ndarray) -> TileSample:
    """The first sample, replaced by the second where the mask `where` (H, W) is true."""
    image = np.where(where[..., None], second[0], first[0])
    return image, *(np.where(where, new, old) for old, new in zip(first[1:], second[1:], strict=True))


MIXES = {"cutmix": cutmix, "copypaste": copy_paste}
