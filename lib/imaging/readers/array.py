"""NumPy arrays (.npy), memory-mapped: only the pixels under a window are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.base import ImageReader, as_rgb, check_pixels

ARRAY_SUFFIXES = (".npy",)
MOST_CHANNELS = 32  # hardly any image has more channels
FIRST_AXIS_CHANNELS = 4  # a first axis this short holds the channels, where the last axis is longer


class ArrayReader(ImageReader):
    """(H, W), (H, W, C), (H, W, 1, C), or (C, H, W) of up to `FIRST_AXIS_CHANNELS` channels; of bool or any number."""

    windowed = True

    def __init__(self, path: Path, pixels: Pixels | None):
        self.path, self.pixels = path, pixels
        with reading(path, "not a readable array"):
            values = np.load(path, mmap_mode="r")  # raises where the file is shorter than its header says
        if not isinstance(values, np.ndarray):
            values.close()
            raise UserError(f"{path} is an archive of arrays (.npz); save each of them alone with np.save")
        if values.ndim > 3 and values.size:  # axes of length 1, such as those between pixels and annotators
            values = values.reshape(*values.shape[:2], *[size for size in values.shape[2:] if size > 1])
        if values.ndim not in (2, 3) or values.dtype.kind not in "buif" or not values.size:
            raise UserError(
                f"{path} is an array {values.shape} of {values.dtype}; numbers (H, W) or (H, W, C) are needed"
            )
        if (
            values.ndim == 3
            and values.shape[2] > max(MOST_CHANNELS, values.shape[0])
            and values.shape[0] > FIRST_AXIS_CHANNELS
        ):
            raise UserError(f"{path} is an array {values.shape}, whose channels must come last; np.moveaxis does that")
        values = values.view(np.uint8) if values.dtype == bool else values
        values = values[..., None] if values.ndim == 2 else values
        self._values = (
            np.moveaxis(values, 0, -1) if values.shape[0] <= FIRST_AXIS_CHANNELS < values.shape[2] else values
        )
        self.height, self.width, self.channels = self._values.shape
        self.depth = self._values.dtype.name
        check_pixels(path, self.depth, self.channels, pixels)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return as_rgb(np.ascontiguousarray(self._values[y : y + h, x : x + w]), self.pixels)

    def close(self) -> None:
        """The memory map is closed when the object is deleted."""
