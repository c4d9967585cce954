"""Which values become black and white in images of more than 8 bits a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.imaging.reader import open_image

SIDE = 1024  # of the middle of an image that is looked at
WHITE = (1023, 4095, 16383, 65535)  # the largest value of 10, 12, 14 and 16 bits
EVERYTHING = (-(2.0**31), 2.0**31)
ZOOMS = 8  # from there to a thousandth of one
TAIL = 0.001  # share of the pixels that may be darker than black, and as many brighter than white


def middle(height: int, width: int, side: int = SIDE) -> tuple[int, int, int, int]:
    """(y, x, h, w) of the middle of an image."""
    h, w = min(side, height), min(side, width)
    return (height - h) // 2, (width - w) // 2, h, w


def span(path: Path, pixels: Pixels, tail: float = 0.0) -> tuple[float, float]:
    """Two values with all but a share of `tail` of the middle's pixels above the one, and below the other.

    Readers show 256 levels of any range, so the range is narrowed until the pixels fill it.
    """
    low, high = EVERYTHING
    for _ in range(ZOOMS):
        with open_image(path, pixels.model_copy(update={"range": (low, high)})) as reader:
            seen = reader.read(*middle(reader.height, reader.width))
        first, last = np.quantile(seen, (tail, 1 - tail), method="nearest").astype(int)
        step = (high - low) / 255
        if last - first > 128:
            return low + first * step, low + last * step
        low, high = low + max(0, first - 1) * step, low + min(255, last + 1) * step
    return low, high


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
