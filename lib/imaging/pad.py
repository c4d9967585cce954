"""Pads images and labels that are smaller than a tile or a window."""

from __future__ import annotations

import numpy as np


def pad(array: np.ndarray, size: int, value: int | None = None) -> np.ndarray:
    """Pad an array (h, w[, C]) to `size` pixels a side at the bottom and right, with `value`, else by reflection.

    >>> pad(np.array([[1, 2]]), 3).tolist()
    [[1, 2, 2], [1, 2, 2], [1, 2, 2]]
    >>> pad(np.array([[1, 2]]), 2, value=255).tolist()
    [[1, 2], [255, 255]]
    """
    bottom, right = size - array.shape[0], size - array.shape[1]
    if bottom <= 0 and right <= 0:
        return array
    widths = [(0, max(0, bottom)), (0, max(0, right))] + [(0, 0)] * (array.ndim - 2)
    if value is None:
        return np.pad(array, widths, mode="symmetric")
    return np.pad(array, widths, constant_values=value)
