"""Polygons with holes as painted objects."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from lib.competition.labels.coco import PaintedObject, thing_of_coco_polygons, thing_of_polygons
from lib.imaging.geometry import Box

Area = list[np.ndarray]
"""A polygon: its outline, then its holes, each (N, 2) x and y in pixels."""


def thing_of_areas(index: int, areas: Sequence[Area], size: tuple[int, int], fill: str) -> PaintedObject | None:
    """An object that is made of polygons; None where none of them covers a pixel of an image of `size`.

    `fill`: `labels.polygon_fill`. With `fillpoly`, outlines run through the middles of pixels, which belong to the
    object, at a hole too. With `coco` they run along the edges of pixels. Raises ValueError as
    `thing_of_coco_polygons`.

    >>> square, hole = np.array([[0, 0], [4, 0], [4, 4], [0, 4]]), np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
    >>> thing = thing_of_areas(1, [[square, hole]], (4, 4), "coco")
    >>> thing.mask(0, 0, 4, 4).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    parts = []
    for outline, *holes in areas:
        filled = _filled(index, outline, size, fill)
        if filled:
            inner = [_filled(index, hole, size, fill) for hole in holes]
            rims = holes if fill == "fillpoly" else []
            parts.append((filled, [one for one in inner if one], rims))
    if not parts:
        return None
    boxes = np.array([part[0].box for part in parts])
    (top, left), (bottom, right) = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)

    def mask(*window: int) -> np.ndarray:
        return np.any([_without_holes(window, *part) for part in parts], axis=0)

    return PaintedObject(index, (int(top), int(left), int(bottom - top), int(right - left)), mask)


def _filled(index: int, ring: np.ndarray, size: tuple[int, int], fill: str) -> PaintedObject | None:
    make = thing_of_polygons if fill == "fillpoly" else thing_of_coco_polygons
    return make(index, [np.ravel(ring).tolist()], size)


def _without_holes(
    window: Box, filled: PaintedObject, holes: list[PaintedObject], rims: list[np.ndarray]
) -> np.ndarray:
    """A polygon under a window, (h, w) bool. `rims`: outlines of holes whose pixels belong to the polygon."""
    out = _under(window, filled)
    if holes and out.any():
        empty = np.any([_under(window, hole) for hole in holes], axis=0).astype(np.uint8)
        y, x, *_ = window
        for rim in rims:
            cv2.polylines(empty, [np.round(rim).astype(np.int32) - np.array((x, y), np.int32)], True, 0)
        out &= empty == 0
    return out


def _under(window: Box, thing: PaintedObject) -> np.ndarray:
    """An object under a window, which may reach beyond its box: (h, w) bool."""
    (y, x, h, w), (top, left, height, width) = window, thing.box
    out = np.zeros((h, w), bool)
    y0, x0, y1, x1 = max(y, top), max(x, left), min(y + h, top + height), min(x + w, left + width)
    if y0 < y1 and x0 < x1:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = thing.mask(y0, x0, y1 - y0, x1 - x0) > 0
    return out
