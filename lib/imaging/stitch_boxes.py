"""What networks saw of boxes of any size, each shrunk to one window, back in their places, in finished blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from lib.imaging.geometry import Box
from lib.imaging.stitch import Axis, Place, mean_of, panel_edges
from lib.system.disk_cache import DiskCache


def paste(
    size: tuple[int, int],
    boxes: list[Box],
    maps: Iterable[np.ndarray],
    fill: np.ndarray,
    panel: int,
    step: int,
    spool: DiskCache | None = None,
) -> Iterator[Place]:
    """The mean of overlapping boxes, in blocks of `step` rows and about `panel` columns that cover the image of `size`
    (h, w) once, from the top down.

    `boxes` (y, x, h, w) inside the image, sorted by y, and their `maps` (C, any, any) float32 in the same order, each
    resized to its box (bilinear, half-pixel centres); `fill` (C,): value of pixels without box. Of maps, only those
    whose boxes reach the rows that are worked on are held, in `spool`.
    """
    height, width = size
    spool, maps, coming = spool or DiskCache(), iter(maps), deque(enumerate(boxes))
    fill = fill.astype(np.float32)[:, None, None]
    edges = panel_edges(width, panel)
    met: dict[int, Box] = {}
    for top in range(0, height, step):
        rows = top, min(height, top + step)
        while coming and coming[0][1][0] < rows[1]:
            number, box = coming.popleft()
            spool.put(number, next(maps))
            met[number] = box
        for columns in pairwise(edges):
            shape = len(fill), rows[1] - top, columns[1] - columns[0]
            here = [(n, _overlap(box, rows, columns)) for n, box in met.items()]
            here = [(n, part) for n, part in here if part]
            if not here:
                yield top, columns[0], np.broadcast_to(fill, shape)
                continue
            sums = np.zeros((len(fill) + 1, *shape[1:]), np.float32)
            for number, (y0, y1, x0, x1) in here:
                y, x, *own = met[number]
                target = sums[:, y0 - top : y1 - top, x0 - columns[0] : x1 - columns[0]]
                target[:-1] += resized_part(spool.get(number), own, slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
                target[-1] += 1
            yield top, columns[0], mean_of(sums, fill)
        for number in [n for n, (y, _, h, _) in met.items() if y + h <= rows[1]]:
            spool.forget(number)
            del met[number]


def resized_part(values: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """Some rows and columns of a map (C, h, w) resized to `size` (bilinear, half-pixel centres).

    >>> resized_part(np.array([[[0.0, 1.0]]], np.float32), (1, 4), slice(0, 1), slice(1, 4)).tolist()
    [[[0.25, 0.75, 1.0]]]
    """
    down, across = (Axis(source, target) for source, target in zip(values.shape[1:], size, strict=True))
    first, last = down.lower[rows][0], down.upper[rows][-1] + 1
    piece, share = values[:, first:last], across.share[columns]
    wide = piece[:, :, across.lower[columns]] * (1 - share) + piece[:, :, across.upper[columns]] * share
    share = down.share[rows, None]
    return wide[:, down.lower[rows] - first] * (1 - share) + wide[:, down.upper[rows] - first] * share


def _overlap(box: Box, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of what a box has of some rows and columns; None for nothing."""
    y, x, h, w = box
    y0, y1, x0, x1 = max(y, rows[0]), min(y + h, rows[1]), max(x, columns[0]), min(x + w, columns[1])
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None
