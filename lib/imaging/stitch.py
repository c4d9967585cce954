"""Windows in, finished rows out: only the rows that windows still touch are held."""

from __future__ import annotations

import numpy as np


class RowStitcher:
    """Weighted mean of overlapping windows that arrive row by row.

    The result does not depend on how it is cut into bands: each pixel sums its windows in their order.
    """

    def __init__(self, height: int, width: int, channels: int, weights: np.ndarray, fill: np.ndarray):
        """`weights` (window, window); `fill` (channels,): value of pixels that no window covers."""
        self.height, self.width = height, width
        self.window = len(weights)
        self.weights, self.fill = weights, fill.astype(np.float32)[:, None, None]
        rows = min(height, self.window)
        self._sum = np.zeros((channels, rows, width), np.float32)
        self._weight = np.zeros((rows, width), np.float32)
        self._top = 0  # image row of the buffer's first row

    def add(self, y: int, x: int, values: np.ndarray) -> None:
        """One window's `values` (channels, window, window); rows above `finish_rows`' last cut are lost."""
        if y < self._top:
            raise ValueError(f"window at row {y} comes after row {self._top} was finished")
        h, w = min(self.window, self.height - y), min(self.window, self.width - x)
        weights = self.weights[:h, :w]
        rows, columns = slice(y - self._top, y - self._top + h), slice(x, x + w)
        self._sum[:, rows, columns] += values[:, :h, :w] * weights
        self._weight[rows, columns] += weights

    def finish_rows(self, below: int) -> tuple[int, np.ndarray]:
        """Rows above `below` are done: returns (y0, band (channels, h, width)); h may be 0."""
        below = min(below, self.height)
        count = max(0, below - self._top)
        y0 = self._top
        held = min(count, self._sum.shape[1])
        weight = self._weight[:held]
        band = np.where(weight > 0, self._sum[:, :held] / np.maximum(weight, 1e-12), self.fill)
        if count > held:  # rows that no window ever touched
            empty = np.broadcast_to(self.fill, (len(self.fill), count - held, self.width))
            band = np.concatenate([band, empty], axis=1)
        self._shift(held)
        self._top += count
        return y0, band.astype(np.float32, copy=False)

    def _shift(self, count: int) -> None:
        """Move the buffer `count` rows down."""
        for buffer in (self._sum, self._weight):
            keep = buffer.shape[-2] - count
            buffer[..., :keep, :] = buffer[..., count:, :].copy()
            buffer[..., keep:, :] = 0


class RowResizer:
    """Bilinear resizing (half-pixel centres) of a map that arrives in bands of rows.

    Row by row the same numbers, however the bands are cut.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]):
        """`source` and `target` (height, width)."""
        self.source, self.target = source, target
        self._rows: np.ndarray | None = None  # source rows still needed, already resized in width
        self._first = 0  # source row of _rows[0]
        self._done = 0  # target rows already returned
        position = np.clip((np.arange(target[0]) + 0.5) * source[0] / target[0] - 0.5, 0, source[0] - 1)
        self._upper = np.floor(position).astype(np.int64)
        self._share = (position - self._upper).astype(np.float32)
        column = np.clip((np.arange(target[1]) + 0.5) * source[1] / target[1] - 0.5, 0, source[1] - 1)
        self._left = np.floor(column).astype(np.int64)
        self._right = np.minimum(self._left + 1, source[1] - 1)
        self._column_share = (column - self._left).astype(np.float32)

    def push(self, band: np.ndarray) -> tuple[int, np.ndarray]:
        """`band` (C, h, w) of source rows → (y0, rows (C, h', W)) of the target that are now known."""
        if self.source == self.target:
            y0, self._done = self._done, self._done + band.shape[1]
            return y0, band
        wide = band[:, :, self._left] * (1 - self._column_share) + band[:, :, self._right] * self._column_share
        self._rows = wide if self._rows is None else np.concatenate([self._rows, wide], axis=1)
        known = self._first + self._rows.shape[1]  # source rows below this are here
        lower = np.minimum(self._upper + 1, self.source[0] - 1)
        stop = int(np.searchsorted(lower, known))
        y0, rows = self._done, slice(self._done, stop)
        share = self._share[rows, None]
        top = self._rows[:, self._upper[rows] - self._first]
        out = top * (1 - share) + self._rows[:, lower[rows] - self._first] * share
        self._done = stop
        if stop < self.target[0]:
            drop = min(int(self._upper[stop]) - self._first, self._rows.shape[1])
            self._rows, self._first = self._rows[:, drop:].copy(), self._first + drop
        return y0, out.astype(np.float32, copy=False)
