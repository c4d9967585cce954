"""Grids of windows over an image: where each window starts (sliding window)."""

from __future__ import annotations

MAP_SIDE = 900  # pixels: longest side of a down-sampled map


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Starts of windows along one axis. They cover every pixel, no window is repeated, and none reaches outside.

    `length`, `window` and `stride` in pixels. The last window is moved back to end at the border. A window longer than
    the axis gives [0], and the caller pads. Raises ValueError unless 0 < stride <= window.

    >>> window_starts(10, 4, 3)
    [0, 3, 6]
    >>> window_starts(11, 4, 3)
    [0, 3, 6, 7]
    >>> window_starts(3, 4, 4)
    [0]
    """
    if not 0 < stride <= window:
        raise ValueError(f"stride {stride} must be in 1..window ({window})")
    if length <= window:
        return [0]
    starts = list(range(0, length - window, stride))
    return [*starts, length - window]


def whole_size(height: int, width: int, side: int, fit: str) -> tuple[int, int]:
    """Size (height, width) of an image that is shrunk into a square of `side` pixels.

    `fit`: `letterbox` keeps the proportions, `stretch` does not.

    >>> whole_size(100, 200, 64, "letterbox"), whole_size(100, 200, 64, "stretch")
    ((32, 64), (64, 64))
    >>> whole_size(1, 1000, 64, "letterbox"), whole_size(1000, 1, 64, "letterbox")
    ((1, 64), (64, 1))
    """
    if fit == "stretch":
        return side, side
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def grid(height: int, width: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners (y, x) of all windows over an image, row by row; all arguments in pixels.

    Raises ValueError unless 0 < stride <= window.

    >>> grid(4, 6, 4, 2)
    [(0, 0), (0, 2)]
    >>> grid(height=6, width=5, window=4, stride=4)
    [(0, 0), (0, 1), (2, 0), (2, 1)]
    """
    xs = window_starts(width, window, stride)
    return [(y, x) for y in window_starts(height, window, stride) for x in xs]


def map_step(height: int, width: int) -> int:
    """Pixels between neighbouring values of an image's down-sampled map, whose longest side is `MAP_SIDE`.

    >>> map_step(900, 40), map_step(30, 901)
    (1, 2)
    """
    return -(-max(height, width) // MAP_SIDE)
