"""Images with a file for each colour: red, green and blue are read from three files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.base import ImageReader
from lib.imaging.readers.registry import open_shown


class PlanesReader(ImageReader):
    """The first channel of each file of `pixels.files`; files of one image have one size."""

    channels = 3

    def __init__(self, paths: list[Path], pixels: Pixels):
        """`paths`: those of red, green and blue. Raises UserError when one is missing, or of another size."""
        self.path = path = paths[0]
        self._planes = [open_shown(one, pixels.model_copy(update={"files": ()})) for one in paths]
        self.depth, self.orientation = self._planes[0].depth, self._planes[0].orientation
        sizes = [(plane.height, plane.width) for plane in self._planes]
        if len(set(sizes)) > 1:
            raise UserError(f"{path} and the other competition.pixels.files of its image have several sizes: {sizes}")
        self.height, self.width = sizes[0]
        if any(plane.undividable for plane in self._planes):
            raise UserError(
                f"{path}, or another of competition.pixels.files of its image, can only be decoded whole; convert "
                "them to tiled TIFFs"
            )
        self.windowed = all(plane.windowed for plane in self._planes)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return np.stack([plane.read(y, x, h, w)[..., 0] for plane in self._planes], axis=-1)

    def close(self) -> None:
        for plane in self._planes:
            plane.close()
