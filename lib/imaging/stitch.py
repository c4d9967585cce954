"""Stitches overlapping windows into a map of any size, in bounded memory: weighted mean, block by block.

Windows come row by row. A row of windows is processed in panels of columns, from left to right. Rows that no later
window touches are finished, and are yielded as blocks. The other rows, which the next windows overlap, wait in a
`DiskCache`. Therefore memory depends neither on the height of the image nor on its width times the classes. Each pixel
sums its windows in their order, whatever the panels are, so the result is the same to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np

from lib.system.disk_cache import DiskCache

Place = tuple[int, int, np.ndarray]
"""y, x and values (C, h, w) of a block."""


@dataclass(frozen=True)
class Canvas:
    """The map that windows are stitched into, and the memory for it.

    `size`: (height, width) in pixels. `outside_value` (C,): the value of pixels that no window covers. `panel`: columns
    that are processed together, 0 for all. `cache`: holds what later windows need.
    """

    size: tuple[int, int]
    outside_value: np.ndarray
    panel: int = 0
    cache: DiskCache = field(default_factory=DiskCache)

    @property
    def channels(self) -> int:
        return len(self.outside_value)

    @property
    def outside(self) -> np.ndarray:
        """`outside_value` as (C, 1, 1) float32."""
        return self.outside_value.astype(np.float32)[:, None, None]

    def edges(self, narrowest: int = 1) -> list[int]:
        """Columns where panels start, and the width; panels are no narrower than `narrowest`."""
        width = self.size[1]
        return panel_edges(width, max(self.panel, narrowest) if self.panel else width)


def stitch(
    canvas: Canvas, corners: list[tuple[int, int]], windows: Iterable[np.ndarray], weights: np.ndarray
) -> Iterator[Place]:
    """The weighted mean of overlapping windows: blocks (y, x, values) that cover the canvas once, from the top down.

    `corners`: (y, x) of the windows in pixels, row by row. `windows`: their values (C, side, side) float32, in the same
    order. They may reach beyond the canvas. `weights` (side, side): see `window_weights`.

    >>> windows = [np.full((1, 2, 2), value, np.float32) for value in (0.0, 1.0)]
    >>> canvas = Canvas(size=(2, 4), outside_value=np.array([0.25]))
    >>> for y, x, values in stitch(canvas, [(0, 0), (0, 1)], windows, np.ones((2, 2), np.float32)):
    ...     print(y, x, values[0].tolist())
    0 0 [[0.0, 0.5, 1.0, 0.25], [0.0, 0.5, 1.0, 0.25]]
    """
    (height, width), side = canvas.size, len(weights)
    edges, outside, cache = canvas.edges(side), canvas.outside, canvas.cache
    rows = [(y, deque(x for _, x in row)) for y, row in groupby(corners, key=itemgetter(0))]
    stops = [*(y for y, _ in rows[1:]), height]
    windows, scratch = iter(windows), np.empty((canvas.channels, side, side), np.float32)  # new memory would cost more
    yield from _uncovered(canvas, edges, 0, rows[0][0] if rows else height, side)
    for (y, xs), below in zip(rows, stops, strict=False):
        held = min(side, height - y)
        done = min(below - y, held)
        sums = _panel_sums(canvas, edges, 0, held)
        for panel, (x0, x1) in enumerate(pairwise(edges)):
            next_sums = _panel_sums(canvas, edges, panel + 1, held) if x1 < width else None
            while xs and xs[0] < x1:
                x = xs.popleft()
                values, columns = next(windows), min(side, width - x)
                inside = min(columns, x1 - x)
                _add(sums[:, :, x - x0 :], values, weights, scratch, (0, inside))
                if inside < columns:
                    _add(next_sums, values, weights, scratch, (inside, columns))
                del values  # it keeps a whole batch in memory, while the next one is computed
            if done < held:
                cache.put(panel, sums[:, done:].copy())
            yield y, x0, mean_in_place(sums[:, :done], outside)
            sums = next_sums
        yield from _uncovered(canvas, edges, y + done, below, side)


def _uncovered(canvas: Canvas, edges: list[int], top: int, bottom: int, step: int) -> Iterator[Place]:
    """Blocks of at most `step` rows, from `top` to `bottom`, that no window covers."""
    for y in range(top, bottom, step):
        for x0, x1 in pairwise(edges):
            yield y, x0, np.broadcast_to(canvas.outside, (canvas.channels, min(step, bottom - y), x1 - x0))


def _panel_sums(canvas: Canvas, edges: list[int], panel: int, rows: int) -> np.ndarray:
    """(C + 1, rows, columns) of a panel: values times weights, last the weights. Starts from what the cache holds."""
    sums = np.zeros((canvas.channels + 1, rows, edges[panel + 1] - edges[panel]), np.float32)
    waited = canvas.cache.pop(panel)
    if waited is not None:
        sums[:, : waited.shape[1]] = waited
    return sums


def panel_edges(width: int, panel: int) -> list[int]:
    """Columns where panels start, and `width`; no panel is narrower than `panel`, unless the image is.

    >>> panel_edges(10, 4), panel_edges(3, 4)
    ([0, 4, 10], [0, 3])
    """
    return [*(p * panel for p in range(max(1, width // panel))), width]


def _add(
    sums: np.ndarray, values: np.ndarray, weights: np.ndarray, scratch: np.ndarray, columns: tuple[int, int]
) -> None:
    """Add columns from `columns[0]` to before `columns[1]` of a window to the first columns of `sums`.

    Rows of the window that `sums` lacks are left out. `scratch` is overwritten.
    """
    part = np.s_[: sums.shape[1], columns[0] : columns[1]]
    target, products = sums[:, :, : columns[1] - columns[0]], scratch[:, *part]
    np.multiply(values[:, *part], weights[part], out=products)
    target[:-1] += products
    target[-1] += weights[part]


def mean_in_place(sums: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Sums (C + 1, h, w), last the weights → means (C, h, w), `outside` (C, 1, 1) where the weight is 0.

    It overwrites the sums, because they are the largest arrays there are.
    """
    values, weight = sums[:-1], sums[-1]
    values /= np.maximum(weight, 1e-12)
    np.copyto(values, outside, where=weight == 0)
    return values


