"""How well members agree with labels, and how well they expect to.

Low agreement with a label proves little where members are weak. What they are worth is measured on the labels of
*other* images, for every level of their probabilities; from that follows the agreement with a right label to expect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.oof.evaluate import count
from lib.pseudo.store import decided
from lib.tables import IGNORE

# Probabilities (of 255) from which a level starts: finer where members are sure, as most pixels are.
STARTS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 224, 240, 248, 252, 254, 255])
LEVELS = len(STARTS)
LEVEL = (np.digitize(np.arange(256), STARTS) - 1).astype(np.uint8)
MIDDLE = (STARTS + np.append(STARTS[1:] - 1, 255)) / 510


def tally(truth: np.ndarray, bins: np.ndarray, first: int) -> np.ndarray:
    """Counts (C, 2, 2, LEVELS) of the classes from index `first` on: label has it x members decide it x probability.

    `truth` (h, w) label indices, `bins` (K, h, w) uint8 probabilities; ignored pixels are left out.
    """
    guess, planes = decided(bins), np.stack([255 - bins[0], bins[0]]) if len(bins) == 1 else bins
    counts = []
    for i in range(first, len(planes)):
        has = np.where(truth == IGNORE, np.uint8(IGNORE), truth == i)
        said = (guess == i) * np.uint8(LEVELS) + LEVEL[planes[i]]
        counts.append(count(has, said, (2, 2 * LEVELS)))
    return np.reshape(counts, (-1, 2, 2, LEVELS))


def union(counts: np.ndarray) -> np.ndarray:
    """Pixels (C,) that label or members give each class, of a `tally`."""
    return counts.sum((1, 2, 3)) - counts[:, 0, 0].sum(-1)


def agreement(counts: np.ndarray, more: float = 0) -> float:
    """Mean IoU of a `tally` over the classes that label or members have; 1 where they have none.

    `more`: pixels of each class that are taken to agree besides, so that a few wrong ones prove little.
    """
    return _mean(counts[:, 1, 1].sum(-1) + more, union(counts) + more, counts)


def expectation(counts: np.ndarray, rates: np.ndarray, more: float = 0) -> float:
    """The `agreement` to expect if the label were right, by the `calibrated` rates."""
    pixels = counts.sum(1)
    true = pixels * rates
    return _mean(true[:, 1].sum(-1) + more, pixels[:, 1].sum(-1) + true[:, 0].sum(-1) + more, counts)


def _mean(hits: np.ndarray, either: np.ndarray, counts: np.ndarray) -> float:
    known = union(counts) > 0
    return round(float((hits[known] / np.maximum(either[known], 1e-9)).mean()), 4) if known.any() else 1.0


def calibrated(images: dict[str, np.ndarray], group_of: dict[str, str]) -> dict[str, np.ndarray]:
    """For each image, how often a class is there (C, 2, LEVELS): as members decide it x with what probability.

    `images`: the `tally` of every image of a fold. The other images of its group count, which share its stain, place
    or annotator; the mean of all other images counts as one more, and the probability itself as one pixel.
    """
    total, rates = sum(images.values()), {}
    of_group: dict[str, np.ndarray] = {}
    for image_id, own in images.items():
        of_group[group_of[image_id]] = of_group.get(group_of[image_id], 0) + own
    for image_id, own in images.items():
        known = of_group[group_of[image_id]] - own + (total - own) / max(1, len(images) - 1)
        rates[image_id] = (known[:, 1] + MIDDLE) / (known.sum(1) + 1)
    return rates


@dataclass(frozen=True)
class Opinion:
    """What members make of the labels of some images and their tiles.

    `images`, `tiles`: id → `tally`. `rates`: image id → as `calibrated`. `more`: as `agreement` takes it.
    """

    images: dict[str, np.ndarray]
    tiles: dict[str, np.ndarray]
    rates: dict[str, np.ndarray]
    more: float = 0

    def tally(self, image_id: str, tile_id: str = "") -> np.ndarray:
        """That of an image, or of one of its tiles."""
        return self.tiles[tile_id] if tile_id else self.images[image_id]

    def agreement(self, image_id: str, tile_id: str = "") -> tuple[float, float]:
        """(mean IoU with the label of an image or tile, how far it is below what a right label lets expect)."""
        counts = self.tally(image_id, tile_id)
        expected = expectation(counts, self.rates[image_id], self.more)
        return agreement(counts), round(expected - agreement(counts, self.more), 4)
