"""Objects of masks that are never held whole: found band by band, joined across the bands' borders.

A first pass over the bands gives every object's area and surest pixel, a second one draws those that are kept.
Between them stand a few numbers for each object; `MOST` of them at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.errors import UserError

MOST = 2**24  # pieces of objects in an image


@dataclass(frozen=True)
class Objects:
    """The connected parts of a mask; `area`, `peak` and `rim` (M,) are told of each.

    `number`: of each band, the object's number behind every piece that lies in the band, the first of them for piece 1.
    `peak`: the largest value in it. `rim`: it touches the image's border.
    """

    number: list[np.ndarray]
    area: np.ndarray
    peak: np.ndarray
    rim: np.ndarray

    def draw(self, masks: Iterable[np.ndarray], shades: np.ndarray, connectivity: int = 8) -> Iterator[np.ndarray]:
        """Each object of the same `masks` (h, W) in its shade (of (M,), true or false for instance), band by band."""
        for mask, number in zip(masks, self.number, strict=True):
            chosen = np.concatenate([np.zeros(1, shades.dtype), shades[number]])
            yield chosen[_pieces(mask, connectivity)[1]]


def find_objects(bands: Iterable[tuple[np.ndarray, np.ndarray]], connectivity: int = 8) -> Objects:
    """Objects of bands (mask, values uint8), each (h, W), from the top down.

    Raises UserError when there are more than `MOST` pieces.
    """
    counts, edges, columns, above, total = [], [], [], None, 0
    for mask, values in bands:
        n, at = _pieces(mask, connectivity)
        columns.append(_facts(n, at, values, first=above is None))
        here = np.where(at > 0, at + (total - 1), -1)
        if above is not None:
            edges.append(_touching(above, here[0], connectivity))
        above, last = here[-1], here[-1]
        counts.append(n - 1)
        total += n - 1
        if total > MOST:
            raise UserError(
                f"a map falls into more than {MOST} objects, too many to be looked at one by one; its members are too "
                "unsure for infer.postprocess objects, holes or largest: leave these out"
            )
    area, peak, rim = (np.concatenate(column) for column in zip(*columns, strict=True))
    rim[last[last >= 0]] = True
    a, b = np.concatenate([np.zeros((2, 0), np.int64), *edges], axis=1)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(total, total))
    count, number = connected_components(graph, directed=False) if total else (0, np.zeros(0, np.int64))
    highest = np.zeros(count, np.uint8)
    np.maximum.at(highest, number, peak)
    area, rim = (np.bincount(number, column, count).astype(np.int64) for column in (area, rim))
    return Objects(np.split(number, np.cumsum(counts)[:-1]), area, highest, rim > 0)


def _pieces(mask: np.ndarray, connectivity: int) -> tuple[int, np.ndarray]:
    """How many pieces the band has, the rest counted too, and the piece of each pixel; 0 is the rest."""
    if not mask.any():
        return 1, np.zeros(mask.shape, np.int32)
    return cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=connectivity)


def _facts(n: int, at: np.ndarray, values: np.ndarray, first: bool) -> list[np.ndarray]:
    """Area, peak and rim of a band's pieces, the rest left out."""
    area = np.bincount(at.ravel(), minlength=n)
    inside = at > 0
    peak = np.zeros(n, np.uint8)
    np.maximum.at(peak, at[inside], values[inside])
    rim = np.zeros(n, bool)
    for line in (at[:, 0], at[:, -1], *([at[0]] if first else [])):
        rim[line] = True
    return [column[1:] for column in (area, peak, rim)]


def _touching(above: np.ndarray, below: np.ndarray, connectivity: int) -> np.ndarray:
    """(2, E): pairs of pieces that touch across two rows (W,); -1 is no piece."""
    shifts = (-1, 0, 1) if connectivity == 8 else (0,)
    pairs = []
    for shift in shifts:
        a = above[max(0, -shift) : len(above) - max(0, shift)]
        b = below[max(0, shift) : len(below) - max(0, -shift)]
        both = (a >= 0) & (b >= 0)
        pairs.append(np.stack([a[both], b[both]]))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)


