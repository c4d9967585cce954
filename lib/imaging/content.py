"""Finds blank areas of an image: glass, scanner background, black borders."""

from __future__ import annotations

from functools import reduce

import cv2
import numpy as np

from lib.imaging.reader import ImageReader

CONTENT_MAP_SIDE = 1024  # longest side of the map


class Content:
    """A low-resolution map of blank cells. It is conservative: a cell with any structure is not blank."""

    def __init__(self, blank: np.ndarray, small: np.ndarray, height: int, width: int):
        """`blank` (rows, columns) bool; `small` (rows, columns, C): a thumbnail. `height`, `width` of the image."""
        self.blank, self.small, self.height, self.width = blank, small, height, width
        as_rgb = small.dtype == np.uint8 and small.shape[-1] == 3
        self.grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if as_rgb else levels(small).mean(-1)
        self.share = float(blank.mean())

    def _cells(self, map_: np.ndarray, y: int, x: int, h: int, w: int) -> np.ndarray:
        """The cells that a box of original pixels touches."""
        rows, columns = map_.shape
        r0, r1 = y * rows // self.height, -(-(y + h) * rows // self.height)
        c0, c1 = x * columns // self.width, -(-(x + w) * columns // self.width)
        return map_[r0 : max(r1, r0 + 1), c0 : max(c1, c0 + 1)]

    def blank_share(self, y: int, x: int, h: int, w: int) -> float:
        return float(self._cells(self.blank, y, x, h, w).mean())

    def is_blank(self, y: int, x: int, h: int, w: int) -> bool:
        return bool(self._cells(self.blank, y, x, h, w).all())

    def contrast(self, y: int, x: int, h: int, w: int) -> float:
        """Standard deviation of the grey levels."""
        return float(self._cells(self.grey, y, x, h, w).std())


def levels(values: np.ndarray) -> np.ndarray:
    """Values of 8 or 16 bits as float32 grey levels, 0 to 255."""
    return values.astype(np.float32) * np.float32(255 / np.iinfo(values.dtype).max)


def content_map(reader: ImageReader, tolerance: float = 6.0) -> Content:
    """Find the blank areas: nearly white or nearly black, as flat as glass, and part of a large flat area.

    All channels must be so. `tolerance`: the largest deviation from the local mean, in grey levels of 255. Other
    colours are never blank, so smooth organs, lakes and roofs are not lost.
    """
    small = reader.thumbnail(CONTENT_MAP_SIDE)
    values = levels(small)
    channels = cv2.split(values)
    light = reduce(cv2.min, channels) >= 225
    dark = reduce(cv2.max, channels) <= 12
    averages = cv2.split(cv2.blur(values, (5, 5)))
    flat = reduce(cv2.max, map(cv2.absdiff, channels, averages)) <= tolerance
    blank = ((light | dark) & flat).astype(np.uint8)
    blank = cv2.morphologyEx(blank, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))  # small flat spots are content
    blank = cv2.erode(blank, np.ones((3, 3), np.uint8), borderValue=1)  # a safety margin
    return Content(blank.astype(bool), small, reader.height, reader.width)
