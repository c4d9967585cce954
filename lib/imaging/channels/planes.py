"""One channel as it is read from a file: the band of an image, brought to the size of the finest channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.config.channels import Channel
from lib.errors import UserError
from lib.imaging.readers.base import ImageReader

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Plane:
    """`factor`: pixels of the finest channel, down and across, that a pixel of this one covers."""

    channel: Channel
    path: Path
    reader: ImageReader
    band: int
    nodata: float | None
    factor: int = 1

    def window(self, y: int, x: int, h: int, w: int) -> Window:
        """The pixels of this plane that a window of the finest channel is made from, one more on each side."""
        if self.factor == 1:
            return y, x, h, w
        top, left = max(0, y // self.factor - 1), max(0, x // self.factor - 1)
        bottom = min(self.reader.height, -(-(y + h) // self.factor) + 1)
        right = min(self.reader.width, -(-(x + w) // self.factor) + 1)
        return top, left, bottom - top, right - left

    def enlarged(self, values: np.ndarray, y: int, x: int, h: int, w: int, nearest: bool = False) -> np.ndarray:
        """Values of `window(y, x, h, w)` at the size (h, w) of the finest channel; bilinear, unless `nearest`."""
        if self.factor == 1:
            return values
        top, left, rows, columns = self.window(y, x, h, w)
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        large = cv2.resize(values, (columns * self.factor, rows * self.factor), interpolation=how)
        y0, x0 = y - top * self.factor, x - left * self.factor
        return large[y0 : y0 + h, x0 : x0 + w]

    def void(self, values: np.ndarray) -> np.ndarray | None:
        """Where values (h, w), as stored, were not measured; None where all were."""
        void = None if self.nodata is None else values == self.nodata
        if values.dtype.kind == "f":
            void = ~np.isfinite(values) if void is None else void | ~np.isfinite(values)
        return void if void is not None and void.any() else None

    def real(self, values: np.ndarray, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Values of `window(y, x, h, w)` as float32 (h, w) in pixels of the finest channel; NaN was not measured."""
        void = self.void(values)
        values = values.astype(np.float32)
        if void is not None:
            values[void] = np.nan
        return self.enlarged(values, y, x, h, w)


def checked_factors(planes: Sequence[Plane], path: Path) -> tuple[int, int, list[int]]:
    """(height, width) of the finest plane, and how many of its pixels each plane's cover.

    Raises UserError where sizes have no whole ratio.
    """
    finest = max(planes, key=lambda plane: (plane.reader.height, plane.reader.width)).reader
    factors = []
    for plane in planes:
        one = plane.reader
        factor = max(1, round(finest.height / one.height))
        if (-(-finest.height // factor), -(-finest.width // factor)) != (one.height, one.width):
            raise UserError(
                f"the channels of {path} have sizes without a whole ratio: {plane.path.name} has {one.height} x "
                f"{one.width} pixels, and {finest.path.name} {finest.height} x {finest.width}; bring them to one size"
            )
        factors.append(factor)
    return finest.height, finest.width, factors


def is_deep(depth: str) -> bool:
    """Whether values of a type may lie outside of 0 to 255: those of int8 may, too."""
    return depth != "uint8"