class Resizer:
    """Resizing of a map that arrives in blocks, in the order of `stitch`: bilinear (half-pixel centres), or by area.

    The result does not depend on how the map is cut into blocks.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], by_area: bool = False):
        """`source` and `target` (height, width). `by_area`: each pixel is the mean of the source pixels under it."""
        self.source, self.target = source, target
        self._y, self._x = ((AreaAxis if by_area else LinearAxis)(s, t) for s, t in zip(source, target, strict=True))
        self._waiting: dict[int, np.ndarray] = {}  # by panel: rows still needed, resized in width already
        self._left: np.ndarray | None = None  # last columns of the blocks to the left

    def push(self, y: int, x: int, block: np.ndarray, step: int) -> Iterator[Place]:
        """A block (C, h, w) of the source → blocks of the target that it completes, each from `step` source rows."""
        if self.source == self.target:
            yield from ((y + row, x, block[:, row : row + step]) for row in range(0, block.shape[1], step))
            return
        wide = block if x == 0 else np.concatenate([self._left, block], axis=2)
        self._left = wide[:, :, max(0, wide.shape[2] - self._x.reach) :].copy()
        across = self._x.known(x, x + block.shape[2])
        start = x + block.shape[2] - wide.shape[2]
        for row in range(0, block.shape[1], step):
            piece = self._x.weighed(across, start, wide[:, row : row + step], axis=2)
            out = self._rows(y + row, x, piece)
            if out is not None:
                yield out[0], across.start, out[1]

    def _rows(self, y: int, x: int, piece: np.ndarray) -> tuple[int, np.ndarray] | None:
        """(target row, values) of the rows that this piece, at source row `y`, completes; None for none."""
        waiting = self._waiting.pop(x, None)
        first = y - (0 if waiting is None else waiting.shape[1])
        rows = piece if waiting is None else np.concatenate([waiting, piece], axis=1)
        down = self._y.known(y, y + piece.shape[1])
        out = self._y.weighed(down, first, rows, axis=1)
        if down.stop < self.target[0]:
            drop = min(int(self._y.taps[0][down.stop]) - first, rows.shape[1])
            self._waiting[x] = rows[:, drop:].copy()
        return (down.start, out.astype(np.float32, copy=False)) if out.shape[1] else None


class _Axis:
    """Resizing along one axis: a target pixel is a weighted sum of source pixels.

    `taps` and `weights`: arrays (target,), one for each summand; the taps of a pixel do not fall.
    """

    def __init__(self, taps: list[np.ndarray], weights: list[np.ndarray]):
        self.taps, self.weights = taps, [weight.astype(np.float32) for weight in weights]
        self.reach = max(1, int((taps[-1] - taps[0]).max()))
        """How many source pixels before the last one a target pixel may need."""

    def known(self, start: int, stop: int) -> slice:
        """The target pixels that are known once the source pixels from `start` to before `stop` are, and not before."""
        return slice(int(np.searchsorted(self.taps[-1], start)), int(np.searchsorted(self.taps[-1], stop)))

    def weighed(self, pixels: slice, first: int, values: np.ndarray, axis: int) -> np.ndarray:
        """The target `pixels` of values (C, h, w), whose `axis` (1 or 2) begins at the source pixel `first`."""
        total = None
        for tap, weight in zip(self.taps, self.weights, strict=True):
            places, share = tap[pixels] - first, weight[pixels]
            part = values[:, places] * share[:, None] if axis == 1 else values[:, :, places] * share
            total = part if total is None else total + part
        return total


class LinearAxis(_Axis):
    """Bilinear resizing along one axis: the source pixels `lower` and `upper` around each target pixel.

    `share`: the weight of `upper`.
    """

    def __init__(self, source: int, target: int):
        position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        self.lower = np.floor(position).astype(np.int64)
        self.upper = np.minimum(self.lower + 1, source - 1)
        self.share = (position - self.lower).astype(np.float32)
        super().__init__([self.lower, self.upper], [1 - self.share, self.share])


class AreaAxis(_Axis):
    """Averaging along one axis that shrinks: the source pixels under a target pixel, by the share that is under it.

    >>> axis = AreaAxis(3, 2)
    >>> axis.weighed(slice(0, 2), 0, np.array([[[0.0, 3, 6]]]), axis=2).round(5).tolist()
    [[[1.0, 5.0]]]
    """

    def __init__(self, source: int, target: int):
        edges = np.arange(target + 1) * (source / target)
        first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
        count = int((np.ceil(edges[1:] - 1e-9) - first).max())
        taps = [np.minimum(first + i, source - 1) for i in range(count)]
        shares = [
            np.clip(np.minimum(edges[1:], first + i + 1) - np.maximum(edges[:-1], first + i), 0, None)
            for i in range(count)
        ]
        # A tap without weight is one that is needed anyway, so that no pixel waits for it.
        last = np.ceil(edges[1:] - 1e-9).astype(np.int64) - 1
        super().__init__([np.minimum(tap, last) for tap in taps], [share * (target / source) for share in shares])
