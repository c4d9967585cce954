"""Run-lengths: text to runs, runs to windows of a mask, row bands of a mask to text.

A run is (start, length) over the mask laid out flat in `order`: `column` runs top to bottom first,
`row` left to right first. Inside the code starts count from 0; in text from `base`.
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import UserError


def encode(mask: np.ndarray, order: str = "column", base: int = 1) -> str:
    """Mask (H, W), true where the object is, to `start length start length …`.

    >>> encode(np.array([[0, 1], [1, 1]]))
    '2 3'
    >>> encode(np.array([[0, 1], [1, 1]]), "row", base=0)
    '1 3'
    """
    encoder = BandEncoder(*mask.shape, order, base)
    encoder.push(0, mask)
    return encoder.finish()


def decode(text: str, height: int, width: int, order: str = "column", base: int = 1) -> np.ndarray:
    """Text to mask (H, W) uint8 of 0 and 1. Raises UserError on bad text (see `parse`).

    >>> decode("2 3", 2, 2).tolist()
    [[0, 1], [1, 1]]
    """
    starts, lengths = parse(text, height * width, "run-length", base)
    return window_of_runs(starts, lengths, (height, width), order, (0, 0, height, width))


def parse(text: str, size: int, where: str, base: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Text to (starts from 0, lengths), int64, ascending. `where` names the row in errors.

    Raises UserError for words that are no integers, an odd count, runs past `size`, or runs that overlap.
    """
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise UserError(f"{where}: the run-length holds something that is no integer: {text[:40]!r}") from None
    if len(numbers) % 2:
        raise UserError(f"{where}: the run-length has {len(numbers)} numbers; pairs of start and length are expected")
    starts, lengths = numbers[::2] - base, numbers[1::2]
    if not len(starts):
        return starts, lengths
    if lengths.min() < 1:
        raise UserError(f"{where}: the run-length has a run of length {lengths.min()}; at least 1 is expected")
    outside = (starts < 0) | (lengths > size - starts)  # not start + length: absurd numbers overflow there
    if outside.any():
        run = int(np.argmax(outside))
        raise UserError(
            f"{where}: the run {starts[run] + base} {lengths[run]} lies outside the image of {size} pixels; "
            "check the image's size, and the options `order` and `base` of the run-length"
        )
    order = np.argsort(starts, kind="stable")
    starts, lengths = starts[order], lengths[order]
    ends = starts + lengths
    if (starts[1:] < ends[:-1]).any():
        i = int(np.argmax(starts[1:] < ends[:-1]))
        raise UserError(f"{where}: the runs at {starts[i] + base} and {starts[i + 1] + base} overlap")
    return starts, lengths


def window_of_runs(
    starts: np.ndarray,
    lengths: np.ndarray,
    shape: tuple[int, int],
    order: str,
    box: tuple[int, int, int, int],
) -> np.ndarray:
    """The window `box` (y, x, h, w) of a mask of `shape`, (h, w) uint8, without decoding the rest.

    `starts` must be ascending and the runs disjoint (as `parse` returns them).
    """
    if order == "column":  # a row-major mask of the transposed image
        y, x, h, w = box
        turned = window_of_runs(starts, lengths, shape[::-1], "row", (x, y, w, h))
        return cv2.transpose(turned).reshape(h, w)
    (_, width), (y, x, h, w) = shape, box
    ends = starts + lengths
    if w == width:
        return _whole_lines(starts, ends, y * width, (y + h) * width).reshape(h, w)
    lo = np.searchsorted(ends, y * width, side="right")
    hi = np.searchsorted(starts, (y + h) * width, side="left")
    starts, ends = starts[lo:hi], ends[lo:hi]
    # Cut runs at the ends of lines, so that each piece lies in one line.
    first, last = starts // width, (ends - 1) // width
    count = last - first + 1
    run = np.repeat(np.arange(len(starts)), count)
    line = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count) + first[run]
    left = np.clip(starts[run] - line * width, x, x + w) - x
    right = np.clip(ends[run] - line * width, x, x + w) - x
    inside = (line >= y) & (line < y + h) & (left < right)
    # +1 where a piece starts and -1 behind its end: the running sum along a line is the mask.
    change = np.zeros((h, w + 1), np.int8)
    np.add.at(change, (line[inside] - y, left[inside]), 1)
    np.add.at(change, (line[inside] - y, right[inside]), -1)
    return np.cumsum(change[:, :-1], axis=1, dtype=np.int8).view(np.uint8)