@dataclass(frozen=True)
class Rule:
    """Which pixels of one class are taken.

    Objects of pixels of bin `low` and more, where one pixel reaches `high` and the area is `area` pixels at least;
    `largest`: only the largest of these. Then holes of up to `hole` pixels are filled.
    """

    low: int
    high: int = 0
    area: int = 0
    hole: int = 0
    largest: bool = False

    @property
    def by_pixel(self) -> bool:
        """Every pixel is decided alone."""
        return not (self.high > self.low or self.area > 1 or self.hole or self.largest)

    def shrunken(self, step: int) -> Rule:
        """The same for every `step`th row and column."""
        return replace(self, area=self.area // step**2, hole=self.hole // step**2)

    def masks(self, bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Bins (h, W) from the top down, which can be gone through again and again → masks (h, W), bool."""
        above = _masks(bands, self.low)
        if self.high > self.low or self.area > 1 or self.largest:
            found = find_objects((band >= self.low, band) for band in bands)
            above = _masks(bands, self.low, found, self.kept(found))
        if not self.hole:
            return above()
        filled = _holes(above(), find_holes(above()), self.hole)
        return (mask | fill for mask, fill in zip(above(), filled, strict=True))

    def kept(self, objects: Objects) -> np.ndarray:
        """(M,) bool"""
        keep = (objects.peak >= self.high) & (objects.area >= self.area)
        if self.largest and keep.any():
            keep &= np.arange(len(keep)) == np.argmax(np.where(keep, objects.area, -1))
        return keep


def _masks(
    bands: Iterable[np.ndarray], low: int, objects: Objects | None = None, keep: np.ndarray | None = None
) -> Callable[[], Iterator[np.ndarray]]:
    """Masks that can be gone through again and again."""
    if objects is None:
        return lambda: (band >= low for band in bands)
    return lambda: objects.draw((band >= low for band in bands), keep)


def find_holes(masks: Iterable[np.ndarray]) -> Objects:
    """The connected parts of what masks leave out, corners not enough; a hole is one that touches no border."""
    return find_objects(((~mask, mask.view(np.uint8)) for mask in masks), 4)


def _holes(masks: Iterable[np.ndarray], holes: Objects, most: int) -> Iterator[np.ndarray]:
    return holes.draw((~mask for mask in masks), ~holes.rim & (holes.area <= most), 4)


def candidates(probs: np.ndarray, background: bool) -> np.ndarray:
    """Probabilities (K, h, w) → (3, h, w) uint8: the label that a pixel may get, the one that it gets otherwise, and
    how likely the former is against the latter, at 8 bits.

    With a `background`, label 0, that is what any other label stands against, however likely it is; without, the
    likeliest label stands against the next one.

    >>> candidates(np.array([0.6, 0.3, 0.1]).reshape(3, 1, 1), True).ravel().tolist()
    [1, 0, 85]
    >>> candidates(np.array([0.6, 0.3, 0.1]).reshape(3, 1, 1), False).ravel().tolist()
    [0, 1, 170]
    """
    rest = probs.copy()
    if background:
        rest[0] = -1
    first = rest.argmax(0)[None]
    np.put_along_axis(rest, first, -1, 0)
    other = np.zeros_like(first) if background else rest.argmax(0)[None]
    p, q = (np.take_along_axis(probs, label, 0) for label in (first, other))
    return np.concatenate([first, other, 255 * p / np.maximum(p + q, 1e-12) + 0.5]).astype(np.uint8)


@dataclass(frozen=True)
class OfLabel:
    """Of bands of `candidates` (3, h, W), the bins (h, W) of one label; 0 where another one is the candidate."""

    bands: Iterable[np.ndarray]
    label: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.where(band[0] == self.label, band[2], np.uint8(0)) for band in self.bands)


def draw_labels(bands: Iterable[np.ndarray], rules: tuple[Rule | None, ...]) -> Iterator[np.ndarray]:
    """Bands of `candidates` (3, h, W), which can be gone through again and again → label indices (h, W) uint8.

    `rules`: of each label's objects; None for background.
    """
    own = {label: rule.masks(OfLabel(bands, label)) for label, rule in enumerate(rules) if rule is not None}
    for band, *masks in zip(bands, *own.values(), strict=True):
        labels = band[1].copy()
        for label, mask in zip(own, masks, strict=True):
            labels[mask] = label
        yield labels
