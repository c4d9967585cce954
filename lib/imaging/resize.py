"""Resizes label maps that arrive in bands of rows, without holding a whole map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lib.imaging.geometry import LabelBands

AREA_PIXELS_AT_ONCE = 2**20  # pixels whose areas are summed at once

Size = tuple[int, int]


def resized(
    bands: LabelBands, size: Size, out: Size, rule: str, labels: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Bands (y0, labels (h, width)) of an image of `size` (height, width) as bands of one of size `out`.

    Of planes (K, h, width), each is resized by itself. `rule`: `competition.submission.resize`. `labels`: all that
    occur. A band of the result comes as soon as the rows that it is made from are there.

    >>> bands = [(0, np.array([[1, 2, 2, 2]])), (1, np.array([[1, 1, 2, 2]]))]
    >>> [[(y, b.tolist()) for y, b in resized(bands, (2, 4), (1, 2), rule, [1, 2])] for rule in ("center", "majority")]
    [[(0, [[1, 2]])], [(0, [[1, 2]])]]
    """
    if rule == "majority":
        return _by_area(bands, size, out, np.array(labels, np.uint8))
    return _by_place(bands, *(_places(*pair, rule == "center") for pair in zip(size, out, strict=True)))


def _places(length: int, out: int, center: bool) -> np.ndarray:
    """Where each pixel of a line of `out` is taken from, in one of `length`.

    >>> _places(8, 2, False).tolist(), _places(8, 2, True).tolist()
    ([0, 4], [2, 6])
    """
    return (2 * np.arange(out) + center) * length // (2 * out)


def _by_place(bands: LabelBands, rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for y, band in bands:
        first, stop = np.searchsorted(rows, (y, y + band.shape[-2]))
        if first < stop:
            yield int(first), band[..., (rows[first:stop] - y)[:, None], columns]


def _by_area(bands: LabelBands, size: Size, out: Size, labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The label that covers most of a pixel's area; `areas` (labels, planes, rows, columns) are of rows not yet
    finished."""
    top, left = (np.arange(n + 1) * length / n for n, length in zip(out, size, strict=True))
    done, areas = 0, None
    for y, band in _small(bands):
        planes, end = band.reshape(-1, *band.shape[-2:]), y + band.shape[-2]
        areas = np.zeros((len(labels), len(planes), 0, out[1])) if areas is None else areas
        touched, finished = np.searchsorted(top, end, "left"), np.searchsorted(top, end, "right") - 1
        edges = np.clip(top[done : touched + 1], y, end) - y
        areas = np.pad(areas, ((0, 0), (0, 0), (0, len(edges) - 1 - areas.shape[2]), (0, 0)))
        for of_label, label in zip(areas, labels, strict=True):
            for area, plane in zip(of_label, planes, strict=True):
                if (mask := plane == label).any():
                    area += _between(_between(mask, edges).T, left).T
        if finished > done:
            most = labels[areas[:, :, : finished - done].round(6).argmax(0)]
            yield done, most if band.ndim == 3 else most[0]
            done, areas = int(finished), areas[:, :, finished - done :]


def _small(bands: LabelBands) -> Iterator[tuple[int, np.ndarray]]:
    for y, band in bands:
        rows = max(1, AREA_PIXELS_AT_ONCE // (band.size // band.shape[-2]))
        for start in range(0, band.shape[-2], rows):
            yield y + start, band[..., start : start + rows, :]


def _between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums (k, n) of the rows of values (m, n) between neighbours of the k + 1 edges, which may cut rows.

    >>> _between(np.array([[4.0], [8.0], [2.0]]), np.array([0, 1.5, 3])).tolist()
    [[8.0], [6.0]]
    """
    sums = np.zeros((len(values) + 1, values.shape[1]), np.int32 if values.dtype == bool else np.float64)
    np.cumsum(values, axis=0, out=sums[1:])
    place = np.minimum(edges.astype(int), len(values) - 1)
    return np.diff(sums[place] + values[place] * (edges - place)[:, None], axis=0)
