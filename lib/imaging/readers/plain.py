"""PNG, JPEG and similar formats: small files are decoded whole; libvips streams large PNG and JPEG top down."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lib.config.competition import Pixels
from lib.errors import reading
from lib.imaging.readers.base import SIDEWAYS, ImageReader, as_rgb, check_expansion, check_pixels, optional

Image.MAX_IMAGE_PIXELS = None  # huge images are what this project is for
STREAMED = (".png", ".jpg", ".jpeg")
PLAIN_SUFFIXES = (*STREAMED, ".bmp", ".webp", ".ppm", ".pgm", ".gif")
# What a file may hold, whatever its suffix. Pillow would start another program for some others.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "PPM", "GIF", "TIFF")
DECODED_BYTES = 64e6  # decoded pixels of an image that is not streamed
DEEP_MODES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}  # Pillow's modes
UNCHANGED_MODES = (*DEEP_MODES, "L", "LA", "RGB", "RGBA")


def open_plain(path: Path, pixels: Pixels, stored: bool = False) -> ImageReader:
    """The reader for an image's size and format. Raises UserError when the file cannot be read.

    `stored`: it gives the file's values (h, w, C), and not those that `pixels` shows.
    """
    with reading(path, "not a readable image"), Image.open(path, formats=PILLOW_FORMATS) as image:
        width, height = image.size
        # Pillow would decode a whole PNG to look for EXIF behind the pixels.
        stated = image.getexif().get(274, 1) if "exif" in image.info else 1
        stated = stated if stated in range(1, 9) else 1  # as Pillow takes it
        orientation = stated if pixels.exif else 1
        plain = path.suffix.lower() in STREAMED
        scattered = not plain or image.info.get("progressive") or image.info.get("interlace") or orientation != 1
        deep_colour = image.mode not in DEEP_MODES and ";16" in str(image.tile)  # Pillow would cut it to 8 bits
        bands = 3 if stored and image.mode not in UNCHANGED_MODES and not deep_colour else len(image.getbands())
        depth = "uint16" if deep_colour else DEEP_MODES.get(image.mode, "uint8")
    check_expansion(path, height * width * bands * np.dtype(depth).itemsize, path.stat().st_size)
    check_pixels(path, depth, bands, None if stored else pixels)
    large = height * width * bands > DECODED_BYTES
    kind = StreamReader if deep_colour or (large and not scattered) else WholeReader
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    reader = kind(path, None if stored else pixels, size, bands)
    reader.exif = pixels.exif
    # libvips turns only what it may read in any order.
    reader.undividable = bool(scattered and (large or (deep_colour and orientation != 1)))
    reader.orientation, reader.depth = stated, depth
    return reader


class PlainReader(ImageReader):
    """What both readers know about their file."""

    exif = True
    """Whether EXIF orientation is applied."""

    def __init__(self, path: Path, pixels: Pixels | None, size: tuple[int, int], channels: int):
        self.path, self.pixels, self.channels = path, pixels, channels
        self.height, self.width = size

    def close(self) -> None:
        """The file is closed when the object is deleted."""


class WholeReader(PlainReader):
    """Decoded whole; the last four decoded ones are kept, as an image may have a file for each colour.

    EXIF orientation is applied where `pixels.exif`.
    """

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return _decoded(self.path, self.pixels, self.exif)[y : y + h, x : x + w]


@lru_cache(maxsize=4)
def _decoded(path: Path, pixels: Pixels | None, exif: bool) -> np.ndarray:
    return as_rgb(decoded(path, exif), pixels)


def decoded(path: Path, exif: bool) -> np.ndarray:
    """All values of a file (H, W, C), turned as EXIF says if `exif`. Raises UserError when it is damaged."""
    with reading(path, "damaged"), Image.open(path, formats=PILLOW_FORMATS) as image:
        image = ImageOps.exif_transpose(image) if exif and "exif" in image.info else image
        plain = image if image.mode in UNCHANGED_MODES else image.convert("RGB")
        values = np.asarray(plain)
    return values if values.ndim == 3 else values[..., None]


class StreamReader(PlainReader):
    """Decoded from the top down, as far as windows reach. A window above the rows in memory starts again at the top."""

    HELD_BYTES = 64e6
    """Bytes of rows above the last window that stay in memory."""

    def __init__(self, path: Path, pixels: Pixels | None, size: tuple[int, int], channels: int):
        super().__init__(path, pixels, size, channels)
        self._vips = optional("pyvips", "'pyvips[binary]'", path)
        self._vips.cache_set_max(0)  # an old stream must not be taken for a new one
        self._start()

    def _start(self) -> None:
        with reading(self.path, "damaged"):
            image = self._vips.Image.new_from_file(str(self.path), access="sequential", fail_on="truncated")
            image = image.colourspace("srgb") if image.interpretation == "cmyk" else image
            self._region = self._vips.Region.new(image)
            self._dtype = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
        self._top = 0
        self._rows = as_rgb(np.empty((0, self.width, image.bands), self._dtype), self.pixels)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        if y < self._top:
            self._start()
        bottom = self._top + len(self._rows)
        if y + h > bottom:
            room = int(self.HELD_BYTES / (self.width * 3))
            keep = max(self._top, min(y, y + h - room))
            new = self._fetch(max(bottom, keep), y + h)
            self._rows = np.concatenate([self._rows[keep - self._top :], new])
            self._top = keep
        return self._rows[y - self._top : y - self._top + h, x : x + w]

    def _fetch(self, start: int, stop: int) -> np.ndarray:
        """Rows as RGB (stop - start, width, 3)."""
        with reading(self.path, "damaged"):
            data = self._region.fetch(0, start, self.width, stop - start)
        return as_rgb(np.frombuffer(data, self._dtype).reshape(stop - start, self.width, -1), self.pixels)
