"""Whole-slide image formats of microscope vendors, read with OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import reading
from lib.imaging.readers.base import ImageReader, optional

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")


class SlideReader(ImageReader):
    """One level of the pyramid; 0 is the finest. Areas that were not scanned are white."""

    windowed = True

    def __init__(self, path: Path, pixels: Pixels, level: int = 0):
        self.path, self.pixels, self.channels, self._level = path, pixels, 3, level
        openslide = optional("openslide", "openslide-python openslide-bin", path)
        with reading(path, "not a readable slide"):
            self._slide = openslide.OpenSlide(path)
            self.width, self.height = self._slide.level_dimensions[level]

    def overview(self, side: int) -> ImageReader:
        """The coarsest level that is large enough."""
        sides = [max(size) for size in self._slide.level_dimensions]
        level = max((i for i, own in enumerate(sides) if own >= side), default=self._level)
        return self if level == self._level else SlideReader(self.path, self.pixels, level)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        width, height = self._slide.dimensions  # OpenSlide takes positions in pixels of the finest level
        place = round(x * width / self.width), round(y * height / self.height)
        with reading(self.path, "damaged"):
            values = np.asarray(self._slide.read_region(place, self._level, (w, h)))
        colour, alpha = values[..., :3], values[..., 3:]
        return np.where(alpha > 0, colour, np.uint8(255))

    def close(self) -> None:
        self._slide.close()
