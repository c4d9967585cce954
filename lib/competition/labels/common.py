"""What all label readers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

IGNORE = 255


class Label:
    """One image's label, read by window."""

    def __init__(self, read: Callable[[int, int, int, int], np.ndarray]):
        self._read = read

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Label indices (h, w) uint8."""
        return self._read(y, x, h, w)
