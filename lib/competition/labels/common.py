"""What all label readers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lib.competition import rle
from lib.tables import IGNORE


class Label:
    """One image's label, read by window."""

    def __init__(self, read: Callable[[int, int, int, int], np.ndarray]):
        self._read = read

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Label indices (h, w) uint8."""
        return self._read(y, x, h, w)


def label_of_runs(
    runs: list[tuple[int, np.ndarray, np.ndarray]], height: int, width: int, order: str, background: bool
) -> Label:
    """The label of an image (height, width) painted from (label index, starts, lengths); later ones win.

    A pixel without run is background, or, where there is none, `IGNORE`.
    """

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        out = np.full((h, w), 0 if background else IGNORE, np.uint8)
        for index, starts, lengths in runs:
            out[rle.window_of_runs(starts, lengths, (height, width), order, (y, x, h, w)) > 0] = index
        return out

    return Label(read)
