"""Run-length encoding (RLE): text to runs, runs to windows of a mask, row bands of a mask to text.

A run is (start, length) in the flattened mask. `order`: `column` flattens top to bottom first, `row` left to right
first. In the code, starts count from 0; in texts they count from `base`.
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

import cv2
import numpy as np

from lib.competition.integer_text import LongText, pairs_of_text, text_of_numbers
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


def parse(
    text: str | bytes | LongText, size: int, where: str, base: int = 1, relative: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Text to (starts from 0, lengths), int64, ascending. `where` names the row in errors.

    `relative`: a start counts from the end of the run before. Raises UserError for words that are not integers, an odd
    count, runs past `size`, or runs that overlap.
    """
    try:
        starts, lengths, count = pairs_of_text(text)
    except (ValueError, OverflowError):
        shown = (text.head if isinstance(text, LongText) else text)[:40]
        shown = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
        raise UserError(f"{where}: the run-length holds something that is not an integer: {shown!r}") from None
    if count % 2:
        raise UserError(f"{where}: the run-length has {count} numbers; pairs of start and length are expected")
    if not count:
        return starts, lengths
    starts -= base
    if lengths.min() < 1:
        raise UserError(f"{where}: the run-length has a run of length {lengths.min()}; at least 1 is expected")
    if relative and max(starts.max(), lengths.max(), -starts.min()) < 2**61 // count:  # absurd ones would overflow
        starts[1:] += base + lengths[:-1]
        np.cumsum(starts, out=starts)
    outside = np.empty(len(starts), bool)
    for part in _parts(len(starts)):  # there may be many
        # Not start + length: absurd numbers overflow there.
        outside[part] = (starts[part] < 0) | (lengths[part] > size - starts[part])
    if outside.any():
        run = int(np.argmax(outside))
        raise UserError(
            f"{where}: the run {starts[run] + base} {lengths[run]} lies outside the image of {size} pixels; "
            "check the image's size, and the options `order` and `base` of the run-length"
        )
    if (starts[1:] < starts[:-1]).any():
        order = np.argsort(starts, kind="stable")
        starts, lengths = starts[order], lengths[order]
    for part in _parts(len(starts) - 1):
        before, after = starts[part], starts[part.start + 1 : part.stop + 1]
        overlap = after < before + lengths[part]
        if overlap.any():
            i = int(np.argmax(overlap))
            raise UserError(f"{where}: the runs at {before[i] + base} and {after[i] + base} overlap")
    return starts, lengths


def _parts(count: int) -> Iterator[slice]:
    return (slice(i, min(i + RUN_PIXELS_AT_ONCE, count)) for i in range(0, count, RUN_PIXELS_AT_ONCE))


