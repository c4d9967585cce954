"""Post-processing of masks: hysteresis threshold, smallest area, filled holes, largest object only.

A hysteresis threshold keeps an object (a connected component of pixels above a low threshold) if one of its pixels
reaches a high threshold. Masks are never held whole. MaskObjects are found band by band and joined across the bands'
borders: a first pass measures every object, and a second pass draws those that are kept. Between the passes a few
numbers are held for each object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.errors import UserError

MAX_COMPONENTS = 2**24  # in all bands of an image together


@dataclass(frozen=True)
class MaskObjects:
    """The M connected components of a mask.

    `area` (M,): pixels. `peak` (M,): the largest value inside. `rim` (M,): whether it touches the image's border.
    `number`: for each band, the object that each component of the band belongs to; its first entry is for component 1.
    """

    number: list[np.ndarray]
    area: np.ndarray
    peak: np.ndarray
    rim: np.ndarray

    def draw(self, masks: Iterable[np.ndarray], shades: np.ndarray, connectivity: int = 8) -> Iterator[np.ndarray]:
        """The same `masks` (h, W), band by band, with each object drawn in its shade; `shades` (M,) may be bool."""
        for mask, number in zip(masks, self.number, strict=True):
            chosen = np.concatenate([np.zeros(1, shades.dtype), shades[number]])
            yield chosen[_components(mask, connectivity)[1]]


def find_objects(bands: Iterable[tuple[np.ndarray, np.ndarray]], connectivity: int = 8) -> MaskObjects:
    """The objects of bands (mask, values uint8), each (h, W), from the top down.

    Raises UserError where there are more than `MAX_COMPONENTS` components.
    """
    counts, edges, columns, above, total = [], [], [], None, 0
    for mask, values in bands:
        n, labels = _components(mask, connectivity)
        columns.append(_facts(n, labels, values, first=above is None))
        numbered = np.where(labels > 0, labels + (total - 1), -1)
        if above is not None:
            edges.append(_touching(above, numbered[0], connectivity))
        above, last = numbered[-1], numbered[-1]
        counts.append(n - 1)
        total += n - 1
        if total > MAX_COMPONENTS:
            raise UserError(
                f"a map has more than {MAX_COMPONENTS} objects, too many for post-processing; its members are too "
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
    return MaskObjects(np.split(number, np.cumsum(counts)[:-1]), area, highest, rim > 0)


def _components(mask: np.ndarray, connectivity: int) -> tuple[int, np.ndarray]:
    """How many components the band has, background included, and the component of each pixel; 0 is background."""
    if not mask.any():
        return 1, np.zeros(mask.shape, np.int32)
    return cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=connectivity)


def _facts(n: int, labels: np.ndarray, values: np.ndarray, first: bool) -> list[np.ndarray]:
    """Area, peak and rim of a band's components, without background."""
    area = np.bincount(labels.ravel(), minlength=n)
    inside = labels > 0
    peak = np.zeros(n, np.uint8)
    np.maximum.at(peak, labels[inside], values[inside])
    rim = np.zeros(n, bool)
    for line in (labels[:, 0], labels[:, -1], *([labels[0]] if first else [])):
        rim[line] = True
    return [column[1:] for column in (area, peak, rim)]


def _touching(above: np.ndarray, below: np.ndarray, connectivity: int) -> np.ndarray:
    """Pairs of components (2, E) that touch across two rows (W,); -1 is background."""
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
    """The post-processing of one class. Thresholds are in 1/255, areas in pixels.

    Pixels from `low` on form objects. An object is kept if one of its pixels reaches `high` (hysteresis threshold) and
    its area is at least `area`; with `largest`, only the largest of these is kept. Then holes of up to `hole` pixels
    are filled.

    >>> row = np.array([[0, 90, 200, 0, 90, 90]], np.uint8)  # a band of one row
    >>> [mask.astype(int).tolist() for mask in Rule(low=80, high=180).masks([row])]
    [[[0, 1, 1, 0, 0, 0]]]
    """

    low: int
    high: int = 0
    area: int = 0
    hole: int = 0
    largest: bool = False

    @property
    def by_pixel(self) -> bool:
        """Whether every pixel is decided on its own."""
        return not (self.high > self.low or self.area > 1 or self.hole or self.largest)

    def shrunken(self, step: int) -> Rule:
        """The same rule for maps of every `step`th row and column."""
        return replace(self, area=self.area // step**2, hole=self.hole // step**2)

    def masks(self, bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Bands (h, W) uint8 from the top down, which can be iterated again → masks (h, W) bool."""
        above = _masks(bands, self.low)
        if self.high > self.low or self.area > 1 or self.largest:
            found = find_objects((band >= self.low, band) for band in bands)
            above = _masks(bands, self.low, found, self.kept(found))
        if not self.hole:
            return above()
        filled = _holes(above(), find_holes(above()), self.hole)
        return (mask | fill for mask, fill in zip(above(), filled, strict=True))

    def kept(self, objects: MaskObjects) -> np.ndarray:
        """Which objects are kept, (M,) bool."""
        keep = (objects.peak >= self.high) & (objects.area >= self.area)
        if self.largest and keep.any():
            keep &= np.arange(len(keep)) == np.argmax(np.where(keep, objects.area, -1))
        return keep


def _masks(
    bands: Iterable[np.ndarray], low: int, objects: MaskObjects | None = None, keep: np.ndarray | None = None
) -> Callable[[], Iterator[np.ndarray]]:
    """A function that begins the masks anew at each call."""
    if objects is None:
        return lambda: (band >= low for band in bands)
    return lambda: objects.draw((band >= low for band in bands), keep)


def find_holes(masks: Iterable[np.ndarray]) -> MaskObjects:
    """The 4-connected components of the background; those that touch no border are holes."""
    return find_objects(((~mask, mask.view(np.uint8)) for mask in masks), 4)


def _holes(masks: Iterable[np.ndarray], holes: MaskObjects, most: int) -> Iterator[np.ndarray]:
    return holes.draw((~mask for mask in masks), ~holes.rim & (holes.area <= most), 4)


def label_candidates(probs: np.ndarray, background: bool) -> np.ndarray:
    """Probabilities (K, h, w) → (3, h, w) uint8: each pixel's candidate label, the label that it gets otherwise, and
    the candidate's probability against the other label, in 1/255.

    With `background`, the candidate is the likeliest label but 0, and the other label is 0. Without, the candidate is
    the likeliest label, and the other one is the second.

    >>> label_candidates(np.array([0.6, 0.3, 0.1]).reshape(3, 1, 1), True).ravel().tolist()
    [1, 0, 85]
    >>> label_candidates(np.array([0.6, 0.3, 0.1]).reshape(3, 1, 1), False).ravel().tolist()
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
    """One label's probabilities (h, W) in bands of `label_candidates` (3, h, W); 0 where it is not the candidate."""

    bands: Iterable[np.ndarray]
    label: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.where(band[0] == self.label, band[2], np.uint8(0)) for band in self.bands)


def draw_labels(bands: Iterable[np.ndarray], rules: tuple[Rule | None, ...]) -> Iterator[np.ndarray]:
    """Bands of `label_candidates` (3, h, W), which can be iterated again → label indices (h, W) uint8.

    `rules`: one per label; None for background.
    """
    rule_masks = {label: rule.masks(OfLabel(bands, label)) for label, rule in enumerate(rules) if rule is not None}
    for band, *masks in zip(bands, *rule_masks.values(), strict=True):
        labels = band[1].copy()
        for label, mask in zip(rule_masks, masks, strict=True):
            labels[mask] = label
        yield labels
