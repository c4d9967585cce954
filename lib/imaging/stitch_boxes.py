"""Stitches maps of boxes of any size: each box is one window of the network, resized to its place in the image."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from lib.imaging.geometry import Box
from lib.imaging.stitch import Canvas, LinearAxis, Place, mean_in_place


def stitch_boxes(canvas: Canvas, boxes: list[Box], maps: Iterable[np.ndarray], step: int) -> Iterator[Place]:
    """The mean of overlapping boxes: blocks of `step` rows and about `canvas.panel` columns that cover the canvas once,
    from the top down.

    `boxes`: inside the canvas, sorted by y. `maps`: their values (C, any, any) float32 in the same order, each resized
    to its box (bilinear, half-pixel centres). The cache holds only maps whose boxes reach the rows in progress.

    >>> canvas = Canvas(size=(1, 4), outside_value=np.array([0.25]), panel=4)
    >>> for y, x, values in stitch_boxes(canvas, [(0, 1, 1, 2)], [np.ones((1, 5, 5), np.float32)], step=1):
    ...     print(y, x, values[0].tolist())
    0 0 [[0.25, 1.0, 1.0, 0.25]]
    """
    (height, _), outside, cache = canvas.size, canvas.outside, canvas.cache
    maps, coming = iter(maps), deque(enumerate(boxes))
    reached: dict[int, Box] = {}
    for top in range(0, height, step):
        rows = top, min(height, top + step)
        while coming and coming[0][1][0] < rows[1]:
            number, box = coming.popleft()
            cache.put(number, next(maps))
            reached[number] = box
        for columns in pairwise(canvas.edges()):
            shape = canvas.channels, rows[1] - top, columns[1] - columns[0]
            overlaps = [(number, _overlap(box, rows, columns)) for number, box in reached.items()]
            overlaps = [(number, part) for number, part in overlaps if part]
            if not overlaps:
                yield top, columns[0], np.broadcast_to(outside, shape)
                continue
            sums = np.zeros((canvas.channels + 1, *shape[1:]), np.float32)
            for number, (y0, y1, x0, x1) in overlaps:
                y, x, *size = reached[number]
                target = sums[:, y0 - top : y1 - top, x0 - columns[0] : x1 - columns[0]]
                target[:-1] += resized_part(cache.get(number), size, slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
                target[-1] += 1
            yield top, columns[0], mean_in_place(sums, outside)
        for number in [number for number, (y, _, h, _) in reached.items() if y + h <= rows[1]]:
            cache.forget(number)
            del reached[number]


def resized_part(values: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """Rows and columns of a map (C, h, w) after it is resized to `size` (bilinear, half-pixel centres).

    >>> resized_part(np.array([[[0.0, 1.0]]], np.float32), (1, 4), slice(0, 1), slice(1, 4)).tolist()
    [[[0.25, 0.75, 1.0]]]
    """
    down, across = (LinearAxis(source, target) for source, target in zip(values.shape[1:], size, strict=True))
    first, last = down.lower[rows][0], down.upper[rows][-1] + 1
    return down.weighed(rows, first, across.weighed(columns, 0, values[:, first:last], axis=2), axis=1)


def _overlap(box: Box, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the part of a box in a range of rows and one of columns; None for none."""
    y, x, h, w = box
    y0, y1, x0, x1 = max(y, rows[0]), min(y + h, rows[1]), max(x, columns[0]), min(x + w, columns[1])
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None