def united(runs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The union of several (starts, lengths): ascending and disjoint runs.

    >>> starts, lengths = united([(np.array([8, 20]), np.array([4, 1])), (np.array([0, 10]), np.array([3, 5]))])
    >>> starts.tolist(), lengths.tolist()
    ([0, 8, 20], [3, 7, 1])
    """
    if len(runs) == 1:
        return runs[0]
    starts, lengths = (np.concatenate(part) for part in zip(*runs, strict=True))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate((starts + lengths)[order])
    apart = np.flatnonzero(np.concatenate([[True], starts[1:] > ends[:-1]])) if len(starts) else starts
    starts, ends = starts[apart], ends[np.append(apart[1:], len(ends)) - 1] if len(starts) else ends
    return starts, ends - starts


TRANSPOSED_COLUMNS = 256  # columns of a column-major mask that are transposed at once


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
    if order == "column":  # a row-major mask of the transposed image, a strip at a time: it fits the processor's cache
        y, x, h, w = box
        window = np.empty((h, w), np.uint8)
        for left in range(0, w, TRANSPOSED_COLUMNS):
            right = min(left + TRANSPOSED_COLUMNS, w)
            strip = window_of_runs(starts, lengths, shape[::-1], "row", (x + left, y, right - left, h))
            cv2.transpose(strip, dst=window[:, left:right])
        return window
    (_, width), (y, x, h, w) = shape, box
    if w == width:
        starts, ends = _reaching(starts, lengths, y * width, (y + h) * width)
        return _whole_lines(starts, ends, y * width, (y + h) * width).reshape(h, w)
    line, left, right = _pieces(starts, lengths, width, box)
    if not len(line):
        return np.zeros((h, w), np.uint8)
    # +1 where a piece starts and -1 behind its end: the running sum along a line is the mask.
    change = np.zeros((h, w + 1), np.int8)
    change[line, left] += 1
    change[line, right] -= 1
    return np.cumsum(change[:, :-1], axis=1, dtype=np.int8).view(np.uint8)


def pixels_in_window(
    starts: np.ndarray,
    lengths: np.ndarray,
    shape: tuple[int, int],
    order: str,
    box: tuple[int, int, int, int],
) -> int:
    """The sum of `window_of_runs`, without a mask.

    >>> pixels_in_window(np.array([2]), np.array([5]), (3, 4), "row", (0, 1, 2, 3))
    4
    """
    if order == "column":
        y, x, h, w = box
        shape, box = shape[::-1], (x, y, w, h)
    _, left, right = _pieces(starts, lengths, shape[1], box)
    return int((right - left).sum())


def _reaching(starts: np.ndarray, lengths: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the runs that have a pixel from `first` to before `last`, and perhaps of one earlier run."""
    lo = max(0, np.searchsorted(starts, first, side="right") - 1)  # a run from before may reach in
    hi = np.searchsorted(starts, last, side="left")
    return starts[lo:hi], starts[lo:hi] + lengths[lo:hi]


def _pieces(
    starts: np.ndarray, lengths: np.ndarray, width: int, box: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of a row-major mask in a window, cut at the ends of lines: the window's line, first column, last + 1."""
    y, x, h, w = box
    starts, ends = _reaching(starts, lengths, y * width, (y + h) * width)
    first, last = starts // width, (ends - 1) // width
    count = last - first + 1
    run = np.repeat(np.arange(len(starts)), count)
    line = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count) + first[run]
    left = np.clip(starts[run] - line * width, x, x + w) - x
    right = np.clip(ends[run] - line * width, x, x + w) - x
    inside = (line >= y) & (line < y + h) & (left < right)
    return line[inside] - y, left[inside], right[inside]


def _whole_lines(starts: np.ndarray, ends: np.ndarray, first: int, last: int) -> np.ndarray:
    """The flat mask (last - first,) uint8 from pixel `first` on."""
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[-1] = first, last
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    lengths = np.diff(np.clip(edges, first, last))
    return np.repeat((np.arange(len(lengths)) % 2).astype(np.uint8), lengths)


RUN_PIXELS_AT_ONCE = 2**20  # pixels or runs processed at once
EDGE_BYTES_IN_MEMORY = 2**22  # a mask with more bytes of run edges keeps them in a temporary file


class BandEncoder:
    """Encodes a mask that arrives in bands of rows. Holds the ends of runs, never the mask.

    A run starts or ends where a pixel differs from the one before it in `order` (above it, or to its left). Both pixels
    lie in the band or in the last row of the band before. Therefore masks are never transposed: only the places of the
    ends are sorted by column, once all are known. Until then they are kept in a temporary file, where they are many.

    >>> encoder = BandEncoder(height=2, width=2)
    >>> encoder.push(0, np.array([[0, 1]]))
    >>> encoder.push(1, np.array([[1, 1]]))
    >>> encoder.finish()
    '2 3'
    """

    def __init__(self, height: int, width: int, order: str = "column", base: int = 1, relative: bool = False):
        self.height, self.width, self.order, self.base, self.relative = height, width, order, base, relative
        self._next = 0
        self._step = width if order == "column" else 1  # from a pixel of a band to the one that follows in `order`
        self._before = np.zeros(self._step, np.uint8)  # the pixels before the next band's first, one row or one pixel
        self._places = SpooledTemporaryFile(EDGE_BYTES_IN_MEMORY)  # noqa: SIM115 (lives as long as the encoder, and has no name)
        self._kind = np.uint32 if height * width + base < 2**32 else np.int64  # where runs start or end

    def push(self, y0: int, band: np.ndarray) -> None:
        """Add rows (h, width) from row `y0` on; values other than 0 are object. Bands come in order."""
        if y0 != self._next or band.shape[1] != self.width:
            raise ValueError(f"band of {band.shape} at row {y0}; expected row {self._next}, width {self.width}")
        rows = max(1, RUN_PIXELS_AT_ONCE // self.width)
        for top in range(0, len(band), rows):
            part = band[top : top + rows]
            part = part if part.itemsize == 1 else part != 0
            self._push(np.ascontiguousarray(part).view(np.uint8).ravel())

    def _push(self, pixels: np.ndarray) -> None:
        """Add a few whole rows, flattened. They are few, so the places found in them take little memory."""
        step = self._step
        edge, rest = _changes(pixels[:step], self._before), _changes(pixels[step:], pixels[:-step])
        places = np.concatenate([edge, rest + step])
        if self.order == "column":
            rows = places // self.width
            places = (places - rows * self.width) * self.height + rows + self._next
        else:
            places += self._next * self.width
        self._places.write(places.astype(self._kind).data)
        self._before = pixels[-step:].copy()
        self._next += len(pixels) // self.width

    def finish(self) -> str:
        """The text. Runs that touch, from one column to the next, are merged."""
        return b"".join(self.pieces()).decode()

    def pieces(self) -> Iterator[bytes]:
        """The text in pieces that take little memory."""
        if self._next != self.height:
            raise ValueError(f"{self._next} of {self.height} rows were pushed")
        # Runs that are still open end with the mask, or with their column.
        line = self.height if self.order == "column" else self.height * self.width
        open_ = (np.flatnonzero(self._before) + 1) * line
        self._places.write(open_.astype(self._kind).data)
        runs = np.empty(self._places.tell() // np.dtype(self._kind).itemsize, self._kind)
        self._places.seek(0)
        self._places.readinto(runs.data)
        self._places.close()
        runs.sort()  # starts and ends take turns
        apart = np.ones(len(runs), bool)
        apart[1:-1] = np.repeat(runs[1:-1:2] < runs[2::2], 2)
        runs = runs if apart.all() else runs[apart]
        yield from text_of_ends(runs, self.base, self.relative)


def text_of_ends(runs: np.ndarray, base: int = 1, relative: bool = False) -> Iterator[bytes]:
    """The text, in pieces, of runs as start, end, start, end, …, ascending from 0; `runs` is worked on in place.

    >>> b"".join(text_of_ends(np.array([1, 4, 6, 7]))), b"".join(text_of_ends(np.array([1, 4, 6, 7]), 0, relative=True))
    (b'2 3 7 1', b'1 3 2 1')
    """
    if relative:  # a start too is the distance from the place before
        runs[1:] -= runs[:-1].copy()
        runs[:1] += base
    else:
        runs[1::2] -= runs[::2]
        runs[::2] += base
    yield from text_of_numbers(runs)


def _changes(pixels: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Places, int64, where one of two (N,) uint8 is 0 and the other is not. Eight at a time: they are rare.

    >>> _changes(np.array([0, 1, 0, 0, 0, 0, 0, 2, 0, 9], np.uint8), np.zeros(10, np.uint8)).tolist()
    [1, 7, 9]
    """
    whole = len(pixels) // 8 * 8
    now, then = pixels[:whole].view(np.uint64), before[:whole].view(np.uint64)
    words = np.flatnonzero(now != then)
    inside = np.flatnonzero((now[words].view(np.uint8) != 0) != (then[words].view(np.uint8) != 0))
    tail = np.flatnonzero((pixels[whole:] != 0) != (before[whole:] != 0))
    return np.concatenate([words[inside // 8] * 8 + inside % 8, tail + whole])
