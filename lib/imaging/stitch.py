"""Windows in, finished blocks out: only what later windows still touch is held.

Windows come row by row. A row of them is worked off in panels of columns, from left to right: what no later window
touches is handed out, and the rest, the rows that the next windows overlap, waits in a `DiskCache`. So neither the
image's height nor its width times its classes decides the memory. Each pixel sums its windows in their order, whatever
the panels are: the result is the same to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np

from lib.system.disk_cache import DiskCache

Place = tuple[int, int, np.ndarray]
"""y, x and values (C, h, w) of a block."""


def stitch(
    size: tuple[int, int],
    corners: list[tuple[int, int]],
    windows: Iterable[np.ndarray],
    weights: np.ndarray,
    fill: np.ndarray,
    panel: int = 0,
    spool: DiskCache | None = None,
) -> Iterator[Place]:
    """The weighted mean of overlapping windows, in blocks that cover the image of `size` (h, w) once.

    `corners` (y, x) row by row, and their `windows` (C, window, window) in the same order; `weights`
    (window, window); `fill` (C,): value of pixels without window. `panel`: columns worked on together (at least a
    window's), 0 for all.
    """
    height, width = size
    spool = spool or DiskCache()
    window, channels = len(weights), len(fill)
    fill = fill.astype(np.float32)[:, None, None]
    edges = panel_edges(width, max(panel, window) if panel else width)
    rows = [(y, deque(x for _, x in row)) for y, row in groupby(corners, key=itemgetter(0))]
    stops = [*(y for y, _ in rows[1:]), height]
    windows, scratch = iter(windows), np.empty((channels, window, window), np.float32)  # new memory would cost more

    def untouched(top: int, bottom: int) -> Iterator[Place]:
        for y in range(top, bottom, window):
            for x0, x1 in pairwise(edges):
                yield y, x0, np.broadcast_to(fill, (channels, min(window, bottom - y), x1 - x0))

    def sums(p: int, held: int) -> np.ndarray:
        """(C + 1, held, columns) of a panel: values times weights, last the weights; what waited is in it."""
        out = np.zeros((channels + 1, held, edges[p + 1] - edges[p]), np.float32)
        waited = spool.pop(p)
        if waited is not None:
            out[:, : waited.shape[1]] = waited
        return out

    yield from untouched(0, rows[0][0] if rows else height)
    for (y, xs), below in zip(rows, stops, strict=False):
        held = min(window, height - y)
        done = min(below - y, held)
        here = sums(0, held)
        for p, (x0, x1) in enumerate(pairwise(edges)):
            there = sums(p + 1, held) if x1 < width else None
            while xs and xs[0] < x1:
                x = xs.popleft()
                values, columns = next(windows), min(window, width - x)
                inside = min(columns, x1 - x)
                _add(here[:, :, x - x0 :], values, weights, scratch, (0, inside))
                if inside < columns:
                    _add(there, values, weights, scratch, (inside, columns))
                del values  # on it hangs a whole batch, while the next one is computed
            if done < held:
                spool.put(p, here[:, done:].copy())
            yield y, x0, mean_of(here[:, :done], fill)
            here = there
        yield from untouched(y + done, below)


def panel_edges(width: int, panel: int) -> list[int]:
    """Columns where panels start, and `width`; no panel is narrower than `panel`, except for a narrow image's.

    >>> panel_edges(10, 4), panel_edges(3, 4)
    ([0, 4, 10], [0, 3])
    """
    return [*(p * panel for p in range(max(1, width // panel))), width]


def _add(
    sums: np.ndarray, values: np.ndarray, weights: np.ndarray, scratch: np.ndarray, columns: tuple[int, int]
) -> None:
    """Add some columns of a window, as many rows as there are, to the first columns of `sums`; `scratch` is theirs."""
    here = np.s_[: sums.shape[1], columns[0] : columns[1]]
    target, products = sums[:, :, : columns[1] - columns[0]], scratch[:, *here]
    np.multiply(values[:, *here], weights[here], out=products)
    target[:-1] += products
    target[-1] += weights[here]


def mean_of(sums: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """In place of the sums, which are the largest arrays there are."""
    values, weight = sums[:-1], sums[-1]
    values /= np.maximum(weight, 1e-12)
    np.copyto(values, fill, where=weight == 0)
    return values


class Resizer:
    """Bilinear resizing (half-pixel centres) of a map that arrives in blocks, as `stitch` hands them out.

    The same numbers, however the blocks are cut.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]):
        """`source` and `target` (height, width)."""
        self.source, self.target = source, target
        self._y, self._x = (Axis(s, t) for s, t in zip(source, target, strict=True))
        self._waiting: dict[int, np.ndarray] = {}  # by panel: rows still needed, resized in width already
        self._left: np.ndarray | None = None  # last column of the block to the left

    def push(self, y: int, x: int, block: np.ndarray, step: int) -> Iterator[Place]:
        """A block (C, h, w) of the source → blocks of the target that are now known, from `step` source rows each."""
        if self.source == self.target:
            yield from ((y + row, x, block[:, row : row + step]) for row in range(0, block.shape[1], step))
            return
        left, self._left = self._left, block[:, :, -1:].copy()
        wide = block if x == 0 else np.concatenate([left, block], axis=2)
        across = self._x.known(x, x + block.shape[2])
        start, share = max(0, x - 1), self._x.share[across]
        lower, upper = self._x.lower[across] - start, self._x.upper[across] - start
        for row in range(0, block.shape[1], step):
            piece = wide[:, row : row + step]
            out = self._rows(y + row, x, piece[:, :, lower] * (1 - share) + piece[:, :, upper] * share)
            if out is not None:
                yield out[0], across.start, out[1]

    def _rows(self, y: int, x: int, piece: np.ndarray) -> tuple[int, np.ndarray] | None:
        """(target row, values) of the rows that this piece, at source row `y`, makes known."""
        waiting = self._waiting.pop(x, None)
        first = y - (0 if waiting is None else waiting.shape[1])
        rows = piece if waiting is None else np.concatenate([waiting, piece], axis=1)
        down = self._y.known(y, y + piece.shape[1])
        share = self._y.share[down, None]
        out = rows[:, self._y.lower[down] - first] * (1 - share) + rows[:, self._y.upper[down] - first] * share
        if down.stop < self.target[0]:
            drop = min(int(self._y.lower[down.stop]) - first, rows.shape[1])
            self._waiting[x] = rows[:, drop:].copy()
        return (down.start, out.astype(np.float32, copy=False)) if out.shape[1] else None


class Axis:
    """Which two source pixels a target pixel lies between, and how near the second is."""

    def __init__(self, source: int, target: int):
        position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        self.lower = np.floor(position).astype(np.int64)
        self.upper = np.minimum(self.lower + 1, source - 1)
        self.share = (position - self.lower).astype(np.float32)

    def known(self, start: int, stop: int) -> slice:
        """The target pixels for which the source pixels from `start` to `stop` were waited for."""
        return slice(int(np.searchsorted(self.upper, start)), int(np.searchsorted(self.upper, stop)))
