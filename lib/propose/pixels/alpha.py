"""Whether the last channel of a file is its opacity."""

from __future__ import annotations

from pathlib import Path

import tifffile
from PIL import Image

from lib.imaging.readers.plain import PLAIN_SUFFIXES
from lib.imaging.readers.tiff import TIFF_SUFFIXES


def has_alpha(path: Path) -> bool:
    """Of TIFFs as their header says; PNGs and the like have no other channels; arrays never have it."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        with tifffile.TiffFile(path) as file:
            return any(int(kind) in (1, 2) for kind in file.pages.first.extrasamples)
    if suffix in PLAIN_SUFFIXES:
        with Image.open(path) as image:
            return image.mode in ("LA", "RGBA", "PA")
    return False