def _whole_lines(starts: np.ndarray, ends: np.ndarray, first: int, last: int) -> np.ndarray:
    """The flat mask (last - first,) uint8 from pixel `first` on."""
    lo, hi = np.searchsorted(ends, first, side="right"), np.searchsorted(starts, last, side="left")
    edges = np.empty(2 * (hi - lo) + 2, np.int64)
    edges[0], edges[-1] = first, last
    edges[1:-1:2], edges[2:-1:2] = starts[lo:hi], ends[lo:hi]
    lengths = np.diff(np.clip(edges, first, last))
    return np.repeat((np.arange(len(lengths)) % 2).astype(np.uint8), lengths)


CHUNK = 2**18  # pixels looked at together


class BandEncoder:
    """Encodes a mask that arrives in bands of rows; holds the ends of runs, never the mask.

    Where a pixel differs from the one before it in `order` (the one above, the one to the left), a run starts or ends.
    Both lie in the band or in the last row of the one before, so a mask is never turned on its side: only the places
    found are sorted by column, at the end.
    """

    def __init__(self, height: int, width: int, order: str = "column", base: int = 1):
        self.height, self.width, self.order, self.base = height, width, order, base
        self._next = 0
        self._before: np.ndarray | None = None  # the pixels before the next band's first, one row or one pixel
        self._starts: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []

    def push(self, y0: int, band: np.ndarray) -> None:
        """The rows from `y0` on, (h, width), not 0 where the object is; bands come in order."""
        if y0 != self._next or band.shape[1] != self.width:
            raise ValueError(f"band of {band.shape} at row {y0}; expected row {self._next}, width {self.width}")
        rows = max(1, CHUNK // self.width)
        for top in range(0, len(band), rows):
            self._push(np.ascontiguousarray(band[top : top + rows]).ravel())

    def _push(self, pixels: np.ndarray) -> None:
        """Some whole rows, laid out flat; few enough for the processor's cache."""
        step = self.width if self.order == "column" else 1
        before = np.zeros(step, pixels.dtype) if self._before is None else self._before
        changed = np.empty(len(pixels), bool)
        np.not_equal(pixels[:step], before, out=changed[:step])
        np.not_equal(pixels[step:], pixels[:-step], out=changed[step:])
        places = _true_places(changed)
        after = pixels[places] != 0
        previous = np.where(places < step, before[places % step], pixels[places - step]) != 0
        real = after != previous  # from 1 to 2 is no end
        places, starts = places[real], after[real]
        if self.order == "column":
            rows, columns = np.divmod(places, self.width)
            places = columns * self.height + rows + self._next
        else:
            places += self._next * self.width
        self._starts.append(places[starts])
        self._ends.append(places[~starts])
        self._before = pixels[-step:].copy()
        self._next += len(pixels) // self.width

    def finish(self) -> str:
        """The text. Runs that touch, from one column to the next, are one."""
        if self._next != self.height:
            raise ValueError(f"{self._next} of {self.height} rows were pushed")
        # Runs that are still open end with the mask, or with their column.
        step = self.height if self.order == "column" else self.height * self.width
        self._ends.append((np.flatnonzero(self._before) + 1) * step)
        starts, ends = (np.sort(np.concatenate(parts)) for parts in (self._starts, self._ends))
        if len(starts):
            apart = starts[1:] != ends[:-1]
            starts = starts[np.concatenate([[True], apart])]
            ends = ends[np.concatenate([apart, [True]])]
        pairs = np.stack([starts + self.base, ends - starts], axis=1)
        return " ".join(map(str, pairs.ravel().tolist()))


def _true_places(flags: np.ndarray) -> np.ndarray:
    """`np.flatnonzero` of (N,) bool, int64, eight flags at a time: they are rare.

    >>> _true_places(np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 1], bool)).tolist()
    [1, 9]
    """
    whole = len(flags) // 8 * 8
    words = np.flatnonzero(flags[:whole].view(np.uint64))
    word, flag = np.nonzero(flags[:whole].reshape(-1, 8)[words])
    return np.concatenate([words[word] * 8 + flag, whole + np.flatnonzero(flags[whole:])])
