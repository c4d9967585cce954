"""Chooses the values of black and white for images with more than 8 bits a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image

MIDDLE_SIDE = 1024  # pixels: values are read from a square of this side in the middle of an image
WHITE = (1023, 4095, 16383, 65535)  # the largest value of 10, 12, 14 and 16 bits
EVERYTHING = (-(2.0**31), 2.0**31)
ZOOMS = 8  # steps that narrow a range from `EVERYTHING` to about 0.001
NO_DATA_GAP = 3  # a no-data value lies at least this many times the range of the other values away from them,
MIN_GAP_LEVELS = 16  # and at least so many of 256 levels
MIN_LEVELS = 16  # an image has at least so many different levels
TAIL = 0.001  # share of the pixels that may be darker than black, and of those that may be brighter than white


def middle(height: int, width: int, side: int = MIDDLE_SIDE) -> tuple[int, int, int, int]:
    """(y, x, h, w) of the middle of an image: at most `side` pixels high and wide."""
    h, w = min(side, height), min(side, width)
    return (height - h) // 2, (width - w) // 2, h, w


def span(path: Path, pixels: Pixels, tail: float = 0.0) -> tuple[float, float]:
    """The quantiles `tail` and 1 - `tail` of the values in the middle of an image.

    Readers show 256 levels of any range, so the range is narrowed until the pixels fill it. A value far below or
    above all others, such as -32768 or 65535, stands for no data. It does not count, unless it leaves only one value.
    """
    if has_8_bits(path, pixels):
        return 0, 255
    for no_data in ((False, False), (True, False), (False, True)):
        low, high, levels, two_values = _narrowed(path, pixels, tail, no_data)
        if not two_values or (any(no_data) and levels > MIN_LEVELS):
            return low, high
    return _narrowed(path, pixels, tail, (False, False))[:2]


def has_8_bits(path: Path, pixels: Pixels) -> bool:
    """Whether an image can be read without a range. `pixels`: which channels."""
    try:
        open_image(path, pixels.model_copy(update={"range": ()})).close()
    except UserError:
        return False
    return True


def _narrowed(path: Path, pixels: Pixels, tail: float, no_data: tuple[bool, bool]) -> tuple[float, float, int, bool]:
    """(low, high, the number of levels between them, whether there are only two values, far apart).

    `no_data`: whether the lowest and whether the highest of two such values stands for no data.
    """
    (low, high), first_look, two_values = EVERYTHING, True, False
    dropped = [False, False]  # the lowest level, and the highest
    for _ in range(ZOOMS):
        with open_image(path, pixels.model_copy(update={"range": (low, high)})) as reader:
            values = reader.read(*middle(reader.height, reader.width)).ravel()
        values = values[((values > 0) | (not dropped[0])) & ((values < 255) | (not dropped[1]))]
        levels, step = np.unique(values).astype(int), (high - low) / 255
        if len(levels) < 2:
            low, high = (low + (levels[0] - 1) * step, low + (levels[0] + 1) * step) if len(levels) else (low, high)
            continue
        two_values = len(levels) == 2 and levels[1] - levels[0] > MIN_GAP_LEVELS
        end = (0 if no_data[0] else 1 if no_data[1] else None) if two_values and first_look else _no_data(levels)
        if end is not None:
            first_look, dropped[end] = False, True
            levels = levels[1:] if end == 0 else levels[:-1]
            low, high = low + (levels[0] - 1) * step, low + (levels[-1] + 1) * step
            continue
        first, last = np.quantile(values, (tail, 1 - tail), method="nearest").astype(int)
        if last - first > 128:
            return low + first * step, low + last * step, len(levels), two_values
        low, high = low + max(0, first - 1) * step, low + min(255, last + 1) * step
    return low, high, len(levels), two_values


def _no_data(levels: np.ndarray) -> int | None:
    """0 where the lowest of ascending levels is far from all others, 1 where the highest is; None where neither is.

    >>> _no_data(np.array([0, 180, 190, 200])), _no_data(np.array([3, 4, 9, 255])), _no_data(np.array([0, 255]))
    (0, 1, None)
    """
    if len(levels) < 3:
        return None
    for end, rest, gap in ((0, levels[1:], levels[1] - levels[0]), (1, levels[:-1], levels[-1] - levels[-2])):
        if gap > max(NO_DATA_GAP * (rest[-1] - rest[0]), MIN_GAP_LEVELS):
            return end
    return None


def shown_range(paths: list[Path], pixels: Pixels) -> tuple[float, float]:
    """`competition.pixels.range` of images with more than 8 bits.

    The range of 10, 12, 14 or 16 bits where the values fill it; otherwise the range of nearly all values.
    """
    spans = [span(path, pixels, TAIL) for path in paths]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    bits = next((white for white in WHITE if 0.75 * white < high <= white + 0.5), 0)
    if bits and -0.5 < low < 0.25 * bits:
        return 0, bits
    digits = 2 - int(np.floor(np.log10(max(high - low, 1e-6))))
    low = 0.0 if -0.01 * high < low < 0.1 * high else low
    low, high = round(float(low), digits), round(float(high), digits)
    return (int(low), int(high)) if digits <= 0 else (low, high)
