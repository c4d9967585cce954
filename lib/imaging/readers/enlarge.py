"""Windows of images that are read larger than life: interpolated linearly, as if the whole image were enlarged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from lib.imaging.geometry import Box

ENLARGED_AT_ONCE = 2**22  # of the result
CHANNELS_AT_ONCE = 4  # that OpenCV resizes by area, or by places


class Readable(Protocol):
    """What is enlarged: an `ImageReader`."""

    height: int
    width: int

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray: ...

    def shrunk(self, rows: int, columns: int, y: int, x: int, h: int, w: int) -> np.ndarray: ...


def box_at_size(reader: Readable, size: tuple[int, int], box: Box) -> np.ndarray:
    """A box of an image as `size` (rows, columns) of pixels: averaged by area, or `enlarged` where it grows."""
    if size[0] > box[2] or size[1] > box[3]:
        return enlarged(reader, size, *box)
    return reader.shrunk(*size, *box)


def enlarged(reader: Readable, size: tuple[int, int], y: float, x: float, h: float, w: float) -> np.ndarray:
    """A window (y, x, h, w) of an image, in pixels and their fractions, as `size` (rows, columns) of pixels (…, C).

    Neighbours of the window are read, too, so that adjacent windows fit together. Half-pixel centres, as in cv2.resize;
    borders of the image are repeated.
    """
    step = max(1, ENLARGED_AT_ONCE // size[1])
    parts = []
    for top in range(0, size[0], step):
        rows = min(step, size[0] - top)
        parts.append(_enlarged(reader, (rows, size[1]), y + top * h / size[0], x, rows * h / size[0], w))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _enlarged(reader: Readable, size: tuple[int, int], y: float, x: float, h: float, w: float) -> np.ndarray:
    down, across = (
        start + (np.arange(count) + 0.5) * length / count - 0.5
        for start, length, count in zip((y, x), (h, w), size, strict=True)
    )
    y0, rows = _span(down, reader.height)
    x0, columns = _span(across, reader.width)
    pixels = reader.read(y0, x0, rows, columns)
    down, across = (axis.clip(0, None).astype(np.float32) for axis in (down - y0, across - x0))
    return a_few_channels_at_once(lambda part: _along(part, down, across), pixels, size)


def a_few_channels_at_once(
    resize: Callable[[np.ndarray], np.ndarray], values: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Values (h, w, C) that `resize` brings to another size (rows, columns), though OpenCV takes four channels at most.

    An axis of one channel, which OpenCV leaves out, is put back.
    """
    steps = range(0, values.shape[-1], CHANNELS_AT_ONCE)
    parts = [np.ascontiguousarray(values[..., i : i + CHANNELS_AT_ONCE]) for i in steps]
    parts = [resize(part).reshape(*size, -1) for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _along(pixels: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Pixels at the places `down` x `across`, interpolated linearly; the last row and column go on."""
    places = np.meshgrid(across, down)
    return cv2.remap(pixels, *places, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _span(places: np.ndarray, length: int) -> tuple[int, int]:
    """(first, count) of the pixels that are needed to interpolate at some places of an axis of `length` pixels."""
    first = min(max(0, math.floor(places[0])), length - 1)
    last = min(max(first, math.floor(places[-1]) + 1), length - 1)
    return first, last - first + 1
