"""Objects that a label may be given, counted: pixels of all that are alike in low bin, surest pixel and area.

What any rule (lib/decision/postprocess.py) makes of them is then a sum, however large the images were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lib.decision.postprocess import find_objects


@dataclass(frozen=True)
class Pieces:
    """What one label's objects in N images may be taken for, in R counts of `pixels`.

    Of each: its `image`, its `cell` (low bin, surest pixel and area, in one number) and its `kind`, truth x the label
    that stands there if the object does not, of `labels` in all.
    """

    label: int
    labels: int
    image: np.ndarray
    cell: np.ndarray
    kind: np.ndarray
    pixels: np.ndarray

    def moved(
        self, low: int, cells: tuple[int, int], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the chosen images that have any object (M,), by the `low`th low bin and `cells` (surest pixels P, areas
        A): pixels of each of the kinds F that occur, (M, P, A, F), summed over surer and larger objects; those of the
        largest object (M, F); and what one pixel of a kind changes in counts (F, n, 3).
        """
        each = cells[0] * cells[1] + 1
        here = (self.cell // each == low) & chosen[self.image]
        kinds, kind = np.unique(self.kind[here], return_inverse=True)
        images, place = np.unique(self.image[here], return_inverse=True)
        counts = np.zeros((len(images), each, len(kinds)))
        np.add.at(counts, (place, self.cell[here] % each, kind), self.pixels[here])
        sums = np.flip(counts[:, :-1].reshape(len(counts), *cells, len(kinds)), (1, 2)).cumsum(1).cumsum(2)
        truth, other = np.divmod(kinds, self.labels)
        change, every = np.zeros((len(kinds), self.labels, 3)), np.arange(len(kinds))
        for label, sign in ((other, -1), (np.full_like(other, self.label), 1)):
            change[every, label, 2] += sign
            change[every, label, 0] += sign * (truth == label)
        return images, np.flip(sums, (1, 2)), counts[:, -1], change


def pixels_by_cell(
    bins: Iterable[np.ndarray], kinds: Iterable[np.ndarray], low: int, highs: np.ndarray, areas: np.ndarray, n: int
) -> np.ndarray:
    """(P * A + 1, n): pixels of every kind, in a label's objects by surest pixel and area; last, once more, the largest
    object's.

    `bins` (h, W), band by band and again and again: of the label. `kinds` (h, W): of pixels; `n` and more do not count.
    """
    found = find_objects((band >= low, band) for band in bins)
    cell = (np.searchsorted(highs, found.peak, "right") - 1) * len(areas)
    cell += np.searchsorted(areas, found.area, "right") - 1
    count, home = len(highs) * len(areas), cell[:0]
    if len(cell):
        largest = np.argmax(found.area)
        home, cell[largest] = cell[largest], count
    counts = np.zeros((count + 1) * n, np.int64)
    for at, kind in zip(found.draw((band >= low for band in bins), (cell + 1).astype(np.int32)), kinds, strict=True):
        known = (at > 0) & (kind < n)
        counts += np.bincount((at[known] - 1) * n + kind[known], minlength=len(counts))
    counts = counts.reshape(-1, n)
    counts[home] += counts[-1]
    return counts
