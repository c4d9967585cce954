"""Copies images that can only be decoded whole to a tiled TIFF, once. Memory stays bounded; disk space does not.

(That of BMP, PPM, WebP and GIF does not while they are copied: libvips lacks a reader of them, or decodes them whole.)
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import tifffile

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.files import temporary_name
from lib.imaging.reader import open_image
from lib.imaging.readers.base import ImageReader, optional
from lib.imaging.readers.plain import PLAIN_SUFFIXES, STREAMED, decoded

TILE = 512


def open_divided(path: Path, pixels: Pixels) -> ImageReader:
    """As `open_image`. An image that can only be decoded whole is copied to the temporary folder until it is closed."""
    reader = open_image(path, pixels)
    if not reader.undividable:
        return reader
    reader.close()
    folder = tempfile.TemporaryDirectory(prefix="image_")
    try:
        reader = open_image(spooled(path, pixels, Path(folder.name)), pixels)
    except BaseException:
        folder.cleanup()
        raise
    close = reader.close

    def close_both() -> None:
        close()
        folder.cleanup()

    reader.close = close_both
    return reader


def spooled(path: Path, pixels: Pixels, folder: Path) -> Path:
    """`path`, or, where a window would cost the whole image, an uncompressed copy of it under `folder`.

    That is so for large progressive JPEGs, interlaced PNGs, those that EXIF turns, other formats of Pillow, and TIFFs
    compressed in one piece. Raises UserError when the disk is too full.
    """
    with open_image(path, pixels) as reader:
        if not reader.undividable:
            return path
        size = reader.height * reader.width * reader.channels * (2 if pixels.range else 1)
        channels = reader.channels
    stat = path.stat()
    about = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}" + (not pixels.exif) * " as stored"
    name = hashlib.sha256(about.encode()).hexdigest()[:12]
    copy = folder / f"{path.stem}_{name}.tif"
    if copy.is_file() and _is_whole(copy):
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 1.1 * size:
        raise UserError(
            f"{path} can only be decoded whole, which takes {size / 1e9:.1f} GB of disk; {folder} has "
            f"{free / 1e9:.1f} GB left: make room, or set workspace (in a package: TMPDIR) to a folder on another disk"
        )
    vips = optional("pyvips", "'pyvips[binary]'", path)
    vips.cache_set_max(0)
    temporary = temporary_name(copy)
    try:
        image = _image(path, vips, pixels.exif)
        if path.suffix.lower() not in PLAIN_SUFFIXES and image.bands != channels:
            raise UserError(f"{path} holds its channels in compressed pieces of the whole image; convert it to tiles")
        image.tiffsave(str(temporary), tile=True, tile_width=TILE, tile_height=TILE, bigtiff=True, compression="none")
        temporary.replace(copy)
    except vips.Error as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); replace or remove the file") from None
    finally:
        temporary.unlink(missing_ok=True)
    return copy


def _is_whole(copy: Path) -> bool:
    """Whether a copy was not cut off: all its tiles lie inside the file."""
    try:
        with tifffile.TiffFile(copy) as file:
            page = file.pages[0]
            ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            return max(ends) <= copy.stat().st_size
    except (tifffile.TiffFileError, ValueError, IndexError, struct.error):
        return False


def _image(path: Path, vips: ModuleType, exif: bool) -> Any:
    """A `vips.Image` with the file's values, turned as EXIF says if `exif`; ink (CMYK) and palettes become colours."""
    suffix = path.suffix.lower()
    if suffix in PLAIN_SUFFIXES and suffix not in STREAMED:
        return vips.Image.new_from_array(decoded(path, exif))
    # Only what EXIF turns is read in another order than it is stored in.
    turned = exif and suffix in STREAMED and vips.Image.new_from_file(str(path)).get_typeof("orientation") != 0
    access = "random" if turned else "sequential"
    image = vips.Image.new_from_file(str(path), access=access, fail_on="truncated", unlimited=True)
    if suffix not in STREAMED:
        return image
    image = image.colourspace("srgb") if image.interpretation == "cmyk" else image
    return image.autorot() if exif else image
