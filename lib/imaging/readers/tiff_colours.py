"""Colour spaces of TIFFs other than grey and RGB: ink (CMYK), YCbCr, Lab and palettes become RGB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tifffile
from PIL import Image, ImageCms

from lib.errors import UserError

# Numbers of TIFF: photometric interpretations, compressions, tags.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, INK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
UNCHANGED = (BLACK_IS_ZERO, RGB, MASK, 34892, 51177, 52527)  # the last three: linear RGB, depths, masks of DNG
OLD_JPEG, APERIO_YCBCR = 6, 33003
JPEGS = (OLD_JPEG, 7, 33007, 34892)
PHOTOMETRIC_TAG, INK_SET_TAG, YCBCR_WEIGHTS_TAG, YCBCR_RANGE_TAG = 262, 332, 529, 532
YCBCR_WEIGHTS, YCBCR_RANGE = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)  # those of JPEG, the default

Conversion = Callable[[np.ndarray], np.ndarray]
"""Stored values (h, w, C) to values (h, w, 3), or of grey to (h, w, 1)."""


def conversion_of(path: str, page: tifffile.TiffPage, coloured: bool) -> Conversion | None:
    """What makes grey, or RGB, of the stored values of a page; None where they are that already.

    `coloured`: whether a palette's colours are wanted, not its indices. Raises UserError, naming the colour space,
    where it cannot be converted.
    """
    kind = page.photometric
    if PHOTOMETRIC_TAG not in page.tags and page.compression != OLD_JPEG:
        raise UserError(f"{path} does not say what its values mean (tag 262 is missing); write it anew as RGB or grey")
    if page.compression == APERIO_YCBCR or kind == YCBCR:
        return _ycbcr(path, page)
    if kind == WHITE_IS_ZERO:
        top = page.dtype.type(2**page.bitspersample - 1) if page.dtype.kind in "bu" else None
        return None if top is None else lambda values: values ^ top
    if kind == PALETTE:
        return _palette(path, page) if coloured else None
    if kind == INK:
        return _ink(path, page)
    if kind in (CIELAB, ICCLAB):
        return _lab(path, page)
    if kind not in UNCHANGED:
        raise _not_converted(path, page)
    return None


def grey_stretch(page: tifffile.TiffPage) -> np.ndarray | None:
    """Value of 8 bits by stored value, where values have fewer bits; None of others.

    Other readers of such files show the 15 of 4 bits as white, too.
    """
    top = 2**page.bitspersample - 1 if isinstance(page.bitspersample, int) else 0
    if page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, MASK) or page.dtype.kind not in "bu" or top >= 255:
        return None
    return (np.arange(top + 1) * 255 / top + 0.5).astype(np.uint8)


def _ink(path: str, page: tifffile.TiffPage) -> Conversion:
    """Cyan, magenta, yellow and black, without the printer's profile, as Pillow does it."""
    if page.tags.valueof(INK_SET_TAG, 1) != 1 or page.samplesperpixel < 4 or not _whole_bits(page, (8, 16)):
        raise _not_converted(path, page)
    top = np.uint32(2**page.bitspersample - 1)

    def convert(values: np.ndarray) -> np.ndarray:
        light = top - values[..., :4].astype(np.uint32)
        return ((light[..., :3] * light[..., 3:] + top // 2) // top).astype(values.dtype)

    return convert


def _ycbcr(path: str, page: tifffile.TiffPage) -> Conversion | None:
    """None where the codec converts. Only what JPEG uses is read: these weights, and all values from 0 to 255."""
    if page.compression in JPEGS and page.planarconfig == 1 and not page.extrasamples:
        return None
    weights = _ratios(page.tags.valueof(YCBCR_WEIGHTS_TAG), YCBCR_WEIGHTS)
    levels = _ratios(page.tags.valueof(YCBCR_RANGE_TAG), YCBCR_RANGE)
    usual = np.allclose(weights, YCBCR_WEIGHTS, atol=1e-3) and np.allclose(levels, YCBCR_RANGE)
    subsampled = page.is_subsampled and page.compression != APERIO_YCBCR
    if not usual or subsampled or page.samplesperpixel < 3 or not _whole_bits(page, (8,)):
        raise _not_converted(path, page)
    return lambda values: np.asarray(_picture("YCbCr", values).convert("RGB"))


def _lab(path: str, page: tifffile.TiffPage) -> Conversion:
    """L*a*b* of white point D50 to sRGB."""
    if page.samplesperpixel < 3 or not _whole_bits(page, (8,)) or page.compression in JPEGS:
        raise _not_converted(path, page)
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    to_rgb = ImageCms.buildTransform(*profiles, "LAB", "RGB")
    # Pillow's bytes are signed, as those of CIELAB are.
    shift = np.array([0, 128, 128] if page.photometric == ICCLAB else [0, 0, 0], np.uint8)

    def convert(values: np.ndarray) -> np.ndarray:
        return np.asarray(ImageCms.applyTransform(_picture("LAB", values[..., :3] ^ shift), to_rgb))

    return convert


def _palette(path: str, page: tifffile.TiffPage) -> Conversion:
    """Colours have 16 bits."""
    colours = None if page.colormap is None else np.asarray(page.colormap)
    indices = 2**page.bitspersample if page.dtype.kind in "bu" and page.bitspersample <= 16 else 0
    if colours is None or colours.ndim != 2 or colours.shape[0] != 3 or not 0 < indices <= colours.shape[1]:
        raise UserError(f"{path} is damaged: its palette lacks colours; replace or remove the file")
    table = (colours >> 8).astype(np.uint8).T
    return lambda values: table[values[..., 0].astype(np.int64)]


def _picture(mode: str, values: np.ndarray) -> Image.Image:
    data = np.ascontiguousarray(values[..., :3])
    return Image.frombytes(mode, data.shape[1::-1], data.tobytes())


def _whole_bits(page: tifffile.TiffPage, bits: tuple[int, ...]) -> bool:
    return page.dtype.kind == "u" and page.bitspersample in bits


def _ratios(values: tuple | None, default: tuple[float, ...]) -> np.ndarray:
    """Rational numbers of a tag, each a numerator and a denominator; NaN where they are not as many as by default."""
    if values is None:
        return np.array(default, np.float64)
    numbers = np.array(values, np.float64).ravel()
    if len(numbers) == 2 * len(default):
        numbers = numbers[::2] / np.where(numbers[1::2] == 0, np.nan, numbers[1::2])
    return numbers if len(numbers) == len(default) else np.full(len(default), np.nan)


def _not_converted(path: str, page: tifffile.TiffPage) -> UserError:
    name = getattr(page.photometric, "name", page.photometric)
    form = f"{page.samplesperpixel} channels of {page.bitspersample} bits, compression {int(page.compression)}"
    return UserError(f"{path} has colours of a kind that is not converted ({name}, {form}); convert the file to RGB")
