"""Chooses the values of black and white for images with more than 8 bits a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image

MIDDLE_SIDE = 1024  # of the middle of an image that is looked at
WHITE = (1023, 4095, 16383, 65535)  # the largest value of 10, 12, 14 and 16 bits
EVERYTHING = (-(2.0**31), 2.0**31)
ZOOMS = 8  # from there to a thousandth of one
NO_DATA = 3  # times the width of all other values that a value for no data lies away from them
FAR, FEW = 16, 16  # levels of 256 between it and the others at least; levels that a picture has at least
TAIL = 0.001  # share of the pixels that may be darker than black, and as many brighter than white


def middle(height: int, width: int, side: int = MIDDLE_SIDE) -> tuple[int, int, int, int]:
    """(y, x, h, w) of the middle of an image."""
    h, w = min(side, height), min(side, width)
    return (height - h) // 2, (width - w) // 2, h, w


def span(path: Path, pixels: Pixels, tail: float = 0.0) -> tuple[float, float]:
    """Two values with all but a share of `tail` of the middle's pixels above the one, and below the other.

    Readers show 256 levels of any range, so the range is narrowed until the pixels fill it. A value far below or
    above all others stands for no data (-32768, 65535) and does not count, unless only one value would be left.
    """
    if has_8_bits(path, pixels):
        return 0, 255
    for aside in ((False, False), (True, False), (False, True)):
        low, high, levels, alone = _narrowed(path, pixels, tail, aside)
        if not alone or (any(aside) and levels > FEW):
            return low, high
    return _narrowed(path, pixels, tail, (False, False))[:2]


def has_8_bits(path: Path, pixels: Pixels) -> bool:
    """Whether an image can be shown without a range. `pixels`: which channels."""
    try:
        open_image(path, pixels.model_copy(update={"range": ()})).close()
    except UserError:
        return False
    return True


def _narrowed(path: Path, pixels: Pixels, tail: float, aside: tuple[bool, bool]) -> tuple[float, float, int, bool]:
    """(low, high, levels that are seen between them, whether there are but two values far apart).

    `aside`: whether the lowest and the highest value of all stand for no data.
    """
    (low, high), first_look, alone = EVERYTHING, True, False
    no_data = [False, False]
    for _ in range(ZOOMS):
        with open_image(path, pixels.model_copy(update={"range": (low, high)})) as reader:
            seen = reader.read(*middle(reader.height, reader.width)).ravel()
        seen = seen[((seen > 0) | (not no_data[0])) & ((seen < 255) | (not no_data[1]))]
        levels, step = np.unique(seen).astype(int), (high - low) / 255
        if len(levels) < 2:
            low, high = (low + (levels[0] - 1) * step, low + (levels[0] + 1) * step) if len(levels) else (low, high)
            continue
        gaps = np.diff(levels)
        alone = len(levels) == 2 and gaps[0] > FAR
        end = (0 if aside[0] else 1 if aside[1] else None) if alone and first_look else _no_data(levels)
        if end is not None:
            first_look, no_data[end] = False, True
            levels = levels[1:] if end == 0 else levels[:-1]
            low, high = low + (levels[0] - 1) * step, low + (levels[-1] + 1) * step
            continue
        first, last = np.quantile(seen, (tail, 1 - tail), method="nearest").astype(int)
        if last - first > 128:
            return low + first * step, low + last * step, len(levels), alone
        low, high = low + max(0, first - 1) * step, low + min(255, last + 1) * step
    return low, high, len(levels), alone


def _no_data(levels: np.ndarray) -> int | None:
    """Whether the lowest (0) or the highest (1) of rising levels is far from all others; None where neither is.

    >>> _no_data(np.array([0, 180, 190, 200])), _no_data(np.array([3, 4, 9, 255])), _no_data(np.array([0, 255]))
    (0, 1, None)
    """
    if len(levels) < 3:
        return None
    for end, rest, gap in ((0, levels[1:], levels[1] - levels[0]), (1, levels[:-1], levels[-1] - levels[-2])):
        if gap > max(NO_DATA * (rest[-1] - rest[0]), FAR):
            return end
    return None


def shown_range(paths: list[Path], pixels: Pixels) -> tuple[float, float]:
    """`competition.pixels.range` of deep images: their bits, where these are used, else between which most are."""
    spans = [span(path, pixels, TAIL) for path in paths]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    bits = next((white for white in WHITE if 0.75 * white < high <= white + 0.5), 0)
    if bits and -0.5 < low < 0.25 * bits:
        return 0, bits
    digits = 2 - int(np.floor(np.log10(max(high - low, 1e-6))))
    low = 0.0 if -0.01 * high < low < 0.1 * high else low
    low, high = round(float(low), digits), round(float(high), digits)
    return (int(low), int(high)) if digits <= 0 else (low, high)
