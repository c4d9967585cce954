"""Images with a file for each channel: red, green and blue are read from three files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.base import ImageReader


def files_of(path: Path, pixels: Pixels) -> list[Path]:
    """All files of the image whose first one is `path`. Raises UserError where that is not named as the first is."""
    if not pixels.files:
        return [path]
    first = pixels.files[0]
    if not path.stem.endswith(first):
        raise UserError(f"{path} does not end in {first}, the first of competition.pixels.files; correct the globs")
    return [path.with_name(path.stem.removesuffix(first) + end + path.suffix) for end in pixels.files]


class PlanesReader(ImageReader):
    """The first channel of each file of `pixels.files`; files of one image have one size."""

    channels = 3

    def __init__(self, path: Path, pixels: Pixels, open_one: Callable[[Path, Pixels], ImageReader]):
        """`path`: the file of red. Raises UserError when another is missing, or of another size."""
        self.path = path
        paths = files_of(path, pixels)
        self._planes = [open_one(one, pixels.model_copy(update={"files": ()})) for one in paths]
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
