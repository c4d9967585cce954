"""Inputs and outputs of a prediction: images, windows, limits of memory and time, and finished blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.imaging.geometry import Box
from lib.imaging.reader import AS_THEY_ARE, Cutout, ImageReader
from lib.imaging.readers.tiled_copy import open_divided


@dataclass(frozen=True)
class Source:
    """An image to predict, or only a `part` of it (y, x, height, width). `roi` as in lib/imaging/roi.py.

    `size` (height, width) and `content_share` (of the image, the share that is not blank) serve only to estimate the
    work. They may be unknown.
    """

    image_id: str
    path: Path
    roi: str = "none"
    blank_tolerance: float = 6.0
    pixels: Pixels = AS_THEY_ARE
    size: tuple[int, int] = (1, 1)
    content_share: float = 1.0
    part: Box | None = None
    zoom: float = 1.0
    """How much larger than other images it is read, because its pixels are larger (lib/competition/metadata.py)."""

    def open(self) -> ImageReader:
        reader = open_divided(self.path, self.pixels)
        return Cutout(reader, self.part) if self.part else reader


@dataclass(frozen=True)
class Windows:
    """Square windows of `size` pixels on an image resized by `scale`.

    `overlap`: share of a window that its neighbour covers too. `blend` and `margin`: as in lib/imaging/blend.py.
    """

    size: int
    overlap: float
    scale: float
    blend: str
    margin: float
    resize_mode: str = "none"
    """`letterbox` or `stretch`: the whole image, or each of its boxes, is resized to one window. `none`: a grid."""
    alternate_flips: bool = False
    """Neighbouring windows are flipped differently, so that overlaps average several views at no cost."""

    @property
    def resized(self) -> bool:
        """Whether the network sees whole images or boxes, resized."""
        return self.resize_mode != "none"

    @property
    def stride(self) -> int:
        return max(1, round(self.size * (1 - self.overlap)))

    def zoomed(self, zoom: float) -> Windows:
        """The windows on an image that is read so many times larger than others."""
        return self if zoom == 1 or self.resized else replace(self, scale=self.scale * zoom)


def flip_of(corner: tuple[int, int], windows: Windows) -> int:
    """The flip of the window at `corner`: 0 none, 1 up and down, 2 left and right, 3 both. Neighbours differ."""
    if not windows.alternate_flips:
        return 0
    row, column = (place // windows.stride for place in corner)
    return row % 2 + 2 * (column % 2)


def flipped(values: np.ndarray, flip: int) -> np.ndarray:
    """A view of (C, h, w), flipped as `flip_of` says. The same flip again undoes it.

    >>> flipped(np.array([[[1, 2], [3, 4]]]), 3).tolist()
    [[[4, 3], [2, 1]]]
    """
    return values[:, :: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]


@dataclass(frozen=True)
class Limits:
    """Limits of memory and time.

    `batch_size`: windows in a forward pass; a batch of less than `least` is filled up. `max_gib`: memory besides the
    network and the windows that are read ahead. Overlaps of very wide images that need more than a quarter of it wait
    in a file in `folder` (None: the system's folder for temporary files). When `over()` is true, no further image
    begins, and windows of the present image are black instead of being read.
    """

    batch_size: int = 8
    max_gib: float = 0.25
    folder: Path | None = None
    over: Callable[[], bool] = bool  # never
    least: int = 1

    @property
    def bytes(self) -> float:
        return self.max_gib * 2**30


USUAL = Limits()


@dataclass(frozen=True)
class Block:
    """Finished probabilities (S, K, h, w) float32, at row `y` and column `x` of the original image."""

    image_id: str
    y: int
    x: int
    probs: np.ndarray
    height: int
    width: int

    @property
    def first(self) -> bool:
        return self.y == self.x == 0

    @property
    def last(self) -> bool:
        return (self.y + self.probs.shape[2], self.x + self.probs.shape[3]) == (self.height, self.width)
