"""The range of values that a channel's darkest and brightest value stand for: fitted, or found in an image or stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lib.config.pixels import DEVIATIONS
from lib.errors import UserError

QUANTILES = (0.005, 0.995)
WHOLE_8_BITS = (0.0, 255.0)
SIDE, WINDOWS = 256, 16  # of windows that are sampled in an image
SAMPLED_VALUES = 2**16  # values of a channel that are kept of an image
MOST_OF_A_STACK = 9  # slices in which the range of a stack is found


def spread_windows(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Up to `WINDOWS` windows (y, x, h, w), spread evenly over an image: all of a small one.

    >>> list(spread_windows(200, 300))
    [(0, 0, 200, 256), (0, 44, 200, 256)]
    """
    h, w = min(SIDE, height), min(SIDE, width)
    down, across = -(-height // SIDE), -(-width // SIDE)
    while down * across > WINDOWS:
        down, across = (down - 1, across) if down >= across else (down, across - 1)
    for y in np.linspace(0, height - h, down).astype(int).tolist():
        for x in np.linspace(0, width - w, across).astype(int).tolist():
            yield y, x, h, w


def evenly_thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the finite values, evenly spaced."""
    values = values[np.isfinite(values)]
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).astype(int)]


def range_of(values: np.ndarray, scaling: str) -> tuple[float, float]:
    """The range of a channel whose sampled values are these: its quantiles, or some deviations around its mean.

    A channel of one value gets a range around it. Raises ValueError where there is no value.
    """
    if not len(values):
        raise ValueError("no pixel of it was measured")
    if scaling == "mean_std":
        mean, reach = float(values.mean(dtype=np.float64)), DEVIATIONS * float(values.std(dtype=np.float64))
        low, high = mean - reach, mean + reach
    else:
        low, high = map(float, np.quantile(values.astype(np.float64), QUANTILES))
    if not high > low:
        return low - 0.5, low + 0.5
    return float(f"{low:.7g}"), float(f"{high:.7g}")


def type_range(depth: str, where: str) -> tuple[float, float]:
    """The whole range of a type of whole numbers."""
    kind = np.dtype(depth)
    if kind.kind not in "iu":
        raise UserError(f"{where} has {depth} values, which have no whole range; choose another scaling than type")
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def evenly(items: Sequence, most: int) -> list:
    """At most `most` of the items, spread evenly.

    >>> evenly(range(10), 3)
    [0, 4, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int).tolist()]
