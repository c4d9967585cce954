"""How well predictions agree with labels, and how well they should if the labels were right.

Low agreement with a label proves little if the members are weak. How often they are right is measured on the labels of
*other* images, for every level of their probabilities. From that follows the agreement to expect with a right label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.oof.evaluation import count
from lib.pseudo.soft_labels import most_likely
from lib.tables import IGNORE

# Lowest probability (of 255) of each level: levels are narrow where members are sure, as for most pixels.
LEVEL_STARTS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 224, 240, 248, 252, 254, 255])
LEVEL_COUNT = len(LEVEL_STARTS)
LEVEL_OF = (np.digitize(np.arange(256), LEVEL_STARTS) - 1).astype(np.uint8)  # level of each probability
LEVEL_CENTER = (LEVEL_STARTS + np.append(LEVEL_STARTS[1:] - 1, 255)) / 510


def count_by_level(truth: np.ndarray, probs: np.ndarray, first: int) -> np.ndarray:
    """Pixel counts (C, 2, 2, levels) of each class: labeled or not, predicted or not, level of its probability.

    `truth` (h, w): label indices, or planes (K, h, w) where classes overlap; ignored pixels are not counted. `probs`
    (K, h, w) uint8. `first`: index of the first class, 1 if there is a background.
    """
    if truth.ndim == 3:  # every class as if it were the only one
        return np.concatenate([count_by_level(*one, 1) for one in zip(truth, np.split(probs, len(probs)), strict=True)])
    labels, planes = most_likely(probs), np.stack([255 - probs[0], probs[0]]) if len(probs) == 1 else probs
    counts = []
    for i in range(first, len(planes)):
        labeled = np.where(truth == IGNORE, np.uint8(IGNORE), truth == i)
        predicted = (labels == i) * np.uint8(LEVEL_COUNT) + LEVEL_OF[planes[i]]
        counts.append(count(labeled, predicted, (2, 2 * LEVEL_COUNT)))
    return np.reshape(counts, (-1, 2, 2, LEVEL_COUNT))


def union(counts: np.ndarray) -> np.ndarray:
    """Pixels (C,) that are labeled or predicted as each class, from `count_by_level`."""
    return counts.sum((1, 2, 3)) - counts[:, 0, 0].sum(-1)


def mean_label_iou(counts: np.ndarray, extra: float = 0) -> float:
    """Mean IoU over the classes that are labeled or predicted, from `count_by_level`; 1 if there are none.

    `extra`: pixels of each class that are taken to agree besides, so that a few wrong pixels prove little.
    """
    return _mean_ratio(counts[:, 1, 1].sum(-1) + extra, union(counts) + extra, counts)


def expected_iou(counts: np.ndarray, rates: np.ndarray, extra: float = 0) -> float:
    """The `mean_label_iou` to expect if the label were right. `rates`: from `calibrated_rates`."""
    pixels = counts.sum(1)
    right = pixels * rates
    return _mean_ratio(right[:, 1].sum(-1) + extra, pixels[:, 1].sum(-1) + right[:, 0].sum(-1) + extra, counts)


def _mean_ratio(intersection: np.ndarray, either: np.ndarray, counts: np.ndarray) -> float:
    known = union(counts) > 0
    return round(float((intersection[known] / np.maximum(either[known], 1e-9)).mean()), 4) if known.any() else 1.0


def calibrated_rates(images: dict[str, np.ndarray], group_of: dict[str, str]) -> dict[str, np.ndarray]:
    """For each image, how often a class is labeled (C, 2, levels): predicted or not, by level of its probability.

    `images`: image id → `count_by_level`, of all images of a fold. The other images of the same group are counted,
    because they share stain, place or annotator. The mean of all other images counts as one more image, and the
    probability itself as one pixel.
    """
    total, rates = sum(images.values()), {}
    of_group: dict[str, np.ndarray] = {}
    for image_id, counts in images.items():
        of_group[group_of[image_id]] = of_group.get(group_of[image_id], 0) + counts
    for image_id, counts in images.items():
        others = of_group[group_of[image_id]] - counts + (total - counts) / max(1, len(images) - 1)
        rates[image_id] = (others[:, 1] + LEVEL_CENTER) / (others.sum(1) + 1)
    return rates


@dataclass(frozen=True)
class Agreement:
    """How some members agree with the labels of images and their tiles.

    `images`, `tiles`: id → `count_by_level`. `rates`: image id → `calibrated_rates`. `extra`: as in `mean_label_iou`.
    """

    images: dict[str, np.ndarray]
    tiles: dict[str, np.ndarray]
    rates: dict[str, np.ndarray]
    extra: float = 0

    def counts(self, image_id: str, tile_id: str = "") -> np.ndarray:
        """Counts of an image, or of one of its tiles."""
        return self.tiles[tile_id] if tile_id else self.images[image_id]

    def iou_and_shortfall(self, image_id: str, tile_id: str = "") -> tuple[float, float]:
        """(mean IoU with the label of an image or tile, how far it is below the expected IoU of a right label)."""
        counts = self.counts(image_id, tile_id)
        expected = expected_iou(counts, self.rates[image_id], self.extra)
        return mean_label_iou(counts), round(expected - mean_label_iou(counts, self.extra), 4)
