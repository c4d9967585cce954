"""Counts of the objects that a label may get: pixels by low threshold, surest pixel and area.

The effect of any rule (lib/decision/objects/postprocess.py) is a sum over these counts, however large the images were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lib.decision.objects.postprocess import find_objects


@dataclass(frozen=True)
class ObjectCounts:
    """Pixels of one label's objects in N images, in R rows.

    Each row has its `image`, its `cell` (low threshold, surest pixel and area in one number), its `kind` (truth x the
    label that the pixel gets without the object, in one number) and its `pixels`. There are `labels` labels in all.
    """

    label: int
    labels: int
    image: np.ndarray
    cell: np.ndarray
    kind: np.ndarray
    pixels: np.ndarray

    def confusion_change(
        self, low: int, cells: tuple[int, int], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the label's objects change, for the low threshold of index `low`.

        `cells`: how many surest pixels P and areas A are told apart. Returns the chosen images that have any object
        (M,); the pixels of each of the F kinds that occur, (M, P, A, F), summed over surer and larger objects; the
        pixels of the largest object (M, F); and the change of counts by one pixel of each kind (F, n, 3).
        """
        each = cells[0] * cells[1] + 1
        rows = (self.cell // each == low) & chosen[self.image]
        kinds, kind = np.unique(self.kind[rows], return_inverse=True)
        images, position = np.unique(self.image[rows], return_inverse=True)
        counts = np.zeros((len(images), each, len(kinds)))
        np.add.at(counts, (position, self.cell[rows] % each, kind), self.pixels[rows])
        sums = np.flip(counts[:, :-1].reshape(len(counts), *cells, len(kinds)), (1, 2)).cumsum(1).cumsum(2)
        truth, other = np.divmod(kinds, self.labels)
        change, every = np.zeros((len(kinds), self.labels, 3)), np.arange(len(kinds))
        for label, sign in ((other, -1), (np.full_like(other, self.label), 1)):
            change[every, label, 2] += sign
            change[every, label, 0] += sign * (truth == label)
        return images, np.flip(sums, (1, 2)), counts[:, -1], change


def pixels_by_cell(
    probs_u8: Iterable[np.ndarray], kinds: Iterable[np.ndarray], low: int, highs: np.ndarray, areas: np.ndarray, n: int
) -> np.ndarray:
    """(P * A + 1, n): pixels of every kind in a label's objects, by surest pixel and area. The last row is the largest
    object, which is counted in its own row, too.

    `probs_u8`: the label's bands (h, W), which can be iterated again. `kinds` (h, W): the kind of each pixel; those
    from `n` on are not counted.
    """
    found = find_objects((band >= low, band) for band in probs_u8)
    cell = (np.searchsorted(highs, found.peak, "right") - 1) * len(areas)
    cell += np.searchsorted(areas, found.area, "right") - 1
    count, largest_cell = len(highs) * len(areas), cell[:0]
    if len(cell):
        largest = np.argmax(found.area)
        largest_cell, cell[largest] = cell[largest], count
    counts = np.zeros((count + 1) * n, np.int64)
    drawn = found.draw((band >= low for band in probs_u8), (cell + 1).astype(np.int32))
    for numbers, kind in zip(drawn, kinds, strict=True):
        known = (numbers > 0) & (kind < n)
        counts += np.bincount((numbers[known] - 1) * n + kind[known], minlength=len(counts))
    counts = counts.reshape(-1, n)
    counts[largest_cell] += counts[-1]
    return counts
