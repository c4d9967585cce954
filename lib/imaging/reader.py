"""Reading images by window, never whole when it can be helped."""

from __future__ import annotations

from pathlib import Path

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.array import ARRAY_SUFFIXES, ArrayReader
from lib.imaging.readers.base import AS_THEY_ARE, Cutout, ImageReader, Scaled
from lib.imaging.readers.geo import GEO_SUFFIXES, GeoReader
from lib.imaging.readers.plain import PLAIN_SUFFIXES, open_plain
from lib.imaging.readers.planes import PlanesReader
from lib.imaging.readers.slide import SLIDE_SUFFIXES, SlideReader
from lib.imaging.readers.tiff import TIFF_SUFFIXES, TiffReader

__all__ = ["AS_THEY_ARE", "SUFFIXES", "Cutout", "ImageReader", "Scaled", "open_image"]
READERS = {
    **dict.fromkeys(TIFF_SUFFIXES, TiffReader),
    **dict.fromkeys(PLAIN_SUFFIXES, open_plain),
    **dict.fromkeys(SLIDE_SUFFIXES, SlideReader),
    **dict.fromkeys(GEO_SUFFIXES, GeoReader),
    **dict.fromkeys(ARRAY_SUFFIXES, ArrayReader),
}
SUFFIXES = tuple(READERS)


def open_image(path: str | Path, pixels: Pixels = AS_THEY_ARE) -> ImageReader:
    """A windowed reader of an image file. Raises UserError, naming the file, when it is broken.

    `pixels`: which channels are shown, and which values become black and white.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no image {path}")
    if pixels.files:
        return PlanesReader(path, pixels, open_image)
    return READERS.get(path.suffix.lower(), open_plain)(path, pixels)
