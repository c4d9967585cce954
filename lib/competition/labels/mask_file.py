"""Reads one mask file by window: stored indices, grey levels or colours."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.base import AS_THEY_ARE, check_expansion
from lib.imaging.readers.plain import PILLOW_FORMATS, PLAIN_SUFFIXES, StreamReader
from lib.imaging.readers.registry import file_and_slice, open_shown, open_stored, suffix_of

Image.MAX_IMAGE_PIXELS = None  # masks are as huge as their images
WHOLE_PIXELS = 2**25  # of a mask that is decoded whole, and kept while it is the last one
DEEP_MASK_RANGE = (0, 255)  # of colours of more than 8 bits


class MaskFile:
    """`height`, `width`, the values under a window, and the one that the file calls `nodata`, if any.

    `layers`: the channels of an array or TIFF, which may be masks by several people; else 1. TIFFs are read by segment,
    arrays mapped, large PNGs streamed from the top down; interlaced PNGs and other formats are decoded whole. Raises
    UserError, naming the file, when it is broken.
    """

    layers = 1
    _layer: int | None = None

    def __init__(self, path: Path, coloured: bool, dataset: str = "", slice_axis: int | None = None):
        """`coloured`: give red, green and blue, also of palette images; else what is stored. `dataset`, `slice_axis`:
        of the array that holds it, as in `competition.pixels`."""
        self.path, self.coloured, self.nodata = path, coloured, None
        if suffix_of(file_and_slice(path)[0]) not in ("", *PLAIN_SUFFIXES):
            self._open(Pixels(dataset=dataset, slice_axis=slice_axis))
            return
        with reading(path, "not a readable mask"), Image.open(path, formats=PILLOW_FORMATS) as image:
            self.width, self.height = image.size
            kind, mode = image.format, image.mode
            streamed = kind == "PNG" and not image.info.get("interlace")
            palette = image.getpalette("RGB") if mode == "P" else None
        check_expansion(path, self.height * self.width * len(mode), path.stat().st_size)
        self._reader, self._grey, self._of_palette, self._bits = None, mode not in ("P", "RGB", "RGBA"), None, False
        if not streamed or self.height * self.width <= WHOLE_PIXELS:
            return
        if palette and not coloured:
            # libvips gives a palette's colours; they lead back to its indices.
            codes = codes_of(np.array(palette, np.uint8).reshape(-1, 1, 3))[:, 0]
            self._of_palette = {int(code): index for index, code in reversed(list(enumerate(codes)))}
        self._bits = mode == "1"  # libvips makes 255 of its ones
        shown = None if mode.startswith("I") else AS_THEY_ARE
        self._reader = StreamReader(path, shown, (self.height, self.width), 1 if self._grey else 3)

    def _open(self, pixels: Pixels) -> None:
        try:
            self._reader = open_shown(self.path, pixels) if self.coloured else open_stored(self.path, pixels)
        except UserError:  # colours of more than 8 bits, or broken
            self._reader = open_shown(self.path, pixels.model_copy(update={"range": DEEP_MASK_RANGE}))
        self.height, self.width, self.nodata = self._reader.height, self._reader.width, self._reader.nodata
        self._grey, self._of_palette, self._bits = self._reader.channels < 3, None, False
        self.layers = self._reader.channels

    def layer(self, index: int) -> MaskFile:
        """The mask that one of `layers` holds."""
        one = copy.copy(self)
        one.layers, one._layer = 1, index
        return one

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Stored values (h, w), of any type, or colours (h, w, 3)."""
        if self._reader is None:
            pixels = _decoded(self.path, self.coloured)[y : y + h, x : x + w]
        else:
            pixels = self._reader.read(y, x, h, w)
        pixels = pixels if self._layer is None else pixels[..., self._layer]
        pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels
        if self._of_palette is not None:
            keys = np.array(sorted(self._of_palette), np.uint32)
            indices = np.array([self._of_palette[int(key)] for key in keys], np.uint8)
            return indices[np.minimum(np.searchsorted(keys, codes_of(pixels)), len(keys) - 1)]
        pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
        if pixels.ndim == 3 and not self.coloured:
            grey = self._grey or (np.ptp(pixels, axis=-1) == 0).all()  # three equal channels are one
            pixels = pixels[..., 0] if grey else pixels
            return (pixels > 0).view(np.uint8) if self._bits else pixels
        return pixels


@lru_cache(maxsize=1)
def _decoded(path: Path, coloured: bool) -> np.ndarray:
    """A whole mask, (H, W) or (H, W, 3)."""
    with reading(path, "not a readable mask"), Image.open(path, formats=PILLOW_FORMATS) as image:
        drop = coloured or image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "F")
        pixels = np.asarray(image.convert("RGB") if drop else image)
    return pixels.view(np.uint8) if pixels.dtype == bool else pixels


def codes_of(pixels: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) as one number per pixel, uint32; stored values (h, w) are numbers already, whatever they are.

    >>> codes_of(np.array([[[1, 2, 3]]], np.uint8)).tolist(), codes_of(np.array([[-1]], np.int8)).tolist()
    ([[66051]], [[-1]])
    """
    if pixels.ndim == 2:
        return pixels
    r, g, b = (pixels[..., i].astype(np.uint32) for i in range(3))
    return (r << 16) | (g << 8) | b
