"""Windows around boxes: as few as look at all of them, each box whole in one where it fits."""

from __future__ import annotations

import numpy as np

from lib.imaging.geometry import Box
from lib.imaging.grid import grid, window_starts

WINDOW_ROWS = (
    8  # down a window's height, at which windows around boxes start: each row of windows is stitched on its own
)


def windows_around(
    boxes: list[Box], scale: tuple[float, float], size: tuple[int, int], window: int, stride: int
) -> list[tuple[int, int]]:
    """Corners (y, x) of the windows that look at some boxes of an image shrunk by `scale` (down, across) to `size`, in
    the shrunken image's pixels, row by row.

    A box that fits into a window is wholly in one, with its neighbours where these fit too, in the middle as far as the
    image goes; of a larger one the grid's windows are taken that it touches.

    >>> windows_around([(20, 20, 4, 4), (26, 26, 4, 4), (80, 10, 4, 4)], (1, 1), (100, 100), 16, 8)
    [(16, 17), (74, 4)]
    """
    edges = edges_of(boxes, scale, size)
    large = (edges[:, 2:] - edges[:, :2] > window).any(1)
    found, left = set(grid_on(edges[large], size, window, stride)), edges[~large]
    for corner in found:
        left = left[~_holds(left, *corner, window)]
    left = left[np.argsort(left[:, 0], kind="stable")]
    while len(left):
        top, side, _, right = left[0]  # none begins above it
        level = left[left[:, 2] <= top + window]
        starts = level[(level[:, 1] <= side) & (level[:, 1] + window >= right), 1]
        counts = [((level[:, 1] >= start) & (level[:, 3] <= start + window)).sum() for start in starts]
        start = starts[int(np.argmax(counts))]
        inside = level[(level[:, 1] >= start) & (level[:, 3] <= start + window)]
        corner = (
            _start(inside[:, 0].min(), inside[:, 2].max(), window, size[0], stride, max(1, window // WINDOW_ROWS)),
            _start(inside[:, 1].min(), inside[:, 3].max(), window, size[1], stride, 1),
        )
        found.add(corner)
        left = left[~_holds(left, *corner, window)]
    return sorted(found)


def edges_of(boxes: list[Box], scale: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """(N, 4): top, left, bottom, right of boxes in whole pixels of an image shrunk by `scale` (y, x) to `size`."""
    y, x, h, w = np.array(boxes, np.float64).reshape(-1, 4).T
    tops, bottoms = np.floor(y * scale[0]), np.minimum(np.ceil((y + h) * scale[0]), size[0])
    lefts, rights = np.floor(x * scale[1]), np.minimum(np.ceil((x + w) * scale[1]), size[1])
    return np.stack([tops, lefts, bottoms, rights], 1).astype(np.int64)


def grid_on(edges: np.ndarray, size: tuple[int, int], window: int, stride: int) -> list[tuple[int, int]]:
    """Corners (y, x) of the windows of an image's grid that have a pixel of some boxes (top, left, bottom, right)."""

    def meets(y: int, x: int) -> bool:
        top, left, bottom, right = edges.T
        return bool(((top < y + window) & (bottom > y) & (left < x + window) & (right > x)).any())

    return [corner for corner in grid(*size, window, stride) if meets(*corner)] if len(edges) else []


def _holds(edges: np.ndarray, y: int, x: int, window: int) -> np.ndarray:
    """Which boxes are wholly in a window."""
    return (edges[:, 0] >= y) & (edges[:, 2] <= y + window) & (edges[:, 1] >= x) & (edges[:, 3] <= x + window)


def _start(first: int, last: int, window: int, length: int, stride: int, step: int) -> int:
    """Where a window starts that has `first` to `last` in its middle, as far as the axis goes; at a multiple of `step`
    where that holds them too. Where there is next to no room around them, as the grid's window that holds them."""
    start = min(max(0, (first + last - window) // 2), max(0, length - window))
    if window - (last - first) <= max(2, window // WINDOW_ROWS):
        holding = [own for own in window_starts(length, window, stride) if own <= first and last <= own + window]
        if holding:
            return min(holding, key=lambda own: abs(own - start))
    rounded = start // step * step
    return int(rounded if rounded + window >= last else start)
