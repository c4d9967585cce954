"""Reading images by window, never whole when it can be helped."""

from __future__ import annotations

from pathlib import Path

from lib.config.competition import Pixels
from lib.imaging.channels.files import files_of, planes_of
from lib.imaging.channels.reader import ChannelsReader
from lib.imaging.readers.base import AS_THEY_ARE, Cutout, ImageReader, Scaled
from lib.imaging.readers.planes import PlanesReader
from lib.imaging.readers.registry import images_in, is_image, named_path, open_shown, stem_of, suffixes

__all__ = [
    "AS_THEY_ARE", "Cutout", "ImageReader", "Scaled", "files_of", "images_in", "is_image", "named_path", "open_image",
    "stem_of", "suffixes",
]  # fmt: skip


def open_image(path: str | Path, pixels: Pixels = AS_THEY_ARE) -> ImageReader:
    """A windowed reader of an image file, or of a slice of a volume (`ct.nii.gz/0012`).

    `pixels`: which channels are read, and which values become their darkest and brightest. Raises UserError, naming the
    file, when it is broken.
    """
    path = Path(path)
    if pixels.channels:
        return ChannelsReader(path, pixels)
    if pixels.files:
        return PlanesReader(planes_of(path, pixels), pixels)
    return open_shown(path, pixels)
